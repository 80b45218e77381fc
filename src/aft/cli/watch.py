"""aft-watch: shows in a terminal what a run does, from the files of its folder alone."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..ending import Ended
from ..errors import ConfigError
from .main import Parser, add_version, guarded

if TYPE_CHECKING:
    from rich.console import Console

    from ..watch.snapshot import Watcher

EPILOG = """\
It only reads, so it can be started and ended at any time, also before a run starts and after a run ended. Without a
terminal, as in a pipe, it prints what there is now and ends.

exit codes: 0 it was ended (q or Ctrl-C) or has printed what there is, 2 an argument is wrong
"""

_KEYS = "q ends this view, not the run"
_SECONDS_BETWEEN_KEYS = 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    sys.exit(guarded(lambda: _main(arguments)))


def _main(arguments: Sequence[str] | None) -> None:
    parser = Parser(
        prog="aft-watch",
        description="Show plan, progress, loss, scores, speed, time to go and memory of a run.",
        usage="aft-watch RUN [--once] [--every SECONDS]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_version(parser)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run")
    parser.add_argument("--once", action="store_true", help="print what there is now and end")
    parser.add_argument(
        "--every", metavar="SECONDS", type=float, default=1.0, help="time between two looks at the files (1)"
    )
    known = parser.parse_args(arguments)
    if known.run.exists() and not known.run.is_dir():
        raise ConfigError(f"{known.run}: not a folder; aft-watch takes the output_dir of a run")
    if not known.every >= _SECONDS_BETWEEN_KEYS:
        raise ConfigError(f"--every: {known.every:g}, must be {_SECONDS_BETWEEN_KEYS:g} or more")
    watch(known.run, once=known.once, every=known.every)


def watch(folder: Path, *, once: bool, every: float) -> None:
    """Shows a run until `q` or Ctrl-C, or prints it once."""
    from rich.console import Console

    from ..watch.snapshot import Watcher

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal shows no curve, and the numbers all the same
    console, watcher = Console(), Watcher(folder)
    # rich takes a pipe for a terminal where FORCE_COLOR is set
    if once or not (console.is_terminal and sys.stdout.isatty()):
        _print(watcher, console)
        return
    try:
        _follow(watcher, console, every)
    except Ended as ended:
        if ended.name != "SIGINT":
            raise


def _print(watcher: Watcher, console: Console) -> None:
    from ..watch.screen import draw

    for line in draw(watcher.look(), console.width):
        console.print(line, no_wrap=True, crop=True, soft_wrap=False)


def _follow(watcher: Watcher, console: Console, every: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from ..watch.screen import draw

    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            lines = draw(watcher.look(), console.width, max(1, console.height - 1))
            lines += [Text()] * (console.height - 1 - len(lines))
            live.update(Group(*lines, Text(_KEYS[: console.width], style="dim")), refresh=True)
            begun = time.monotonic()
            size = console.size
            # a terminal of another size is drawn again at once
            while time.monotonic() - begun < every and console.size == size:
                if "q" in pressed(_SECONDS_BETWEEN_KEYS).lower():
                    return


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Yields a function that waits for keys, at most so many seconds, and returns those that were pressed."""
    try:
        import select
        import termios
        import tty

        descriptor = sys.stdin.fileno() if sys.stdin.isatty() else None
    except (ImportError, OSError, ValueError):  # Windows, or a closed standard input
        descriptor = None
    if descriptor is None:
        yield _no_keys
        return
    before = termios.tcgetattr(descriptor)

    def keys(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 100).decode("ascii", "replace") if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield keys
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _no_keys(seconds: float) -> str:
    time.sleep(seconds)
    return ""


if __name__ == "__main__":
    main()
