"""The plan: what is up to date, what must run again and why. No stage runs here: manifests are written by hand."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil

import pytest

from aft.config import load_config
from aft.errors import ConfigError, DataError
from aft.launch.conductor import open_folder, show_plan
from aft.run.environment import versions
from aft.run.manifest import DIGEST, MANIFEST, UnitLog, read_manifest
from aft.stages.plan import DAMAGED, DONE, RERUN, RESUME, RUN, STAGE_VERSIONS, Plan, Status

OUTPUTS = {
    "sample": ["completions.jsonl"],
    "label": ["groups.jsonl", "pool.jsonl", "counts.json"],
    "evaluate": ["metrics.json"],
}
CHECKPOINT = ["config.json", "model.safetensors"]


def finish(plan, unit, text=""):
    """Leave a unit as if it had run: outputs that depend on its name, and a manifest."""
    log = UnitLog(unit.folder, plan.inputs(unit))
    names = OUTPUTS.get(unit.stage, CHECKPOINT)
    for name in names:
        (unit.folder / name).write_text(f"{unit} {text}")
    log.complete(names)


def finish_all(plan, *stages):
    for stage in stages or plan.stages():
        for unit in plan.units(stage):
            finish(plan, unit)


@pytest.fixture
def make(tiny, tmp_path):
    """`make("key=value", ...)` plans the tiny run with these changes, always in the same folder."""
    return lambda *overrides: Plan(load_config(tiny, [f"output_dir={tmp_path / 'run'}", *overrides]))


@pytest.fixture
def make_gsm8k(make, gsm8k_folder):
    base = f"data={{name: gsm8k, path: {gsm8k_folder}, num_train: 20, num_answer_only: 5, num_test: 9}}"
    return lambda *overrides: make(base, *overrides)


def outdated(plan):
    """Unit -> reasons of everything that does not count as done, by itself."""
    found = {str(unit): plan.status(unit) for stage in plan.stages() for unit in plan.units(stage)}
    return {name: list(status.reasons) for name, status in found.items() if status.state != DONE}


# ---- units ----


def test_units_in_order(make):
    plan = make("seeds=[3,1]", "stages=[evaluate,align,vft]")
    assert plan.stages() == ["vft", "align", "evaluate"]
    assert [str(unit) for unit in plan.units("vft")] == ["vft seed 3", "vft seed 1"]
    assert [str(unit) for unit in plan.units("align")] == [
        "align rft seed 3",
        "align bcl seed 3",
        "align rft seed 1",
        "align bcl seed 1",
    ]
    assert [unit.name for unit in plan.units("evaluate")][:4] == ["base", "vft", "rft", "bcl"]
    assert str(plan.units("pretrain")[0]) == "pretrain"
    assert plan.units("align")[0].folder == plan.folder / "seed-3" / "align" / "rft"


def test_evaluate_compares_what_is_named(make):
    plan = make("evaluate.models=[bcl,base]", "seeds=[0]")
    assert [unit.name for unit in plan.units("evaluate")] == ["bcl", "base"]


# ---- up to date, or not, and why ----


def test_nothing_there_and_all_there(make):
    plan = make()
    assert plan.status(plan.units("pretrain")[0]).state == RUN
    assert {status.state for _, status in plan.forecast(plan.stages())} == {RUN}
    finish_all(plan)
    again = make()
    assert outdated(again) == {}
    assert [status.state for _, status in again.forecast(again.stages())] == [DONE] * 10


ALL_TRAINED = ["vft seed 0", "align rft seed 0", "align bcl seed 0"]
ALL_EVALUATED = [f"evaluate {name} seed 0" for name in ("base", "vft", "rft", "bcl")]


@pytest.mark.parametrize(
    ("override", "units", "reason"),
    [
        (
            "methods.bcl.loss.constraint.beta=0.3",
            ["align bcl seed 0"],
            "config.align.loss.constraint.beta: was 0.15, is 0.3",
        ),
        ("align.training.max_steps=9", ["align rft seed 0", "align bcl seed 0"], None),
        (
            "vft.training.learning_rate=1e-5",
            ["vft seed 0"],
            "config.vft.training.learning_rate: was 0.01, is 1e-05",
        ),
        ("vft.reduction=token_sum", ["vft seed 0"], 'config.vft.reduction: was "token_mean", is "token_sum"'),
        ("training.weight_decay=0.1", ["pretrain", *ALL_TRAINED], None),
        ("sample.temperature=0.5", ["sample seed 0"], "config.sample.temperature: was 1.0, is 0.5"),
        ("label.unparsed=drop", ["label seed 0"], 'config.label.unparsed: was "negative", is "drop"'),
        ("evaluate.num_questions=3", ALL_EVALUATED, "config.evaluate.num_questions: was null, is 3"),
        # decoding of the evaluation is also that of a validation while training, which here is none
        ("evaluate.max_new_tokens=30", ALL_EVALUATED, "config.evaluate.max_new_tokens: was 20, is 30"),
        ("prompt.template='Q: {question}'", ["pretrain", *ALL_TRAINED, "sample seed 0", *ALL_EVALUATED], None),
        ("model.lora={r: 2}", ALL_TRAINED, None),
        ("model.max_length=128", ["pretrain", *ALL_TRAINED], "config.model.max_length: was 64, is 128"),
        (
            "model.inference_dtype=bfloat16",
            ["sample seed 0", *ALL_EVALUATED],
            'config.model.inference_dtype: was "float32", is "bfloat16"',
        ),
        ("model.from_scratch.config.hidden_size=16", ["pretrain"], None),
        # where, how and beside what a unit runs
        ("launch={workers: 2, device: cpu}", [], None),
        ("model.logps_chunk_mb=1", [], None),
        ("evaluate.models=[vft]", [], None),
        ("stages=[vft,sample]", [], None),
    ],
)
def test_a_changed_key_outdates_what_depends_on_it(make, override, units, reason):
    finish_all(make())
    found = outdated(make(override))
    assert sorted(found) == sorted(units)
    if reason is not None:
        assert all(reasons == [reason] for reasons in found.values())


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("data.num_train=21", "pretrain vft sample label align evaluate"),
        ("data.num_test=8", "evaluate"),
        ("data.split_seed=1", "pretrain vft sample label align evaluate"),
        ("data.answer_marker='[A]'", "pretrain vft sample label align evaluate"),
    ],
)
def test_the_same_file_cut_otherwise_is_other_data(make_gsm8k, override, stages):
    finish_all(make_gsm8k())
    found = outdated(make_gsm8k(override))
    assert sorted({name.split()[0] for name in found}) == sorted(stages.split())
    key = override.partition("=")[0]
    assert all(len(reasons) == 1 and reasons[0].startswith(f"config.{key}: was ") for reasons in found.values())


def test_where_the_data_lies_does_not_matter_what_is_in_it_does(make_gsm8k, gsm8k_folder, tmp_path):
    finish_all(make_gsm8k())
    copy = shutil.copytree(gsm8k_folder, tmp_path / "copy")
    assert outdated(make_gsm8k(f"data.path={copy}")) == {}
    path = copy / "train.jsonl"
    path.write_text(path.read_text().replace("pens", "pans", 1))
    found = outdated(make_gsm8k(f"data.path={copy}"))
    assert len(found) == 10
    assert all(len(reasons) == 1 and reasons[0].startswith("data: was ") for reasons in found.values())


def test_validation_while_training_depends_on_how_it_decodes(make):
    finish_all(make("vft.validation={num_questions: 4}"))
    found = outdated(make("vft.validation={num_questions: 4}", "evaluate.max_new_tokens=30"))
    assert found["vft seed 0"] == ["config.vft.validation.max_new_tokens: was 20, is 30"]


def test_the_base_model_depends_on_no_seed(make):
    finish_all(make("seeds=[0,1]"))
    assert outdated(make("seeds=[0]")) == {}
    assert set(outdated(make("seeds=[0,2]"))) == {
        str(u) for s in make().stages()[1:] for u in make("seeds=[2]").units(s)
    }
    assert outdated(make("seeds=[1,0]")) == {}


def test_another_version_of_a_package_or_of_a_stage(make):
    plan = make()
    finish_all(plan)
    for stage, change in (("vft", ("versions", "torch", "1.0")), ("label", ("stage_version", None, 0))):
        path = plan.units(stage)[0].folder / MANIFEST
        manifest = json.loads(path.read_text())
        section, key, value = change
        manifest["inputs"][section] = {**manifest["inputs"][section], key: value} if key else value
        del manifest[DIGEST]
        path.write_text(json.dumps(manifest))
    found = outdated(make())
    assert found == {
        "vft seed 0": [f'versions.torch: was "1.0", is {json.dumps(versions()["torch"])}'],
        "label seed 0": [f"stage_version: was 0, is {STAGE_VERSIONS['label']}"],
    }


def test_training_scores_outdate_no_evaluation(make):
    plan = make()
    finish_all(plan)
    unit = plan.units("evaluate")[0]
    assert "training_scores" not in read_manifest(unit.manifest)["inputs"]["config"]["evaluate"]
    assert outdated(make("evaluate.training_scores=null")) == outdated(make("evaluate.training_scores={}")) == {}
    # manifests of other versions have the key, and a higher number for it
    manifest = json.loads(unit.manifest.read_text())
    manifest["inputs"]["config"]["evaluate"]["training_scores"] = {"max_questions": 25}
    manifest["inputs"]["stage_version"] = 5
    del manifest[DIGEST]
    unit.manifest.write_text(json.dumps(manifest))
    assert outdated(make("evaluate.training_scores=null")) == outdated(make()) == {}
    assert plan.changed_settings(unit, manifest["inputs"]) == []


def test_a_file_changed_by_hand_is_damage(make):
    plan = make()
    finish_all(plan)
    with plan.groups(0).open("a") as handle:
        handle.write("\n")
    label = plan.units("label")[0]
    status = make().status(label)
    assert (status.state, len(status.reasons)) == (DAMAGED, 1)
    assert status.reasons[0].startswith("groups.jsonl is too long: ")
    with pytest.raises(DataError, match=r"--stage label --repair"):
        make("stages=[align]").check_damage(["align"])
    # groups of the user's own have no manifest beside them
    label.manifest.unlink()
    found = outdated(make("stages=[align]"))
    assert sorted(found) == ["align bcl seed 0", "align rft seed 0"]
    assert all(len(reasons) == 1 and reasons[0].startswith("reads.groups: was ") for reasons in found.values())


def test_a_missing_output(make):
    plan = make()
    finish_all(plan)
    (plan.folder / "seed-0" / "label" / "counts.json").unlink()
    assert outdated(make()) == {"label seed 0": ["counts.json is missing"]}
    assert make().status(plan.units("label")[0]).state == DAMAGED


def test_a_cut_unit_resumes_unless_its_inputs_have_changed(make):
    plan = make()
    finish_all(plan, "pretrain")
    unit = plan.units("vft")[0]
    UnitLog(unit.folder, plan.inputs(unit))
    assert plan.status(unit).state == RESUME
    assert plan.status(unit).reasons == ("was cut",)
    other = make("vft.training.max_steps=5")
    assert other.status(unit).state == RERUN
    assert other.status(unit).reasons == ("config.vft.training.max_steps: was 4, is 5",)


def test_a_cut_training_goes_on_with_another_number_of_processes(make, tmp_path, monkeypatch):
    plan = make()
    finish_all(plan, "pretrain")
    unit = plan.units("vft")[0]
    (tmp_path / "two.yaml").write_text("num_processes: 2\n")
    (tmp_path / "any.yaml").write_text("distributed_type: MULTI_GPU\n")
    two = make(f"launch.config={tmp_path / 'two.yaml'}")
    log = UnitLog(unit.folder, two.inputs(unit), two.processes(unit))
    assert two.status(unit).state == RESUME
    # the questions of a step stay the same, so one process can go on
    assert plan.status(unit) == Status(RESUME, ("was cut with 2 processes, now 1",))
    # accelerate counts the GPUs, so its processes will say it
    left_open = make(f"launch.config={tmp_path / 'any.yaml'}")
    assert left_open.status(unit).state == RESUME
    monkeypatch.setenv("WORLD_SIZE", "3")
    size = plan.unit_training(unit)["per_device_train_batch_size"]
    reason = f"was cut with 2 processes, now 3, which cannot share the {2 * size} questions of a step equally"
    assert left_open.status(unit) == Status(RERUN, (reason,))
    monkeypatch.delenv("WORLD_SIZE")
    for name in CHECKPOINT:
        (unit.folder / name).write_text("weights")
    log.complete(CHECKPOINT)
    assert plan.status(unit).state == DONE
    assert read_manifest(unit.folder / MANIFEST)["processes"] == 2
    label = plan.units("label")[0]
    assert two.processes(label) is None  # one process, whatever the others are


def test_the_checkpoint_of_a_cut_unit_is_not_taken_for_a_finished_one(make):
    plan = make()
    finish_all(plan, "pretrain")
    unit = plan.units("vft")[0]
    UnitLog(unit.folder, plan.inputs(unit))
    for name in CHECKPOINT:  # cut while it was being saved
        (unit.folder / name).write_text("half")
    sample = plan.units("sample")[0]
    assert plan.inputs(sample) is None
    assert plan.status(sample).reasons == (f"waits for {unit.folder}",)
    with pytest.raises(ConfigError, match="not there or not finished"):
        plan.check_reads("sample")
    finish(plan, unit)
    plan.check_reads("sample")
    assert plan.status(sample).state == RUN


# ---- models from elsewhere ----


def test_a_hub_name_and_its_revision(make):
    hub = ["model.from_scratch=null", "stages=[vft]", "model.name_or_path=some/model"]
    plan = make(*hub)
    unit = plan.units("vft")[0]
    assert plan.inputs(unit)["reads"] == {"base": "hub:some/model@main"}
    finish(plan, unit)
    assert outdated(make(*hub)) == {}
    assert outdated(make(*hub, "model.revision=v2")) == {
        "vft seed 0": ['reads.base: was "hub:some/model@main", is "hub:some/model@v2"']
    }


def test_a_model_folder_is_its_files(make, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in CHECKPOINT:
        (folder / name).write_text("w")
    local = ["model.from_scratch=null", "stages=[vft]", f"model.name_or_path={folder}"]
    plan = make(*local)
    finish(plan, plan.units("vft")[0])
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert outdated(make(*local[:2], f"model.name_or_path={moved}")) == {}
    (folder / "model.safetensors").write_text("v")
    (reason,) = outdated(make(*local))["vft seed 0"]
    assert reason.startswith("reads.base: was ")


# ---- forecast ----


def test_a_forecast_counts_on_earlier_stages(make):
    finish_all(make())
    plan = make("label.unparsed=drop", "methods.bcl.loss.weight=2")
    forecast = {str(unit): (status.state, list(status.reasons)) for unit, status in plan.forecast(plan.stages())}
    unless = "unless label seed 0 gives the same result again"
    assert forecast == {
        "pretrain": (DONE, []),
        "vft seed 0": (DONE, []),
        "sample seed 0": (DONE, []),
        "label seed 0": (RERUN, ['config.label.unparsed: was "negative", is "drop"']),
        "align rft seed 0": (RERUN, [unless]),
        "align bcl seed 0": (RERUN, ["config.align.loss.weight: was 1.0, is 2.0", "after label seed 0"]),
        "evaluate base seed 0": (RERUN, [unless]),
        "evaluate vft seed 0": (RERUN, [unless]),
        "evaluate rft seed 0": (RERUN, ["unless align rft seed 0 gives the same result again"]),
        "evaluate bcl seed 0": (RERUN, ["unless align bcl seed 0 gives the same result again"]),
    }


def test_a_forecast_of_some_stages_does_not_count_on_others(make):
    finish_all(make(), "pretrain", "vft", "sample")
    plan = make("sample.temperature=0.5")
    ((unit, status),) = plan.forecast(["label"])
    assert (str(unit), status.state, status.reasons) == ("label seed 0", RUN, ())


def test_the_plan_as_it_is_shown(make):
    finish_all(make(), "pretrain", "vft")
    plan = make("vft.training.max_steps=5", "stages=[pretrain,vft,sample]")
    shown = [" ".join(line.split()) for line in show_plan(plan, plan.stages()).splitlines()]
    assert shown == [
        f"skip pretrain {plan.folder}/base",
        f"rerun vft seed 0 {plan.folder}/seed-0/vft",
        "because config.vft.training.max_steps: was 4, is 5",
        f"run sample seed 0 {plan.folder}/seed-0/sample",
        "because after vft seed 0",
    ]


def test_the_plan_keeps_its_columns(make):
    plan = make()
    finish_all(plan, "pretrain", "vft", "sample", "label")
    plan.run.unit("label", 0).manifest.write_text("{")
    lines = show_plan(plan, ["vft", "label"]).splitlines()
    assert {len(line) - len(line[8:].lstrip()) for line in lines} == {8}, lines


def test_looking_changes_nothing(make):
    plan = make()
    plan.forecast(plan.stages())
    assert not plan.folder.exists()


# ---- the pool ----


def test_by_default_the_pool_is_fifty_validation_questions_where_there_are_so_many(make, make_gsm8k):
    default = "sample.pool_questions=null"
    plan = make_gsm8k(default)
    validation = plan.task.load("validation")
    assert len(validation) > 50 and plan.pool_questions(0) == validation[:50]
    assert len(make(default).pool_questions(0)) == 16, "all that there are"
    assert make(default, "data.num_validation=0").pool_questions(0) == []
    assert make("sample.pool_questions=0").pool_questions(0) == []


def test_evaluation_reads_a_default_pool_where_labelling_writes_one(make):
    def reads(*overrides):
        plan = make("sample.pool_questions=null", *overrides)
        return "pool" in plan.reads(plan.units("evaluate")[0])

    assert reads() and not reads("stages=[evaluate]")
    pool = make().pool(0)
    pool.parent.mkdir(parents=True)
    pool.touch()
    assert reads("stages=[evaluate]")


# ---- without the data ----


def test_a_plan_without_data_takes_finished_units_to_have_the_same(make_gsm8k):
    plan = make_gsm8k()
    finish_all(plan)
    unseen = Plan(
        dataclasses.replace(plan.config, data=dataclasses.replace(plan.config.data, path="gone")), sees_data=False
    )
    assert outdated(unseen) == {}
    changed = dataclasses.replace(unseen.config, sample=dataclasses.replace(plan.config.sample, num_samples=3))
    assert list(outdated(Plan(changed, sees_data=False))) == ["sample seed 0"]


# ---- the rendered prompt ----


@pytest.fixture
def make_chat(make, tmp_path):
    """Plans a run with chat prompts on a base model in a folder, with this chat template."""

    def plan(template, *overrides):
        base = tmp_path / "base"
        base.mkdir(exist_ok=True)
        (base / "config.json").write_text("{}")
        (base / "chat_template.jinja").write_text(template)
        model = ["stages=[vft,sample]", f"model={{name_or_path: {base}}}", "prompt.chat=true"]
        return make(*model, *overrides)

    return plan


DATED = "{{ strftime_now('%Y') }} {{ messages[0].content }} {{ enable_thinking }}"
UNITS = ["vft seed 0", "sample seed 0"]


def finish_chat(plan):
    """Both units; the checkpoint has its base model's chat template."""
    open_folder(plan)
    for stage in plan.stages():
        [unit] = plan.units(stage)
        finish(plan, unit)
        if stage == "vft":
            shutil.copy(plan.folder.parent / "base" / "chat_template.jinja", unit.folder)


