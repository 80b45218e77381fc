"""What is refused before anything runs, because it would fail in the middle or at the end of a stage."""

from __future__ import annotations

import gc
import importlib.util
import os
import types
import weakref

import pytest
import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import AutoConfig

from aft.config import load_config
from aft.device import forget
from aft.errors import ConfigError, DiskError
from aft.launch.preflight import check_run, find_lacking
from aft.losses import alignment_loss
from aft.run.engines import PYTHON
from aft.scoring.forward import enable_scoring
from aft.training.sharding import keep_output_precision
from families import save_family
from tiny_models import tiny_model

FSDP = "distributed_type: FSDP\nnum_processes: 8\nfsdp_config: {fsdp_version: 2%s}\n"
WHOLE = FSDP % ", fsdp_state_dict_type: FULL_STATE_DICT"


@pytest.fixture
def problems(tiny, tmp_path):
    """The problems of the tiny configuration with these changes."""
    return lambda *overrides: check_run(load_config(tiny, [f"output_dir={tmp_path / 'run'}", *overrides]))


@pytest.fixture
def launch_file(tmp_path):
    def write(text):
        path = tmp_path / "launch.yaml"
        path.write_text(text)
        return f"launch={{config: {path}}}"

    return write


def test_weights_that_no_later_stage_could_read(problems, launch_file):
    [problem] = problems(launch_file(FSDP % ""))
    assert "fsdp_config.fsdp_state_dict_type must be FULL_STATE_DICT" in problem and "SHARDED_STATE_DICT" in problem
    assert problems(launch_file(WHOLE)) == []


@pytest.mark.parametrize(("text", "name"), [(WHOLE, "FSDP"), ("distributed_type: DEEPSPEED\n", "DeepSpeed")])
def test_weights_that_nothing_divides_on_a_cpu(problems, launch_file, text, name):
    """accelerate would start data parallel processes without a word."""
    for found in (problems(launch_file(text), "launch.device=cpu"), problems(launch_file(text + "use_cpu: true\n"))):
        assert any(f"accelerate has no {name} on a CPU; launch.config=cpu shares" in problem for problem in found)


def test_several_nodes_need_a_job(tiny, monkeypatch):
    for name in ("SLURM_JOB_ID", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    config = load_config(tiny, ["launch={config: cpu, num_processes: 2, slurm: {nodes: 2}}"])
    [problem] = find_lacking(config)
    assert problem == "launch.slurm.nodes: 2 nodes start in a job of Slurm: aft-train --sbatch prints its script"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("MASTER_ADDR", "node1")
    assert find_lacking(config) == []


def test_decoding_with_divided_weights(problems, launch_file):
    found = problems(launch_file(WHOLE), "vft.validation={num_questions: 4}", "align.validation={num_questions: 4}")
    assert [problem.partition(":")[0] for problem in found] == ["vft.validation", "align.validation"]


ZERO = "distributed_type: DEEPSPEED\nnum_processes: 8\ndeepspeed_config: {zero_stage: %s}\n"


def test_zero(problems, launch_file):
    assert problems(launch_file(ZERO % "3, zero3_save_16bit_model: true")) == []
    [problem] = problems(launch_file(ZERO % 3))
    assert "zero3_save_16bit_model must be true" in problem
    [problem] = problems(launch_file(ZERO % 0))
    assert "zero_stage: got 0, allowed: 1, 2, 3" in problem
    assert problems(launch_file(ZERO % 2), "vft.validation={num_questions: 4}") == []
    [problem] = problems(launch_file(ZERO % "3, zero3_save_16bit_model: true"), "align.validation={num_questions: 4}")
    assert problem.startswith("align.validation: ") and problem.endswith("not with ZeRO-3")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (ZERO % "2, gradient_accumulation_steps: 4", "set training.gradient_accumulation_steps"),
        (ZERO % "2, gradient_clipping: 1.0", "set training.max_grad_norm"),
        (ZERO % 2 + "mixed_precision: bf16\n", "training.bf16 or training.fp16 decides"),
        (ZERO % 2 + "use_cpu: true\n", "accelerate has no DeepSpeed on a CPU"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: a.json}\n", "is not supported"),
    ],
)
def test_what_deepspeed_is_not_to_decide(problems, launch_file, lines, expected):
    [problem] = problems(launch_file(lines))
    assert expected in problem


