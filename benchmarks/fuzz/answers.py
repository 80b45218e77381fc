"""The readers of final answers. They promise: no error on any text, and linear time."""

from __future__ import annotations

from aft import answers
from aft.tasks.kinds import with_options

MARKER = "[ANS]"
SEEDS = [
    b"1 + 1 = 2\n[ANS] 2",
    "[ANS] $1,234.50 per hour\0two thirds\0(B) 3½ km".encode(),
    b"so \\boxed{\\frac{1}{2}} or 50\\%\0x = 3\0A) one",
    b"[ANS] the answer is (C), not D\0A\0B\0C\0D",
    b"12:30 pm 3/4 1e5 -7 7th 1,000,000 0.5 \\sqrt{2} \\text{cm}",
]
WORDS = [
    *(
        "[ANS]",
        "\\boxed{",
        "\\frac{",
        "\\dfrac",
        "\\text{",
        "\\left(",
        "$",
        "%",
        "½",
        "(A)",
        "option",
        "answer",
        "1,000",
    ),
    *("1e9", "/", "million", "dozen", "^{", "_{", "\\\\", "{,}", "≈", "−", "\u00a0", "²", "٣"),
]


def one(data: bytes) -> None:
    """Reads the first text as a completion and the others as options or gold answers."""
    # half of a surrogate pair reaches the readers too: a JSON file can hold one
    halves = data[:1] == b"\xff"
    decoded = (
        data[1 : len(data) // 2 * 2 - 1].decode("utf-16-le", "surrogatepass")
        if halves
        else data.decode("utf-8", "replace")
    )
    text, *others = decoded.split("\0")
    options = [other for other in others if other.strip()][:8] or ["1", "2"]
    read = [
        answers.extract_number(text, MARKER).answer,
        answers.extract_choice(text, MARKER, options).answer,
        answers.extract_text(text, MARKER).answer,
        answers.extract_boxed(text).answer,
        answers.extract_latex(text).answer,
    ]
    for answer in (*read, text):
        if answer is not None:
            answers.numbers_equal(answer, options[0])
            answers.latex_equal(answer, options[0])
            answers.texts_equal(answer, options[0])
    if read[0] is not None and not answers.numbers_equal(read[0], read[0]):
        raise AssertionError(f"the number {read[0]!r} does not equal itself")
    if read[4] is not None and not answers.latex_equal(read[4], read[4]):
        raise AssertionError(f"the LaTeX {read[4]!r} does not equal itself")
    with_options(text, options)
