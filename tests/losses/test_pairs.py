"""Who outranks whom, where the boundary lies, and the metrics that every loss returns."""

from __future__ import annotations

import pytest
import torch
from cases import random_groups

from aft.losses import STATISTICS, Boundary, Detached, alignment_loss, metrics_from_statistics, pair_statistics
from aft.losses.pairs import UNCONSTRAINED, compare_candidates, groups_with_pair, log_one_plus_sum, lower_minus_higher


def pairs_for(scores, ratings, mask=None, constraint=UNCONSTRAINED, gap=0.0):
    return compare_candidates("test", torch.tensor(scores), torch.tensor(ratings), mask, constraint, gap)


def boundary_term(pairs):
    """T - s_j of every pair."""
    return pairs.log_terms(lower_minus_higher, mirror=False)[1]


def test_higher_rating_outranks_lower_and_ties_make_no_pair():
    pairs = pairs_for([[0.0, 0.0, 0.0, 0.0]], [[3.0, 1.0, 3.0, 2.0]])
    assert pairs.outranks[0].nonzero().tolist() == [[0, 1], [0, 3], [2, 1], [2, 3], [3, 1]]


def test_a_gap_must_be_exceeded_not_met():
    assert pairs_for([[0.0] * 3], [[3.0, 2.0, 1.0]], gap=1.0).outranks[0].nonzero().tolist() == [[0, 2]]


def test_padding_is_in_no_pair():
    mask = torch.tensor([[True, False, True]])
    assert pairs_for([[0.0] * 3], [[1.0, 9.0, 0.0]], mask).outranks[0].nonzero().tolist() == [[0, 2]]


def test_boundary_is_the_lowest_superior_less_beta():
    pairs = pairs_for([[-0.5, -1.0, -0.25, -2.0]], [[3, 2, 1, 3]], constraint=Boundary(beta=0.5))
    # candidate 1 lies below candidates 0 and 3 (lowest -2), candidate 2 below all three
    assert pairs.boundary[0, 1:3].tolist() == [-2.0 - 0.5, -2.0 - 0.5]
    assert boundary_term(pairs)[0, 0, 1] == 2 * (-2.0 - 0.5) - -0.5 - -1.0


def test_pulls_cancel_at_the_boundary_for_each_pair():
    scores = torch.tensor([[-0.5, -0.25, -1.0, -0.75]], dtype=torch.float64)
    scores[0, 3] = -1.0 - 0.25  # the lowest positive less beta
    pairs = compare_candidates("test", scores, torch.tensor([[1, 1, 1, 0]]), None, Boundary(beta=0.25), 0.0)
    down = pairs.scores[:, None, :] - pairs.scores[:, :, None]
    up = boundary_term(pairs)
    assert torch.equal(down[0, :3, 3], up[0, :3, 3])


def test_lowest_only_detaches_those_that_outrank_nothing():
    scores = torch.zeros(1, 4, requires_grad=True)
    ratings = torch.tensor([[3, 2, 1, 1]])
    lower = compare_candidates("test", scores, ratings, None, Detached(lowest_only=True), 0.0).lower
    lower.sum().backward()
    assert scores.grad.tolist() == [[1.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("beta", [float("nan"), float("inf")])
def test_boundary_beta_must_be_finite(beta):
    with pytest.raises(ValueError, match="Boundary: beta must be finite"):
        Boundary(beta=beta)


def test_log_one_plus_sum():
    terms = torch.log(torch.tensor([[2.0, 4.0], [0.5, 0.25]], dtype=torch.float64))
    assert log_one_plus_sum(terms).tolist() == pytest.approx(torch.log(torch.tensor([7.0, 1.75])).tolist())
    assert log_one_plus_sum(torch.full((1, 3), -torch.inf)).item() == 0
    assert log_one_plus_sum(torch.tensor([[1e4, 0.0]])).item() == 1e4


def test_metrics_by_hand_binary():
    scores = torch.tensor([[-0.2, -0.4, -0.6, -1.0], [-0.1, -0.3, -9.0, -9.0]])
    ratings = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    _, metrics = alignment_loss(scores, ratings, candidate_mask=mask, constraint=Boundary(beta=0.5))
    # the second group holds no negative: its positives are in no pair and in no mean
    assert metrics["scores/positive"].item() == pytest.approx((-0.2 - 0.4) / 2)
    assert metrics["scores/negative"].item() == pytest.approx((-0.6 - 1.0) / 2)
    assert metrics["scores/margin"].item() == pytest.approx((0.4 + 0.8 + 0.2 + 0.6) / 4)
    assert metrics["pairs/accuracy"].item() == 1
    assert metrics["constraint/active_fraction"].item() == 1 / 2  # boundary -0.9: only -1.0 is below
    assert metrics["groups/without_pair"].item() == 1


def test_metrics_by_hand_ranking():
    """The middle one has a superior and an inferior: it counts among the negatives."""
    scores = torch.tensor([[-0.2, -0.4, -0.9]])
    _, metrics = alignment_loss(scores, torch.tensor([[3, 2, 1]]), constraint=Detached())
    assert metrics["scores/positive"].item() == pytest.approx(-0.2)
    assert metrics["scores/negative"].item() == pytest.approx((-0.4 - 0.9) / 2)
    assert metrics["scores/margin"].item() == pytest.approx((0.2 + 0.7 + 0.5) / 3)
    assert metrics["constraint/active_fraction"].isnan(), "there is no boundary"
    assert metrics["pairs/accuracy"].item() == 1


def test_a_negative_on_its_boundary_is_active():
    _, metrics = alignment_loss(torch.tensor([[-0.5, -0.75]]), torch.tensor([[1, 0]]), constraint=Boundary(beta=0.25))
    assert metrics["constraint/active_fraction"].item() == 1


def test_statistics_of_micro_batches_add_up_to_those_of_the_batch():
    scores, ratings, mask = random_groups(3)
    whole = pair_statistics(scores, ratings, candidate_mask=mask, constraint=Boundary())
    assert whole.shape == (len(STATISTICS),) and not whole.requires_grad
    parts = [
        pair_statistics(scores[rows], ratings[rows], candidate_mask=mask[rows], constraint=Boundary())
        for rows in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-12, atol=1e-12)
    _, metrics = alignment_loss(scores, ratings, candidate_mask=mask, constraint=Boundary())
    for key, value in metrics_from_statistics(sum(parts)).items():
        torch.testing.assert_close(value, metrics[key], rtol=1e-12, atol=1e-12, equal_nan=True)


def test_statistics_keep_no_gradient():
    scores = torch.zeros(1, 2, requires_grad=True)
    assert not pair_statistics(scores, torch.tensor([[1, 0]])).requires_grad


def test_statistics_name_themselves_in_errors():
    with pytest.raises(ValueError, match=r"pair_statistics: ratings must be \(B, G\) = \(1, 2\)"):
        pair_statistics(torch.zeros(1, 2), torch.zeros(2, 1))


def test_groups_with_pair():
    ratings = torch.tensor([[1.0, 0.0, 5.0], [1.0, 1.0, 0.0], [1.0, 0.5, 1.0]])
    mask = torch.tensor([[True, True, False], [True, True, False], [True, True, True]])
    assert groups_with_pair(ratings, candidate_mask=mask).tolist() == [True, False, True]
    assert groups_with_pair(ratings, candidate_mask=mask, min_rating_gap=0.5).tolist() == [True, False, False]
