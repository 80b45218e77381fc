"""Checks the task's extractor: compares it with a lenient extractor and with math-verify.

Each reader labels each completion positive, negative or unparsed. A person should look at completions on which readers
disagree.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ..answers import (
    LETTERS,
    SymbolicChecker,
    format_number,
    lenient_answer,
    math_verify_installed,
    normalise_number,
    symbolic_checker,
)
from ..grading import Verdict, grade, grade_answer
from ..markdown import ABSENT, markdown, per_cent
from ..progress import Progress
from ..records import NEGATIVE, POSITIVE, UNPARSED, Completion, Question
from ..stats.intervals import wilson
from ..tasks.base import Task

TASK, LENIENT, MATH_VERIFY = "task", "lenient", "math-verify"
READERS = (TASK, LENIENT, MATH_VERIFY)
LABELS = (POSITIVE, NEGATIVE, UNPARSED)
# reasons why math-verify has no verdict on a completion
NOT_INSTALLED = "not installed: pip install 'aft[math]'"
NOT_ASKED = "not asked: beyond the limit"
NOT_MATHS = "not asked: the gold answer is words"
NO_REPLY = "no answer in time"
SYMBOLIC_LIMIT = 20_000
_SHOWN = 40  # characters of an answer in the table
_TAIL = 80  # characters of a completion's end in the table
_WORDS = re.compile(r"[^\W\d_][^\d\\$^=]*")


@dataclasses.dataclass(frozen=True)
class Reading:
    """A reader's result for a completion: the answer, or the reason why there is none, and the label."""

    answer: str | None
    reason: str | None
    label: str


@dataclasses.dataclass(frozen=True)
class Audited:
    """A completion with its readings. The reading of a reader without a verdict is None."""

    question_id: str
    index: int
    gold: str
    completion: str
    readings: Mapping[str, Reading | None]

    @property
    def agreed(self) -> bool:
        """True if all readers with a verdict gave the same label."""
        return len({reading.label for reading in self.readings.values() if reading is not None}) == 1

    def row(self) -> dict[str, Any]:
        """Returns the completion's line in audit.jsonl."""
        readings = {name: reading and dataclasses.asdict(reading) for name, reading in self.readings.items()}
        plain = {"question_id": self.question_id, "index": self.index, "gold": self.gold}
        return {**plain, "completion": self.completion, "readings": readings}


@dataclasses.dataclass
class Audit:
    """All readings of a run's completions. `silent`: number of completions without math-verify's verdict, by reason."""

    audited: list[Audited]
    silent: dict[str, int]

    def disagreements(self) -> list[Audited]:
        """Returns the completions on which readers disagree, in order."""
        return [item for item in self.audited if not item.agreed]

    def summary(self, examples: int = 10) -> str:
        """Returns Markdown: the readers' labels, the agreement of each two readers, and the first disagreements.

        `examples`: how many disagreements to show.
        """
        parts = [f"{len(self.audited):,} completions", self._labels(), self._agreement()]
        parts += [f"math-verify: {count:,} completions without a verdict ({why})" for why, count in self.silent.items()]
        differing = self.disagreements()
        if differing and examples:
            parts.append(f"The first {min(examples, len(differing)):,} of {len(differing):,} disagreements:")
            parts.append(_examples(differing[:examples]))
        return "\n\n".join(parts)

    def _labels(self) -> str:
        rows = []
        for name in READERS:
            found = Counter(reading.label for item in self.audited if (reading := item.readings[name]) is not None)
            if found:
                total = found.total()
                rows.append([name, *(f"{found[label]:,} ({per_cent(found[label], total)} %)" for label in LABELS)])
        return markdown(["reader", *LABELS], rows)

    def _agreement(self) -> str:
        rows = []
        for left, right_name in itertools.combinations(READERS, 2):
            pairs = [
                (first.label, second.label)
                for item in self.audited
                if (first := item.readings[left]) is not None and (second := item.readings[right_name]) is not None
            ]
            if pairs:
                right = [(first == POSITIVE, second == POSITIVE) for first, second in pairs]
                rows.append(
                    [
                        f"{left}, {right_name}",
                        f"{len(pairs):,}",
                        _share(sum(first == second for first, second in pairs), len(pairs)),
                        _share(sum(first == second for first, second in right), len(pairs)),
                        f"{right.count((True, False)):,}",
                        f"{right.count((False, True)):,}",
                    ]
                )
        headings = ["readers", "completions", "same label (%)", "same verdict (%)"]
        return markdown([*headings, "right for the first only", "right for the second only"], rows)


