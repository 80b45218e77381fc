"""The prompt of a judge, and the score in its reply. Only handles text."""

from __future__ import annotations

import re
from pathlib import Path

from ...endpoint import Failure
from ...errors import ConfigError, nearest
from ...text_files import Unreadable, read_text

# The wording is ours: the paper describes the kind of prompt and does not give its text.
BUILT_IN = """\
You mark solutions of a problem. Below are the problem, its right final answer, a reference solution that is right, \
and the candidate solution that you mark. The candidate need not go the way of the reference: judge whether its own \
steps are right.

First write your evidence. Go through the candidate step by step, and say of every step whether it is right or wrong; \
of a wrong one, say what is wrong about it. A step is wrong if it computes or concludes wrongly, misreads the problem, \
or leaves out something that the answer needs. One that only carries an earlier mistake along is not wrong once more.

Then give the score. Start at {max_score} and take off one point for every wrong step, but do not go below \
{min_score}. The last line of your reply must be the score and nothing else, in exactly this form:
Score: N

[Problem]
{question}

[Right final answer]
{answer}

[Reference solution]
{reference}

[Candidate solution]
{completion}

[Evidence step by step, then the score]
"""

UNKNOWN = "(none is known)"
_NEEDED = ("question", "completion")
_FIELDS = (*_NEEDED, "reference", "answer", "min_score", "max_score")
_FIELD = re.compile(r"\{(\w+)\}")
# Markdown characters that may surround a line
_MARKUP = " \t*_#>`"
_SCORE = re.compile(r"([-+]?\d+(?:\.\d+)?)(?: ?(?:/|out of) ?(\d+(?:\.\d+)?))?\.?", re.ASCII)


def read_template(path: str | None) -> str:
    """Returns the text of a prompt file, or the built-in prompt if `path` is None.

    Raises `ConfigError` if the file cannot be read, lacks a field, has a misspelt field, or does not ask for a score.
    """
    if path is None:
        return BUILT_IN
    key = f"label.ratings.prompt: {path}"
    try:
        template = read_text(path, 2**20)
    except FileNotFoundError:
        raise ConfigError(f"label.ratings.prompt: no file {path} (looked in {Path.cwd()})") from None
    except Unreadable as error:
        raise ConfigError(f"{key} is {error}") from None
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror or error}") from None
    found = set(_FIELD.findall(template))
    problems = [f"{key} has no {{{name}}}" for name in _NEEDED if name not in found]
    # only names close to a field are misspelt: other braces may belong to the text
    misspelt = [name for name in sorted(found) if name not in _FIELDS and nearest(name, _FIELDS)]
    problems += [f"{key} has an unknown field {{{name}}}.{nearest(name, _FIELDS)}" for name in misspelt]
    if "score:" not in template.casefold():
        problems.append(f"{key} does not ask for a last line 'Score: N', where the score is read")
    if problems:
        raise ConfigError(problems)
    return template


def render(
    template: str,
    *,
    question: str,
    reference: str | None,
    completion: str,
    answer: str,
    min_score: float,
    max_score: float,
) -> str:
    """Returns the template with its fields filled in. It is one pass, so that braces in a candidate's text stay."""
    values = {
        "question": question,
        "reference": UNKNOWN if reference is None else reference,
        "completion": completion,
        "answer": answer,
        "min_score": f"{min_score:g}",
        "max_score": f"{max_score:g}",
    }
    return _FIELD.sub(lambda match: values.get(match[1], match[0]), template)


def read_score(reply: str, min_score: float, max_score: float) -> float:
    """Returns the score in a judge's reply. Raises `Failure` with the reason if there is no valid score.

    The last line that begins with `Score:` is read, without surrounding Markdown. After the colon there must be a
    number, for example 7 or 7.5. Only `/10` or `out of 10`, with the highest score, may follow it. Evidence must come
    before the score: any text that is not another score.
    """
    if not reply.strip():
        raise Failure("no text")
    lines = [line.strip(_MARKUP) for line in reply.splitlines()]
    scored = [place for place, line in enumerate(lines) if re.match(r"score[ *_`]*:", line, re.IGNORECASE)]
    if not scored:
        raise Failure("no score", f"the reply ends: {lines[-1][-100:]!r}")
    line = lines[scored[-1]]
    match = _SCORE.fullmatch(line.partition(":")[2].strip(_MARKUP))
    if match is None or (match[2] is not None and float(match[2]) != max_score):
        raise Failure("no score", f"no number as its score: {line[:100]!r}")
    evidence = (earlier for place, earlier in enumerate(lines[: scored[-1]]) if place not in scored)
    if not any(re.search(r"\w", earlier) for earlier in evidence):
        raise Failure("no evidence before the score")
    score = float(match[1])
    if not min_score <= score <= max_score:
        raise Failure("score out of scale", f"{score:g}, not from {min_score:g} to {max_score:g}")
    return score
