"""Shared by all commands: arguments, exit codes, and errors without a traceback."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from .. import __version__
from ..ending import Ended, listening
from ..errors import AftError, ConfigError, nearest

EPILOG = """\
Any key of the file can be set on the command line, where it beats the file: key=value, --key value or --key=value,
with dots for sections: align.loss.constraint.name=detached. Values are YAML: seeds=[0,1,2].

exit codes: 0 done, 1 the run failed, 2 the configuration is wrong, 3 a data file is wrong, 4 another run is at work in
the folder, 128 + number a signal ended it (130 SIGINT, 143 SIGTERM, 129 SIGHUP)
"""


def parse(
    program: str, description: str, arguments: Sequence[str] | None, *, add: Callable[[argparse.ArgumentParser], None]
) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed arguments, and the remaining ones: overrides of the configuration."""
    parser = argparse.ArgumentParser(
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
    """Runs a command and returns its exit code. An error that the user can fix becomes a message, as does a signal."""
    try:
        with listening():
            main()
            sys.stdout.flush()  # inside the `try`: flushing fails if the reader of a pipe has ended
    except AftError as error:
        from ..progress import tell_failure

        print(f"aft: error: {error}", file=sys.stderr)
        tell_failure(str(error), error.exit_code)
        return error.exit_code
    except Ended as ended:
        print(f"aft: {ended}; the same command goes on from here", file=sys.stderr)
        return ended.exit_code
    except KeyboardInterrupt:  # raised by code of the user's
        return 130
    except BrokenPipeError:
        # the reader of our output has ended, as in `aft-report ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        from ..progress import tell_failure

        # a bug, or for example no memory left: report the traceback, because a launcher's own output would bury it
        tell_failure("".join(traceback.format_exception(error)[-4:]).rstrip(), 1)
        raise
    return 0
