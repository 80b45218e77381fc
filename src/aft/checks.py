"""What a configuration asks of the libraries, the files and the machine, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from .config import Config, align_config
from .config.load import read_yaml
from .errors import ConfigError, DataError
from .launch import find_launch_file
from .tasks import ANSWER_ONLY, TEST, TRAIN, VALIDATION, make_task


def check_run(config: Config, broken: Collection[str] = ()) -> list[str]:
    """Every problem that the libraries and the files can tell; sections in `broken` are not looked at."""
    checks: list[tuple[str, Callable[[Config], list[str]]]] = [
        ("output_dir", _check_output_dir),
        ("model", _check_model_folder),
        ("launch", _check_launch),
        ("data seeds", _check_data),
    ]
    problems = [problem for needs, check in checks if not set(needs.split()) & set(broken) for problem in check(config)]
    return problems + _check_training(config, broken)


def find_lacking(config: Config) -> list[str]:
    """What this machine lacks for the run, a GPU; that keeps nobody from planning it for another machine."""
    import torch

    if torch.cuda.is_available():
        return []
    if config.launch.config is None:
        wants = config.launch.device == "cuda"
        return ["launch.device: cuda, but torch finds no GPU here; allowed: auto, cpu"] if wants else []
    try:
        asked = read_yaml(find_launch_file(config.launch.config))
    except ConfigError:
        return []  # `_check_launch` has said so
    if asked.get("use_cpu") or asked.get("distributed_type") == "MULTI_CPU":
        return []
    return [
        f"launch.config: {config.launch.config} asks for GPUs, but torch finds none here; launch.config=cpu needs none"
    ]


def _check_output_dir(config: Config) -> list[str]:
    folder = Path(config.output_dir)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return [f"output_dir: {config.output_dir} cannot be made, {there} is a file"]
    if not os.access(there, os.W_OK | os.X_OK):
        return [f"output_dir: {config.output_dir} cannot be written: no permission in {there}"]
    return []


def _check_model_folder(config: Config) -> list[str]:
    name = config.model.name_or_path
    if not name:
        return []
    folder = Path(name)
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return []
        return [f"model.name_or_path: {name} is no model: it has no config.json"]
    if folder.exists():
        return [f"model.name_or_path: {name} is a file; expected a folder or a hub name"]
    # a hub name has at most one slash and no dot in front; anything else was meant as a folder
    if name.count("/") > 1 or name[0] in "./~":
        return [f"model.name_or_path: no folder {name} (looked in {Path.cwd()})"]
    return []


def _check_launch(config: Config) -> list[str]:
    if config.launch.config is None:
        return []
    problems = []
    try:
        read_yaml(find_launch_file(config.launch.config))
    except ConfigError as error:
        problems += error.problems
    if config.launch.workers > 1:
        problems.append("launch.workers: only without launch.config, which starts processes of its own")
    return problems


def _check_data(config: Config) -> list[str]:
    path = getattr(config.data, "path", None)
    if path is not None and not Path(path).exists():
        return [f"data.path: no folder {path} (looked in {Path.cwd()})"]
    problems: list[str] = []
    try:
        task = make_task(**vars(config.data))
        for split in (TRAIN, ANSWER_ONLY, VALIDATION, TEST):
            task.load(split, seed=next(iter(config.seeds), 0))
    except ConfigError as error:
        # a task knows its own arguments, not the section that they stand in
        problems += [problem if problem.startswith("data.") else f"data: {problem}" for problem in error.problems]
    except DataError:
        pass  # another exit code: the plan, which reads the data next, tells it once the configuration is right
    return problems


def _check_training(config: Config, broken: Collection[str]) -> list[str]:
    """The `training` of each section on its own, then as the trainer will get them."""
    sections: dict[str, dict[str, Any]] = {}
    if "training" not in broken:
        sections["training"] = config.training
    for name in ("pretrain", "vft", "align"):
        if name not in broken:
            sections[f"{name}.training"] = getattr(config, name).training
    if "methods" not in broken:
        for name, changes in config.methods.items():
            sections[f"methods.{name}.training"] = (changes or {}).get("training", {})
    if not any(sections.values()):
        return []
    from .arguments import check_keys, check_whole
    from .device import use_cpu

    problems = [problem for where, section in sections.items() for problem in check_keys(section, where)]
    if problems or set(broken) & {"training", "pretrain", "vft", "align", "methods", "stages"}:
        return problems
    cpu = use_cpu("auto" if "launch" in broken else config.launch.device)
    told: dict[str, str] = {}  # problem -> the first section that has it
    for where, section in _trained(config).items():
        for problem in check_whole({**config.training, **section}, cpu=cpu):
            shared = problem in check_whole(config.training, cpu=cpu)
            told.setdefault(problem, "training" if shared else where)
    return [f"{where}: {problem}" for problem, where in told.items()]


def _trained(config: Config) -> dict[str, dict[str, Any]]:
    """Each training of this run, by the name that a message should have, with its own TrainingArguments."""
    sections: dict[str, dict[str, Any]] = {}
    for name in ("pretrain", "vft"):
        if name in config.stages:
            sections[f"{name}.training"] = getattr(config, name).training
    if "align" in config.stages:
        for method in config.methods:
            sections[f"methods.{method}.training"] = align_config(config, method).training
    return sections
