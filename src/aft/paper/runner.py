"""Makes a table from scratch: base models, grids of learning rates, runs, then the page. Every table script calls it.

Every step is a call of aft-train: finished stages are skipped, interrupted stages resume.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import merge
from ..ending import Ended, tied
from ..errors import AftError, ConfigError
from ..json_files import read_json, temporary_path, write_json, write_text
from ..run.folder import EVERY_SEED, RunFolder
from ..run.lock import hold
from ..shown import shown
from .claims import FEWEST_SEEDS
from .commands import Command, Copy, as_shell, as_slurm, command, judge_note
from .controls import matched_steps
from .forecast import Forecast, forecast, forecast_lines, unfinished
from .methods import CONTROLS, changes, parent
from .rates import at_rate, at_rates, at_rates_of, best_rate, best_rates, grid_page
from .runs import (
    HUB_DATA,
    LABELLED,
    METHOD_RATES,
    RATES,
    SCALES,
    Run,
    page_of,
    plan,
    real_grid,
    seeds_of,
    tuning_seeds_of,
)
from .runs import VFT as VFT_UNIT
from .specs import SPECS
from .vft_rates import mean_accuracy, vft_grid_page
from .write import FORMATS, write_table

EPILOG = """\
Any key=value behind the options goes to every call of aft-train, where it beats the file: align.training.max_steps=5.
Runs lie in OUTPUT/SCALE and are shared by the tables; the table is written beside them.
"""
Step = Command | Copy


class _Waiting(AftError):
    """A later step needs the results of runs that have not been run."""

    def __init__(self, folders: Sequence[Path], what: str, hint: str = "") -> None:
        self.missing = f"{what} of {', '.join(map(str, folders))}"
        super().__init__(f"{self.missing}: not known yet{hint}")


def main(key: str, arguments: Sequence[str] | None = None) -> None:
    """The script of one table."""
    run(key, _parse(key, arguments))


def _parse(key: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=SPECS[key].title,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--scale", choices=SCALES, default="tiny", help="models and data (tiny)")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds that are run (0 1 2; Table 2 from scratch: 0 to 4)")
    tuning = tuning_seeds_of(key)
    shown_seeds = " ".join(map(str, tuning))
    parser.add_argument("--tuning-seeds", type=int, nargs="+", default=tuning, help=f"seeds of grids ({shown_seeds})")
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        help="learning rates of the grids, at --scale small of VFT; one alone is taken as it is",
    )
    parser.add_argument(
        "--method-rates",
        type=float,
        nargs="+",
        help=f"small: those of the methods ({' '.join(map('{:g}'.format, METHOD_RATES))}); one alone is taken as it is",
    )
    parser.add_argument(
        "--same-rate",
        type=float,
        help="beside it the table with this learning rate for every method but the controls of equal work",
    )
    parser.add_argument("--only", nargs="+", metavar="RUN", help="these runs of the table only, by their folder's name")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="small: folder with ecqa/ and gsm8k/, instead of the hub's data"
    )
    parser.add_argument("--page", action="store_true", help="write the table from what has finished, and run nothing")
    parser.add_argument("--output", type=Path, default=Path("runs/tables"), help="folder of all scales (runs/tables)")
    parser.add_argument("--format", choices=FORMATS, default="all", help="files written beside the Markdown (all)")
    parser.add_argument("--print", action="store_true", help="print the commands instead of running them")
    parser.add_argument(
        "--accelerate", action="store_true", help="print a call of accelerate's launcher for each stage"
    )
    parser.add_argument("--slurm", action="store_true", help="print an sbatch script of the commands")
    given = sys.argv[1:] if arguments is None else arguments
    # overrides are taken out first: an option with several values would swallow them
    overrides = [text for text in given if "=" in text and not text.startswith("-")]
    known = parser.parse_args(
        [text for text in given if text not in overrides], argparse.Namespace(overrides=overrides)
    )
    if known.scale not in RATES and (known.rates or known.same_rate):
        raise ConfigError(
            f"--rates, --same-rate: --scale {known.scale} has the paper's learning rate;"
            " training.learning_rate=RATE gives it another"
        )
    if known.scale == "small" and known.same_rate:
        raise ConfigError("--same-rate: --scale small has --method-rates RATE, one learning rate for every method")
    if known.scale != "small" and known.method_rates:
        raise ConfigError("--method-rates: only --scale small takes it; --rates are those of other scales")
    if known.scale != "small" and known.data:
        raise ConfigError(f"--data: only --scale small takes it; data.path=DIR is for --scale {known.scale}")
    return known


def run(key: str, options: argparse.Namespace) -> None:
    """Run or print the steps of a table; after running, write and print it."""
    runs = _chosen(key, options)
    steps = steps_of(runs, options, seeds_of(key, options.scale))
    if _prints(options):
        print(shown(_script(key, runs, steps, options)))
        return
    begun = time.monotonic()
    real = options.scale == "small"
    if real:
        said, found = forecasts(runs, options, seeds_of(key, options.scale))
        print(shown("\n".join([said, *forecast_lines(found)])), flush=True)
        for line in _trials_told(runs, options):
            print(shown(line), flush=True)
    for step in () if options.page else steps:
        _take(step)
    folder, every = options.output / options.scale, _folders(runs, options)
    folders = [path for path in every if evaluated(path)]
    if not folders:
        raise AftError(f"no page yet: nothing has been evaluated in {folder}")
    absent = [f"{path.name}: not evaluated" for path in every if path not in folders]
    part = options.only or ()
    text, written = write_table(
        page_of(key, options.scale),
        folders,
        folder,
        options.format,
        part=part,
        notes=_unfinished(runs, options, seeds_of(key, options.scale)) if real else absent,
    )
    if options.same_rate:
        more = write_table(key, folders, folder, options.format, f"-lr{options.same_rate:g}", part=part)
        text += f"\nAll methods at {options.same_rate:g}:\n\n{more[0]}"
        written += more[1]
    for name, page in _grid_pages(runs, options, seeds_of(key, options.scale)):
        written += [written[0].with_name(f"{written[0].stem}-{name}{ending}") for ending in (".md", ".json")]
        write_text(written[-2], page[0] + "\n")
        write_json(written[-1], page[1])
        text += f"\n{page[0]}\n"
    minutes = f"{(time.monotonic() - begun) / 60:.1f} minutes"
    print(shown("\n".join([text, *(f"wrote {path}" for path in written), minutes])))


def _trials_told(runs: Sequence[Run], options: argparse.Namespace) -> Iterator[str]:
    """Lines on the trials of learning rates that a real model's forecast leaves out."""
    vft, methods = options.rates or RATES[options.scale], options.method_rates or METHOD_RATES
    if len(vft) > 1:
        yield f"  and VFT of one seed a world {len(vft)} times, to choose its learning rate"
    if len(methods) > 1:
        names = max(len(run.methods) for run in runs)
        yield f"  and {names} methods of one seed a world {len(methods)} times, to choose theirs by validation"


