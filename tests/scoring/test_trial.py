"""The trial before trust: it judges the layout and not the precision, and refuses every planted mistake."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from aft.errors import ConfigError
from aft.scoring import forward, layouts
from aft.scoring.layouts import FLOOR, NOISE_FACTOR, choose_layout, try_layouts
from aft.scoring.packing import PADDED, SHARED
from aft.scoring.precise import in_float32, why_not_in_float32
from limits import HUNG_AFTER
from planted import ENTRIES, FAMILIES, MISTAKES, PRECISIONS, make_model, planted
from tiny_models import tiny_model

CASES = [(family, mistake) for mistake, families in MISTAKES.items() for family in families]
LOW = PRECISIONS[1:]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_right_layout_is_taken_in_every_precision(family, precision):
    made = make_model(family, precision)
    trial = try_layouts(made.model, ENTRIES, 0, rough=made.rough)
    assert trial.layout == SHARED and trial.reasons == {} and trial.float32 < 1e-5
    assert choose_layout(made.model, ENTRIES, 0, rough=made.rough) == (SHARED, None)
    if made.rough:
        # what sixteen bits cost a sequence alone, they cost a packed one
        assert trial.noise > 1e-4 and trial.own <= NOISE_FACTOR * trial.noise + FLOOR


@pytest.mark.parametrize(("family", "mistake"), CASES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_mistake_is_refused_in_every_precision(family, mistake, precision):
    with planted(mistake) as prepare:
        made = make_model(family, precision)
        layout, line = choose_layout(made.model, ENTRIES, 0, rough=made.rough, prepare=prepare)
    assert layout != SHARED
    if "does not tell its attention the size" not in line:
        assert "nats in float32" in line
        assert not made.rough or "in its own precision, which explains 0.0" in line, "both figures are said"


# positions are made before any precision is chosen
@pytest.mark.parametrize(("family", "mistake"), [case for case in CASES if case[1] != "positions off by one"])
@pytest.mark.parametrize("precision", LOW)
def test_a_mistake_of_sixteen_bit_kernels_alone_is_refused(family, mistake, precision):
    with planted(mistake, low_precision_only=True) as prepare:
        made = make_model(family, precision)
        layout, line = choose_layout(made.model, ENTRIES, 0, rough=True, prepare=prepare)
    assert layout != SHARED
    assert "size of a sliding window" in line or "in the model's precision, which explains 0.0" in line


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("mistake", [None, "lost question", "sees its neighbour"])
def test_where_float32_cannot_be_had_the_noise_of_padding_is_the_bound(monkeypatch, precision, mistake):
    def fails():
        raise torch.OutOfMemoryError("no room for float32")

    monkeypatch.setattr(forward, "in_float32", fails)
    with planted(mistake) as prepare:
        made = make_model("llama", precision)
        trial = try_layouts(made.model, ENTRIES, 0, rough=True, prepare=prepare)
    assert trial.float32 is None and (trial.layout == SHARED) == (mistake is None)
    if mistake is not None:
        assert "in the model's precision, which explains" in trial.reasons[SHARED]
        assert "float32" not in trial.reasons[SHARED]


@pytest.mark.parametrize("wanted", ["auto", PADDED])
def test_padded_batches_are_tried_too(wanted):
    def shifted(batch):
        """Padded rows of several sequences get wrong positions, a row alone does not."""
        if batch.get("segments") is not None:
            return {**batch, "position_ids": batch["position_ids"] * 2}
        rows = len(batch["input_ids"])
        return batch if rows == 1 else {**batch, "position_ids": batch["position_ids"] * 2}

    made = make_model("llama", "float32")
    with pytest.raises(ConfigError, match=r"a token's log-prob would be wrong by .* nats in float32"):
        choose_layout(made.model, ENTRIES, 0, wanted=wanted, prepare=shifted)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_float32_a_sixteen_bit_model_is_its_float32_copy_bit_for_bit(family):
    rounded = tiny_model(family).to(torch.bfloat16)
    expected = tiny_model(family).to(torch.bfloat16).float()
    ids = torch.tensor([[3, 4, 5, 6, 7, 8, 9]])
    with torch.no_grad():
        with in_float32(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
            found = rounded(input_ids=ids).logits
        assert torch.equal(found, expected(input_ids=ids).logits)
        assert rounded(input_ids=ids).logits.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.bfloat16}


def test_tf32_is_off_inside_and_as_before_outside():
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    try:
        matmul.allow_tf32 = True
        with in_float32():
            assert matmul.allow_tf32 is False
        assert matmul.allow_tf32 is True
    finally:
        matmul.allow_tf32 = before


def test_not_a_number_is_refused():
    assert layouts._why_refused(layouts.Trial(SHARED, float32=float("nan"))) is not None
    assert layouts._why_refused(layouts.Trial(SHARED, float32=0.0, own=float("nan"), noise=0.01)) is not None


def test_a_model_that_gives_nan_alone_too_is_not_refused_for_its_layout():
    made = make_model("llama", "float32")
    with torch.no_grad():
        made.model.model.embed_tokens.weight[5] = float("nan")
    assert choose_layout(made.model, ENTRIES, 0) == (SHARED, None)


def test_the_new_switch_of_tf32_is_respected_too():
    code = (
        "import torch\nfrom aft.scoring.precise import in_float32, uses_tf32\nmatmul = torch.backends.cuda.matmul\n"
        "matmul.fp32_precision = 'tf32'\nassert uses_tf32()\n"
        "with in_float32():\n    assert matmul.fp32_precision == 'ieee' and not uses_tf32()\n"
        "assert matmul.fp32_precision == 'tf32'\n"
    )
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has one switch")
    # a process of its own: torch does not let the old switch be read afterwards
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HUNG_AFTER)
    assert ran.returncode == 0, ran.stderr


def test_a_write_into_a_sixteen_bit_tensor_is_an_error_and_not_lost():
    tensor = torch.zeros(3, dtype=torch.bfloat16)
    for write in (lambda: tensor.add_(1), lambda: tensor.__setitem__(0, 5.0), lambda: torch.add(1, 1, out=tensor)):
        with in_float32(), pytest.raises(RuntimeError, match="writes into a sixteen-bit tensor"):
            write()
    assert tensor.sum() == 0


def test_a_collapsed_model_is_judged_by_what_float32_can_hold():
    collapsed = torch.tensor([-2838.0, -0.5])
    assert layouts._differences(collapsed + torch.tensor([0.0015, 0.0]), collapsed).abs().max() < 1e-4
    assert layouts._differences(torch.tensor([-2838.0, -0.502]), collapsed).abs().max() > 1e-3


def test_sharded_weights_have_no_float32_and_say_so():
    model = torch.nn.Linear(2, 2)
    assert why_not_in_float32(model) is None
    model.weight.ds_id = 0  # as ZeRO-3 marks its parameters
    assert why_not_in_float32(model) == "its weights are divided among processes"
