"""The constraints without a constant inside the trainer: what they are given, and what they remember."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch

from aft.config.losses import (
    AlignmentLoss,
    BalancedConstraint,
    ControlledConstraint,
    FloorConstraint,
    PassRateConstraint,
    PositiveFloorConstraint,
    SimpoLoss,
    TaperedConstraint,
)
from aft.losses import Balanced, Boundary, Floor, PassRate, PositiveFloor, Tapered, alignment_loss, simpo_loss
from aft.scoring.entries import with_initial_scores
from aft.scoring.packing import SHARED, pack
from aft.scoring.responses import as_groups, candidate_scores, score_responses
from aft.stages.loss_section import make_objective
from aft.training.control import spread_before
from tiny_trainers import initial_scores, items_for, logged, make_trainer

SECTIONS = [
    TaperedConstraint("tapered"),
    TaperedConstraint("tapered", logps="mean"),
    PassRateConstraint("pass_rate", logps="mean"),
    BalancedConstraint("balanced"),
    BalancedConstraint("balanced", logps="sum"),
    FloorConstraint("floor"),
    PositiveFloorConstraint("positive_floor", weight=2.0),
    ControlledConstraint("controlled", beta=0.1, rate=2.0),
]


def expected_constraint(section, before, lengths, spread):
    whole = {"initial_scores": before, "lengths": lengths if getattr(section, "logps", "") == "sum" else None}
    return {
        "tapered": lambda: Tapered(**whole),
        "pass_rate": lambda: PassRate(**whole),
        "balanced": lambda: Balanced(**whole),
        "floor": lambda: Floor(initial_scores=before, spread=spread),
        "positive_floor": lambda: PositiveFloor(initial_scores=before, weight=2.0),
        "controlled": lambda: Boundary(beta=0.1),
    }[section.name]()


@pytest.mark.parametrize("section", SECTIONS, ids=str)
@pytest.mark.parametrize(("kind", "loss"), [(AlignmentLoss, alignment_loss), (SimpoLoss, simpo_loss)])
def test_a_constraint_gets_the_scores_before_training_the_lengths_and_what_was_measured(tmp_path, section, kind, loss):
    items = items_for("bcl")
    trainer = make_trainer(tmp_path, items=items)
    name = "alignment" if kind is AlignmentLoss else "simpo"
    objective = make_objective(kind(name=name, constraint=section), "token_mean")
    measured = {"spread": torch.tensor(0.3)} if section.name == "floor" else {"beta": torch.tensor(0.1)}
    trainer.objective = dataclasses.replace(objective, measured=measured)
    batch = pack(items, 0, SHARED)
    with torch.no_grad():
        seq_logps, lengths = score_responses(trainer.model, batch)
        scores = candidate_scores(seq_logps, lengths, batch)
        before = scores - torch.linspace(-0.4, 0.5, scores.numel()).view_as(scores) * batch["candidate_mask"]
        batch["initial_scores"] = before
        _, align = trainer.loss_terms(trainer.model, batch, trainer._count([batch]))
    mask = batch["candidate_mask"]
    constraint = expected_constraint(section, before, as_groups(lengths.to(scores), batch), 0.3)
    expected, _ = loss(scores, batch["ratings"], candidate_mask=mask, constraint=constraint)
    torch.testing.assert_close(align, expected.sum() / mask.any(dim=1).sum(), check_dtype=False)


def train(folder, section, **options):
    objective = make_objective(AlignmentLoss(constraint=section), "token_mean")
    job = {"objective": objective, "initial_scores": lambda trainer: trainer.score_candidates()}
    trainer = make_trainer(folder, job={**job, **options.pop("job", {})}, **options)
    trainer.train(resume_from_checkpoint=options.get("resume"))
    return trainer


def test_the_spread_is_that_of_the_training_data_before_the_first_step(tmp_path):
    trainer = train(tmp_path, FloorConstraint("floor"), max_steps=2)
    before = initial_scores(trainer)
    items = items_for("bcl")
    outranked = []
    for item in items:
        rated = [rating for rating in item.ratings if rating is not None]
        for score, rating in zip(before.get(item.question_id, []), rated, strict=True):
            outranked += [score] if rating < max(rated) else []
    expected = torch.tensor(outranked, dtype=torch.float64).std(correction=0)
    torch.testing.assert_close(trainer.objective.measured["spread"], expected)
    assert spread_before([(item,) for item in items], 0.0) == 0, "no scores before training are known"
    known = with_initial_scores([(item,) for item in items], before)
    torch.testing.assert_close(spread_before(known, 0.0), expected)
    assert {"constraint/active_fraction", "scores/positive_drift"} <= {
        key for entry in logged(trainer) for key in entry
    }


def test_beta_follows_the_drift_that_is_logged(tmp_path):
    section = ControlledConstraint("controlled", beta=0.1, rate=0.5, lowest=-0.8)
    trainer = train(tmp_path, section, max_steps=6, learning_rate=0.5)
    beta, betas = 0.1, []
    for entry in logged(trainer):
        if "scores/positive_drift" in entry:
            beta = min(max(beta + 0.5 * entry["scores/positive_drift"], -0.8), 0.8)
        assert entry["constraint/beta"] == pytest.approx(beta, abs=1e-9)
        betas.append(beta)
    assert len(set(betas)) > 3


@pytest.mark.parametrize("section", [SECTIONS[0], SECTIONS[2], SECTIONS[3], SECTIONS[5], SECTIONS[7]], ids=str)
def test_a_step_is_the_same_however_it_is_divided(tmp_path, section):
    exact = {"architecture": "gpt2", "config": dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)}
    runs = []
    for batch, layout in ((8, "shared"), (4, "packed"), (1, "padded")):
        division = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 8 // batch}
        trainer = train(
            tmp_path, section, **exact, dtype=torch.float64, max_steps=4, job={"layout": layout}, **division
        )
        runs.append((trainer.model.state_dict(), logged(trainer)))
    weights, log = runs[0]
    for other_weights, other_log in runs[1:]:
        for key in weights:
            torch.testing.assert_close(other_weights[key], weights[key], rtol=1e-6, atol=1e-6)
        for entry, other in zip(log, other_log, strict=True):
            assert other.get("constraint/gate") == pytest.approx(entry.get("constraint/gate"), abs=1e-4)
            assert {**other, "epoch": 0} == pytest.approx({**entry, "epoch": 0}, rel=1e-4, abs=1e-5)


def test_rounding_decides_no_gate_at_the_start(tmp_path):
    """In float32 the scores of the first step differ from those before training, in every layout in another way."""
    gates = []
    for batch, layout in ((8, "shared"), (1, "padded")):
        division = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 8 // batch}
        trainer = train(tmp_path, SECTIONS[3], max_steps=1, job={"layout": layout}, **division)
        gates.append(logged(trainer)[0]["constraint/gate"])
    assert gates == [0, 0]


@pytest.mark.parametrize("section", [SECTIONS[5], SECTIONS[7]], ids=str)
def test_resuming_goes_on_with_what_the_constraint_remembers(tmp_path, section):
    options = {"optim": "adamw_torch", "learning_rate": 1e-2, "max_steps": 6, "save_strategy": "steps", "save_steps": 1}
    objective = make_objective(AlignmentLoss(constraint=section), "token_mean")
    scores = []

    def initial(trainer):
        scores[:] = scores or [trainer.score_candidates()]
        return scores[0]

    job = {"objective": objective, "initial_scores": initial}
    through = make_trainer(tmp_path / "through", job=job, save_total_limit=20, **options)
    through.train()
    checkpoint = tmp_path / "resumed" / "checkpoint-3"
    shutil.copytree(tmp_path / "through" / "checkpoint-3", checkpoint)
    resumed = make_trainer(tmp_path / "resumed", job=job, save_total_limit=20, **options)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert logged(through) == logged(resumed)
    for key, value in through.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
