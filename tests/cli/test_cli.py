"""The commands: exact messages and exit codes, and never a traceback for what the user can mend."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import aft
from aft.config import load_config, to_yaml
from aft.yaml_files import yaml_text
from limits import HUNG_AFTER
from planted_text import ACTS, HTML, SECRET, is_clean

HEAVY = {"torch", "transformers", "datasets", "accelerate", "peft", "numpy", "yaml", "tqdm", "matplotlib"}
PROGRAMS = ("train", "sample", "label", "evaluate", "report")
ALL_PROGRAMS = (*PROGRAMS, "verify", "convert", "init")


@pytest.fixture
def refused(command, tiny, tmp_path):
    """The message with which aft-train refuses the tiny configuration with these changes, without its prefix."""

    def run(*overrides, program="train", code=2):
        ran = command(program, "--config", tiny, f"output_dir={tmp_path / 'run'}", *overrides)
        assert ran.code == code, ran.err
        told, mark, message = ran.err.partition("aft: error: ")
        assert mark and "Traceback" not in ran.err
        assert all(line.startswith(("questions: ", "data: ")) for line in told.splitlines())
        return message.rstrip("\n").replace(f"{tiny}: ", "")

    return run


# ---- help, and what it costs ----


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_light(program):
    code = (
        f"import sys\nsys.argv = ['aft-{program}', '--help']\n"
        f"from aft.cli.{program} import main\n"
        "try:\n    main()\nfinally:\n"
        f"    print('heavy:', *sorted({HEAVY!r} & {{name.split('.')[0] for name in sys.modules}}))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HUNG_AFTER)
    assert ran.returncode == 0, ran.stderr
    assert f"usage: aft-{program} --config FILE" in ran.stdout
    assert "exit codes: 0 done" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "heavy:"


@pytest.mark.parametrize("program", ALL_PROGRAMS)
def test_every_command_tells_its_version(command, program):
    ran = command(program, "--version")
    assert (ran.code, ran.out, ran.err) == (0, f"aft {aft.__version__}\n", "")


# ---- options ----


def test_a_config_is_needed(command):
    ran = command("train")
    assert ran.code == 2
    assert "the following arguments are required: --config" in ran.err


def test_a_misspelt_option(refused):
    assert refused("--stge", "vft") == "aft-train: unknown option --stge. Did you mean '--stage'?"
    assert refused("--dryrun") == "aft-train: unknown option --dryrun. Did you mean '--dry-run'?"


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["--seed", "3"], "seed: unknown key. Did you mean 'seeds'? Allowed: "),
        (["--workers", "3"], "workers: unknown key. Allowed: "),  # and never the hidden option --worker
        (["--align.loss.weigth", "3"], "align.loss.weigth: unknown key. Did you mean 'weight'?"),
        (["vft"], "'vft': expected key=value or --key value"),
        (["-v"], "'-v': expected key=value or --key value"),
    ],
)
def test_a_misspelt_key(refused, arguments, start):
    assert refused(*arguments).startswith(start)


def test_negative_numbers_are_values(command, tiny, tmp_path):
    for value in ("-0.1", "-1e-1", "-.1", "-1"):
        arguments = ["--align.loss.constraint.beta", value, "--dry-run", "--output_dir", str(tmp_path / "run")]
        ran = command("train", "--config", tiny, "seeds=[1]", *arguments)
        assert ran.code == 0, ran.err
        resolved = yaml.safe_load(ran.out.split("\n\n", 1)[1])
        assert resolved["align"]["loss"]["constraint"]["beta"] == float(value)
        assert resolved["seeds"] == [1]


def test_an_unknown_stage(refused):
    expected = (
        "--stage: got 'evalute', allowed: pretrain, vft, sample, label, align, evaluate. Did you mean 'evaluate'?"
    )
    assert refused("--stage", "evalute") == expected


# ---- one report ----


def test_problems_of_file_libraries_and_machine_come_in_one_report(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[2])  # where configs/accelerate/ is
    (tmp_path / "file").touch()
    message = refused(
        "seeds=[0,0]",
        "sample.num_samples=no",
        "training.learning_rate=abc",
        "vft.training.lerning_rate=1",
        "methods.bcl.training={seed: 3}",
        f"output_dir={tmp_path / 'file'}",
        "data.num_test=0",
        "launch.config=singel-gpu",
        "launch.workers=2",
        "--stage",
        "lable",
    )
    assert message.replace(str(tmp_path), "T").splitlines() == [
        "10 problems:",
        "  - sample.num_samples: expected a whole number, got 'no' (str)",
        "  - seeds: a value appears twice: [0, 0]",
        "  - output_dir: T/file cannot be made, T/file is a file",
        "  - launch.config: no file 'singel-gpu' nor configs/accelerate/singel-gpu.yaml. Did you mean 'single-gpu'?"
        " There: cpu, fsdp2, multi-gpu, single-gpu, zero3",
        "  - launch.workers: only without launch.config, which starts processes of its own",
        "  - evaluate.split: the test split has no questions",
        "  - training.learning_rate: expected float, got 'abc' (str)",
        "  - vft.training.lerning_rate: TrainingArguments has no such key. Did you mean 'learning_rate'?",
        "  - methods.bcl.training.seed: not to be set here; set seeds",
        "  - --stage: got 'lable', allowed: pretrain, vft, sample, label, align, evaluate. Did you mean 'label'?",
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.learning_rate=[1]", "training.learning_rate: expected float, got [1] (list)"),
        ("align.training.max_steps=1.5", "align.training.max_steps: expected int, got 1.5 (float)"),
        ("training.remove_unused_columns=true", None),
        (
            "vft.training.eval_strategy=stepz",
            "vft.training: stepz is not a valid IntervalStrategy, please select one of ['no', 'steps', 'epoch']",
        ),
        (
            "training.eval_strategy=stepz",
            "training: stepz is not a valid IntervalStrategy, please select one of ['no', 'steps', 'epoch']",
        ),
        ("training.report_to=wandbb", None),
        ("data.options={slipp: 0.1}", None),
        ("data.options.slip=lots", "data.options.slip: expected float, got 'lots'"),
        ("data.options.min_statements=3", None),
        ("data.answer_marker='two words'", None),
    ],
)
def test_what_the_libraries_and_the_task_know(refused, override, expected):
    # its demands on the other keys would add problems to some of these
    message = refused(override, "vft.training.load_best_model_at_end=false")
    assert "\n" not in message
    assert message.startswith(("training", "vft.training", "align.training", "data"))
    if expected is not None:
        assert message == expected


def test_a_missing_extra_is_told_before_anything_runs(refused):
    import importlib.util

    absent = next(name for name in ("wandb", "mlflow", "comet_ml") if importlib.util.find_spec(name) is None)
    package = {"comet_ml": "comet-ml"}.get(absent, f"{absent}, or 'aft[trackers]',")
    expected = f"training: report_to: {absent} is not installed here; pip install {package} or set report_to to none"
    assert refused(f"training.report_to={absent}") == expected


def test_no_gpu_where_one_is_asked_for(refused, command, tiny, tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    lacking = "launch.device: cuda, but torch finds no GPU here; allowed: auto, cpu"
    assert refused("launch.device=cuda") == lacking
    ran = command("train", "--config", tiny, f"output_dir={tmp_path / 'run'}", "launch.device=cuda", "--dry-run")
    assert ran.code == 0
    assert f"\n# here: {lacking}\n" in ran.out


# ---- files and folders ----


def test_a_configuration_that_is_not_there(command, tmp_path):
    ran = command("train", "--config", tmp_path / "gone.yaml")
    assert (ran.code, ran.out) == (2, "")
    start = f"aft: error: {tmp_path / 'gone.yaml'}: no such file, and aft has no configuration of this name. It has: "
    assert ran.err.startswith(f"{start}quickstart, ") and ran.err.count("\n") == 1


def test_an_output_folder_that_cannot_be(refused, tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "below"
    assert refused(f"output_dir={path}") == f"output_dir: {path} cannot be made, {tmp_path / 'file'} is a file"


def test_an_output_folder_without_permission(refused, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    path = tmp_path / "locked" / "run"
    expected = f"output_dir: {path} cannot be written: no permission in {tmp_path / 'locked'}"
    assert refused(f"output_dir={path}") == expected


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
def test_an_output_folder_that_the_system_refuses(refused):
    expected = "output_dir: /proc/aft-run cannot be written: No such file or directory"
    assert refused("output_dir=/proc/aft-run") in (
        expected,
        expected.replace("No such file or directory", "no permission in /proc"),
    )


def test_a_model_that_is_none(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").touch()
    Path("half").mkdir()
    Path("half/config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}')
    for name, expected in {
        "half": "half: t5 is an encoder-decoder (is_encoder_decoder); expected a causal language model",
        "empty": "empty is no model: it has no config.json",
        "file": "file is a file; expected a folder or a hub name",
        "./gone": f"no folder ./gone (looked in {tmp_path})",
        "a/b/c": f"no folder a/b/c (looked in {tmp_path})",
    }.items():
        overrides = ["model.from_scratch=null", f"model.name_or_path={name}", "stages=[vft]"]
        assert refused(*overrides) == f"model.name_or_path: {expected}"


def test_data_folders(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    expected = f"data.path: no folder gone (looked in {tmp_path})"
    assert refused("data={name: gsm8k, path: gone}") == expected
    assert refused("data={name: gsm8k, path: empty}") == "data.path: empty has no train.jsonl or train.jsonl.gz"


def test_more_questions_than_there_are(refused, gsm8k_folder):
    assert refused(f"data={{name: gsm8k, path: {gsm8k_folder}, num_validation: 400, num_test: 51}}") == (
        "data.num_validation: got 400, data.num_test: got 51; available: 450 questions in GSM8K's test file"
    )


def test_a_broken_data_line_has_its_own_exit_code(refused, gsm8k_folder, tmp_path):
    for name in ("train", "test"):
        lines = (gsm8k_folder / f"{name}.jsonl").read_text().splitlines()
        lines[2] = '{"question": "why?"}'
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    data = f"data={{name: gsm8k, path: {tmp_path}, num_validation: 10}}"
    message = refused(data, code=3)
    assert message.startswith(
        f"{tmp_path}/train.jsonl:3: missing 'answer' (the line has 'question'). data.skip_unreada"
    )
    # a wrong configuration comes first
    assert refused(data, "seeds=[]", code=2) == "seeds: empty; at least one is needed"


def test_a_launch_file_that_is_no_yaml(refused, tmp_path):
    path = tmp_path / "launch.yaml"
    path.write_text("a: [1")
    expected = f"{path}:1:6: not valid YAML: expected ',' or ']', but got '<stream end>'"
    assert refused(f"launch.config={path}") == expected


# ---- stages out of order ----


@pytest.mark.parametrize(
    ("program", "stage", "missing"),
    [
        ("train", "vft", {"base": "pretrain"}),
        ("train", "sample", {"seed-0/vft": "vft"}),
        ("sample", None, {"seed-0/vft": "vft"}),
        ("train", "label", {"seed-0/sample/completions.jsonl": "sample"}),
        ("label", None, {"seed-0/sample/completions.jsonl": "sample"}),
        ("train", "align", {"seed-0/vft": "vft", "seed-0/label/groups.jsonl": "label"}),
        (
            "evaluate",
            None,
            {
                "base": "pretrain",
                "seed-0/label/pool.jsonl": "label",
                "seed-0/vft": "vft",
                "seed-0/align/rft": "align",
                "seed-0/align/bcl": "align",
            },
        ),
    ],
)
def test_an_earlier_stage_is_missing(refused, tmp_path, program, stage, missing):
    message = refused(*(["--stage", stage] if stage else []), program=program)
    folder = tmp_path / "run"
    problems = [
        f"stage {stage or program} reads {folder / path}, which is not there or not finished;"
        f" make it with: aft-train --config {folder}/config.yaml --stage {maker}"
        for path, maker in missing.items()
    ]
    found = [line.removeprefix("  - ") for line in message.splitlines()]
    assert found == (problems if len(problems) == 1 else [f"{len(problems)} problems:", *problems])
    # the configuration that the advice names is there
    assert load_config(folder / "config.yaml").output_dir == str(folder)


def test_a_report_of_nothing(refused, tmp_path):
    run = tmp_path / "run"
    assert refused(program="report", code=1) == f"{run}: no such run folder"
    run.mkdir()
    assert refused(program="report", code=1).startswith(f"{run}: no evaluation to report")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"inputs"', "cannot be read as JSON: Expecting ':' delimiter: line 1 column 10 (char 9)."),
        ("[]", "expected a JSON object, got list."),
        ('{"inputs": {}}', "'outputs' is missing or no object."),
        ("", "cannot be read as JSON: Expecting value: line 1 column 1 (char 0)."),
    ],
)
def test_a_damaged_manifest(refused, tmp_path, content, expected):
    manifest = tmp_path / "run" / "base" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(content)
    told, how = refused(code=3).splitlines()
    assert told == f"pretrain: {manifest}: {expected.rstrip('.')}"
    assert how.strip().startswith("To go on, put the files back, or run the same command with --repair: ")


# ---- dry run ----


def test_a_dry_run_shows_all_and_writes_nothing(command, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = command("train", "--config", tiny, "output_dir=run", "seeds=[3]", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    plan, resolved = ran.out.split("\n\n")
    (tmp_path / "resolved.yaml").write_text(resolved)
    config = load_config(tmp_path / "resolved.yaml")
    assert config == load_config(tiny, ["output_dir=run", "seeds=[3]"])
    assert to_yaml(config).strip() == resolved.strip()
    assert [" ".join(line.split()) for line in plan.splitlines()] == [
        "run pretrain run/base",
        "run vft seed 3 run/seed-3/vft",
        "because after pretrain",
        "run sample seed 3 run/seed-3/sample",
        "because after vft seed 3",
        "run label seed 3 run/seed-3/label",
        "because after sample seed 3",
        "run align rft seed 3 run/seed-3/align/rft",
        "because after vft seed 3",
        "run align bcl seed 3 run/seed-3/align/bcl",
        "because after vft seed 3",
        "run evaluate base seed 3 run/seed-3/evaluate/base",
        "because after pretrain",
        "run evaluate vft seed 3 run/seed-3/evaluate/vft",
        "because after vft seed 3",
        "run evaluate rft seed 3 run/seed-3/evaluate/rft",
        "because after align rft seed 3",
        "run evaluate bcl seed 3 run/seed-3/evaluate/bcl",
        "because after align bcl seed 3",
    ]


def test_a_dry_run_of_one_stage(command, tiny, tmp_path):
    ran = command("train", "--config", tiny, f"output_dir={tmp_path / 'run'}", "--dry-run", "--stage", "vft")
    assert ran.code == 0
    plan = [" ".join(line.split()) for line in ran.out.split("\n\n")[0].splitlines()]
    assert plan == [f"run vft seed 0 {tmp_path}/run/seed-0/vft", f"because waits for {tmp_path}/run/base"]


@pytest.fixture
def no_network(monkeypatch):
    """Fails a test in which anything connects to another machine."""
    tried = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: tried.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: tried.append(address) or [])
    yield
    assert tried == []


def planned(ran) -> tuple[list[str], list[str]]:
    """(stages of the plan, what was not looked at) of a dry run; the plan comes first."""
    assert ran.code == 0, ran.err
    plan, rest = ran.out.split("\n\n", 1)
    assert all(line.startswith(("run ", "skip ", "      ")) for line in plan.splitlines())
    told = [line.removeprefix("# here: ") for line in rest.splitlines() if line.startswith("# here: ")]
    assert rest.splitlines()[len(told)].startswith("output_dir: ")
    return [line.split()[1] for line in plan.splitlines() if line[0] != " "], told


SAME = "; finished stages count as made of the same data"


@pytest.mark.parametrize(
    ("data", "unseen"),
    [
        ("{name: gsm8k}", ["data: openai/gsm8k not looked at, as a dry run does not use the network" + SAME]),
        ("{name: gsm8k, path: gone}", ["data.path: no folder gone (looked in HERE)" + SAME]),
        ("{name: jsonl, train: gone.jsonl}", ["data.train: no file gone.jsonl (looked in HERE)" + SAME]),
        (
            "{name: mixture, parts: {a: {data: {name: aqua}}, b: {data: {name: jsonl, test: gone}, share: 0}}}",
            [
                "data.parts.a.data: deepmind/aqua_rat not looked at, as a dry run does not use the network",
                "data.parts.b.data.test: no file gone (looked in HERE)" + SAME,
            ],
        ),
        (
            "{name: python, module: mine.py, class_name: Mine}",
            ["data: not looked at, as a dry run does not run the code of mine.py" + SAME],
        ),
    ],
    ids=["hub", "folder", "file", "mixture", "code"],
)
def test_a_dry_run_needs_no_data_no_network_and_no_code(command, tiny, tmp_path, monkeypatch, no_network, data, unseen):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("raise SystemExit('this code ran')\n")
    rating = "label.ratings={name: function, function: mine.py:rate}"
    ran = command("train", "--config", tiny, f"data={data}", "sample.pool_questions=0", rating, "--dry-run")
    stages, told = planned(ran)
    assert list(dict.fromkeys(stages)) == ["pretrain", "vft", "sample", "label", "align", "evaluate"]
    assert [line.replace(str(tmp_path), "HERE") for line in told] == unseen


def test_a_dry_run_names_a_rating_function_that_is_not_there(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rating = "label.ratings={name: function, function: gone.py:rate}"
    assert refused(rating, "--dry-run") == f"label.ratings.function: no file gone.py (looked in {tmp_path})"


def test_a_dry_run_still_tells_what_is_wrong_with_data_that_are_there(refused, command, tiny, gsm8k_folder, tmp_path):
    data = f"data={{name: gsm8k, path: {gsm8k_folder}, num_train: 9999}}"
    assert refused(data, "--dry-run").startswith("data.num_train: got 9999")
    (tmp_path / "mine.jsonl").write_text('{"question": "why?"}\n')
    data = f"data={{name: jsonl, train: {tmp_path}/mine.jsonl}}"
    ran = command("train", "--config", tiny, data, "sample.pool_questions=0", "--dry-run")
    assert ran.code == 3 and ran.out.startswith("run ")
    assert ran.err.startswith(f"aft: error: {tmp_path}/mine.jsonl:1: missing 'answer' (the line has 'question'). data.")


@pytest.mark.parametrize(("name", "launch"), [("quickstart", "multi-gpu"), ("gsm8k/llama2-7b-aft-bcl", "fsdp2")])
def test_what_comes_with_aft_is_planned_without_a_warning(command, tmp_path, monkeypatch, no_network, name, launch):
    monkeypatch.chdir(tmp_path)
    processes = f"launch={{config: {launch}, num_processes: 4}}"
    ran = command("train", "--config", name, processes, "--dry-run")
    stages, _ = planned(ran)
    assert set(stages) == {"vft", "sample", "label", "align", "evaluate"}
    assert (ran.err, list(tmp_path.iterdir())) == ("", [])


# ---- launched by accelerate itself ----


def test_a_launcher_needs_a_stage(refused, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    expected = "--stage: missing; a launcher's process does one stage, aft-train itself starts them all"
    assert refused() == expected


def test_accelerate_launch_runs_a_stage(tiny, tmp_path):
    config = load_config(tiny, [f"output_dir={tmp_path / 'run'}"])
    (tmp_path / "run.yaml").write_text(to_yaml(config), encoding="utf-8")
    completions = tmp_path / "run" / "seed-0" / "sample" / "completions.jsonl"
    completions.parent.mkdir(parents=True)
    line = {
        "question_id": "train-0-0",
        "index": 0,
        "completion": "[ANS] 1",
        "truncated": False,
        "num_tokens": 3,
        "seed": 0,
    }
    completions.write_text(json.dumps(line) + "\n")
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "1",
        "-m",
        "aft.cli.train",
    ]
    ran = subprocess.run(
        [*launch, "--config", tmp_path / "run.yaml", "--stage", "label"],
        capture_output=True,
        text=True,
        timeout=HUNG_AFTER,
    )
    assert ran.returncode == 0, ran.stderr
    assert {path.name for path in (tmp_path / "run" / "seed-0" / "label").iterdir()} == {
        "counts.json",
        "groups.jsonl",
        "manifest.json",
        "pool.jsonl",
    }
    assert load_config(tmp_path / "run" / "config.yaml") == config


# ---- a reader that has gone ----


def test_a_closed_pipe_is_no_error(tiny, tmp_path):
    command = f"{sys.executable} -m aft.cli.train --config {tiny} output_dir={tmp_path / 'run'} --dry-run | true"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=HUNG_AFTER)
    assert ran.stderr == ""


# ---- text from outside ----


def test_a_dry_run_shows_no_text_that_acts_and_reads_back(command, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    template = f"{ACTS} {HTML}\n{{question}}".replace("\ud800", "").replace("\x00", "")
    (tmp_path / "run.yaml").write_text(
        yaml_text({"extends": str(tiny), "output_dir": "run", "prompt": {"template": template}})
    )
    ran = command("train", "--config", "run.yaml", "--dry-run")
    assert ran.code == 0 and is_clean(ran.out + ran.err)
    assert yaml.safe_load(ran.out.split("\n\n")[1])["prompt"]["template"] == template


@pytest.mark.parametrize("name", ["a-key", "b\x1b[31m\u202e<script>"])
def test_a_wrong_key_is_shown(refused, tmp_path, monkeypatch, name):
    assert is_clean(refused(f"align.{name}=3")) and is_clean(refused(f"methods.{name}.{name}=3"))


def test_a_secret_is_refused_where_files_would_keep_it(refused, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    message = refused(f"model.name_or_path=http://me:pw@host/{SECRET}", "stages=[vft]", f"training.hub_token={SECRET}")
    assert is_clean(message) and "pw" not in message
    told = "holds the value of the environment variable OPENAI_API_KEY, which the files of the run would keep"
    assert f"model.name_or_path: {told}" in message
    assert "training.hub_token: not to be set here; set the environment variable HF_TOKEN" in message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("silent", [False, True])
def test_an_output_that_cannot_be_written_is_one_line(silent):
    command = [sys.executable, "-m", "aft.cli.init", "arithmetic"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=full if silent else subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 5
    told = "standard output or a file cannot be written: No space left on device. Free some space and run the same"
    assert silent or (ended.stderr.count("\n") == 1 and told in ended.stderr)


@pytest.mark.parametrize("override", ["model=null", "model=llama", "model.dtype=float8"])
def test_a_wrong_model_section_is_a_line_and_no_traceback(override, command, tiny, tmp_path):
    ran = command("train", "--config", tiny, f"output_dir={tmp_path / 'run'}", override, "--dry-run")
    assert ran.code == 2 and "model" in ran.err


def test_a_worker_whose_folder_is_gone_says_so(command, tmp_path):
    gone = tmp_path / "run" / "config.yaml"
    ran = command("train", "--config", gone, "--stage", "vft", "--worker", "-")
    assert (ran.code, ran.out) == (5, "")
    assert ran.err == f"aft: error: {gone}: gone. The run's folder was moved or removed while the run was at work.\n"


def test_a_starter_for_a_model_without_a_file_says_so(command, tmp_path):
    ran = command("init", "gsm8k", "--model", "qwen2.5-1.5")
    assert ran.code == 0 and "name_or_path: qwen2.5-1.5" in ran.out
    assert ran.err.startswith(
        "aft-init: note: 'qwen2.5-1.5' is no model that aft has a file for. Did you mean 'qwen2.5-1"
    )
    for name in ("qwen2.5-1.5b", "account/name", "arithmetic-base", str(tmp_path)):
        assert command("init", "gsm8k", "--model", name).err == ""
