"""A key-value cache whose rows change hands: a new row is written over a finished one, and nothing else moves.

Every row ends at the same column, the newest, and begins where its own prompt began; what lies before is masked. So a
step writes one column for all rows, a row that joins is written up to the newest column, and columns before the
longest row are left out of the computation at once and of memory when the block is next renewed.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

# Columns that are allocated ahead: growing by one column at a time copies the whole cache at every step.
SPARE_COLUMNS = 64


class SlotLayer(DynamicLayer):
    """One layer's keys and values (rows, heads, columns, size); columns `begin` to `end` are in use.

    A layer with a sliding window is kept whole as well: the window is then in transformers' mask.
    """

    def __init__(self, source: DynamicLayer, rows: int) -> None:
        super().__init__()
        self.dtype, self.device = source.keys.dtype, source.keys.device
        self.begin, self.end = 0, source.keys.shape[-2]
        # zeros: what is masked has weight 0, and 0 times a NaN left in the memory would be NaN
        self.keys, self.values = (
            states.new_zeros(rows, states.shape[1], self.end + SPARE_COLUMNS, states.shape[3])
            for states in (source.keys, source.values)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the newest columns; what all rows may look at (rows, heads, columns, size), without a copy."""
        begin, end = self.end, self.end + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self.renew(None)
            begin, end = self.end, self.end + key_states.shape[-2]
        self.keys[:, :, begin:end] = key_states
        self.values[:, :, begin:end] = value_states
        self.end = end
        return self.keys[:, :, self.begin : end], self.values[:, :, self.begin : end]

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.end - self.begin

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep these rows."""
        self.renew(beam_idx)

    def renew(self, rows: Tensor | None, columns: int = 0) -> None:
        """Move what is in use to a new block that has room, at least `columns` wide; `rows` None: all rows."""
        used = self.get_seq_length()
        width = max(used, columns)

        def moved(old: Tensor) -> Tensor:
            part = old[:, :, self.begin : self.end]
            part = part if rows is None else part.index_select(0, rows)
            new = old.new_zeros(len(part), old.shape[1], width + SPARE_COLUMNS, old.shape[3])
            new[:, :, width - used : width] = part
            return new

        self.keys = moved(self.keys)
        self.values = moved(self.values)
        self.begin, self.end = 0, width

    def put(self, slots: Tensor, source: DynamicLayer, rows: Tensor) -> None:
        """Write `rows` of `source` over `slots`, up to the newest column."""
        columns = source.keys.shape[-2]
        if columns > self.end:
            self.renew(None, columns)
        self.begin = min(self.begin, self.end - columns)
        self.keys[slots, :, self.end - columns : self.end] = source.keys.index_select(0, rows)
        self.values[slots, :, self.end - columns : self.end] = source.values.index_select(0, rows)


class SlotCache(Cache):
    """The layers of a cache of `rows` rows, as empty as wide as `source`."""

    def __init__(self, source: Cache, rows: int) -> None:
        super().__init__(layers=[SlotLayer(layer, rows) for layer in source.layers])

    def put(self, slots: Tensor, source: Cache, rows: Tensor) -> None:
        """Write `rows` of a cache of prompts over `slots`."""
        for layer, of_source in zip(self.layers, source.layers, strict=True):
            layer.put(slots, of_source, rows)

    def trim(self, columns: int) -> None:
        """Leave out what lies more than `columns` before the end: no row that is still needed is longer."""
        for layer in self.layers:
            layer.begin = max(layer.begin, layer.end - columns)


def why_rows_cannot_join(model: PreTrainedModel) -> str | None:
    """What in a model forbids that a row takes the place of another while the rest goes on; None: nothing."""
    config = model.config.get_text_config(decoder=True)
    # a window is a matter of the mask, as long as a row's columns are counted from its own end
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    others = sorted(
        {type(layer).__name__ for layer in DynamicCache(config=model.config).layers if type(layer) not in plain}
    )
    if others:
        return f"its cache holds more than keys and values ({', '.join(others)})"
    if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        return "it attends in chunks"
    rotations = str(getattr(config, "rope_parameters", None))
    for kind in ("dynamic", "longrope"):
        if f"'{kind}'" in rotations:
            return f"its rotary embedding ({kind}) depends on the longest row"
    return None
