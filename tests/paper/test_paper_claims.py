"""The rule by which a claim is held, not held or not tested, on answers made by hand."""

from __future__ import annotations

import pytest
from paper_runs import run_result

from aft.paper.claims import CLAIMS, HELD, NOT_HELD, NOT_TESTED, Claim, Comparison, verdict_on
from aft.paper.methods import METHODS
from aft.paper.specs import SPECS
from aft.run.folder import method_round

RIGHT, HALF, WRONG = [1] * 40, [1, 0] * 20, [0] * 40
MIXED = [1] * 21 + [0] * 19  # a little above HALF, by no more than chance


def status(key, answers, **keywords):
    return verdict_on(key, run_result(answers, **keywords), "a run").status


@pytest.mark.parametrize(
    ("rft", "expected"),
    [
        ([RIGHT, RIGHT, RIGHT], HELD),
        ([RIGHT, RIGHT, HALF], NOT_HELD),  # level on one seed
        ([RIGHT, RIGHT, WRONG], NOT_HELD),
        ([MIXED, MIXED, MIXED], NOT_HELD),  # the interval holds 0
        ([WRONG, WRONG, WRONG], NOT_HELD),
        ([RIGHT, RIGHT], NOT_TESTED),  # two seeds are too few
        ([], NOT_TESTED),
    ],
)
def test_rft_above_vft(rft, expected):
    answers = {"vft": [HALF] * 3, **({"rft": rft} if rft else {})}
    assert status("rft-vft", answers) == expected


@pytest.mark.parametrize(
    ("floor", "expected"),
    [
        ([RIGHT] * 3, HELD),
        ([MIXED] * 3, HELD),  # as good as the best fixed beta
        ([[*MIXED[1:], 0]] * 3, NOT_TESTED),  # below it by chance, with too few questions to tell by how much
        ([HALF[:20] + WRONG[:20]] * 3, NOT_HELD),
        ([RIGHT] * 2, NOT_TESTED),
    ],
)
def test_a_rule_within_noise_of_the_best_of_at_least_three_fixed_betas(floor, expected):
    betas = {"aft-bc-beta0": [WRONG] * 3, "aft-bc-beta0.15": [MIXED] * 3, "aft-bc-beta0.5": [HALF] * 3}
    assert status("within-aft-floor", {**betas, "aft-floor": floor}) == expected
    assert status("within-aft-floor", {"aft-bc-beta0": [WRONG] * 3, "aft-floor": floor}) == NOT_TESTED


def test_evidence_names_mean_interval_and_seeds():
    verdict = verdict_on("rft-vft", run_result({"vft": [HALF] * 3, "rft": [RIGHT, RIGHT, MIXED]}), "a run")
    (evidence,) = verdict.evidence
    # (50 + 50 + 2.5) / 3
    assert evidence.startswith("rft − vft, task accuracy: +34.17 [+")
    assert evidence.endswith("; by seed +50.00, +50.00, +2.50")
    missing = verdict_on("rft-vft", run_result({"vft": [HALF] * 3}), "a run")
    assert missing.evidence == ("task accuracy: no rft in this run",)


def test_equal_steps_are_vfts_own_from_the_base_model_and_further_ones_from_vft():
    answers = {"vft": [HALF] * 3, "vft-more": [RIGHT] * 3, "aft-dc": [MIXED[::-1]] * 3}
    above = {**answers, "aft-dc": [RIGHT] * 3}
    assert status("aft-dc-vft", above, start="base") == HELD
    assert status("aft-dc-vft", above, start="vft") == NOT_HELD
    del above["vft-more"]
    assert status("aft-dc-vft", above, start="vft") == NOT_TESTED


def test_a_name_of_another_configuration_is_known():
    assert status("aft-bc-rft", {"rft": [HALF] * 3, "aft-boundary": [RIGHT] * 3}) == HELD


