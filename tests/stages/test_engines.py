"""The stages with other engines: what is asked of them, when they end, and what a unit's inputs say of them."""

from __future__ import annotations

import json
import os

import pytest
from test_evaluate import CONFIG, Parity

from aft.config import load_config
from aft.errors import AftError, ConfigError
from aft.json_files import write_json_lines
from aft.launch.preflight import find_lacking
from aft.records import Candidate, Group, read_completions
from aft.run.engines import PYTHON
from aft.run.manifest import UnitLog
from aft.stages.context import Inference, Stage
from aft.stages.evaluate import run_evaluate
from aft.stages.plan import DONE, Plan
from aft.stages.sample import run_sample
from fake_vllm import FakeVllm
from tiny_models import tiny_model, word_tokenizer

RUNNERS = {"sample": run_sample, "evaluate": run_evaluate}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return FakeVllm(tmp_path / "fake", monkeypatch)


@pytest.fixture
def make(tmp_path):
    """`make("key=value", ...)` plans a run from a tiny model; the questions have one or two tokens more or less."""
    tiny_model(initializer_range=0.1).save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    text = CONFIG.replace("pool_questions: 2", "pool_questions: 2, model: base, max_new_tokens: 6, num_samples: 3")
    (tmp_path / "run.yaml").write_text(text.format(folder=tmp_path), encoding="utf-8")
    return lambda *overrides: Plan(
        load_config(tmp_path / "run.yaml", ["sample.pool_questions=0", *overrides]), Parity()
    )


def run(plan, stage):
    unit = plan.units(stage)[0]
    RUNNERS[stage](Stage(plan, cpu=True), unit, UnitLog(unit.folder, plan.inputs(unit) or {}))
    assert plan.status(unit).state == DONE
    return unit.folder


