"""NFT, TOPR, SimPER, BPO and AsymRE: values by hand, and where the push on a wrong chain ends."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log

import pytest
import torch

from aft.losses import (
    LOSSES,
    REFERENCE_LOSSES,
    Boundary,
    Detached,
    asymre_loss,
    bpo_loss,
    nft_loss,
    simper_loss,
    topr_loss,
)

FADING = ("nft", "topr", "simper", "bpo", "asymre")
REFERENCE = [-0.6, -0.3, -0.5, -0.7]


def double(values):
    return torch.tensor([values], dtype=torch.float64)


def push_down(name, scores, ratings, **options):
    """The gradient of the loss: how hard each candidate is pushed down, under fixed reference scores."""
    leaf = double(scores).requires_grad_()
    if name in REFERENCE_LOSSES:
        options.setdefault("ref_scores", double(REFERENCE[: len(scores)]))
    LOSSES[name](leaf, torch.tensor([ratings]), **options)[0].sum().backward()
    return leaf.grad[0]


def pushes_on_a_fading_wrong_one(name, *, right=1, wrong=1, **options):
    """The push on the last candidate, when it lies 0, 0.5, 1, 2 and 4 nats below the reference and the others rose."""
    ratings = [1] * right + [0] * wrong
    if name in REFERENCE_LOSSES:
        options["ref_scores"] = torch.full((1, len(ratings)), -0.5, dtype=torch.float64)
    falls = (0.0, 0.5, 1.0, 2.0, 4.0)
    return [
        push_down(name, [-0.4] * (len(ratings) - 1) + [-0.5 - fall], ratings, **options)[-1].item() for fall in falls
    ]


# ---- by hand ----


def test_nft_by_hand():
    """The right one has risen; one wrong one has fallen, the other has risen above what the floor allows."""
    scores, q = [-0.4, -0.9, -0.1], 1 / 3
    got = nft_loss(double(scores), torch.tensor([[1, 0, 0]]), ref_scores=double(REFERENCE[:3]))[0].item()
    h = [s - r for s, r in zip(scores, REFERENCE, strict=False)]
    policies = [(1 - q * exp(x)) / (1 - q) for x in h[1:]]
    assert policies[0] > 1 > policies[1]
    terms = [-h[0], -log(policies[0]), 1 - policies[1]]
    assert got == pytest.approx((1 - q) * sum(terms) / 3, abs=1e-12)


@pytest.mark.parametrize("floor", [0.3, 1.0, 2.5])
def test_nfts_gradient_is_that_of_the_papers_clip_which_keeps_the_gradient_of_what_it_clips(floor):
    scores, refs = double([-0.4, -0.9, -0.1, -0.2]), double(REFERENCE)
    leaf = scores.clone().requires_grad_()
    ratio, q = (leaf - refs).exp(), 0.25
    policy = (1 - q * ratio) / (1 - q)
    clipped = (policy.clamp(min=floor) - policy).detach() + policy
    losses = torch.cat([-ratio.log()[:, :1], -clipped.log()[:, 1:]], dim=1)
    (losses.mean(dim=1) * (1 - q)).sum().backward()
    got = push_down("nft", scores[0].tolist(), [1, 0, 0, 0], ref_scores=refs, floor=floor)
    torch.testing.assert_close(got, leaf.grad[0], rtol=1e-12, atol=1e-12)


def test_nft_weighs_questions_by_the_share_of_right_chains():
    """Groups with a quarter and three quarters of right chains."""
    ratings = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]])
    scores = torch.tensor([REFERENCE, REFERENCE], dtype=torch.float64) + torch.tensor([0.1, -0.2, -0.1, -0.4])
    losses = {
        weight: nft_loss(scores, ratings, ref_scores=double(REFERENCE).expand(2, 4), question_weight=weight)[0]
        for weight in ("failure_rate", "root_odds", "one")
    }
    q = torch.tensor([0.25, 0.75], dtype=torch.float64)
    torch.testing.assert_close(losses["failure_rate"], losses["one"] * (1 - q))
    torch.testing.assert_close(losses["root_odds"], losses["one"] * ((1 - q) / q).sqrt())


def test_topr_by_hand():
    scores = [-0.4, -0.9, -0.1]
    got = topr_loss(double(scores), torch.tensor([[1, 0, 0]]), ref_scores=double(REFERENCE[:3]))[0].item()
    assert got == pytest.approx((-0.2 + exp(-0.6) + 1 + 0.4) / 3, abs=1e-12)


def test_toprs_gradient_is_the_log_ratio_times_a_constant_clipped_ratio():
    """As the paper and its users write it: stop-gradient of clip(R, 0, 1), times the log-prob."""
    scores, refs = double([-0.4, -0.9, -0.1]), double(REFERENCE[:3])
    leaf = scores.clone().requires_grad_()
    ratio = (leaf - refs).exp().clamp(max=1).detach()
    (torch.cat([-leaf[:, :1], ratio[:, 1:] * leaf[:, 1:]], dim=1).mean(dim=1)).sum().backward()
    torch.testing.assert_close(push_down("topr", scores[0].tolist(), [1, 0, 0]), leaf.grad[0], rtol=1e-12, atol=1e-12)


def test_simper_by_hand():
    got = simper_loss(double([-0.2, -0.9, -0.5]), torch.tensor([[2, 1, 1]]))[0].item()
    assert got == pytest.approx((exp(-0.9) + exp(-0.5)) / 2 - exp(-0.2), abs=1e-12)


def test_bpo_by_hand():
    options = {"ref_scores": double(REFERENCE[:3]), "beta": 0.5, "alpha": 0.4}
    got = bpo_loss(double([-0.2, -0.9, -0.6]), torch.tensor([[1, 0, 0]]), **options)[0].item()
    margins = [min(0.5 * 0.4, 0.4 * 0.5 * 0.6), min(0.5 * 0.4, 0.4 * 0.5 * 0.1)]
    assert got == pytest.approx(sum(log(1 + exp(-margin)) for margin in margins) / 2, abs=1e-12)


def test_asymre_by_hand():
    ratings = [3.0, 1.0, 0.5]
    got = asymre_loss(double([-0.2, -0.9, -0.5]), torch.tensor([ratings]), delta=-0.25)[0].item()
    advantages = [rating - 1.5 + 0.25 for rating in ratings]
    expected = (advantages[0] * 0.2 + advantages[1] * 0.9 + advantages[2] * 0.5) / 3
    assert got == pytest.approx(expected, abs=1e-12)


# ---- where the push ends ----


def test_the_push_on_a_wrong_chain_fades_with_its_probability():
    for name in ("topr", "simper", "nft"):
        pushes = pushes_on_a_fading_wrong_one(name)
        assert all(later < 0.7 * earlier for earlier, later in pairwise(pushes))
        assert 0 < pushes[-1] < 0.05 * pushes[0]
    ratios = [exp(-fall) for fall in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert pushes_on_a_fading_wrong_one("topr") == pytest.approx([ratio / 2 for ratio in ratios])
    assert pushes_on_a_fading_wrong_one("nft") == pytest.approx(
        [(1 - 0.5) * 0.5 * ratio / (1 - 0.5 * ratio) / 2 for ratio in ratios]
    )


def test_asymres_push_never_fades():
    pushes = [push_down("asymre", [-0.4, -0.5 - fall], [1, 0])[1].item() for fall in (0.0, 4.0, 400.0)]
    assert pushes == [pushes[0]] * 3 and pushes[0] > 0


def test_topr_pushes_a_wrong_chain_that_has_risen_no_harder_than_a_right_one():
    push = push_down("topr", [-0.4, 5.0], [1, 0])
    assert push[1] == -push[0] == 0.5


def test_nft_pushes_hard_where_most_chains_are_right():
    """Per candidate and before the question's weight: q R / (1 - q R), at the start q / (1 - q)."""
    for right, wrong in ((1, 3), (2, 2), (3, 1)):
        start = pushes_on_a_fading_wrong_one("nft", right=right, wrong=wrong, question_weight="one")[0]
        assert start * 4 == pytest.approx(right / wrong)


