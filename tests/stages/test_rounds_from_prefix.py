"""Rounds whose samples continue right chains: what each round samples, and what the last one is trained on."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
import yaml
from test_from_prefix import CONFIG as ONE_ROUND

from aft.config import load_config
from aft.records import POSITIVE, read_completions, read_groups
from aft.run.manifest import UnitLog, read_manifest
from aft.stages.context import Stage
from aft.stages.label import run_label
from aft.stages.plan import Plan
from aft.stages.recompute import recompute
from aft.stages.sample import run_sample
from aft.stages.train import run_align
from aft.stages.validate import run_validate

CONFIG = {
    **ONE_ROUND,
    "training": {**ONE_ROUND["training"], "max_steps": 1, "learning_rate": 1e-4},
    "rounds": {"count": 2, "keep": "all", "validation_questions": 2},
    "methods": {"step": {"negatives": "from_prefix"}},
}
RUNNERS = {"sample": run_sample, "align": run_align, "validate": run_validate}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Plan:
    folder = tmp_path_factory.mktemp("rounds_from_prefix")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "output_dir": str(folder / "run")}), encoding="utf-8")
    plan = Plan(load_config(path))
    for stage, number in plan.steps(plan.stages()):
        for unit in plan.units(stage, number):
            if stage == "label":
                run_label(plan, unit, lambda unit=unit: UnitLog(unit.folder, plan.inputs(unit)))
            else:
                RUNNERS[stage](Stage(plan, cpu=True), unit, UnitLog(unit.folder, plan.inputs(unit)))
    return plan


def test_each_round_continues_its_own_right_chains(made):
    seeds = []
    for name in (None, "step@2"):
        own = {(c.question_id, c.index): c for c in read_completions(made.completions(0, name))}
        continued = read_completions(made.continuations(0, name))
        labels = {(g.question_id, c.index): c.label for g in read_groups(made.groups(0, name)) for c in g.candidates}
        assert len(continued) > 20
        for completion in continued:
            key, before = (completion.question_id, completion.prefix.chain), completion.prefix.tokens
            assert completion.token_ids[:before] == own[key].token_ids[:before] and labels[key] == POSITIVE
        seeds += [{(c.question_id, c.seed) for c in [*own.values(), *continued]}]
    assert not seeds[0] & seeds[1], "no round repeats the draws of another"


def test_the_last_round_is_trained_on_the_continuations_of_both(made):
    chosen, rounds = defaultdict(set), []
    for name in (None, "step@2"):
        kept = [
            (group.question_id, c.completion)
            for group in read_groups(made.groups(0, name))
            for c in group.candidates
            if c.label == POSITIVE or c.prefix is not None
        ]
        rounds.append({*kept})
        for question_id, text in kept:
            chosen[question_id].add(text)
    assert rounds[0] & rounds[1] and rounds[1] - rounds[0], "some texts repeat, and some are new"
    for number, expected in ((1, rounds[0]), (2, rounds[0] | rounds[1])):
        [unit] = made.units("align", number)
        scores = json.loads((unit.folder / "initial_scores.json").read_text(encoding="utf-8"))["scores"]
        assert sum(map(len, scores.values())) == len(expected)
    assert {key: len(values) for key, values in scores.items() if values} == {k: len(v) for k, v in chosen.items()}


def test_the_numbers_of_every_round_are_computed_again(made):
    for stage in ("sample", "label", "validate"):
        for unit in made.units(stage):
            found = recompute(made, unit, read_manifest(unit.manifest))
            assert not found.wrong and found.numbers > 2, found.wrong
