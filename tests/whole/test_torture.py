"""A small case of each area of `make torture`: what is cut, damaged or deceived is lost nowhere."""

from __future__ import annotations

import pytest

from torture.__main__ import AREAS, load_cases
from torture.verdict import LOST
from torture.workshop import Workshop


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Workshop(tmp_path_factory.mktemp("torture"), quick=True)
    yield made
    made.close()


@pytest.mark.parametrize("area", AREAS)
def test_nothing_is_lost(area, shop, tmp_path):
    for number, case in enumerate(load_cases(area, quick=True, seed=0)):
        folder = tmp_path / str(number)
        folder.mkdir()
        ended = case.run(shop, folder)
        assert ended.verdict != LOST, f"{case.name}: {ended.detail}"


def test_the_whole_torture_tries_as_much_as_it_promises():
    counts = {area: len(load_cases(area, quick=False, seed=0)) for area in AREAS}
    assert counts["configurations"] >= 120 and counts["data"] >= 120 and counts["judges"] >= 50
    assert sum(name.count("SIG") for name in (case.name for case in load_cases("kills", quick=False, seed=0))) == 50
    for area in AREAS:
        names = [case.name for case in load_cases(area, quick=False, seed=0)]
        assert len(set(names)) == len(names), f"{area}: two cases have one name"
        assert [case.name for case in load_cases(area, quick=False, seed=0)] == names
