"""Turns the `training` sections into transformers' TrainingArguments: checks keys and values, sets what a run owns."""

from __future__ import annotations

import dataclasses
import math
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments
from transformers.integrations import get_available_reporting_integrations, get_reporting_integration_callbacks
from transformers.training_args import trainer_log_levels

from ..errors import nearest

# Our defaults. Every other key keeps transformers' default.
DEFAULTS: dict[str, Any] = {
    "logging_steps": 10,
    "logging_first_step": True,
    "save_strategy": "no",
    "save_total_limit": 2,
    "report_to": "none",
    "lr_scheduler_type": "linear",
}

# What to install for a tracker whose package has another name.
PACKAGES = {"azure_ml": "azureml-mlflow", "comet_ml": "comet-ml", "kubeflow": "kubeflow-trainer"}
EXTRA = ("mlflow", "tensorboard", "trackio", "wandb")  # of the extra `trackers`

# Keys that a run sets itself, and what to set instead.
OWNED: dict[str, str] = {
    "output_dir": "set the run's output_dir",
    "seed": "set seeds",
    "data_seed": "set seeds",
    "use_cpu": "set launch.device",
    "deepspeed": "set launch.config, to zero3 for one",
    "hub_token": "set the environment variable HF_TOKEN; files of the run would show the token",
    "remove_unused_columns": "batches are made by this package",
    "label_names": "batches are made by this package",
    "disable_tqdm": "progress is always shown",
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "label_smoothing_factor": "the loss is this package's",
    "average_tokens_across_devices": "every term is normalised over all ranks",
    "train_sampling_strategy": "the order of the data is this package's",
    "dataloader_drop_last": "no question is dropped",
    "auto_find_batch_size": "set per_device_train_batch_size",
    "length_column_name": "the order of the data is this package's",
    "ignore_data_skip": "a run that is resumed goes on where it was",
    "resume_from_checkpoint": "a stage that was cut resumes by itself",
    "enable_jit_checkpoint": "a stage that a signal ends saves a checkpoint, unless save_strategy is no",
    "use_cache": "a checkpoint keeps its model's own",
    "use_liger_kernel": "its forward would replace this package's",
    "liger_kernel_config": "its forward would replace this package's",
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), "set stages, and eval_strategy here"),
    **dict.fromkeys(
        (
            "dataloader_num_workers",
            "dataloader_pin_memory",
            "dataloader_persistent_workers",
            "dataloader_prefetch_factor",
            "dataloader_multiprocessing_context",
            "dataloader_in_order",
        ),
        "the data is in memory and batches are made by this package",
    ),
    **dict.fromkeys(
        (
            "prediction_loss_only",
            "eval_do_concat_batches",
            "eval_use_gather_object",
            "eval_accumulation_steps",
            "include_for_metrics",
            "batch_eval_metrics",
            "bf16_full_eval",
            "fp16_full_eval",
        ),
        "evaluation while training is this package's",
    ),
}

# transformers 5.23 gave these keys new names. Both names are allowed; `TrainingArguments` gets the one that it has.
RENAMED = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}

# Bounds that TrainingArguments does not check: the least allowed value.
LEAST: dict[str, float] = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "save_total_limit": 1,
    "num_train_epochs": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "adam_beta1": 0,
    "adam_beta2": 0,
    "adam_epsilon": 0,
    "max_grad_norm": 0,
    "warmup_steps": 0,
    "eval_delay": 0,
}
# The largest allowed values. Steps are counted and drawn up in ranges.
MOST: dict[str, float] = {"num_train_epochs": 1_000_000}
MOST_WHOLE = 2**31 - 1
ABOVE_ZERO = ("logging_steps", "eval_steps", "save_steps")


def check_keys(values: Mapping[str, Any], where: str) -> list[str]:
    """Problems of single keys of one `training` section. `where`: the section's name in the messages."""
    fields = {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}
    problems = []
    for key, value in values.items():
        field = fields.get(_installed_name(key))
        if key in OWNED:
            problems.append(f"{where}.{key}: not to be set here; {OWNED[key]}")
        elif field is None:
            problems.append(f"{where}.{key}: TrainingArguments has no such key.{nearest(key, fields)}")
        else:
            wrong_type = _check_type(value, field.type, f"{where}.{key}")
            problems += wrong_type or _check_bounds(key, value, f"{where}.{key}")
    return problems


