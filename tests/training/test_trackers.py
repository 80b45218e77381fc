"""Trackers: what a training leaves in their stores, real ones on this disk, and that they cannot end it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState

from aft.ending import Ended
from aft.training.arguments import check_whole
from aft.training.trackers import IDENTITY, Findings, TrackedRun, Trackers, add_findings, environment, project_name
from limits import HUNG_AFTER
from tiny_trainers import make_trainer

VARIABLES = ("MLFLOW_", "WANDB_", "TRACKIO_", "TENSORBOARD_")
PICTURE = bytes.fromhex(  # one grey pixel
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6368000000820081dd436af40000000049454e44ae426082"
)


def needs(*packages: str):
    """Skips a test with the reason where a tracker is not installed."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)} (pip install 'aft[trackers]')")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No variable of the machine's own names a store, and mlflow's is a folder of the test's."""
    for name in [name for name in os.environ if name.startswith(VARIABLES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def run_in(folder: Path, name: str = "run/seed-0/align/bcl") -> TrackedRun:
    settings = {"seed": 0, "align": {"loss": {"name": "alignment"}}}
    return TrackedRun(name, "project", "run", folder, folder.parent, settings)


class Fails(TrainerCallback):
    """Ends a training behind one of its steps."""

    def __init__(self, step: int, error: BaseException) -> None:
        self.step, self.error = step, error

    def on_log(self, args, state, control, **_):
        if state.global_step == self.step:
            raise self.error


def train(names, run: TrackedRun, *, resume=False, fails_at: int = 0, error: BaseException | None = None, **arguments):
    """Trains a tiny model, 4 steps unless said otherwise, and leaves a checkpoint of each second one."""
    tracked, error = Trackers(names, run), error or RuntimeError("cut")
    values = {"max_steps": 4, "logging_steps": 1, "save_strategy": "steps", "save_steps": 2, **arguments}
    trainer = make_trainer(run.folder, callbacks=[tracked, Fails(fails_at, error)], **values)
    trainer.args.run_name, trainer.args.project = run.name, run.project
    with pytest.raises(type(error)) if fails_at else contextlib.nullcontext(), tracked.ending():
        trainer.train(resume_from_checkpoint=resume)


def events(folder: Path) -> dict[str, list]:
    """Tag -> (step, value) of tensorboard's files, as its own page shows them; `texts` and `images` are tags alone."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = EventAccumulator(str(folder)).Reload()
    tags = found.Tags()
    scalars = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in tags["scalars"]}
    texts = {
        tag.removesuffix("/text_summary"): [
            make_ndarray(event.tensor_proto).item().decode() for event in found.Tensors(tag)
        ]
        for tag in tags["tensors"]
    }
    return {**scalars, **texts, "images": tags["images"]}


def mlflow_run(run: TrackedRun):
    import mlflow

    return mlflow.MlflowClient().get_run(run.identity()["mlflow"])


# ---- names ----


def test_nothing_is_tracked_unless_it_is_asked_for(tmp_path):
    before = dict(os.environ)
    train([], run_in(tmp_path / "unit"), max_steps=2)
    assert not (tmp_path / "unit" / IDENTITY).exists() and not list(tmp_path.rglob("*tfevents*"))
    assert not {name for name in set(os.environ) - set(before) if name.startswith(VARIABLES)}


def test_the_user_s_own_variables_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "thesis")
    before, run = dict(os.environ), run_in(tmp_path)
    with environment(run, {"id": "0123"}):
        assert os.environ["WANDB_PROJECT"] == "thesis" and os.environ["MLFLOW_EXPERIMENT_NAME"] == "project"
        assert (os.environ["WANDB_RUN_GROUP"], os.environ["WANDB_RUN_ID"]) == ("run", "0123")
        assert "MLFLOW_RUN_ID" not in os.environ
    assert dict(os.environ) == before
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    with environment(run, {}):
        assert "MLFLOW_EXPERIMENT_NAME" not in os.environ


def test_a_project_s_name_suits_every_tracker():
    assert project_name("gsm8k-7b") == "gsm8k-7b" and project_name("a b/c#d:e") == "a-b-c-d-e"
    assert project_name("") == "aft" and len(project_name("x" * 300)) == 128


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_one_line(name):
    if importlib.util.find_spec(name):
        assert check_whole({"report_to": name}, cpu=True) == []
    else:
        told = f"pip install {name}, or 'aft[trackers]', or set report_to to none"
        assert check_whole({"report_to": name}, cpu=True) == [f"report_to: {name} is not installed here; {told}"]


# ---- only the first process, and no error of a tracker ends a training ----


@needs("tensorboard")
def test_only_the_first_process_tracks(tmp_path):
    tracked, state = Trackers(["tensorboard"], run_in(tmp_path)), TrainerState(is_world_process_zero=False)
    arguments = make_trainer(tmp_path, max_steps=2).args
    for event in (tracked.on_init_end, tracked.on_train_begin, tracked.on_log, tracked.on_train_end):
        event(arguments, state, TrainerControl())
    assert tracked.inner == {} and not list(tmp_path.iterdir())


@needs("tensorboard")
def test_a_tracker_that_fails_is_told_and_the_training_goes_on(tmp_path, capsys):
    run = run_in(tmp_path / "unit")
    run.folder.mkdir()
    (run.folder / "tensorboard").write_text("a file where the folder should be")
    train(["tensorboard"], run, max_steps=2)
    told = [line for line in capsys.readouterr().err.splitlines() if "tensorboard" in line]
    assert len(told) == 1 and told[0].startswith("run/seed-0/align/bcl: tensorboard failed: ")
    assert told[0].endswith("; the training goes on without it")
    assert (run.folder / "checkpoint-2").is_dir()


@needs("mlflow")
def test_a_server_that_does_not_answer_does_not_end_the_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = run_in(tmp_path / "unit")
    train(["mlflow"], run, max_steps=2)
    assert "mlflow failed: MlflowException: " in capsys.readouterr().err
    assert (run.folder / "checkpoint-2").is_dir()
    assert add_findings(["mlflow"], run, Findings({"vft/task_accuracy": 0.5})) == ["mlflow"]


# ---- tensorboard ----


@needs("tensorboard")
def test_tensorboard_has_the_log_of_a_training_that_was_resumed_once(tmp_path):
    run = run_in(tmp_path / "unit")
    train(["tensorboard"], run, fails_at=3)  # logs step 3 behind its last checkpoint
    identity = run.identity()
    train(["tensorboard"], run, resume=True)
    found = events(run.tensorboard)
    assert [step for step, _ in found["train/loss/vft"]] == [1, 2, 3, 4]
    assert '"alignment"' in found["aft"][0] and run.identity() == identity
    train(["tensorboard"], run, max_steps=2)  # from the start: another run
    assert [step for step, _ in events(run.tensorboard)["train/loss/vft"]] == [1, 2]
    assert run.identity() != identity


@needs("tensorboard")
def test_tensorboard_gets_the_report(tmp_path):
    picture, run = tmp_path / "report.png", run_in(tmp_path / "unit")
    run.folder.mkdir()
    picture.write_bytes(PICTURE)
    rows = [["vft", "50.00"], ["bcl", "60.00"]]
    findings = Findings({"bcl/task_accuracy": 0.6}, ["method", "accuracy"], rows, [picture])
    assert add_findings(["tensorboard"], run, findings) == []
    found = events(run.tensorboard)
    assert found["bcl/task_accuracy"] == [(0, pytest.approx(0.6))] and found["images"] == ["report"]
    assert found["table"] == ["| method | accuracy |\n| --- | --- |\n| vft | 50.00 |\n| bcl | 60.00 |"]


@needs("tensorboard")
def test_a_folder_of_the_user_s_has_one_below_it_for_each_unit(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    run = run_in(tmp_path / "unit")
    train(["tensorboard"], run, max_steps=2)
    assert "train/loss/vft" in events(tmp_path / "events" / "run" / "seed-0" / "align" / "bcl")


# ---- mlflow ----


@needs("mlflow")
def test_mlflow_has_one_run_with_settings_that_a_resume_goes_on_with(tmp_path):
    import mlflow

    run = run_in(tmp_path / "unit")
    train(["mlflow"], run, fails_at=3)
    identity = run.identity()
    train(["mlflow"], run, resume=True)
    assert run.identity() == identity
    found, client = mlflow_run(run), mlflow.MlflowClient()
    assert (found.info.run_name, found.info.status) == (run.name, "FINISHED")
    assert found.data.params["aft.align.loss.name"] == '"alignment"' and found.data.tags["aft.group"] == "run"
    assert client.get_experiment(found.info.experiment_id).name == "project"
    # in no certain order: points of one millisecond have none
    assert sorted(point.step for point in client.get_metric_history(found.info.run_id, "loss.vft")) == [1, 2, 3, 3, 4]


@needs("mlflow")
@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("out of order"), "FAILED"), (Ended(signal.SIGTERM), "KILLED")]
)
def test_mlflow_tells_a_training_that_did_not_end(tmp_path, error, status):
    run = run_in(tmp_path / "unit")
    train(["mlflow"], run, fails_at=1, error=error)
    assert mlflow_run(run).info.status == status


@needs("mlflow")
def test_mlflow_gets_the_report(tmp_path):
    import mlflow

    run, page, picture = run_in(tmp_path / "unit"), tmp_path / "report.md", tmp_path / "report.png"
    run.folder.mkdir()
    page.write_text("# Report\n")
    picture.write_bytes(PICTURE)
    findings = Findings({"bcl/task_accuracy": 0.6}, ["method"], [["bcl"]], [picture], [page])
    for _ in range(2):  # the second adds to the same run
        assert add_findings(["mlflow"], run, findings) == []
    found = mlflow_run(run)
    assert found.data.metrics["bcl/task_accuracy"] == 0.6 and found.info.status == "FINISHED"
    assert sorted(path.name for path in Path(found.info.artifact_uri.removeprefix("file://")).iterdir()) == [
        "report.md",
        "report.png",
        "table.md",
    ]
    assert len(mlflow.search_runs(experiment_names=["project"], output_format="list")) == 1


# ---- wandb and trackio, in a process of their own: they start threads and servers ----

_TRAIN = """
from pathlib import Path
from test_trackers import Findings, add_findings, run_in, train
run = run_in(Path({folder!r}))
train([{name!r}], run)
assert add_findings([{name!r}], run, Findings({{"final/task_accuracy": 0.6}}, ["method"], [["bcl"]])) == []
"""


def in_a_process(name: str, folder: Path, **variables: str) -> None:
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(tests / "training"), str(tests), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", _TRAIN.format(name=name, folder=str(folder))],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=HUNG_AFTER,
    )
    assert ran.returncode == 0 and "failed" not in ran.stderr, ran.stderr


@pytest.mark.slow
@needs("wandb")
def test_wandb_offline_has_a_run_in_the_run_s_folder(tmp_path):
    in_a_process("wandb", tmp_path / "unit", WANDB_MODE="offline")
    run = run_in(tmp_path / "unit")
    folders = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert len(folders) == 2 and all(name.endswith(run.identity()["id"]) for name in folders)


@pytest.mark.slow
@needs("trackio")
def test_trackio_has_the_run_with_its_figures(tmp_path):
    in_a_process("trackio", tmp_path / "unit", TRACKIO_DIR=str(tmp_path / "trackio"))
    show = "[(run.name, dict(run.config)['_Group'], dict(run.config)['aft']['seed']) for run in runs]"
    code = f"import trackio; runs = trackio.Api().runs('project'); print({show})"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")},
        capture_output=True,
        text=True,
        timeout=HUNG_AFTER,
    )
    assert ran.stdout.strip() == "[('run/seed-0/align/bcl', 'run', 0)]", ran.stderr
