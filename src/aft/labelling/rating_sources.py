"""The keys and files that a configuration's ratings depend on, for the plan. No rating is made here."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from ..config.ratings import FileRatings, FunctionRatings, JudgeRatings, Ratings
from ..endpoint import MODEL
from ..errors import ConfigError
from ..own_code import find_source
from ..run.digest import digest_value
from .judge.prompt import BUILT_IN

# the configuration key of each file in `rating_files`
FILE_KEYS = {
    "ratings": "label.ratings.path",
    "judge_prompt": "label.ratings.prompt",
    "rating_function": "label.ratings.function",
}
# keys of a judge that do not change its requests
_HOW = ("retries", "timeout", "longest_outage", "concurrency", "cache")


def rating_file(section: FileRatings, seed: int) -> Path:
    """Returns the file of one seed's ratings."""
    return Path(section.path.replace("{seed}", str(seed)))


def rating_files(section: Ratings, seed: int) -> dict[str, Path]:
    """Returns the files that a seed's ratings depend on. The keys are names in `FILE_KEYS`."""
    if isinstance(section, FileRatings):
        return {"ratings": rating_file(section, seed)}
    if isinstance(section, JudgeRatings) and section.prompt is not None:
        return {"judge_prompt": Path(section.prompt)}
    if isinstance(section, FunctionRatings):
        source = find_source(section.function.rpartition(":")[0])
        return {} if source is None else {"rating_function": source}
    return {}


def rating_keys(section: Ratings, recorded: Any = None) -> dict[str, Any]:
    """Returns the keys that decide ratings, with the judge's resolved name and the built-in prompt's digest.

    Paths of files are not included: the plan compares the contents (digests of `rating_files`). `recorded`: these keys
    from an earlier run of the unit, or None. Its judge's name is used if neither the section nor the environment names
    a judge. So a finished run can be read without the environment variable.
    """
    keys = dataclasses.asdict(section)
    if isinstance(section, FileRatings):
        del keys["path"]
    if isinstance(section, JudgeRatings):
        keys = {name: value for name, value in keys.items() if name not in _HOW}
        keys["model"] = find_judge_model(section) or (recorded.get("model") if isinstance(recorded, dict) else None)
        keys["prompt"] = digest_value(BUILT_IN) if section.prompt is None else "a file"
    return keys


def find_judge_model(section: JudgeRatings) -> str | None:
    """Returns the judge's name from the configuration or the environment, or None."""
    return section.model or os.environ.get(MODEL, "").strip() or None


def judge_model(section: JudgeRatings) -> str:
    """Returns the judge's name. Raises `ConfigError` if there is none."""
    model = find_judge_model(section)
    if model is None:
        raise ConfigError(f"label.ratings.model: null, and the environment variable {MODEL} is not set; name a model")
    return model
