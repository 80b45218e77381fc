"""What every loss promises under every constraint: parity with the slow reference, padding, order, extremes, errors."""

from __future__ import annotations

import inspect

import pytest
import torch
from cases import CONSTRAINTS, LOSS_NAMES, UNPAIRED, gradient_of, random_groups, ref_scores_for, run_loss, run_reference

from aft import losses
from aft.losses import REFERENCE_LOSSES, Boundary, Unconstrained

every_loss = pytest.mark.parametrize("name", LOSS_NAMES)
every_constraint = pytest.mark.parametrize("constraint", CONSTRAINTS)

METRICS = {
    "scores/positive",
    "scores/negative",
    "scores/margin",
    "pairs/accuracy",
    "constraint/active_fraction",
    "constraint/gate",
    "groups/without_pair",
}


@pytest.mark.parametrize("kind", ["binary", "ranking"])
@every_constraint
@every_loss
def test_value_equals_slow_reference(name, constraint, kind):
    for seed in range(5):
        scores, ratings, mask = random_groups(seed, kind)
        per_group, _ = run_loss(name, scores, ratings, mask, constraint=CONSTRAINTS[constraint])
        for row, value in enumerate(per_group.tolist()):
            real = mask[row]
            s = scores[row, real].tolist()
            refs = ref_scores_for(scores)[row, real].tolist()
            expected = run_reference(name, constraint, s, ratings[row, real].tolist(), refs, s)
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("constraint", [name for name in CONSTRAINTS if name not in ("lowest_only", "mirror")])
@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name != "pro_reference_code"])
def test_min_rating_gap_equals_slow_reference(name, constraint):
    scores, ratings, mask = random_groups(11)
    per_group, _ = run_loss(name, scores, ratings, mask, constraint=CONSTRAINTS[constraint], min_rating_gap=0.75)
    without_gap, _ = run_loss(name, scores, ratings, mask, constraint=CONSTRAINTS[constraint])
    if name not in (*UNPAIRED, "nft") or constraint in ("none", "detached"):
        assert torch.equal(per_group, without_gap) == (name in (*UNPAIRED, "nft"))
    for row, value in enumerate(per_group.tolist()):
        real = mask[row]
        s = scores[row, real].tolist()
        refs = ref_scores_for(scores)[row, real].tolist()
        expected = run_reference(name, constraint, s, ratings[row, real].tolist(), refs, s, min_gap=0.75)
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@every_constraint
@every_loss
def test_gradient_equals_finite_differences_of_slow_reference(name, constraint):
    """The reference moves the scores and holds still what a stop-gradient sees."""
    step = 1e-6
    scores, ratings, mask = random_groups(21)
    gradient = gradient_of(name, scores, ratings, mask, constraint=CONSTRAINTS[constraint])
    assert torch.equal(gradient[~mask], torch.zeros_like(gradient[~mask]))
    for row in range(3):
        real = mask[row]
        s, r = scores[row, real].tolist(), ratings[row, real].tolist()
        refs = ref_scores_for(scores)[row, real].tolist()
        for position, value in enumerate(gradient[row, real].tolist()):
            ends = []
            for sign in (1, -1):
                moved = list(s)
                moved[position] += sign * step
                ends.append(run_reference(name, constraint, moved, r, refs, stopped=s))
            assert value == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("constraint", [Unconstrained(), Boundary(beta=0.2, detach_target=False)], ids=repr)
@every_loss
def test_gradcheck_where_nothing_is_detached(name, constraint):
    scores, ratings, mask = random_groups(31, shape=(3, 5))
    scores = torch.where(mask, scores, 0.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: run_loss(name, s, ratings, mask, constraint=constraint)[0], scores)


@every_constraint
@every_loss
def test_shapes_dtypes_and_detached_metrics(name, constraint):
    scores, ratings, mask = random_groups(41)
    for dtype, expected in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ):
        leaf = scores.to(dtype, copy=True).requires_grad_()
        per_group, metrics = run_loss(name, leaf, ratings, mask, constraint=CONSTRAINTS[constraint])
        assert per_group.shape == (6,) and per_group.dtype == expected
        assert set(metrics) == METRICS
        for key, value in metrics.items():
            assert value.shape == () and value.dtype == expected and not value.requires_grad
            without = key == "constraint/active_fraction" and constraint not in ("boundary", "mirror", "floor")
            without |= key == "constraint/gate" and not constraint.startswith(("tapered", "pass_rate", "balanced"))
            assert torch.isfinite(value) != without
        per_group.sum().backward()
        assert leaf.grad.dtype == dtype and torch.isfinite(leaf.grad).all()


