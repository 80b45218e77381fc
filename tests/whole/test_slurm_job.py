"""A run in a job of Slurm on two machines, which are this one: from the script to a report, and cut by its limit.

`tests/fake_slurm` has the commands of Slurm. The processes, their rendezvous and their signals are real.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from limits import HUNG_AFTER

FAKES = Path(__file__).parents[1] / "fake_slurm"
SLURM = ["launch.config=cpu", "launch.num_processes=2", "launch.slurm.nodes=2"]
SAVING = "training.save_strategy=steps"


def submit(tiny, folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess:
    """Prints the script and runs the job. `aft-train` is this interpreter's."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    program = folder / "bin" / "aft-train"
    program.write_text(f'#!/bin/bash\nexec {sys.executable} -m aft.cli.train "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(FAKES), os.environ["PATH"]])
    outside = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PATH": path, **environment}
    command = [sys.executable, "-m", "aft.cli.train", "--config", str(tiny), f"output_dir={folder / 'run'}", "--sbatch"]
    printed = subprocess.run(
        [*command, *SLURM, *overrides], capture_output=True, text=True, check=True, env={**os.environ, **outside}
    )
    (folder / "job.sh").write_text(printed.stdout)
    return subprocess.run(
        [FAKES / "sbatch", "job.sh"],
        cwd=folder,
        env={**os.environ, **outside},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=HUNG_AFTER,
    )


@pytest.mark.slow
def test_a_job_on_two_machines_makes_a_report(tiny, tmp_path):
    ran = submit(tiny, tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert (tmp_path / "run" / "report.md").exists()
    log = (tmp_path / "run" / "logs" / "vft-0.log").read_text()
    assert log.startswith("$ srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1 ")
    state = (tmp_path / "run" / "seed-0" / "vft" / "trainer_state.json").read_text()
    assert "tokens/rank_spread" in state, "two ranks"


@pytest.mark.slow
def test_a_job_that_reaches_its_limit_is_queued_again_and_goes_on(tiny, tmp_path):
    changes = [SAVING, "stages=[pretrain]", "pretrain.training={max_steps: 20000, save_steps: 50}"]
    checkpoints, step = tmp_path / "run" / "base", 0
    for requeues in range(2):
        first_save = checkpoints / f"checkpoint-{step // 50 * 50 + 50}" / "parts.json"
        more = {"FAKE_AFTER": str(first_save), "SLURM_RESTART_COUNT": str(requeues)}
        ran = submit(tiny, tmp_path, *changes, **more)
        assert ran.returncode == 143, ran.stdout
        assert f"continues from checkpoint-{step}" in ran.stdout or not requeues
        found = re.search(r"pretrain: SIG(USR1|TERM): ends at step (\d+), saved", ran.stdout)
        assert found, ran.stdout
        step = int(found[2])
        assert (checkpoints / f"checkpoint-{step}" / "parts.json").exists()
        assert (tmp_path / "requeued").read_text() == "7\n" * (requeues + 1)


@pytest.mark.slow
def test_ranks_that_fail_end_the_job_with_one_message_and_its_exit_code(tiny, tmp_path):
    ran = submit(tiny, tmp_path, "stages=[pretrain]", "model.max_length=8")
    assert ran.returncode == 3, ran.stdout
    assert ran.stdout.count("nothing to train on: no response fits in model.max_length tokens") == 1
    assert not (tmp_path / "requeued").exists()