def test_deepspeed_that_is_not_installed(tiny, launch_file, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    lacking = find_lacking(load_config(tiny, [launch_file(ZERO % 2)]))
    assert any("pip install 'aft[deepspeed]'" in line for line in lacking)


def test_more_processes_than_gpus(tiny, launch_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    eight = launch_file("distributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 8\n")
    [lacking] = find_lacking(load_config(tiny, [eight]))
    assert "starts 4 processes" in lacking and lacking.endswith("here: 2")
    four = launch_file("distributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 4\n")
    assert find_lacking(load_config(tiny, [four])) == []
    assert find_lacking(load_config(tiny, [eight, "launch.num_processes=4"])) == []
    [lacking] = find_lacking(load_config(tiny, [four, "launch.num_processes=16"]))
    assert "starts 8 processes" in lacking


def test_a_number_of_processes_without_a_launch_file(tiny):
    with pytest.raises(ConfigError, match=r"launch\.num_processes: only with launch\.config"):
        load_config(tiny, ["launch.num_processes=4"])


def test_evaluation_while_training_without_questions(problems):
    found = problems("data.num_validation=0", "sample.pool_questions=0")
    assert any(problem.startswith("vft: evaluating while training needs validation questions") for problem in found)


def test_evaluation_without_questions(problems):
    assert "evaluate.split: the validation split has no questions" in problems(
        "data.num_validation=0", "sample.pool_questions=0", "evaluate.split=validation"
    )
    for empty in ("data.num_test=0", "data={name: mixture, parts: {a: {data: {name: arithmetic, num_test: 0}}}}"):
        assert "evaluate.split: the test split has no questions" in problems(empty)
    # the same split does not matter to a run that evaluates nothing
    assert not any(
        "evaluate.split" in problem
        for problem in problems("data.num_validation=0", "sample.pool_questions=0", "stages=[sample]")
    )


def test_what_stops_on_collapse_needs_the_log(problems):
    asked = "align.stop_on_collapse={max_fall: 0.5}"
    assert problems(asked, "training.logging_strategy=steps") == []
    found = problems(asked, "training.logging_strategy='no'")
    assert found and all("stop_on_collapse: reads the training log" in problem for problem in found)


def test_a_best_model_by_a_figure_that_nothing_yields(problems):
    training = "vft.training={eval_strategy: epoch, metric_for_best_model: %s, max_steps: 2}"
    [problem] = problems(training % "task_accurcy", "vft.validation={num_questions: 4}")
    assert "vft.training.metric_for_best_model: got 'task_accurcy'" in problem and "'task_accuracy'?" in problem
    [problem] = problems(training % "task_accuracy")
    assert "task_accuracy needs a validation section" in problem
    assert problems(training % "eval_task_accuracy", "vft.validation={num_questions: 4}") == []


def test_log_probs_keep_their_precision_under_fsdp2():
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, output_dtype=torch.bfloat16)
    plugin = types.SimpleNamespace(fsdp_version=2, mixed_precision_policy=policy)
    keep_output_precision(types.SimpleNamespace(state=types.SimpleNamespace(fsdp_plugin=plugin)))
    assert plugin.mixed_precision_policy.output_dtype is None
    assert plugin.mixed_precision_policy.param_dtype == torch.bfloat16
    keep_output_precision(types.SimpleNamespace(state=types.SimpleNamespace()))  # no FSDP: nothing to do


def test_a_finished_units_model_is_freed():
    gc.disable()
    try:
        model = tiny_model("llama")
        enable_scoring(model, chunk_bytes=2**20)
        alive = weakref.ref(model)
        del model
        assert alive() is not None, "the forward holds the model, and the model its forward"
        forget()
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("argument", ["scores", "ratings", "candidate_mask"])
def test_a_list_in_the_place_of_a_tensor(argument):
    arguments = {
        "scores": torch.zeros(1, 2),
        "ratings": torch.zeros(1, 2),
        "candidate_mask": torch.ones(1, 2, dtype=torch.bool),
    }
    arguments[argument] = [[1.0, 0.0]]
    with pytest.raises(ValueError, match=f"alignment_loss: {argument} must be a tensor, got list"):
        alignment_loss(**arguments)


def test_a_whole_secret_is_refused_and_its_variable_is_named(problems, monkeypatch, tmp_path):
    folder = f"{tmp_path}/some"
    monkeypatch.setenv("SECRET_TOKEN", f"{folder}/secret/path.txt")
    assert not problems(f"output_dir={folder}/run"), "a piece of a secret is in many a path"
    assert not problems(f"output_dir={folder}/ssh://git@host/run")
    told = "which the files of the run would keep; leave it to the environment"
    for value, what in {
        f"{folder}/secret/path.txt.d": "the value of the environment variable SECRET_TOKEN",
        f"{folder}/https://me:pw@host": "a password in an address",
        f"{folder}/hf_{'a' * 34}": "a token of the Hugging Face hub",
    }.items():
        assert problems(f"output_dir={value}") == [f"output_dir: holds {what}, {told}"]


@pytest.mark.parametrize(("family", "refused"), [("gemma-3-4b", True), ("gemma-3-1b", False)])
def test_no_adapter_of_a_model_inside_another_is_pushed(problems, monkeypatch, tmp_path, family, refused):
    config = AutoConfig.from_pretrained(save_family(family, tmp_path / "base"))
    asked = []
    monkeypatch.setattr(
        "aft.model.AutoConfig.from_pretrained", lambda name, **load: asked.append((name, load)) or config
    )
    keys = ["hub.repo=me/mine", "stages=[vft, sample, label, align, evaluate]", "align.init_from=base"]
    model = "model={name_or_path: some/gemma, lora: {save: %s}}"
    told = "hub: the pushed adapters would stand on the language model inside some/gemma, which others load whole;"
    found = problems(*keys, model % "adapter")
    assert found == ([f"{told} set model.lora.save to merged or both"] if refused else [])
    assert [(name, load["local_files_only"]) for name, load in asked] == [("some/gemma", True)]
    assert problems(*keys, model % "both") == []


def test_a_read_only_file_system_is_no_mistake_of_the_configuration(problems, monkeypatch, tmp_path):
    """As `mount -o ro` leaves it: not even root may write there."""
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert problems() == [f"output_dir: {tmp_path / 'run'} cannot be written: no permission in {tmp_path}"]
    monkeypatch.setattr(os, "statvfs", lambda path: types.SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(DiskError, match=f"^{tmp_path}/run: the run cannot be written: Read-only file system. Make the"):
        problems()


@pytest.mark.parametrize(
    ("rounds", "count"), [("2", 1), ("1", 0), ("{count: 2, validation_questions: 0}", 0), ("null", 0)]
)
def test_rounds_need_vllm_only_to_validate(tiny, tmp_path, monkeypatch, rounds, count):
    monkeypatch.setenv(PYTHON, str(tmp_path / "nowhere"))
    changes = ["stages=[vft,sample,label,align]", "evaluate.engine=vllm", f"rounds={rounds}", "launch.device=cpu"]
    assert len(find_lacking(load_config(tiny, changes))) == count
