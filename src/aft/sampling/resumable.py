"""Samples into a file. If sampling is interrupted, the file keeps what was written, and a second run resumes there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from ..json_files import LineWriter, write_bytes, write_json_lines
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
    a cut, unfinished shards are sampled again, and so is a line that was cut in the middle. `description` stands
    beside the progress. Raises `DiskError`.
    """
    state = PartialState()
    parts = _parts(path)
    if not path.exists():
        part = path.with_suffix(f".part-{state.process_index:05d}.jsonl")
        if state.is_main_process:
            for earlier in parts:
                _drop_cut_line(earlier)
        state.wait_for_everyone()
        done = {(c.question_id, c.index) for earlier in parts for c in read_completions(earlier)}
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
    data = part.read_bytes()
    whole, _, rest = data.rpartition(b"\n")
    if rest:
        say(f"{part.name}: the last line was cut while it was written; it is sampled again")
        write_bytes(part, whole + b"\n" if whole else b"")


def _merge(path: Path, requests: Sequence[Request]) -> None:
    parts = _parts(path)
    found = {(c.question_id, c.index): c for part in parts for c in read_completions(part)}
    write_json_lines(path, [found[request.question_id, index] for request in requests for index in request.seeds])
    _remove(parts)
