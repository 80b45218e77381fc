"""The worker process of `symbolic`: reads one JSON request a line, writes one reply a line. Imports math-verify."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from typing import Any

from ..ending import end_with_parent

_PR_SET_PDEATHSIG = 1
_MEMORY = 4 * 2**30  # bytes of address space; without a limit, 9^9^9 would take all memory


def main() -> None:
    """Serve requests until standard input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # output of the engine must not mix with replies
    _limit_memory()
    _end_with_parent()
    logging.disable()
    import math_verify

    print("{}", file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if hasattr(signal, "setitimer"):
            # The caller normally kills a late worker. If the caller is gone, this signal ends the worker.
            signal.setitimer(signal.ITIMER_REAL, request["time_limit"] + 10)
        try:
            result: Any = _answer(math_verify, request)
        except (Exception, MemoryError, RecursionError):  # third-party code on untrusted text may raise anything
            result = None
        print(json.dumps({"result": result}), file=replies, flush=True)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no `resource`: only the time limit applies
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _end_with_parent() -> None:
    """Ends this process with the one that started it, also in the midst of a computation.

    On Linux the kernel sees to it: a thread would wait while 9^9^9 is computed. It looks at the thread that started
    this process, so the main thread must have done that.
    """
    if sys.platform == "linux" and os.environ.get("AFT_STARTED_BY") == "main":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    end_with_parent()  # sees also a parent that ended before


def _answer(math_verify: Any, request: dict[str, Any]) -> Any:
    if request["letters"]:
        choices = [math_verify.StringExtractionConfig(strings=tuple(request["letters"]))]
        found = math_verify.parse(_bare_letters(request["completion"]), extraction_config=choices, parsing_timeout=None)
        letter = found[0].upper() if found else None
        return [letter == request["gold"], letter]
    gold, found = _parse(math_verify, f"${request['gold']}$"), _parse(math_verify, request["completion"])
    right = bool(math_verify.verify(gold, found, timeout_seconds=None)) and not _far(gold, found)
    return [right, str(found[-1]) if found else None]


# A letter as a choice: (A), [A], A), A. and A:, and a box or bold around it. math-verify finds letters between spaces.
_MARKED = re.compile(
    r"(?<![\w(\[{])(?:\*\*|\\boxed ?)?[(\[{] ?([A-Za-z]) ?[)\]}]|(?<![\w'’])([A-Z])[.:](?!\w)|(?<!\w)([A-Za-z])\)"
)


def _bare_letters(text: str) -> str:
    return _MARKED.sub(lambda match: f" {next(group for group in match.groups() if group).upper()} ", text)


_CLOSE = 1e-6  # of the larger value: math-verify takes numbers as equal from six decimals on, whatever their size


def _far(gold: list[Any], found: list[Any]) -> bool:
    """True if both are numbers, and no two of them are close: 1/2^99 is not 1/2^98."""
    left, right = _values(gold), _values(found)
    if not left or not right:
        return False
    return all(abs(a - b) > _CLOSE * max(abs(a), abs(b)) for a in left for b in right)


def _values(parsed: list[Any]) -> list[Any]:
    """The numbers in what math-verify has read, with 30 digits; empty if anything is no real number."""
    expressions = [item for item in parsed if not isinstance(item, str)]
    if not all(getattr(item, "is_number", False) and item.is_real for item in expressions):
        return []
    return [item.evalf(30) for item in expressions]


def _parse(math_verify: Any, text: str) -> list[Any]:
    return math_verify.parse(text, parsing_timeout=None)


if __name__ == "__main__":
    main()