@every_constraint
@every_loss
def test_half_precision_scores_are_upcast_first(name, constraint):
    scores, ratings, mask = random_groups(42)
    half = scores.to(torch.bfloat16)
    refs = ref_scores_for(scores).float()
    options = {"constraint": CONSTRAINTS[constraint], "refs": refs}
    expected, _ = run_loss(name, half.float(), ratings, mask, **options)
    got, _ = run_loss(name, half, ratings, mask, **options)
    assert torch.equal(got, expected)


@every_constraint
@every_loss
def test_padding_slots_change_nothing(name, constraint):
    scores, ratings, real = random_groups(52, shape=(1, 5))
    assert real.all()
    options = {"constraint": CONSTRAINTS[constraint]}
    expected, expected_metrics = run_loss(name, scores, ratings, real, **options)
    expected_gradient = gradient_of(name, scores, ratings, real, **options)

    garbage = torch.tensor([[torch.nan, torch.inf, -torch.inf]], dtype=torch.float64)
    wide_scores, wide_ratings = torch.cat([scores, garbage], 1), torch.cat([ratings, garbage], 1)
    wide_mask = torch.cat([real, torch.zeros(1, 3, dtype=torch.bool)], 1)
    refs = torch.cat([ref_scores_for(scores), garbage], 1)
    options["refs"] = refs
    got, got_metrics = run_loss(name, wide_scores, wide_ratings, wide_mask, **options)
    gradient = gradient_of(name, wide_scores, wide_ratings, wide_mask, **options)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(gradient[:, :5], expected_gradient, rtol=0, atol=1e-14)
    assert torch.equal(gradient[:, 5:], torch.zeros(1, 3, dtype=torch.float64))
    for key, value in expected_metrics.items():
        torch.testing.assert_close(got_metrics[key], value, rtol=0, atol=1e-14, equal_nan=True)


@every_constraint
@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name != "pro_reference_code"])
def test_order_of_candidates_and_of_groups_changes_nothing(name, constraint):
    scores, ratings, mask = random_groups(61)
    refs = ref_scores_for(scores)
    candidates = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    groups = torch.randperm(6, generator=torch.Generator().manual_seed(2))

    def shuffled(value):
        return value[groups][:, candidates]

    def options(references):
        return {"constraint": CONSTRAINTS[constraint], "refs": references}

    expected, _ = run_loss(name, scores, ratings, mask, **options(refs))
    got, _ = run_loss(name, shuffled(scores), shuffled(ratings), shuffled(mask), **options(shuffled(refs)))
    torch.testing.assert_close(got, expected[groups], rtol=1e-12, atol=1e-12)
    gradient = gradient_of(name, scores, ratings, mask, **options(refs))
    moved = gradient_of(name, shuffled(scores), shuffled(ratings), shuffled(mask), **options(shuffled(refs)))
    torch.testing.assert_close(moved, shuffled(gradient), rtol=1e-12, atol=1e-12)


@every_constraint
@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name not in (*UNPAIRED, "pro_reference_code")])
def test_a_group_without_pair_has_exactly_no_loss_and_no_gradient(name, constraint):
    ratings = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0], [2, 2, 2]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]).bool()
    scores = torch.tensor([[-0.3, -0.1, -9.0]]).repeat(5, 1)
    per_group, metrics = run_loss(name, scores, ratings, mask, constraint=CONSTRAINTS[constraint])
    assert torch.equal(per_group, torch.zeros(5))
    assert torch.equal(gradient_of(name, scores, ratings, mask, constraint=CONSTRAINTS[constraint]), torch.zeros(5, 3))
    assert metrics.pop("groups/without_pair") == 5
    assert all(value.isnan() for value in metrics.values()), "a mean over nothing is no number"