def test_sampling_asks_vllm_for_every_completion(make, fake, tmp_path):
    folder = run(make("sample.engine=vllm", "sample.batch_size=4", "sample.temperature=0.5"), "sample")
    completions = read_completions(folder / "completions.jsonl")
    assert len(completions) == len(fake.asked) > 0 and len(completions) % 3 == 0
    (start,) = fake.starts
    longest = max(len(record["prompt"]) for record in fake.asked)
    assert start["model"] == str(tmp_path / "model")
    assert start["arguments"] == {
        "revision": None,
        "trust_remote_code": False,
        "skip_tokenizer_init": True,
        "dtype": "float32",
        "max_model_len": longest + 6,
        "max_num_seqs": 4,
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.9,
        "enforce_eager": False,
        "disable_log_stats": True,
        "seed": 0,
        "max_num_batched_tokens": 4096,
    }
    assert start["environment"]["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert {record["temperature"] for record in fake.asked} == {0.5}
    assert all(completion.token_ids for completion in completions)


def test_the_sections_keys_reach_vllm_and_own_arguments_win(make, fake):
    vllm = (
        "{dtype: bfloat16, enforce_eager: true, max_model_len: 99, gpu_memory_utilization: 0.5,"
        " arguments: {block_size: 32, max_num_batched_tokens: 777}}"
    )
    run(make("sample.engine=vllm", f"sample.vllm={vllm}"), "sample")
    arguments = fake.starts[0]["arguments"]
    for key, value in {"dtype": "bfloat16", "enforce_eager": True, "max_model_len": 99, "block_size": 32}.items():
        assert arguments[key] == value
    assert arguments["gpu_memory_utilization"] == 0.5 and arguments["max_num_batched_tokens"] == 777


def test_evaluation_samples_everything_then_ends_vllm_then_loads_the_model(make, fake, monkeypatch):
    plan, alive = make("evaluate.engine=vllm"), []
    load = Stage.model

    def loading(stage, *arguments, **settings):
        for start in fake.starts:
            try:
                os.kill(start["pid"], 0)
                alive.append(True)
            except ProcessLookupError:
                alive.append(False)
        return load(stage, *arguments, **settings)

    monkeypatch.setattr(Stage, "model", loading)
    folder = run(plan, "evaluate")
    assert alive == [False], "one process for all that is sampled, ended before the one model is loaded"
    names = ["completions.jsonl", "paths.jsonl", *sorted(path.name for path in folder.glob("own-*.jsonl"))]
    sampled = [completion for name in names for completion in read_completions(folder / name)]
    assert len(sampled) == len(fake.asked) and len(names) > 2
    assert [record["seed"] for record in fake.asked[:6]] == [None] * 6, "task accuracy is greedy"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["assessment"]["samples"] > 0 and metrics["perplexity_reference"]["n"] == 4


def test_a_model_that_fits_nowhere_is_evaluated_if_nothing_is_scored(make, fake, tmp_path):
    plan = make("evaluate.engine=vllm", "evaluate.assessment=null")
    write_json_lines(plan.groups(0), [Group("t0", "a b", "even", None, (Candidate("a b", 1.0, "positive"),))])
    (tmp_path / "model" / "model.safetensors").unlink()
    metrics = json.loads((run(plan, "evaluate") / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["task_accuracy"]["n"] > 0 and len(fake.asked) > 0


def test_scores_are_those_of_the_model_whatever_sampled(make, fake, tmp_path):
    both = {}
    for engine in ("transformers", "vllm"):
        plan = make(f"evaluate.engine={engine}", f"output_dir={tmp_path / engine}")
        both[engine] = json.loads((run(plan, "evaluate") / "metrics.json").read_text(encoding="utf-8"))
    assert both["transformers"]["perplexity_reference"] == both["vllm"]["perplexity_reference"]


# ---- inputs ----


def inputs(plan, stage="sample"):
    return plan.inputs(plan.units(stage)[0])


def test_the_transformers_engine_adds_nothing_to_the_inputs(make):
    found = inputs(make())
    assert not {"engine", "vllm", "openai"} & set(found["config"]["sample"])
    assert set(found["versions"]) == {"torch", "transformers", "peft", "tokenizers"}
    assert not {"engine", "vllm", "openai"} & set(inputs(make(), "evaluate")["config"]["evaluate"])
    assert inputs(make("sample.vllm.enforce_eager=true", "sample.openai.concurrency=3")) == found


def test_engine_and_version_are_inputs(make, fake, tmp_path, monkeypatch):
    found = inputs(make("sample.engine=vllm"))
    assert found["config"]["sample"]["engine"] == "vllm" and found["versions"]["vllm"] == "9.9.9"
    assert inputs(make("sample.engine=vllm"), "evaluate") == inputs(make(), "evaluate")
    where = ["sample.vllm.replicas=2", "sample.vllm.gpu_memory_utilization=0.5", "sample.vllm.max_model_len=99"]
    assert inputs(make("sample.engine=vllm", *where)) == found
    for change in ("sample.vllm.enforce_eager=true", "sample.vllm.dtype=bfloat16", "sample.vllm.arguments={a: 1}"):
        assert inputs(make("sample.engine=vllm", change)) != found
    FakeVllm(tmp_path / "newer", monkeypatch, "10.0.0")
    assert inputs(make("sample.engine=vllm"))["versions"]["vllm"] == "10.0.0"
    FakeVllm(tmp_path / "none", monkeypatch, None)
    assert inputs(make("sample.engine=vllm"))["versions"]["vllm"] == "not installed"


def test_where_a_server_is_does_not_count_and_its_model_does(make):
    found = inputs(make("sample.engine=openai"))
    where = ["sample.openai.base_url=http://h/v1", "sample.openai.concurrency=3", "sample.batch_size=5"]
    assert inputs(make("sample.engine=openai", *where)) == found
    assert inputs(make("sample.engine=openai", "sample.openai.model=m")) != found


# ---- what is refused before work starts ----


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["sample.engine=vlm"], "sample.engine: got 'vlm' (str), allowed: transformers, vllm, openai. Did you mean"),
        (["sample.engine=vllm", "sample.batching=static"], "sample.batching: static, but sample.engine vllm replaces"),
        (
            ["sample.engine=vllm", "sample.vllm.arguments={max_num_seqs: 3}"],
            "sample.vllm.arguments.max_num_seqs: not to be set here; set batch_size beside engine",
        ),
        (
            ["sample.engine=vllm", "sample.temperature=0.001"],
            "sample.temperature: must be 0 or at least 0.01 with sample.engine vllm, got 0.001",
        ),
        (
            ["evaluate.engine=vllm", "evaluate.self_consistency.temperature=0.001"],
            "evaluate.self_consistency.temperature: must be 0 or at least 0.01 with evaluate.engine vllm",
        ),
        (
            ["evaluate.engine=vllm", "launch.workers=3"],
            "launch.workers: must be 1 with evaluate.engine vllm, got 3; vLLM takes all GPUs",
        ),
        (
            ["evaluate.engine=vllm", "model.gguf_file=m.gguf"],
            "evaluate.engine: vllm, but the base model is a GGUF file, which only transformers reads here",
        ),
        (["sample.vllm.tensor_parallel=2"], "sample.vllm.tensor_parallel: unknown key. Did you mean"),
        (
            ["evaluate.engine=openai", "evaluate.openai.model=m", "evaluate.models=[base,vft]"],
            "evaluate.openai.model: one name for 2 models (base, vft); write {name} into it",
        ),
        (
            ["evaluate.engine=openai", "evaluate.openai.model=m", "evaluate.models=[vft]", "seeds=[0,1]"],
            "evaluate.openai.model: one name for 2 seeds; write {seed} into it",
        ),
        (
            ["evaluate.engine=openai", "evaluate.openai.model=m-{method}"],
            "evaluate.openai.model: '{method}' has no meaning, allowed: {name}, {seed}",
        ),
    ],
)
def test_settings_that_cannot_be(make, overrides, told):
    with pytest.raises(ConfigError) as found:
        make(*overrides)
    assert told in str(found.value)


