"""The head on its own: log-probs of response tokens from hidden states, forward and backward; time and peak memory."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from typing import Any

import torch
from transformers import PreTrainedModel

from aft.scoring.forward import enable_scoring
from aft.scoring.packing import Batch, Item, pack
from aft.scoring.responses import score_responses, to_device
from bars import table
from groups import PAD_ID, Lengths, preference_items
from shapes import SMALL, Shape, build, view
from timing import MB, Settings, added_memory, in_own_process, in_turn, ratios, seconds, summary, without_huge_pages
from variants import CHUNK_BYTES, KEEP_BYTES, PlainRows, plain_rows, plain_scores

TITLE = "Log-probs without the whole logits"
HEAD = dataclasses.replace(SMALL, name="hidden 512, vocabulary 32k", layers=0)  # nothing between embedding and head
TOKENS, RESPONSE_SHARE = 2_048, 0.55

# label, and the most bytes of logits that are kept; None is the plain way
WAYS: dict[str, tuple[str, int | None]] = {
    "whole": ("whole logits", None),
    "recomputed": ("chunks, response positions only, recomputed", 0),
    "kept": ("response positions only, kept", KEEP_BYTES),
    "whole-frozen": ("whole logits, frozen head", None),
    "recomputed-frozen": ("chunks, recomputed, frozen head", 0),
}


def measure(settings: Settings, shape: Shape = HEAD, tokens: int = TOKENS) -> dict[str, Any]:
    """Seconds of each way in turn, and bytes added in a process of its own."""
    request = {"shape": dataclasses.asdict(shape), "tokens": tokens, "threads": settings.threads}
    request["device"] = settings.device
    memory = {way: in_own_process(__file__, {**request, "way": way}, settings) for way in WAYS}
    model = build(shape, torch.float32, settings.device)
    item = make_item(shape, tokens)
    batches = {way: collate(item, way, settings.device) for way in WAYS}
    engines = {way: prepare(model, way) for way in WAYS}
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(settings.repeats + 1):
        for way in in_turn(list(WAYS), turn):
            call = functools.partial(run, engines[way], way, batches[way])
            taken[way].append(seconds(call, settings.device)[0])
    return {
        "shape": dataclasses.asdict(shape),
        "tokens": tokens,
        "response_share": RESPONSE_SHARE,
        "chunk_mb": CHUNK_BYTES / 2**20,
        "seconds": {way: values[1:] for way, values in taken.items()},  # the first warms up
        "bytes": memory,
    }


def make_item(shape: Shape, tokens: int) -> Item:
    """One row of that many tokens, of which the response's share is predicted."""
    response = int(tokens * RESPONSE_SHARE)
    return preference_items([Lengths(tokens - response, (response,))], shape.vocabulary)[0]


def prepare(model: PreTrainedModel, way: str) -> PreTrainedModel:
    """A model of embedding, norm and head for one way; only the head and the norm learn."""
    own = view(model)
    own.get_input_embeddings().weight = torch.nn.Parameter(model.get_input_embeddings().weight, requires_grad=False)
    if way.endswith("frozen"):
        head = own.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach(), requires_grad=False)
    keep = WAYS[way][1]
    if keep is not None:
        enable_scoring(own, chunk_bytes=CHUNK_BYTES, keep_bytes=keep)
    return own


def collate(item: Item, way: str, device: str) -> Batch | PlainRows:
    """What `run` takes."""
    plain = WAYS[way][1] is None
    return to_device(plain_rows([item]) if plain else pack([item], PAD_ID, layout="padded"), torch.device(device))


def run(model: PreTrainedModel, way: str, batch: Batch | PlainRows) -> None:
    """Forward and backward."""
    score = plain_scores if WAYS[way][1] is None else score_responses
    score(model, batch)[0].sum().backward()


def child(request: dict[str, Any]) -> float:
    """Bytes that one pass adds."""
    without_huge_pages()
    torch.set_num_threads(request["threads"])
    shape, way, device = Shape(**request["shape"]), request["way"], request["device"]
    model = prepare(build(shape, torch.float32, device), way)
    run(model, way, collate(make_item(shape, 16), way, device))
    batch = collate(make_item(shape, request["tokens"]), way, device)
    return added_memory(lambda: run(model, way, batch), device)


# ---- reading the figures ----


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    rows = []
    for way, (label, _) in WAYS.items():
        plain = "whole-frozen" if way.endswith("frozen") else "whole"
        faster = ratios(figures["seconds"][plain], figures["seconds"][way])
        taken = summary(figures["seconds"][way])
        rows.append([label, taken.text(unit=" s"), faster.text(unit="×"), f"{figures['bytes'][way] / MB:,.0f} MB"])
    text = (
        f"{figures['shape']['name']}, float32, {figures['tokens']:,} positions of which {figures['response_share']:.0%}"
        f" predict a response token, chunks of {figures['chunk_mb']:.0f} MB; median (range)."
        " Memory is what one pass adds, each in a process of its own."
    )
    return text + "\n\n" + table(["way", "time", "against whole logits", "peak added"], rows)


if __name__ == "__main__":
    print(json.dumps(child(json.load(sys.stdin))))