def test_nft_pushes_harder_with_a_smaller_floor_and_only_where_a_wrong_chain_has_risen():
    fallen, risen = [-0.4, -0.9], [-0.4, -0.1]
    pushes = {
        floor: [push_down("nft", scores, [1, 0], floor=floor)[1].item() for scores in (fallen, risen)]
        for floor in (1.0, 0.8, 0.25)
    }
    assert pushes[1.0][0] == pushes[0.8][0] == pushes[0.25][0]
    # e^0.2 times as likely with q = 0.5: the negative policy is 0.78, above the last floor
    assert [pushes[1.0][1] / pushes[floor][1] for floor in (0.8, 0.25)] == pytest.approx([0.8, 2 - exp(0.2)])


def test_bpo_stops_pushing_a_wrong_chain_that_has_fallen_as_far_as_the_right_one_rose():
    right = REFERENCE[0] + 0.3
    for fall, pushed in ((0.0, True), (0.29, True), (0.31, False), (2.0, False)):
        push = push_down("bpo", [right, REFERENCE[1] - fall], [1, 0])
        assert (push[1] > 0) == pushed and (push[0] < 0) == (not pushed)
    # with two right ones the laggard decides for its own pair alone
    push = push_down("bpo", [REFERENCE[0] + 1.0, REFERENCE[1] + 0.1, REFERENCE[2] - 0.5], [1, 1, 0])
    assert push[0] == 0 and push[1] < 0 < push[2]
    # alpha lets it fall further
    assert push_down("bpo", [right, REFERENCE[1] - 0.5], [1, 0], alpha=0.5)[1] > 0