def _grid_pages(
    runs: Sequence[Run], options: argparse.Namespace, seeds: Sequence[int]
) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    """Name and page of each grid that has been run: those of VFT, then those of the methods."""
    folder = options.output / options.scale
    for trials, tried, of in _vft_grids(runs, options, seeds):
        page = vft_grid_page({rate: _trial(folder, trials, rate) for rate in tried}, trials.name, of)
        if page is not None:
            yield f"{trials.name}-grid", page
    for grid, methods, tried in _grids(runs, options):
        page = grid_page(folder / grid.name, methods, tried)
        if page is not None:
            yield grid.name, page


def _vft_grids(
    runs: Sequence[Run], options: argparse.Namespace, seeds: Sequence[int]
) -> Iterator[tuple[Run, Sequence[float], Sequence[int]]]:
    """The grids of VFT, with the rates and seeds of each."""
    for trials in dict.fromkeys(run.vft_grid for run in runs if run.vft_grid is not None):
        yield trials, _rates(trials, options), options.tuning_seeds
    for run in runs:
        if run.vft_rates:
            yield _vft_trials(run), _vft_rates(options), seeds[:1]


def _grids(runs: Sequence[Run], options: argparse.Namespace) -> Iterator[tuple[Run, Sequence[str], Sequence[float]]]:
    """The grids of methods whose pages stand below a table, with the methods and rates of each."""
    for grid in dict.fromkeys(run.grid for run in runs if run.grid is not None):
        yield grid, tuned(runs, grid), _rates(grid, options)
    for run in runs:
        if run.vft_rates:
            yield real_grid(run), tuple(dict.fromkeys(map(parent, run.methods))), options.method_rates or METHOD_RATES


