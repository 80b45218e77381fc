"""The script for Slurm's sbatch: what it asks for, and what its shell does with signals and exit codes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aft.config import load_config
from aft.errors import ConfigError
from aft.slurm import machine_of, run_script

FAKES = Path(__file__).parent / "fake_slurm"
TWO_NODES = "launch={config: fsdp2, slurm: {nodes: 2, gpus_per_node: 8}}"


def script_of(tiny, *overrides: str) -> str:
    config = load_config(tiny, ["output_dir=runs/my run", *overrides])
    return run_script(config, ["--config", str(tiny), *overrides])


def asked(script: str) -> dict[str, str]:
    lines = re.findall(r"^#SBATCH --(.*)", script, re.M)
    return dict(line.partition("=")[::2] for line in lines)


def test_a_script_asks_for_what_the_sections_name(tiny):
    plain = asked(script_of(tiny))
    assert plain == {
        "job-name": "aft-my-run",
        "nodes": "1",
        "ntasks-per-node": "1",
        "gpus-per-node": "1",
        "cpus-per-task": "8",
        "time": "24:00:00",
        "output": "%x-%j.log",
        "open-mode": "append",
        "signal": "B:USR1@300",
        "requeue": "",
    }
    more = "partition: gpu, account: lab, qos: high, mem: 200G, time: 2-12, requeues: 0, seconds_to_end: 60"
    section = f"launch.slurm={{{more}, cpus_per_task: 3, log: logs/%j, options: {{constraint: h100, exclusive: true}}}}"
    full = asked(script_of(tiny, "launch.device=cpu", section))
    assert "gpus-per-node" not in full and "requeue" not in full and full["no-requeue"] == ""
    assert [full[key] for key in ("partition", "account", "qos", "mem", "time")] == [
        "gpu",
        "lab",
        "high",
        "200G",
        "2-12",
    ]
    assert [full[key] for key in ("constraint", "exclusive", "signal", "output", "cpus-per-task")] == [
        "h100",
        "",
        "B:USR1@60",
        "logs/%j",
        "3",
    ]


def test_several_nodes_meet_at_the_first(tiny):
    script = script_of(tiny, TWO_NODES)
    assert asked(script)["nodes"] == "2" and asked(script)["gpus-per-node"] == "8"
    assert 'MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)"' in script
    assert "MASTER_ADDR" not in script_of(tiny, "launch.config=fsdp2")
    machine = machine_of(load_config(tiny, ["launch={config: fsdp2, slurm: {nodes: 4}, num_processes: 16}"]).launch)
    assert (machine.nodes, machine.gpus, machine.cores) == (4, 4, 32)


def test_a_training_without_checkpoints_is_named(tiny):
    assert "# pretrain, align: no training.save_strategy; a training that is cut begins again." in script_of(tiny)
    assert "begins again" not in script_of(tiny, "training.save_strategy=steps")


@pytest.mark.parametrize(
    "overrides", [(), (TWO_NODES,), ("launch.slurm.requeues=0", "launch.slurm.setup=[echo 'a b']")]
)
def test_bash_and_shellcheck_have_nothing_to_say(tiny, overrides):
    script = script_of(tiny, *overrides)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", "-"], input=script, text=True, capture_output=True, check=False)
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        (
            "partition: 'a b'",
            "launch.slurm.partition: expected a word without spaces, quotes and backslashes, got 'a b'",
        ),
        ("time: 1 day", "launch.slurm.time: got '1 day', allowed: '30' (minutes), '24:00:00', '2-12'"),
        ("options: {signal: USR1}", "launch.slurm.options.signal: not to be set here; set launch.slurm.seconds_to_end"),
        ("options: {mem: 1G}", "launch.slurm.options.mem: not to be set here; set launch.slurm.mem"),
        ("options: {--mem: 1G}", "launch.slurm.options: got '--mem', expected a long name of sbatch without dashes"),
        ('setup: ["a\\nb"]', "launch.slurm.setup: an entry has several lines; give each line an entry of its own"),
        ("nodes: 2", "launch.slurm.nodes: several only with launch.config, which says how the processes work together"),
    ],
)
def test_what_cannot_stand_in_a_script_is_refused(tiny, section, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load_config(tiny, [f"launch.slurm={{{section}}}"])


def test_processes_are_divided_among_nodes(tiny):
    with pytest.raises(ConfigError, match=r"launch\.num_processes: 3 cannot be divided among 2 nodes equally"):
        load_config(tiny, ["launch={config: fsdp2, num_processes: 3, slurm: {nodes: 2}}"])


def test_every_gpu_of_a_job_has_a_process(tiny):
    alone = r"launch\.slurm\.gpus_per_node: 8, but without launch\.config one process uses one GPU; set"
    with pytest.raises(ConfigError, match=alone):
        load_config(tiny, ["launch.slurm={gpus_per_node: 8}"])
    load_config(tiny, ["launch.slurm={gpus_per_node: 1}"])
    load_config(tiny, ["launch.slurm={gpus_per_node: 8}", "sample.engine=vllm"])
    for count in (4, 16):
        with pytest.raises(ConfigError, match=rf"launch\.num_processes: {count}, but launch\.slurm asks for 8 GPUs"):
            load_config(tiny, [f"launch={{config: fsdp2, num_processes: {count}, slurm: {{gpus_per_node: 8}}}}"])
    load_config(tiny, ["launch={config: fsdp2, num_processes: 16, slurm: {nodes: 2, gpus_per_node: 8}}"])


# A run that ends at a safe point when it is asked, or at once as its first argument says.
STANDS_IN = """#!{python}
import signal, sys, time
def end(number, _):
    time.sleep(0.3)
    print("saved", flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, end)