def audit_completions(
    questions: Sequence[Question],
    completions: Sequence[Completion],
    task: Task,
    *,
    symbolic_limit: int = SYMBOLIC_LIMIT,
    time_limit: float = 5.0,
) -> Audit:
    """Reads every completion with the task's extractor, the lenient one and (if installed) math-verify.

    Args:
        questions: the questions of the completions.
        symbolic_limit: most completions that math-verify reads, evenly spaced. Each takes about a millisecond.
        time_limit: seconds that math-verify may take for one completion.
    """
    by_id = {question.id: question for question in questions}
    marker = getattr(task, "marker", None)
    installed = math_verify_installed()
    step = max(1, -(-len(completions) // symbolic_limit)) if symbolic_limit > 0 else 0
    audited, silent = [], Counter[str]()
    with Progress("audit", len(completions), "completion") as progress:
        for position, completion in enumerate(completions):
            question = by_id[completion.question_id]
            lenient = lenient_answer(completion.completion, question.answer, question.options, marker)
            symbolic: Reading | str = NOT_INSTALLED
            if installed:
                asked = step and position % step == 0
                symbolic = _symbolic(completion, question, symbolic_checker(), time_limit) if asked else NOT_ASKED
            if isinstance(symbolic, str):
                silent[symbolic] += 1
            readings = {
                TASK: _reading(grade(task, completion, question)),
                LENIENT: _reading(grade_answer(task, lenient, question)),
                MATH_VERIFY: symbolic if isinstance(symbolic, Reading) else None,
            }
            audited.append(Audited(question.id, completion.index, question.answer, completion.completion, readings))
            progress.update()
    return Audit(audited, dict(silent))


def _reading(graded: Verdict) -> Reading:
    return Reading(graded.answer, graded.reason, graded.label)


def _symbolic(completion: Completion, question: Question, checker: SymbolicChecker, time_limit: float) -> Reading | str:
    """Returns math-verify's reading, or the reason why there is none."""
    letters = LETTERS[: len(question.options)] if question.options else ""
    value = normalise_number(question.answer)
    if not letters and value is None and _WORDS.fullmatch(question.answer):
        return NOT_MATHS
    gold = _in_latex(value) if value is not None and not letters else question.answer
    graded = checker.grade(completion.completion, gold, letters=letters, time_limit=time_limit)
    if graded is None:
        return NO_REPLY
    right, answer = graded
    if answer is None:
        return Reading(None, "math-verify found no answer", UNPARSED)
    return Reading(answer, None, POSITIVE if right else NEGATIVE)


def _in_latex(value: Fraction) -> str:
    text = format_number(value)
    numerator, slash, denominator = text.partition("/")
    return rf"\frac{{{numerator}}}{{{denominator}}}" if slash else text


def _share(count: int, total: int) -> str:
    low, high = wilson(count, total)
    return f"{100 * count / total:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def _examples(audited: Sequence[Audited]) -> str:
    rows = []
    for one in audited:
        readings = [one.readings[name] for name in READERS]
        cells = [
            ABSENT if item is None else f"{(item.answer or item.reason or '')[:_SHOWN]} ({item.label})"
            for item in readings
        ]
        name, end = f"{one.question_id} #{one.index}", f"…{one.completion[-_TAIL:]}"
        rows.append([name, one.gold, *cells, end])
    return markdown(["completion", "gold", *READERS, "ends with"], rows)
