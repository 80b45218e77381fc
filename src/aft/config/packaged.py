"""The files that come with aft: configurations, accelerate's launch files, and the quickstart's base model.

A wheel has them in `aft/files` (pyproject.toml lists them), a checkout at its root.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError, nearest
from ..yaml_files import read_yaml

_PACKAGE = Path(__file__).resolve().parents[1]
_FILES = _PACKAGE / "files"
ROOT = _FILES if _FILES.is_dir() else _PACKAGE.parents[1]
CONFIGS = ROOT / "configs"
LAUNCH_FILES = CONFIGS / "accelerate"
MODELS = ROOT / "models"

RUN_FOLDERS = ("", "arithmetic", "gsm8k", "multitask")  # of CONFIGS, with configurations of runs
PART_FOLDERS = ("tasks", "training")  # of CONFIGS, with files that others extend
MODEL_NAMES = ("arithmetic-base",)


def run_names() -> list[str]:
    """Returns the names of the configurations of single runs that come with aft, such as `quickstart`.

    A file without `output_dir` is a part of others and has no name here.
    """
    paths = [path for folder in RUN_FOLDERS for path in sorted((CONFIGS / folder).glob("*.yaml"))]
    return [_name(path) for path in paths if "output_dir" in read_yaml(path)]


def model_file_names() -> list[str]:
    """Returns the names of the models that aft has a file for, such as `models/qwen2.5-1.5b`."""
    return [_name(path) for path in sorted((CONFIGS / "models").glob("*.yaml"))]


def hub_name(file: str) -> str:
    """Returns the name on the hub of a model of `model_file_names`."""
    return str(read_yaml(CONFIGS / f"{file}.yaml")["model"]["name_or_path"])


def find_model_file(model: str) -> str | None:
    """Returns the name of the file for a model, given with or without `models/`, or by its name on the hub; else None.

    A checkpoint's folder of that name is the user's own model.
    """
    if (Path(model) / "config.json").exists():
        return None
    files = model_file_names()
    named = [file for file in files if model in (file, file.removeprefix("models/"))]
    return next(iter(named or [file for file in files if hub_name(file) == model]), None)


def part_names() -> list[str]:
    """Returns the names of the files that a configuration may extend, such as `tasks/gsm8k`. They are no runs."""
    return [_name(path) for folder in PART_FOLDERS for path in sorted((CONFIGS / folder).glob("*.yaml"))]


def _name(path: Path) -> str:
    # `with_suffix` would take the end of `qwen2.5-1.5b` for one
    return path.relative_to(CONFIGS).as_posix().removesuffix(".yaml")


def find_config(name: str | Path, beside: Path = Path()) -> Path:
    """Finds a configuration: a file relative to the folder `beside`, else one that comes with aft, by its name.

    Raises `ConfigError` with the known names if there is none.
    """
    path = beside / name
    try:
        if path.exists() and not path.is_dir():
            return path
    except OSError as error:  # such as a name that is too long
        raise ConfigError(f"{str(path)[:100]}: cannot be read: {error.strerror}") from None
    parts, models = part_names(), model_file_names()
    # the names of runs come last: they are in the files
    if str(name) in (*parts, *models) or str(name) in run_names():
        return CONFIGS / f"{name}.yaml"
    runs = run_names()
    found = "a folder, not a file" if path.is_dir() else "no such file"
    raise ConfigError(
        f"{path}: {found}, and aft has no configuration of this name.{nearest(str(name), [*runs, *parts, *models])}"
        f" It has: {', '.join([*runs, *parts])}, and models/NAME for {len(models)} models (docs/models.md)"
    )


def find_model(name: str) -> str:
    """Returns the folder of a base model that comes with aft. Other names, and a checkpoint of that name, stay."""
    return str(MODELS / name) if name in MODEL_NAMES and not (Path(name) / "config.json").exists() else name
