"""When a case survived: the same files as the uncut run, or one line that says what was wrong, and nothing lost."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

SURVIVED, LOST, SKIPPED = "survived", "lost", "skipped"

# of an address that a connection may go to: the judge's server of a case
_HERE = re.compile(r"\('(127\.0\.0\.1|::1)'|'(127\.0\.0\.1|localhost|::1)'|b'(127\.0\.0\.1|localhost)'")
_RAW = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ERROR = re.compile(r"^aft(-\w+)?: error: .", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """How a case ended. `detail`: for a lost case what happened, for a skipped one why."""

    verdict: str
    detail: str = ""


@dataclass
class Ended:
    """A finished command. `code` is negative after a signal, as in `subprocess`; None if it had to be killed."""

    code: int | None
    out: str
    err: str
    seconds: float
    audit: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Processes of the command that were still there when it had ended, and were then killed."""

    @property
    def text(self) -> str:
        """All that the command printed."""
        return self.out + self.err


def flaws(ended: Ended, *, secret: str | None = None) -> list[str]:
    """Returns what no command may do, however it ends."""
    found = []
    if ended.code is None:
        found.append(f"hung for {ended.seconds:.0f} s")
    if "Traceback (most recent call last)" in ended.text:
        lines = [line for line in ended.text.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
        found.append(f"traceback: {(lines or ended.text.splitlines())[-1][:200]}")
    if raw := _RAW.search(ended.text):
        found.append(f"raw control character {raw[0]!r}")
    if secret is not None and secret in ended.text:
        found.append("the key was shown")
    found += [f"contact: {line}" for line in ended.audit if not _HERE.search(line)][:3]
    found += [f"process left: {line}" for line in ended.left][:3]
    return found


def refused(ended: Ended, codes: Collection[int]) -> list[str]:
    """Returns what is missing from an orderly refusal: one of these exit codes and a line that says why."""
    found = []
    if ended.code is not None and ended.code not in codes:
        found.append(f"exit code {ended.code}, not {' or '.join(map(str, sorted(codes)))}: {last_line(ended)}")
    if ended.code and ended.code > 0 and not _ERROR.search(ended.err):
        found.append(f"no line 'aft: error: …': {last_line(ended)}")
    return found


def done(ended: Ended) -> list[str]:
    """Returns why the command did not end well."""
    return [] if ended.code in (0, None) else [f"exit code {ended.code}: {last_line(ended)}"]


def last_line(ended: Ended) -> str:
    """The last line of the command's errors, cut short."""
    lines = [line for line in ended.err.splitlines() if line.strip()] or ended.out.splitlines() or ["no word"]
    return lines[-1][:200]


def result(found: list[str]) -> Result:
    """A case with these flaws."""
    return Result(LOST, "; ".join(dict.fromkeys(found))) if found else Result(SURVIVED)
