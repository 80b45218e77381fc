"""The log file of a worker: its output as it is shown, without endless repetition, of bounded size, with its end."""

from __future__ import annotations

import re
from pathlib import Path

from ..shown import shown

LONGEST_LINE = 2**20  # characters; a longer line is read in parts
_LONGEST_LOG = 32 * 2**20  # characters
_LONGEST_REST = 16 * 2**20
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_BAR = 300  # characters; the pattern below takes the square of a line's length
_LONGEST_BAR = 500  # characters; the pattern below takes the square of a line's length
# A progress bar of tqdm as it is shown: with a total, without one, or cut. What a process writes next may follow on its
# line. A bar below another ends with moves up.
_BAR = re.compile(
    r"^(?:.*?(?:"
    r"\d+%\|[\u2588-\u258f#\d ]*\|\s*\S+/\S+ \[[^\]]*\]"
    r"|\b\d\S* \[\d+:\d\d[^\]]*(?:/s|s/)[^\]]*\]"
    r"|\d+%\|[\u2588-\u258f#\d ]*(?:\|.*)?$"
    r")(?:\s*\\x1b\[A)*|(?:\s*\\x1b\[A)+)"
)


def shown_output(line: str) -> str:
    """Returns a line of a worker's output as it is shown: without colours, every other control character escaped."""
    return shown(_COLOUR.sub("", line))


def without_bar(line: str) -> str:
    """Returns what a line says besides a progress bar: "" for a bar alone, the line itself if it has none."""
    if len(line) > _LONGEST_BAR:
        return line
    if len(line) > _LONGEST_BAR:
        return line
    rest = _BAR.sub("", line, count=1)
    return line if rest == line else rest.strip()


class LogFile:
    """Writes lines at once. Equal lines in a row are written once and counted.

    After `longest` characters, the file `PATH.rest` has what follows, and the first file says so. At `longest_rest`
    characters it becomes `PATH.rest.before`, in place of an earlier one, and begins anew: the end is always kept.
    """

    def __init__(self, path: Path, longest: int = _LONGEST_LOG, longest_rest: int = _LONGEST_REST) -> None:
        self._rest, self._before = (path.with_name(f"{path.name}.{end}") for end in ("rest", "rest.before"))
        for former in (self._rest, self._before):
            former.unlink(missing_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._last, self._repeated, self._left, self._longest_rest = "", 0, longest, longest_rest

    def write(self, line: str) -> bool:
        """Writes a line with its line feed. Returns False if the line before was the same."""
        if line == self._last and line.strip():
            self._repeated += 1
            return False
        self._count()
        self._last = line
        self._put(line)
        return True

    def close(self) -> None:
        """Writes the number of repetitions, if there are any, and closes the file."""
        self._count()
        self._file.close()

    def _count(self) -> None:
        if self._repeated:
            self._put(f"(the line above stands for {self._repeated + 1:,} equal lines)\n")
        self._repeated = 0

    def _put(self, text: str) -> None:
        if self._left <= 0:
            self._go_on()
        self._left -= len(text)
        self._file.write(text)
        self._file.flush()

    def _go_on(self) -> None:
        """Goes on in `PATH.rest`, begun anew."""
        if self._rest.exists():
            self._rest.replace(self._before)
        else:
            self._file.write(
                f"(this log has reached its limit; the end of the output is in {self._rest.name}, what is right before"
                f" it in {self._before.name} if there is one; the middle may be left out)\n"
            )
        self._file.close()
        self._file = self._rest.open("w", encoding="utf-8")
        self._left = self._longest_rest