@every_constraint
@every_loss
def test_all_scores_equal_is_finite(name, constraint):
    scores = torch.full((1, 4), -0.7)
    ratings = torch.tensor([[3, 2, 2, 1]])
    gradient = gradient_of(name, scores, ratings, constraint=CONSTRAINTS[constraint])
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("top", [0.0, -1e4])
@every_constraint
@every_loss
def test_gaps_of_ten_thousand_are_finite(name, constraint, top, dtype):
    scores = torch.tensor([[top, -1e4 - top, -3.0], [-1e4 - top, top, 2.0]], dtype=dtype)
    ratings = torch.tensor([[2, 1, 1], [2, 1, 1]])
    per_group, _ = run_loss(name, scores, ratings, constraint=CONSTRAINTS[constraint])
    gradient = gradient_of(name, scores, ratings, constraint=CONSTRAINTS[constraint])
    assert torch.isfinite(per_group).all() and torch.isfinite(gradient).all()


@every_constraint
@every_loss
def test_arguments_are_left_as_they_were(name, constraint):
    given = (*random_groups(71), ref_scores_for(random_groups(71)[0]))
    kept = [value.clone() for value in given]
    options = {"ref_scores": given[3]} if name in REFERENCE_LOSSES else {}
    leaf = given[0].requires_grad_()
    run_loss(name, leaf, *given[1:3], constraint=CONSTRAINTS[constraint], **options)[0].sum().backward()
    for value, before in zip(given, kept, strict=True):
        torch.testing.assert_close(value.detach(), before, rtol=0, atol=0, equal_nan=True)


@every_loss
def test_ratings_may_be_flags_integers_or_floats_of_any_width(name):
    scores = torch.tensor([[-0.4, -0.2, -0.9]])
    expected, _ = run_loss(name, scores, torch.tensor([[1.0, 0.0, 1.0]]))
    for dtype in (torch.bool, torch.int64, torch.uint8, torch.bfloat16, torch.float64):
        assert torch.equal(run_loss(name, scores, torch.tensor([[1, 0, 1]]).to(dtype))[0], expected)


@every_loss
def test_ratings_are_compared_in_their_own_precision(name):
    ratings = torch.tensor([[1.0 + 1e-12, 1.0]], dtype=torch.float64)
    _, metrics = run_loss(name, torch.tensor([[-0.4, -0.2]]), ratings)
    assert metrics["groups/without_pair"] == 0


@every_constraint
@every_loss
def test_a_real_candidate_without_a_finite_rating_is_heard(name, constraint):
    for bad in (torch.nan, torch.inf):
        ratings = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, bad]])
        per_group, _ = run_loss(name, torch.full((2, 3), -0.5), ratings, constraint=CONSTRAINTS[constraint])
        assert torch.isfinite(per_group[0]) and torch.isnan(per_group[1])


@every_loss
def test_an_empty_batch_gives_an_empty_loss(name):
    per_group, metrics = run_loss(name, torch.zeros(0, 3), torch.zeros(0, 3))
    assert per_group.shape == (0,) and metrics["groups/without_pair"] == 0


@every_loss
def test_bad_arguments_are_named(name):
    function = f"{name.split('_')[0]}_loss"
    scores, ratings = torch.zeros(2, 3), torch.zeros(2, 3)

    def message(*args, **options):
        with pytest.raises(ValueError) as caught:
            run_loss(name, *args, **options)
        return str(caught.value)

    refs = {"ref_scores": torch.zeros(3)} if name in REFERENCE_LOSSES else {}
    assert message(torch.zeros(3), ratings, **refs) == f"{function}: scores must be (B, G) with G >= 1, got (3,)"
    assert message(torch.zeros(2, 0), torch.zeros(2, 0)).endswith("G >= 1, got (2, 0)")
    assert message(scores.long(), ratings) == f"{function}: scores must be floating point, got torch.int64"
    assert message(scores, torch.zeros(2, 4)) == (f"{function}: ratings must be (B, G) = (2, 3), as scores, got (2, 4)")
    assert message(scores, ratings.to(torch.complex64)).endswith("real numbers or booleans, got torch.complex64")
    assert message(scores, ratings, torch.ones(3, 2).bool()) == (
        f"{function}: candidate_mask must be (B, G) = (2, 3), as scores, got (3, 2)"
    )
    assert message(scores, ratings, torch.ones(2, 3)) == (
        f"{function}: candidate_mask must be torch.bool, got torch.float32"
    )
    assert message(scores, ratings, constraint="boundary") == (
        f"{function}: constraint must be Unconstrained, Detached, Boundary, Tapered, PassRate, Balanced, Floor or"
        " PositiveFloor, got 'boundary'"
    )
    for gap in (-0.5, torch.nan, torch.inf):
        said = message(scores, ratings, min_rating_gap=float(gap))
        assert said.startswith(f"{function}: min_rating_gap must be finite and >= 0, got") or (
            name == "pro_reference_code" and said.endswith("needs dynamic temperatures and no min_rating_gap")
        )


