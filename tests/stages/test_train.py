"""The training stages as the conductor runs them: what they leave on disk, adapters, and going on after a cut."""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from aft.config import load_config
from aft.errors import AftError, ConfigError, DataError
from aft.json_files import write_json_lines
from aft.model import build_model, build_word_tokenizer, merge_lora
from aft.records import NEGATIVE, POSITIVE, REFERENCE, UNPARSED, Candidate, Group, read_groups
from aft.run.digest import digest_file
from aft.run.manifest import INITIAL_SCORES, MANIFEST, UnitLog, digest_folder, read_manifest
from aft.stages.context import Stage
from aft.stages.label import run_label
from aft.stages.plan import DONE, RESUME, Plan
from aft.stages.train import run_align, run_pretrain, run_vft
from aft.tasks import TRAIN
from aft.training.saved import check_saved
from aft.training.trainer import AftTrainer
from tiny_models import CONFIGS
from tokenizer_kinds import gemma

DATA = {
    "name": "arithmetic",
    "num_train": 12,
    "num_answer_only": 4,
    "num_validation": 6,
    "num_test": 6,
    "num_pretrain": 40,
    "options": {"min_statements": 1, "max_statements": 1},
}


@pytest.fixture
def make_plan(tmp_path):
    """`make_plan(changes)` plans a run on a saved random OPT, which has dropout."""
    base = tmp_path / "opt"

    def make(**changes) -> Plan:
        values = {
            "output_dir": str(tmp_path / "run"),
            "stages": ["vft", "sample", "label", "align"],
            "data": DATA,
            "prompt": {"template": "{question}"},
            "model": {"name_or_path": str(base), "max_length": 64},
            "training": {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1, "max_steps": 4},
            "align": {"init_from": "base"},
            "methods": {"bcl": {}, "dcl": {"loss": {"constraint": {"name": "detached"}}}, "rft": {"loss": None}},
            **changes,
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        plan = Plan(load_config(str(tmp_path / "config.yaml"), []))
        if not base.exists() and plan.config.model.name_or_path:
            tokenizer = build_word_tokenizer(plan.task.vocabulary())
            build_model("opt", CONFIGS["opt"], tokenizer, seed=0).save_pretrained(base)
            tokenizer.save_pretrained(base)
        return plan

    return make


def run_unit(plan: Plan, stage: str, name: str | None = None) -> Path:
    unit = next(unit for unit in plan.units(stage) if unit.name == name)
    log = UnitLog(unit.folder, plan.inputs(unit))
    {"pretrain": run_pretrain, "vft": run_vft, "align": run_align}[stage](Stage(plan, cpu=True), unit, log)
    assert plan.status(unit).state == DONE
    return unit.folder


def write_groups(plan: Plan) -> None:
    """Groups as labelling would leave them: the reference's neighbour is right, its beginning is wrong."""
    groups = []
    for question in plan.task.load(TRAIN, seed=0):
        reference = plan.task.reference_response(question)
        candidates = (
            Candidate(reference, 1.0, POSITIVE, question.answer, index=0),
            Candidate(reference.split("[ANS]")[0].strip(), 0.0, NEGATIVE, index=1),
        )
        groups.append(Group(question.id, question.question, question.answer, reference, candidates))
    write_json_lines(plan.groups(0), groups)


def history(folder: Path) -> list[dict]:
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def test_pretrain_builds_and_saves_a_model_that_transformers_loads(make_plan):
    scratch = {"architecture": "llama", "config": CONFIGS["llama"]}
    plan = make_plan(stages=["pretrain"], model={"from_scratch": scratch, "max_length": 64}, methods={"bcl": {}})
    folder = run_unit(plan, "pretrain")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer) and model.config.eos_token_id == tokenizer.eos_token_id
    assert [entry["step"] for entry in history(folder) if "loss" in entry] == [1, 2, 3, 4]
    assert (folder / "README.md").read_text().startswith("---\nlibrary_name: transformers")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["steps"] == 4 and manifest["responses"] == {
        "responses": 40,
        "dropped": 0,
        "truncated": 0,
        "empty": 0,
    }


