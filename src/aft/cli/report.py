"""aft-report: writes tables and pictures of a run, a table of the paper from several runs, or a harness task."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..shown import shown
from .main import Parser, add_version, guarded, parse

if TYPE_CHECKING:
    from ..stages.plan import Plan


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    sys.exit(guarded(lambda: _main(arguments)))


def _main(arguments: Sequence[str] | None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(argument.partition("=")[0] == "--table" for argument in arguments):
        _paper_table(arguments)
        return
    known, overrides = parse(
        "aft-report",
        "Write report.html, report.md, report.json, report.csv and pictures of a run from what it has measured.",
        arguments,
        add=_add,
    )
    if known.all and not known.html:
        raise ConfigError("--all: only with --html; it puts every question into report.html")
    from ..config import load_config
    from ..run.folder import RunFolder
    from ..run.lock import tell_holder

    config = load_config(known.config, overrides)
    if known.export_lm_eval is None:
        # a run at work is read as it is, and its report is written anew when it ends
        if holder := tell_holder(RunFolder(config.output_dir)):
            print(shown(f"aft: note: {holder}"), file=sys.stderr)
        if known.html:
            from ..report.build import write_html

            folder = Path(config.output_dir)
            _tell_written([write_html(folder, picture=not known.no_picture, everything=known.all)])
        else:
            print_report(Path(config.output_dir), picture=not known.no_picture)
        return
    from ..convert.lm_eval import export_lm_eval

    _tell_written(export_lm_eval(config, Path(known.export_lm_eval)))


def _paper_table(arguments: Sequence[str]) -> None:
    from ..paper.write import write_table

    known = parse_table(arguments)
    suffix = f"-{known.suffix}" if known.suffix else ""
    text, written = write_table(known.table, known.runs, known.output or known.runs[0], known.format, suffix)
    print(shown(text))
    _tell_written(written)


def _tell_written(paths: Sequence[Path]) -> None:
    print(shown("\n".join(f"wrote {path}" for path in paths)))


def parse_table(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses the arguments of `aft-report --table`, which takes run folders and no configuration."""
    from ..paper.specs import SPECS
    from ..paper.write import FORMATS

    parser = Parser(
        prog="aft-report",
        description="One of the paper's tables from run folders, beside the paper's figures, and the claims it tests.",
        usage="aft-report --table NAME RUN [RUN ...] [options]",
        allow_abbrev=False,
    )
    add_version(parser)
    parser.add_argument("--table", choices=list(SPECS), required=True, metavar="NAME", help=", ".join(SPECS))
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run that has been evaluated")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="further files to write (markdown)")
    parser.add_argument("--output", metavar="DIR", help="where the files go (the first run's folder)")
    parser.add_argument("--suffix", metavar="TEXT", default="", help="the methods called NAME-TEXT, such as lr0.001")
    return parser.parse_args(arguments)


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        metavar="NAME",
        help="a table of the paper from run folders, as in aft-report --table 2 RUN; --table NAME --help tells more",
    )
    parser.add_argument("--no-picture", action="store_true", help="leave the pictures out")
    parser.add_argument("--html", action="store_true", help="write report.html alone")
    parser.add_argument(
        "--all", action="store_true", help="with --html: every question, not a sample; the page is large"
    )
    parser.add_argument(
        "--export-lm-eval",
        metavar="DIR",
        help="write the run's questions as a task of the lm-evaluation-harness into DIR, and no report",
    )


def print_report(folder: Path, *, picture: bool = True) -> None:
    """Writes the report of a run folder. Prints its table and the paths of the files."""
    from ..report.build import write_report
    from ..report.read import read_report
    from ..report.terminal import summary_table

    written = write_report(folder, picture=picture)
    print(shown(summary_table(read_report(written[0]))), end="\n\n")
    _tell_written(written)


def track_report(plan: Plan) -> None:
    """Adds the report that was just written to the trackers of the run's trainings, if it has any."""
    from ..report.figures import mean_figures, seed_figures
    from ..report.page import main_rows
    from ..report.read import read_report
    from ..stages.tracking import add_report, find_trackers

    if names := find_trackers(plan):
        report = read_report(plan.run.report("json"))
        add_report(plan, names, main_rows(report), mean_figures(report), seed_figures(report))


if __name__ == "__main__":
    main()