def evaluated(folder: Path) -> bool:
    """True if some model of a run has been evaluated."""
    return any(unit.manifest.exists() for unit in RunFolder(folder).units("evaluate"))


def forecasts(runs: Sequence[Run], options: argparse.Namespace, seeds: Sequence[int]) -> tuple[str, list[Forecast]]:
    """What this machine computes in, and a forecast of each run of a real model."""
    folder = options.output / options.scale
    found = []
    for run in runs:
        step = command(run, folder / run.name, options.seeds or seeds, _methods(run), _suited(run, options))
        found.append(forecast(run.name, step.load(), folder / run.name))
    return _precision(options)[1], found


def _unfinished(runs: Sequence[Run], options: argparse.Namespace, seeds: Sequence[int]) -> list[str]:
    """Lines that name the units of a real model's table that are not finished, whatever seeds this call runs."""
    every = argparse.Namespace(**{**vars(options), "seeds": None})
    return [line for found in forecasts(runs, every, seeds)[1] for line in unfinished(found)]


def _precision(options: argparse.Namespace) -> tuple[list[str], str]:
    """Overrides of --scale small for this machine, which come before the user's, and what is said of them."""
    from ..device import precision

    given = [text for text in options.overrides if text.startswith("launch.device=")]
    return precision(given[-1].partition("=")[2] if given else "cpu")


def _suited(run: Run, options: argparse.Namespace) -> list[str]:
    """The overrides of a run: at --scale small those of this machine and its data, then the user's."""
    if options.scale != "small":
        return list(options.overrides)
    data = [f"data.path={options.data / run.name}"] if options.data and run.name in HUB_DATA else []
    return [*_precision(options)[0], *data, *options.overrides]


def _methods(run: Run) -> dict[str, Any]:
    return {name: changes(name) for name in run.methods if name not in CONTROLS}


def _chosen(key: str, options: argparse.Namespace) -> list[Run]:
    runs = plan(key, options.scale)
    if not runs:
        raise AftError(
            f"table {key}: not available at --scale {options.scale}; others have it:"
            f" {', '.join(scale for scale in SCALES if plan(key, scale))}"
        )
    names = list(dict.fromkeys(run.name for run in runs))
    unknown = [name for name in options.only or [] if name not in names]
    if unknown:
        raise ConfigError(f"--only: no run {', '.join(unknown)}; this table has {', '.join(names)}")
    return [run for run in runs if not options.only or run.name in options.only]