@pytest.mark.parametrize(
    ("accuracy", "perplexity", "pool", "expected"),
    [
        (WRONG, [2.0], RIGHT, HELD),
        (MIXED, [3.0], RIGHT, HELD),  # either accuracy or perplexity
        (RIGHT, [1.5], RIGHT, NOT_HELD),
        (RIGHT, [2.04], RIGHT, NOT_HELD),  # sure, but next to nothing
        (WRONG, [2.0], MIXED, NOT_HELD),  # assessment accuracy did not rise
        (WRONG, [2.0], None, NOT_TESTED),
    ],
)
def test_degrades_needs_a_loss_and_better_assessment(accuracy, perplexity, pool, expected):
    others = {"pool_perplexity": {"vft": [[2.0] * 40] * 3, "rrhf": [perplexity * 40] * 3}}
    if pool is not None:
        others["pool_assessment_accuracy"] = {"vft": [HALF] * 3, "rrhf": [pool] * 3}
    assert status("degrades-rrhf", {"vft": [HALF] * 3, "rrhf": [accuracy] * 3}, others=others) == expected


def test_much_worse_means_five_points():
    slightly = [0] + [1] * 39
    assert status("rdc2", {"aft-dc": [RIGHT] * 3, "aft-dc2": [HALF] * 3}) == HELD
    # 2.5 points, sure as they may be
    many = [value for value in slightly for _ in range(10)]
    verdict = {"aft-dc": [RIGHT * 10] * 3, "aft-dc2": [many] * 3}
    assert status("rdc2", verdict) == NOT_HELD


def test_a_series_is_ordered_by_its_numbers():
    falling = {"aft-dc-k8": [RIGHT] * 3, "aft-dc-k16": [HALF] * 3, "vft": [WRONG] * 3}
    assert status("k", falling) == NOT_HELD
    assert status("k", {**falling, "aft-dc-k8": [HALF] * 3, "aft-dc-k16": [RIGHT] * 3}) == HELD
    assert status("k", {"aft-dc-k8": [RIGHT] * 3, "vft": [HALF] * 3}) == NOT_TESTED


def test_rise_and_fall_over_beta():
    names = ["aft-bc-beta-0.8", "aft-bc-beta0.2", "aft-bc-beta0.8"]

    def over(*levels):
        return status("beta", dict(zip(names, ([level] * 3 for level in levels), strict=True)))

    assert over(HALF, RIGHT, HALF) == HELD
    assert over(WRONG, HALF, RIGHT) == NOT_HELD  # still rising
    assert over(RIGHT, HALF, WRONG) == NOT_HELD
    two = {name: [RIGHT] * 3 for name in names[:2]}
    assert status("beta", two) == NOT_TESTED


def test_every_claim_of_a_table_is_known_and_names_known_models():
    assert {key for spec in SPECS.values() for key in spec.claims} == set(CLAIMS)
    named = {
        method_round(name.partition(":")[0])[0]
        for claim in CLAIMS.values()
        for clause in claim.clauses
        for comparison in clause
        for name in (comparison.a, comparison.b)
    }
    assert named <= {*METHODS, "vft", "vft=steps", "aft-dc-k", "rft-k", "aft-bc-k", "rft-bc-k", "aft-bc-beta"}


def test_all_clauses_must_hold(monkeypatch):
    both = Claim("both", ((Comparison("rft", "vft"),), (Comparison("aft", "vft"),)))
    monkeypatch.setitem(CLAIMS, "both", both)
    low = {"vft": [HALF] * 3, "rft": [RIGHT] * 3}
    assert status("both", {**low, "aft": [RIGHT] * 3}) == HELD
    assert status("both", low) == NOT_TESTED
    assert status("both", {**low, "aft": [WRONG] * 3}) == NOT_HELD


def of_sizes(key, small, large):
    return verdict_on(key, run_result(large), "large", run_result(small))


def right(count, of=400):
    return [1] * count + [0] * (of - count)


