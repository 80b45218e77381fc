"""Shapes from the header of a weights file, and headers that are damaged."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from aft.run.weights import shapes


def test_shapes_of_a_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float16)}, path, {"format": "pt"})
    assert sorted(shapes(path)) == [("a", [2, 3], 4), ("b", [4], 2)]


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"3",
        b"not json",
        b"\xff",
        b"[" * 100_000,
        b'{"a": 5}',
        b'{"a": {"shape": [2]}}',
        b'{"a": {"dtype": "F32"}}',
        b'{"a": {"shape": null, "dtype": "F32"}}',
        b'{"a": {"shape": ["x"], "dtype": "F32"}}',
        b'{"a": {"shape": [-2], "dtype": "F32"}}',
        b'{"a": {"shape": [true], "dtype": "F32"}}',
        b'{"a": {"shape": [2], "dtype": ["F32"]}}',
    ],
    ids=lambda header: header[:24].decode("ascii", "replace"),
)
def test_a_damaged_header_is_a_value_error(header, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError):
        shapes(path)
    path.write_bytes(header[:5])  # not even a length
    with pytest.raises(ValueError):
        shapes(path)
