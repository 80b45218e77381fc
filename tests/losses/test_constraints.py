"""What each constraint without a constant promises: where its push ends, and that its gate moves no positive."""

from __future__ import annotations

import math

import pytest
import torch
from cases import gradient_of

from aft.losses import (
    LOSSES,
    Balanced,
    Boundary,
    Floor,
    PassRate,
    PositiveFloor,
    Tapered,
    Unconstrained,
    controlled_beta,
    pair_statistics,
    spread_of_negatives,
)

RATINGS = torch.tensor([[1, 1, 0, 0]])
START = torch.tensor([[-0.3, -0.5, -0.6, -0.9]], dtype=torch.float64)
# each pushes its negatives by their scores alone, so that a gate's factor shows in the gradient
PAIRWISE = sorted(set(LOSSES) - {"kto", "nca", "rrhf", "nft", "topr", "bpo", "asymre", "simper"})


def moved(*by):
    return START + torch.tensor([by], dtype=torch.float64)


def pushes(name, constraint, scores, ratings=RATINGS):
    """The gradient of each candidate under a constraint, and under none. Positive: pushed down."""
    options = {"refs": torch.full_like(scores, -0.4)}
    own = gradient_of(name, scores, ratings, constraint=constraint, **options)[0]
    free = gradient_of(name, scores, ratings, constraint=Unconstrained(), **options)[0]
    return own, free


@pytest.mark.parametrize("name", PAIRWISE)
def test_a_tapered_push_fades_with_the_probability_of_the_negative(name):
    scores = moved(0.1, -0.2, -0.7, 0.4)
    for lengths, ratio in ((None, math.exp(-0.7)), (torch.tensor([[9, 9, 10, 9]]), math.exp(-7.0))):
        own, free = pushes(name, Tapered(initial_scores=START, lengths=lengths), scores)
        assert own[2] == pytest.approx(ratio * free[2].item(), rel=1e-9)
        assert own[3] == pytest.approx(free[3].item(), rel=1e-9), "above its start the push is whole"
        torch.testing.assert_close(own[:2], free[:2], rtol=0, atol=0)


@pytest.mark.parametrize("name", PAIRWISE)
def test_the_pass_rates_push_is_strong_where_most_chains_are_right_and_gone_as_the_negative_fades(name):
    for ratings, rate in (((1, 1, 1, 0), 0.75), ((1, 0, 0, 0), 0.25)):
        for fall in (0.0, 0.5, 3.0):
            ratings_of = torch.tensor([ratings])
            own, free = pushes(name, PassRate(initial_scores=START), moved(0, 0, 0, -fall), ratings_of)
            ratio = rate * math.exp(-fall)
            assert own[3] == pytest.approx(ratio / (1 - ratio) * free[3].item(), rel=1e-9)
            torch.testing.assert_close(own[:1], free[:1], rtol=0, atol=0)


def test_the_pass_rate_is_kept_away_from_nought_and_one():
    many = torch.tensor([[1.0] * 99 + [0.0]])
    start = torch.full((1, 100), -0.5)
    statistics = pair_statistics(start, many, constraint=PassRate(initial_scores=start))
    assert statistics[-2] == pytest.approx(0.98 / 0.02, rel=1e-4)
    few = 1 - many
    statistics = pair_statistics(start, few, constraint=PassRate(initial_scores=start))
    assert statistics[-2] / statistics[-1] == pytest.approx(0.02 / 0.98, rel=1e-4)


@pytest.mark.parametrize("name", PAIRWISE)
def test_a_balanced_push_ends_once_the_negative_fell_as_far_as_the_positives_rose(name):
    for by, pushed in (
        ((0.2, 0.3, -0.19, -0.21), (True, False)),
        ((0.2, -0.1, -0.05, 0.2), (False, True)),  # a positive fell: only what rose by more is pushed
        ((0.0, 0.0, 0.0, 0.0), (False, False)),
        ((1e-5, -1e-5, 1e-5, 2e-5), (False, False)),  # rounding decides nothing
    ):
        own, free = pushes(name, Balanced(initial_scores=START), moved(*by))
        for place, expected in zip((2, 3), pushed, strict=True):
            assert own[place] == (free[place] if expected else 0)
        torch.testing.assert_close(own[:2], free[:2], rtol=0, atol=0)
    # of sums: the negative has lost 10 x 0.19, the positive has won 5 x 0.2
    lengths = torch.tensor([[5, 50, 10, 10]])
    own, _ = pushes(name, Balanced(initial_scores=START, lengths=lengths), moved(0.2, 0.3, -0.19, -0.05))
    assert own[2] == 0 and own[3] != 0


