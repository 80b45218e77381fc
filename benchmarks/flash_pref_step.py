"""The alignment step with flash-pref's shared prefix, in an interpreter of its own: `rivals.py` starts it.

It needs torch, transformers as flash-pref wants it, flash-attn and flash-pref. Of this package it imports `aft.losses`,
which needs torch alone. Reads one JSON request and prints one JSON line. The loss must be that of the same model
without sharing. Without `shared`, the step is computed without flash-pref.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from aft.losses import alignment_loss


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    model = build(request)
    shared_prefix = None
    if request["shared"]:
        from flash_pref import shared_prefix
    found = []
    for groups in request["batches"]:
        rows = padded(groups, request["device"])
        once = step(model, groups, rows, shared_prefix)  # its libraries meet a new size slowly
        model.zero_grad(set_to_none=False)
        wait(request["device"])
        begun = time.perf_counter()
        loss = step(model, groups, rows, shared_prefix)
        wait(request["device"])
        taken = time.perf_counter() - begun
        model.zero_grad(set_to_none=False)
        plain = step(model, groups, rows, None)
        model.zero_grad(set_to_none=False)
        if not abs(loss - plain) <= 0.02 * abs(plain) or once != once:
            raise SystemExit(f"with the prefix shared the loss is {loss}, without {plain}")
        unique = sum(len(prompt) + sum(map(len, responses)) for prompt, responses in groups)
        processed = unique if shared_prefix else rows["input_ids"].numel()
        found.append({"seconds": taken, "processed": processed, "loss": loss})
    print(json.dumps({"batches": found}))


def build(request: dict[str, Any]) -> torch.nn.Module:
    """The model of a shape, with random weights and zero gradients."""
    shape = request["shape"]
    config = LlamaConfig(
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        intermediate_size=shape["ffn"],
        vocab_size=shape["vocabulary"],
        tie_word_embeddings=shape["tied"],
        max_position_embeddings=4096,
        use_cache=False,
    )
    torch.manual_seed(0)
    dtype = getattr(torch, request["dtype"])
    attention = "flash_attention_2" if request["shared"] else "sdpa"
    with torch.device(request["device"]):
        model = AutoModelForCausalLM.from_config(config, torch_dtype=dtype, attn_implementation=attention)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return model.train()


def padded(groups: list[Any], device: str) -> dict[str, Tensor]:
    """Rows of question and response, group after group, padded on the right; the mask of responses."""
    rows = [(prompt, response) for prompt, responses in groups for response in responses]
    width = max(len(prompt) + len(response) for prompt, response in rows)
    ids, mask, answers = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    for row, (prompt, response) in enumerate(rows):
        length = len(prompt) + len(response)
        ids[row, :length] = torch.tensor(prompt + response)
        mask[row, :length] = 1
        answers[row, len(prompt) : length] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "answers": answers.to(device)}


def step(model: torch.nn.Module, groups: list[Any], rows: dict[str, Tensor], shared_prefix: Any) -> float:
    """Forward and backward; the loss."""
    inputs = {name: rows[name] for name in ("input_ids", "attention_mask")}
    size = len(groups[0][1])
    sharing = shared_prefix(model, group_size=size, **inputs) if shared_prefix else contextlib.nullcontext()
    with sharing:
        logits = model(**inputs).logits[:, :-1]
        answers = rows["answers"][:, 1:].bool()
        targets = rows["input_ids"][:, 1:][answers]
        logps = logits[answers].float().log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
        owner = answers.nonzero()[:, 0]
        sums = logps.new_zeros(len(answers)).index_add(0, owner, logps).view(len(groups), size)
        lengths = answers.sum(1).view(len(groups), size)
        vft = -sums[:, 0].sum() / lengths[:, 0].sum()  # the first response is the reference
        scores = sums[:, 1:] / lengths[:, 1:]
        ratings = torch.tensor([float(place % 2 == 0) for place in range(size - 1)], device=scores.device)
        loss = vft + alignment_loss(scores, ratings.expand_as(scores))[0].mean()
        loss.backward()
    return float(loss.detach())


def wait(device: str) -> None:
    """Until the device has done what is queued."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