# peft, called by the test itself, asks transformers by an old name
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_leaves_an_adapter_and_the_merged_model(make_plan):
    checkpoint = make_plan().config.model.name_or_path
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    plan = make_plan(model={"name_or_path": checkpoint, "max_length": 64, "lora": lora})
    folder = run_unit(plan, "vft")
    base = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    merged = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(merged) is type(base) and AutoTokenizer.from_pretrained(folder).eos_token_id == 1
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        before, found = base(ids).logits, merged(ids).logits
        adapted = PeftModel.from_pretrained(base, folder / "adapter").eval()(ids).logits
    torch.testing.assert_close(found, adapted, rtol=1e-4, atol=1e-4)
    assert (found - before).abs().max() > 1e-2
    plain = json.loads((Path(checkpoint) / "config.json").read_text())
    assert json.loads((folder / "config.json").read_text()) == plain


def test_a_stage_whose_model_is_not_what_was_trained_is_not_done(make_plan, monkeypatch):
    checkpoint = make_plan().config.model.name_or_path
    plan = make_plan(model={"name_or_path": checkpoint, "max_length": 64, "lora": {"r": 4}})
    monkeypatch.setattr("aft.stages.train.merge_lora", lambda base, adapter: base)
    with pytest.raises(
        AftError, match=r"vft: what was saved is not what was trained: .* the adapter alone in .*vft/adapter\."
    ):
        run_unit(plan, "vft")
    [unit] = plan.units("vft")
    assert plan.status(unit).state == RESUME


@pytest.mark.parametrize("lora", [None, {"r": 4, "target_modules": ["q_proj"]}])
def test_every_checkpoint_says_how_a_response_ends(make_plan, tmp_path, lora):
    """The end of a turn is another token than the tokenizer's end."""
    base, tokenizer = tmp_path / "gemma", gemma()
    build_model("llama", CONFIGS["llama"], tokenizer, seed=0).save_pretrained(base)
    tokenizer.save_pretrained(base)
    plan = make_plan(
        prompt={"template": "{question}", "chat": True},
        model={"name_or_path": str(base), "max_length": 512, "lora": lora},
        vft={"training": {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}},
    )
    folder = run_unit(plan, "vft")
    ends = tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<eos>"])
    for saved in (folder, folder / "checkpoint-1", folder / "checkpoint-2"):
        assert json.loads((saved / "generation_config.json").read_text())["eos_token_id"] == ends
        if saved == folder or lora is None:
            assert json.loads((saved / "config.json").read_text())["eos_token_id"] == ends[0]


def test_the_merged_model_is_freed_before_the_saved_one_is_loaded(make_plan, monkeypatch):
    name = make_plan().config.model.name_or_path
    plan = make_plan(model={"name_or_path": name, "max_length": 64, "lora": {"r": 4, "target_modules": ["q_proj"]}})
    merged = []

    def merge(base, adapter):
        model = merge_lora(base, adapter)
        merged.append(weakref.ref(model.get_input_embeddings().weight))
        return model

    def check(trained, load, *others):
        gc.collect()
        assert [reference() for reference in merged] == [None]
        check_saved(trained, load, *others)

    monkeypatch.setattr("aft.stages.train.merge_lora", merge)
    monkeypatch.setattr("aft.stages.train.check_saved", check)
    run_unit(plan, "vft")
    assert merged


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
def test_adapters_at_the_ends_of_a_model_are_saved_right_or_refused(make_plan, tmp_path, module):
    for tied in (False, True):
        base = tmp_path / f"qwen2-{tied}"
        tokenizer = build_word_tokenizer(make_plan().task.vocabulary())
        settings = {**CONFIGS["qwen2"], "tie_word_embeddings": tied}
        build_model("qwen2", settings, tokenizer, seed=0).save_pretrained(base)
        tokenizer.save_pretrained(base)
        lora = {"r": 4, "target_modules": ["q_proj", module]}
        plan = make_plan(
            output_dir=str(tmp_path / f"run-{tied}"),
            model={"name_or_path": str(base), "max_length": 64, "lora": lora},
        )
        if not tied:
            run_unit(plan, "vft")
            continue
        with pytest.raises(ConfigError, match=rf"^model\.lora\.target_modules: .*{module} shares its weights"):
            run_unit(plan, "vft")


def test_sizes_that_do_not_agree_end_a_stage_before_it_trains(make_plan, tmp_path):
    plan = make_plan()
    base = Path(plan.config.model.name_or_path)
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(base)
    with pytest.raises(ConfigError, match=rf"ids without an embedding: padding {rows}; the model has {rows} rows"):
        run_unit(plan, "vft")
    few = tmp_path / "few"
    tokenizer = build_word_tokenizer(plan.task.vocabulary())
    build_model("opt", {**CONFIGS["opt"], "max_position_embeddings": 8}, tokenizer, seed=0).save_pretrained(few)
    tokenizer.save_pretrained(few)
    plan = make_plan(model={"name_or_path": str(few), "max_length": 64})
    with pytest.raises(
        ConfigError, match=r"^model\.max_length: a sequence can have \d+ tokens, but the model has 8 pos"
    ):
        run_unit(plan, "vft")


