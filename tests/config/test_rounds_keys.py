"""The section `rounds`: a number or keys, and what does not go with it."""

from __future__ import annotations

import pytest

from aft.config import load_config, to_yaml
from aft.config.schema import model_names, num_rounds
from aft.errors import ConfigError


@pytest.fixture
def load(tiny):
    return lambda *overrides: load_config(tiny, overrides)


def test_a_number_stands_for_the_count(load, tmp_path):
    assert load().rounds is None and num_rounds(load()) == 1
    config = load("rounds=3")
    assert config.rounds == load("rounds={count: 3}").rounds and num_rounds(config) == 3
    assert (config.rounds.keep, config.rounds.start_from, config.rounds.patience) == ("last", "last", None)
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(config))
    assert load_config(path) == config
    assert model_names(config)[2:5] == ["rft", "rft@2", "rft@3"]


@pytest.mark.parametrize(
    ("given", "overrides", "count", "keep"),
    [
        ("3", ["rounds.keep=all"], 3, "all"),
        ("{count: 2, keep: all, patience: 1}", ["rounds=3"], 3, "all"),
        ("{count: 2, keep: all}", ["rounds={count: 3}"], 3, "last"),  # a section takes the place of a section
        ("3", ["rounds={keep: all}"], 1, "all"),
        ("null", ["rounds=3", "rounds.keep=all"], 3, "all"),
        ("null", ["rounds.keep=all", "rounds=3"], 3, "all"),
    ],
)
def test_the_short_form_leaves_other_keys_as_they_are(load, tiny, tmp_path, given, overrides, count, keep):
    path, below = tmp_path / "own.yaml", tmp_path / "below.yaml"
    path.write_text(f"{tiny.read_text()}\nrounds: {given}\n")
    found = load_config(path, overrides).rounds
    assert (found.count, found.keep) == (count, keep)
    below.write_text("extends: own.yaml\nrounds: 4\n")
    extended = load_config(below).rounds
    assert extended.count == 4 and extended.keep == ("all" if "all" in given else "last")
    assert load("rounds=3", "rounds=null").rounds is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rounds=0"], r"rounds.count: must be at least 1, got 0"),
        (["rounds=17"], r"rounds.count: must be at most 16, got 17"),
        (["rounds=two"], r"rounds.count: expected a whole number, got 'two' \(str\)"),
        (["rounds=[1, 2]"], r"rounds.count: expected a whole number"),
        (["rounds.keep=some"], r"rounds.keep: got 'some' \(str\), allowed: last, all"),
        (["rounds={counts: 2}"], r"rounds.counts: unknown key. Did you mean 'count'"),
        (["rounds={count: 2, patience: 1, validation_questions: 0}"], r"rounds.patience: needs validation"),
        (["rounds=2", "stages=[vft, align]"], r"rounds.count: 2, but 'sample' is not among the stages"),
        (["rounds=2", "sample.engine=openai"], r"sample.engine: openai, but no server has the models"),
        (["rounds=2", "evaluate.engine=openai"], r"evaluate.engine: openai, but no server has the models"),
        (["rounds=2", "label.ratings={name: file, path: x.jsonl}"], r"label.ratings: file, but the samples of later"),
        (["rounds=2", "evaluate.models=[bcl@3]"], r"unknown model 'bcl@3'.*Allowed: .*bcl@2"),
        (["methods={bcl@2: {}}"], r"methods.bcl@2: a method's name becomes a folder"),
        (
            ["rounds=2", "hub.repo=me/x", "model.lora={save: adapter}", "align.init_from=base"],
            r"hub: the adapter of 'rft' stands on the previous round's adapter",
        ),
        (
            ["rounds=2", "hub.repo=me/x", "evaluate.models=[rft, bcl, rft@2]"],
            r"hub: models are pushed with their metrics, but 'bcl@2' is not in evaluate.models",
        ),
    ],
)
def test_what_is_refused(load, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(*overrides)
