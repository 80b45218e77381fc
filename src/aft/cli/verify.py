"""aft-verify: compares the files of a run folder with its manifests, and its numbers with its files."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AftError, ConfigError, DataError
from ..shown import shown
from .main import add_version, guarded

if TYPE_CHECKING:
    from ..run.folder import RunFolder, Unit
    from ..run.integrity import Integrity
    from ..stages.plan import Plan

EPILOG = """\
The folder may have been moved or copied. Nothing in it is changed, and no model is loaded.

exit codes: 0 all that was checked is right, 1 there is no run, 2 an argument is wrong, 3 a file or a number is wrong
"""

DAMAGED, WRONG, STRAY = "damaged", "wrong numbers", "not configured"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    sys.exit(guarded(lambda: _main(arguments)))


def _main(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        prog="aft-verify",
        description="Check every file of a run against its manifests, and compute its numbers again from its files.",
        usage="aft-verify RUN [--load-data]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_version(parser)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run")
    parser.add_argument(
        "--load-data",
        action="store_true",
        help="compute numbers again also where the data come from the hub or from Python code that the run names",
    )
    known = parser.parse_args(arguments)
    verify(known.run, load_data=known.load_data)


@dataclasses.dataclass
class _Row:
    """A line of the table, with what is wrong and what could not be checked."""

    name: str
    files: str = "–"
    numbers: str = "–"
    verdict: str = "good"
    wrong: list[str] = dataclasses.field(default_factory=list)
    unchecked: list[str] = dataclasses.field(default_factory=list)

    def damaged(self, lines: Sequence[str], verdict: str = DAMAGED) -> None:
        """Adds what is wrong."""
        if lines:
            self.wrong += lines
            self.verdict = verdict


def verify(folder: Path, *, load_data: bool = False) -> None:
    """Prints a table of the units of a run. Raises `DataError` if a file or a number is wrong.

    `load_data`: use the network, and run code that the run names, if its data need that.
    """
    from ..markdown import aligned
    from ..progress import Progress
    from ..run.folder import RunFolder
    from ..run.integrity import Integrity
    from ..run.lock import tell_holder

    run = RunFolder(folder)
    units = run.units()
    if not units:
        raise AftError(f"{folder}: no run folder, it has no unit")
    if holder := tell_holder(run):
        print(shown(f"aft: note: {holder}"), file=sys.stderr)
    rows = [_check_run_files(run)]
    plan, reasons = _plan(run, load_data=load_data)
    integrity = Integrity(verify=True)
    with Progress("verifying", len(units) + 1, "unit", delay=3.0) as progress:
        for unit in units:
            rows.append(_check_unit(unit, integrity, plan, reasons))
            progress.update(note=str(unit))
        rows += [*_absent(plan, units), *_check_rounds(plan), _check_report(run)]
        progress.update(note="report")
    print(
        shown(aligned(("unit", "files", "numbers", "verdict"), [(r.name, r.files, r.numbers, r.verdict) for r in rows]))
    )
    unchecked = dict.fromkeys([*reasons, *(f"{row.name}: {line}" for row in rows for line in row.unchecked)])
    for heading, lines in (("not checked", unchecked), ("wrong", [f"{r.name}: {x}" for r in rows for x in r.wrong])):
        if lines:
            print(shown(f"\n{heading}:\n" + "\n".join(f"  {line}" for line in lines)))
    if any(row.wrong for row in rows):
        raise DataError("\n".join([f"{folder}: not all of it is right. To go on:", *_how_to_go_on(run, plan, rows)]))


def _how_to_go_on(run: RunFolder, plan: Plan | None, rows: Sequence[_Row]) -> list[str]:
    command = f"aft-train --config {shlex.quote(str(run.config))} {shlex.quote(f'output_dir={run.path}')}"
    strays = _strays(run, plan)
    found = {STRAY if row.verdict == DAMAGED and row.name in strays else row.verdict for row in rows if row.wrong}
    lines = {
        DAMAGED: f"put the files back, or run: {command} --repair",
        STRAY: f"move away the folder of each damaged unit that {run.config.name} does not have",
        WRONG: f"move the folder of a unit with wrong numbers away and run: {command}; the report is then new too",
    }
    return [f"  {lines[verdict]}" for verdict in lines if verdict in found]


def _strays(run: RunFolder, plan: Plan | None) -> set[str]:
    """The names of the units with a folder that the configuration does not have: no command makes them again."""
    from ..run.folder import STAGES_OF_UNITS

    if plan is None:
        return set()
    return {str(unit) for unit in {*run.units()}.difference(*(plan.units(stage) for stage in STAGES_OF_UNITS))}


def _check_run_files(run: RunFolder) -> _Row:
    """The files of the whole run, which no manifest lists: they can only be read."""
    from ..json_files import read_json

    row = _Row("the run")
    files = (run.environment, run.data)
    for path in files:
        try:
            if read_json(path) is None:
                row.unchecked.append(f"{path.name} is absent")
        except DataError as error:
            row.damaged([f"{str(error).partition('. ')[0]}; the next run writes it again"])
    row.files = f"{sum(path.is_file() for path in files)} can be read" if not row.wrong else "damaged"
    return row


def _plan(run: RunFolder, *, load_data: bool) -> tuple[Plan | None, list[str]]:
    """The plan of a run whose numbers can be computed again, or None and the reasons."""
    from ..config import load_config
    from ..launch.preflight import find_unseen
    from ..stages.plan import Plan

    if not run.config.is_file():
        return None, [f"numbers: {run.config.name} is absent"]
    try:
        config = load_config(run.config)
    except (ConfigError, DataError) as error:
        return None, [f"numbers: {str(error).splitlines()[0]}"]
    if not load_data and (unseen := find_unseen(config.data, what="aft-verify without --load-data")):
        return None, [f"numbers: {line}" for line in unseen]
    plan = Plan(dataclasses.replace(config, output_dir=str(run.path)))
    try:
        plan.task.fingerprint()
    except (ConfigError, DataError) as error:
        return None, [f"numbers: {str(error).splitlines()[0]}"]
    return plan, []


def _check_unit(unit: Unit, integrity: Integrity, plan: Plan | None, reasons: Sequence[str]) -> _Row:
    from ..run.integrity import unverified
    from ..run.manifest import is_cut, read_manifest
    from ..stages.recompute import recompute

    row = _Row(str(unit))
    row.damaged(integrity.damages(unit))
    manifest = None if row.wrong else read_manifest(unit.manifest)
    if row.wrong:
        row.files = f"{len(row.wrong)} wrong"
        return row
    if manifest is None:
        row.verdict = "unfinished"
        if not is_cut(unit.folder):
            row.damaged([f"{unit.manifest.name} is missing, and {unit.folder} does not say that the unit was cut"])
        return row
    sized = unverified(manifest)
    row.files = f"{len(manifest['outputs']) - len(sized)} as written" + (f", {len(sized)} by size" if sized else "")
    if sized:
        row.unchecked.append(f"content of {', '.join(sized)}: the manifest of an earlier version has its size alone")
    if plan is None:
        row.numbers = "not checked"
        return row
    try:
        changed, others = plan.changed_settings(unit, manifest["inputs"]), plan.changed_reads(unit, manifest["inputs"])
        if changed or others:
            row.numbers, row.verdict = "not checked", "outdated"
            why = f"not the settings of config.yaml: {changed[0]}" if changed else f"{', '.join(others)} changed since"
            row.unchecked.append(f"numbers: {why}")
            return row
        found = recompute(plan, unit, manifest)
    except (DataError, ConfigError) as error:
        row.damaged([str(error).splitlines()[0]], WRONG)
        return row
    row.numbers = f"{found.numbers:,} computed again"
    row.unchecked += found.unchecked
    row.damaged(found.wrong, WRONG)
    return row


def _absent(plan: Plan | None, units: Sequence[Unit]) -> list[_Row]:
    """The configured units that have no folder."""
    there = set(units)
    wanted = [unit for stage in plan.stages() for unit in plan.units(stage)] if plan else []
    return [_Row(str(unit), verdict="absent") for unit in wanted if unit not in there]


def _check_rounds(plan: Plan | None) -> list[_Row]:
    """What rounds.json says, against the validation of the rounds."""
    from ..json_files import read_json
    from ..stages.recompute import Recomputed

    if plan is None or plan.num_rounds == 1:
        return []
    row, name = _Row("rounds"), plan.run.rounds.name
    written = read_json(plan.run.rounds)
    if written is None:
        row.verdict = "absent"
        return [row]
    found = Recomputed()
    found.compare(name, written, plan.describe_rounds())
    row.numbers = f"{found.numbers:,} computed again"
    row.damaged(found.wrong, WRONG)
    return [row]


def _check_report(run: RunFolder) -> _Row:
    from ..report.recheck import recheck_report
    from ..stages.recompute import Recomputed

    row, name = _Row("report"), run.report("json").name
    if not run.report("json").exists():
        row.verdict = "absent"
        return row
    try:
        written, computed, notes = recheck_report(run.path)
    except (AftError, KeyError, TypeError, ValueError) as error:
        row.damaged([f"{name}: {str(error).splitlines()[0]}"])
        return row
    found = Recomputed()
    found.compare(name, written, computed)
    row.numbers = f"{found.numbers:,} computed again" if written else "not checked"
    row.unchecked += notes
    row.damaged(found.wrong, WRONG)
    return row


if __name__ == "__main__":
    main()
