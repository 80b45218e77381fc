"""Tokenizer, data and lengths are compared with the model before anything runs."""

from __future__ import annotations

import json

import pytest
import torch

from aft.config import load_config
from aft.errors import ConfigError
from aft.launch.conductor import open_folder
from aft.launch.fit import check_fit
from aft.model import build_model, build_tokenizer, build_word_tokenizer
from aft.run.manifest import UnitLog
from aft.stages.plan import Plan
from tiny_models import CONFIGS

SIZES = {"max_position_embeddings": 64}


@pytest.fixture
def make(tiny, tmp_path):
    """Plans the tiny run from vft on, with a saved model of this architecture and a tokenizer with these words."""

    def plan(architecture, *overrides, config=None, leave_out=(), tokenizer=None):
        base = tmp_path / architecture
        first = load_config(tiny, [f"output_dir={tmp_path / 'run'}"])
        words = [word for word in Plan(first).task.vocabulary() if word not in leave_out]
        tokenizer = tokenizer or build_word_tokenizer(words)
        build_model(architecture, {**CONFIGS[architecture], **(config or {})}, tokenizer, seed=0).save_pretrained(base)
        tokenizer.save_pretrained(base)
        return Plan(
            load_config(
                tiny,
                [
                    f"output_dir={tmp_path / 'run'}",
                    f"model={{name_or_path: {base}, max_length: 64}}",
                    "stages=[vft,sample,label,align,evaluate]",
                    *overrides,
                ],
            )
        )

    return plan


def test_a_model_that_has_too_few_positions_is_refused_before_anything_runs(make):
    plan = make("gpt2", "sample.max_new_tokens=200", "model.max_length=80", config={"n_positions": 64})
    with pytest.raises(ConfigError) as caught:
        check_fit(plan, plan.stages())
    training, sampling = caught.value.problems
    assert training == (
        "model.max_length: a sequence of the training can have 80 tokens, but the model has 64 positions;"
        " make model.max_length smaller by 16"
    )
    assert sampling.startswith("sample.max_new_tokens: a prompt with its completion can have 2")
    with pytest.raises(ConfigError, match=r"^sample\.max_new_tokens: [^\n]*$"):
        check_fit(plan, ["sample"])
    fitting = make("gpt2", "sample.max_new_tokens=40", config={"n_positions": 64})
    assert check_fit(fitting, fitting.stages())["total"] > 0


def test_what_a_pushed_adapter_stands_on_is_asked_before_anything_runs(make):
    plan = make("llama", "hub.repo=me/mine", "align.init_from=base", "model.lora={save: adapter}")
    with pytest.raises(ConfigError, match=r"^hub: the pushed adapters would stand on"):
        check_fit(plan, plan.stages())


def test_a_rotary_model_is_only_warned_of(make, capsys):
    plan = make("llama", "evaluate.max_new_tokens=200", config={"max_position_embeddings": 64})
    check_fit(plan, plan.stages())
    [warning] = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warning.startswith("warning: a prompt with its completion can have 2")
    assert warning.endswith("the model was made for 64 positions; evaluate.max_new_tokens decides")


def test_vllm_refuses_what_a_rotary_model_is_only_warned_of(make):
    plan = make("llama", "evaluate.max_new_tokens=200", "evaluate.engine=vllm", config={"max_position_embeddings": 64})
    with pytest.raises(ConfigError, match=r"^evaluate\.max_new_tokens: a prompt with its completion can have 2"):
        check_fit(plan, plan.stages())


def test_a_model_that_the_run_will_make_is_compared_as_well(tiny, tmp_path):
    change = ["model.from_scratch.architecture=gpt2", "model.from_scratch.config={n_positions: 64, n_embd: 16}"]
    plan = Plan(load_config(tiny, [f"output_dir={tmp_path / 'run'}", *change, "evaluate.max_new_tokens=90"]))
    with pytest.raises(ConfigError, match=r"^evaluate\.max_new_tokens: "):
        check_fit(plan, plan.stages())


def test_the_folder_of_a_cut_training_is_no_checkpoint_yet(tiny, tmp_path, capsys):
    plan = Plan(load_config(tiny, [f"output_dir={tmp_path / 'run'}"]))
    base = plan.run.unit("pretrain")
    UnitLog(base.folder, plan.inputs(base))
    assert check_fit(plan, plan.stages()) is None  # nothing is loaded from it, so a run that was cut can go on


def test_unknown_tokens_are_counted_and_shown_and_many_are_a_warning(make, capsys):
    plan = make("llama")
    assert check_fit(plan, plan.stages())["unknown"] == 0
    assert " in questions and references, none unknown to the tokenizer" in capsys.readouterr().err
    lacking = make("llama", leave_out={"+"})
    counts = check_fit(lacking, lacking.stages())
    assert counts["unknown_words"] == ["+"] and 0.01 * counts["total"] < counts["unknown"] < counts["total"]
    told, warning = [line for line in capsys.readouterr().err.splitlines() if "unknown" in line or "warning" in line]
    assert told == (
        f"tokens: {counts['total']:,} in questions and references, {counts['unknown']:,} unknown to the tokenizer"
    )
    assert warning.startswith(f"warning: the tokenizer of {lacking.config.model.name_or_path} does not know ")
    assert warning.endswith("% of the tokens; among the words that it cannot read: +")


def test_a_tokenizer_of_bytes_knows_all(make, capsys):
    plan = make("llama", tokenizer=build_tokenizer(["some words"], 300))
    assert check_fit(plan, plan.stages())["unknown"] == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_on_tied_weights_is_refused_before_anything_runs(make):
    lora = "model.lora={r: 2, target_modules: [q_proj, lm_head]}"
    plan = make("qwen2", lora, config={"tie_word_embeddings": True})
    with pytest.raises(ConfigError, match=r"^model\.lora\.target_modules: lm_head shares its weights"):
        check_fit(plan, plan.stages())
    assert check_fit(plan, ["sample"]) is not None
    untied = make("qwen2", lora, config={"tie_word_embeddings": False})
    assert check_fit(untied, untied.stages()) is not None
    assert torch.get_default_device() == torch.device("cpu")


def test_nothing_is_read_for_what_is_done_and_the_counts_stay(make):
    plan = make("llama", "stages=[vft]")
    open_folder(plan)
    kept = json.loads(plan.run.data.read_text())
    plan.run.data.write_text(json.dumps({**kept, "tokens": {"total": 3}}))
    [unit] = plan.units("vft")
    log = UnitLog(unit.folder, plan.inputs(unit))
    (unit.folder / "config.json").write_text("{}")
    log.complete(["config.json"])
    assert check_fit(plan, ["vft", "label"]) is None
    open_folder(plan)
    assert json.loads(plan.run.data.read_text())["tokens"] == {"total": 3}