@pytest.mark.parametrize(
    ("large", "grows"),
    [
        ([RIGHT] * 3, HELD),
        ([RIGHT, RIGHT[:38] + [0] * 2, RIGHT], HELD),
        ([RIGHT, RIGHT, MIXED], NOT_HELD),  # the seeds vary too much to tell
        ([MIXED] * 3, NOT_HELD),
        ([HALF] * 3, NOT_HELD),
        ([RIGHT] * 2, NOT_TESTED),
    ],
)
def test_a_gain_that_grows_with_size(large, grows):
    # the small model gains 2.5 points
    small = {"vft-more": [HALF] * 3, "rft": [MIXED] * 3}
    found = of_sizes("grows-rft", small, {"vft-more": [HALF] * 3, "rft": large})
    assert found.status == grows
    sides = "(rft − vft-more, largest model) − (rft − vft-more, smallest model), task accuracy: "
    assert found.evidence[0].startswith(sides)
    assert "] over questions, [" in found.evidence[0] and "; smallest model +2.50 [" in found.evidence[0]


def test_seeds_of_two_sizes_are_independent():
    # each seed of the large model gains more than the same seed of the small one, by far less than seeds differ
    small = {"vft-more": [right(100)] * 3, "rft": [right(100), right(150), right(200)]}
    large = {"vft-more": [right(100)] * 3, "rft": [right(130), right(180), right(230)]}
    found = of_sizes("grows-rft", small, large)
    assert found.status == NOT_HELD
    # by t = 2.776 at 4 degrees of freedom, 12.5 √(2 / 3) around 7.5
    assert "[-20.84, +35.84] over seeds" in found.evidence[0]
    # the gain may have shrunk by far more than noise allows
    same = {"rft": small["vft-more"], "rft-bc": large["rft"]}
    assert of_sizes("keeps-rft-bc-rft", same, same).status == NOT_TESTED


def test_further_steps_alone_make_no_gain_grow():
    small = {"vft": [right(240)] * 3, "vft-more": [right(250)] * 3, "rft": [right(330)] * 3}
    large = {"vft": [right(160)] * 3, "vft-more": [right(250)] * 3, "rft": [right(330)] * 3}
    assert of_sizes("grows-rft", small, large).status == NOT_HELD


def test_a_loss_that_shrinks_is_no_gain_that_grows():
    small = {"vft-more": [RIGHT] * 3, "rft": [WRONG] * 3, "rft-bc": [WRONG] * 3}
    large = {"vft-more": [RIGHT] * 3, "rft": [HALF] * 3, "rft-bc": [HALF] * 3}
    assert of_sizes("grows-rft", small, large).status == NOT_HELD
    assert of_sizes("keeps-rft-bc-rft", small, large).status == NOT_HELD  # no gain at either end


def test_a_gain_over_sizes_is_a_difference_of_differences_by_question():
    # both gain 50 points, on other questions: the mean of the difference is 0, its interval is not
    small = {"rft": [WRONG] * 3, "rft-bc": [HALF] * 3}
    found = of_sizes("keeps-rft-bc-rft", small, {"rft": [WRONG] * 3, "rft-bc": [HALF[::-1]] * 3})
    assert found.status == NOT_TESTED and ": +0.00 [-" in found.evidence[0]  # the interval reaches too far below 0
    same = {"rft": [HALF] * 3, "rft-bc": [RIGHT] * 3}
    assert of_sizes("keeps-rft-bc-rft", same, same).status == HELD
    assert of_sizes("keeps-rft-bc-rft", same, {**same, "rft-bc": [HALF] * 3}).status == NOT_HELD


def test_a_claim_over_sizes_needs_two_and_its_methods_in_both():
    run = {"vft-more": [HALF] * 3, "rft": [RIGHT] * 3}
    alone = verdict_on("grows-rft", run_result(run), "a run")
    assert alone.status == NOT_TESTED and alone.evidence[0] == "task accuracy: base models of one size only"
    missing = of_sizes("grows-rft", {"vft-more": [HALF] * 3}, run)
    assert missing.status == NOT_TESTED and missing.evidence[0] == "task accuracy: no rft with the smallest model"
