"""Configurations: what is read, what is refused, and that all problems come in one report."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from aft.config import align_config, idle_overrides, load_config, to_yaml
from aft.config.load import merge
from aft.errors import ConfigError

TASK_NAMES = "gsm8k, aqua, ecqa, mmlu, svamp, math, arithmetic, creatures, jsonl, python, mixture"
MINIMAL = """\
output_dir: runs/x
data: {name: arithmetic}
model: {name_or_path: some/model}
"""


def load(tmp_path, text=MINIMAL, *overrides):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def problems(tmp_path, text=MINIMAL, *overrides):
    """The problems of a configuration, without the file name that each must begin with."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    prefix = f"{tmp_path / 'run.yaml'}: "
    assert all(problem.startswith(prefix) for problem in caught.value.problems)
    return [problem.removeprefix(prefix) for problem in caught.value.problems]


def message(tmp_path, text, *overrides):
    """The whole message of a file that cannot be read at all, without its folder."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value).replace(f"{tmp_path}/", "")


# ---- what is read ----


def test_three_sections_are_enough(tmp_path):
    config = load(tmp_path)
    assert config.stages == ["vft", "sample", "label", "align", "evaluate"]
    assert config.align.loss.constraint.name == "boundary"
    assert config.align.loss.constraint.beta == 0.15
    assert list(config.methods) == ["aligned"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("2e-5", 2e-5), ("1e-3", 1e-3), ("1E+2", 100.0), ("-1e-1", -0.1), ("1.5e3", 1500.0), (".5", 0.5), ("2.", 2.0)],
)
def test_numbers_are_numbers(tmp_path, text, number):
    config = load(tmp_path, MINIMAL + f"training: {{learning_rate: {text}}}\n")
    assert config.training == {"learning_rate": number}
    assert load(tmp_path, MINIMAL, f"training.learning_rate={text}").training == {"learning_rate": number}


@pytest.mark.parametrize("text", ["2024-11-05", "2024-13-45", "2024-11-05 10:00:00"])
def test_a_date_is_text(tmp_path, text):
    assert load(tmp_path, MINIMAL + f"training: {{run_name: {text}}}\n").training == {"run_name": text}


def test_a_whole_number_may_stand_for_a_float_but_no_other_kind(tmp_path):
    assert load(tmp_path, MINIMAL, "sample.temperature=0").sample.temperature == 0.0
    assert problems(tmp_path, MINIMAL, "sample.num_samples=2.0", "sample.top_p='1'", "align.drift=1") == [
        "sample.num_samples: expected a whole number, got 2.0 (float)",
        "sample.top_p: expected a number, got '1' (str)",
        "align.drift: expected true or false, got 1 (int)",
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        ["seeds=[3, 4]", "align.loss.constraint.beta=-0.1", "model.lora=null", "data.num_test=7"],
        ["--seeds", "[3, 4]", "--align.loss.constraint.beta", "-0.1", "--model.lora", "null", "--data.num_test", "7"],
        ["--seeds=[3, 4]", "--align.loss.constraint.beta=-0.1", "--model.lora=null", "--data.num_test=7"],
        ["seeds=[3, 4]", "--align.loss.constraint.beta", "-1e-1", "--model.lora=", "--data.num_test", "7"],
    ],
)
def test_every_form_of_override(tmp_path, overrides):
    text = MINIMAL.replace("some/model", "some/model, lora: {r: 4}")
    assert load(tmp_path, text).model.lora.r == 4
    config = load(tmp_path, text, *overrides)
    assert config.seeds == [3, 4]
    assert config.align.loss.constraint.beta == -0.1
    assert config.model.lora is None
    assert config.data.num_test == 7


def test_validation_questions_need_no_test_questions(tmp_path):
    parts = "data={name: mixture, parts: {a: {data: {name: arithmetic, num_test: 0}}}}"
    for data in ("data.num_test=0", parts):
        assert load(tmp_path, MINIMAL, data, "evaluate.split=validation").evaluate.split == "validation"


def test_a_later_override_beats_an_earlier_one(tmp_path):
    assert load(tmp_path, MINIMAL, "seeds=[1]", "--seeds", "[2]").seeds == [2]


def test_a_text_override_may_hold_an_equals_sign_and_braces(tmp_path):
    config = load(tmp_path, MINIMAL, "prompt.template='a=b {question}'")
    assert config.prompt.template == "a=b {question}"


def test_an_override_reaches_a_method_whose_name_holds_a_dot(tmp_path):
    text = MINIMAL + "methods: {bcl-0.1: {loss: {constraint: {beta: 0.1}}}, bcl-0: {}}\n"
    config = load(tmp_path, text, "methods.bcl-0.1.loss.constraint.beta=0.2", "methods.bcl-0.init_from=vft")
    assert config.methods["bcl-0.1"] == {"loss": {"constraint": {"beta": 0.2}}}
    assert config.methods["bcl-0"] == {"init_from": "vft"}


def test_merge_keys_and_anchors(tmp_path):
    text = MINIMAL + "vft: {training: &slow {learning_rate: 1e-6}}\nalign: {training: {<<: *slow, max_steps: 3}}\n"
    config = load(tmp_path, text)
    assert config.align.training == {"learning_rate": 1e-6, "max_steps": 3}


# ---- extends ----


def test_extends_is_relative_to_the_file_and_own_keys_win(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "all.yaml").write_text(MINIMAL + "sample: {num_samples: 3, top_p: 0.9}\nseeds: [0, 1]\n")
    config = load(tmp_path, "extends: base/all.yaml\nsample: {num_samples: 5}\nseeds: [7]\n", "sample.batch_size=2")
    assert (config.sample.num_samples, config.sample.top_p, config.sample.batch_size) == (5, 0.9, 2)
    assert config.seeds == [7]


def test_another_constraint_replaces_the_extended_one_as_a_whole(tmp_path):
    (tmp_path / "all.yaml").write_text(MINIMAL + "align: {loss: {constraint: {name: boundary, beta: 0.3}}}\n")
    config = load(tmp_path, "extends: all.yaml\nalign: {loss: {constraint: {name: detached}}}\n")
    assert dataclasses.asdict(config.align.loss.constraint) == {"name": "detached", "lowest_only": False}


def test_extends_a_list_of_files_of_which_later_ones_win(tmp_path):
    (tmp_path / "model.yaml").write_text(
        "output_dir: x\nextends: task.yaml\nmodel: {name_or_path: a/b, max_length: 64}\n"
    )
    (tmp_path / "task.yaml").write_text("data: {name: arithmetic, num_test: 9}\nsample: {num_samples: 3}\n")
    (tmp_path / "other.yaml").write_text("data: {name: gsm8k}\nsample: {max_new_tokens: 7}\n")
    config = load(tmp_path, "extends: [model.yaml, other.yaml]\nseeds: [4]\n")
    assert (config.model.max_length, config.data.name, config.seeds) == (64, "gsm8k", [4])
    assert (config.sample.num_samples, config.sample.max_new_tokens) == (3, 7), "mapping by mapping"
    assert load(tmp_path, "extends: [other.yaml, model.yaml]\n").data.num_test == 9
    # two of them may extend the same file
    load(tmp_path, "extends: [task.yaml, model.yaml]\n")


def test_extends_in_a_circle(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: run.yaml\n")
    assert message(tmp_path, "extends: a.yaml\n") == "run.yaml: extends: the files extend each other in a circle"
    assert message(tmp_path, "extends: run.yaml\n") == "run.yaml: extends: the files extend each other in a circle"


def test_extends_a_missing_file_or_none(tmp_path):
    told = message(tmp_path, "extends: gone.yaml\n")
    assert told.startswith("run.yaml: extends: gone.yaml: no such file, and aft has no configuration of this name.")
    told = "run.yaml: extends: expected a file name or a list of file names, got "
    for given in ("[]", "[3]", "{a: b}"):
        assert message(tmp_path, f"extends: {given}\n").startswith(told)


# ---- what is refused ----


def test_all_problems_come_in_one_report(tmp_path):
    text = """\