def steps_of(runs: Sequence[Run], options: argparse.Namespace, seeds: Sequence[int]) -> Iterator[Step]:
    """The steps of a table. Take each before you ask for the next: a step may need the results of earlier ones.

    Raises `_Waiting` if such a result is missing.
    """
    folder = options.output / options.scale
    given = list(options.overrides)
    for base in dict.fromkeys(run.base for run in runs if run.base is not None):
        yield command(base, folder / base.name, (), {}, given)
    runs = yield from _at_best_rates_of_vft(runs, options)
    grids = dict.fromkeys(run.grid for run in runs if run.grid is not None)
    methods = {grid: {name: changes(name) for name in tuned(runs, grid) if name not in CONTROLS} for grid in grids}
    rates = yield from _tune(methods, options)
    unmatched: list[
        tuple[Run, Sequence[int], dict[str, Any]]
    ] = []  # runs whose controls need the work of other methods first
    for run in runs:
        if run.source is not None and (_prints(options) or (folder / run.source).is_dir()):
            yield Copy(folder / run.source, folder / run.name, run.takes)
        own = _methods(run)
        if run.grid is not None:
            chosen = at_rates_of(own, {name: rates[run.grid][parent(name)] for name in own})
            own = {**chosen, **(at_rates(own, [options.same_rate]) if options.same_rate and not run.tuning else {})}
        wanted = _enough(options.tuning_seeds) if run.tuning else options.seeds or seeds
        if run.vft_rates:
            run = yield from _at_best_vft_rate(run, seeds[0], options)
            own = yield from _at_best_method_rates(run, seeds[0], own, options)
        # all seeds so far are named, so that the report of a call has them
        for number in range(1, len(wanted) + 1) if run.seed_by_seed else [len(wanted)]:
            yield command(run, folder / run.name, wanted[:number], own, _suited(run, options))
        if not CONTROLS.keys().isdisjoint(run.methods):
            unmatched.append((run, wanted, own))
    controls = {run: _matched(run, folder / run.name, wanted) for run, wanted, _ in unmatched}
    # of runs that share a grid, the first says with how many steps its controls are tried
    tried = {run.grid: found for run, found in reversed(controls.items()) if run.grid is not None}
    rates = yield from _tune(tried, options)
    for run, wanted, own in unmatched:
        best = {} if run.grid is None else rates[run.grid]
        matched = {name: at_rate(keys, best[name]) if best else keys for name, keys in controls[run].items()}
        yield command(run, folder / run.name, wanted, {**own, **matched}, given)


def _tune(
    methods: Mapping[Run, Mapping[str, Any]], options: argparse.Namespace
) -> Generator[Step, None, dict[Run, Mapping[str, float]]]:
    """Yields the runs of the grids, then returns the best rate of each method. A single rate is taken without a run."""
    folder = options.output / options.scale
    best: dict[Run, Mapping[str, float]] = {}
    waiting = []
    for grid, own in methods.items():
        tried = _rates(grid, options)
        if len(tried) == 1:
            best[grid] = dict.fromkeys(own, tried[0])
            continue
        names = at_rates(own, tried)
        yield command(grid, folder / grid.name, options.tuning_seeds, names, options.overrides)
        report = read_json(RunFolder(folder / grid.name).report("json"))
        # a report without all these names is left over from another grid
        if report is None or not names.keys() <= {model["name"] for model in report["models"]}:
            waiting.append(folder / grid.name)
        else:
            best[grid] = best_rates(report, list(own), tried)
    if waiting:
        raise _Waiting(waiting, "learning rates")
    return best


def _at_best_rates_of_vft(runs: Sequence[Run], options: argparse.Namespace) -> Generator[Step, None, list[Run]]:
    """Yields the trials of VFT where runs have a grid for it, and copies of the best into the grids of the methods.

    Returns the runs and their grids with the best rate by mean validation accuracy.
    """
    folder, best, waiting = options.output / options.scale, dict[Run, float](), list[Path]()
    for trials in dict.fromkeys(run.vft_grid for run in runs if run.vft_grid is not None):
        found = yield from _try_vft(trials, _rates(trials, options), options.tuning_seeds, options)
        if isinstance(found, list):
            waiting += found
            continue
        best[trials] = found
        for grid in dict.fromkeys(run.grid for run in runs if run.vft_grid == trials and run.grid is not None):
            # VFT of other data has other inputs, so it would be made again there
            if _data_of(grid) == _data_of(trials) and len(_rates(trials, options)) > 1:
                yield Copy(_trial(folder, trials, found), folder / grid.name, VFT_UNIT)
    if waiting:
        raise _Waiting(waiting, "validation accuracies of VFT")
    return [_with_vft_rate(run, best[run.vft_grid]) if run.vft_grid else run for run in runs]


