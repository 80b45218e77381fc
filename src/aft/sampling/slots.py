"""A key-value cache for continuous batching: a new completion's row is written over a finished one's.

Every row ends at the newest column. A row begins where its own prompt begins, and the columns before it are masked. So
a step writes one column for all rows, and a row that joins is written up to the newest column. Columns before the
longest row are no longer computed with. Their memory is freed when the block is next renewed.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

# Columns allocated ahead of need. To grow by one column at a time would copy the whole cache at every step.
SPARE_COLUMNS = 64


class SlotLayer(DynamicLayer):
    """One layer's keys and values (rows, heads, columns, size); columns `begin` to `end` are in use.

    A layer with a sliding window keeps all its columns too, because transformers' mask applies the window.
    """

    def __init__(self, source: DynamicLayer, rows: int) -> None:
        super().__init__()
        self.dtype, self.device = source.keys.dtype, source.keys.device
        self.begin, self.end = 0, source.keys.shape[-2]
        # Zeros, because masked columns have weight 0, and 0 times a NaN left in the memory would be NaN.
        self.keys, self.values = (
            states.new_zeros(rows, states.shape[1], self.end + SPARE_COLUMNS, states.shape[3])
            for states in (source.keys, source.values)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the newest columns and return all columns in use (rows, heads, columns, size), without a copy."""
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
        """Copy `rows` (None: all) into a new block that is at least `columns` wide and has spare columns."""
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
    """An empty cache with `rows` rows and the layers and columns of `source`."""

    def __init__(self, source: Cache, rows: int) -> None:
        super().__init__(layers=[SlotLayer(layer, rows) for layer in source.layers])

    def put(self, slots: Tensor, source: Cache, rows: Tensor) -> None:
        """Write `rows` of `source`, a cache of prompts, over the rows `slots`."""
        for layer, of_source in zip(self.layers, source.layers, strict=True):
            layer.put(slots, of_source, rows)

    def trim(self, columns: int) -> None:
        """Stop using all but the last `columns` columns. No row that is still needed may be longer."""
        for layer in self.layers:
            layer.begin = max(layer.begin, layer.end - columns)


def why_rows_cannot_join(model: PreTrainedModel) -> str | None:
    """Why this model cannot use continuous batching, or None if it can."""
    config = model.config.get_text_config(decoder=True)
    # A sliding window needs no layer of its own: the mask counts a row's columns from the row's end.
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
