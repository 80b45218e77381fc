"""aft from Python: run a configuration, and read what the folder of a run holds. Does not import torch."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli.train import run_config
from .config import load_config
from .ending import Ended, listening
from .errors import AftError, ConfigError, DataError, nearest, raise_of_machine
from .json_files import iter_json_lines, read_json
from .report.csv_file import HEADINGS, report_rows
from .report.read import read_report
from .run.folder import (
    ASSESSMENT,
    COMPLETIONS,
    FROM_PREFIX,
    GROUPS,
    POOL,
    PREDICTIONS,
    REFERENCES,
    TRAINER_STATE,
    RunFolder,
    Unit,
)
from .run.integrity import Integrity
from .shown import libraries_shown
from .yaml_files import yaml_line

if TYPE_CHECKING:
    from datasets import Dataset

# What `Run.scores` reads, by the chains that were scored.
_SCORED = {"pool": POOL, "own": ASSESSMENT, "references": REFERENCES}


def run(
    config: str | os.PathLike[str],
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    stage: str | None = None,
    verify: bool = False,
    repair: bool = False,
    **sections: Any,
) -> Run:
    """Runs a configuration as `aft-train` does, with the same progress lines, and returns the run.

    What is up to date is skipped, and what was cut resumes. `config`: a YAML file, or a name such as `quickstart`.
    `overrides` and `sections` replace values of the file, as `key=value` does on the command line. `sections`: keys at
    the top of the file, such as `seeds=[0, 1]`; a section is replaced whole. `overrides` come after these: a mapping
    of dotted keys, such as {"vft.training.max_steps": 10}, or a list of `key=value`. `stage`: run this stage only.
    `verify` and `repair`: as the options of the command.

    Raises `ConfigError`, `DataError` or another `AftError` where the command would exit. An interrupt raises
    `KeyboardInterrupt` once the processes of the run have ended; the same call goes on from there.
    """
    given = _arguments(overrides, sections)
    known = argparse.Namespace(
        config=os.fspath(config), stage=stage, dry_run=False, verify=verify, repair=repair, worker=None
    )
    try:
        with libraries_shown(), listening():
            run_config(known, given)
    except Ended as ended:
        if ended.name == "SIGINT":
            raise KeyboardInterrupt from None
        signal.raise_signal(ended.exit_code - 128)  # what it would have done without a run
        raise
    except AftError:
        raise
    except Exception as error:
        raise_of_machine(error)
        raise
    return Run(load_config(known.config, given).output_dir)


def _arguments(overrides: Mapping[str, Any] | Sequence[str], sections: Mapping[str, Any]) -> list[str]:
    """The overrides as on a command line. Raises `ConfigError` for a value that no YAML file can hold."""
    if isinstance(overrides, str):
        raise ConfigError(f"overrides: expected a mapping or a list of key=value, got the text '{overrides}'")
    if not isinstance(overrides, Mapping):
        if wrong := next((item for item in overrides if not isinstance(item, str)), None):
            raise ConfigError(f"overrides: expected texts such as 'seeds=[0]' in the list, got {wrong!r}")
        return [*_arguments(sections, {}), *overrides]
    # a section replaces what stands before it
    return [f"{key}={yaml_line(_plain(value, key))}" for key, value in {**sections, **overrides}.items()]


def _plain(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(item, key) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ConfigError(
        f"{key}: got {value!r} of the type {type(value).__name__}; allowed are mappings, lists, numbers, texts, paths,"
        " True, False and None"
    )


def open_run(folder: str | os.PathLike[str]) -> Run:
    """Opens the folder of a run. Raises `AftError` if there is none."""
    return Run(folder)


class Report(dict[str, Any]):
    """report.json as a dictionary. A notebook shows it as the pages of report.md."""

    def __init__(self, values: Mapping[str, Any], page: str) -> None:
        super().__init__(values)
        self.page = page

    def _repr_markdown_(self) -> str:
        return self.page


class Run:
    """The folder of a run. Everything is read when it is asked for, so that a run at work can be looked at, too.

    Files become `datasets.Dataset`, one row a record, with the column `seed` first; `.to_pandas()` needs pandas.
    `seed`: this seed only; None: all. A file that is absent raises `AftError`, a damaged one `DataError`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        if not self.path.is_dir():
            raise AftError(f"{self.path}: no such run folder")
        self._folder = RunFolder(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def seeds(self) -> list[int]:
        """The seeds that have a folder."""
        return self._folder.seeds()

    @property
    def models(self) -> list[str]:
        """The names of the evaluated models: base, vft and the methods."""
        return sorted({unit.name or "" for unit in self._folder.units("evaluate")})

    @property
    def report(self) -> Report:
        """The report of the run, as `aft-report` wrote it last."""
        page = self._folder.report("md")
        values = read_json(self._folder.report("json"))
        if values is None or not page.exists():
            raise AftError(f"{self.path}: no report yet; aft-report --config {self._folder.config} writes it")
        return Report(values, page.read_text(encoding="utf-8"))

    def table(self) -> Dataset:
        """The numbers of the report: a row for every model, seed and measure, with its interval, as in report.csv."""
        report = read_report(self._folder.report("json"))
        return _dataset([dict(zip(HEADINGS, row, strict=True)) for row in report_rows(report)])

    def completions(self, seed: int | None = None, *, of_round: str | None = None) -> Dataset:
        """What was sampled for labelling: question_id, index, completion, truncated, num_tokens, seed of the sample.

        `of_round`: of the round that made this model, such as "aft@2"; None: of round 1.
        """
        return self._read("sample", of_round, COMPLETIONS, seed)

    def continuations(self, seed: int | None = None, *, of_round: str | None = None) -> Dataset:
        """What continues right chains (`sample.from_prefix`): as `completions`, with `prefix`."""
        return self._read("sample", of_round, FROM_PREFIX, seed)

    def groups(self, seed: int | None = None, *, of_round: str | None = None) -> Dataset:
        """The labelled questions, each with its rated candidates. `of_round`: as in `completions`."""
        return self._read("label", of_round, GROUPS, seed)

    def scores(self, model: str, seed: int | None = None, *, of: str = "pool") -> Dataset:
        """The scores of chains under an evaluated model, in nats per token: question_id, index, is_positive, score.

        `of`: "pool" (the same held-out chains for every model), "own" (chains of the model's own) or "references".
        """
        if of not in _SCORED:
            raise ConfigError(f"of: got '{of}', allowed: {', '.join(_SCORED)}.{nearest(of, _SCORED)}")
        return self._read("evaluate", model, _SCORED[of], seed)

    def predictions(self, model: str, seed: int | None = None) -> Dataset:
        """The answers of an evaluated model to the test questions, and whether they are right."""
        return self._read("evaluate", model, PREDICTIONS, seed)

    def log(self, model: str, seed: int | None = None) -> Dataset:
        """The training log of vft or a method: a row for each log, with its step, losses and scores."""
        units = self._units("vft" if model == "vft" else "align", model, TRAINER_STATE, seed)
        logs = {unit: (read_json(unit.folder / TRAINER_STATE) or {}).get("log_history", []) for unit in units}
        return _dataset([{"seed": unit.seed, **entry} for unit, log in logs.items() for entry in log])

    def _read(self, stage: str, name: str | None, file: str, seed: int | None) -> Dataset:
        units = self._units(stage, name, file, seed)
        lines = ((unit, line) for unit in units for _, line in iter_json_lines(unit.folder / file))
        if file in (COMPLETIONS, FROM_PREFIX):  # a sample has a seed of its own
            return _dataset([{"seed": u.seed, "sample_seed": line.pop("seed", None), **line} for u, line in lines])
        return _dataset([{"seed": unit.seed, **line} for unit, line in lines])

    def _units(self, stage: str, name: str | None, file: str, seed: int | None) -> list[Unit]:
        """The units of a stage that have a file. Raises `AftError` if there is none, `DataError` if it is damaged."""
        of_stage = [unit for unit in self._folder.units(stage) if (unit.folder / file).is_file()]
        found = [unit for unit in of_stage if stage == "vft" or unit.name == name]
        if not found:
            names = sorted({unit.name for unit in of_stage if unit.name})
            known = f" It has: {', '.join(names)}.{nearest(name or '', names)}" if names else ""
            raise AftError(f"{self.path}: no {file} of {f'{stage} {name}' if name else stage}.{known}")
        units = [unit for unit in found if seed is None or unit.seed == seed]
        if not units:
            seeds = ", ".join(str(unit.seed) for unit in found)
            raise AftError(f"{self.path}: no {file} of seed {seed}; there is one of seed {seeds}")
        wrong = [f"{unit.folder}/{line}" for unit in units for line in Integrity().damages(unit, [file])]
        if wrong:
            raise DataError("\n".join(wrong))
        return units


def _dataset(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """The rows as a data set with every key that one of them has."""
    from datasets import Dataset

    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})