def test_a_run_shows_the_day_on_which_it_began(make_chat):
    plan = make_chat(DATED)
    assert plan.config.prompt.date == datetime.date.today().isoformat()
    open_folder(make_chat(DATED, "prompt.date=2020-01-02"))
    again = make_chat(DATED)
    assert again.config.prompt.date == "2020-01-02"
    finish_chat(again)
    assert outdated(make_chat(DATED)) == {}
    assert make_chat(DATED, "prompt.date=2020-01-03").config.prompt.date == "2020-01-03"
    again.run.config.write_text("prompt: {date: soon}")
    assert make_chat(DATED).config.prompt.date == datetime.date.today().isoformat()


def test_another_rendering_outdates_what_has_prompts(make_chat):
    finish_chat(make_chat(DATED, "prompt.date=2020-01-02"))
    found = outdated(make_chat(DATED, "prompt.date=2020-01-03"))
    assert found == {key: ['config.prompt.date: was "2020-01-02", is "2020-01-03"'] for key in UNITS}
    found = outdated(make_chat(DATED, "prompt.template_kwargs={enable_thinking: false}"))
    assert found == {key: ['config.prompt.template_kwargs: new, is {"enable_thinking": false}'] for key in UNITS}
    assert list(outdated(make_chat(DATED + "!"))) == ["vft seed 0"]  # and so all that follows


def test_a_day_that_no_prompt_shows_outdates_nothing(make_chat):
    template = DATED.replace("strftime_now('%Y')", "")
    finish_chat(make_chat(template, "prompt.date=2020-01-02"))
    assert outdated(make_chat(template, "prompt.date=2020-01-03")) == {}


def test_units_without_chat_have_no_date(make):
    prompt = make().inputs(make().units("pretrain")[0])["config"]["prompt"]
    assert prompt == {"template": "{question}", "chat": False, "system": None, "allow_special_tokens": False}