def test_bpo_shares_the_push_while_both_gains_are_equal():
    push = push_down("bpo", REFERENCE[:2], [1, 0])
    assert push[1] == -push[0] == pytest.approx(0.1 / 4)


def test_asymres_baseline_shifts_the_weight_between_right_and_wrong():
    pushes = {delta: push_down("asymre", REFERENCE, [1, 0, 0, 0], delta=delta) for delta in (-0.25, -0.1, 0.0, 0.1)}
    for lower, higher in ((-0.25, -0.1), (-0.1, 0.0), (0.0, 0.1)):
        assert pushes[lower][0] < pushes[higher][0] < 0  # up, and harder with the lower baseline
        assert 0 <= pushes[lower][1] < pushes[higher][1]  # down, and less hard
    assert pushes[0.0].sum() == pytest.approx(0) and pushes[-0.25][1] == 0
    # below that, wrong chains are raised too; so are all chains of a group without a pair
    assert (push_down("asymre", REFERENCE, [1, 0, 0, 0], delta=-0.3) < 0).all()
    assert (push_down("asymre", REFERENCE, [0, 0, 0, 0]) < 0).all()
    assert torch.equal(push_down("asymre", REFERENCE, [0, 0, 0, 0], delta=0.0), torch.zeros(4, dtype=torch.float64))


def test_asymre_divided_by_the_mean_gives_the_right_chains_of_every_question_the_same_weight():
    """MaxRL: the mean over the right chains minus the mean over all of them."""
    for ratings in ([1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]):
        push = push_down("asymre", REFERENCE, ratings, delta=0.0, divide_by_mean=True)
        right = torch.tensor(ratings, dtype=torch.float64)
        torch.testing.assert_close(-push, right / right.sum() - 1 / 4)
    for ratings in ([0, 0, 0, 0], [-1, -1, 1, 0]):
        push = push_down("asymre", REFERENCE, ratings, divide_by_mean=True)
        assert torch.equal(push, torch.zeros(4, dtype=torch.float64))


# ---- what reaches whom ----


@pytest.mark.parametrize("name", FADING)
def test_wrong_chains_never_change_the_push_on_a_right_one_except_by_bpos_balance(name):
    """No ratio of a wrong chain reaches a right one."""
    near, far = (push_down(name, [-0.5, -0.4, wrong], [1, 0, 0]) for wrong in (-0.6, -3.0))
    assert near[0] < 0
    assert (near[0] == far[0]) == (name != "bpo")


@pytest.mark.parametrize("name", FADING)
def test_detached_sends_nothing_to_the_wrong_and_the_same_to_the_right(name):
    scores, ratings = [-0.4, -0.7, -0.9], [1, 0, 0]
    free, push = (push_down(name, scores, ratings, **options) for options in ({}, {"constraint": Detached()}))
    assert torch.equal(push[1:], torch.zeros(2, dtype=torch.float64)) and push[0] == free[0] < 0


@pytest.mark.parametrize("name", ["nft", "topr", "simper", "asymre"])
def test_the_boundary_turns_the_push_around_and_keeps_its_strength(name):
    constraint = Boundary(beta=0.15)
    for wrong, sign in ((-0.5, 1), (-0.6, -1), (-2.0, -1)):  # the boundary lies at -0.55
        free = push_down(name, [-0.4, wrong], [1, 0])
        push = push_down(name, [-0.4, wrong], [1, 0], constraint=constraint)
        torch.testing.assert_close(push, free * torch.tensor([1.0, sign], dtype=torch.float64))


