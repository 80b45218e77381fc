"""Deprecated: import from `aft.scoring`."""

import warnings

from .scoring.forward import disable_scoring, enable_scoring  # noqa: F401

warnings.warn("aft.forward is deprecated; import from aft.scoring", DeprecationWarning, stacklevel=2)