@pytest.mark.parametrize("name", sorted(set(PAIRWISE) - {"ipo"}))
def test_the_floor_stands_still_and_turns_the_push(name):
    floor = START[0, 2:].mean().item() - 0.25
    for offset, sign in ((0.05, 1), (-0.05, -1), (-0.4, -1)):
        for rise in (0.0, 0.15):
            scores = moved(rise, rise, 0, 0)
            scores[0, 2:] = floor + offset
            own, _ = pushes(name, Floor(initial_scores=START, spread=0.25), scores)
            assert sign * own[2] > 0 and sign * own[3] > 0
    scores = moved(0.1, 0.1, 0, 0)
    scores[0, 2:] = floor
    own, _ = pushes(name, Floor(initial_scores=START, spread=torch.tensor(0.25)), scores)
    assert own[2] == pytest.approx(0, abs=1e-7)


def test_the_spread_is_that_of_all_outranked_candidates():
    scores = torch.tensor([[-0.1, -0.4, torch.nan], [-0.2, -0.8, -0.6], [-5.0, -6.0, -7.0]], dtype=torch.float64)
    ratings = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 0, 0]])
    mask = torch.isfinite(scores)
    found = spread_of_negatives(scores, ratings, candidate_mask=mask)
    assert found == pytest.approx(torch.tensor([-0.4, -0.8, -0.6], dtype=torch.float64).std(correction=0).item())
    assert spread_of_negatives(scores, torch.zeros(3, 3), candidate_mask=mask) == 0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_positive_below_its_start_weighs_more_and_nothing_else_changes(name):
    scores = moved(-0.2, 0.2, -0.1, 0.1)
    options = {"refs": START - 0.1}
    for weight in (0.0, 3.0):
        constraint = PositiveFloor(initial_scores=START, weight=weight)
        own = gradient_of(name, scores, RATINGS, constraint=constraint, **options)[0]
        free = gradient_of(name, scores, RATINGS, constraint=Unconstrained(), **options)[0]
        if name == "nca":  # it also pushes every candidate towards the reference, whatever it is compared with
            assert own[0] <= free[0] < 0
        else:
            torch.testing.assert_close(own[0], (1 + weight) * free[0])
        torch.testing.assert_close(own[1:], free[1:], rtol=0, atol=0)
    # without a pair nothing outranks, and nothing is held
    wrong = torch.zeros(1, 4)
    floor = PositiveFloor(initial_scores=START, weight=3.0)
    held, free = (gradient_of(name, scores, wrong, constraint=c, **options) for c in (floor, Unconstrained()))
    torch.testing.assert_close(held, free, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [Tapered, PassRate, Balanced])
def test_nothing_reaches_a_positive_or_the_start_through_a_gate(kind):
    """The push on a positive is the same whatever the gate of its negatives is."""
    start = START.clone().requires_grad_()
    scores = moved(0.3, 0.2, -0.1, -0.4)
    own, free = pushes("alignment", kind(initial_scores=start), scores)
    torch.testing.assert_close(own[:2], free[:2], rtol=0, atol=0)
    assert start.grad is None


def test_a_controlled_beta_follows_the_positives_within_its_bounds():
    beta = torch.tensor(0.1, dtype=torch.float64)
    assert controlled_beta(beta, torch.tensor(0.5), rate=0.2) == pytest.approx(0.2)
    assert controlled_beta(beta, torch.tensor(-0.5), rate=0.2) == pytest.approx(0.0)
    assert controlled_beta(beta, torch.tensor(torch.nan), rate=0.2) == beta
    assert controlled_beta(beta, torch.tensor(99.0), rate=1.0) == 0.8
    assert controlled_beta(beta, torch.tensor(-99.0), rate=1.0) == 0
    assert controlled_beta(beta, torch.tensor(-99.0), rate=1.0, lowest=-0.2) == -0.2


def test_a_boundary_takes_its_beta_from_the_device():
    scores = moved(0, 0, 0, 0)
    number = gradient_of("alignment", scores, RATINGS, constraint=Boundary(beta=0.25))
    tensor = gradient_of("alignment", scores, RATINGS, constraint=Boundary(beta=torch.tensor(0.25)))
    torch.testing.assert_close(number, tensor, rtol=0, atol=0)


def test_bad_numbers_and_shapes_are_named():
    for make, message in (
        (lambda: Boundary(beta=math.inf), "Boundary: beta must be finite, got inf"),
        (lambda: Boundary(beta=torch.zeros(2)), r"Boundary: beta must be a number or a 0-dim float tensor, got \(2,\)"),
        (lambda: Floor(initial_scores=START, spread=-0.1), "Floor: spread must be finite and >= 0, got -0.1"),
        (lambda: PositiveFloor(initial_scores=START, weight=math.nan), "PositiveFloor: weight must be finite and >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    for constraint, argument in (
        (Tapered(initial_scores=START[0]), "initial_scores"),
        (Balanced(initial_scores=START, lengths=torch.ones(4)), "lengths"),
        (Floor(initial_scores=START[:, :2], spread=0.0), "initial_scores"),
        (PositiveFloor(initial_scores=torch.zeros(2, 4)), "initial_scores"),
    ):
        with pytest.raises(ValueError, match=rf"alignment_loss: constraint.{argument} must be \(B, G\) = \(1, 4\)"):
            LOSSES["alignment"](START, RATINGS, constraint=constraint)