@pytest.mark.parametrize("name", ["topr", "asymre"])
def test_losses_of_single_candidates_act_without_a_pair(name):
    for ratings in ([1, 1], [0, 0]):
        assert push_down(name, [-0.4, -0.5], ratings).abs().sum() > 0


def test_nft_leaves_out_groups_that_are_all_right_or_all_wrong_or_have_no_pair():
    """Ratings above 4 are right here, so that groups may have a pair and still be all right."""
    for ratings in ([9, 6, 5], [3, 2, 1]):
        options = {"desirable_above": 4, "ref_scores": double(REFERENCE[:3])}
        assert nft_loss(double([-0.4, -0.5, -0.6]), torch.tensor([ratings]), **options)[0] == 0
        assert not push_down("nft", [-0.4, -0.5, -0.6], ratings, desirable_above=4).any()
    assert push_down("nft", [-0.4, -0.5, -0.6], [9, 6, 1], desirable_above=4).all()
    assert not push_down("nft", [-0.4, -0.5, -0.6], [5, 4.5, 3], desirable_above=4, min_rating_gap=3).any()


# ---- extremes and errors ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["nft", "topr", "bpo"])
def test_summed_ratios_of_a_thousand_nats_are_finite(name, dtype):
    scores = torch.tensor([[-0.4, -9.0, -0.01]], dtype=dtype).requires_grad_()
    refs, lengths = torch.tensor([[-2.0, -0.3, -4.0]]), torch.tensor([[400, 700, 900]])
    per_group, _ = LOSSES[name](scores, torch.tensor([[1, 0, 0]]), ref_scores=refs, lengths=lengths)
    per_group.sum().backward()
    assert torch.isfinite(per_group).all() and torch.isfinite(scores.grad).all()
    assert scores.grad[0, 1] == 0 < scores.grad[0, 2], "faded, and risen by far"


def test_asymre_with_lengths_takes_sums_and_keeps_the_boundary_per_token():
    scores, ratings, lengths = double([-0.2, -0.9, -0.5]), torch.tensor([[1, 0, 0]]), torch.tensor([[20, 31, 12]])
    summed, metrics = asymre_loss(scores, ratings, lengths=lengths)
    torch.testing.assert_close(summed, asymre_loss(scores * lengths, ratings)[0])
    assert metrics["scores/margin"] == pytest.approx(0.5)
    for wrong, sign in ((-0.34, 1), (-0.36, -1)):
        options = {"lengths": lengths[:, :2], "constraint": Boundary(beta=0.15)}
        assert push_down("asymre", [-0.2, wrong], [1, 0], **options)[1].sign() == sign


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s, r: nft_loss(s, r, ref_scores=s, floor=0.0), "nft_loss: floor must be finite and > 0, got 0.0"),
        (
            lambda s, r: nft_loss(s, r, ref_scores=s, question_weight="rate"),
            "nft_loss: question_weight must be one of failure_rate, root_odds, one, got 'rate'",
        ),
        (
            lambda s, r: nft_loss(s, 4 * r, ref_scores=s),
            "nft_loss: desirable_above must be given, as ratings are not 0 and 1 alone; there are also 4",
        ),
        (
            lambda s, r: topr_loss(s, r, ref_scores=s, desirable_above=float("nan")),
            "topr_loss: desirable_above must be finite, got nan",
        ),
        (lambda s, r: bpo_loss(s, r, ref_scores=s, alpha=0.0), "bpo_loss: alpha must be > 0 and <= 1, got 0.0"),
        (lambda s, r: bpo_loss(s, r, ref_scores=s, alpha=1.5), "bpo_loss: alpha must be > 0 and <= 1, got 1.5"),
        (lambda s, r: bpo_loss(s, r, ref_scores=s, beta=0.0), "bpo_loss: beta must be finite and > 0, got 0.0"),
        (lambda s, r: asymre_loss(s, r, delta=float("inf")), "asymre_loss: delta must be finite, got inf"),
        (
            lambda s, r: asymre_loss(s, r, lengths=torch.ones(1, 2).bool()),
            "asymre_loss: lengths must be numbers of tokens, got torch.bool; is it the candidate_mask?",
        ),
    ],
)
def test_numbers_out_of_range_are_named(call, said):
    with pytest.raises(ValueError) as caught:
        call(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    assert str(caught.value) == said
