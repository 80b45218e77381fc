"""The worker process of `symbolic`: reads one JSON request a line, writes one reply a line. Imports math-verify."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any

_MEMORY = 4 * 2**30  # bytes of address space; without a limit, 9^9^9 would take all memory


def main() -> None:
    """Serve requests until standard input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # output of the engine must not mix with replies
    _limit_memory()
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


def _answer(math_verify: Any, request: dict[str, Any]) -> Any:
    if request["letters"]:
        # math-verify finds a letter only between spaces, so "(A)" needs a string of its own beside "A".
        strings = tuple(form for letter in request["letters"] for form in (f"({letter})", letter))
        choices = [math_verify.StringExtractionConfig(strings=strings)]
        found = math_verify.parse(request["completion"], extraction_config=choices, parsing_timeout=None)
        letter = found[0].strip("()").upper() if found else None
        return [letter == request["gold"], letter]
    gold, found = _parse(math_verify, f"${request['gold']}$"), _parse(math_verify, request["completion"])
    return [bool(math_verify.verify(gold, found, timeout_seconds=None)), str(found[-1]) if found else None]


def _parse(math_verify: Any, text: str) -> list[Any]:
    return math_verify.parse(text, parsing_timeout=None)


if __name__ == "__main__":
    main()
