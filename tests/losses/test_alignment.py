"""The alignment loss: values from Eq 6-8 and 11-14, and the property that names each constraint."""

from __future__ import annotations

from functools import partial
from math import exp, log

import pytest
import torch
from cases import FIXED, gradient_of, random_groups, run_loss

import reference_losses as reference
from aft.losses import Boundary, Detached, Unconstrained, alignment_loss


def value(scores, ratings, **options):
    per_group, _ = alignment_loss(torch.tensor([scores], dtype=torch.float64), torch.tensor([ratings]), **options)
    return per_group.item()


def gradient(scores, ratings, **options):
    return gradient_of("alignment", torch.tensor([scores], dtype=torch.float64), torch.tensor([ratings]), **options)[0]


def test_eq6_by_hand():
    expected = log(1 + exp(-0.5 - -0.2) + exp(-0.5 - -0.4))
    assert value([-0.2, -0.4, -0.5], [1, 1, 0], constraint=Unconstrained()) == pytest.approx(expected, abs=1e-12)


def test_eq7_has_the_value_of_eq6():
    arguments = ([-0.2, -0.4, -0.5], [1, 1, 0])
    assert value(*arguments, constraint=Detached()) == value(*arguments, constraint=Unconstrained())


def test_eq8_by_hand():
    lowest = 2 * (-0.4 - 0.15)
    expected = log(1 + exp(-0.3) + exp(lowest + 0.2 + 0.5) + exp(-0.1) + exp(lowest + 0.4 + 0.5))
    assert value([-0.2, -0.4, -0.5], [1, 1, 0]) == pytest.approx(expected, abs=1e-12)


def test_eq14_by_hand():
    expected = log(1 + exp(-0.3 - -0.1) + exp(-0.7 - -0.1) + exp(-0.7 - -0.3))
    assert value([-0.1, -0.3, -0.7], [3, 2, 1], constraint=Unconstrained()) == pytest.approx(expected, abs=1e-12)


def test_eq11_by_hand():
    def pull(lowest, s_i, s_j):
        return exp(2 * lowest - 2 * 0.05 - s_i - s_j)

    # the lowest above -0.3 is -0.1, the lowest above -0.7 is -0.3
    expected = log(
        1
        + exp(-0.2) + pull(-0.1, -0.1, -0.3)
        + exp(-0.6) + pull(-0.3, -0.1, -0.7)
        + exp(-0.4) + pull(-0.3, -0.3, -0.7)
    )  # fmt: skip
    assert value([-0.1, -0.3, -0.7], [3, 2, 1], constraint=Boundary(beta=0.05)) == pytest.approx(expected, abs=1e-12)


def test_binary_feedback_equals_the_binary_equations():
    """Eq 6, 7 and 8 written for positives and negatives, against the ranking loss with two ratings."""
    for seed in range(5):
        scores, ratings, mask = random_groups(seed, "binary")
        by_constraint = {
            name: alignment_loss(scores, ratings, candidate_mask=mask, constraint=constraint)[0]
            for name, constraint in FIXED.items()
        }
        for row in range(len(scores)):
            positives = scores[row, mask[row] & (ratings[row] == 1)].tolist()
            negatives = scores[row, mask[row] & (ratings[row] == 0)].tolist()
            eq8 = reference.eq8(positives, negatives, positives, beta=0.2) if positives else 0.0
            assert by_constraint["none"][row].item() == pytest.approx(reference.eq6(positives, negatives), abs=1e-9)
            assert by_constraint["detached"][row].item() == pytest.approx(reference.eq7(positives, negatives), abs=1e-9)
            assert by_constraint["boundary"][row].item() == pytest.approx(eq8, abs=1e-9)


def test_unconstrained_pushes_a_negative_down_however_low_it_is():
    for low in (-0.1, -1.0, -5.0):
        assert gradient([-0.2, low], [1, 0], constraint=Unconstrained())[1] > 0