def test_one_name_is_enough_for_the_base_model(make):
    make("evaluate.engine=openai", "evaluate.openai.model=m", "seeds=[0,1]")


def test_a_machine_without_vllm(make, fake, tmp_path, monkeypatch):
    assert find_lacking(make("evaluate.engine=vllm").config) == []
    monkeypatch.setenv(PYTHON, str(tmp_path / "nowhere"))
    (told,) = find_lacking(make("evaluate.engine=vllm").config)
    assert told.startswith(f"evaluate.engine: vllm: {PYTHON}: {tmp_path}/nowhere could not be started")
    # only stages that run count
    assert find_lacking(make("sample.engine=vllm").config) == []


def test_a_machine_with_too_few_gpus(make, fake, monkeypatch):
    monkeypatch.setattr("aft.device.use_cpu", lambda _: False)
    monkeypatch.setattr("aft.device.visible_gpus", lambda: ["0", "1"])
    config = make("evaluate.engine=vllm", "evaluate.vllm.tensor_parallel_size=4").config
    assert find_lacking(config) == ["evaluate.vllm.tensor_parallel_size: 4, more than the 2 GPUs here"]


def test_more_tokens_than_positions(make, fake):
    with pytest.raises(ConfigError) as found:
        run(make("sample.engine=vllm", "sample.max_new_tokens=200"), "sample")
    assert "sample.max_new_tokens: 200 behind the" in str(found.value)
    assert "are more than the model's 128 positions, which vLLM refuses; make it 12" in str(found.value)
    assert not fake.starts


def test_a_model_of_the_run_at_a_server_has_its_own_name(make, monkeypatch):
    asked = []

    def opened(serving, *_):
        asked.append((serving.key, serving.model, serving.concurrency))
        raise AftError("seen")

    monkeypatch.setattr("aft.stages.engines.OpenaiEngine", opened)
    for model in ("null", "'{name}-s{seed}'"):
        plan = make("evaluate.engine=openai", f"evaluate.openai.model={model}", "evaluate.openai.concurrency=9")
        unit = plan.units("evaluate")[0]
        subject = Inference(Stage(plan, cpu=True), plan.checkpoint("base", 0))
        with pytest.raises(AftError, match="seen"), subject.engine(unit, plan.config.evaluate, []):
            pass
    checkpoint = plan.checkpoint("base", 0)
    assert asked == [("evaluate", checkpoint, 9), ("evaluate", "base-s0", 9)]
