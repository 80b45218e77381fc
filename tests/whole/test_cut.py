"""Real runs of the tiny model that are cut: by a signal they resume to the same bits, and nothing outlives them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aft.run.folder import RunFolder
from limits import HUNG_AFTER

LAUNCHES = ("worker", "launcher", "torchrun")  # our own worker, accelerate's launcher around it, two ranks by hand
# a signal comes between the logs and between the checkpoints of this training
STEPS = (
    "vft.training={max_steps: %d, logging_steps: 7, save_strategy: steps, save_steps: 20, eval_strategy: 'no',"
    " load_best_model_at_end: false}"
)


def start(tiny, folder: Path, launch: str, steps: int) -> subprocess.Popen:
    changes = [f"output_dir={folder}", "pretrain.training={max_steps: 2}", STEPS % steps, "launch.device=cpu"]
    given = ["aft.cli.train", "--config", str(tiny), *changes]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    before = []
    if launch == "torchrun":
        if not (folder / "base" / "manifest.json").exists():
            made = subprocess.run([sys.executable, "-m", *given, "--stage", "pretrain"], env=environment, check=False)
            assert made.returncode == 0
        before = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        given.append("--stage=vft")
    else:
        given.append("stages=[pretrain,vft]")
        if launch == "launcher":
            given.append("launch.config=cpu")
    command = [sys.executable, *before, "-m", *given]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def wait_for_steps(folder: Path, process: subprocess.Popen) -> None:
    """Until VFT trains: its log has a line of its progress or its folder a checkpoint."""
    deadline = time.monotonic() + HUNG_AFTER
    while not list((folder / "seed-0" / "vft").glob("checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline and process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def of_run(folder: Path) -> list[int]:
    """The processes whose command names a run's folder, or that started from one that does."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes() and b"State:\tZ" not in (path.parent / "status").read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until_gone(folder: Path) -> None:
    begun = time.monotonic()
    while left := of_run(folder):
        assert time.monotonic() - begun < 60, left
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_signal_saves_a_checkpoint_and_the_run_ends_as_an_uncut_one(tiny, tmp_path, launch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = start(tiny, cut, launch, 200)
    wait_for_steps(cut, process)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=HUNG_AFTER)
    if launch != "torchrun":  # which has exit codes of its own
        assert process.returncode == 143, told
        assert "SIGTERM: vft ends at its next safe point" in told
    assert "the same command goes on from here" in told
    [step] = re.findall(r"vft seed 0: SIGTERM: ends at step (\d+), saved", told)
    assert (cut / "seed-0" / "vft" / f"checkpoint-{step}" / "trainer_state.json").exists()
    wait_until_gone(cut)
    for folder in (whole, cut):
        process = start(tiny, folder, launch, 200)
        _, told = process.communicate(timeout=HUNG_AFTER)
        assert process.returncode == 0, told
    assert "vft seed 0: resumes" in told or launch == "torchrun"
    files = [RunFolder(folder).checkpoint("vft", 0) / "model.safetensors" for folder in (whole, cut)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("launch", LAUNCHES)
def test_nothing_outlives_a_killed_conductor(tiny, tmp_path, launch):
    folder = tmp_path / "run"
    process = start(tiny, folder, launch, 100_000)
    wait_for_steps(folder, process)
    assert len(of_run(folder)) > 1
    begun = time.monotonic()
    process.kill()
    process.communicate()  # until what it started, and shares its output, is gone
    wait_until_gone(folder)
    seconds = time.monotonic() - begun
    print(f"{launch}: gone after {seconds:.2f} s")
    assert seconds < 5
    # the next run takes over
    process = start(tiny, folder, launch, 4)
    _, told = process.communicate(timeout=HUNG_AFTER)
    assert process.returncode == 0, told
    assert re.search(r"process \d+ on \S+ since \S+ \(.*\) is gone; this run takes over", told)
