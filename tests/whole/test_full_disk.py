"""A run on a small file system that fills up: one line, exit code 5, and the same end once there is space."""

from __future__ import annotations

import subprocess
import sys

import pytest

from limits import HUNG_AFTER

# Kilobytes, and what is being written when they are used up.
SIZES = {
    40: "base: the model",
    220: "checkpoint-2: the checkpoint",
    1000: "completions.part-00000.jsonl: the completions",
}


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(kilobytes)` mounts a file system of this size, or gives it this size if it is there."""
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(kilobytes):
        kind = (
            ["-o", f"remount,size={kilobytes}k"] if folder.is_mount() else ["-t", "tmpfs", "-o", f"size={kilobytes}k"]
        )
        done = subprocess.run(["mount", *kind, "tmpfs", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


def run(tiny, folder):
    command = [sys.executable, "-m", "aft.cli.train", "--config", tiny, f"output_dir={folder / 'run'}"]
    stages = "stages=[pretrain,vft,sample]"
    return subprocess.run([*command, stages], capture_output=True, text=True, timeout=HUNG_AFTER, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", SIZES)
def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on(tiny, tmp_path, small_disk, kilobytes):
    folder = small_disk(kilobytes)
    ended = run(tiny, folder)
    assert ended.returncode == 5 and "Traceback" not in ended.stderr
    told = f"{SIZES[kilobytes]} cannot be written: No space left on device. Free some space and run the same command"
    assert told in ended.stderr.splitlines()[-1]
    assert f"but {folder}/run has" in ended.stderr  # it was warned about
    assert {path.name for path in folder.rglob(".*")} <= {".lock", ".lock.writers"}
    small_disk(9000)
    assert run(tiny, folder).returncode == 0
    (tmp_path / "large").mkdir()
    assert run(tiny, tmp_path / "large").returncode == 0
    for name in ("vft/model.safetensors", "sample/completions.jsonl"):
        paths = [place / "run" / "seed-0" / name for place in (folder, tmp_path / "large")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