def _try_vft(
    trials: Run, tried: Sequence[float], seeds: Sequence[int], options: argparse.Namespace
) -> Generator[Step, None, float | list[Path]]:
    """Yields VFT at each learning rate, in a folder each.

    Returns the best rate by mean validation accuracy, the lowest of equal ones, or the folders that lack an accuracy. A
    single rate is taken without a trial.
    """
    if len(tried) == 1:
        return tried[0]
    folders = {rate: _trial(options.output / options.scale, trials, rate) for rate in tried}
    for rate, trial in folders.items():
        alone = ("stages=[vft]", "rounds=null", "evaluate.models=null", f"vft.training.learning_rate={rate:g}")
        one = replace(trials, overrides=(*trials.overrides, *alone))
        yield command(one, trial, seeds, _methods(trials), _suited(trials, options))
    means = {rate: mean_accuracy(trial, seeds) for rate, trial in folders.items()}
    known = {rate: mean for rate, mean in means.items() if mean is not None}
    return best_rate(known) if len(known) == len(tried) else [folders[rate] for rate in tried if rate not in known]


def _trial(folder: Path, trials: Run, rate: float) -> Path:
    return folder / f"{trials.name}-lr{rate:g}"


def _data_of(run: Run) -> list[str]:
    return [text for text in run.overrides if text.startswith("data.")]


def _with_vft_rate(run: Run, rate: float) -> Run:
    """The run and its grid with a learning rate of VFT."""
    key = f"vft.training.learning_rate={rate:g}"
    grid = run.grid and replace(run.grid, overrides=(*run.grid.overrides, key))
    return replace(run, overrides=(*run.overrides, key), grid=grid)


def _at_best_vft_rate(run: Run, seed: int, options: argparse.Namespace) -> Generator[Step, None, Run]:
    """Yields trials of VFT of the first seed, and a copy of the best into the run. Returns the run with its rate."""
    folder, tried, trials = options.output / options.scale, _vft_rates(options), _vft_trials(run)
    found = yield from _try_vft(trials, tried, [seed], options)
    if isinstance(found, list):
        raise _Waiting(found, "validation accuracies of VFT")
    if len(tried) > 1:
        yield Copy(_trial(folder, trials, found), folder / run.name, VFT_UNIT)
    return _with_vft_rate(run, found)


def _vft_trials(run: Run) -> Run:
    """The run that chooses the rate of VFT of a real model."""
    return replace(run, name=f"{run.tuned_as}-vft")


def _vft_rates(options: argparse.Namespace) -> Sequence[float]:
    """The rates of VFT that a real model tries."""
    return tuple(options.rates or RATES[options.scale])


def _at_best_method_rates(
    run: Run, seed: int, own: Mapping[str, Any], options: argparse.Namespace
) -> Generator[Step, None, dict[str, Any]]:
    """Yields VFT and samples of the first seed, then every method at each rate on validation questions.

    Returns the methods, each with its best rate. A variant takes the rate of its method, a single rate is taken without
    a trial.
    """
    tried = tuple(options.method_rates or METHOD_RATES)
    if len(tried) == 1:
        return at_rates_of(own, dict.fromkeys(own, tried[0]))
    folder, grid = options.output / options.scale, real_grid(run)
    labelled = replace(
        run, overrides=(*run.overrides, f"stages=[{', '.join(LABELLED)}]", "rounds=null", "evaluate.models=null")
    )
    yield command(labelled, folder / run.name, [seed], own, _suited(run, options))
    yield Copy(folder / run.name, folder / grid.name, LABELLED)
    tuned_methods = {name: changes(name) for name in dict.fromkeys(map(parent, own))}
    names = at_rates(tuned_methods, tried)
    yield command(grid, folder / grid.name, [seed], names, _suited(run, options))
    report = read_json(RunFolder(folder / grid.name).report("json"))
    if report is None or not names.keys() <= {model["name"] for model in report["models"]}:
        raise _Waiting([folder / grid.name], "learning rates")
    best = best_rates(report, list(tuned_methods), tried)
    return at_rates_of(own, {name: best[parent(name)] for name in own})


