"""DPO on the same groups: TRL's DPOTrainer on pairs against the ranking form on whole groups."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib.util
import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from aft.losses import dpo_loss
from aft.model import build_word_tokenizer
from aft.scoring.packing import Item
from aft.scoring.responses import candidate_scores
from bars import Bar, table
from groups import SAMPLES, load_groups, preference_items, typical_batches
from shapes import LLAMA_1B, SMALL, TINY, Shape, build, clear_gradients, view
from timing import Settings, Summary, in_turn, ratios, seconds, summary
from variants import KEPT, Collated, Engine

TITLE = "Against TRL's DPOTrainer"
RIGHT = 4  # of a group's 7 responses; the other 3 are wrong
BETA = 0.1

# label, the pairs of a group, whether the reference's log-probs are computed once and for all
SETTINGS: dict[str, tuple[str, str, bool]] = {
    "all": ("TRL, all 12 pairs, reference model in the step", "all", False),
    "all-precomputed": ("TRL, all 12 pairs, reference precomputed", "all", True),
    "covering": ("TRL, 4 covering pairs, reference model in the step", "covering", False),
    "covering-precomputed": ("TRL, 4 covering pairs, reference precomputed", "covering", True),
}
OURS = {
    "ours": "question shared, whole group, reference known beforehand",
    "ours-reference": "question shared, whole group, reference pass in the step",
}


def missing() -> str | None:
    """Why this part cannot be measured here, or None."""
    absent = [name for name in ("trl", "datasets") if importlib.util.find_spec(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (pip install -c constraints.txt -e '.[bench]')"
    return None


def measure(settings: Settings, shape: Shape | None = None) -> dict[str, Any]:
    """As `compare`, on a model of this shape and groups with GSM8K's lengths."""
    usual, dtype = (LLAMA_1B, "bfloat16") if settings.on_gpu else (SMALL, "float32")
    shape = shape or (TINY if settings.smoke else usual)
    found, source = load_groups()
    drawn = [batch[0] for batch in typical_batches(found, 1, settings.repeats)]
    items = preference_items(drawn, shape.vocabulary, right=RIGHT)
    model = build(shape, getattr(torch, dtype), settings.device)
    return {"lengths": source, "dtype": dtype, "shape": dataclasses.asdict(shape), **compare(model, items, settings)}


def compare(
    model: PreTrainedModel, items: Sequence[Item], settings: Settings, *, names: Sequence[str] = tuple(SETTINGS)
) -> dict[str, Any]:
    """Seconds of a step of one group for each way, and of the pass that makes the reference's scores beforehand.

    `names`: of TRL's settings.
    """
    import trl

    os.environ["TQDM_DISABLE"] = "1"
    ours = Ours(model)
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: Theirs(model, items, folder, *SETTINGS[name][1:]) for name in names}
        _warm_up(ours, trainers, items)
        groups = [_measure_group(ours, trainers, item, number, settings) for number, item in enumerate(items)]
    return {"trl": trl.__version__, "groups": groups}


def _warm_up(ours: Ours, trainers: dict[str, Theirs], items: Sequence[Item]) -> None:
    """One step of each; both sides must give the responses the same log-probs."""
    expected = ours.step(ours.engine.collate(items[:1]), ours.reference(ours.engine.collate(items[:1])))
    for trainer in trainers.values():
        trainer.step(trainer.collate(0))
        chosen = torch.tensor([expected[pair[0]] for pair in trainer.pairs(items[0])]).mean().item()
        allowed = 1e-4 if ours.model.dtype == torch.float32 else 0.02
        if abs(chosen - trainer.chosen_logps()) > allowed * abs(chosen):
            raise SystemExit(f"trl gives the chosen responses {trainer.chosen_logps()} nats, we give them {chosen}")


def _measure_group(
    ours: Ours, trainers: dict[str, Theirs], item: Item, number: int, settings: Settings
) -> dict[str, Any]:
    batch = ours.engine.collate([item])
    once, scores = seconds(lambda: ours.reference(batch), settings.device)
    taken = {"reference pass": once}
    calls: dict[str, Callable[[], Any]] = {
        name: functools.partial(trainer.step, trainer.collate(number)) for name, trainer in trainers.items()
    }
    calls["ours"] = lambda: ours.step(batch, scores)
    calls["ours-reference"] = lambda: ours.step(batch, ours.reference(batch))
    for name in in_turn(list(calls), number):
        clear_gradients(ours.model)
        taken[name] = seconds(calls[name], settings.device)[0]
    return {"unique": batch.processed, "seconds": taken}


class Ours:
    """The library's own DPO step: all responses of a group in one packed row, all comparisons in its loss."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.engine = Engine(model, KEPT)

    def step(self, batch: Collated, reference: torch.Tensor) -> list[float]:
        """Forward and backward; the summed log-probs of the responses, nats."""
        seq_logps, lengths = self.engine.score(batch)
        scores = candidate_scores(seq_logps, torch.ones_like(lengths), batch.whole)  # sums, as in DPO's own loss
        whole = batch.whole
        mask = whole["candidate_mask"]
        per_group, _ = dpo_loss(scores, whole["ratings"], ref_scores=reference, candidate_mask=mask, beta=BETA)
        per_group.mean().backward()
        return seq_logps.tolist()

    @torch.no_grad()
    def reference(self, batch: Collated) -> torch.Tensor:
        """The reference's summed log-probs (B, G). The reference is the model as it is before training."""
        seq_logps, lengths = self.engine.score(batch)
        return candidate_scores(seq_logps, torch.ones_like(lengths), batch.whole)


