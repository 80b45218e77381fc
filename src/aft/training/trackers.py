"""Trackers: one run of wandb, tensorboard, mlflow or trackio for each training, and what is added after evaluation.

transformers' integrations log the training. This module names the run, keeps its id for a resume, ends it, and sees to
it that an error of a tracker ends the tracker and not the training. Only the first process tracks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import secrets
import struct
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from ..ending import Ended
from ..errors import AftError, first_line
from ..json_files import read_json, write_json
from ..progress import say

# In the folder of a unit: the id of its runs in the trackers. Hidden, so that it is no part of a checkpoint.
IDENTITY = ".trackers.json"
_NOT_IN_A_PROJECT = re.compile(r"[/\\#?%:\s]+")  # wandb refuses these in the name of a project
_LONGEST_PROJECT = 128
_LONGEST_REASON = 240
_LONGEST_PARAMETER = 250  # of mlflow's older servers


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run: its name, its project, the group that it belongs to, and its settings.

    `folder`: of the unit; the id of the run is kept there, and tensorboard's files are written there. `home`: the
    folder of the whole run, for wandb's files. `trackio`: further arguments of its `init`, such as the Space.
    """

    name: str
    project: str
    group: str
    folder: Path
    home: Path
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trackio: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def tensorboard(self) -> Path:
        """The folder of tensorboard's files: in the unit's, or in a folder named after the run where the user says."""
        home = os.environ.get("TENSORBOARD_LOGGING_DIR")
        return Path(home).expanduser() / self.name if home else self.folder / "tensorboard"

    def identity(self) -> dict[str, str]:
        """The ids of this run in the trackers, from its last start. Empty if it has none."""
        try:
            found = read_json(self.folder / IDENTITY)
        except AftError:
            return {}
        return found if isinstance(found, dict) else {}

    def remember(self, identity: Mapping[str, str]) -> None:
        """Keeps the ids for a resume."""
        write_json(self.folder / IDENTITY, dict(identity))


def project_name(text: str) -> str:
    """Returns a name that every tracker takes for a project."""
    return _NOT_IN_A_PROJECT.sub("-", text)[:_LONGEST_PROJECT] or "aft"


