"""The table of measures, and how it and its numbers are written."""

from __future__ import annotations

import pytest

from aft.paper.claims import CLAIMS
from aft.paper.specs import SPECS
from aft.report.measures import (
    COLUMNS,
    COMPARED,
    DISPLACEMENT,
    LOGGED,
    MEASURED,
    MEASURES,
    PERPLEXITY,
    POINTS,
    SHARE,
    measure_of,
)
from aft.report.spread import amount, number
from aft.stats.estimate import Estimate


def test_every_measure_has_what_its_users_read():
    assert all(measure.heading for measure in (*COLUMNS, *DISPLACEMENT, *COMPARED))
    assert {measure.name for measure in COLUMNS} == {measure.name for measure in MEASURED} | {
        "vs_vft",
        "parsed",
        "ended",
    }
    named = {name for spec in SPECS.values() for name in spec.measures if "@" not in name}  # vote@16 is of a family
    assert all(MEASURES[name].table for name in named)
    asked = {c.measure for claim in CLAIMS.values() for clause in claim.clauses for c in clause}
    assert all(measure_of(name).words for name in asked)


def test_no_two_measures_share_a_name_or_a_place():
    for places in ([m.path for m in MEASURED], [m.log for m in LOGGED], [m.heading for m in COLUMNS]):
        assert len(set(places)) == len(places)


def test_measures_that_a_run_may_leave_out_stand_last():
    assert [measure.optional for measure in MEASURED] == sorted(measure.optional for measure in MEASURED)


def test_numbers():
    over_seeds = Estimate.over_seeds({0: Estimate(0.5), 1: Estimate(0.75)})
    assert number(over_seeds, SHARE) == "62.50 ± 17.68" and number(over_seeds, SHARE, brief=True) == "62.5 ± 17.7"
    assert number(over_seeds, POINTS) == "+62.50 ± 17.68"  # a deviation has no sign
    assert number(Estimate(0.1, low=-0.1, high=0.3), POINTS) == "+10.00 [-10.00, +30.00]"
    assert number(Estimate(1.5, n=1), PERPLEXITY) == "1.500 (no interval)"
    assert number(Estimate(1.5, n=1), PERPLEXITY, alone="") == "1.500"
    assert number(Estimate(None, beside={"infinite": 1}), PERPLEXITY) == "infinite"
    assert number(None, SHARE) == number(Estimate(None), SHARE) == amount(None, SHARE) == "–"


@pytest.mark.parametrize(("kind", "text"), [(SHARE, "-25.00"), (SHARE.difference, "-25.00"), (PERPLEXITY, "-0.250")])
def test_amounts(kind, text):
    assert amount(-0.25, kind) == text
