"""Which precision a machine computes in, by its processor's flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from aft.device import precision

FLOAT32 = ["training.bf16=false", "model.inference_dtype=float32"]


@pytest.mark.parametrize(
    ("flags", "overrides", "said"),
    [
        ("fpu avx512f amx_bf16 amx_tile", [], "computes in bfloat16: the processor has amx_bf16"),
        ("avx512_bf16 amx_bf16", [], "computes in bfloat16: the processor has amx_bf16 and avx512_bf16"),
        ("fpu avx512f avx512_vnni", FLOAT32, "computes in float32: the processor has none of amx_bf16, avx512_bf16"),
        ("not_amx_bf16x", FLOAT32, "computes in float32: the processor has none of amx_bf16, avx512_bf16"),
    ],
)
def test_a_processor_takes_bfloat16_where_it_has_instructions_for_it(tmp_path: Path, flags, overrides, said):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert precision("cpu", file) == (overrides, said)


def test_a_system_without_a_list_of_flags_takes_float32(tmp_path: Path):
    assert precision("cpu", tmp_path / "absent")[0] == FLOAT32
