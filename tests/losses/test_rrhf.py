"""RRHF: values from Eq 18, and what each constraint does to the hinge."""

from __future__ import annotations

import pytest
import torch
from cases import gradient_of, random_groups

from aft.losses import Boundary, Detached, Unconstrained, rrhf_loss


def value(scores, ratings, **options):
    return rrhf_loss(torch.tensor([scores], dtype=torch.float64), torch.tensor([ratings]), **options)[0].item()


def gradient(scores, ratings, **options):
    return gradient_of("rrhf", torch.tensor([scores], dtype=torch.float64), torch.tensor([ratings]), **options)[0]


def test_eq18_by_hand():
    # pairs: (0 above 1) wrong by 0.3, (0 above 2) in order, (1 above 2) in order
    assert value([-0.5, -0.2, -0.9], [3, 2, 1]) == pytest.approx(-0.2 - -0.5, abs=1e-12)
    # all three wrong
    assert value([-0.9, -0.5, -0.2], [3, 2, 1]) == pytest.approx(0.4 + 0.7 + 0.3, abs=1e-12)


def test_in_order_nothing_is_lost_and_nothing_moves():
    scores, ratings = [-0.1, -0.2, -0.3], [3, 2, 1]
    assert value(scores, ratings) == 0
    assert gradient(scores, ratings).tolist() == [0, 0, 0]


def test_slope_is_one_per_pair_in_the_wrong_order():
    assert gradient([-0.9, -0.5, -0.2], [3, 2, 1]).tolist() == [-2.0, 0.0, 2.0]


def test_detached_sends_no_gradient_to_the_lower():
    assert gradient([-0.9, -0.5, -0.2], [3, 2, 1], constraint=Detached()).tolist() == [-2.0, -1.0, 0.0]
    assert gradient([-0.9, -0.5, -0.2], [3, 2, 1], constraint=Detached(lowest_only=True)).tolist() == [-2.0, 0.0, 0.0]
    assert value([-0.9, -0.5, -0.2], [3, 2, 1], constraint=Detached()) == value([-0.9, -0.5, -0.2], [3, 2, 1])


def test_boundary_by_hand():
    # boundary of the negative: -0.4 - 0.25 = -0.65; it lies 0.35 below, once for each of the two positives
    scores, ratings = [-0.2, -0.4, -1.0], [1, 1, 0]
    assert value(scores, ratings, constraint=Boundary(beta=0.25)) == pytest.approx(2 * 0.35, abs=1e-12)
    assert gradient(scores, ratings, constraint=Boundary(beta=0.25)).tolist() == [0.0, 0.0, -2.0]


def test_push_on_a_negative_changes_sign_around_the_boundary():
    def push(negative):
        return gradient([-0.25, negative], [1, 0], constraint=Boundary(beta=0.5))[1].item()

    assert push(-0.2) == 1  # above the positive
    assert push(-0.5) == 0  # in order, above its boundary
    assert push(-0.75) == 0  # at its boundary
    assert push(-0.8) == -1


def test_a_boundary_out_of_reach_leaves_the_unconstrained_loss():
    scores, ratings, mask = random_groups(7)
    idle, free = (
        rrhf_loss(scores, ratings, candidate_mask=mask, constraint=constraint)[0]
        for constraint in (Boundary(beta=500.0), Unconstrained())
    )
    torch.testing.assert_close(idle, free, rtol=0, atol=1e-14)


def test_value_at_a_gap_of_ten_thousand():
    assert value([-1e4, 0.0], [1, 0]) == 1e4
    assert value([0.0, -1e4], [1, 0], constraint=Boundary(beta=0.5)) == 1e4 - 0.5
