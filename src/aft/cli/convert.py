"""aft-convert: converts groups to data sets of TRL and LLaMA-Factory, and TRL's preference sets to groups."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import ConfigError, DataError, nearest
from ..run.folder import RunFolder
from ..shown import shown, shown_line
from .main import Parser, add_version, guarded

if TYPE_CHECKING:
    from ..config.schema import PromptConfig
    from ..convert import Prompts, Selection
    from ..records import Group

_Item = TypeVar("_Item")

PREFERENCE, UNPAIRED, COMPLETION, RANKING, GROUPS = TARGETS = (
    "preference",
    "unpaired",
    "prompt-completion",
    "llama-factory-ranking",
    "groups",
)
# The targets of each option. An option has no effect with any other target, so it is rejected there.
_OF_PAIRS, _FROM_GROUPS = (PREFERENCE, RANKING), TARGETS[:-1]
OPTIONS: Mapping[str, Sequence[str]] = {
    "template": TARGETS,
    "conversational": (PREFERENCE, UNPAIRED, COMPLETION),
    "system": _FROM_GROUPS,
    "pairs": _OF_PAIRS,
    "min_rating_gap": _OF_PAIRS,
    "seed": _OF_PAIRS,
    "threshold": (UNPAIRED,),
    "completions": (COMPLETION,),
    "drop_truncated": _FROM_GROUPS,
    "ratings": (GROUPS,),
    "skip_unusable": (GROUPS,),
}
EPILOG = """\
exit codes: 0 done, 1 the command failed, 2 an argument is wrong, 3 a data file is wrong
formats, options and what is counted: docs/convert.md
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    sys.exit(guarded(lambda: _main(arguments)))


