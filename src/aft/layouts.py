"""Deprecated: import from `aft.scoring`."""

import warnings

from .scoring.layouts import TOLERANCE, choose_layout  # noqa: F401

warnings.warn("aft.layouts is deprecated; import from aft.scoring", DeprecationWarning, stacklevel=2)
