"""Deprecated: import from `aft.scoring`."""

import warnings

from .scoring.packing import LAYOUTS, PACKED, PADDED, SHARED, Entry, Item, pack  # noqa: F401

warnings.warn("aft.packing is deprecated; import from aft.scoring", DeprecationWarning, stacklevel=2)
