"""What only a GPU can show: the variable-length kernels give what the padded path gives. `pytest -m gpu`."""

from __future__ import annotations

import pytest
import torch

from aft.scoring.attention import varlen_attn
from aft.scoring.forward import enable_scoring
from aft.scoring.layouts import choose_layout
from aft.scoring.packing import PADDED, SHARED, pack
from aft.scoring.responses import score_responses, to_device
from tiny_models import as_entries, random_items, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# sixteen bits in both paths: their kernels round differently
TOLERANCE = 0.03
SIZES = {"head_dim": 64, "hidden_size": 128, "num_attention_heads": 2, "initializer_range": 0.1}


def items():
    return random_items(2, [[None, 1.0, 0.0], [None], [1.0, 0.0, 0.0, 1.0]])


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral"])
@pytest.mark.parametrize("implementation", [None, "varlen", "sdpa", "eager", "flash_attention_2"])
def test_packed_rows_equal_the_padded_path(architecture, implementation):
    if implementation == "varlen" and varlen_attn is None:
        pytest.skip("this torch has no variable-length attention")
    if implementation == "flash_attention_2":
        pytest.importorskip("flash_attn")
    device = torch.device("cuda")
    model = tiny_model(architecture, **SIZES).to(device, torch.bfloat16)
    enable_scoring(model, attn_implementation=implementation)
    scores, gradients = {}, {}
    for layout in (PADDED, SHARED):
        model.zero_grad()
        seq_logps, lengths = score_responses(model, to_device(pack(items(), 0, layout), device))
        (seq_logps / lengths).sum().backward()
        scores[layout] = (seq_logps / lengths).detach()
        gradients[layout] = torch.cat([parameter.grad.float().flatten() for parameter in model.parameters()])
    assert (scores[SHARED] - scores[PADDED]).abs().max() < TOLERANCE
    distance = (gradients[SHARED] - gradients[PADDED]).norm() / gradients[PADDED].norm()
    assert distance < 0.05


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_float32_falls_back_to_one_segment_after_the_other(architecture):
    device = torch.device("cuda")
    model = tiny_model(architecture).to(device)
    enable_scoring(model)
    found = choose_layout(model, as_entries(items()), 0, prepare=lambda batch: to_device(batch, device))
    assert found == (SHARED, None)


def test_autocast_over_float32_weights():
    device = torch.device("cuda")
    model = tiny_model("qwen3", **SIZES).to(device)
    enable_scoring(model)
    with torch.autocast("cuda", dtype=torch.bfloat16), torch.no_grad():
        scores = [score_responses(model, to_device(pack(items(), 0, layout), device))[0] for layout in (PADDED, SHARED)]
    torch.testing.assert_close(scores[0], scores[1], rtol=0.02, atol=0.1)
