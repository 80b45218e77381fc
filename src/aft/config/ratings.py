"""The `label.ratings` section: one dataclass per source of ratings, told apart by `name`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# what a rating function is called with, beside its `arguments`
GIVEN = ("question", "reference", "completion", "answer", "label")


@dataclass(frozen=True)
class BinaryRatings:
    """Right 1, wrong 0: the paper's binary feedback."""

    name: Literal["binary"]


@dataclass(frozen=True)
class FileRatings:
    """Ratings from a JSONL file, keyed by candidate."""

    name: Literal["file"]
    path: str
    """File whose lines have question_id, index and rating (docs/data.md); `{seed}` in it becomes the run's seed."""
    missing: Literal["error", "drop"] = "error"
    """A candidate without a rating is an error, or is left out of its group and counted."""


@dataclass(frozen=True)
class JudgeRatings:
    """Ratings by a chat model, as for GSM8K-RANK; the environment says where it is (docs/data.md)."""

    name: Literal["judge"]
    model: str | None = None
    """The judge's name at the endpoint; null: as the environment variable `AFT_JUDGE_MODEL` says."""
    num_ratings: int = field(default=3, metadata={"ge": 1})
    """Ratings asked for and averaged for each candidate (paper: 3)."""
    temperature: float | None = field(default=1.0, metadata={"ge": 0.0})
    """Temperature of the judge*; at 0 the ratings of a candidate hardly differ; null: the endpoint's own."""
    max_tokens: int | None = field(default=1024, metadata={"ge": 1})
    """Longest reply, in tokens; null: not sent, for models that refuse this field."""
    min_score: float = 1.0
    """Lowest score (paper: 1); a reply with a lower one is asked for again."""
    max_score: float = 10.0
    """Highest score (paper: 10), where a candidate without a wrong step ends."""
    prompt: str | None = None
    """File with a prompt of your own, with `{question}` and `{completion}` in it; null: the built-in one*."""
    retries: int = field(default=5, metadata={"ge": 0})
    """How often a request that gave no score is repeated, ever more slowly."""
    timeout: float = field(default=120.0, metadata={"gt": 0.0, "le": 86400.0})
    """Longest wait for one reply, in seconds."""
    concurrency: int = field(default=8, metadata={"ge": 1, "le": 1000})
    """Requests on their way at once."""
    cache: str | None = None
    """Folder of the replies, which are never asked for twice; null: `judge-cache` in the run's folder."""
    unrated: Literal["error", "drop"] = "error"
    """A candidate that got no score at all is an error, or is left out of its group and counted."""


@dataclass(frozen=True)
class FunctionRatings:
    """Ratings by a Python function. Runs the code of its module."""

    name: Literal["function"]
    function: str
    """`my_ratings.py:rate`, or `package.module:rate` that Python can import. Its code runs: trust its author."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the function."""


Ratings = BinaryRatings | FileRatings | JudgeRatings | FunctionRatings
