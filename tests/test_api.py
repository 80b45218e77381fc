"""aft from Python: it raises instead of ending, and what a run holds comes as data sets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import aft
from aft.api import _arguments
from aft.config import load_config
from finished_run import TINY, finish_run
from limits import HUNG_AFTER


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return finish_run(tmp_path_factory.mktemp("finished") / "run").folder


def test_what_a_run_holds(finished):
    run = aft.open_run(finished)
    assert (run.seeds, run.models, repr(run)) == ([0, 1], ["bcl", "vft"], f"Run({str(finished)!r})")
    assert run.report["seeds"] == [0, 1]
    assert run.report._repr_markdown_() == (finished / "report.md").read_text("utf-8")
    assert len(run.table()) == (finished / "report.csv").read_text().count("\n") - 1
    assert {row["measure"] for row in run.table()} >= {"task_accuracy", "vs_vft", "vote@3"}
    assert set(run.groups()["seed"]) == {0, 1} and set(run.groups(1)["seed"]) == {1}
    assert len(run.groups(0)) == 8 and set(run.groups(0)[0]["candidates"][0]) >= {"completion", "rating", "label"}
    assert len(run.completions(0)) == (8 + 2) * 3 and {"sample_seed", "completion"} <= set(run.completions().features)
    assert set(run.scores("bcl").features) == {"seed", "question_id", "index", "is_positive", "score"}
    assert (
        len(run.scores("bcl", 0, of="references")) == 3 and "index" not in run.scores("bcl", of="references").features
    )
    assert len(run.predictions("vft")) == 10 and set(run.predictions("vft")["is_correct"]) <= {True, False}
    assert run.log("bcl", 1)["loss"] == [1.5] and len(run.log("vft")) == 2


def test_records_become_a_table_of_pandas(finished):
    pytest.importorskip("pandas")
    found = aft.open_run(finished).scores("bcl").to_pandas()
    assert found.columns[0] == "seed" and found["score"].dtype == float


@pytest.mark.parametrize(
    ("read", "kind", "words"),
    [
        (lambda run: run.scores("bxl"), aft.AftError, "no pool.jsonl of evaluate bxl. It has: bcl, vft. Did you mean"),
        (lambda run: run.groups(3), aft.AftError, "no groups.jsonl of seed 3; there is one of seed 0, 1"),
        (
            lambda run: run.scores("bcl", of="pol"),
            aft.ConfigError,
            "of: got 'pol', allowed: pool, own, references. Did",
        ),
        (lambda run: aft.open_run(run.path / "x"), aft.AftError, "no such run folder"),
    ],
)
def test_what_is_absent_raises(finished, read, kind, words):
    with pytest.raises(kind) as caught:
        read(aft.open_run(finished))
    assert words in str(caught.value) and type(caught.value) is kind


def test_a_damaged_file_raises(finished, tmp_path):
    run = aft.open_run(shutil.copytree(finished, tmp_path / "run"))
    path = run.path / "seed-0" / "label" / "groups.jsonl"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(aft.DataError, match=r"seed-0/label/groups.jsonl is truncated"):
        run.groups()
    (run.path / "report.md").unlink()
    with pytest.raises(aft.AftError, match="no report yet"):
        _ = run.report


def test_a_finished_run_is_skipped_and_returned(finished, capfd):
    run = aft.run(finished / "config.yaml", stage="label")
    assert isinstance(run, aft.Run) and run.path == finished
    assert "label: 2 of 2 up to date, skipped\n" in capfd.readouterr().err


def test_mistakes_raise(tmp_path):
    for call, words in (
        (lambda: aft.run(tmp_path / "none.yaml"), "no such file"),
        (lambda: aft.run(TINY, sedes=[0]), "sedes: unknown key. Did you mean 'seeds'?"),
        (lambda: aft.run(TINY, {"vft.reduktion": 1}), "vft.reduktion"),
        (lambda: aft.run(TINY, ["seeds"]), "'seeds': expected key=value"),
        (lambda: aft.run(TINY, "seeds=[0]"), "overrides: expected a mapping or a list"),
        (lambda: aft.run(TINY, seeds={0}), "seeds: got {0} of the type set"),
        (lambda: aft.run(TINY, output_dir=tmp_path, stage="algin"), "--stage: got 'algin'"),
    ):
        with pytest.raises(aft.ConfigError) as caught:
            call()
        assert words in str(caught.value)


def test_overrides_are_those_of_the_command_line(tmp_path):
    given = _arguments(
        {"align.training.learning_rate": 1e-05, "model.max_length": 99, "prompt.template": "a: {question}\n#'\"é"},
        {"output_dir": tmp_path, "seeds": range(2), "methods": {"rft": {"loss": None}}},
    )
    config = load_config(TINY, given)
    assert config.align.training["learning_rate"] == 1e-05 and config.prompt.template == "a: {question}\n#'\"é"
    assert config.model.max_length == 99
    assert (config.output_dir, config.seeds, list(config.methods)) == (str(tmp_path), [0, 1], ["rft"])
    assert _arguments(["a=1"], {"b": True}) == ["b=true", "a=1"]


@pytest.mark.parametrize("overrides", [{"sample.num_samples": 4}, ["sample.num_samples=4"]])
def test_an_override_within_a_section_that_is_given_counts(overrides):
    sample = load_config(TINY, _arguments(overrides, {"sample": {"num_samples": 3, "pool_questions": 2}})).sample
    assert (sample.num_samples, sample.pool_questions) == (4, 2)


def test_an_interrupt_is_an_interrupt(finished, tmp_path):
    # a user's function of ratings keeps the run at work until the interrupt
    (tmp_path / "slow.py").write_text("import time\ndef rate(**candidate):\n    time.sleep(600)\n")
    run = shutil.copytree(finished, tmp_path / "run")
    ratings = {"name": "function", "function": f"{tmp_path / 'slow.py'}:rate"}

    def interrupt():
        deadline = time.monotonic() + HUNG_AFTER / 4
        while "label" not in "".join(path.name for path in (run / "logs").glob("*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    before = signal.getsignal(signal.SIGINT)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        aft.run(run / "config.yaml", {"label.ratings": ratings}, output_dir=run, stage="label")
    waiting.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert not (run / ".lock.json").exists() and not (run / ".progress.json").exists()


def test_importing_aft_is_light_and_its_names_are_there():
    code = """
import sys, aft
assert not {"torch", "datasets", "yaml", "numpy", "rich"} & set(sys.modules), "before"
assert set(aft.__all__) <= set(dir(aft))
found = [getattr(aft, name) for name in (*aft.__all__, "tasks", "records", "convert")]
assert callable(aft.run) and aft.run.RunFolder
from aft.run.folder import RunFolder
assert aft.run.RunFolder is RunFolder and callable(aft.run)
try:
    aft.nothing
except AttributeError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HUNG_AFTER)
    assert ran.stdout == "module 'aft' has no attribute 'nothing'\n"


def test_the_help_of_the_package_names_what_there_is():
    assert aft.__doc__ is not None
    named = [line.split()[0].split("(")[0] for line in aft.__doc__.splitlines() if line.startswith("    aft.")]
    assert len(named) == 10
    for name in named:
        assert hasattr(aft, name.removeprefix("aft."))
    assert Path(aft.run.__file__).parent.name == "run"
