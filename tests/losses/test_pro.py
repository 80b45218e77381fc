"""PRO: values from Eq 20-21, its temperatures, and what each constraint does."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from cases import gradient_of, random_groups

from aft.losses import Boundary, Detached, Unconstrained, alignment_loss, pro_loss


def value(scores, ratings, **options):
    return pro_loss(torch.tensor([scores], dtype=torch.float64), torch.tensor([ratings]), **options)[0].item()


def gradient(scores, ratings, **options):
    return gradient_of("pro", torch.tensor([scores], dtype=torch.float64), torch.tensor([ratings]), **options)[0]


def test_eq20_and_eq21_by_hand():
    # the first outranks the others by 3 and 5: its own temperature is 5; the second outranks the third by 2
    expected = log(1 + exp(3 * -0.4 - 5 * -0.1) + exp(5 * -0.3 - 5 * -0.1)) + log(1 + exp(2 * -0.3 - 2 * -0.4))
    assert value([-0.1, -0.4, -0.3], [8, 5, 3]) == pytest.approx(expected, abs=1e-12)


def test_without_temperature_by_hand():
    expected = log(1 + exp(-0.4 - -0.1) + exp(-0.3 - -0.1)) + log(1 + exp(-0.3 - -0.4))
    got = value([-0.1, -0.4, -0.3], [8, 5, 3], dynamic_temperature=False)
    assert got == pytest.approx(expected, abs=1e-12)


def test_binary_ratings_have_temperature_one():
    scores, ratings, mask = random_groups(8, "binary")
    with_temperature, without = (
        pro_loss(scores, ratings, candidate_mask=mask, dynamic_temperature=flag)[0] for flag in (True, False)
    )
    assert torch.equal(with_temperature, without)


def test_one_positive_makes_it_the_alignment_loss():
    scores = torch.tensor([[-0.4, -0.1, -0.8]], dtype=torch.float64)
    ratings = torch.tensor([[1, 0, 0]])
    for constraint in (Unconstrained(), Detached(), Boundary()):
        pro = pro_loss(scores, ratings, constraint=constraint)[0]
        torch.testing.assert_close(pro, alignment_loss(scores, ratings, constraint=constraint)[0], rtol=0, atol=1e-12)


def test_detached_sends_no_gradient_to_the_lower():
    scores, ratings = [-0.4, -0.2, -0.1], [3, 2, 1]
    push = gradient(scores, ratings, constraint=Detached())
    assert push[0] < 0 and push[1] < 0 and push[2] == 0
    lowest_only = gradient(scores, ratings, constraint=Detached(lowest_only=True))
    free = gradient(scores, ratings)
    assert lowest_only[2] == 0 and free[2] > 0
    assert lowest_only[1] == free[1]
    assert value(scores, ratings, constraint=Detached()) == value(scores, ratings)


def test_boundary_by_hand():
    lowest, beta = -0.4, 0.25
    first = log(1 + exp(-1.0 - -0.2) + exp(2 * lowest - 2 * beta + 0.2 + 1.0))
    second = log(1 + exp(-1.0 - -0.4) + exp(2 * lowest - 2 * beta + 0.4 + 1.0))
    got = value([-0.2, -0.4, -1.0], [1, 1, 0], constraint=Boundary(beta=beta))
    assert got == pytest.approx(first + second, abs=1e-12)


def test_boundary_term_has_no_temperature():
    expected = log(1 + exp(4 * -1.0 - 4 * -0.2) + exp(2 * -0.2 - 2 * 0.25 + 0.2 + 1.0))
    assert value([-0.2, -1.0], [5, 1], constraint=Boundary(beta=0.25)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ratings", [[1, 1, 0], [4, 3, 1]])
def test_push_on_a_negative_changes_sign_at_its_boundary_with_temperature_one(ratings):
    def push(negative):
        options = {"constraint": Boundary(beta=0.125), "dynamic_temperature": False}
        return gradient([-0.25, -0.5, negative], ratings, **options)[2].item()

    at = -0.5 - 0.125
    assert push(at + 1e-3) > 0 and push(at - 1e-3) < 0
    assert push(at) == pytest.approx(0, abs=1e-15)


def test_a_fallen_negative_is_lifted_with_temperatures_too():
    ratings = [8, 5, 1]
    assert gradient([-0.25, -0.5, -0.3], ratings, constraint=Boundary(beta=0.125))[2] > 0
    assert gradient([-0.25, -0.5, -4.0], ratings, constraint=Boundary(beta=0.125))[2] < 0
    assert gradient([-0.25, -0.5, -4.0], ratings)[2] > 0


def test_a_boundary_out_of_reach_leaves_the_unconstrained_loss():
    scores, ratings, mask = random_groups(9)
    idle, free = (
        pro_loss(scores, ratings, candidate_mask=mask, constraint=constraint)[0]
        for constraint in (Boundary(beta=500.0), Unconstrained())
    )
    torch.testing.assert_close(idle, free, rtol=0, atol=1e-14)


def test_value_at_a_gap_of_ten_thousand():
    assert value([-1e4, 0.0], [3, 1]) == 2e4
    assert value([0.0, -1e4], [3, 1]) == 0
