"""Two processes on the CPU give what one gives: steps, logged values, scores, completions."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sharded_ranks
import torch
import two_ranks
import zero_ranks
from safetensors.torch import load_file

from limits import HUNG_AFTER

SCRIPT = Path(two_ranks.__file__)
SPREAD = "tokens/rank_spread"


def launch(folder: Path, *arguments: str, script: Path = SCRIPT) -> subprocess.CompletedProcess:
    """Two ranks that meet on a free port."""
    path = os.pathsep.join(filter(None, [str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "DS_ACCELERATOR": "cpu"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, str(script), str(folder), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HUNG_AFTER,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    two_ranks.main(one)
    result = launch(two, "", str(one))
    assert result.returncode == 0, result.stderr[-3000:]
    two_ranks.go_on(one, 1, "resumed", 2, two)
    two_ranks.go_on(one, 1, "whole", 1)
    return one, two


def test_a_training_goes_on_with_another_number_of_ranks(folders):
    """1 -> 2 and 2 -> 1, cut between two logs: weights, Adam's states and logged values of an uncut training."""
    one, two = folders
    expected = torch.load(one / "whole.pt")
    log = json.loads((one / "whole.json").read_text())
    for folder in (one, two):
        found = torch.load(folder / "resumed.pt")
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-8)
        for wanted, entry in zip(log, json.loads((folder / "resumed.json").read_text()), strict=True):
            without = {key: value for key, value in entry.items() if key != SPREAD}
            assert {**without, "epoch": 0} == pytest.approx({**wanted, "epoch": 0}, rel=1e-5, abs=1e-6)
    logs = [json.loads((folder / "resumed.json").read_text()) for folder in folders]
    # what was logged before the cut stays in the log, and a mean counts the steps of several ranks alone
    assert [[SPREAD in entry for entry in log] for log in logs] == [[True, True, False], [False, False, True]]
    assert logs[1][-1][SPREAD] >= 1


@pytest.mark.parametrize("name", two_ranks.NAMES)
def test_steps_and_logged_values_are_those_of_one_rank(folders, name):
    one, two = (torch.load(folder / f"{name}.pt") for folder in folders)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-8, atol=1e-8)
    one, two = (json.loads((folder / f"{name}.json").read_text()) for folder in folders)
    assert two["eval_loss"] == pytest.approx(one["eval_loss"], rel=1e-6)
    assert [entry["step"] for entry in one["log"] if "loss" in entry] == [1, 2, 3]
    for expected, found in zip(one["log"], two["log"], strict=True):
        # epochs are counted in batches of a rank, of which two ranks have fewer
        spread = found.pop(SPREAD, None)
        assert spread is None if "loss" not in found else 1 <= spread < 1.5
        assert {**found, "epoch": 0} == pytest.approx({**expected, "epoch": 0}, rel=1e-5, abs=1e-6)
    if name == "one-pair":
        assert sorted("scores/positive_drift" in entry for entry in one["log"] if "loss" in entry) == [
            False,
            True,
            True,
        ]
    for question_id, scores in (one["initial"] or {}).items():
        assert two["initial"][question_id] == pytest.approx(scores, abs=1e-9)


def test_scores_reach_every_rank(folders):
    one, two = folders
    expected = json.loads((one / "scores-0.json").read_text())
    assert len(expected) == 10
    for rank in range(2):
        found = json.loads((two / f"scores-{rank}.json").read_text())
        assert found.keys() == expected.keys()
        for question_id, scores in expected.items():
            assert found[question_id] == pytest.approx(scores, abs=1e-5)


def test_completions_are_the_same_byte_for_byte(folders):
    one, two = ((folder / "completions.jsonl").read_bytes() for folder in folders)
    assert one == two and one.count(b"\n") == 22
    assert not list(folders[1].glob("*.part-*"))


def test_sharded_weights_give_the_scores_and_gradients_of_whole_ones(tmp_path):
    """FSDP2, the head a unit of its own, ranks with unequal numbers of tokens and of chunks of logits."""
    result = launch(tmp_path, script=Path(sharded_ranks.__file__))
    assert result.returncode == 0, result.stderr[-3000:]
    tried = torch.load(tmp_path / "bfloat16.pt")
    assert (tried["layout"], tried["float32"]) == ("shared", None) and tried["own"] < 0.05
    assert tried["no_float32"] == "its weights are divided among processes"
    compared = torch.load(tmp_path / "saved.pt")
    assert compared["precise"] is False
    assert compared["told"].startswith("saved: what was saved is not what was trained: ")
    for checkpointed in (False, True):
        sharded = torch.load(tmp_path / f"sharded-{checkpointed}.pt")
        assert (sharded["layout"], sharded["line"]) == ("shared", None)
        model = sharded_ranks.build(checkpointed=False)
        for rank in range(2):
            expected = sharded_ranks.run(model, sharded_ranks.items_of(rank), "padded")
            found = torch.load(tmp_path / f"scores-{checkpointed}-{rank}.pt")
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
        for name, parameter in model.named_parameters():
            # sharded gradients are averaged over the ranks
            torch.testing.assert_close(2 * sharded["gradients"][name], parameter.grad, rtol=1e-3, atol=2e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs pip install 'aft[deepspeed]'")
def test_steps_under_zero_are_those_of_one_rank(tmp_path):
    """Stages 1 to 3: weights, logged values, clipping, what is saved, a resumed run; and an infinite gradient."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    result = launch(two, script=Path(zero_ranks.__file__))
    assert result.returncode == 0, result.stderr[-3000:]
    for name, case in zero_ranks.CASES.items():
        zero_ranks.train(one, name, ranks=1)
        [whole] = (one / name).glob("*.safetensors")
        expected = load_file(whole)
        for folder in (two / name, two / name / "resumed"):
            found = load_file(folder / whole.name)
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5)
        alone, found = (json.loads((folder / f"{name}.json").read_text()) for folder in (one, two))
        assert found["eval_loss"] == pytest.approx(alone["eval_loss"], rel=1e-5)
        assert found["initial"].keys() == alone["initial"].keys()
        assert [entry["step"] for entry in alone["log"] if "loss" in entry] == [1, 2, 3]
        for expected, logged in zip(alone["log"], found["log"], strict=True):
            logged.pop(SPREAD, None)
            assert {**logged, "epoch": 0} == pytest.approx({**expected, "epoch": 0}, rel=1e-4, abs=1e-5)
        # under stage 3 a rank holds no weight between two calls
        assert (found["held"] == 0) == (case.stage == 3)
    for stage in (2, 3):
        message = (two / f"broken-{stage}.txt").read_text()
        assert message.startswith("step 1: the gradient's norm is inf; the model was not updated. Questions: q")


@pytest.mark.slow
@pytest.mark.parametrize("question", ["q0", "q2"])
def test_a_loss_that_is_not_finite_on_one_rank_ends_both(tmp_path, question):
    result = launch(tmp_path, question)
    assert result.returncode != 0
    # whichever rank stops, it names the questions of the rank whose loss it was
    (message,) = {path.read_text() for path in tmp_path.glob("stopped-*.txt")}
    assert message.startswith("step 1: loss/vft is nan; the model was not updated. Questions: ")
    assert question in message and message in result.stderr
    assert not (tmp_path / "trained.txt").exists()
