"""Limits of a configuration: scalars with two readings, sizes of numbers, names and paths, and which files are read."""

from __future__ import annotations

import os

import pytest

from aft.config import load_config
from aft.config.launch_file import read_launch_file
from aft.errors import ConfigError

MINIMAL = """\
output_dir: runs/x
data: {name: arithmetic}
model: {name_or_path: some/model}
"""


def load(tmp_path, text=MINIMAL, *overrides):
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    return load_config(tmp_path / "run.yaml", overrides)


def problems(tmp_path, text=MINIMAL, *overrides):
    """The problems of a configuration, without the name of the file with which each begins."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return [problem.removeprefix(f"{tmp_path / 'run.yaml'}: ") for problem in caught.value.problems]


# ---- scalars with two readings ----

OCTAL = "'010' is 8 in YAML 1.1, in base 8, and 10 in YAML 1.2; write 10 or 8"
MINUTES = "'1:30' is 90 in YAML 1.1, in base 60, and text in YAML 1.2; write 90"
NO = "'no' is false in YAML 1.1 and text in YAML 1.2; write false, or 'no' in quotes"


def test_a_scalar_with_two_readings_is_refused_in_file_and_override(tmp_path):
    text = MINIMAL + "sample: {num_samples: 010, temperature: 1:30}\ntraining: {save_strategy: no, a: [1:30]}\n"
    text += "methods: {no: {}, a: {init_from: no}}\nprompt: {system: 010}\n"
    assert sorted(problems(tmp_path, text, "evaluate.batch_size=010", "seeds=[1:30]", "align.drift=010")) == sorted(
        [
            f"sample.num_samples: {OCTAL}",
            f"sample.temperature: {MINUTES}",
            f"training.save_strategy: {NO}",
            f"training.a[0]: {MINUTES}, or '1:30' in quotes",
            f"methods: a key must be text; {NO}",
            f"methods.a.init_from: {NO}",
            f"prompt.system: {OCTAL}, or '010' in quotes",
            f"evaluate.batch_size: {OCTAL}",
            f"seeds[0]: {MINUTES}",
            f"align.drift: {OCTAL}",
        ]
    )


def test_yes_and_no_are_read_where_true_and_false_are_meant(tmp_path):
    config = load(tmp_path, MINIMAL + "prompt: {chat: yes, allow_special_tokens: Off}\n", "align.drift=off")
    assert (config.prompt.chat, config.prompt.allow_special_tokens, config.align.drift) == (True, False, False)


def test_text_in_quotes_and_digits_in_groups_are_read(tmp_path):
    config = load(tmp_path, MINIMAL + "training: {run_name: 'no'}\nmethods: {'010': {}}\n", "evaluate.batch_size=1_000")
    assert (config.training, list(config.methods), config.evaluate.batch_size) == ({"run_name": "no"}, ["010"], 1000)


def test_a_launch_file_is_read_as_accelerate_reads_it(tmp_path):
    path = tmp_path / "launch.yaml"
    path.write_text("mixed_precision: no\nuse_cpu: yes\n")
    assert read_launch_file(str(path)) == {"mixed_precision": False, "use_cpu": True}
    path.write_text("num_processes: 010\n")
    with pytest.raises(ConfigError) as error:
        read_launch_file(str(path))
    assert str(error.value) == f"launch.config: {path}: num_processes: {OCTAL}"


def test_an_override_changes_one_of_two_aliases(tmp_path):
    text = MINIMAL + "vft: {training: &t {max_steps: 3}}\nalign: {training: *t}\n"
    config = load(tmp_path, text, "align.training.max_steps=4")
    assert (config.vft.training, config.align.training) == ({"max_steps": 3}, {"max_steps": 4})


# ---- numbers ----

HUGE = str(10**30)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (f"sample.num_samples={HUGE}", f"sample.num_samples: must be at most 10000, got {HUGE}"),
        (f"sample.max_new_tokens={HUGE}", f"sample.max_new_tokens: must be at most 1048576, got {HUGE}"),
        (f"evaluate.max_new_tokens={HUGE}", f"evaluate.max_new_tokens: must be at most 1048576, got {HUGE}"),
        ("evaluate.batch_size=9999999999", "evaluate.batch_size: must be at most 2147483647, got 9999999999"),
        (f"model.max_length={HUGE}", f"model.max_length: must be at most 2147483647, got {HUGE}"),
        ("model.lora={r: 100000}", "model.lora.r: must be at most 65536, got 100000"),
        (f"launch.workers={HUGE}", f"launch.workers: must be at most 1000, got {HUGE}"),
        ("data.num_pretrain=20000000", "data.num_pretrain: must be at most 10000000, got 20000000"),
        ("evaluate.assessment.max_samples=20000", "evaluate.assessment.max_samples: must be at most 10000, got 20000"),
        ("seeds=[4294967296]", "seeds: must be from 0 to 4294967295, got [4294967296]"),
        ("evaluate.num_questions=" + "9" * 900, None),
        (f"training.max_steps={HUGE}", None),
        ("training.x=1e400", "training.x: must be finite, got inf"),
        ("sample.temperature=1e400", "sample.temperature: must be finite, got inf"),
        ("sample.temperature=.nan", "sample.temperature: must be finite, got nan"),
        (
            "sample.temperature=1e-30",
            "sample.temperature: 1e-30 divides by nearly 0, allowed: at least 0.0001",
        ),
    ],
)
def test_a_number_out_of_range(tmp_path, override, expected):
    (found,) = problems(tmp_path, MINIMAL, override)
    assert found.startswith(override.partition("=")[0]) and len(found) < 200
    assert expected is None or found == expected


def test_a_seed_of_the_splits_is_a_seed(tmp_path):
    text = MINIMAL.replace("{name: arithmetic}", "{name: gsm8k, split_seed: -1}")
    assert problems(tmp_path, text) == ["data.split_seed: must be at least 0, got -1"]


# ---- names ----


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("initial-scores-vft.json", "a method's name becomes a folder; it must not end as a file does, nor in '.'"),
        ("a.", "a method's name becomes a folder; it must not end as a file does, nor in '.'"),
        ("VFT", "differs from 'vft' in case alone, which some file systems ignore"),
        ("Own", "differs from 'own' in case alone, which some file systems ignore"),
        ("con", "Windows keeps this name for a device"),
        ("NUL.x", "Windows keeps this name for a device"),
        ("m" * 101, "has 101 characters, allowed: at most 100"),
        ("a/b", "a method's name becomes a folder: letters, digits, '.', '_' and '-' only"),
        ("../b", "a method's name becomes a folder: letters, digits, '.', '_' and '-' only"),
        ("a b", "a method's name becomes a folder: letters, digits, '.', '_' and '-' only"),
        ("", "a method's name becomes a folder: letters, digits, '.', '_' and '-' only"),
    ],
)
def test_a_method_that_has_no_folder_of_its_own(tmp_path, name, expected):
    text = MINIMAL + f"methods: {{own: {{}}, '{name}': {{}}}}\n"
    assert problems(tmp_path, text) == [f"methods.{name}: {expected}"]


LONG = "x" * 256
TOO_LONG = f"the name '{'x' * 20}…' has 256 bytes; a file system takes at most 255"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (f"output_dir: a/{LONG}/b", "output_dir"),
        (f"model: {{name_or_path: {LONG}}}", "model.name_or_path"),
        (f"data: {{name: gsm8k, path: {LONG}}}", "data.path"),
        (f"data: {{name: jsonl, train: {LONG}}}", "data.train"),
        (f"launch: {{config: {LONG}}}", "launch.config"),
        (f"label: {{ratings: {{name: file, path: {LONG}}}}}", "label.ratings.path"),
        (f"label: {{ratings: {{name: judge, prompt: {LONG}}}}}", "label.ratings.prompt"),
    ],
)
def test_a_name_that_no_file_system_takes(tmp_path, section, key):
    name = section.partition(":")[0]
    kept = "".join(line for line in MINIMAL.splitlines(keepends=True) if not line.startswith(name))
    assert problems(tmp_path, f"{kept}{section}\n") == [f"{key}: {TOO_LONG}"]


def test_a_path_that_is_too_long_or_holds_a_null_character(tmp_path):
    long = "output_dir: /" + "a/" * 1800 + "\n"
    (found,) = problems(tmp_path, MINIMAL.replace("output_dir: runs/x\n", long))
    assert found == "output_dir: the path has 3600 bytes; at most 3500 are supported"
    text = MINIMAL.replace("output_dir: runs/x", 'output_dir: "a\\0b"')
    assert problems(tmp_path, text) == ["output_dir: holds a null character, got 'a\\x00b'"]


# ---- files ----


def message(path):
    with pytest.raises(ConfigError) as error:
        load_config(path)
    return str(error.value)


def test_extends_takes_regular_files_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for parent, expected in {
        "/dev/zero": "/dev/zero: cannot be read: it is a pipe or a device, not a regular file",
        "pipe": f"{tmp_path}/pipe: cannot be read: it is a pipe or a device, not a regular file",
        "loop": f"{tmp_path}/run.yaml: extends: {tmp_path}/loop: no such file",
        ".": f"{tmp_path}/run.yaml: extends: {tmp_path}: a folder, not a file",
        "x" * 300: f"{tmp_path}/run.yaml: extends: ",
    }.items():
        (tmp_path / "run.yaml").write_text(f"extends: {parent}\n")
        assert message(tmp_path / "run.yaml").startswith(expected)
    assert message(tmp_path / ("y" * 300)).endswith("cannot be read: File name too long")


def test_a_chain_of_files_has_an_end(tmp_path):
    for number in range(30):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    assert message(tmp_path / "0.yaml") == f"{tmp_path}/20.yaml: extends: a chain of more than 20 files"
