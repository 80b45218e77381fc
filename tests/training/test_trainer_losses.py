"""The other losses inside the trainer: what they compare, and the reference that some of them take."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from aft.config.losses import (
    AsymreLoss,
    BoundaryConstraint,
    BpoLoss,
    DetachedConstraint,
    DpoLoss,
    IpoLoss,
    KtoLoss,
    NcaLoss,
    NftLoss,
    NoConstraint,
    OrpoLoss,
    ProLoss,
    RrhfLoss,
    SimperLoss,
    SimpoLoss,
    ToprLoss,
)
from aft.losses import (
    DISPLACEMENT,
    REFERENCE_LOSSES,
    STATISTICS,
    Boundary,
    Detached,
    Unconstrained,
    asymre_loss,
    bpo_loss,
    dpo_loss,
    groups_with_pair,
    ipo_loss,
    kto_loss,
    nca_loss,
    nft_loss,
    orpo_loss,
    pro_loss,
    rrhf_loss,
    simper_loss,
    simpo_loss,
    topr_loss,
)
from aft.scoring.packing import SHARED, Item, pack
from aft.scoring.responses import as_groups, candidate_scores, score_responses
from aft.stages.loss_section import make_objective
from aft.training.objective import Objective
from tiny_trainers import items_for, make_trainer

CONSTRAINTS = [
    (NoConstraint("none"), Unconstrained()),
    (DetachedConstraint("detached"), Detached()),
    (BoundaryConstraint("boundary", beta=0.2), Boundary(beta=0.2)),
]


def terms(tmp_path, loss):
    """(L_A of the trainer over all groups, what its loss was given) for one batch of every question."""
    items = items_for("bcl")
    trainer = make_trainer(tmp_path, items=items)
    trainer.objective = make_objective(loss, "token_mean")
    batch = pack(items, 0, SHARED)
    with torch.no_grad():
        seq_logps, lengths = score_responses(trainer.model, batch)
        scores = candidate_scores(seq_logps, lengths, batch)
        # a reference that differs from the model in every score
        before = scores - torch.linspace(0.1, 0.9, scores.numel()).view_as(scores) * batch["candidate_mask"]
        batch["initial_scores"] = before
        _, align = trainer.loss_terms(trainer.model, batch, trainer._count([batch]))
    return align, scores, before, as_groups(lengths.float(), batch), batch["ratings"], batch["candidate_mask"]


@pytest.mark.parametrize(("section", "constraint"), CONSTRAINTS, ids=lambda value: type(value).__name__)
def test_rrhf_and_pro_compare_scores(tmp_path, section, constraint):
    align, scores, _, _, ratings, mask = terms(tmp_path / "rrhf", RrhfLoss(name="rrhf", constraint=section))
    groups = mask.any(dim=1).sum()
    expected = rrhf_loss(scores, ratings, candidate_mask=mask, constraint=constraint)[0].sum() / groups
    torch.testing.assert_close(align, expected, check_dtype=False)
    assert expected > 0
    loss = ProLoss(name="pro", constraint=section, dynamic_temperature=False)
    align, scores, _, _, ratings, mask = terms(tmp_path / "pro", loss)
    expected = (
        pro_loss(scores, ratings, candidate_mask=mask, constraint=constraint, dynamic_temperature=False)[0].sum()
        / groups
    )
    torch.testing.assert_close(align, expected, check_dtype=False)


@pytest.mark.parametrize("logps", ["mean", "sum"])
@pytest.mark.parametrize(("section", "constraint"), CONSTRAINTS, ids=lambda value: type(value).__name__)
def test_dpo_compares_with_the_scores_before_training(tmp_path, section, constraint, logps):
    loss = DpoLoss(name="dpo", constraint=section, beta=0.5, logps=logps)
    align, scores, before, lengths, ratings, mask = terms(tmp_path, loss)
    options = {"beta": 0.5, "constraint": constraint, "lengths": lengths if logps == "sum" else None}
    per_group, _ = dpo_loss(scores, ratings, ref_scores=before, candidate_mask=mask, **options)
    torch.testing.assert_close(align, per_group.sum() / mask.any(dim=1).sum(), check_dtype=False)
    unmoved, _ = dpo_loss(scores, ratings, ref_scores=scores, candidate_mask=mask, **options)
    assert not torch.allclose(per_group, unmoved), "the reference must matter"


def test_other_keys_reach_the_objective():
    loss = DpoLoss(name="dpo", weight=0.5, reduction="sum", min_rating_gap=0.25)
    objective = make_objective(loss, "token_sum")
    assert objective.loss.func is dpo_loss and objective.loss.keywords == {"beta": 0.1}
    assert dataclasses.replace(objective, loss=None) == Objective(
        vft_reduction="token_sum",
        min_rating_gap=0.25,
        weight=0.5,
        reduction="sum",
        zero_without_pair=True,
        needs_reference=True,
    )


def test_the_gap_reaches_the_loss_the_statistics_and_the_count_alike():
    """Ratings of 0, 1 and 2: under a gap of 1.5 only one of three pairs is left."""
    item = Item("q", [3], [[4, 1], [5, 1], [6, 1]], [False] * 3, [0.0, 1.0, 2.0], [-1.0, -1.0, -1.0])
    scores = torch.tensor([[-1.0, -2.0, -3.0]])
    for gap, pairs in ((0.0, 3), (1.5, 1), (2.0, 0)):
        objective = make_objective(DpoLoss(name="dpo", min_rating_gap=gap), "token_mean")
        batch = pack([item], 0, SHARED)
        statistics = dict(
            zip(STATISTICS, objective.statistics(scores, torch.full((1, 3), 2.0), batch).tolist(), strict=True)
        )
        assert statistics["pair_count"] == pairs
        moved = dict(zip(DISPLACEMENT, objective.displacement(scores, batch).tolist(), strict=True))
        assert moved["compared_groups"] == (pairs > 0) == objective.with_pair(batch).item()
        loss = objective.of_groups(scores, torch.full((1, 3), 2.0), batch)
        expected, _ = dpo_loss(scores, batch["ratings"], ref_scores=-torch.ones(1, 3), min_rating_gap=gap)
        assert loss.item() == expected.item() and (loss.item() > 0) == (pairs > 0)


def test_rrhf_as_its_code_has_it_divides_by_the_padded_length_of_the_group(tmp_path):
    align, scores, _, lengths, ratings, mask = terms(tmp_path, RrhfLoss(name="rrhf", normalisation="reference_code"))
    padded = []
    for item in items_for("bcl"):
        longest = max((len(item.responses[index]) for index in item.candidates), default=0)
        padded.append(len(item.prompt_ids) + longest)
    quotients = scores * lengths / torch.tensor(padded).unsqueeze(1)
    expected = rrhf_loss(quotients, ratings, candidate_mask=mask)[0].sum() / mask.any(dim=1).sum()
    torch.testing.assert_close(align, expected, check_dtype=False)
    assert expected != rrhf_loss(scores, ratings, candidate_mask=mask)[0].sum() / mask.any(dim=1).sum()


@pytest.mark.parametrize(
    ("section", "function", "arguments"),
    [
        (SimpoLoss(name="simpo", beta=1.5, gamma=0.25), simpo_loss, {"beta": 1.5, "gamma": 0.25}),
        (OrpoLoss(name="orpo"), orpo_loss, {}),
        (IpoLoss(name="ipo", beta=0.3), ipo_loss, {"beta": 0.3}),
        (
            KtoLoss(name="kto", reference_point=0.5, undesirable_weight=0.7),
            kto_loss,
            {"reference_point": 0.5, "undesirable_weight": 0.7},
        ),
        (NcaLoss(name="nca", alpha=0.5), nca_loss, {"alpha": 0.5}),
        (
            NftLoss(name="nft", floor=0.5, question_weight="root_odds"),
            nft_loss,
            {"floor": 0.5, "question_weight": "root_odds"},
        ),
        (ToprLoss(name="topr"), topr_loss, {}),
        (SimperLoss(name="simper"), simper_loss, {}),
        (BpoLoss(name="bpo", alpha=0.5), bpo_loss, {"alpha": 0.5}),
        (
            AsymreLoss(name="asymre", delta=-0.3, divide_by_mean=True),
            asymre_loss,
            {"delta": -0.3, "divide_by_mean": True},
        ),
        (ProLoss(name="pro", normalisation="reference_code"), pro_loss, {"normalisation": "reference_code"}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_every_other_loss_gets_its_arguments(tmp_path, section, function, arguments):
    align, scores, before, lengths, ratings, mask = terms(tmp_path, section)
    if getattr(section, "logps", "mean") == "sum":
        arguments = {**arguments, "lengths": lengths}
    given = {"candidate_mask": mask, **({"ref_scores": before} if section.name in REFERENCE_LOSSES else {})}
    expected = function(scores, ratings, **given, **arguments)[0].sum() / mask.any(dim=1).sum()
    torch.testing.assert_close(align, expected, check_dtype=False)
    assert expected != function(scores, ratings, **given)[0].sum() / mask.any(dim=1).sum() or not arguments


def test_vft_and_dpo_on_a_winner_and_a_loser_are_irpo(tmp_path):
    """The summed DPO loss of the pair, plus the winner's negative log-likelihood divided by its length."""
    winner, loser = [4, 5, 6, 1], [7, 1]
    item = Item("q", [3, 8], [winner, loser], [True, False], [1.0, 0.0], [-2.0, -3.0])
    trainer = make_trainer(tmp_path, items=[item])
    trainer.objective = make_objective(DpoLoss(name="dpo", beta=0.1, logps="sum"), "token_mean")
    batch = pack([item], 0, SHARED)
    with torch.no_grad():
        vft, align = trainer.loss_terms(trainer.model, batch, trainer._count([batch]))
        (won, lost), _ = score_responses(trainer.model, batch)
    ratio = 0.1 * ((won + 2.0 * len(winner)) - (lost + 3.0 * len(loser)))
    expected = -won / len(winner) - torch.nn.functional.logsigmoid(ratio)
    torch.testing.assert_close(vft + align, expected, check_dtype=False)


def test_a_mean_over_groups_with_a_pair_leaves_out_the_others_whatever_acts_on_them(tmp_path):
    """KTO's loss of a group without a pair is not 0."""
    section = KtoLoss(name="kto", reduction="mean_with_pair", logps="mean")
    align, scores, before, _, ratings, mask = terms(tmp_path, section)
    per_group, _ = kto_loss(scores, ratings, ref_scores=before, candidate_mask=mask)
    paired = groups_with_pair(ratings, candidate_mask=mask)
    assert 0 < paired.sum() < mask.any(dim=1).sum() and (per_group[mask.any(dim=1) & ~paired] > 0).all()
    torch.testing.assert_close(align, per_group[paired].mean(), check_dtype=False)