class Theirs:
    """A DPOTrainer on the pairs of the groups, one group a step, with the settings that cost it least."""

    def __init__(
        self, model: PreTrainedModel, items: Sequence[Item], folder: str, which: str, precomputed: bool
    ) -> None:
        import datasets
        import trl

        class TokenisedTrainer(trl.DPOTrainer):
            """The pairs come as token ids."""

            def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
                return dataset

        self.which = which
        rows = [_row(item, pair) for item in items for pair in self.pairs(item)]
        self.per_group = len(rows) // len(items)
        arguments = trl.DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=self.per_group,
            beta=BETA,
            precompute_ref_log_probs=precomputed,
            # each of these would only slow it down or cut responses short
            gradient_checkpointing=False,
            bf16=False,
            max_length=None,
            use_cpu=model.device.type == "cpu",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        self.trainer = TokenisedTrainer(
            model=view(model),
            ref_model=None if precomputed else _frozen_copy(model),
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=build_word_tokenizer(["word"]),
        )
        self.trainer.model.train()
        self.trainer.current_gradient_accumulation_steps = 1  # as its training loop sets it

    def pairs(self, item: Item) -> list[tuple[int, int]]:
        """(right, wrong) indices of responses: all, or as few as put every response in one."""
        right = [index for index, rating in enumerate(item.ratings) if rating]
        wrong = [index for index, rating in enumerate(item.ratings) if not rating]
        if self.which == "all":
            return list(itertools.product(right, wrong))
        return [(better, wrong[place % len(wrong)]) for place, better in enumerate(right)]

    def collate(self, group: int) -> dict[str, torch.Tensor]:
        """The batch of one group's pairs, as its data loader hands it over."""
        rows = range(group * self.per_group, (group + 1) * self.per_group)
        inputs: dict[str, torch.Tensor] = self.trainer.data_collator([self.trainer.train_dataset[row] for row in rows])
        return inputs

    def step(self, inputs: dict[str, torch.Tensor]) -> None:
        """Forward and backward, as its training loop does them."""
        self.trainer.training_step(self.trainer.model, inputs)

    def chosen_logps(self) -> float:
        """Mean summed log-prob of the chosen responses in the last step, nats."""
        return self.trainer._metrics["train"]["logps/chosen"][-1]


def _frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A reference model with weights of its own, as a user has it."""
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    frozen.zero_grad(set_to_none=True)
    return frozen


def _row(item: Item, pair: tuple[int, int]) -> dict[str, list[int]]:
    chosen, rejected = pair
    return {
        "prompt_ids": item.prompt_ids,
        "chosen_ids": item.responses[chosen],
        "rejected_ids": item.responses[rejected],
    }


# ---- reading the figures ----


def speed(figures: dict[str, Any] | None, theirs: str, ours: str = "ours") -> Summary | None:
    """How many times faster, over the groups."""
    if figures is None:
        return None
    return ratios(*([group["seconds"][name] for group in figures["groups"]] for name in (theirs, ours)))


def bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The rows of the summary."""
    return [
        Bar("TRL's DPOTrainer, all pairs with reference", "≥", 7.5, speed(figures, "all")),
        Bar("TRL's DPOTrainer, all pairs, reference precomputed", "≥", 5.5, speed(figures, "all-precomputed")),
        Bar("TRL's DPOTrainer, covering pairs, reference precomputed", "≥", 2, speed(figures, "covering-precomputed")),
    ]


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    rows = []
    for name, label in [*((name, row[0]) for name, row in SETTINGS.items()), *OURS.items()]:
        taken = summary([group["seconds"][name] for group in figures["groups"]])
        faster = [speed(figures, name, ours) if name in SETTINGS else None for ours in OURS]
        against = [each.text(unit="×") if each else "" for each in faster]
        rows.append([label, taken.text("{:.3g}", " s"), *against])
    once = summary([group["seconds"]["reference pass"] for group in figures["groups"]])
    text = (
        f"TRL {figures['trl']}, {figures['shape']['name']}, {figures.get('dtype', 'float32')}, one group a step:"
        f" {SAMPLES + 1} responses, {RIGHT} right."
        f" Forward and backward. TRL: its `training_step` on its own collated batch, without gradient checkpointing,"
        f" mixed precision or truncation. Its log-probs are chunked, and its `padding_free` is switched off in that"
        f" version. Both sides gave the responses the same log-probs. Our reference pass, once for all epochs, takes"
        f" {once.text('{:.3g}', ' s')} a group."
    )
    header = ["way", "time", "we are faster", "with our reference pass in every step"]
    return text + "\n\n" + table(header, rows)