def _matched(run: Run, folder: Path, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """The controls of a run, with the number of steps that makes their work equal."""
    controls = [name for name in run.methods if name in CONTROLS]
    steps = {name: matched_steps(CONTROLS[name], folder, seeds) for name in controls}
    waiting = [name for name in controls if steps[name] is None]
    if waiting:
        matched = sorted({name for control in waiting for name in (CONTROLS[control].method, CONTROLS[control].model)})
        hint = (
            "; what was trained before work was counted says nothing of it:"
            f" delete {EVERY_SEED}/align/{{{','.join(matched)}}} there"
        )
        raise _Waiting([folder], f"steps for {', '.join(waiting)}", hint)
    return {name: merge(changes(name), {"training": {"max_steps": steps[name]}}) for name in controls}


def _folders(runs: Sequence[Run], options: argparse.Namespace) -> list[Path]:
    """The run folders that a table is made from."""
    return list(dict.fromkeys(options.output / options.scale / run.name for run in runs))


def _prints(options: argparse.Namespace) -> bool:
    return bool(options.print or options.slurm or options.accelerate)


def tuned(runs: Sequence[Run], grid: Run) -> list[str]:
    """The methods whose learning rates a grid chooses for these runs."""
    return list(dict.fromkeys(parent(name) for run in runs if run.grid == grid for name in run.methods))


def _rates(grid: Run, options: argparse.Namespace) -> Sequence[float]:
    return tuple(options.rates or sorted((*RATES[options.scale], *grid.more_rates)))


def _enough(seeds: Sequence[int]) -> list[int]:
    """Tuning seeds and the next ones, as many as a claim needs."""
    more = range(max(seeds) + 1, max(seeds) + 1 + FEWEST_SEEDS)
    return [*seeds, *more][: max(len(seeds), FEWEST_SEEDS)]


def _take(step: Step) -> None:
    if isinstance(step, Copy):
        copy_units(step)
    else:
        train(step.arguments)


def train(arguments: Sequence[str]) -> None:
    """Run aft-train in its own process; if it fails, exit with its code. It ends with this process, and by a signal."""
    command = [sys.executable, "-m", "aft.cli.train", *arguments]
    # a session of its own: a terminal's interrupt would reach it twice, and a second one ends it at once
    process = subprocess.Popen(command, env={**os.environ, **tied()}, start_new_session=True)
    try:
        process.wait()
    except Ended:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.wait()
        raise
    finally:
        process.kill()
    if process.returncode:
        raise SystemExit(process.returncode)


def copy_units(step: Copy) -> list[Path]:
    """Copy finished units that the target lacks. aft-train runs those again whose inputs differ there."""
    units = RunFolder(step.source).units(*step.units)
    finished = [unit for unit in units if unit.round == 1 and unit.manifest.exists()]  # later rounds are a run's own
    if not finished:
        return []
    made = []
    with hold(RunFolder(step.target), lambda line: print(shown(line), flush=True)):
        for unit in finished:
            target = step.target / unit.folder.relative_to(step.source)
            if target.exists():
                continue
            partial = temporary_path(target)
            ignored = shutil.ignore_patterns("checkpoint-*", "damaged-checkpoint-*")
            shutil.copytree(unit.folder, partial, ignore=ignored)
            os.replace(partial, target)
            made.append(target)
    return made


def _script(key: str, runs: Sequence[Run], steps: Iterator[Step], options: argparse.Namespace) -> str:
    """The commands as text, the table's last. If a grid must be run first, a note ends the list early."""
    taken: list[Step] = []
    last, note = _report_commands(key, runs, options), []
    try:
        for step in steps:
            taken.append(step)
    except _Waiting as waiting:
        last = []
        note = [f"# the rest needs the {waiting.missing}: print again when that is done"]
    lines = [as_shell(step, by_stage=options.accelerate) for step in taken]
    if options.slurm:
        return "\n".join([as_slurm(f"table-{key}", taken, lines, last), *note])
    return "\n".join([*judge_note(taken), *(line for block in lines for line in block), *last, *note])


def _report_commands(key: str, runs: Sequence[Run], options: argparse.Namespace) -> list[str]:
    """The calls of aft-report that make the table when the runs are done."""
    words = ["aft-report", "--table", page_of(key, options.scale), *map(str, _folders(runs, options))]
    words += ["--output", str(options.output / options.scale), "--format", options.format]
    same = options.same_rate and [*words, "--suffix", f"lr{options.same_rate:g}"]
    return [shlex.join(words), *([shlex.join(same)] if same else [])]
