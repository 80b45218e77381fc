"""Samples into a file. If sampling is interrupted, the file keeps what was written, and a second run resumes there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from ..json_files import LineWriter, cut_line, write_bytes, write_json_lines
from ..progress import Progress, say
from ..records import Completion, read_completions
from .decoding import Decoding
from .engine import Engine
from .requests import Request


def collect(
    engine: Engine, requests: Sequence[Request], decoding: Decoding, *, path: Path, description: str
) -> list[Completion]:
    """All requested completions, by question in the order of `requests`, then index; read from `path` if it exists.

    All ranks call this together. While it runs, every rank appends what is finished to a part file of its own beside
    `path`. The ranks divide the engine's shards among them, and the result is the same for any number of ranks. After
    a cut, unfinished shards are sampled again, and so is a line that was cut in the middle. What is there counts if it
    was requested with its seed; a file at `path` that lacks a completion is completed. `description` stands beside the
    progress. Raises `DataError` for a damaged line that is not the last, and `DiskError`.
    """
    state = PartialState()
    if state.is_main_process:
        _reopen(path, requests)
    state.wait_for_everyone()
    parts = _parts(path)
    if not path.exists():
        part = path.with_suffix(f".part-{state.process_index:05d}.jsonl")
        if state.is_main_process:
            for earlier in parts:
                _drop_cut_line(earlier)
        state.wait_for_everyone()
        done = set(_requested(requests, [c for earlier in parts for c in read_completions(earlier, once=False)]))
        state.wait_for_everyone()
        shards = engine.plan(requests)[state.process_index :: state.num_processes]
        _sample_missing(engine, shards, decoding, part=part, done=done, description=description)
        state.wait_for_everyone()
        if state.is_main_process:
            _merge(path, requests)
        state.wait_for_everyone()
    elif state.is_main_process:
        # a run that was cut right after the merge
        _remove(parts)
    return read_completions(path)


def _requested(requests: Sequence[Request], completions: Sequence[Completion]) -> dict[tuple[str, int], Completion]:
    """The completions that were requested with their seed, by question and index."""
    seeds = {(request.question_id, index): seed for request in requests for index, seed in request.seeds.items()}
    return {(c.question_id, c.index): c for c in completions if seeds.get((c.question_id, c.index)) == c.seed}


def _reopen(path: Path, requests: Sequence[Request]) -> None:
    """Makes a part file of a file that does not have every requested completion exactly once."""
    if not path.exists():
        return
    _drop_cut_line(path)
    completions, wanted = read_completions(path, once=False), sum(len(request.seeds) for request in requests)
    found = _requested(requests, completions)
    if len(found) == len(completions) == wanted:
        return
    say(f"{path}: has {len(found):,} of {wanted:,} requested completions; the others are sampled again")
    number = next(n for n in range(10**5) if not path.with_suffix(f".part-{n:05d}.jsonl").exists())
    path.rename(path.with_suffix(f".part-{number:05d}.jsonl"))


def _parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}.part-*.jsonl"))


def _remove(parts: Sequence[Path]) -> None:
    for part in parts:
        part.unlink()


def _sample_missing(
    engine: Engine,
    shards: Sequence[Sequence[Request]],
    decoding: Decoding,
    *,
    part: Path,
    done: set[tuple[str, int]],
    description: str,
) -> None:
    """Append to `part` the completions that are not `done`, from all shards that hold one."""
    unfinished = [shard for shard in shards if not _keys(shard) <= done]
    total, missing = (sum(len(_keys(shard)) for shard in some) for some in (shards, unfinished))
    with Progress(description, total, "completion") as progress, LineWriter(part, "the completions") as lines:
        if missing < total:
            progress.skip(total - missing)
        for completion in engine.generate(unfinished, decoding):
            if (completion.question_id, completion.index) not in done:
                lines.write(completion)
            progress.update(1, progress.rate(completion.num_tokens))


def _keys(shard: Sequence[Request]) -> set[tuple[str, int]]:
    return {(request.question_id, index) for request in shard for index in request.seeds}


def _drop_cut_line(part: Path) -> None:
    """Remove a last line that a cut left unfinished."""
    if cut_line(part) is not None:
        say(f"{part.name}: the last line was cut while it was written; it is sampled again")
        data = part.read_bytes().removesuffix(b"\n")
        write_bytes(part, data[: data.rfind(b"\n") + 1])


def _merge(path: Path, requests: Sequence[Request]) -> None:
    parts = _parts(path)
    found = _requested(requests, [c for part in parts for c in read_completions(part, once=False)])
    write_json_lines(path, [found[request.question_id, index] for request in requests for index in request.seeds])
    _remove(parts)
