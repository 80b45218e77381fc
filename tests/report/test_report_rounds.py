"""What the report says of the rounds of a run, from files that no model has made."""

from __future__ import annotations

import pytest

from aft.errors import DataError
from aft.json_files import write_json, write_json_lines
from aft.records import Candidate, Completion, Group, Prefix
from aft.report.build import _check_files
from aft.report.page import _labelled, _rounds
from aft.report.rounds import read_rounds, trained_names
from aft.run.folder import RunFolder
from aft.run.manifest import UnitLog

CONFIG = {"methods": {"bcl": {}}, "rounds": {"count": 2}}


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def write(run, name, samples, labels, continued=()):
    """Files of a round: the `samples` of each question, the `labels` of texts, and texts that continue a chain."""
    groups = [
        Group(key, f"{key}?", "1", "ref", tuple(Candidate(t, 1.0, label) for t, label in labels.items()))
        for key in samples
    ]
    completions = [
        Completion(key, i, text, False, 3, i) for key, texts in samples.items() for i, text in enumerate(texts)
    ]
    completions.append(Completion("of the pool", 0, "r1", False, 100, 0))
    for path in (run.groups(0, name), run.completions(0, name)):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(run.groups(0, name), groups)
    write_json_lines(run.completions(0, name), completions)
    if continued:
        lines = [Completion("a", 9 + i, text, False, 2, i, prefix=Prefix(0, 1)) for i, text in enumerate(continued)]
        write_json_lines(run.continuations(0, name), lines)


def rows(run, config=CONFIG):
    return {row["model"]: row for row in read_rounds(run, config, {}, [0]) if row["round"]}


def test_a_sample_that_equals_the_reference_is_right(run):
    labels = {"ref": "reference", "r1": "positive", "w": "negative"}
    write(run, None, {"a": ["ref", "ref", "r1", "w"], "b": ["w", "w", "w", "r1"]}, labels)
    row = rows(run)["bcl"]
    assert row["share_right"].mean == (3 / 4 + 1 / 4) / 2
    # the reference counts where it was sampled
    assert row["distinct_right"].mean == (2 + 1) / 2
    assert row["sampled_tokens"] == 8 * 3


def test_continuations_count_as_sampled_tokens_alone(run):
    labels = {"r1": "positive", "w": "negative"}
    write(run, None, {"a": ["r1", "w"]}, labels)
    before = rows(run)["bcl"]
    write(run, None, {"a": ["r1", "w"]}, labels, continued=["w", "r1", "w"])
    after = rows(run)["bcl"]
    assert (before["sampled_tokens"], after["sampled_tokens"]) == (2 * 3, 2 * 3 + 3 * 2)
    assert {**after, "sampled_tokens": None} == {**before, "sampled_tokens": None}


def test_damaged_continuations_are_told(run):
    write(run, None, {"a": ["r1"]}, {"r1": "positive"}, continued=["w"])
    unit = run.unit("sample", 0, None)
    UnitLog(unit.folder, {}).complete(["completions.jsonl", "from_prefix.jsonl"])
    run.continuations(0).write_text("")
    config = {**CONFIG, "seeds": [0], "stages": ["sample"]}
    with pytest.raises(DataError, match=r"from_prefix\.jsonl is empty"):
        _check_files(run, config)
    assert _check_files(run, {**config, "rounds": None}) == {}


def test_the_report_says_which_samples_left_nothing_to_compare(run):
    run.path.mkdir()
    entry = {"validation": [0.5], "final": "bcl", "stopped_after": 1}
    write_json(run.rounds, {"bcl": {"0": {**entry, "nothing_to_compare_in": 2}}})
    found = read_rounds(run, CONFIG, {}, [0])
    assert [row.get("model") for row in found] == ["bcl", None], "the stop leaves out round 2"
    assert "bcl, seed 0: the samples of round 2 left nothing to compare." in _rounds({"rounds": found}, None)
    write_json(run.rounds, {"bcl": {"0": entry}})
    assert "left nothing" not in _rounds({"rounds": read_rounds(run, CONFIG, {}, [0])}, None)


def test_the_stops_of_rounds_that_are_gone_count_no_more(run):
    run.path.mkdir()
    write_json(run.rounds, {"bcl": {"0": {"validation": [0.5, 0.4, 0.3], "final": "bcl", "stopped_after": 3}}})
    assert trained_names({"methods": {"bcl": {}}, "rounds": None}, run) == ["bcl"]
    assert trained_names({"methods": {"bcl": {}}, "rounds": {"count": 2}}, run) == ["bcl", "bcl@2"]
    assert trained_names({"methods": {"bcl": {}}, "rounds": {"count": 4}}, run) == ["bcl", "bcl@2", "bcl@3"]


@pytest.mark.parametrize("rounds", [[], [{"round": 1}]])
def test_the_page_says_that_its_counts_are_of_round_1(rounds):
    page = _labelled({"labelled": {"0": {"questions": 4, "from_prefix": {"kept": 2}}}, "rounds": rounds})
    assert "from_prefix.kept" in page and ("of round 1" in page) == bool(rounds)
