"""The `training` sections -> transformers' TrainingArguments: names checked, ours set, problems gathered."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations, get_reporting_integration_callbacks

from .errors import nearest

# Where TrainingArguments' own default does not suit: every other key keeps transformers' default.
DEFAULTS: dict[str, Any] = {
    "logging_steps": 10,
    "logging_first_step": True,
    "save_strategy": "no",
    "save_total_limit": 2,
    "report_to": "none",
    "lr_scheduler_type": "linear",
}

# Keys that a run sets itself, and what to set instead.
OWNED: dict[str, str] = {
    "output_dir": "set the run's output_dir",
    "seed": "set seeds",
    "data_seed": "set seeds",
    "use_cpu": "set launch.device",
    "remove_unused_columns": "batches are made by this package",
    "label_names": "batches are made by this package",
    "disable_tqdm": "progress is always shown",
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "label_smoothing_factor": "the loss is this package's",
    "average_tokens_across_devices": "every term is normalised over all ranks",
    "train_sampling_strategy": "the order of the data is this package's",
    "dataloader_drop_last": "no question is dropped",
    "auto_find_batch_size": "set per_device_train_batch_size",
}


def check_keys(values: Mapping[str, Any], where: str) -> list[str]:
    """Problems of the keys of one `training` section, each by itself; `where` names the section."""
    fields = {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}
    problems = []
    for key, value in values.items():
        if key in OWNED:
            problems.append(f"{where}.{key}: not to be set here; {OWNED[key]}")
        elif key not in fields:
            problems.append(f"{where}.{key}: TrainingArguments has no such key.{nearest(key, fields)}")
        else:
            problems += _check_type(value, fields[key].type, f"{where}.{key}")
    return problems


def check_whole(values: Mapping[str, Any], *, cpu: bool) -> list[str]:
    """Problems of a stage's TrainingArguments together, after `check_keys` has found none."""
    try:
        arguments = make_arguments(values, Path("unused"), seed=0, data_seed=0, cpu=cpu)
        get_reporting_integration_callbacks(arguments.report_to)
    except (ValueError, TypeError, ImportError) as error:
        return [" ".join(str(error).split())]
    installed = get_available_reporting_integrations()
    return [
        f"report_to: {name} is not installed here; pip install it, or report_to=none"
        for name in arguments.report_to
        if name not in installed
    ]


def _check_type(value: Any, annotation: Any, where: str) -> list[str]:
    """A plain number, switch or text where TrainingArguments declares one; its richer types check themselves."""
    members = set(typing.get_args(annotation)) or {annotation}
    if not members <= {bool, int, float, str, type(None)}:
        return []
    if float in members and type(value) is int:
        return []
    if type(value) not in members:
        names = " or ".join(sorted("null" if member is type(None) else member.__name__ for member in members))
        return [f"{where}: expected {names}, got {value!r} ({type(value).__name__})"]
    return []


def make_arguments(
    values: Mapping[str, Any], folder: Path, *, seed: int, data_seed: int, cpu: bool
) -> TrainingArguments:
    """TrainingArguments of one stage. Raises what TrainingArguments raises."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        data_seed=data_seed,
        use_cpu=cpu,
        remove_unused_columns=False,
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        **{**DEFAULTS, **values},
    )
    # several GPUs in one process would mean DataParallel; several GPUs are several processes here
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete `checkpoint-N` in a folder, to resume from."""
    found = []
    for path in folder.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        # the trainer's state is written last
        if number.isdigit() and (path / "trainer_state.json").exists():
            found.append((int(number), path))
    return str(max(found)[1]) if found else None