def _installed_name(key: str) -> str:
    """The name that the installed transformers has for a key of `RENAMED`. Any other key is returned."""
    for old, new in RENAMED.items():
        if key in (old, new):
            return new if new in TrainingArguments.__dataclass_fields__ else old
    return key


def check_whole(values: Mapping[str, Any], *, cpu: bool) -> list[str]:
    """Problems of a stage's TrainingArguments as a whole. Call it only if `check_keys` found none."""
    for old, new in RENAMED.items():
        if old in values and new in values:
            return [f"{old} and {new} are two names of one key; keep one, also where shared sections set it"]
    environment = dict(os.environ)  # TrainingArguments sets variables that no stage's process may inherit
    # TrainingArguments would start this backend at once, but this process has no other ranks
    values = {key: value for key, value in values.items() if key != "ddp_backend"}
    try:
        arguments = make_arguments(values, Path("unused"), seed=0, data_seed=0, cpu=cpu)
        get_reporting_integration_callbacks(arguments.report_to)
        Trainer.get_optimizer_cls_and_kwargs(arguments)
        if arguments.log_level not in trainer_log_levels:
            return [f"log_level: got {arguments.log_level!r}, allowed: {', '.join(trainer_log_levels)}"]
    except (ValueError, TypeError, ImportError, OSError) as error:
        return [" ".join(str(error).split())]
    except Exception as error:  # of transformers, for a value that it does not check
        return [f"transformers takes no such value: {type(error).__name__}: {' '.join(str(error).split())}"]
    finally:
        os.environ.clear()
        os.environ.update(environment)
    if arguments.load_best_model_at_end and arguments.eval_strategy == "no":
        return ["load_best_model_at_end: nothing is evaluated; set eval_strategy, and save_strategy like it"]
    installed = get_available_reporting_integrations()
    return [_how_to_install(name) for name in arguments.report_to if name not in installed]


def _how_to_install(tracker: str) -> str:
    extra = ", or 'aft[trackers]'," if tracker in EXTRA else ""
    package = PACKAGES.get(tracker, tracker)
    return f"report_to: {tracker} is not installed here; pip install {package}{extra} or set report_to to none"


def _check_type(value: Any, annotation: Any, where: str) -> list[str]:
    """Problems of the type of a value declared as bool, int, float, str or None. Other types check themselves."""
    kinds = {typing.get_origin(member) or member for member in typing.get_args(annotation)}
    if type(value) in (bool, int) and dict in kinds:  # open() takes a number for a file that is open
        return [f"{where}: expected a mapping or the name of a file, got {value!r} ({type(value).__name__})"]
    members = set(typing.get_args(annotation)) or {annotation}
    if not members <= {bool, int, float, str, type(None)}:
        return []
    if float in members and type(value) is int:
        return []
    if type(value) not in members:
        names = " or ".join(sorted("null" if member is type(None) else member.__name__ for member in members))
        return [f"{where}: expected {names}, got {value!r} ({type(value).__name__})"]
    return []


def _check_bounds(key: str, value: Any, where: str) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return []
    allowed = None
    if not math.isfinite(value):
        allowed = "a finite number"
    elif key in LEAST and value < LEAST[key]:
        allowed = f"{LEAST[key]} or more"
    elif value > MOST.get(key, MOST_WHOLE if isinstance(value, int) else math.inf):
        allowed = f"{MOST.get(key, MOST_WHOLE)} or less"
    elif key in ABOVE_ZERO and value <= 0:
        allowed = "more than 0"
    elif key == "max_steps" and value != -1 and value < 1:
        allowed = "1 or more, or -1 for num_train_epochs"
    return [f"{where}: got {value}, allowed: {allowed}"] if allowed else []


def make_arguments(
    values: Mapping[str, Any], folder: Path, *, seed: int, data_seed: int, cpu: bool
) -> TrainingArguments:
    """The TrainingArguments of one stage. Raises the errors of TrainingArguments."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        data_seed=data_seed,
        use_cpu=cpu,
        remove_unused_columns=False,
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        **{**DEFAULTS, **{_installed_name(key): value for key, value in values.items()}},
    )
    # one process per GPU: with several GPUs in a process transformers would use DataParallel
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
