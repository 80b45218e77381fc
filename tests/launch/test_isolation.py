"""One unit after another in a process gives what each gives in a process of its own, and leaves nothing behind."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import shutil
import warnings

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, Trainer

from aft.config import load_config
from aft.launch import conductor, units, worker
from aft.launch.isolation import isolated, needs_own_process
from aft.run.environment import peak_memory_bytes, reset_peak_memory
from aft.stages.plan import DONE, Plan

# Dropout and adapters draw random numbers. The methods differ in what accelerate keeps for a whole process.
CHANGES = (
    "launch.device=cpu",
    "stages=[pretrain, vft]",
    "seeds=[0,1]",
    "pretrain.training.max_steps=2",
    "model.lora={r: 4, lora_dropout: 0.1, target_modules: [q_proj, v_proj]}",
    "vft.training={max_steps: 3, gradient_accumulation_steps: 2, bf16: true, log_level: error}",
)


@pytest.fixture
def one_thread(monkeypatch):
    """Sums in the same order in every process."""
    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def logged(folder):
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [
        {key: value for key, value in entry.items() if "runtime" not in key and "second" not in key}
        for entry in history
    ]


def alive():
    """How many models, trainers and optimizers there are."""
    gc.collect()
    kinds = (PreTrainedModel, Trainer, torch.optim.Optimizer)
    return sum(issubclass(type(thing), kinds) for thing in gc.get_objects())


@pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")
def test_units_of_one_process_and_of_their_own_are_the_same(tiny, tmp_path, monkeypatch, one_thread):
    started = []
    popen = worker.subprocess.Popen
    monkeypatch.setattr(
        worker.subprocess, "Popen", lambda command, **keys: started.append(command) or popen(command, **keys)
    )
    whole = Plan(load_config(tiny, [f"output_dir={tmp_path / 'whole'}", *CHANGES]))
    conductor.conduct(whole, ["pretrain", "vft"])
    workers = [command for command in started if "aft.cli.train" in command]
    assert [command[-2:] for command in workers] == [["--worker", "-"]], "one process for all units of both stages"
    assert {path.name for path in (whole.folder / "logs").iterdir()} == {"pretrain-0.log", "vft-0.log"}

    other = Plan(load_config(tiny, [f"output_dir={tmp_path / 'other'}", *CHANGES]))
    shutil.copytree(whole.folder / "base", other.folder / "base")
    before = alive(), dict(os.environ), logging.getLogger("transformers").level
    random.seed(5)
    torch.manual_seed(5)
    # the second seed without the first, in a process with another past
    units.run_here(other, "vft", [1])
    assert [other.status(unit).state for unit in other.units("vft")] != [DONE, DONE]
    assert (alive(), dict(os.environ), logging.getLogger("transformers").level) == before
    ours, theirs = other.folder / "seed-1" / "vft", whole.folder / "seed-1" / "vft"
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert logged(ours) == logged(theirs) != logged(whole.folder / "seed-0" / "vft")


def test_what_a_unit_changes_is_put_back(monkeypatch):
    monkeypatch.setenv("AFT_TEST_KEPT", "before")
    logger, filters, drawn = logging.getLogger("transformers"), list(warnings.filters), []
    level, dtype = logger.level, torch.get_default_dtype()
    for _ in range(2):
        with isolated():
            drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
            os.environ["AFT_TEST_KEPT"], os.environ["AFT_TEST_NEW"] = "after", "1"
            logger.setLevel(logging.DEBUG)
            warnings.simplefilter("ignore")
            torch.set_default_dtype(torch.float64)
    assert drawn[0] == drawn[1]
    assert os.environ["AFT_TEST_KEPT"] == "before" and "AFT_TEST_NEW" not in os.environ
    assert (logger.level, list(warnings.filters), torch.get_default_dtype()) == (level, filters, dtype)


@pytest.mark.parametrize(
    ("training", "needed"),
    [
        ({}, False),
        ({"bf16": True, "report_to": "tensorboard", "torch_compile": False, "tf32": None}, False),
        ({"report_to": ["tensorboard", "wandb"]}, True),
        ({"report_to": "all"}, True),
        ({"full_determinism": True}, True),
        ({"tf32": False}, True),
        ({"torch_compile_mode": "default"}, True),
    ],
)
def test_what_cannot_be_put_back_needs_a_process_of_its_own(training, needed):
    assert needs_own_process(training) is needed


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system keeps the peak of a process")
def test_peak_memory_is_a_units_own():
    large = bytearray(256 * 2**20)
    with_it = peak_memory_bytes()
    assert with_it > len(large)
    del large
    reset_peak_memory()
    assert peak_memory_bytes() < with_it - 200 * 2**20
