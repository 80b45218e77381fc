"""Deprecated: import from `aft.scoring`."""

import warnings

from .scoring.forward import enable_scoring  # noqa: F401

warnings.warn("aft.forward is deprecated; import from aft.scoring", DeprecationWarning, stacklevel=2)