@pytest.mark.parametrize(
    "function",
    [*losses.LOSSES.values(), losses.pair_statistics, losses.displacement_statistics],
    ids=lambda function: function.__name__,
)
def test_all_but_scores_and_ratings_is_given_by_its_name(function):
    parameters = inspect.signature(function).parameters
    by_position = [name for name, parameter in parameters.items() if parameter.kind is not parameter.KEYWORD_ONLY]
    assert by_position == ["scores", "ratings"]
    table = torch.zeros(1, 2)
    for more in ((table,), (table, table), (table, table, torch.ones(1, 2).bool())):
        with pytest.raises(TypeError, match="positional argument"):
            function(table, table, *more)


@pytest.mark.parametrize("call", [lambda: Boundary(0.15), lambda: losses.Detached(True)])
def test_the_arguments_of_a_constraint_have_names(call):
    with pytest.raises(TypeError, match="positional argument"):
        call()


@every_loss
def test_exchanged_tensors_are_named(name):
    """What costs no look at the values; the values show in `pairs/accuracy`."""
    function = f"{name.split('_')[0]}_loss"
    scores, ratings = torch.tensor([[-0.5, -0.9]], requires_grad=True), torch.tensor([[1.0, 0.0]])
    with pytest.raises(ValueError, match=rf"{function}: ratings must not require a gradient; were scores and ratings"):
        run_loss(name, ratings, scores)
    with pytest.raises(ValueError, match=rf"{function}: scores must be floating point, got torch.int64"):
        run_loss(name, ratings.long(), scores.detach())
    if name in REFERENCE_LOSSES:
        with pytest.raises(ValueError, match=rf"{function}: .* were scores and ref_scores exchanged"):
            run_loss(name, scores.detach(), ratings, ref_scores=scores)
        with torch.no_grad():
            run_loss(name, scores, ratings, ref_scores=scores)
        with pytest.raises(ValueError, match=rf"{function}: lengths must be numbers of tokens, got torch.bool"):
            run_loss(name, scores, ratings, lengths=torch.ones(1, 2).bool())


@every_loss
def test_reversed_and_constant_ratings_show_in_the_metrics(name):
    scores, ratings = torch.tensor([[-0.2, -0.9, -0.4]]), torch.tensor([[1, 0, 1]])
    assert run_loss(name, scores, ratings)[1]["pairs/accuracy"] == 1
    assert run_loss(name, scores, 1 - ratings)[1]["pairs/accuracy"] == 0
    assert run_loss(name, torch.zeros(1, 3), ratings)[1]["pairs/accuracy"] == 0.5
    for metrics in (
        run_loss(name, scores, torch.ones(1, 3))[1],
        # the mask is reversed: nothing is left to compare
        run_loss(name, scores, ratings, torch.tensor([[False, False, False]]))[1],
    ):
        assert metrics["groups/without_pair"] == 1 and metrics["pairs/accuracy"].isnan()


def test_tables_and_exports_agree():
    assert {"dpo", "ipo", "kto", "nca", "nft", "topr", "bpo"} <= losses.REFERENCE_LOSSES
    assert not {"alignment", "rrhf", "pro", "simpo", "orpo", "simper", "asymre"} & losses.REFERENCE_LOSSES
    assert {name: getattr(losses, f"{name}_loss") for name in losses.LOSSES} == losses.LOSSES
    for name, function in losses.LOSSES.items():
        parameters = inspect.signature(function).parameters
        assert {"scores", "ratings", "candidate_mask", "constraint", "min_rating_gap"} <= set(parameters)
        default = parameters["constraint"].default
        assert default == (Boundary() if name == "alignment" else Unconstrained())
    assert {name: kind.__name__ for name, kind in losses.CONSTRAINTS.items()} == {
        "none": "Unconstrained",
        "detached": "Detached",
        "boundary": "Boundary",
        "tapered": "Tapered",
        "pass_rate": "PassRate",
        "balanced": "Balanced",
        "floor": "Floor",
        "positive_floor": "PositiveFloor",
        "controlled": "Boundary",
    }
    assert all(hasattr(losses, name) for name in losses.__all__)
