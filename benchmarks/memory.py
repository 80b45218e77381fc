"""Peak memory that a step adds to the model and its gradients, each variant in a process of its own."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from typing import Any

import torch

from bars import Bar, table
from groups import Lengths, alignment_items, load_groups, typical_batches
from shapes import LLAMA_1B, SMALL, TINY, Shape, build, that_fits
from timing import MB, Settings, Summary, added_memory, in_own_process, ratios, summary, without_huge_pages
from variants import CHUNK_BYTES, KEPT, NAIVE, PADDED, RECOMPUTED, SHARED, VARIANTS, Engine

TITLE = "Peak activation memory"
GROUPS = 4
MEASURED = (NAIVE, PADDED, SHARED, KEPT, RECOMPUTED)


def measure(settings: Settings, shape: Shape | None = None, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Bytes added by one step on the same batches, for each variant."""
    usual = TINY if settings.smoke else LLAMA_1B if settings.on_gpu else SMALL
    shape = that_fits(shape or usual, settings.device)
    dtype = "bfloat16" if settings.on_gpu else "float32"
    found, source = load_groups()
    # one in the middle: the allocator's count hardly varies, and another batch would cost a minute
    batches = typical_batches(found, GROUPS, 1)
    request = {
        "shape": dataclasses.asdict(shape),
        "dtype": dtype,
        "device": settings.device,
        "threads": settings.threads,
        "batches": [[dataclasses.asdict(group) for group in batch] for batch in batches],
    }
    return {
        "lengths": source,
        "shape": dataclasses.asdict(shape),
        "dtype": dtype,
        "chunk_mb": CHUNK_BYTES / 2**20,
        "groups": GROUPS,
        "bytes": {
            name: in_own_process(__file__, {**request, "variant": name}, settings)
            for name in names or [variant.name for variant in MEASURED]
        },
    }


def child(request: dict[str, Any]) -> list[float]:
    """Bytes that the variant's step adds on each batch of the request."""
    without_huge_pages()
    torch.set_num_threads(request["threads"])
    shape = Shape(**request["shape"])
    model = build(shape, getattr(torch, request["dtype"]), request["device"])
    engine = Engine(model, VARIANTS[request["variant"]])
    # a first step on a few tokens: what the libraries allocate once and for all is not the step's
    warm_up = alignment_items([Lengths(8, (4, 4, 4))], shape.vocabulary)
    engine.step(engine.collate(warm_up))
    added = []
    for turn, groups in enumerate(request["batches"]):
        lengths = [Lengths(group["prompt"], tuple(group["responses"])) for group in groups]
        batch = engine.collate(alignment_items(lengths, shape.vocabulary, seed=turn))
        engine.clear()
        added.append(added_memory(functools.partial(engine.step, batch), request["device"]))
    return added


# ---- reading the figures ----


def less(figures: dict[str, Any] | None, name: str) -> Summary | None:
    """How many times less than naive a variant takes."""
    if figures is None or not {name, NAIVE.name} <= figures["bytes"].keys():
        return None
    return ratios(figures["bytes"][NAIVE.name], figures["bytes"][name])


def bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The CPU's rows of the summary."""
    return [
        Bar("peak activation memory below naive, 4 groups", "≥", 4, less(figures, SHARED.name), "{:.1f}"),
        Bar("the same, with gradient checkpointing", "≥", 15, less(figures, RECOMPUTED.name), "{:.1f}"),
    ]


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    rows = []
    for name, values in figures["bytes"].items():
        found = summary([value / MB for value in values])
        against = less(figures, name)
        rows.append(
            [VARIANTS[name].label, found.text("{:,.0f}", " MB"), against.text("{:.1f}", "×") if against else ""]
        )
    text = (
        f"{figures['shape']['name']}, {figures['dtype']}, {figures['groups']} groups at once, chunks of"
        f" {figures['chunk_mb']:.0f} MB. What the step holds at most beyond the weights, their gradients and the batch,"
        " which were allocated before; the gradients' temporaries are in it. One batch, in the middle of what padding"
        " costs."
    )
    return text + "\n\n" + table(["variant", "peak added", "below naive"], rows)


if __name__ == "__main__":
    print(json.dumps(child(json.load(sys.stdin))))
