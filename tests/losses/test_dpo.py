"""DPO in ranking form: values from Eq 16, the pairwise case, and what each constraint does."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from cases import random_groups, ref_scores_for

from aft.losses import Boundary, Detached, Unconstrained, dpo_loss


def double(values):
    return torch.tensor([values], dtype=torch.float64)


def value(scores, ref_scores, ratings, **options):
    return dpo_loss(double(scores), torch.tensor([ratings]), ref_scores=double(ref_scores), **options)[0].item()


def gradient(scores, ref_scores, ratings, **options):
    leaf = double(scores).requires_grad_()
    dpo_loss(leaf, torch.tensor([ratings]), ref_scores=double(ref_scores), **options)[0].sum().backward()
    return leaf.grad[0]


def test_eq16_by_hand():
    h = [0.5 * (-0.1 - -0.3), 0.5 * (-0.4 - -0.2), 0.5 * (-0.3 - -0.9)]
    expected = log(1 + exp(h[1] - h[0]) + exp(h[2] - h[0])) + log(1 + exp(h[2] - h[1]))
    got = value([-0.1, -0.4, -0.3], [-0.3, -0.2, -0.9], [8, 5, 3], beta=0.5)
    assert got == pytest.approx(expected, abs=1e-12)


def test_two_candidates_give_the_pairwise_loss():
    generator = torch.Generator().manual_seed(0)
    scores, refs = torch.randn(2, 20, 2, generator=generator, dtype=torch.float64)
    per_group, _ = dpo_loss(scores, torch.tensor([[1, 0]]).expand(20, 2), ref_scores=refs, beta=0.3)
    log_ratio = 0.3 * ((scores[:, 0] - refs[:, 0]) - (scores[:, 1] - refs[:, 1]))
    torch.testing.assert_close(per_group, -torch.nn.functional.logsigmoid(log_ratio), rtol=0, atol=1e-12)


def test_at_the_reference_only_the_number_below_counts():
    scores = [-0.1, -2.0, -0.7]
    assert value(scores, scores, [3, 2, 1]) == pytest.approx(log(3) + log(2), abs=1e-12)


def test_no_gradient_reaches_the_reference():
    scores, refs = double([-0.1, -0.3]).requires_grad_(), double([-0.2, -0.2]).requires_grad_()
    dpo_loss(scores, torch.tensor([[1, 0]]), ref_scores=refs)[0].sum().backward()
    assert scores.grad is not None and refs.grad is None


def test_detached_sends_no_gradient_to_the_lower():
    arguments = ([-0.4, -0.2, -0.1], [-0.3, -0.3, -0.3], [3, 2, 1])
    push = gradient(*arguments, constraint=Detached())
    assert push[0] < 0 and push[1] < 0 and push[2] == 0
    free = gradient(*arguments)
    assert free[2] > 0
    assert value(*arguments, constraint=Detached()) == value(*arguments)
    lowest_only = gradient(*arguments, constraint=Detached(lowest_only=True))
    assert lowest_only[2] == 0 and lowest_only[1] == free[1]


def test_boundary_is_on_the_scores_whatever_the_reference():
    scores, refs, b, beta = [-0.2, -1.0], [-0.5, -0.6], 0.1, 0.25
    pull = exp(2 * -0.2 - 2 * beta + 0.2 + 1.0)
    expected = log(1 + exp(b * (-1.0 + 0.6) - b * (-0.2 + 0.5)) + pull)
    assert value(scores, refs, [1, 0], beta=b, constraint=Boundary(beta=beta)) == pytest.approx(expected, abs=1e-12)


def test_a_fallen_negative_is_lifted():
    arguments = ([-0.2, -6.0], [-0.5, -0.6], [1, 0])
    assert gradient(*arguments, constraint=Boundary())[1] < 0
    assert gradient(*arguments)[1] > 0


def test_with_unit_temperature_and_flat_reference_pulls_cancel_at_the_boundary():
    def push(negative):
        options = {"beta": 1.0, "constraint": Boundary(beta=0.125)}
        return gradient([-0.25, -0.5, negative], [-1.0, -1.0, -1.0], [1, 1, 0], **options)[2].item()

    at = -0.5 - 0.125
    assert push(at + 1e-3) > 0 and push(at - 1e-3) < 0
    assert push(at) == pytest.approx(0, abs=1e-15)


def test_a_boundary_out_of_reach_leaves_the_unconstrained_loss():
    scores, ratings, mask = random_groups(10)
    refs = ref_scores_for(scores)
    idle, free = (
        dpo_loss(scores, ratings, ref_scores=refs, candidate_mask=mask, constraint=constraint)[0]
        for constraint in (Boundary(beta=500.0), Unconstrained())
    )
    torch.testing.assert_close(idle, free, rtol=0, atol=1e-14)


def test_value_at_a_gap_of_ten_thousand():
    assert value([-1e4, 0.0], [0.0, 0.0], [1, 0], beta=1.0) == 1e4
    assert value([0.0, -1e4], [0.0, 0.0], [1, 0], beta=1.0) == 0


def test_the_policys_precision_decides_not_the_references():
    scores, refs = torch.tensor([[-0.1, -0.3]]), torch.tensor([[-0.2, -0.2]])
    expected, _ = dpo_loss(scores, torch.tensor([[1, 0]]), ref_scores=refs)
    got, _ = dpo_loss(scores, torch.tensor([[1, 0]]), ref_scores=refs.double())
    assert got.dtype == torch.float32 and torch.equal(got, expected)


def test_bad_reference_and_temperature_are_named():
    scores, ratings = torch.zeros(2, 3), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"dpo_loss: ref_scores must be \(B, G\) = \(2, 3\), as scores, got \(2, 1\)"):
        dpo_loss(scores, ratings, ref_scores=torch.zeros(2, 1))
    for beta in (0.0, -0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="dpo_loss: beta must be finite and > 0"):
            dpo_loss(scores, ratings, ref_scores=scores, beta=beta)
