"""The kinds of answers of tasks. A kind writes an answer after a chain, extracts it from a completion, compares it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..answers import (
    LETTERS,
    Extraction,
    extract_boxed,
    extract_choice,
    extract_latex,
    extract_number,
    extract_text,
    latex_equal,
    normalise_number,
    normalise_text,
    numbers_equal,
    texts_equal,
)
from ..records import Question


@dataclass(frozen=True)
class AnswerKind:
    """One kind of answer, as four functions.

    `write(rationale, marker, answer)`: the reference response.
    `extract(completion, marker, question)`: the final answer, or why there is none.
    `equal(answer, question)`: True if an extracted answer equals the gold answer.
    `problem(question)`: what is wrong with the gold answer, or None.
    """

    write: Callable[[str, str, str], str]
    extract: Callable[[str, str, Question | None], Extraction]
    equal: Callable[[str, Question], bool]
    problem: Callable[[Question], str | None]


def _behind_marker(rationale: str, marker: str, answer: str) -> str:
    # The paper's example has a period (`[ANS] 36.`). It is left out here: the extracted answer is the same, and the
    # period would add a nearly certain token to the mean log-prob of a response.
    return f"{rationale}\n{marker} {answer}"


def _letter_behind_marker(rationale: str, marker: str, answer: str) -> str:
    # The letter has brackets because a bare C could be the text of another option.
    return _behind_marker(rationale, marker, f"({answer})")


def _boxed(rationale: str, marker: str, answer: str) -> str:
    if extract_boxed(rationale).answer == answer:
        return rationale
    return f"{rationale}\n\\boxed{{{answer}}}"


def _extract_choice(completion: str, marker: str, question: Question | None) -> Extraction:
    if question is None or question.options is None:
        raise ValueError("a choice cannot be read without its question's options")
    return extract_choice(completion, marker, question.options)


def _choices_equal(answer: str, question: Question) -> bool:
    """True for the gold letter and for the letter of an option with exactly the gold option's text.

    Texts must be equal exactly, because options may differ only in case or quotation marks.
    """
    if answer == question.answer:
        return True
    texts = dict(zip(LETTERS, map(str.strip, question.options or ()), strict=False))
    return answer in texts and texts[answer] == texts.get(question.answer)


def _choice_problem(question: Question) -> str | None:
    letters = LETTERS[: len(question.options or ())]
    if len(question.answer) == 1 and question.answer in letters:
        return None
    return f"must be the letter of an option ({', '.join(letters) or 'there are none'}), got {question.answer!r}"


def _number_problem(question: Question) -> str | None:
    return None if normalise_number(question.answer) is not None else f"must be a number, got {question.answer!r}"


def _text_problem(question: Question) -> str | None:
    usable = normalise_text(question.answer) and "\n" not in question.answer.strip()
    return None if usable else f"must be text on one line, got {question.answer!r}"


def _boxed_problem(question: Question) -> str | None:
    found = extract_boxed(f"\\boxed{{{question.answer}}}").answer
    return None if found is not None else f"must be LaTeX with balanced braces, got {question.answer!r}"


KINDS = {
    "number": AnswerKind(
        _behind_marker,
        lambda completion, marker, _: extract_number(completion, marker),
        lambda answer, question: numbers_equal(answer, question.answer),
        _number_problem,
    ),
    "choice": AnswerKind(_letter_behind_marker, _extract_choice, _choices_equal, _choice_problem),
    "text": AnswerKind(
        _behind_marker,
        lambda completion, marker, _: extract_text(completion, marker),
        lambda answer, question: texts_equal(answer, question.answer),
        _text_problem,
    ),
    "boxed": AnswerKind(
        _boxed,
        lambda completion, _, __: extract_latex(completion),
        lambda answer, question: latex_equal(answer, question.answer),
        _boxed_problem,
    ),
}


def with_options(question: str, options: tuple[str, ...]) -> str:
    """The question's text with its options below it, one on each line. Every multiple-choice prompt has this form."""
    lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, "Options:", *lines])
