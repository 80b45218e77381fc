"""The `training` sections: what is refused and how it is said, and what TrainingArguments finally gets."""

from __future__ import annotations

import dataclasses
import math
import os

import pytest
from transformers import TrainingArguments

from aft.training.arguments import (
    ABOVE_ZERO,
    DEFAULTS,
    LEAST,
    OWNED,
    RENAMED,
    check_keys,
    check_whole,
    make_arguments,
)

OLD = "gradient_checkpointing"


def problems(**values) -> list[str]:
    """Every problem of one section, as the command would find them."""
    found = check_keys(values, "vft.training")
    return found or [f"vft.training: {problem}" for problem in check_whole(values, cpu=True)]


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
def test_both_names_of_a_renamed_key_are_one(tmp_path, name):
    values = {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    assert problems(**values) == []
    made = make_arguments(values, tmp_path, seed=0, data_seed=0, cpu=True)  # a FutureWarning would be an error here
    installed = next(key for new in (True, False) if hasattr(made, key := RENAMED[OLD] if new else OLD))
    assert getattr(made, installed) is True and getattr(made, f"{installed}_kwargs") == {"use_reentrant": False}


def test_both_names_of_a_renamed_key_at_once():
    told = "are two names of one key; keep one, also where shared sections set it"
    assert problems(gradient_checkpointing=True, activation_checkpointing=False) == [
        f"vft.training: gradient_checkpointing and activation_checkpointing {told}"
    ]


def test_good_arguments_have_no_problems():
    assert problems() == []
    good = {
        "learning_rate": 2e-5,
        "num_train_epochs": 3,
        "warmup_steps": 0.03,
        "max_steps": 100,
        "lr_scheduler_type": "cosine",
        "lr_scheduler_kwargs": {"num_cycles": 0.5},
        "optim": "adamw_torch",
        "eval_strategy": "steps",
        "eval_steps": 10,
        "save_strategy": "steps",
        "save_steps": 20,
        "load_best_model_at_end": True,
        "metric_for_best_model": "task_accuracy",
        "bf16": True,
        "tf32": None,
        "ddp_backend": "gloo",
    }
    assert problems(**good) == []


def test_a_misspelt_key_names_the_nearest():
    assert problems(learning_rat=1e-3, nothing_like_it=1) == [
        "vft.training.learning_rat: TrainingArguments has no such key. Did you mean 'learning_rate'?",
        "vft.training.nothing_like_it: TrainingArguments has no such key.",
    ]


def test_a_key_that_the_run_sets_itself_says_what_to_set_instead():
    assert problems(seed=3, output_dir="x", dataloader_num_workers=4) == [
        "vft.training.seed: not to be set here; set seeds",
        "vft.training.output_dir: not to be set here; set the run's output_dir",
        "vft.training.dataloader_num_workers: not to be set here;"
        " the data is in memory and batches are made by this package",
    ]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_rate", "2e-5", "expected float, got '2e-5' (str)"),
        ("learning_rate", None, "expected float, got None (NoneType)"),
        ("learning_rate", True, "expected float, got True (bool)"),
        ("max_steps", 1.5, "expected int, got 1.5 (float)"),
        ("max_steps", "many", "expected int, got 'many' (str)"),
        ("bf16", 1, "expected bool, got 1 (int)"),
        ("bf16", "yes", "expected bool, got 'yes' (str)"),
        ("eval_steps", "often", "expected float or null, got 'often' (str)"),
        ("run_name", 3, "expected null or str, got 3 (int)"),
    ],
)
def test_a_wrong_type(key, value, expected):
    assert problems(**{key: value}) == [f"vft.training.{key}: {expected}"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("per_device_train_batch_size", 0, "got 0, allowed: 1 or more"),
        ("gradient_accumulation_steps", 0, "got 0, allowed: 1 or more"),
        ("learning_rate", -1e-3, "got -0.001, allowed: 0 or more"),
        ("learning_rate", math.nan, "got nan, allowed: a finite number"),
        ("max_grad_norm", math.inf, "got inf, allowed: a finite number"),
        ("logging_steps", 0, "got 0, allowed: more than 0"),
        ("save_steps", -5, "got -5, allowed: more than 0"),
        ("max_steps", 0, "got 0, allowed: 1 or more, or -1 for num_train_epochs"),
    ],
)
def test_a_value_out_of_bounds(key, value, expected):
    assert problems(**{key: value}) == [f"vft.training.{key}: {expected}"]


def test_all_problems_are_told_at_once():
    assert len(problems(seed=1, bf16="yes", max_step=3, logging_steps=0)) == 4


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"eval_strategy": "step"}, "step is not a valid IntervalStrategy, please select one of ['no', 'steps'"),
        ({"optim": "adam"}, "adam is not a valid OptimizerNames"),
        ({"optim": "adamw_bnb_8bit"}, "You need to install `bitsandbytes`"),
        ({"bf16": True, "fp16": True}, "At most one of fp16 and bf16 can be True"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "epoch"},
            "--load_best_model_at_end requires the save and eval strategy to match",
        ),
        ({"load_best_model_at_end": True}, "load_best_model_at_end: nothing is evaluated; set eval_strategy"),
        ({"log_level": "loud"}, "log_level: got 'loud', allowed: "),
        ({"accelerator_config": "no-such-file.json"}, "[Errno 2] No such file"),
        ({"report_to": "nowhere"}, "nowhere is not supported"),
    ],
)
def test_what_training_arguments_itself_refuses_is_one_line(values, start):
    (problem,) = problems(**values)
    assert problem.startswith(f"vft.training: {start}") and "\n" not in problem


def test_checking_leaves_the_environment_alone():
    before = dict(os.environ)
    check_whole({"bf16": True}, cpu=True)
    assert dict(os.environ) == before


def test_the_tables_name_keys_that_exist():
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert not set(DEFAULTS) - known and not set(LEAST) - known and not set(ABOVE_ZERO) - known
    assert not set(OWNED) - known and not set(OWNED) & set(DEFAULTS)


def test_what_training_arguments_gets(tmp_path):
    arguments = make_arguments({"learning_rate": 3e-4}, tmp_path / "unit", seed=7, data_seed=9, cpu=True)
    assert (arguments.output_dir, arguments.seed, arguments.data_seed) == (str(tmp_path / "unit"), 7, 9)
    assert arguments.learning_rate == 3e-4 and arguments.device.type == "cpu" and arguments.n_gpu <= 1
    assert {key: getattr(arguments, key) for key in ("logging_steps", "save_strategy", "save_total_limit")} == {
        "logging_steps": 10,
        "save_strategy": "no",
        "save_total_limit": 2,
    }
    # a key of ours yields to the user's, and nothing is written yet
    assert make_arguments({"logging_steps": 3}, tmp_path, seed=0, data_seed=0, cpu=True).logging_steps == 3
    assert not (tmp_path / "unit").exists()
