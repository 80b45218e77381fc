"""The log file of a worker: its output as it is shown, without endless repetition, of bounded size."""

from __future__ import annotations

import re
from pathlib import Path

from ..shown import shown

LONGEST_LINE = 2**20  # characters; a longer line is read in parts
_LONGEST_LOG = 64 * 2**20  # characters
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def shown_output(line: str) -> str:
    """Returns a line of a worker's output as it is shown: without colours, every other control character escaped."""
    return shown(_COLOUR.sub("", line))


class LogFile:
    """Writes lines at once. Equal lines in a row are written once and counted.

    After `longest` characters nothing more is written. A line in the file says so, as one does of a count.
    """

    def __init__(self, path: Path, longest: int = _LONGEST_LOG) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._last, self._repeated, self._left = "", 0, longest

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
            return
        self._left -= len(text)
        if self._left <= 0:
            text += "(the log has reached its limit; what follows is left out)\n"
        self._file.write(text)
        self._file.flush()