output_dir: runs/x
data: {name: arithmetic, num_trian: 3, num_validation: 5}
model: {name_or_path: some/model, from_scratch: {}, dtype: floaty}
stages: [vft, algin]
seeds: [0, 0]
sample: {num_samples: 0, top_p: 1.5, temperature: warm}
align: {loss: {constraint: {name: boundry}}}
evaluate: {models: [base, alined], assessment: {max_samples: 4}}
prompt: {template: no place}
launhc: {}
"""
    assert problems(tmp_path, text, "vft.validation.batch_size=0", "--dtype") == [
        "--dtype: needs a value, as in '--dtype VALUE' or 'dtype=VALUE'",
        "launhc: unknown key. Did you mean 'launch'? Allowed: output_dir, data, model, stages, seeds, prompt, training,"
        " pretrain, vft, sample, label, align, methods, rounds, evaluate, launch, plan, hub",
        "data.num_trian: unknown key. Did you mean 'num_train'? Allowed: name, num_train, num_answer_only,"
        " num_validation, num_test, num_pretrain, answer_marker, options",
        "model.dtype: got 'floaty' (str), allowed: auto, float32, bfloat16, float16. Did you mean 'float32'?",
        "stages[1]: got 'algin' (str), allowed: pretrain, vft, sample, label, align, evaluate. Did you mean 'align'?",
        "vft.validation.batch_size: must be at least 1, got 0",
        "sample.num_samples: must be at least 1, got 0",
        "sample.temperature: expected a number, got 'warm' (str)",
        "sample.top_p: must be at most 1.0, got 1.5",
        "align.loss.constraint.name: got 'boundry' (str), allowed: none, detached, boundary, tapered,"
        " pass_rate, balanced, floor, positive_floor, controlled. Did you mean 'boundary'?",
        # what the sound sections say together is told as well, and nothing about the others
        "seeds: a value appears twice: [0, 0]",
        "evaluate.models: unknown model 'alined'. Did you mean 'aligned'? Allowed: base, vft, aligned",
        "prompt.template: must contain {question}, got 'no place'",
        "evaluate.assessment.max_samples: 4 cannot hold 3 right and 3 wrong chains",
    ]


def test_a_further_check_adds_to_the_report_and_knows_the_broken_sections(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(MINIMAL + "seeds: [0, x]\nsample: {top_p: 0}\n")
    seen = []

    def check(config, broken):
        seen.append((config.seeds, config.sample, config.output_dir, broken))
        return ["output_dir: not here"]

    with pytest.raises(ConfigError) as caught:
        load_config(path, (), check)
    assert caught.value.problems[-1] == f"{path}: output_dir: not here"
    assert len(caught.value.problems) == 3
    assert seen == [(None, None, "runs/x", {"seeds", "sample"})]


def test_required_sections(tmp_path):
    assert problems(tmp_path, "seeds: [0]\n") == [
        "output_dir: missing; it has no default and must be chosen",
        "data: missing; it has no default and must be chosen",
        "model: missing; it has no default and must be chosen",
    ]
    assert len(problems(tmp_path, "")) == 3


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.name=gsm9k", f"data.name: got 'gsm9k' (str), allowed: {TASK_NAMES}. Did you mean 'gsm8k'?"),
        ("data={}", f"data.name: got nothing, allowed: {TASK_NAMES}."),
        ("data.name=[gsm8k]", f"data.name: got ['gsm8k'] (list), allowed: {TASK_NAMES}. Did you mean 'gsm8k'?"),
        ("data=gsm8k", f"data: expected a mapping with a 'name' ({TASK_NAMES}), got 'gsm8k' (str)"),
        ("vft=null", "vft: expected a mapping of keys, got null"),
        ("seeds=3", "seeds: expected a list, got 3 (int)"),
        ("seeds=[true]", "seeds[0]: expected a whole number, got True (bool)"),
        ("seeds=[]", "seeds: empty; at least one is needed"),
        ("seeds=[-1]", "seeds: must be from 0 to 4294967295, got [-1]"),
        ("seeds=[4294967296]", "seeds: must be from 0 to 4294967295, got [4294967296]"),
        ("stages=[]", "stages: empty; allowed: pretrain, vft, sample, label, align, evaluate"),
        ("stages=[vft,vft]", "stages: a value appears twice: ['vft', 'vft']"),
        (
            "stages=[pretrain]",
            "stages: 'pretrain' makes a from-scratch base model, but model.name_or_path names one",
        ),
        (
            "model.name_or_path=null",
            "model: give either model.name_or_path (a hub name or folder) or model.from_scratch, not both or neither",
        ),
        ("model.name_or_path=''", "model.name_or_path: expected a hub name or a folder, got ''"),
        ("output_dir=''", "output_dir: expected the name of a folder, got ''"),
        ("output_dir=~/x", "output_dir: '~' stands for itself here, write the whole path; got '~/x'"),
        ("align.loss.weight=-1", "align.loss.weight: must be at least 0.0, got -1.0"),
        ("align.loss.weight=.nan", "align.loss.weight: must be finite, got nan"),
        ("align.loss.weight=-.inf", "align.loss.weight: must be finite, got -inf"),
        pytest.param(
            "align.loss.weight=1" + "0" * 400,
            "align.loss.weight: a whole number too large for a float",
            id="a huge whole number",
        ),
        ("sample.top_p=0", "sample.top_p: must be above 0.0, got 0.0"),
        ("model.lora.lora_dropout=1", "model.lora.lora_dropout: must be below 1.0, got 1.0"),
        ("model.lora.target_modules=3", "model.lora.target_modules: got 3 (int), allowed: list or str"),
        ("prompt.system=hello", "prompt.system: only with prompt.chat=true"),
        ("prompt.template_kwargs={a: 1}", "prompt.template_kwargs: only with prompt.chat=true"),
        (
            "prompt={chat: true, template_kwargs: {tokenize: false}}",
            "prompt.template_kwargs.tokenize: not to be set here; it is no variable of a template",
        ),
        (
            "prompt={chat: true, template_kwargs: {strftime_now: x}}",
            "prompt.template_kwargs.strftime_now: not to be set here; set prompt.date",
        ),
        (
            "prompt={chat: true, template_kwargs: {enable-thinking: false}}",
            "prompt.template_kwargs.enable-thinking: expected the name of a variable of the chat template",
        ),
        ("prompt.date=2026-02-03", "prompt.date: only with prompt.chat=true"),
        ("prompt={chat: true, date: 2026-2-30}", "prompt.date: expected a day as YYYY-MM-DD, got '2026-2-30'"),
        ("prompt.date=20260203", "prompt.date: expected text, got 20260203 (int)"),
        ("data.answer_marker=' '", "data.answer_marker: empty; the final answer is found by it"),
        ("sample.pool_questions=401", "sample.pool_questions: 401, more than data.num_validation: 400"),
        ("evaluate.models=[]", "evaluate.models: empty; null means all: base, vft, aligned"),
        ("evaluate.models=[vft,vft]", "evaluate.models: a value appears twice: ['vft', 'vft']"),
        ("methods={}", "methods: empty, but 'align' is among the stages"),
        ("methods={vft: {}}", "methods.vft: the name is taken by the vft model"),
        ("methods=[a]", "methods: expected a mapping of keys, got ['a'] (list)"),
        ("methods={a: [b]}", "methods.a: expected a mapping of changes to 'align', got ['b']"),
        ("methods={1: {}}", "methods: a key must be text, got 1 (int); put it in quotes"),
        (
            "methods={../a: {}}",
            "methods.../a: a method's name becomes a folder: letters, digits, '.', '_' and '-' only",
        ),
        (
            "methods.a.init_form=vft",
            "methods.a.init_form: unknown key. Did you mean 'init_from'? Allowed: init_from, supervise,"
            " pair_references, max_candidates, negatives, response_mask, loss, groups, vft_reduction, drift,"
            " stop_on_collapse, validation, training",
        ),
        (
            "methods.a.loss.constraint.beta=deep",
            "methods.a.loss.constraint.beta: expected a number, got 'deep' (str)",
        ),
        ("training={a: {1: 2}}", "training.a: a key must be text, got 1 (int); put it in quotes"),
        ("training={1: 2}", "training: a key must be text, got 1 (int); put it in quotes"),
        ("training={a: [.nan]}", "training.a[0]: must be finite, got nan"),
        (
            "training={a: !!binary aGk=}",
            "training.a: expected a number, text, true, false, null, a list or a mapping, got b'hi' (bytes)",
        ),
        ("training=" + "{a: " * 30 + "1" + "}" * 30, "training" + ".a" * 21 + ": nested more than 20 levels deep"),
        ("data.num_test=-1", "data.num_test: must be at least 0, got -1"),
        ("seeds.a=1", "seeds.a: 'seeds' is not a section, it is [0]"),
        ("seeds", "'seeds': expected key=value or --key value"),
        ("--seeds", "--seeds: needs a value, as in '--seeds VALUE' or 'seeds=VALUE'"),
        ("seeds=[", "seeds: '[' is not valid YAML"),
        ("seeds={a: 1, a: 2}", "seeds: '{a: 1, a: 2}' is not valid YAML"),
        pytest.param("seeds=[" + "1" * 5000 + "]", None, id="a number of 5000 digits"),
        ("extends=other.yaml", None),
        ("=3", None),
    ],
)
def test_one_problem(tmp_path, override, expected):
    found = problems(tmp_path, MINIMAL + "seeds: [0]\n", override)
    assert len(found) == 1
    if expected is not None:
        assert found[0] == expected


def test_a_part_that_is_only_trained_on_needs_no_test_questions(tmp_path):
    parts = "{a: {data: {name: arithmetic, num_test: 0}}, b: {share: 0, data: {name: arithmetic, num_test: 5}}}"
    config = load(tmp_path, MINIMAL, f"data={{name: mixture, parts: {parts}}}")
    assert [part.data.num_test for part in config.data.parts.values()] == [0, 5]


def test_a_method_is_checked_though_align_itself_is_wrong(tmp_path):
    found = problems(tmp_path, MINIMAL, "align.init_from=bse", "methods.a.drift=maybe", "methods.b.loss.weight=3")
    assert found == [
        "align.init_from: got 'bse' (str), allowed: base, vft. Did you mean 'base'?",
        "methods.a.drift: expected true or false, got 'maybe' (str)",
    ]


# ---- broken files ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeds: [0\nvft: {}\n", "run.yaml:2:4: not valid YAML: expected ',' or ']', but got ':'"),
        ("a: 1\n b: 2\n", "run.yaml:2:3: not valid YAML: mapping values are not allowed here"),
        ("vft: {}\nseeds: [0]\nvft: {}\n", "run.yaml:3:1: not valid YAML: key 'vft' appears twice, first in line 1"),
        ("vft:\n  training: {a: 1, a: 2}\n", "run.yaml:2:20: not valid YAML: key 'a' appears twice, first in line 2"),
        (
            "prompt:\n  template: {{question}}\n",
            "run.yaml:2:14: not valid YAML: a key must be text (a template such as '{question}' needs quotes)",
        ),
        ("? [1, 2]\n: 3\n", None),
        ("vft: &a {training: *a}\n", "run.yaml:1:6: not valid YAML: found unconstructable recursive node"),
        ("vft: *nowhere\n", "run.yaml:1:6: not valid YAML: found undefined alias 'nowhere'"),
        ("a: !!python/object/apply:os.getcwd []\n", None),
        ("a: \x00\n", None),
        ("a: " + "[" * 5000, None),
        ("- vft\n- sample\n", "run.yaml: expected a mapping of keys, got list"),
        ("just text\n", "run.yaml: expected a mapping of keys, got str"),
    ],
)
def test_bad_yaml_names_the_line(tmp_path, text, expected):
    found = message(tmp_path, text)
    assert found.startswith("run.yaml")
    assert "\n" not in found
    if expected is not None:
        assert found == expected


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file, and aft has no configuration of this name"):
        load_config(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="a folder, not a file"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("output_dir: é\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 text: .* at byte 13"):
        load_config(tmp_path / "latin.yaml")


# ---- methods ----


def test_a_method_is_align_with_its_changes_over_it(tmp_path):
    text = MINIMAL + (
        "align: {init_from: vft, training: {max_steps: 4, learning_rate: 1e-4},"
        " loss: {weight: 2, constraint: {name: boundary, beta: 0.3}}}\n"
        "methods:\n"
        "  same:\n"
        "  beta: {loss: {constraint: {beta: 0.1}}}\n"
        "  dcl: {loss: {constraint: {name: detached}}, training: {max_steps: 8}}\n"
        "  rft: {loss: null, supervise: reference_and_positives}\n"
    )
    config = load(tmp_path, text)
    assert align_config(config, "same") == config.align
    beta = align_config(config, "beta")
    assert beta.loss.constraint.beta == 0.1 and beta.loss.weight == 2 and beta.init_from == "vft"
    dcl = align_config(config, "dcl")
    assert dataclasses.asdict(dcl.loss.constraint) == {"name": "detached", "lowest_only": False}
    assert dcl.loss.weight == 2 and dcl.training == {"max_steps": 8, "learning_rate": 1e-4}
    rft = align_config(config, "rft")
    assert rft.loss is None and rft.supervise == "reference_and_positives"


def test_merge_leaves_its_arguments_alone():
    base, changes = {"a": {"b": 1}, "c": 2}, {"a": {"d": 3}}
    assert merge(base, changes) == {"a": {"b": 1, "d": 3}, "c": 2}
    assert base == {"a": {"b": 1}, "c": 2} and changes == {"a": {"d": 3}}


# ---- the resolved configuration ----


def test_the_resolved_configuration_reads_back_equal(tmp_path):
    text = MINIMAL + "training: {learning_rate: 2e-5}\nmethods: {a: {}, b: {loss: null}}\n"
    config = load(
        tmp_path,
        text,
        # text that looks like a number, a date, a word of YAML, and a line with everything in it
        "model.revision='5e12345'",
        "training.run_name='2024-11-05'",
        "model.attn_implementation='no'",
        r'prompt.template="Frage: {question}\n# ä: \"x\" \t→ \\n"',
        "align.loss.constraint.beta=-1e-7",
    )
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(resolved) == config
    assert to_yaml(load_config(resolved)) == to_yaml(config)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (
            "{name: pro, normalisation: reference_code, dynamic_temperature: false, min_rating_gap: 1}",
            [
                "align.loss.dynamic_temperature: must be true with normalisation: reference_code",
                "align.loss.min_rating_gap: must be 0 with normalisation: reference_code",
            ],
        ),
        (
            "{name: rrhf, normalisation: reference_code, constraint: {name: boundary}}",
            [
                "align.loss.constraint.name: boundary, which is in nats per token; normalisation: reference_code has no"
                " such unit"
            ],
        ),
    ],
)
def test_what_a_loss_cannot_combine_is_told_before_anything_runs(tmp_path, loss, expected):
    assert problems(tmp_path, MINIMAL, f"align.loss={loss}") == expected


def test_a_methods_loss_is_checked_as_well(tmp_path):
    reference = "align.loss={name: pro, normalisation: reference_code}"
    load(tmp_path, MINIMAL, reference)
    found = problems(tmp_path, MINIMAL, reference, "methods.a.loss.dynamic_temperature=false")
    assert found == ["methods.a.loss.dynamic_temperature: must be true with normalisation: reference_code"]


def test_an_override_that_every_method_covers_is_told(tmp_path):
    text = MINIMAL + (
        "methods:\n  a: {loss: {constraint: {name: boundary, beta: 0.5}}, training: {learning_rate: 1e-4}}\n"
        "  b: {loss: null, training: {learning_rate: 2e-4}}\n"
    )

    def told(*overrides):
        return idle_overrides(tmp_path / "run.yaml", overrides, load(tmp_path, text, *overrides))

    covered = "changes nothing: methods.a, methods.b set their own; set it there"
    assert told("align.loss.constraint.beta=0.3", "align.training.learning_rate=1e-5", "align.init_from=vft") == [
        f"align.loss.constraint.beta=0.3 {covered}",
        f"align.training.learning_rate=1e-05 {covered}",
    ]
    assert told("methods.a.loss.constraint.beta=0.3", "training.learning_rate=1e-5", "align.loss.weight=2") == []
    assert told("stages=[vft]", "align.loss.weight=2") == [
        "align.loss.weight=2 changes nothing: no stage of this run takes it"
    ]
    # as it was: nothing is lost
    assert told("align.loss.constraint.beta=0.15") == []


def test_a_broken_section_is_told_beside_a_hub(tmp_path):
    found = problems(tmp_path, MINIMAL, "hub.repo=a/b", "evaluate.batch_size=abc")
    assert found == ["evaluate.batch_size: expected a whole number, got 'abc' (str)"]


@pytest.mark.parametrize(
    ("model", "match"),
    [
        ({"quantization": {}}, r"model\.quantization: weights of 4 bits cannot be trained; set model\.lora"),
        (
            {"lora": {}, "quantization": {"load_in_8bit": True}},
            r"model\.quantization\.load_in_8bit: true; 8-bit products",
        ),
        ({"lora": {}, "quantization": {"load_in_4bit": False}}, r"model\.quantization\.load_in_4bit: must be true"),
        ({"lora": {}, "quantization": {"inference": True}}, r"inference: needs model\.lora\.save: adapter, got both"),
        ({"lora": {}, "quantization": {}, "dtype": "auto"}, r"bnb_4bit_compute_dtype: must be given"),
        ({"lora": {}, "quantization": {}, "gguf_file": "a.gguf"}, r"model\.quantization: not with model\.gguf_file"),
        ({"lora": {}, "quantization": {"bnb_4bit_quant_type": "nf8"}}, r"bnb_4bit_quant_type: .*nf4"),
    ],
)
def test_quantization_that_cannot_work_is_refused_in_one_line(tmp_path, model, match):
    path = tmp_path / "config.yaml"
    values = {"output_dir": "out", "data": {"name": "gsm8k"}, "model": {"name_or_path": "a/b", **model}}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(path)
    assert len(caught.value.problems) == 1
