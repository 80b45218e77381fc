"""Which completions are sampled together, and with which seeds."""

from __future__ import annotations

from sampling_cases import ask

from aft.sampling.requests import CONTINUOUS, STATIC, derive_seed, plan_shards


def test_seeds_differ_by_every_part_and_never_change():
    parts = [("sample", 0, "q", 1), ("sample", 1, "q", 1), ("sample", 0, "q", 2), ("assess", 0, "q", 1), ("sample", 0)]
    seeds = [derive_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts) and all(0 <= seed < 2**63 for seed in seeds)
    # recorded: a file of completions is to be reproducible by a later version
    assert derive_seed("sample", 0, "q", 1) == 2607616110689184914


def ids(shards) -> list[list[str]]:
    return [[request.question_id for request in shard] for shard in shards]


def test_a_plan_keeps_questions_whole_and_lengths_together():
    wanted = [ask(f"q{n}", (3,) * length, (0, 1)) for n, length in enumerate([5, 2, 9, 2, 5, 1])]
    assert ids(plan_shards(wanted, 5, STATIC)) == [["q5", "q1"], ["q3", "q0"], ["q4", "q2"]]
    # a question with more completions than fit has a batch of its own
    assert ids(plan_shards(wanted, 1, STATIC)) == [[name] for name in ("q5", "q1", "q3", "q0", "q4", "q2")]
    assert plan_shards([], 5, STATIC) == plan_shards([], 5, CONTINUOUS) == []


def test_a_continuous_plan_has_even_shards_of_several_batches():
    wanted = [ask(f"q{n}", (3,) * length, (0, 1)) for n, length in enumerate([5, 2, 9, 2, 5, 1])]
    assert ids(plan_shards(wanted, 2, CONTINUOUS)) == [["q5", "q1", "q3", "q0", "q4", "q2"]]
    assert ids(plan_shards(wanted, 1, CONTINUOUS)) == [["q5", "q1", "q3"], ["q0", "q4", "q2"]]
    many = [ask(f"q{n}", (3,), range(6)) for n in range(1000)]
    sizes = [6 * len(shard) for shard in plan_shards(many, 64, CONTINUOUS)]
    assert max(sizes) <= 8 * 64 and min(sizes) > 7 * 64 and sum(sizes) == 6000
