"""The fuzzers' targets on inputs that know their form, and on what fuzzers found. `make fuzz` is guided by coverage."""

from __future__ import annotations

import importlib
import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.__main__ import TARGETS

EXAMPLES = 100_000
settings.register_profile(
    "fuzz",
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FUZZ = settings.get_profile("fuzz")


def target(name):
    return importlib.import_module(f"fuzz.{name}")


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_of_a_fuzzer_passes(name):
    for seed in target(name).SEEDS:
        target(name).one(seed)
        target(name).one(seed[: len(seed) // 2])


texts = st.text(max_size=30) | st.sampled_from(["", "\ud800", "\x1b[31m", "1" * 5000, "[ANS] 2", "{question}"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
KEYS = """
output_dir data name path train num_train options model from_scratch architecture config name_or_path
max_length training learning_rate max_steps vft sample num_samples label ratings align loss constraint beta
methods evaluate models assessment launch workers prompt template chat seeds stages extends parts share
"""
keys = st.sampled_from(KEYS.split())
WORDS = """
arithmetic gsm8k jsonl mixture judge file function boundary none llama vft base quickstart
"""
words = st.sampled_from(WORDS.split())
values = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | texts, inner, max_size=4),
    max_leaves=12,
)
GOOD = {"output_dir": "run", "data": {"name": "arithmetic"}, "model": {"from_scratch": {}}, "methods": {"bcl": None}}


@pytest.mark.slow
@FUZZ
@given(st.dictionaries(keys, values, max_size=6), st.booleans(), st.lists(st.tuples(keys, keys, values), max_size=2))
def test_a_configuration(changes, whole, overrides):
    first = "".join(f"# {a}.{b}={json.dumps(value)}\n" for a, b, value in overrides[:1])
    data = yaml.safe_dump({**(GOOD if whole else {}), **changes}, allow_unicode=False)
    target("configuration").one(first.encode("utf-8", "replace") + data.encode("utf-8", "replace"))


FIELDS = """
id question answer rationale options category question_id index completion truncated num_tokens seed token_ids
candidates reference rating label prompt chosen rejected score_chosen score_rejected messages role content
"""
fields = st.sampled_from(FIELDS.split())
records = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields | texts, inner, max_size=6),
    max_leaves=15,
)


def changed(good):
    """Records like `good`: some keys have other values, some are gone, some are new."""
    each = {key: st.just(value) | records for key, value in good.items()}
    more = st.dictionaries(fields, records, max_size=2)
    lost = st.sets(st.sampled_from(sorted(good)), max_size=2)
    return st.builds(
        lambda known, new, gone: {key: value for key, value in {**known, **new}.items() if key not in gone},
        st.fixed_dictionaries(each),
        more,
        lost,
    )


def lines(first, goods):
    """A file of JSON lines for a target: the byte that chooses, and a few records."""
    return st.builds(
        lambda kind, rows: bytes([kind]) + b"".join(json.dumps(row).encode() + b"\n" for row in rows),
        first,
        st.lists(st.one_of(*map(changed, goods)), min_size=1, max_size=4),
    )


def goods(name):
    """The records among a target's seeds."""
    found = []
    for seed in target(name).SEEDS:
        try:
            found += [json.loads(line) for line in seed[1:].splitlines()]
        except ValueError:  # packed
            continue
    return found


@pytest.mark.slow
@FUZZ
@given(st.data())
def test_json_lines(data):
    target("json_lines").one(data.draw(lines(st.integers(0, 4), goods("json_lines"))))


@pytest.mark.slow
@FUZZ
@given(st.data())
def test_conversion(data):
    target("conversion").one(data.draw(lines(st.integers(0, 7), goods("conversion"))))


pieces = st.sampled_from([*target("answers").WORDS, *" \n\0AB2-(){}", "3.5", "1/2"])


@pytest.mark.slow
@FUZZ
@given(st.lists(pieces | texts, max_size=20))
def test_answers(parts):
    text = "".join(parts)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = b"\xff" + text.encode("utf-16-le", "surrogatepass")
    target("answers").one(data)
