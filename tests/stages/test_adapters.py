"""What a stage leaves of an adapter, and how the next stages load it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import AutoPeftModelForCausalLM

from adapter_runs import LORA, PEFT_WARNING, logits, plan_of, run_unit, write_groups
from aft.errors import ConfigError
from aft.run.manifest import UnitLog, read_manifest
from aft.stages.context import Inference, Stage
from aft.stages.plan import DONE, RERUN, Plan


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_every_form_of_an_adapter_is_the_same_model_to_the_next_stages(tmp_path):
    found, outputs = {}, {}
    for save in ("both", "merged", "adapter"):
        (folder := tmp_path / save).mkdir()
        plan = plan_of(folder, save)
        write_groups(plan)
        vft = run_unit(plan, "vft")
        after = run_unit(plan, "align", "after")
        stage = Stage(plan, cpu=True)
        found[save] = [logits(Inference(stage, str(unit)).model) for unit in (vft, after)]
        outputs[save] = set(read_manifest(vft / "manifest.json")["outputs"])
        assert Inference(stage, str(vft)).texts.ends == (1,)
        unit = plan.run.unit("evaluate", 0, "after")
        below = ["model_base", "model_base_base"] if save == "adapter" else []
        assert [name for name in plan.reads(unit) if name != "pool"] == ["model", *below]
    for save in ("merged", "adapter"):
        for one, other in zip(found[save], found["both"], strict=True):
            assert torch.equal(one, other)
    assert (found["both"][1] - found["both"][0]).abs().max() > 1e-2
    adapter, whole = {"adapter_config.json", "adapter_model.safetensors"}, "model.safetensors"
    assert whole in outputs["both"] and {f"adapter/{name}" for name in adapter} < outputs["both"]
    assert whole in outputs["merged"] and not [name for name in outputs["merged"] if "adapter" in name]
    assert whole not in outputs["adapter"] and {*adapter, "config.json", "tokenizer.json"} < outputs["adapter"]
    # peft finds base and adapter by itself
    vft = tmp_path / "adapter" / "run" / "seed-0" / "vft"
    torch.testing.assert_close(logits(AutoPeftModelForCausalLM.from_pretrained(vft)), found["adapter"][0])
    assert not (tmp_path / "merged" / "run" / "seed-0" / "vft" / "adapter").exists()


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_an_adapter_alone_is_outdated_with_its_base_and_waits_for_it(tmp_path):
    plan = plan_of(tmp_path, "adapter")
    run_unit(plan, "vft")
    [sampled] = plan.units("sample")
    UnitLog(sampled.folder, plan.inputs(sampled)).complete([])
    assert plan.status(sampled).state == DONE
    path = tmp_path / "base-model" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "top_k": 3}))
    status = Plan(plan.config).status(sampled)
    assert status.state == RERUN and status.reasons[0].startswith("reads.vft_base: was ")
    shutil.move(tmp_path / "base-model", tmp_path / "elsewhere")
    digest = Plan(plan.config).inputs(sampled)["reads"]["vft_base"]
    assert digest.startswith("hub:")  # a folder that is gone reads as a name on the hub


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_a_copy_of_an_adapter_is_a_base_model(tmp_path):
    plan = plan_of(tmp_path, "adapter")
    vft = run_unit(plan, "vft")
    before = logits(Stage(plan, cpu=True).model(str(vft)))
    shutil.copytree(vft, tmp_path / "copy")
    model = {"name_or_path": str(tmp_path / "copy"), "max_length": 64}
    copied = plan_of(tmp_path, "adapter", output_dir=str(tmp_path / "second"), model=model)
    assert torch.equal(logits(Stage(copied, cpu=True).model(str(tmp_path / "copy"))), before)
    [unit] = copied.units("vft")
    assert copied.reads(unit) == {"base": str(tmp_path / "copy"), "base_base": str(tmp_path / "base-model")}
    run_unit(copied, "vft")
    settings = tmp_path / "copy" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": None}))
    with pytest.raises(ConfigError, match=r"copy/adapter_config\.json names no base_model_name_or_path"):
        copied.reads(unit)
    # a name from a checkpoint is no name of the configuration: the hub is not asked for it
    settings.write_text(
        json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": "someone/elsewhere"})
    )
    with pytest.raises(ConfigError, match=r"names 'someone/elsewhere' as its base model, which is not on this machine"):
        copied.reads(unit)


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_a_cut_stage_that_leaves_an_adapter_ends_as_an_uncut_one(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 9}
    plan = plan_of(tmp_path, "adapter", vft={"training": saving})
    folder = run_unit(plan, "vft")
    name = "adapter_model.safetensors"
    weights = (folder / name).read_bytes()
    for path in folder.iterdir():
        if path.name != "checkpoint-2":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_unit(plan, "vft")
    assert (folder / name).read_bytes() == weights


@pytest.mark.filterwarnings(PEFT_WARNING)
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
@pytest.mark.parametrize("save", ["adapter", "merged"])
def test_modules_that_are_trained_whole_are_saved_with_the_adapter(tmp_path, save):
    lora = {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    plan = plan_of(tmp_path, save, lora=lora)
    folder = run_unit(plan, "vft")  # what was saved is compared with what was trained
    stage = Stage(plan, cpu=True)
    head, base = (stage.model(str(path)).lm_head.weight for path in (folder, plan.checkpoint("base", 0)))
    assert (head - base).abs().max() > 1e-3


def test_the_usual_form_is_no_new_input_of_a_run(tmp_path):
    """Runs of earlier versions, which left both, stay up to date."""
    keys = plan_of(tmp_path, "both").model_keys("vft")
    assert keys["lora"] == {**LORA, "lora_dropout": 0.0} and "quantization" not in keys
    assert plan_of(tmp_path, "merged").model_keys("vft")["lora"]["save"] == "merged"


def test_forms_that_cannot_work_are_refused_in_one_line(tmp_path):
    vllm = {"engine": "vllm"}
    for changes, match in (
        ({"sample": vllm}, r"sample\.engine: vllm, but model\.lora\.save: adapter leaves it no whole model"),
        ({"hub": {"repo": "me/x"}}, r"hub: the adapter of 'after' stands on the vft adapter"),
        ({"hub": {"repo": "no-account"}}, r"hub\.repo: expected account/name .* got 'no-account-bcl-seed0'"),
    ):
        with pytest.raises(ConfigError, match=match):
            plan_of(tmp_path, "adapter", **changes)