def test_detached_sends_no_gradient_to_a_negative():
    push = gradient([-0.2, -0.4, -0.3, -0.9], [1, 1, 0, 0], constraint=Detached())
    assert push[2:].tolist() == [0.0, 0.0]
    assert (push[:2] < 0).all()


def test_detached_sends_a_positive_the_gradient_of_the_unconstrained_loss():
    arguments = ([-0.2, -0.4, -0.3, -0.9], [1, 1, 0, 0])
    free, detached = gradient(*arguments, constraint=Unconstrained()), gradient(*arguments, constraint=Detached())
    torch.testing.assert_close(detached[:2], free[:2], rtol=0, atol=1e-15)


def test_detached_ranking_lifts_the_middle_and_never_pushes_it():
    """Eq 12: the middle one is detached below the top, and live above the bottom."""
    push = gradient([-0.2, -0.4, -0.6], [3, 2, 1], constraint=Detached())
    assert push[0] < 0 and push[1] < 0 and push[2] == 0


def test_lowest_only_pushes_the_middle_and_spares_the_lowest():
    """Eq 13: the middle one here lies above the top, which pushes it harder than the bottom lifts it."""
    scores, ratings = [-3.0, -0.1, -2.0], [3, 2, 1]
    push = gradient(scores, ratings, constraint=Detached(lowest_only=True))
    assert push[1] > 0 and push[2] == 0
    assert gradient(scores, ratings, constraint=Detached())[1] < 0


def test_lowest_only_is_detached_for_binary_feedback():
    scores, ratings, mask = random_groups(5, "binary")
    first, second = (
        gradient_of("alignment", scores, ratings, mask, constraint=Detached(lowest_only=flag)) for flag in (0, 1)
    )
    assert torch.equal(first, second)


def test_push_on_a_negative_changes_sign_at_its_boundary():
    positives = [-0.25, -0.5]
    at = min(positives) - 0.125

    def push(negative):
        return gradient([*positives, negative], [1, 1, 0], constraint=Boundary(beta=0.125))[2].item()

    assert push(at + 1e-3) > 0
    assert push(at) == 0
    assert push(at - 1e-3) < 0


def test_push_on_the_lowest_rated_changes_sign_at_its_boundary_in_a_ranking():
    above = [-0.5, -0.25, -1.0]
    at = min(above) - 0.25

    def push(lowest):
        return gradient([*above, lowest], [4, 3, 2, 1], constraint=Boundary(beta=0.25))[3].item()

    assert push(at + 1e-3) > 0 and push(at - 1e-3) < 0
    assert push(at) == pytest.approx(0, abs=1e-15)


def test_target_carries_no_gradient_unless_asked():
    """Eq 9 holds no derivative of T; with it, a negative far below would drag the positives down towards it."""
    scores, ratings = [-0.2, -0.4, -3.0], [1, 1, 0]
    kept = gradient(scores, ratings, constraint=Boundary(beta=0.15))
    assert (kept[:2] < 0).all()
    live = gradient(scores, ratings, constraint=Boundary(beta=0.15, detach_target=False))
    assert live[1] > 0
    assert value(scores, ratings, constraint=Boundary(beta=0.15, detach_target=False)) == value(
        scores, ratings, constraint=Boundary(beta=0.15)
    )


def test_a_boundary_out_of_reach_leaves_the_unconstrained_loss():
    scores, ratings, mask = random_groups(6)
    idle, free = Boundary(beta=500.0), Unconstrained()
    for compute in (
        lambda *args, **options: run_loss("alignment", *args, **options)[0],
        partial(gradient_of, "alignment"),
    ):
        expected, got = compute(scores, ratings, mask, constraint=free), compute(scores, ratings, mask, constraint=idle)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)


def test_value_at_a_gap_of_ten_thousand():
    assert value([-1e4, 0.0], [1, 0], constraint=Unconstrained()) == 1e4
    assert value([0.0, -1e4], [1, 0], constraint=Unconstrained()) == 0
    assert value([0.0, -1e4], [1, 0], constraint=Boundary(beta=0.5)) == 2 * -0.5 + 1e4
