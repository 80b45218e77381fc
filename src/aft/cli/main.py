"""Shared by all commands: arguments, exit codes, and errors without a traceback."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from .. import __version__
from ..ending import Ended, listening
from ..errors import AftError, ConfigError, disk_error, first_line, is_of_another_process, memory_error, nearest
from ..shown import libraries_shown, shown, shown_line

EPILOG = """\
Any key of the file can be set on the command line, where it beats the file: key=value, --key value or --key=value,
with dots for sections: align.loss.constraint.name=detached. Values are YAML: seeds=[0,1,2].

exit codes: 0 done, 1 the run failed, 2 the configuration is wrong, 3 a data file is wrong, 4 another run is at work in
the folder, 5 the disk is full, read-only, gone or failing, 128 + number a signal ended it (130 SIGINT, 143 SIGTERM,
129 SIGHUP)
"""


class Parser(argparse.ArgumentParser):
    """Shows what is wrong with an argument as `shown`: a name of a file may be among the arguments."""

    def error(self, message: str) -> NoReturn:
        super().error(shown_line(message))


def parse(
    program: str, description: str, arguments: Sequence[str] | None, *, add: Callable[[argparse.ArgumentParser], None]
) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed arguments, and the remaining ones: overrides of the configuration."""
    parser = Parser(
        prog=program,
        description=description,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{program} --config FILE [options] [key=value ...]",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", required=True, help="YAML file of the run, or a name such as quickstart"
    )
    add_version(parser)
    add(parser)
    known, rest = parser.parse_known_args(arguments)
    actions = [action for action in parser._actions if action.option_strings and action.help != argparse.SUPPRESS]
    flags = [action.option_strings[-1] for action in actions]
    for argument in rest:
        key = argument.partition("=")[0]
        # `--stge vft` is a misspelt flag and an error here. `--seed 3` is a misspelt key: the configuration reports it.
        if key.startswith("--") and "." not in key and nearest(key, flags):
            options = [*flags, *(f"--{name}" for name in _sections())]
            if any(nearest(key, options) == nearest(key, [flag]) for flag in flags):
                raise ConfigError(f"{program}: unknown option {key}.{nearest(key, flags)}")
    return known, rest


def add_version(parser: argparse.ArgumentParser) -> None:
    """Adds `--version`, which prints the version and ends."""
    parser.add_argument("--version", action="version", version=f"aft {__version__}", help="print the version and end")


def _sections() -> list[str]:
    from dataclasses import fields

    from ..config import Config

    return [field.name for field in fields(Config)]


def guarded(main: Callable[[], None]) -> int:
    """Runs a command and returns its exit code. An error that the user can fix becomes a message, as does a signal.

    All that a command and its libraries show is `shown`: errors, tracebacks, warnings and log messages.
    """
    with libraries_shown():
        return _guarded(main)


def _guarded(main: Callable[[], None]) -> int:
    try:
        with listening():
            main()
            sys.stdout.flush()  # inside the `try`: flushing fails if the reader of a pipe has ended
    except AftError as error:
        return _fail(error)
    except Ended as ended:
        # A launcher ends all ranks with a signal, also when one has failed. Nothing is imported here: the signal may
        # have come within an import, and what it left half done cannot be imported again.
        claim = getattr(sys.modules.get("aft.progress"), "claim_failure", None)
        if claim is None or claim(None):
            print(shown(f"aft: {ended}; the same command goes on from here"), file=sys.stderr)
        return ended.exit_code
    except KeyboardInterrupt:  # raised by code of the user's
        return 130
    except BrokenPipeError:
        # the reader of our output has ended, as in `aft-report ... | head`
        _mute(sys.stdout)
        return 141
    except Exception as error:
        from ..progress import tell_failure

        if (found := disk_error(error) or memory_error(error)) is not None:
            return _fail(found)
        if is_of_another_process(error):
            return _fail(
                AftError(f"another process of this launch has ended or hangs: {first_line(error)}"), follows=True
            )
        # a bug: report the traceback, because a launcher's own output would bury it
        lines = traceback.format_exception(error)
        if tell_failure("".join(lines[-4:]).rstrip(), 1):
            print(shown("".join(lines)), end="", file=sys.stderr)
        return 1
    return 0


def _fail(error: AftError, *, follows: bool = False) -> int:
    """Prints the message of an error, also to the conductor, and returns its exit code.

    `follows`: see `tell_failure`. Of the processes of a launch, only the first to fail prints.
    """
    from ..progress import tell_failure

    try:
        sys.stdout.flush()
    except OSError:
        _mute(sys.stdout)  # Python would try again at its end, and replace the exit code
    # text from outside may have line feeds: no further line begins as one of ours
    message = re.sub(r"\n(?=\S)", "\n  ", str(error))
    try:
        if tell_failure(str(error), error.exit_code, follows=follows):
            print(shown(f"aft: error: {message}"), file=sys.stderr, flush=True)
    except OSError:
        _mute(sys.stderr)
    return error.exit_code


def _mute(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
