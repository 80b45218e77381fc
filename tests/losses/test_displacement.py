"""How far scores moved: values by hand, sums over batches, padding, and what counts as fallen."""

from __future__ import annotations

import math

import pytest
import torch
from cases import random_groups

from aft.losses import DISPLACEMENT, displacement_statistics, metrics_from_displacement


def metrics(scores, before, ratings, mask=None):
    scores, ratings, before = map(torch.tensor, (scores, ratings, before))
    statistics = displacement_statistics(scores, ratings, initial_scores=before, candidate_mask=mask)
    return {name: value.item() for name, value in metrics_from_displacement(statistics).items()}


def test_values_by_hand():
    found = metrics(
        [[-0.5, -1.0, -1.5], [-0.3, -0.9, -0.4]],
        [[-0.2, -0.5, -0.5], [-0.4, -0.5, -0.6]],
        [[1, 0, 0], [1, 0, 1]],
    )
    # right: -0.3 | +0.1, +0.2; wrong: -0.5, -1.0 | -0.4; both fell in the first group alone
    assert found["scores/positive_drift"] == pytest.approx(0.0, abs=1e-7)
    assert found["scores/negative_drift"] == pytest.approx(-1.9 / 3)
    assert found["groups/both_fell"] == 0.5


def test_the_middle_of_a_ranking_counts_among_the_lower():
    found = metrics([[-0.1, -0.7, -0.9]], [[-0.2, -0.5, -0.8]], [[3, 2, 1]])
    assert found["scores/positive_drift"] == pytest.approx(0.1)
    assert found["scores/negative_drift"] == pytest.approx(-0.15)


def test_rounding_is_no_fall_and_a_group_without_a_pair_is_no_group():
    assert metrics([[-0.5, -0.6]], [[-0.4999, -0.5999]], [[1, 0]])["groups/both_fell"] == 0
    nothing = metrics([[-0.5, -0.6]], [[-0.4, -0.5]], [[1, 1]])
    assert set(nothing) == {"scores/positive_drift", "scores/negative_drift", "groups/both_fell"}
    assert all(map(math.isnan, nothing.values()))
    both = metrics([[-0.5, -0.6], [-0.5, -0.6]], [[-0.4, -0.5], [-0.4, -0.5]], [[1, 1], [1, 0]])
    assert both["groups/both_fell"] == 1


def test_vectors_of_parts_add_up_and_padding_is_not_seen():
    scores, ratings, mask = random_groups(3)
    before = torch.where(mask, scores - 0.1 * torch.arange(7), torch.nan)
    whole, *parts = (
        displacement_statistics(scores[rows], ratings[rows], initial_scores=before[rows], candidate_mask=mask[rows])
        for rows in (slice(None), slice(0, 2), slice(2, 6))
    )
    assert whole.shape == (len(DISPLACEMENT),) and torch.isfinite(whole).all()
    torch.testing.assert_close(whole, parts[0] + parts[1])


def test_it_is_detached_and_names_a_wrong_shape():
    scores = torch.zeros(2, 3, requires_grad=True)
    assert not displacement_statistics(scores, torch.zeros(2, 3), initial_scores=torch.zeros(2, 3)).requires_grad
    with pytest.raises(ValueError, match=r"displacement_statistics: initial_scores must be \(B, G\) = \(2, 3\)"):
        displacement_statistics(scores, torch.zeros(2, 3), initial_scores=torch.zeros(2, 2))
