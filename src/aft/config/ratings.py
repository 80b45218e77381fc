"""The `label.ratings` section: one dataclass per source of ratings. `name` selects the source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# Keyword arguments that every rating function gets in addition to `arguments`.
GIVEN = ("question", "reference", "completion", "answer", "label")


@dataclass(frozen=True)
class BinaryRatings:
    """Rates right completions 1 and wrong ones 0: the paper's binary feedback."""

    name: Literal["binary"]


@dataclass(frozen=True)
class FileRatings:
    """Ratings from a JSONL file with one line per candidate."""

    name: Literal["file"]
    path: str = field(metadata={"path": True})
    """File whose lines have question_id, index and rating (docs/data.md). `{seed}` is replaced by the run's seed."""
    missing: Literal["error", "drop"] = "error"
    """error: a candidate without a rating stops the stage; drop: it is left out of its group and counted."""


@dataclass(frozen=True)
class JudgeRatings:
    """Ratings by a chat model, as for GSM8K-RANK. Environment variables name the endpoint (docs/data.md)."""

    name: Literal["judge"]
    model: str | None = None
    """The model's name at the endpoint; null: the value of the environment variable `AFT_JUDGE_MODEL`."""
    num_ratings: int = field(default=3, metadata={"ge": 1, "le": 1000})
    """Ratings requested for each candidate; their mean is used (paper: 3)."""
    temperature: float | None = field(default=1.0, metadata={"ge": 0.0})
    """Temperature of the judge*; at 0, a candidate's ratings hardly differ; null: the endpoint's default."""
    max_tokens: int | None = field(default=1024, metadata={"ge": 1})
    """Longest reply, in tokens; null: the field is not sent, because some models reject it."""
    min_score: float = 1.0
    """Lowest allowed score (paper: 1). A reply with a lower score is requested again."""
    max_score: float = 10.0
    """Highest allowed score (paper: 10): the score of a candidate without a wrong step."""
    prompt: str | None = field(default=None, metadata={"path": True})
    """File with your own prompt, which must contain `{question}` and `{completion}`; null: the built-in prompt*."""
    retries: int = field(default=5, metadata={"ge": 0, "le": 1000})
    """How often a request without a score is repeated, with growing delays."""
    timeout: float = field(default=120.0, metadata={"gt": 0.0, "le": 86400.0})
    """Longest wait for one reply, in seconds."""
    longest_outage: float = field(default=3600.0, metadata={"gt": 0.0})
    """Longest time in which the endpoint answers no request, in seconds; then the stage stops."""
    concurrency: int = field(default=8, metadata={"ge": 1, "le": 1000})
    """Number of concurrent requests."""
    cache: str | None = field(default=None, metadata={"path": True})
    """Folder where replies are kept, so that none is requested twice; null: `judge-cache` in the run's folder."""
    unrated: Literal["error", "drop"] = "error"
    """error: a candidate without any score stops the stage; drop: it is left out of its group and counted."""


@dataclass(frozen=True)
class FunctionRatings:
    """Ratings by a Python function. The function's module is run."""

    name: Literal["function"]
    function: str
    """`my_ratings.py:rate`, or an importable `package.module:rate`. The module's code is run: trust its author."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """More keyword arguments of the function."""


Ratings = BinaryRatings | FileRatings | JudgeRatings | FunctionRatings
