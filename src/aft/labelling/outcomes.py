"""What became of a seed's samples: shares to compare with limits, and the likeliest cause where a limit is reached."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..answers import NO_BOX, NO_MARKER, Extraction
from ..grading import Grader, Verdict, read_answer
from ..markdown import per_cent
from ..records import Completion, Question
from ..tasks.base import Task

# Ways to end a chain that pretrained models bring along. Each is a marker that `data.answer_marker` could name.
_OWN_FORMAT = re.compile(r"(####|[Tt]he answer is|Answer:|\[ANS\])[\s:*]*[($]?[-+]?(?:\d|[A-H]\b)")
# Below this share of ended completions, they say nothing about the rest.
_FEW = 0.1
_HEAD, _TAIL = 40, 100


@dataclass(frozen=True)
class Outcomes:
    """Counts of a seed's completions, duplicates among them, and of the questions that have completions.

    `unmarked`: unparsed because the marker (or the box) is absent. `unmarked_cut`: those of them that the length limit
    cut. `unmarked_formats`: of those that ended, by the other format in which they give an answer. `empty`: only white
    space. `all_wrong`: questions without a right completion. `all_right`: questions without a wrong or unparsed one.
    """

    questions: int = 0
    completions: int = 0
    unparsed: int = 0
    truncated: int = 0
    empty: int = 0
    unmarked: int = 0
    unmarked_cut: int = 0
    unmarked_formats: dict[str, int] = field(default_factory=dict)
    all_wrong: int = 0
    all_right: int = 0

    def shares(self) -> dict[str, float]:
        """Each limited count as a share of the completions or questions. A share of nothing is absent."""
        found: dict[str, float] = {}
        if self.completions:
            found |= {name: getattr(self, name) / self.completions for name in ("unparsed", "truncated")}
        if self.questions:
            found |= {name: getattr(self, name) / self.questions for name in ("all_wrong", "all_right")}
        return found

    def reached(self, limits: Mapping[str, float | None]) -> dict[str, float]:
        """The limits that a share is at or above."""
        shares = self.shares()
        return {name: limit for name, limit in limits.items() if limit is not None and shares.get(name, -1) >= limit}

    def describe(self, name: str) -> str:
        """Returns one share in words."""
        kind = "questions" if name.startswith("all") else "completions"
        count, total = getattr(self, name), getattr(self, kind)
        return f"{count:,} of {total:,} {kind} {name.replace('_', ' ')} ({per_cent(count, total)} %)"


def count_outcomes(
    completions: Sequence[Completion], questions: Sequence[Question], grader: Grader
) -> tuple[Outcomes, list[Completion]]:
    """Returns the counts, and examples in order: the unparsed completions, else the wrong ones, else all.

    Costs nothing where `grader` has labelled the completions already.
    """
    by_id = {question.id: question for question in questions}
    verdicts = [grader.grade(completion, by_id[completion.question_id]) for completion in completions]
    by_question: dict[str, list[bool]] = {}
    for completion, verdict in zip(completions, verdicts, strict=True):
        by_question.setdefault(completion.question_id, []).append(verdict.is_correct)
    counts, unparsed = _count_answers(completions, verdicts)
    counts = dataclasses.replace(
        counts,
        questions=len(by_question),
        all_wrong=sum(not any(rights) for rights in by_question.values()),
        all_right=sum(all(rights) for rights in by_question.values()),
    )
    wrong = [completion for completion, verdict in zip(completions, verdicts, strict=True) if not verdict.is_correct]
    return counts, unparsed or wrong or list(completions)


def count_completions(
    completions: Sequence[Completion], questions: Sequence[Question], task: Task
) -> tuple[Outcomes, list[Completion]]:
    """Returns the counts of completions, without those of questions, and examples in order.

    No answer is compared with a gold answer. Examples are the unparsed completions, else the cut ones, else all.
    """
    by_id = {question.id: question for question in questions}
    answers = [read_answer(task, completion, by_id[completion.question_id]) for completion in completions]
    counts, unparsed = _count_answers(completions, answers)
    return counts, unparsed or [completion for completion in completions if completion.truncated] or list(completions)


def _count_answers(
    completions: Sequence[Completion], answers: Sequence[Verdict | Extraction]
) -> tuple[Outcomes, list[Completion]]:
    """Returns the counts of completions, and the unparsed ones."""
    pairs = list(zip(completions, answers, strict=True))
    unparsed = [completion for completion, found in pairs if found.answer is None]
    unmarked = [completion for completion, found in pairs if _lacks_marker(found)]
    formats: dict[str, int] = {}
    for completion in unmarked:
        if not completion.truncated and (own := _OWN_FORMAT.findall(completion.completion)):
            formats[own[-1]] = formats.get(own[-1], 0) + 1
    counts = Outcomes(
        completions=len(completions),
        unparsed=len(unparsed),
        truncated=sum(completion.truncated for completion in completions),
        empty=sum(not completion.completion.strip() for completion in completions),
        unmarked=len(unmarked),
        unmarked_cut=sum(completion.truncated for completion in unmarked),
        unmarked_formats=formats,
    )
    return counts, unparsed


def _lacks_marker(found: Verdict | Extraction) -> bool:
    return found.answer is None and found.reason in (NO_MARKER, NO_BOX)


def outcomes_from_json(value: Mapping[str, Any]) -> Outcomes:
    """Returns the counts that `dataclasses.asdict` made. Unknown keys are ignored."""
    names = {item.name for item in dataclasses.fields(Outcomes)}
    return Outcomes(**{name: count for name, count in value.items() if name in names})


@dataclass(frozen=True)
class Setting:
    """How the completions were sampled. `marker`: None if the task has several, or none."""

    model: str
    temperature: float
    max_new_tokens: int
    marker: str | None


@dataclass(frozen=True)
class Diagnosis:
    """The likeliest cause of poor samples, and the configuration keys to change."""

    cause: str
    change: str


def diagnose(found: Outcomes, setting: Setting, reached: Collection[str]) -> Diagnosis:
    """Returns the likeliest cause of the limits in `reached`. Depends on the counts and the setting alone."""
    malformed = _most(found.unparsed, found.completions) or _most(found.truncated, found.completions)
    if not malformed and not {"unparsed", "truncated"} & set(reached):
        if "all_wrong" in reached:
            return Diagnosis(
                "answers are found, and they are wrong: the questions are hard for this model",
                "vft.training (more steps), a lower sample.temperature, or a larger sample.num_samples",
            )
        return Diagnosis(
            "the questions are easy for this model",
            "a higher sample.temperature, a larger sample.num_samples, or harder questions in data",
        )
    marker = f"the marker {setting.marker}" if setting.marker else "the marker"
    ended = found.completions - found.truncated
    unmarked_ended = found.unmarked - found.unmarked_cut
    own, count = max(found.unmarked_formats.items(), key=lambda item: item[1], default=("", 0))
    if found.unparsed and _most(found.empty, found.unparsed):
        return Diagnosis(
            "the model writes nothing: the prompt is not one that it answers", "prompt.template or prompt.chat"
        )
    if count and _most(count, unmarked_ended):
        cause = f"{count:,} of {unmarked_ended:,} that end without {marker} give an answer after '{own}'"
        return Diagnosis(f"{cause}: the model has a format of its own", f'data.answer_marker: "{own}"')
    if setting.temperature > 1:
        return Diagnosis(f"temperature {setting.temperature:g} draws unlikely tokens", "a lower sample.temperature")
    many_cut = "truncated" in reached or _most(found.truncated, found.completions)
    if many_cut and _most(found.truncated - found.unmarked_cut, found.truncated):
        return Diagnosis(
            "the model writes on after its answer: its end token is another one, or it has not learnt it",
            "eos_token in the model's tokenizer_config.json" + _more_vft(setting, ", or "),
        )
    if _most(found.truncated, found.completions):
        if ended < _FEW * found.completions:
            return Diagnosis(
                f"hardly any chain ends within {setting.max_new_tokens} tokens",
                "a larger sample.max_new_tokens; if that does not help, eos_token in the model's tokenizer_config.json",
            )
        if not _most(unmarked_ended, ended):
            return Diagnosis(
                f"chains that end hold {marker}, and most are longer than {setting.max_new_tokens} tokens",
                "a larger sample.max_new_tokens",
            )
    many_unparsed = "unparsed" in reached or _most(found.unparsed, found.completions)
    if many_unparsed and _most(found.unmarked, found.unparsed):
        if setting.model == "base":
            return Diagnosis(
                f"the base model was not trained to write {marker}",
                "sample.model: vft, or data.answer_marker to what the base model writes before its answer",
            )
        return Diagnosis(
            f"{marker} is not learnt: VFT had too few steps, or the samples stray from it"
            if setting.model == "vft"
            else f"{setting.model} strays from {marker}: its training changed it too much",
            f"{_more_vft(setting)}, or a lower sample.temperature",
        )
    if many_unparsed:
        return Diagnosis(
            f"what stands after {marker} is no answer of this task",
            f"{_more_vft(setting) or 'sample.model: vft'}, or a lower sample.temperature",
        )
    return Diagnosis("many chains are longer than the limit", "a larger sample.max_new_tokens")


def _most(part: int, whole: int) -> bool:
    return 2 * part >= whole


def _more_vft(setting: Setting, before: str = "") -> str:
    if setting.model == "base":
        return ""
    if setting.model != "vft":  # of a later round: it had learnt it before
        return f"{before}align.training (fewer steps or a lower learning_rate)"
    return f"{before}vft.training (a larger num_train_epochs or learning_rate)"


def excerpt(text: str) -> str:
    """Returns the beginning and the end of a text in one line. Control characters are escaped."""

    def escape(part: str) -> str:
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in part)

    if len(text) <= _HEAD + _TAIL:
        return escape(text)
    return f"{escape(text[:_HEAD])} … {escape(text[-_TAIL:])}"
