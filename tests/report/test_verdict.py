"""What a report says first."""

import pytest

from aft.report.verdict import MOST_WARNINGS, verdict, warnings
from aft.stats.estimate import Estimate

COLUMNS = ("macro_accuracy", "assessment_accuracy", "pool_assessment_accuracy", "perplexity", "perplexity_wrong")
COLUMNS += ("perplexity_reference", "pool_positive", "pool_negative")


def model(name, accuracy=0.5, difference=None, *, n=200, **counts):
    """A model of a report; `difference` is (mean, low, high) in shares."""
    own = Estimate.over_seeds({seed: Estimate(accuracy, n=n, beside=counts) for seed in (0, 1)})
    versus = None
    if difference is not None:
        mean, low, high = difference
        versus = {"mean": mean, "low": low, "high": high, "n": n}
    return {
        "name": name,
        "task_accuracy": own,
        "vs_vft": versus,
        "checkpoints": [],
        "seeds": [0, 1],
        "missing_seeds": [],
        **dict.fromkeys(COLUMNS),
    }


def report(*models, seeds=(0, 1), missing=(), labelled=None, displacement=None):
    return {
        "models": list(models),
        "seeds": list(seeds),
        "missing": list(missing),
        "labelled": labelled or {},
        "displacement": displacement or {},
    }


def told(*models, **given):
    return verdict(report(*models, **given), str)


def warned(*models, **given):
    return warnings(report(*models, **given), str)


def test_a_gain_that_is_told_apart():
    text = told(model("vft"), model("rft", 0.6, (0.1, 0.05, 0.15)), model("aft", 0.55, (0.05, -0.01, 0.11)))
    assert text.startswith(
        "It worked: rft is above VFT (+10.0 [+5.0, +15.0] points). The best model, rft, answers 60.0"
    )


def test_a_gain_whose_interval_holds_0():
    text = told(model("vft"), model("aft", 0.55, (0.05, -0.01, 0.11)))
    assert text.startswith("No gain over VFT was shown: the interval of the best method, aft, holds 0 (+5.0 [-1.0")


def test_every_method_is_below():
    text = told(model("vft", 0.6), model("a", 0.5, (-0.1, -0.2, -0.05)), model("b", 0.3, (-0.3, -0.4, -0.2)))
    assert text.startswith(
        "It did not work: every alignment loss ends below VFT, a the least (-10.0 [-20.0, -5.0] points)."
    )
    assert text.endswith("The best model, vft, answers 60.0 ± 0.0 % of the questions.")


def test_the_base_model_is_no_method():
    assert told(model("base", 0.9, (0.4, 0.3, 0.5)), model("vft")).startswith("The best model, base, answers 90.0")


def test_a_difference_without_an_interval_and_a_run_without_figures():
    assert "its difference from VFT has no interval" in told(model("vft"), model("a", 0.6, (0.1, None, None)))
    assert told() == "Nothing was measured: no model has answered test questions."


def test_a_run_without_flaws_has_no_warning():
    assert warned(model("vft"), model("aft", 0.6, (0.1, 0.08, 0.12))) == []


@pytest.mark.parametrize(
    ("flaw", "expected"),
    [
        (
            {"missing": ["rft: outdated for seed 1: trained again"]},
            "rft: outdated for seed 1: trained again. `aft-train`",
        ),
        ({"labelled": {"0": {"questions": 10, "groups_with_pair": 1}}}, "Only 10 % of the sampled questions have"),
        ({"seeds": (0,)}, "One seed says nothing"),
        ({"displacement": {"aft": {"0": {"stopped": None, "both_fell": 0.75}}}}, "aft made right chains less likely"),
        ({"displacement": {"aft": {"0": {"stopped": "both fell at step 9"}}}}, "aft was stopped: both fell at step 9."),
    ],
)
def test_flaws_of_a_run(flaw, expected):
    (line,) = warned(model("vft"), **flaw)
    assert expected in line


@pytest.mark.parametrize(
    ("flawed", "expected"),
    [
        (model("aft", unparsed=50), "25 % of the answers of aft have no final answer and count as wrong. Train"),
        (model("aft", unparsed=20, truncated=0), "10 % of the answers of aft have no final answer"),
        (model("aft", 0.4, (-0.1, -0.12, -0.08)), "aft is below VFT (-10.0 [-12.0, -8.0] points). Try a lower"),
        (model("aft", 0.6, (0.1, 0.0, 0.2)), "Differences from VFT are known to about ±10 points."),
        ({**model("aft"), "assessment_accuracy": Estimate.over_seeds({0: Estimate(0.5, n=5), 1: Estimate(0.5, n=50)})},
         "own samples, train questions rests on only 5 questions"),
    ],
)  # fmt: skip
def test_flaws_of_a_model(flawed, expected):
    (line,) = warned(model("vft"), flawed)
    assert expected in line


def test_few_unparsed_answers_and_a_measure_that_no_run_could_have_are_no_flaw():
    assert warned(model("vft"), model("aft", unparsed=4), missing=["perplexity: not measured for any model"]) == []


def test_a_baseline_without_a_loss_makes_no_success():
    models = (model("vft"), model("rft", 0.7, (0.2, 0.1, 0.3)), model("aft", 0.55, (0.05, -0.01, 0.11)))
    for known in ({"with_loss": ["aft"]}, {"displacement": {"aft": {}}}):
        text = verdict({**report(*models), **known}, str)
        assert text.startswith("No gain over VFT was shown: the interval of the best method, aft,")
        assert "The best model, rft, answers 70.0" in text


def test_the_gravest_three_come_first():
    flaws = {"seeds": (0,), "labelled": {"0": {"questions": 10}}}
    unfinished = {**model("aft", 0.4, (-0.2, -0.3, -0.1), unparsed=50), "missing_seeds": [1]}
    lines = warned(model("vft"), unfinished, **flaws)
    assert len(lines) == MOST_WARNINGS
    assert lines[0] == "Not evaluated on every seed: aft. `aft-train` with the same file goes on."
    assert "no final answer" in lines[1] and "below VFT" in lines[2]


def test_where_no_answer_is_right_nothing_is_compared():
    text = told(model("vft", 0.0, n=6), model("aft", 0.0, (0.0, 0.0, 0.0), n=6))
    assert text == "No model answers a test question, of 6 a seed: nothing can be compared."


def test_names_are_quoted():
    text = verdict(report(model("vft"), model("a<b", 0.6, (0.1, 0.05, 0.15))), lambda name: f"«{name}»")
    assert "«a<b» is above VFT" in text and "The best model, «a<b»," in text