@contextlib.contextmanager
def environment(run: TrackedRun, identity: Mapping[str, str]) -> Iterator[None]:
    """Inside, the trackers' variables say what the run is called. A variable that the user has set stays as it is."""
    named = {
        "WANDB_PROJECT": run.project,
        "WANDB_RUN_GROUP": run.group,
        "WANDB_RUN_ID": identity.get("id"),
        "WANDB_RESUME": "allow",
        "WANDB_DIR": str(run.home),
        "WANDB_CONSOLE": "off",  # the output of a unit has its log file
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_EXPERIMENT_NAME": None if os.environ.get("MLFLOW_EXPERIMENT_ID") else run.project,
        "MLFLOW_RUN_ID": identity.get("mlflow"),
        "MLFLOW_TAGS": json.dumps({"aft.group": run.group}),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    before = dict(os.environ)
    os.environ.update({name: value for name, value in named.items() if value and name not in before})
    try:
        yield
    finally:
        for name in named:
            if name not in before:
                os.environ.pop(name, None)


class Trackers(TrainerCallback):
    """Passes the events of a training to transformers' integrations, on the first process.

    The first error of a tracker is told in one line, and the training goes on without that tracker.
    """

    def __init__(self, names: Sequence[str], run: TrackedRun) -> None:
        self.names, self.run = list(dict.fromkeys(names)), run
        self.inner: dict[str, TrainerCallback] = {}

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        for name in self.names:
            with self._guarding(name), environment(self.run, {}):
                self.inner[name] = get_reporting_integration_callbacks([name])[0]()
        self._pass("on_init_end", args, state, control)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.inner:
            return
        step = state.global_step
        # a training that starts again is another run: its steps are logged already
        identity = self.run.identity() if step else {}
        identity.setdefault("id", secrets.token_hex(8))
        for name in list(self.inner):
            with self._guarding(name), environment(self.run, identity):
                if name == "tensorboard":
                    _open_tensorboard(self.inner[name], self.run.tensorboard, step)
                self.inner[name].on_train_begin(args, state, control, **kwargs)
                _describe(name, self.inner[name], self.run, identity, resumed=step > 0)
        self.run.remember(identity)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, callback in list(self.inner.items()):
            # mlflow's folders cannot hold `loss` beside `loss/vft`, and it would drop both
            told = {
                key.replace("loss/", "loss.") if name == "mlflow" else key: value for key, value in (logs or {}).items()
            }
            with self._guarding(name):
                callback.on_log(args, state, control, logs=told, **kwargs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._pass("on_train_end", args, state, control, **kwargs)
        self._finish(None)

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Inside, an error or a signal ends the trackers' runs as failed or killed, and passes on."""
        try:
            yield
        except BaseException as error:
            self._finish(error)
            raise

    def _finish(self, error: BaseException | None) -> None:
        for name in list(self.inner):
            with self._guarding(name):
                _end(name, self.inner[name], error)
        self.inner.clear()

    def _pass(self, event: str, *arguments: Any, **kwargs: Any) -> None:
        for name, callback in list(self.inner.items()):
            with self._guarding(name):
                getattr(callback, event)(*arguments, **kwargs)

    @contextlib.contextmanager
    def _guarding(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.inner.pop(name, None)
            say(f"{self.run.name}: {name} failed: {_shortly(error)}; the training goes on without it")


def _passing(event: str) -> Callable[..., None]:
    def on_event(self: Trackers, *arguments: Any, **kwargs: Any) -> None:
        self._pass(event, *arguments, **kwargs)

    return on_event


for _event in [name for name in vars(TrainerCallback) if name.startswith("on_") and name not in vars(Trackers)]:
    setattr(Trackers, _event, _passing(_event))


def _shortly(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {first_line(error)}", _LONGEST_REASON, placeholder=" …")


def _open_tensorboard(callback: Any, folder: Path, step: int) -> None:
    """Opens the files so that steps which a cut training had logged, and which are done again, are shown once."""
    callback.logging_dir = str(folder)
    callback.tb_writer = callback._SummaryWriter(log_dir=str(folder), purge_step=step + 1 if step else 0)


def _describe(name: str, callback: Any, run: TrackedRun, identity: dict[str, str], *, resumed: bool) -> None:
    """Adds to a tracker's run what transformers does not tell: the settings of the unit, and the group."""
    if name == "tensorboard":
        callback.tb_writer.add_text("aft", f"```json\n{json.dumps(run.settings, indent=2)}\n```")
    elif name == "wandb":
        callback._wandb.config.update({"aft": dict(run.settings)}, allow_val_change=True)
    elif name == "trackio":
        callback._trackio.config.update({"aft": dict(run.settings), "_Group": run.group}, allow_val_change=True)
    elif name == "mlflow":
        identity["mlflow"] = callback._ml_flow.active_run().info.run_id
        if not resumed:  # a parameter of a run cannot be set twice
            callback._ml_flow.log_params(_flat(run.settings))


def _flat(settings: Mapping[str, Any], prefix: str = "aft") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in settings.items():
        name = re.sub(r"[^0-9A-Za-z_\-. :/]", "_", f"{prefix}.{key}")
        if isinstance(value, Mapping):
            found |= _flat(value, name)
        else:
            found[name] = json.dumps(value, ensure_ascii=False)[:_LONGEST_PARAMETER]
    return found


def _end(name: str, callback: Any, error: BaseException | None) -> None:
    """Ends a tracker's run. transformers leaves wandb's open, and any run whose training did not come to its end."""
    if name == "wandb":
        callback._wandb.finish(exit_code=0 if error is None else 1)
    elif error is None:
        return
    elif name == "mlflow" and callback._ml_flow.active_run() is not None:
        callback._ml_flow.end_run("KILLED" if isinstance(error, Ended) else "FAILED")
    elif name == "trackio" and callback._initialized:
        callback._trackio.finish()
    elif name == "tensorboard" and callback.tb_writer is not None:
        callback.tb_writer.close()


# ---- after evaluation ----


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is added to a tracker's run: numbers, a table (headings and rows of text), pictures and other files."""

    figures: Mapping[str, float]
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[Path] = ()
    files: Sequence[Path] = ()

    @property
    def markdown(self) -> str:
        """The table."""
        lines = [self.headings, ["---"] * len(self.headings), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def add_findings(names: Sequence[str], run: TrackedRun, findings: Findings) -> list[str]:
    """Adds figures, table and pictures to the run in each of these trackers, which is opened again or made.

    Trackers other than tensorboard, wandb, mlflow and trackio are left out. Returns the trackers that failed; each is
    told in one line.
    """
    identity = run.identity()
    identity.setdefault("id", secrets.token_hex(8))
    failed = []
    for name in names:
        if name not in _ADDING:
            continue
        try:
            with environment(run, identity):
                _ADDING[name](run, findings, identity)
        except Exception as error:
            failed.append(name)
            say(f"{run.name}: {name} failed: {_shortly(error)}; the files of the run have its figures")
    run.remember(identity)
    return failed


def _add_to_tensorboard(run: TrackedRun, findings: Findings, _: dict[str, str]) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(log_dir=str(run.tensorboard))
    try:
        for key, value in findings.figures.items():
            writer.add_scalar(key, value, 0)
        if findings.rows:
            writer.add_text("table", findings.markdown, 0)
        for picture in findings.pictures:
            # not by add_image, which would decode the file and encode it again
            data = picture.read_bytes()
            width, height = struct.unpack(">II", data[16:24])  # of a PNG
            image = Summary.Image(encoded_image_string=data, width=width, height=height, colorspace=4)
            writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=picture.stem, image=image)]), 0)
    finally:
        writer.close()


def _add_to_wandb(run: TrackedRun, findings: Findings, _: dict[str, str]) -> None:
    import wandb

    # given here, because wandb reads its variables only once in a process
    names = {"id": "WANDB_RUN_ID", "project": "WANDB_PROJECT", "group": "WANDB_RUN_GROUP", "dir": "WANDB_DIR"}
    given = {key: os.environ[name] for key, name in names.items()}
    opened = wandb.init(name=run.name, resume="allow", settings=wandb.Settings(silent=True), **given)
    try:
        opened.summary.update(dict(findings.figures))
        logged: dict[str, Any] = {picture.stem: wandb.Image(str(picture)) for picture in findings.pictures}
        if findings.rows:
            logged["table"] = wandb.Table(columns=list(findings.headings), data=[list(row) for row in findings.rows])
        if logged:
            opened.log(logged)
    finally:
        opened.finish()


def _add_to_mlflow(run: TrackedRun, findings: Findings, identity: dict[str, str]) -> None:
    import mlflow

    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        mlflow.set_experiment(name)
    tags = json.loads(os.environ.get("MLFLOW_TAGS") or "{}")
    with mlflow.start_run(run_name=run.name, tags=tags) as opened:
        identity["mlflow"] = opened.info.run_id
        mlflow.log_metrics(dict(findings.figures), step=0)
        if findings.rows:
            mlflow.log_text(f"{findings.markdown}\n", "table.md")
        for path in (*findings.pictures, *findings.files):
            mlflow.log_artifact(str(path))


def _add_to_trackio(run: TrackedRun, findings: Findings, _: dict[str, str]) -> None:
    import trackio

    with contextlib.redirect_stdout(io.StringIO()):  # it prints several lines a run
        trackio.init(
            project=run.project,
            name=run.name,
            group=run.group,
            config=_trackio_config(run),
            resume="allow",
            # figures of the machine say nothing about a run of a moment
            auto_log_gpu=False,
            auto_log_cpu=False,
            **run.trackio,
        )
        try:
            logged: dict[str, Any] = dict(findings.figures)
            logged |= {picture.stem: trackio.Image(str(picture)) for picture in findings.pictures}
            if findings.rows:
                logged["table"] = trackio.Table(list(findings.headings), [list(row) for row in findings.rows])
            trackio.log(logged)
        finally:
            trackio.finish()


def _trackio_config(run: TrackedRun) -> dict[str, Any]:
    """The settings of a run that is opened again, which would be gone otherwise. Empty for a new run."""
    import trackio

    with contextlib.suppress(Exception):  # no such project yet, or one that lies elsewhere
        for found in trackio.Api().runs(run.project):
            if found.name == run.name:
                return {key: value for key, value in dict(found.config).items() if not key.startswith("_")}
    return {}


_ADDING: dict[str, Callable[[TrackedRun, Findings, dict[str, str]], None]] = {
    "tensorboard": _add_to_tensorboard,
    "wandb": _add_to_wandb,
    "mlflow": _add_to_mlflow,
    "trackio": _add_to_trackio,
}
