"""`sample.from_prefix` from the sampling to an alignment: ids, resuming, labels, and what makes a unit run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from aft.config import load_config
from aft.config.packaged import find_model
from aft.errors import AftError, ConfigError
from aft.forecast.work import Lengths, work
from aft.records import POSITIVE, read_completions, read_groups
from aft.run.integrity import Integrity
from aft.run.manifest import UnitLog, read_manifest
from aft.sampling.transformers_engine import TransformersEngine
from aft.stages.context import Stage
from aft.stages.label import run_label
from aft.stages.plan import DONE, RERUN, Plan
from aft.stages.recompute import recompute
from aft.stages.sample import run_sample
from aft.stages.train import run_align

CONFIG = {
    "stages": ["sample", "label", "align"],
    "data": {"name": "arithmetic", "num_train": 8, "num_answer_only": 8, "num_validation": 4, "num_test": 4},
    "prompt": {"template": "{question}"},
    "model": {"name_or_path": "arithmetic-base", "max_length": 128},
    "training": {"per_device_train_batch_size": 16, "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-3},
    "sample": {
        "model": "base",
        "num_samples": 6,
        "max_new_tokens": 40,
        "batch_size": 64,
        "pool_questions": 2,
        "from_prefix": {"chains": 2, "steps": 2, "num_samples": 3},
    },
    "methods": {
        "all": {},  # first: a test leaves it out
        "whole": {"negatives": "sampled"},
        "step": {"negatives": "from_prefix"},
        "chain": {"negatives": "from_prefix", "response_mask": False},
    },
}


def make_plan(folder: Path, *overrides: str) -> Plan:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "output_dir": str(folder / "run")}), encoding="utf-8")
    return Plan(load_config(path, list(overrides)))


def sample(plan: Plan, *, started: UnitLog | None = None) -> Path:
    [unit] = plan.units("sample")
    run_sample(Stage(plan, cpu=True), unit, started or UnitLog(unit.folder, plan.inputs(unit)))
    return unit.folder


def label(plan: Plan) -> Path:
    [unit] = plan.units("label")
    run_label(plan, unit, lambda: UnitLog(unit.folder, plan.inputs(unit)))
    return unit.folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Plan:
    plan = make_plan(tmp_path_factory.mktemp("from_prefix"))
    sample(plan)
    label(plan)
    return plan


def test_continuations_begin_with_the_ids_of_their_chain(made):
    own = {(c.question_id, c.index): c for c in read_completions(made.completions(0))}
    continued = read_completions(made.continuations(0))
    assert len(continued) > 20 and {c.index for c in continued} <= set(range(6, 6 + 12))
    labels = {(g.question_id, c.index): c.label for g in read_groups(made.groups(0)) for c in g.candidates}
    training = {question.id for question in made.training_questions(0)}
    for completion in continued:
        chain = own[completion.question_id, completion.prefix.chain]
        before = completion.prefix.tokens
        assert completion.question_id in training and labels[completion.question_id, chain.index] == POSITIVE
        assert completion.token_ids[:before] == chain.token_ids[:before]
        assert completion.num_tokens == len(completion.token_ids) - before
        assert completion.completion.startswith(" ".join(chain.completion.split()[:before]))
        assert completion.completion.split()[before - 1] == ".", "a step ends there"
    assert len({c.prefix for c in continued}) > 2


def test_the_manifest_counts_what_was_sampled_for_both(made):
    [unit] = made.units("sample")
    manifest, continued = read_manifest(unit.manifest), read_completions(made.continuations(0))
    counts = manifest["from_prefix"]
    assert manifest["tokens"] == sum(c.num_tokens for c in read_completions(made.completions(0)))
    assert counts["tokens"] == sum(c.num_tokens for c in continued) and counts["completions"] == len(continued)
    assert counts["places"] * 3 == len(continued) and counts["questions"] == 16
    assert set(manifest["outputs"]) == {"completions.jsonl", "from_prefix.jsonl"}
    for stage in ("sample", "label"):
        [unit] = made.units(stage)
        found = recompute(made, unit, read_manifest(unit.manifest))
        assert not found.wrong and found.numbers > 10


@pytest.mark.parametrize("file", ["completions", "continuations"])
def test_labels_of_absent_samples_are_not_checked(made, tmp_path, monkeypatch, file):
    monkeypatch.setattr(Plan, file, lambda *_: tmp_path / "absent.jsonl")
    [unit] = made.units("label")
    found = recompute(made, unit, read_manifest(unit.manifest))
    assert not found.wrong and found.unchecked == [f"labels: {tmp_path / 'absent.jsonl'} is absent"]


def test_wrong_ends_become_negatives_with_a_mask(made):
    groups = read_groups(made.groups(0))
    steps = [c for group in groups for c in group.candidates if c.prefix is not None]
    counts = json.loads((made.groups(0).parent / "counts.json").read_text(encoding="utf-8"))
    continued = read_completions(made.continuations(0))
    assert 0 < len(steps) == counts["from_prefix"]["kept"] < len(continued) == counts["from_prefix"]["continuations"]
    assert all(c.rating == 0.0 and c.response_mask.index(1) == c.prefix.tokens for c in steps)
    assert counts["completions"] == 16 * 6, "the counts of the samples are those of the samples alone"
    assert not any(c.prefix for group in read_groups(made.pool(0)) for c in group.candidates)


def test_a_cut_sampling_resumes_to_the_same_bytes(made, tmp_path, monkeypatch):
    monkeypatch.setattr("aft.sampling.requests._SHARD_BATCHES", 1)
    small = ("sample.batch_size=8", "data.num_train=4", "data.num_answer_only=0")
    whole_folder, cut_folder = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole_folder, cut_folder):
        folder.mkdir()
    whole, cut = make_plan(whole_folder, *small), make_plan(cut_folder, *small)
    sample(whole)
    generate = TransformersEngine.generate

    def breaks(self, shards, decoding):
        for number, completion in enumerate(generate(self, shards, decoding)):
            if completion.prefix is not None and number == 10:
                raise AftError("cut")
            yield completion

    monkeypatch.setattr(TransformersEngine, "generate", breaks)
    [unit] = cut.units("sample")
    log = UnitLog(unit.folder, cut.inputs(unit))
    with pytest.raises(AftError, match="cut"):
        sample(cut, started=log)
    assert not cut.continuations(0).exists() and list(unit.folder.glob("from_prefix.part-*.jsonl"))
    assert cut.status(unit).state == "resume"
    monkeypatch.setattr(TransformersEngine, "generate", generate)
    sample(cut, started=log)
    assert cut.continuations(0).read_bytes() == whole.continuations(0).read_bytes()
    assert cut.completions(0).read_bytes() == whole.completions(0).read_bytes()
    assert not list(unit.folder.glob("*.part-*"))


def test_what_makes_which_stage_run_again(made):
    folder = made.folder.parent
    [of_sample], [of_label] = made.units("sample"), made.units("label")

    def states(*overrides: str) -> tuple[str, str]:
        plan = make_plan(folder, *overrides)
        return plan.status(of_sample).state, plan.status(of_label).state

    assert states() == (DONE, DONE)
    assert states("sample.from_prefix.credit=chain") == (DONE, RERUN)
    assert states("sample.from_prefix.steps=1") == (RERUN, DONE)
    assert states("sample.from_prefix=null", "methods={all: {}}") == (RERUN, RERUN)
    # labels of before, without the continuations that have the text of a sample, are made again
    assert made._sections(of_label)["sample"] == {"from_prefix": {"credit": "step", "as_samples": "kept"}}
    # a run without the section, and methods that use all candidates, have the inputs that they had before it was there
    plain = make_plan(folder, "sample.from_prefix=null", "methods={all: {}}")
    [align] = plain.units("align")
    assert "from_prefix" not in plain._sections(of_sample)["sample"] and "sample" not in plain._sections(of_label)
    assert not {"negatives", "response_mask"} & plain._sections(align)["align"].keys()


def test_methods_choose_their_negatives_and_share_no_scores_of_others(made):
    scores = {}
    for unit in made.units("align")[1:]:
        run_align(Stage(made, cpu=True), unit, UnitLog(unit.folder, made.inputs(unit)))
        scores[unit.name] = json.loads((unit.folder / "initial_scores.json").read_text(encoding="utf-8"))["scores"]
    groups = {group.question_id: group for group in read_groups(made.groups(0))}
    for question_id, values in scores["whole"].items():
        assert len(values) == sum(c.prefix is None for c in groups[question_id].candidates)
    # right chains score the same, and the masked ends otherwise than whole
    assert scores["step"].keys() == scores["chain"].keys()
    by_rows = [
        (c.prefix is not None, step == pytest.approx(chain, abs=1e-6))
        for question_id, values in scores["step"].items()
        for c, step, chain in zip(
            [c for c in groups[question_id].candidates if c.label == POSITIVE or c.prefix is not None],
            values,
            scores["chain"][question_id],
            strict=True,
        )
    ]
    assert all(same != masked for masked, same in by_rows) and {masked for masked, _ in by_rows} == {True, False}
    assert not Integrity().damages(made.units("align")[1])


def test_the_forecast_counts_more_tokens(made):
    lengths = Lengths(8, 16, 4, 4, 20.0, 30, 20.0, 20.0)
    plain = make_plan(made.folder.parent, "sample.from_prefix=null", "methods={all: {}}")
    with_them, without = work(made.config, lengths), work(plain.config, lengths)
    assert with_them[0].sampled == without[0].sampled + 16 * 2 * 2 * 3 * 10
    assert with_them[1].trained > without[1].trained


def test_only_the_negatives_of_a_method_count(tmp_path):
    given = ("sample.from_prefix=null", "align.negatives=from_prefix")
    make_plan(tmp_path, *given, "methods={whole: {negatives: sampled}}")
    with pytest.raises(ConfigError, match=r"align\.negatives: from_prefix, but sample.from_prefix is null"):
        make_plan(tmp_path, *given, "methods={whole: {negatives: sampled}, all: null}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sample.temperature=0"], "sample.from_prefix: a greedy continuation repeats the chain"),
        (["sample.from_prefix=null"], "methods.step.negatives: from_prefix, but sample.from_prefix is null"),
        (["sample.from_prefix.steps=0"], "sample.from_prefix.steps: must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_plan(tmp_path, *overrides)


def test_the_base_model_comes_with_the_package():
    assert Path(find_model("arithmetic-base")).is_dir()
