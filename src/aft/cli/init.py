"""aft-init: prints a commented configuration to start from."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, nearest
from ..shown import shown
from .main import Parser, add_version, guarded

EPILOG = """\
Without TASK: jsonl, for data of your own. python: a task as a class of your own.
models that aft has a file for, which the configuration then extends:
{models}

exit codes: 0 done, 2 an argument is wrong
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    sys.exit(guarded(lambda: _main(arguments)))


def _main(arguments: Sequence[str] | None) -> None:
    from ..config.packaged import MODEL_NAMES, model_file_names
    from ..config.starter import DEFAULT_MODEL, TASK_NAMES, starter

    models = textwrap.fill(
        ", ".join(name.removeprefix("models/") for name in model_file_names()), 100, break_on_hyphens=False
    )

    parser = Parser(
        prog="aft-init",
        description="Print a commented configuration to start from: aft-init gsm8k > run.yaml.",
        usage="aft-init [TASK] [--model NAME] [--chat]",
        epilog=f"tasks: {', '.join(TASK_NAMES)}\n{EPILOG.format(models=models)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_version(parser)
    parser.add_argument("task", metavar="TASK", nargs="?", default="jsonl", help="the task, one of those below")
    parser.add_argument("--model", metavar="NAME", help="hub name or folder of the base model, or one of those below")
    parser.add_argument("--chat", action="store_true", help="for a model with a chat template")
    known = parser.parse_args(arguments)
    if known.task not in TASK_NAMES:
        problem = f"TASK: got '{known.task}', allowed: {', '.join(TASK_NAMES)}.{nearest(known.task, TASK_NAMES)}"
        raise ConfigError(f"aft-init: {problem}")
    names = [name.removeprefix("models/") for name in model_file_names()]
    model = known.model or DEFAULT_MODEL
    if "/" not in model and model not in (*names, *MODEL_NAMES) and not Path(model).is_dir():
        hint = nearest(model, names)
        print(shown(f"aft-init: note: '{model}' is no model that aft has a file for.{hint}"), file=sys.stderr)
    print(shown(starter(known.task, known.model, chat=known.chat)), end="")


if __name__ == "__main__":
    main()
