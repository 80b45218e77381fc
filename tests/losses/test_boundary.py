"""The boundary's promise, for every loss: a negative is pushed down above it and up below it."""

from __future__ import annotations

import pytest
import torch
from cases import FOLDED, gradient_of

from aft.losses import LOSSES, REFERENCE_LOSSES, Boundary

BETA = 0.15
POSITIVES = [-0.25, -0.5]
EDGE = min(POSITIVES) - BETA
REFERENCE = [-0.9, -0.3, -0.7]


def push_up(name, negative, ratings=(1, 1, 0), *, mirror=True, **options):
    """How hard the negative is pushed up, by a loss that has a reference of its own for each candidate."""
    scores = torch.tensor([[*POSITIVES, negative]], dtype=torch.float64)
    if name in REFERENCE_LOSSES:
        options["ref_scores"] = torch.tensor([REFERENCE], dtype=torch.float64)
    constraint = Boundary(beta=BETA, mirror=mirror)
    return -gradient_of(name, scores, torch.tensor([ratings]), constraint=constraint, **options)[0, 2].item()


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "rrhf"])
def test_the_push_changes_sign_at_the_boundary(name):
    # NCA gives every candidate its share of the ratings: next to nothing for this one
    options = {"alpha": 0.01} if name == "nca" else {}
    for distance in (1e-3, 0.05, 0.4, 3.0):
        assert push_up(name, EDGE - distance, **options) > 0
    for distance in (1e-3, 0.05, 0.4):
        assert push_up(name, EDGE + distance, **options) < 0
    if name not in FOLDED:
        assert push_up(name, EDGE, **options) == pytest.approx(0, abs=1e-9)


def test_rrhf_pushes_nothing_between_the_boundary_and_the_positives():
    assert push_up("rrhf", EDGE - 1e-3) > 0
    assert push_up("rrhf", EDGE + 1e-3) == 0
    assert push_up("rrhf", max(POSITIVES) + 1e-3) < 0


@pytest.mark.parametrize("name", ["alignment", "pro", "dpo", "simpo", "orpo"])
def test_ranks_have_a_boundary_each(name):
    """The middle of a ranking by its superior, the lowest by the middle; PRO's temperatures change nothing."""
    options = {"ref_scores": torch.tensor([REFERENCE], dtype=torch.float64)} if name == "dpo" else {}
    # the lowest lies at its boundary below the middle one
    scores = torch.tensor([[-0.25, -0.5, -0.5 - BETA]], dtype=torch.float64)
    ratings = torch.tensor([[9.0, 6.0, 2.0]])
    constraint = Boundary(beta=BETA, mirror=True)
    assert gradient_of(name, scores, ratings, constraint=constraint, **options)[0, 2] == pytest.approx(0, abs=1e-9)


def test_without_the_mirror_dpos_pull_lifts_a_negative_far_above_its_positive_and_pros_misses_the_boundary():
    """As the paper's term has it: known, documented, and the reason for `mirror`."""
    for above, lifted in ((-1.0, True), (0.0, True), (1.7, True), (1.9, False)):
        scores = torch.tensor([[-2.5, -2.5 + above]], dtype=torch.float64)
        options = {"constraint": Boundary(beta=BETA), "ref_scores": torch.zeros_like(scores)}
        assert (gradient_of("dpo", scores, torch.tensor([[1, 0]]), **options)[0, 1] < 0) == lifted
    graded = (9, 9, 2)
    assert abs(push_up("pro", EDGE, graded, mirror=False)) > 1e-3
    assert push_up("pro", EDGE, graded) == pytest.approx(0, abs=1e-9)
    assert push_up("pro", EDGE, mirror=False) == pytest.approx(0, abs=1e-9)  # temperatures of 1


@pytest.mark.parametrize("name", sorted(REFERENCE_LOSSES))
def test_with_lengths_ratios_are_sums_and_the_boundary_stays_per_token(name):
    scores = torch.tensor([[*POSITIVES, -0.55]], dtype=torch.float64)
    refs = torch.tensor([REFERENCE], dtype=torch.float64)
    ratings, lengths = torch.tensor([[1, 1, 0]]), torch.tensor([[20, 31, 12]])
    summed, metrics = LOSSES[name](scores, ratings, ref_scores=refs, lengths=lengths)
    expected, _ = LOSSES[name](scores * lengths, ratings, ref_scores=refs * lengths)
    torch.testing.assert_close(summed, expected)
    assert metrics["scores/negative"] == pytest.approx(-0.55)
    options = {"lengths": lengths, **({"alpha": 0.01} if name == "nca" else {})}
    assert push_up(name, EDGE - 0.01, **options) > 0 > push_up(name, EDGE + 0.01, **options)
    with pytest.raises(ValueError, match=rf"{name}_loss: lengths must be \(B, G\) = \(1, 3\), as scores, got \(3,\)"):
        LOSSES[name](scores, ratings, ref_scores=refs, lengths=lengths[0])
