"""Trains, scores and samples as one of several ranks; `test_two_ranks.py` compares what comes out with one rank's.

Started as `python -m torch.distributed.run --nproc-per-node 2 tests/two_ranks.py FOLDER`.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback

from aft.config.losses import AlignmentLoss, ControlledConstraint
from aft.ending import Ended, deferring, listening
from aft.errors import AftError
from aft.sampling.decoding import Decoding
from aft.sampling.requests import Request, make_seeds
from aft.sampling.resumable import collect
from aft.sampling.transformers_engine import TransformersEngine
from aft.scoring.batching import Packer, StepSampler, entry_loader
from aft.scoring.packing import SHARED, Item
from aft.scoring.responses import score_candidates
from aft.stages.loss_section import make_objective
from aft.training.ranks import share_step
from tiny_models import as_entries, tiny_model, word_tokenizer
from tiny_trainers import OBJECTIVES, initial_scores, items_for, logged, make_trainer

STEP = 8
NAMES = ("rft", "rft-question-mean", "vft-token-sum", "bcl", "dcl-mean-with-pair", "one-pair", "controlled")
# a single question with a pair: of each step's ranks one has none, and one step has none at all
ONE_PAIR: list[list[float | None]] = [
    [None, 1.0, 0.0],
    *[[None, 1.0], [None], [0.0, 0.0], [None, 0.0], [None, 1.0]] * 2,
]


def train(folder: Path, name: str, world_size: int) -> None:
    """Three steps of eight questions out of eleven; one question a batch, where the last leaves a rank without one."""
    objective = "bcl" if name in ("one-pair", "controlled") else name
    controlled = AlignmentLoss(constraint=ControlledConstraint("controlled", rate=5.0))
    items = items_for(objective, ONE_PAIR if name == "one-pair" else None)
    trainer = make_trainer(
        folder / "run",
        objective,
        items=items,
        dtype=torch.float64,
        max_steps=3,
        per_device_train_batch_size=STEP // world_size if name == "bcl" else 1,
        per_device_eval_batch_size=2,
        gradient_accumulation_steps=1 if name == "bcl" else STEP // world_size,
        job={
            "eval_entries": as_entries(items),
            # calls of the model by tokens: ranks have unequal numbers of their own, and must make equally many
            "max_tokens": 40 if name == "bcl" else None,
            **({"objective": make_objective(controlled, "token_mean")} if name == "controlled" else {}),
            "initial_scores": None if OBJECTIVES[objective][0].loss is None else lambda t: t.score_candidates(),
        },
    )
    trainer.train()
    evaluated = trainer.evaluate()
    if trainer.is_world_process_zero():
        torch.save(trainer.model.state_dict(), folder / f"{name}.pt")
        report = {"log": logged(trainer), "eval_loss": evaluated["eval_loss"], "initial": initial_scores(trainer)}
        (folder / f"{name}.json").write_text(json.dumps(report))


class Signal(TrainerCallback):
    """A signal to each rank that ends a training behind its third step."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """In the third step, one rank."""
        if state.global_step == 2 and args.world_size == 1:
            signal.raise_signal(signal.SIGTERM)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before it several ranks, which agree at the beginning of a step."""
        if state.global_step == 2 and args.world_size > 1:
            signal.raise_signal(signal.SIGTERM)


def go_on(folder: Path, world_size: int, name: str, began: int, start: Path | None = None) -> None:
    """Four steps of eight questions with Adam, which log twice. `began`: the ranks that began them.

    `name`: "whole", "cut" for a signal between the two logs, or "resumed" for the rest from the checkpoint in `start`.
    """
    keys = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 8 // 4 // began}
    trainer = make_trainer(
        folder / name,
        "bcl",
        dtype=torch.float64,
        max_steps=4,
        logging_steps=2,
        optim="adamw_torch",
        save_strategy="steps",
        save_steps=100,
        **{**keys, **(share_step(keys, began, world_size) or {})},
    )
    if name == "cut":
        trainer.add_callback(Signal())
    try:
        with listening(), deferring():
            trainer.train(resume_from_checkpoint=str(start / "cut" / "checkpoint-3") if start else None)
    except Ended:
        assert name == "cut"
    if trainer.is_world_process_zero():
        torch.save(trainer.model.state_dict(), folder / f"{name}.pt")
        (folder / f"{name}.json").write_text(json.dumps(logged(trainer)))


def sample(folder: Path) -> None:
    """Sampling into one file."""
    requests = [
        Request(item.question_id, tuple(item.prompt_ids), make_seeds(item.question_id, (0, 1), "test"))
        for item in items_for("bcl")
    ]
    engine = TransformersEngine(tiny_model(), word_tokenizer(), batch_size=4)
    collect(engine, requests, Decoding(10), path=folder / "completions.jsonl", description="sample")


def score(folder: Path, rank: int, world_size: int) -> None:
    """Scoring without a trainer, as evaluation does."""
    trainer = make_trainer(folder / "run", "bcl")
    entries = as_entries(items_for("bcl"))
    sampler = StepSampler(entries, Packer(0, SHARED), 2, rank=rank, num_ranks=world_size, shuffle=False)
    loader = entry_loader(sampler)
    scores = score_candidates(trainer.model, loader, lambda batch: batch)
    (folder / f"scores-{rank}.json").write_text(json.dumps(scores, sort_keys=True))


def break_down(folder: Path, question_id: str, rank: int) -> None:
    """A loss that is not finite for one question, and so on one rank alone."""
    items = [
        Item(f"q{number}", [3, 4], [[31 if f"q{number}" == question_id else 5, 1]], [True], [None])
        for number in range(4)
    ]
    trainer = make_trainer(folder / "run", "vft", items=items, max_steps=1, gradient_accumulation_steps=2)
    with torch.no_grad():
        trainer.model.model.embed_tokens.weight[31] = math.nan
    try:
        trainer.train()
    except AftError as error:
        (folder / f"stopped-{rank}.txt").write_text(str(error))
        raise
    (folder / "trained.txt").touch()


def main(folder: Path, broken_question: str | None = None, start: str | None = None) -> None:
    """Everything in turn, or only what is to fail. `start`: the folder of one rank, whose training is gone on with."""
    state = PartialState(cpu=True)
    if broken_question:
        break_down(folder, broken_question, state.process_index)
    go_on(folder, state.num_processes, "cut", state.num_processes)
    if start:
        go_on(folder, state.num_processes, "resumed", 1, Path(start))
    for name in NAMES:
        train(folder, name, state.num_processes)
    sample(folder)
    score(folder, state.process_index, state.num_processes)
    state.wait_for_everyone()
    state.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
