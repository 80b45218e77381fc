"""SimPO, ORPO, IPO, KTO and NCA: values by hand, what each pushes, and what the constraints change."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from aft.losses import (
    LOSSES,
    REFERENCE_LOSSES,
    Detached,
    ipo_loss,
    kto_loss,
    nca_loss,
    orpo_loss,
    simpo_loss,
)

RELATIVES = ("simpo", "orpo", "ipo", "kto", "nca")


def double(values):
    return torch.tensor([values], dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + exp(-x))


def gradient(name, scores, ratings, **options):
    leaf = double(scores).requires_grad_()
    if name in REFERENCE_LOSSES:
        options["ref_scores"] = double([-0.6, -0.3, -0.5][: len(scores)])
    LOSSES[name](leaf, torch.tensor([ratings]), **options)[0].sum().backward()
    return leaf.grad[0]


def test_simpo_by_hand():
    got = simpo_loss(double([-0.2, -0.9, -0.5]), torch.tensor([[2, 1, 1]]), beta=2.5, gamma=0.7)[0].item()
    terms = [log(1 + exp(0.7 - 2.5 * (-0.2 + 0.9))), log(1 + exp(0.7 - 2.5 * (-0.2 + 0.5)))]
    assert got == pytest.approx(sum(terms) / 2, abs=1e-12)


def test_orpo_by_hand():
    odds = [exp(s) / (1 - exp(s)) for s in (-0.2, -0.9)]
    assert orpo_loss(double([-0.2, -0.9]), torch.tensor([[1, 0]]))[0].item() == pytest.approx(
        log(1 + odds[1] / odds[0]), abs=1e-12
    )


def test_orpo_of_a_certain_response_is_finite():
    leaf = torch.zeros(1, 2).requires_grad_()
    per_group, _ = orpo_loss(leaf, torch.tensor([[1, 0]]))
    per_group.sum().backward()
    assert per_group.item() == pytest.approx(log(2)) and torch.equal(leaf.grad, torch.zeros(1, 2))


def test_ipo_by_hand_and_at_rest():
    scores, refs = double([-0.2, -0.9]), double([-0.6, -0.3])
    got = ipo_loss(scores, torch.tensor([[1, 0]]), ref_scores=refs, beta=0.4)[0].item()
    assert got == pytest.approx((0.4 + 0.6 - 1 / 0.8) ** 2, abs=1e-12)
    at_rest = double([refs[0, 0].item() + 1.25, refs[0, 1].item()]).requires_grad_()
    ipo_loss(at_rest, torch.tensor([[1, 0]]), ref_scores=refs, beta=0.4)[0].sum().backward()
    assert torch.allclose(at_rest.grad, torch.zeros(1, 2, dtype=torch.float64), atol=1e-12)


def test_kto_by_hand_with_weights_point_and_threshold():
    options = {"beta": 0.5, "reference_point": 0.3, "desirable_above": 4, "desirable_weight": 2.0}
    options["ref_scores"] = double([-0.6, -0.3, -0.5])
    got = kto_loss(double([-0.2, -0.9, -0.5]), torch.tensor([[8, 5, 4]]), **options)[0]
    ratios = [0.4, -0.6, 0.0]
    losses = [2 * (1 - sigmoid(0.5 * (r - 0.3))) for r in ratios[:2]] + [1 - sigmoid(0.5 * (0.3 - ratios[2]))]
    assert got.item() == pytest.approx(sum(losses) / 3, abs=1e-12)


def test_nca_by_hand():
    scores, refs, ratings = [-0.2, -0.9, -0.5], [-0.6, -0.3, -0.5], [3.0, 1.0, 2.0]
    got = nca_loss(double(scores), torch.tensor([ratings]), ref_scores=double(refs), beta=0.8, alpha=2.0)[0].item()
    weights = [exp(r / 2) for r in ratings]
    h = [0.8 * (s - r) for s, r in zip(scores, refs, strict=True)]
    terms = [-w / sum(weights) * log(sigmoid(x)) - log(sigmoid(-x)) / 3 for w, x in zip(weights, h, strict=True)]
    assert got == pytest.approx(sum(terms), abs=1e-12)


def test_nca_pulls_the_best_rated_up_where_others_only_widen_the_gap():
    # both have fallen alike below the reference: a loss on the difference sees nothing to mend in the winner's score
    scores, refs = double([-2.0, -3.0]).requires_grad_(), double([-1.0, -2.0])
    nca_loss(scores, torch.tensor([[1, 0]]), ref_scores=refs, alpha=0.01)[0].sum().backward()
    assert scores.grad[0, 0] < 0 < scores.grad[0, 1]
    assert -scores.grad[0, 0] > scores.grad[0, 1]


def test_kto_asks_what_is_desirable_unless_ratings_say_so():
    scores, refs = double([-0.2, -0.9, -0.5]), double([-0.6, -0.3, -0.5])
    said = "kto_loss: desirable_above must be given, as ratings are not 0 and 1 alone; there are also 2, 4, 9"
    with pytest.raises(ValueError, match=said):
        kto_loss(scores, torch.tensor([[9, 4, 2]]), ref_scores=refs)
    binary = torch.tensor([[1.0, 0.0, 0.0]])
    expected, _ = kto_loss(scores, binary, ref_scores=refs, desirable_above=0.5)
    for ratings in (binary, binary.long(), binary.bool()):
        assert torch.equal(kto_loss(scores, ratings, ref_scores=refs)[0], expected)
    # a padding slot may hold anything
    mask = torch.tensor([[True, True, False]])
    kto_loss(scores, torch.tensor([[1.0, 0.0, 9.0]]), ref_scores=refs, candidate_mask=mask)


@pytest.mark.parametrize("name", RELATIVES)
def test_the_free_loss_pushes_right_up_and_wrong_down(name):
    push = gradient(name, [-0.4, -0.5], [1, 0])
    assert push[0] < 0 < push[1]


@pytest.mark.parametrize("name", RELATIVES)
def test_detached_sends_nothing_to_the_wrong_and_the_same_to_the_right(name):
    free, push = (gradient(name, [-0.4, -0.5], [1, 0], **o) for o in ({}, {"constraint": Detached()}))
    assert push[1] == 0 and push[0] == free[0]


@pytest.mark.parametrize("name", ["kto", "nca"])
def test_losses_of_single_candidates_act_without_a_pair(name):
    assert gradient(name, [-0.4, -0.5], [1, 1]).abs().sum() > 0
    assert gradient(name, [-0.4, -0.5], [0, 0]).abs().sum() > 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s, r: simpo_loss(s, r, beta=0.0), "simpo_loss: beta must be finite and > 0, got 0.0"),
        (lambda s, r: simpo_loss(s, r, gamma=-1.0), "simpo_loss: gamma must be finite and >= 0, got -1.0"),
        (lambda s, r: ipo_loss(s, r, ref_scores=s, beta=-0.1), "ipo_loss: beta must be finite and > 0, got -0.1"),
        (
            lambda s, r: kto_loss(s, r, ref_scores=s, beta=float("inf")),
            "kto_loss: beta must be finite and > 0, got inf",
        ),
        (
            lambda s, r: kto_loss(s, r, ref_scores=s, reference_point=float("nan")),
            "kto_loss: reference_point must be finite, got nan",
        ),
        (
            lambda s, r: kto_loss(s, r, ref_scores=s, undesirable_weight=-1.0),
            "kto_loss: undesirable_weight must be finite and >= 0, got -1.0",
        ),
        (lambda s, r: nca_loss(s, r, ref_scores=s, alpha=0.0), "nca_loss: alpha must be finite and > 0, got 0.0"),
        (
            lambda s, r: nca_loss(s, r, ref_scores=s[:, :1]),
            "nca_loss: ref_scores must be (B, G) = (1, 2), as scores, got (1, 1)",
        ),
    ],
)
def test_numbers_out_of_range_are_named(call, said):
    with pytest.raises(ValueError) as caught:
        call(torch.zeros(1, 2), torch.tensor([[1, 0]]))
    assert str(caught.value) == said
