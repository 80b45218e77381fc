"""Sampling into a file that can be cut at any moment: finished shards are kept, a second run goes on there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..json_files import json_line, write_json_lines
from ..progress import Progress, say
from ..records import Completion, read_completions
from .decoding import Decoding
from .requests import CONTINUOUS, Request, plan_shards
from .transformers_engine import sample_shard, usable_batching


def collect(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    decoding: Decoding,
    *,
    path: Path,
    seed_of: Callable[[str, int], int],
    batch_size: int,
    description: str,
    batching: str = CONTINUOUS,
) -> list[Completion]:
    """All requested completions, by question in the order of `requests`, then index; read from `path` where it exists.

    While it runs, every rank appends what is finished to `path`'s part file. The ranks divide the shards among them;
    the result is the same for any number of ranks. After a cut, shards that were not finished are sampled again, and so
    is a line that was cut in the middle. Raises nothing of its own.
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
        batching = usable_batching(model, batching)
        shards = plan_shards(requests, batch_size, batching)[state.process_index :: state.num_processes]
        make = functools.partial(
            sample_shard, model, tokenizer, decoding=decoding, seed_of=seed_of, batch_size=batch_size, batching=batching
        )
        _sample_missing(make, shards, part, done, description)
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
    make: Callable[[Sequence[Request]], Iterator[Completion]],
    shards: Sequence[Sequence[Request]],
    part: Path,
    done: set[tuple[str, int]],
    description: str,
) -> None:
    """Append to `part` what `make` gives for shards of which not everything is `done`."""
    total = sum(len(request.indices) for shard in shards for request in shard)
    part.parent.mkdir(parents=True, exist_ok=True)
    with Progress(description, total, "completion") as progress, part.open("a", encoding="utf-8") as handle:
        for shard in shards:
            keys = {(request.question_id, index) for request in shard for index in request.indices}
            if keys <= done:
                progress.skip(len(keys))
                continue
            # the whole shard again, also where a part of it is there: logits' last bits depend on what runs beside
            for completion in make(shard):
                if (completion.question_id, completion.index) not in done:
                    handle.write(json_line(completion))
                    handle.flush()
                progress.update(1, progress.rate(completion.num_tokens))


def _drop_cut_line(part: Path) -> None:
    """Remove a last line that a cut left unfinished."""
    data = part.read_bytes()
    whole, _, rest = data.rpartition(b"\n")
    if rest:
        say(f"{part.name}: the last line was cut while it was written; it is sampled again")
        part.write_bytes(whole + b"\n" if whole else b"")


def _merge(path: Path, requests: Sequence[Request]) -> None:
    parts = _parts(path)
    found = {(c.question_id, c.index): c for part in parts for c in read_completions(part)}
    write_json_lines(path, [found[request.question_id, index] for request in requests for index in request.indices])
    _remove(parts)
