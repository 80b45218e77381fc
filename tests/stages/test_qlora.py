"""QLoRA: adapters that train on weights of 4 bits. Needs bitsandbytes (extra `qlora`), which runs on CPUs."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

pytest.importorskip("bitsandbytes", reason="the extra `qlora` is not installed: pip install 'bitsandbytes>=0.50'")

from adapter_runs import PEFT_WARNING, logits, plan_of, run_unit, write_groups
from aft.errors import AftError
from aft.model import load_model, merge_lora
from aft.quantised import dequantised, load_quantised, quantise
from aft.run.manifest import read_manifest
from aft.scoring.forward import enable_scoring
from aft.scoring.precise import is_rough
from aft.stages.context import Inference, Stage
from aft.training.saved import check_saved

pytestmark = [
    pytest.mark.filterwarnings(PEFT_WARNING),
    pytest.mark.filterwarnings("ignore:.*_check_is_size:FutureWarning"),
]
CPU = torch.device("cpu")
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
NF4 = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "float32",
}


def plan_in_4_bits(folder, save="both", *, architecture="llama", model=None, **changes):
    base = {"name_or_path": str(folder / "base-model"), "max_length": 64, "lora": {**LORA, "save": save}}
    section = {"bnb_4bit_compute_dtype": "float32"}
    given = {**base, "quantization": section, **(model or {})}
    return plan_of(folder, save, architecture=architecture, model=given, **changes)


@pytest.mark.parametrize("architecture", ["llama", "opt", "gpt2"])  # without and with biases, and transposed
def test_a_model_is_quantised_in_memory_as_from_its_checkpoint(tmp_path, architecture):
    plan = plan_of(tmp_path, "both", architecture=architecture)
    path = plan.checkpoint("base", 0)
    plain = load_model(path)
    before = {name: weight.clone() for name, weight in plain.named_parameters()}
    loaded, made = load_quantised(path, NF4, CPU), quantise(plain, NF4, CPU)
    pairs = zip(loaded.named_parameters(), made.named_parameters(), strict=True)
    for (name, one), (other_name, other) in pairs:
        assert name == other_name and torch.equal(one, other) and not one.requires_grad and not other.requires_grad
    assert torch.equal(logits(loaded), logits(made))
    assert all(torch.equal(weight, before[name]) for name, weight in plain.named_parameters())
    kinds = {str(weight.dtype) for weight in loaded.parameters()}
    assert kinds == {"torch.uint8", "torch.float32"} and not is_rough(loaded)
    assert is_rough(load_quantised(path, {**NF4, "bnb_4bit_compute_dtype": "bfloat16"}, CPU))
    changed = (logits(plain) - logits(loaded)).abs().max()
    torch.testing.assert_close(logits(dequantised(plain, made)), logits(loaded), rtol=1e-5, atol=1e-4)
    assert changed > 1e-2


@pytest.mark.parametrize(
    ("architecture", "compute", "dtype"),
    [
        ("llama", "bfloat16", "bfloat16"),
        *(
            pytest.param(*others, marks=pytest.mark.slow)
            for others in (
                ("llama", "float32", "float32"),
                ("opt", "bfloat16", "float32"),
                ("gpt2", "float32", "float32"),
            )
        ),
    ],
)
def test_a_training_in_4_bits_shares_questions_and_saves_what_it_trained(tmp_path, architecture, compute, dtype):
    section = {"dtype": dtype, "quantization": {"bnb_4bit_compute_dtype": compute}}
    plan = plan_in_4_bits(tmp_path, architecture=architecture, model=section)
    write_groups(plan)
    for folder in (run_unit(plan, "vft"), run_unit(plan, "align", "bcl"), run_unit(plan, "align", "after")):
        manifest = read_manifest(folder / "manifest.json")
        trial = manifest["layout_trial"]
        assert manifest["layout"] == "shared" and trial["float32"] is not None and trial["float32"] < 1e-3
        assert (trial["own"] is None) == (compute == "float32")
        assert "quantization_config" not in json.loads((folder / "config.json").read_text())
        assert manifest["inputs"]["versions"]["bitsandbytes"] != "not installed"
        assert manifest["inputs"]["config"]["model"]["quantization"]["bnb_4bit_quant_type"] == "nf4"
        assert load_model(str(folder), dtype="auto").dtype == getattr(torch, dtype)
    assert read_manifest(plan.units("align")[0].folder / "manifest.json")["initial_scores"] is not None


def test_an_adapter_fits_the_weights_that_the_4_bits_say_and_no_others(tmp_path):
    plan = plan_in_4_bits(tmp_path, "adapter")
    folder = run_unit(plan, "vft")
    stage, base = Stage(plan, cpu=True), plan.checkpoint("base", 0)
    right = logits(stage.model(str(folder), inference=True))
    wrong = logits(merge_lora(load_model(base), folder))
    in_4_bits = plan_in_4_bits(tmp_path, "adapter", model={"quantization": {**NF4, "inference": True}})
    unmerged = logits(Inference(Stage(in_4_bits, cpu=True), str(folder)).model)
    torch.testing.assert_close(unmerged, right, rtol=1e-4, atol=1e-4)
    assert (wrong - right).abs().max() > 1e-2
    [unit] = in_4_bits.units("sample")
    assert in_4_bits.inputs(unit)["config"]["model"]["quantization"] == {
        key: value for key, value in NF4.items() if key.startswith("bnb_")
    }


def test_an_adapter_on_an_adapter_is_measured_in_4_bits(tmp_path):
    plan = plan_in_4_bits(tmp_path, "adapter", model={"quantization": {**NF4, "inference": True}})
    write_groups(plan)
    vft, after = run_unit(plan, "vft"), run_unit(plan, "align", "after")
    stage = Stage(plan, cpu=True)
    found = logits(Inference(stage, str(after)).model)
    torch.testing.assert_close(found, logits(stage.whole_model(str(after))), rtol=1e-4, atol=1e-4)
    for other in (plan.checkpoint("base", 0), str(vft)):
        assert (found - logits(stage.model(other, inference=True))).abs().max() > 1e-2


def test_a_merge_into_other_weights_than_those_of_the_training_is_noticed(tmp_path):
    plan = plan_in_4_bits(tmp_path)
    kept = []

    def keep(trained, load, device, folder):
        kept.append(trained)
        check_saved(trained, load, device, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aft.stages.train.check_saved", keep)
        folder = run_unit(plan, "vft")
    base = plan.checkpoint("base", 0)

    def merged():
        model = merge_lora(load_model(base), folder / "adapter")
        enable_scoring(model)
        return model

    with pytest.raises(AftError, match="what was saved is not what was trained"):
        check_saved(kept[0], merged, CPU, folder)


@pytest.mark.slow
@pytest.mark.parametrize("save", ["adapter", "both"])
def test_a_cut_training_in_4_bits_ends_as_an_uncut_one(tmp_path, save):
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 9, "gradient_checkpointing": True}
    plan = plan_in_4_bits(tmp_path, save, vft={"training": saving})
    folder = run_unit(plan, "vft")
    name = "adapter_model.safetensors" if save == "adapter" else "model.safetensors"
    weights = (folder / name).read_bytes()
    for path in folder.iterdir():
        if path.name != "checkpoint-2":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_unit(plan, "vft")
    assert (folder / name).read_bytes() == weights


def test_a_base_model_can_be_held_in_4_bits_while_it_is_measured(tmp_path):
    plan = plan_in_4_bits(tmp_path, "adapter", model={"quantization": {**NF4, "inference": True}})
    inference = Inference(Stage(plan, cpu=True), plan.checkpoint("base", 0))
    assert {weight.dtype for weight in inference.model.parameters()} == {torch.uint8, torch.float32}
