"""Scores and gradients of a model whose weights are sharded (FSDP2) over two ranks that have unequal work.

Started as `python -m torch.distributed.run --nproc-per-node 2 tests/sharded_ranks.py FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from aft.errors import AftError
from aft.scoring.forward import enable_scoring
from aft.scoring.layouts import choose_layout, try_layouts
from aft.scoring.packing import pack
from aft.scoring.responses import score_responses
from aft.training.saved import check_saved, trained_scores
from tiny_models import as_entries, checkpoint_activations, random_items, tiny_model
from tiny_trainers import make_trainer

# rank 0 has many tokens and so many chunks of logits, rank 1 few
KINDS = [[None, 1.0, 0.0, 0.0, 1.0, 1.0], [None]]


def items_of(rank: int) -> list:
    """The questions of one rank."""
    return random_items(rank, [KINDS[rank]])


def run(model: torch.nn.Module, items: list, layout: str) -> torch.Tensor:
    """Sums of log-probs, after a backward pass from their sum."""
    seq_logps, _ = score_responses(model, pack(items, 0, layout))
    seq_logps.sum().backward()
    return seq_logps.detach()


def build(*, checkpointed: bool) -> torch.nn.Module:
    """A model with a head of its own, three rows of logits a chunk."""
    model = tiny_model("llama", tie_word_embeddings=False).train()
    if checkpointed:
        checkpoint_activations(model)
    enable_scoring(model, chunk_bytes=4 * 32 * 3)
    return model


def try_in_bfloat16() -> dict:
    """The trial of layouts as configs/accelerate/fsdp2.yaml has the weights: sharded, computing in bfloat16."""
    model, mesh = build(checkpointed=False), init_device_mesh("cpu", (2,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    trial = try_layouts(model, as_entries(items_of(0)), 0, rough=True)
    run(model, items_of(torch.distributed.get_rank()), trial.layout)  # the weights are as they were
    return {"layout": trial.layout, **trial.figures()}


def compare_saved(folder: Path) -> dict:
    """A trainer's sharded model against a whole one with the same weights, as a stage compares what it saved."""
    trainer, mesh = make_trainer(folder / "run", "bcl"), init_device_mesh("cpu", (2,))
    for layer in trainer.model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(trainer.model, mesh=mesh)
    trained = trained_scores(trainer)
    saved = tiny_model()
    enable_scoring(saved)
    check_saved(trained, lambda: saved, torch.device("cpu"), Path("saved"))
    with torch.no_grad():
        saved.lm_head.weight.mul_(2)
    try:
        check_saved(trained, lambda: saved, torch.device("cpu"), Path("saved"))
    except AftError as error:
        return {"precise": trained.precise, "told": str(error)}
    return {}


def main(folder: Path) -> None:
    """Both ranks: shard, choose, score, and write what came out."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    for checkpointed in (False, True):
        model = build(checkpointed=checkpointed)
        mesh = init_device_mesh("cpu", (2,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model.lm_head, mesh=mesh)  # a unit of its own: entering it is a collective operation
        fully_shard(model, mesh=mesh)
        layout, line = choose_layout(model, as_entries(items_of(0)), 0)
        found = run(model, items_of(rank), layout)
        gradients = {name: parameter.grad.full_tensor() for name, parameter in model.named_parameters()}
        if rank == 0:
            what = {"layout": layout, "line": line, "gradients": gradients}
            torch.save(what, folder / f"sharded-{checkpointed}.pt")
        torch.save(found, folder / f"scores-{checkpointed}-{rank}.pt")
    tried, compared = try_in_bfloat16(), compare_saved(folder)
    if rank == 0:
        torch.save(compared, folder / "saved.pt")
        torch.save(tried, folder / "bfloat16.pt")
    torch.distributed.barrier()  # no rank leaves while the other still hears from it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