def _main(arguments: Sequence[str] | None) -> None:
    convert(parse_arguments(arguments))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the checked arguments. Raises `ConfigError` for unknown options or values and options without effect."""
    known, rest = _parser().parse_known_args(arguments)
    if rest:
        flags = [f"--{name.replace('_', '-')}" for name in ("to", "overwrite", *OPTIONS)]
        raise ConfigError(f"unknown argument {rest[0]}.{nearest(rest[0].partition('=')[0], flags)}")
    if problems := _wrong_values(known) or _useless(known):
        raise ConfigError(problems)
    return known


def _wrong_values(known: argparse.Namespace) -> list[str]:
    from ..convert.pairs import SELECTIONS
    from ..convert.preferences import RATINGS
    from ..convert.rows import COMPLETIONS

    allowed = {"to": TARGETS, "pairs": SELECTIONS, "completions": COMPLETIONS, "ratings": RATINGS}
    problems = [
        f"--{name}: got '{value}', allowed: {', '.join(values)}.{nearest(value, values)}"
        for name, values in allowed.items()
        if (value := getattr(known, name)) is not None and value not in values
    ]
    if known.min_rating_gap is not None and not 0 <= known.min_rating_gap < math.inf:
        problems.append(f"--min-rating-gap: must be at least 0 and finite, got {known.min_rating_gap}")
    if known.threshold is not None and not math.isfinite(known.threshold):
        problems.append(f"--threshold: must be finite, got {known.threshold}")
    return problems


def _useless(known: argparse.Namespace) -> list[str]:
    """Returns a problem for each given option without effect: the user probably meant something else."""
    problems = [
        f"--{name.replace('_', '-')}: only with --to {' or '.join(targets)}, not with {known.to}"
        for name, targets in OPTIONS.items()
        if getattr(known, name) is not None and known.to not in targets
    ]
    if known.system is not None and known.to in OPTIONS["conversational"] and not known.conversational:
        problems.append("--system: only with --conversational; a text has no turns")
    if known.seed is not None and known.to in _OF_PAIRS and known.pairs != "one":
        problems.append("--seed: only with --pairs one, which draws")
    return problems


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="aft-convert",
        description="Write groups as a data set of TRL or LLaMA-Factory, or read a TRL preference set as groups.",
        usage="aft-convert --to FORMAT INPUT OUTPUT [options]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_version(parser)
    add = parser.add_argument
    add("input", metavar="INPUT", type=_path, help="groups.jsonl; with --to groups a preference set")
    add("output", metavar="OUTPUT", type=_path, help=".jsonl, or .json for a list; .gz behind it packs")
    add("--to", metavar="FORMAT", required=True, help=", ".join(TARGETS))
    add("--overwrite", action="store_true", help="replace OUTPUT if it is there")
    add("--template", type=_unescaped, help="text around {question}; \\n is a line feed (default: docs/convert.md)")
    add("--conversational", action="store_true", default=None, help="lists of messages instead of texts")
    add("--system", metavar="TEXT", help="a system turn before the question")
    add("--pairs", metavar="WHICH", help="all (default), covering, best-worst or one")
    add("--min-rating-gap", metavar="GAP", type=float, help="a pair's ratings differ by more than this (default: 0)")
    add("--seed", type=int, help="of --pairs one (default: 0)")
    add("--threshold", metavar="RATING", type=float, help="label is true above it (default: 0.5 for ratings 0 and 1)")
    add("--completions", metavar="WHICH", help="both (default), references, positives or best")
    add("--drop-truncated", action="store_true", default=None, help="leave out candidates that the length limit cut")
    add("--ratings", metavar="FROM", help="scores (default), where the rows have them, or order")
    add("--skip-unusable", action="store_true", default=None, help="leave out, and count, what no group can hold")
    return parser


def _path(text: str) -> Path:
    from ..config.build import path_problem

    if problem := path_problem(text):
        raise argparse.ArgumentTypeError(problem)
    return Path(text)


def _unescaped(text: str) -> str:
    r"""Replaces `\n`, `\t` and `\\` in a template: a shell passes `\n` on as two characters."""
    return re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t", "\\": "\\"}[match[1]], text)


def convert(known: argparse.Namespace) -> None:
    """Reads, converts and writes the data, and prints the counts."""
    from ..convert.files import LINES, LIST, check_output

    if known.to == GROUPS:
        check_output(known.output, known.input, [LINES, f"{LINES}.gz"], overwrite=known.overwrite)
        _to_groups(known)
        return
    packed = [] if known.to == RANKING else [f"{LINES}.gz", f"{LIST}.gz"]  # LLaMA-Factory does not read .gz
    check_output(known.output, known.input, [LINES, LIST, *packed], overwrite=known.overwrite)
    _from_groups(known)


def _from_groups(known: argparse.Namespace) -> None:
    from ..convert.files import add_description, describe, write_rows
    from ..convert.rows import completion_rows, preference_rows, ranking_rows, unpaired_rows
    from ..records import iter_groups

    (prompts, told), selection = _prompts(known), _selection(known)
    drop = bool(known.drop_truncated)
    makers = {
        PREFERENCE: lambda groups: preference_rows(groups, prompts, selection),
        RANKING: lambda groups: ranking_rows(groups, prompts, selection),
        UNPAIRED: lambda groups: unpaired_rows(groups, prompts, threshold=known.threshold, drop_truncated=drop),
        COMPLETION: lambda groups: completion_rows(
            groups, prompts, completions=known.completions or "both", drop_truncated=drop
        ),
    }
    masked = _Masked()
    rows, counts = makers[known.to](masked.counting(_watched("converting", iter_groups(known.input), "group")))
    _tell({**counts, **masked.lost()})
    if not rows:
        raise DataError(f"{known.input}: nothing to write, the counts say why")
    description = describe(known.output, rows[0], overwrite=known.overwrite) if known.to == RANKING else None
    write_rows(known.output, _watched("writing", rows, "row"))
    print(shown(f"wrote {known.output}, {told}"))
    if description is not None:
        print(shown(f"wrote {add_description(known.output, description)}"))


class _Masked:
    """Counts the candidates whose mask is lost: a mask is of token ids, and rows hold texts."""

    def __init__(self) -> None:
        self.count = 0

    def counting(self, groups: Iterable[Group]) -> Iterator[Group]:
        """Yields the groups."""
        for group in groups:
            self.count += sum(candidate.response_mask is not None for candidate in group.candidates)
            yield group

    def lost(self) -> dict[str, int]:
        """What to tell: nothing where no candidate has a mask."""
        return {"candidates with a response_mask, which is not written": self.count} if self.count else {}


def _prompts(known: argparse.Namespace) -> tuple[Prompts, str]:
    """Returns the prompt format, and a text for the user that says what it is and where it comes from."""
    from ..config.schema import PromptConfig
    from ..convert.rows import Prompts
    from ..prompts import PLACEHOLDER

    conversational = bool(known.conversational)
    turns = conversational or known.to == RANKING
    system = known.system
    if known.template is not None:
        template, origin = known.template, "--template"
    else:
        config = _run_config(known.input)
        section = PromptConfig() if config is None else _read_prompt(config)
        template, origin = section.template, f"prompt.template of {config}"
        if config is None:
            origin = "the default of prompt.template: INPUT lies in no run's folder"
        if turns and section.chat:
            system = section.system if system is None else system
        elif turns:
            # a tool with its own chat turns adds the text around the question itself
            template, origin = PLACEHOLDER, "the default of turns"
        elif section.chat:
            origin += ", whose prompt.chat makes a turn of it: --conversational"
    told = f"prompts as {template!r} ({origin})"
    told += "" if system is None else f" behind the system turn {system!r}"
    return Prompts(template, conversational, system), told


def _run_config(source: Path) -> Path | None:
    """Returns the configuration of the run whose groups or pool file `source` is, or None."""
    path = Path(os.path.abspath(source))
    run = RunFolder.around(path)
    unit = run.unit_of(path) if run else None
    if run is None or unit is None or path not in (run.groups(unit.seed, unit.name), run.pool(unit.seed)):
        return None
    return Path(os.path.relpath(run.config)) if run.config.is_file() else None


def _read_prompt(config: Path) -> PromptConfig:
    from ..config import load_config

    try:
        return load_config(config).prompt
    except ConfigError as error:
        told = f"--template: not given, so prompt.template was looked for in {config}"
        raise ConfigError([told, *error.problems]) from None


def _selection(known: argparse.Namespace) -> Selection:
    from ..convert.rows import Selection

    return Selection(known.pairs or "all", known.min_rating_gap or 0.0, known.seed or 0, bool(known.drop_truncated))


def _to_groups(known: argparse.Namespace) -> None:
    from ..convert.files import read_rows, write_rows
    from ..convert.preferences import preference_groups
    from ..prompts import PLACEHOLDER

    template = PLACEHOLDER if known.template is None else known.template
    imported = preference_groups(
        _watched("reading", read_rows(known.input), "row"),
        template=template,
        ratings=known.ratings or "scores",
        skip_unusable=bool(known.skip_unusable),
        name=known.input.name.partition(".")[0],
    )
    _tell(imported.counts)
    if imported.unread:
        print(shown_line(f"columns not read: {', '.join(imported.unread)}"))
    if imported.unread_keys:
        found = (f"{key} ({count:,} rows)" for key, count in imported.unread_keys.items())
        print(shown_line(f"keys of messages not read: {', '.join(found)}"))
    if not imported.groups:
        raise DataError(f"{known.input}: nothing to write, the counts say why")
    write_rows(known.output, _watched("writing", imported.groups, "group"))
    chat = ", chat: true" if imported.conversational else ""
    system = f", system: {json.dumps(imported.system, ensure_ascii=False)}" if imported.system else ""
    print(shown(f"wrote {known.output}"))
    told = (
        f"a run on it needs prompt: {{template: {json.dumps(template, ensure_ascii=False)}{chat}{system}}}"
        " and, as there are no references, align: {supervise: reference_and_positives}"
    )
    print(shown(told))


def _watched(what: str, items: Iterable[_Item], unit: str) -> Iterator[_Item]:
    """Yields the items. Shows a progress bar after three seconds."""
    from ..progress import Progress

    with Progress(what, len(items) if isinstance(items, Sequence) else 0, unit, delay=3.0) as progress:
        for item in items:
            yield item
            progress.update()


def _tell(counts: Mapping[str, int]) -> None:
    width = max(len(f"{count:,}") for count in counts.values())
    print(shown("\n".join(f"{count:>{width},}  {shown_line(name)}" for name, count in counts.items())))


if __name__ == "__main__":
    main()