@pytest.mark.parametrize("lora", [None, {"r": 4, "lora_dropout": 0.2, "target_modules": "all-linear"}])
def test_a_stage_that_was_cut_goes_on_and_ends_the_same(make_plan, lora):
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 9}
    model = {"name_or_path": make_plan().config.model.name_or_path, "max_length": 64, "lora": lora}
    plan = make_plan(vft={"training": saving}, model=model)
    folder = run_unit(plan, "vft")
    weights, log = (folder / "model.safetensors").read_bytes(), history(folder)
    # as if it had been cut behind its second step
    for path in folder.iterdir():
        if path.name != "checkpoint-2":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = run_unit(plan, "vft")
    assert again == folder and (folder / "model.safetensors").read_bytes() == weights
    assert [entry for entry in history(folder) if "loss" in entry] == [entry for entry in log if "loss" in entry]


@pytest.mark.parametrize("part", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(make_plan, part, capsys):
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 2, "optim": "adamw_torch"}
    plan = make_plan(vft={"training": saving})
    folder = run_unit(plan, "vft")
    weights, log = (folder / "model.safetensors").read_bytes(), history(folder)

    def cut() -> None:
        capsys.readouterr()
        for path in folder.iterdir():
            if not path.name.startswith("checkpoint-"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    cut()
    (folder / "checkpoint-4" / part).unlink()
    run_unit(plan, "vft")
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vft seed 0: c")]
    assert told == [
        f"vft seed 0: checkpoint-4 cannot be resumed: {part} is missing. It is now damaged-checkpoint-4;"
        " delete it freely",
        "vft seed 0: continues from checkpoint-3",
    ]
    assert (folder / "model.safetensors").read_bytes() == weights
    # none is left: from the beginning, and to the same end
    cut()
    for number in (3, 4):
        (folder / f"checkpoint-{number}" / part).write_bytes(b"half")
    run_unit(plan, "vft")
    assert "no whole checkpoint is left; the training starts again" in capsys.readouterr().err
    assert (folder / "model.safetensors").read_bytes() == weights
    assert [entry for entry in history(folder) if "loss" in entry] == [entry for entry in log if "loss" in entry]


def test_an_adapter_begins_the_same_in_every_run(make_plan):
    name = make_plan().config.model.name_or_path
    plan = make_plan(model={"name_or_path": name, "max_length": 64, "lora": {"r": 4, "target_modules": "all-linear"}})
    weights = []
    for number in (1, 2):
        torch.manual_seed(number)  # whatever the process has drawn before
        folder = run_unit(plan, "vft")
        weights.append((folder / "adapter" / "adapter_model.safetensors").read_bytes())
        shutil.rmtree(folder)
    assert weights[0] == weights[1]


def test_methods_share_the_initial_scores_and_the_sharing_changes_nothing(make_plan, monkeypatch):
    computed = []
    whole = AftTrainer.score_candidates
    monkeypatch.setattr(AftTrainer, "score_candidates", lambda trainer: computed.append(1) or whole(trainer))
    plan = make_plan()
    write_groups(plan)
    first, second = run_unit(plan, "align", "bcl"), run_unit(plan, "align", "dcl")
    assert len(computed) == 1
    scores = (second / INITIAL_SCORES).read_bytes()
    assert (first / INITIAL_SCORES).read_bytes() == scores
    assert {path.name for path in first.parent.iterdir()} == {"bcl", "dcl"}
    for folder in (first, second):
        assert read_manifest(folder / MANIFEST)["initial_scores"] == digest_file(folder / INITIAL_SCORES)
    weights, log = (second / "model.safetensors").read_bytes(), history(second)
    drifts = {"scores/positive_drift", "scores/negative_drift"}
    assert all(drifts <= set(entry) for entry in log if "loss" in entry)
    # alone, it would have measured them itself: the same weights, the same numbers
    shutil.rmtree(first)
    shutil.rmtree(second)
    run_unit(plan, "align", "dcl")
    assert len(computed) == 2
    assert (second / INITIAL_SCORES).read_bytes() == scores
    assert (second / "model.safetensors").read_bytes() == weights
    assert [entry for entry in history(second) if "loss" in entry] == [entry for entry in log if "loss" in entry]


def test_scores_that_an_earlier_version_kept_beside_the_units_are_read_where_they_fit(make_plan):
    """A run that it began and that was cut resumes: after the first step, the scores cannot be measured any more."""
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 9}
    plan = make_plan(align={"init_from": "base", "training": saving})
    write_groups(plan)
    folder = run_unit(plan, "align", "bcl")
    weights, scores = (folder / "model.safetensors").read_bytes(), (folder / INITIAL_SCORES).read_text()
    beside = folder.parent / "initial-scores-base.json"

    def cut_behind_the_second_step() -> None:
        for path in folder.iterdir():
            if path.name != "checkpoint-2":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    cut_behind_the_second_step()
    beside.write_text(scores.replace("sha256:", "sha256:0"))
    with pytest.raises(AftError, match=r"bcl/initial_scores.json: missing or made for other inputs"):
        run_unit(plan, "align", "bcl")
    cut_behind_the_second_step()
    beside.write_text(scores)
    run_unit(plan, "align", "bcl")
    assert (folder / INITIAL_SCORES).read_text() == scores
    assert (folder / "model.safetensors").read_bytes() == weights


