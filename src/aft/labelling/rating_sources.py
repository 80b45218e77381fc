"""What the ratings of a configuration depend on, for the plan: keys and files. No rating is made here."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from ..config.ratings import FileRatings, FunctionRatings, JudgeRatings, Ratings
from ..errors import ConfigError
from ..own_code import find_source
from ..run.digest import digest_value
from .judge.endpoint import MODEL
from .judge.prompt import BUILT_IN

# the key that names each file of `rating_files`
FILE_KEYS = {
    "ratings": "label.ratings.path",
    "judge_prompt": "label.ratings.prompt",
    "rating_function": "label.ratings.function",
}
# how a judge is asked, which changes nothing in what is asked
_HOW = ("retries", "timeout", "concurrency", "cache")


def rating_file(section: FileRatings, seed: int) -> Path:
    """The file of one seed's ratings."""
    return Path(section.path.replace("{seed}", str(seed)))


def rating_files(section: Ratings, seed: int) -> dict[str, Path]:
    """The files that a seed's ratings are made from, by a name of `FILE_KEYS`."""
    if isinstance(section, FileRatings):
        return {"ratings": rating_file(section, seed)}
    if isinstance(section, JudgeRatings) and section.prompt is not None:
        return {"judge_prompt": Path(section.prompt)}
    if isinstance(section, FunctionRatings):
        source = find_source(section.function.rpartition(":")[0])
        return {} if source is None else {"rating_function": source}
    return {}


def rating_keys(section: Ratings, recorded: Any = None) -> dict[str, Any]:
    """The keys that decide ratings, with the judge's model by its name and the built-in prompt by its digest.

    Where a file lies does not matter, what is in it does: the digests of `rating_files`. `recorded`: these keys as they
    were when the ratings were made, if they were; they name the judge where neither the section nor the environment
    does, so that nobody needs that variable to look at a finished run.
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
    """The judge's name, from the configuration or the environment."""
    return section.model or os.environ.get(MODEL, "").strip() or None


def judge_model(section: JudgeRatings) -> str:
    """The judge's name. Raises `ConfigError` where it has none."""
    model = find_judge_model(section)
    if model is None:
        raise ConfigError(f"label.ratings.model: null, and the environment variable {MODEL} is not set; name a model")
    return model