print("begun", flush=True)
{work}
"""


def submit(tmp_path: Path, script: str, work: str, **environment: str) -> subprocess.CompletedProcess:
    """The job in fake Slurm, with something in place of aft-train."""
    fake = tmp_path / "bin"
    fake.mkdir(exist_ok=True)
    (fake / "aft-train").write_text(STANDS_IN.format(python=sys.executable, work=work))
    (fake / "aft-train").chmod(0o755)
    (tmp_path / "job.sh").write_text(script)
    path = os.pathsep.join([str(fake), str(FAKES), os.environ["PATH"]])
    return subprocess.run(
        [FAKES / "sbatch", "job.sh"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_job_before_its_limit_ends_at_a_safe_point_and_is_queued_again(tiny, tmp_path):
    script = script_of(tiny, "launch.slurm={setup: [export CLUSTER=here], requeues: 3}")
    ran = submit(tmp_path, script, "time.sleep(60)", FAKE_LIMIT="2")
    assert (ran.returncode, ran.stdout) == (143, "begun\nsaved\n"), ran.stderr
    assert "the job is queued again, to go on from here" in ran.stderr
    assert (tmp_path / "requeued").read_text() == "7\n"
    ran = submit(tmp_path, script, "time.sleep(60)", FAKE_LIMIT="2", SLURM_RESTART_COUNT="3")
    assert ran.returncode == 143 and (tmp_path / "requeued").read_text() == "7\n", "three times at most"


def test_a_job_that_is_cancelled_is_not_queued_again(tiny, tmp_path):
    ran = submit(tmp_path, script_of(tiny), "time.sleep(60)", FAKE_CANCEL="2")
    assert (ran.returncode, ran.stdout) == (143, "begun\nsaved\n"), ran.stderr
    assert "queued again" not in ran.stderr and not (tmp_path / "requeued").exists()
    # the limit was told before: TERM then only ends the wait for a safe point
    work = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(1.5)\nsys.exit(143)"
    ran = submit(tmp_path, script_of(tiny), work, FAKE_LIMIT="1", FAKE_CANCEL="1.5")
    assert ran.returncode == 143 and (tmp_path / "requeued").read_text() == "7\n"


def test_lines_of_setup_come_before_the_strict_mode(tiny, tmp_path):
    setup = "launch.slurm={setup: ['[ -z \"$NOT_SET\" ] && false', 'cd . ; export GREETING=hello']}"
    ran = submit(tmp_path, script_of(tiny, setup), "import os; print(os.environ['GREETING'])")
    assert (ran.returncode, ran.stdout) == (0, "begun\nhello\n"), ran.stderr


def test_a_job_ends_with_the_exit_code_of_its_run(tiny, tmp_path):
    for code in (0, 3):
        assert submit(tmp_path, script_of(tiny), f"sys.exit({code})").returncode == code
    # asked to end, and done all the same
    work = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3)"
    assert submit(tmp_path, script_of(tiny), work, FAKE_LIMIT="1").returncode == 0
    assert not (tmp_path / "requeued").exists()