def test_initial_scores_are_no_part_of_a_checkpoint(tmp_path):
    """What evaluates a checkpoint stays up to date whether the scores lie beside it or not."""
    (tmp_path / "config.json").write_text("{}")
    before = digest_folder(tmp_path)
    (tmp_path / INITIAL_SCORES).write_text("{}")
    assert digest_folder(tmp_path) == before


def test_pairs_are_counted_under_the_gap_of_the_unit(make_plan, capsys):
    """Ratings are 0 and 1: a gap of 1 leaves no pair, and the unit says that nothing is compared."""
    few = {"training": {"max_steps": 1}}
    plan = make_plan(
        methods={
            "bcl": few,
            "wide": {**few, "loss": {"name": "alignment", "min_rating_gap": 1}},
            "rft": {**few, "loss": None},
        }
    )
    write_groups(plan)
    counted = {}
    for name in ("bcl", "wide", "rft"):
        manifest = read_manifest(run_unit(plan, "align", name) / MANIFEST)
        counted[name] = (manifest["groups"], manifest["groups_with_pair"])
    assert counted == {"bcl": (12, 12), "wide": (12, 0), "rft": (12, None)}
    said = [line for line in capsys.readouterr().err.splitlines() if "nothing is compared" in line]
    assert said == [
        "align wide seed 0: no question has candidates whose ratings differ by more than 1: nothing is compared, and"
        " loss/align is not logged"
    ]


def test_graded_ratings_reach_the_loss(make_plan, tmp_path):
    """Every candidate is wrong, so that right and wrong make no pair; the ratings of a file do."""

    def first_step(**section):
        plan = make_plan(output_dir=str(tmp_path / section["name"]), label={"ratings": section})
        questions = plan.training_questions(0)
        rows = [
            {"question_id": question.id, "index": i, "completion": text, "truncated": False, "num_tokens": 4, "seed": 0}
            for question in questions
            for i, text in enumerate(("so [ANS] -1", "1 + 1 is 2 . [ANS] -2"))
        ]
        write_json_lines(plan.completions(0), rows)
        write_json_lines(tmp_path / "ratings.jsonl", [{**row, "rating": 2.5 * row["index"]} for row in rows])
        run_label(plan, plan.units("label")[0], lambda: None)
        assert {c.label for group in read_groups(plan.groups(0)) for c in group.candidates} == {NEGATIVE}
        return history(run_unit(plan, "align", "bcl"))[0]

    binary = first_step(name="binary")
    assert binary["groups/without_pair"] == 4 and "loss/align" not in binary
    graded = first_step(name="file", path=str(tmp_path / "ratings.jsonl"))
    assert graded["groups/without_pair"] == 0 and graded["loss/align"] > 0


def test_a_method_without_a_term_logs_none(make_plan):
    plan = make_plan()
    write_groups(plan)
    folder = run_unit(plan, "align", "rft")
    assert not (folder / INITIAL_SCORES).exists()
    for entry in history(folder):
        assert not any(key.startswith(("scores/", "loss/align", "groups/")) for key in entry)


