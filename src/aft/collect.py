"""Sampling into a file that can be cut at any moment: finished batches are kept, a second run goes on there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .progress import Progress, say
from .records import Completion, json_line, read_completions, write_json_lines
from .sampling import Decoding, Request, plan_batches, sample_batch


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
) -> list[Completion]:
    """All requested completions, by question in the order of `requests`, then index; read from `path` where it exists.

    While it runs, every rank appends its batches to `path`'s part file. The ranks divide the batches among them; the
    result is the same for any number of ranks. Raises nothing of its own; a line cut in the middle is made again.
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
        batches = plan_batches(requests, batch_size)[state.process_index :: state.num_processes]
        _sample_missing(model, tokenizer, batches, decoding, seed_of, part, done, description)
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
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batches: Sequence[Sequence[Request]],
    decoding: Decoding,
    seed_of: Callable[[str, int], int],
    part: Path,
    done: set[tuple[str, int]],
    description: str,
) -> None:
    total = sum(len(request.indices) for batch in batches for request in batch)
    part.parent.mkdir(parents=True, exist_ok=True)
    with Progress(description, total, "completion") as progress, part.open("a", encoding="utf-8") as handle:
        for batch in batches:
            keys = {(request.question_id, index) for request in batch for index in request.indices}
            if keys <= done:
                progress.update(len(keys))
                continue
            # the whole batch again, also where a part of it is there: the last bits of logits depend on the batch
            completions = sample_batch(model, tokenizer, batch, decoding, seed_of)
            lines = [json_line(c) for c in completions if (c.question_id, c.index) not in done]
            handle.write("".join(lines))
            handle.flush()
            tokens = sum(completion.num_tokens for completion in completions)
            progress.update(len(keys), progress.rate(tokens))


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
