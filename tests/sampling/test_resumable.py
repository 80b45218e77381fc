"""Sampling into a file: cut anywhere, by any number of ranks, the file is the same byte for byte."""

from __future__ import annotations

import dataclasses
import random

import pytest

from aft.errors import DataError
from aft.model import build_model, build_tokenizer
from aft.records import Completion, read_completions, write_json_lines
from aft.sampling.decoding import Decoding
from aft.sampling.requests import Request, derive_seed, make_seeds
from aft.sampling.resumable import _merge, _sample_missing, collect
from aft.sampling.transformers_engine import TransformersEngine
from tiny_models import random_ids

DECODING = Decoding(max_new_tokens=8)
BATCH = 2


@pytest.fixture(scope="module", autouse=True)
def short_shards():
    """Fourteen completions are several shards, each with more of them than places."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aft.sampling.requests._SHARD_BATCHES", 2)
        yield


@pytest.fixture(scope="module")
def engine():
    """A model of bytes: its completions hold broken and multi-byte characters, controls and line separators."""
    tokenizer = build_tokenizer(["äöü 家 🙂"] * 3, 300)
    config = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = build_model("llama", {**config, "initializer_range": 0.4}, tokenizer, seed=0).eval()
    return TransformersEngine(model, tokenizer, BATCH)


@pytest.fixture(scope="module")
def wanted() -> list[Request]:
    generator = random.Random(0)
    return [
        Request(f"q{n}", tuple(random_ids(generator, 1, 6)), make_seeds(f"q{n}", (0, 1), "test", 0)) for n in range(7)
    ]


def run(engine, wanted, path):
    return collect(engine, wanted, DECODING, path=path, description="sample")


def run_rank(engine, wanted, path, rank, num_ranks, done=()):
    """What one rank of several does between the barriers."""
    part = path.with_suffix(f".part-{rank:05d}.jsonl")
    shards = engine.plan(wanted)
    assert len(shards) > num_ranks, "every rank should have some, and one several"
    _sample_missing(engine, shards[rank::num_ranks], DECODING, part=part, done=set(done), description="sample")
    return part


@pytest.fixture(scope="module")
def uncut(engine, wanted, tmp_path_factory):
    path = tmp_path_factory.mktemp("uncut") / "completions.jsonl"
    return run(engine, wanted, path), path.read_bytes()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_has_every_completion_in_order(uncut, wanted):
    completions, data = uncut
    assert [(c.question_id, c.index) for c in completions] == [(r.question_id, i) for r in wanted for i in r.seeds]
    assert all(c.seed == derive_seed("test", 0, c.question_id, c.index) for c in completions)
    assert data.count(b"\n") == 14
    assert len(data) > len(data.decode()), "the texts should hold characters of several bytes"


@pytest.mark.parametrize("shift", range(6))
def test_cut_at_any_byte_and_resumed_is_uncut(engine, wanted, uncut, tmp_path, shift, capsys):
    path = tmp_path / "completions.jsonl"
    part = run_rank(engine, wanted, path, 0, 1)
    data = part.read_bytes()
    ends = [position + 1 for position, byte in enumerate(data) if byte == ord("\n")]
    # around every end of a line, and in steps through everything else
    cuts = {end + shift - 3 for end in ends} | set(range(shift * 22, len(data), 132))
    for cut in sorted(cut for cut in cuts if 0 <= cut <= len(data)):
        path.unlink(missing_ok=True)
        part.write_bytes(data[:cut])
        assert run(engine, wanted, path) == uncut[0]
        assert path.read_bytes() == uncut[1], cut
        assert names(tmp_path) == ["completions.jsonl"]
    assert "the last line was cut" in capsys.readouterr().err


def test_two_ranks_write_the_same_file(engine, wanted, uncut, tmp_path):
    path = tmp_path / "completions.jsonl"
    parts = [run_rank(engine, wanted, path, rank, 2) for rank in range(2)]
    assert all(part.stat().st_size for part in parts)
    _merge(path, wanted)
    assert path.read_bytes() == uncut[1] and names(tmp_path) == ["completions.jsonl"]


@pytest.mark.parametrize("cuts", [(0, 300), (250, 120), (10**6, 1)])
def test_a_run_of_three_ranks_goes_on_with_one(engine, wanted, uncut, tmp_path, cuts):
    path = tmp_path / "completions.jsonl"
    parts = [run_rank(engine, wanted, path, rank, 3) for rank in range(2)]  # the third never began
    for part, cut in zip(parts, cuts, strict=True):
        part.write_bytes(part.read_bytes()[:cut])
    assert run(engine, wanted, path) == uncut[0]
    assert path.read_bytes() == uncut[1] and names(tmp_path) == ["completions.jsonl"]


def test_what_is_there_is_not_sampled_again(engine, wanted, uncut, tmp_path):
    path = tmp_path / "completions.jsonl"
    part = run_rank(engine, wanted, path, 0, 1)
    # a mark in a finished line survives: the line was kept, not made again
    lines = part.read_text(encoding="utf-8").splitlines(keepends=True)
    first = read_completions(part)[0]
    marked = lines[0].replace(f'"num_tokens": {first.num_tokens}', '"num_tokens": 777')
    part.write_text("".join([marked, *lines[1:3]]), encoding="utf-8")
    completions = run(engine, wanted, path)
    assert [c.num_tokens for c in completions].count(777) == 1
    again = [c for c in completions if c.num_tokens != 777]
    assert again == [c for c in uncut[0] if (c.question_id, c.index) != (first.question_id, first.index)]


def test_a_finished_file_is_read_and_the_parts_of_a_cut_merge_are_removed(wanted, uncut, tmp_path):
    path = tmp_path / "completions.jsonl"
    path.write_bytes(uncut[1])
    (tmp_path / "completions.part-00000.jsonl").write_bytes(uncut[1][:100])
    (tmp_path / "own-0000.part-00000.jsonl").write_bytes(b"")
    assert run(None, wanted, path) == uncut[0]
    assert names(tmp_path) == ["completions.jsonl", "own-0000.part-00000.jsonl"]


@pytest.mark.parametrize("damage", ["emptied", "cut", "a line less", "a line twice", "another seed"])
def test_a_file_that_lacks_a_completion_is_completed(engine, wanted, uncut, tmp_path, capsys, damage):
    path = tmp_path / "completions.jsonl"
    lines = uncut[1].splitlines(keepends=True)
    if damage == "another seed":
        seed = str(uncut[0][3].seed).encode()
        lines[3] = lines[3].replace(seed, b"1" + seed)
    changed = {"emptied": [], "cut": [*lines[:-1], lines[-1][:-9]], "a line less": [*lines[:4], *lines[5:]]}
    path.write_bytes(b"".join(changed.get(damage, [*lines, lines[0]] if damage == "a line twice" else lines)))
    assert run(engine, wanted, path) == uncut[0]
    assert path.read_bytes() == uncut[1] and names(tmp_path) == ["completions.jsonl"]
    assert "of 14 requested completions" in capsys.readouterr().err


def test_a_line_that_is_damaged_in_the_middle_is_named(engine, wanted, uncut, tmp_path):
    part = tmp_path / "completions.part-00000.jsonl"
    lines = uncut[1].splitlines(keepends=True)
    part.write_bytes(b"".join([lines[0], lines[1][:-9] + b"\n", *lines[2:]]))
    with pytest.raises(DataError, match=r"completions\.part-00000\.jsonl:2: not JSON"):
        run(engine, wanted, tmp_path / "completions.jsonl")


def test_parts_of_other_files_in_the_folder_are_left_alone(engine, wanted, uncut, tmp_path):
    run_rank(engine, wanted, tmp_path / "own-0000.jsonl", 0, 1)
    run(engine, wanted[:2], tmp_path / "own-0012.jsonl")
    assert names(tmp_path) == ["own-0000.part-00000.jsonl", "own-0012.jsonl"]


class OneByOne:
    """An engine whose completions do not depend on their neighbours: it finishes them in reverse, and keeps a list."""

    def __init__(self):
        self.asked = []

    def plan(self, requests):
        return [[dataclasses.replace(r, seeds={index: seed})] for r in requests for index, seed in r.seeds.items()]

    def generate(self, shards, decoding):
        for (request,) in reversed(shards):
            ((index, seed),) = request.seeds.items()
            self.asked.append((request.question_id, index))
            yield Completion(request.question_id, index, f"{seed}", False, decoding.max_new_tokens, seed)


def test_another_engine_is_asked_only_for_what_is_missing(wanted, tmp_path):
    uncut, cut = OneByOne(), OneByOne()
    whole = run(uncut, wanted, tmp_path / "whole.jsonl")
    assert [(c.question_id, c.index) for c in whole] == [(r.question_id, i) for r in wanted for i in r.seeds]
    path = tmp_path / "completions.jsonl"
    stream = cut.generate(cut.plan(wanted), DECODING)
    write_json_lines(path.with_suffix(".part-00003.jsonl"), [next(stream) for _ in range(5)])
    written = list(cut.asked)
    assert run(cut, wanted, path) == whole and path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(cut.asked) == len(set(cut.asked)) == 14 and cut.asked[:5] == written == uncut.asked[:5]


def test_what_is_finished_is_written_before_the_next_is_made(wanted, tmp_path):
    path = tmp_path / "completions.jsonl"
    part, lines = path.with_suffix(".part-00000.jsonl"), []

    class Watched(OneByOne):
        def generate(self, shards, decoding):
            for completion in super().generate(shards, decoding):
                lines.append(part.read_text(encoding="utf-8").count("\n"))
                yield completion

    run(Watched(), wanted, path)
    assert lines == list(range(14))