def test_validation_while_training_picks_the_best_model(make_plan):
    training = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "task_accuracy",
        "greater_is_better": True,
    }
    plan = make_plan(
        vft={"training": training, "validation": {"num_questions": 5, "batch_size": 3}}, evaluate={"max_new_tokens": 12}
    )
    folder = run_unit(plan, "vft")
    evaluated = [entry for entry in history(folder) if "eval_loss" in entry]
    assert [entry["step"] for entry in evaluated] == [2, 4]
    assert all(0 <= entry["eval_task_accuracy"] <= 1 for entry in evaluated)
    best = json.loads((folder / "manifest.json").read_text())["best_step"]
    assert best == 2  # the first of equals: a random model answers nothing
    kept = folder / "checkpoint-2" / "model.safetensors"
    assert kept.read_bytes() == (folder / "model.safetensors").read_bytes()


# without L_VFT to hold it and at a rate far too high, the unconstrained loss tears the model apart
TORN = {
    "init_from": "base",
    "loss": {"constraint": {"name": "none"}, "weight": 1e3},
    "drift": False,
    "training": {
        "learning_rate": 0.3,
        "max_steps": 8,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 9,
    },
}


@pytest.mark.parametrize(("max_fall", "stops"), [(0.01, True), (50.0, False)])
def test_a_training_that_collapses_is_stopped_where_asked(make_plan, max_fall, stops):
    plan = make_plan(methods={"torn": {**TORN, "stop_on_collapse": {"max_fall": max_fall, "patience": 2}}})
    write_groups(plan)
    folder = run_unit(plan, "align", "torn")
    log = [entry for entry in history(folder) if "loss" in entry]
    manifest = read_manifest(folder / MANIFEST)
    if not stops:
        assert manifest["stopped"] is None and len(log) == 8
        return
    drifts = [entry["scores/positive_drift"] for entry in log]
    fallen = [drift < -max_fall for drift in drifts]
    first = next(step for step in range(2, 9) if fallen[step - 2] and fallen[step - 1])
    assert len(log) == first < 8 and manifest["steps"] == first
    assert manifest["stopped"].startswith(f"stopped at step {first} of 8: right chains score")
    # cut right there, it must not go on: it stops at the same step, with the same weights
    weights = (folder / "model.safetensors").read_bytes()
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == [f"checkpoint-{n}" for n in range(1, first)]
    for path in folder.iterdir():
        if not path.name.startswith("checkpoint-") and path.name != INITIAL_SCORES:
            path.unlink()
    run_unit(plan, "align", "torn")
    assert read_manifest(folder / MANIFEST)["steps"] == first
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("loss", ["kto", "nft", "topr"])
def test_some_losses_want_to_know_what_is_desirable_among_graded_ratings(make_plan, loss):
    plan = make_plan(
        methods={"untold": {"loss": {"name": loss}}, "told": {"loss": {"name": loss, "desirable_above": 5}}}
    )
    write_groups(plan)
    path = plan.groups(0)
    groups = [json.loads(line) for line in path.read_text().splitlines()]
    for group in groups:
        for candidate in group["candidates"]:
            candidate["rating"] *= 7.5
    path.write_text("".join(json.dumps(group) + "\n" for group in groups))
    with pytest.raises(ConfigError, match=r"untold.*loss.desirable_above: must be given.*there are also 7.5$"):
        run_unit(plan, "align", "untold")
    run_unit(plan, "align", "told")


def test_mixed_groups_are_those_with_right_and_wrong_samples(make_plan, capsys):
    """The reference is no sample: a question with wrong samples and a reference is left out."""
    plan = make_plan(methods={"mixed": {"groups": "mixed"}, "rft": {"groups": "mixed", "loss": None}})
    write_groups(plan)
    groups = read_groups(plan.groups(0))
    changed = []
    for number, group in enumerate(groups):
        right, wrong = group.candidates
        reference = dataclasses.replace(right, label=REFERENCE, index=None)
        candidates = [
            (right, wrong),
            (right,),
            (wrong,),
            (reference, wrong),
            (right, dataclasses.replace(wrong, label=UNPARSED)),
        ]
        changed.append(dataclasses.replace(group, candidates=candidates[number % 5]))
    write_json_lines(plan.groups(0), changed)
    kept = sum(number % 5 in (0, 4) for number in range(len(groups)))
    for name in ("mixed", "rft"):
        manifest = read_manifest(run_unit(plan, "align", name) / MANIFEST)
        assert manifest["groups"] == kept
        said = f"groups: mixed: {len(groups) - kept} of {len(groups)} questions left out"
        assert said in capsys.readouterr().err
    write_json_lines(plan.groups(0), changed[1:4])
    with pytest.raises(DataError, match="groups: mixed leaves nothing: no question has both right and wrong samples"):
        run_align(Stage(plan, cpu=True), plan.units("align")[0], None)
