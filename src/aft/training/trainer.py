"""The trainer of every stage: L_VFT on supervised responses plus a term on each question's candidates.

A subclass of `transformers.Trainer`, for its loop, checkpoints, resume, sharding, trackers and callbacks. Ours: the
loss, its normalisation over the whole optimizer step, and what is logged. It knows no loss by name.

Axes: `B` questions in the batch, `G` candidate slots per question, `N` responses in the batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)

from ..errors import AftError
from ..progress import say
from ..scoring.batching import Packer, StepSampler, entry_loader
from ..scoring.layouts import choose_layout
from ..scoring.packing import Entry
from ..scoring.responses import Scores, as_groups, candidate_scores, score_candidates, score_responses
from .callbacks import BeforeTraining, LogAtStops, ShowProgress
from .objective import Objective
from .score_log import ScoreLog
from .sharding import keep_output_precision, more_to_come

# What an optimizer step is normalised by, in the order of the vector that `_count` makes.
_TOTALS = ("tokens", "sequences", "groups", "groups_with_pair")


class AftTrainer(Trainer):
    """Trains on entries, each a question; each term is divided by its own count over all the step's batches and ranks.

    `validate(model)` may add metrics, named without prefix, to every evaluation. With `initial_scores`, the mean score
    of each candidate before training, the drift of positive and negative scores is logged.
    """

    control: TrainerControl

    def __init__(
        self,
        *,
        model: torch.nn.Module,
        args: TrainingArguments,
        entries: Sequence[Entry],
        objective: Objective,
        tokenizer: PreTrainedTokenizerBase,
        eval_entries: Sequence[Entry] = (),
        validate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
        initial_scores: Callable[[AftTrainer], Scores] | None = None,
        description: str = "train",
        layout: str = "auto",
        max_tokens: int | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        config: Any = model.config
        use_cache = getattr(config, "use_cache", None)
        super().__init__(
            model=model,
            args=args,
            train_dataset=entries,
            eval_dataset=entries if validate and not eval_entries else (eval_entries or None),
            processing_class=tokenizer,
            callbacks=[BeforeTraining(self._begin), LogAtStops(), ShowProgress(description), *callbacks],
        )
        # progress and the log say it already
        self.remove_callback(PrinterCallback)
        # transformers turns the cache off in the model's configuration, and a checkpoint would keep that
        config.use_cache = use_cache
        self.entries, self.eval_entries = entries, eval_entries
        self.objective, self.validate = objective, validate
        self._take_initial_scores = initial_scores
        self.initial_scores: Scores | None = None
        keep_output_precision(self.accelerator)
        # our loss is normalised over the accumulated batch already
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        pad = tokenizer.pad_token_id
        self.packer = Packer(tokenizer.eos_token_id if pad is None else pad, max_tokens=max_tokens)
        self._wanted_layout, self._description = layout, description
        self._logged: dict[str, float] = defaultdict(float)
        self._scores = ScoreLog(objective.statistics, objective.displacement)
        self._steps_logged = 0
        self._step_questions: list[str] = []

    def _begin(self, step: int) -> None:
        self._steps_logged = step
        self.choose_layout()
        if self._take_initial_scores is not None:
            self.initial_scores = self._take_initial_scores(self)

    def choose_layout(self) -> None:
        """Find out how batches can be laid out for this model; says so where a question is not computed once."""
        types = {parameter.dtype for parameter in self.model.parameters() if parameter.is_floating_point()}
        sixteen = self.args.bf16 or self.args.fp16 or not types <= {torch.float32, torch.float64}
        rough = sixteen or (self.args.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32)
        self.packer.layout, line = choose_layout(
            self.model_wrapped,
            self.entries,
            self.packer.pad_id,
            wanted=self._wanted_layout,
            rough=rough,
            prepare=self._prepare_inputs,
        )
        lines = [line] if line else []
        if sixteen and self.is_deepspeed_enabled:
            lines.append("DeepSpeed holds and saves its weights in sixteen bits; the optimizer's copies are float32")
        for line in lines:
            say(f"{self._description}: {line}")

    # ---- data ----

    def get_train_dataloader(self) -> DataLoader:
        """Batches of questions; ranks share each step's questions without repeating or dropping one."""
        # transformers' seed governs initialisation; the order of the data is ours
        return self._loader(self.entries, self._train_batch_size, shuffle=True)

    def _loader(self, entries: Sequence[Entry], batch_size: int, *, shuffle: bool) -> DataLoader:
        sampler = StepSampler(
            entries,
            self.packer,
            batch_size,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            rank=self.args.process_index,
            num_ranks=self.args.world_size,
            shuffle=shuffle,
        )
        return entry_loader(sampler, pin_memory=self.args.device.type == "cuda")

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Tensor]:
        """The micro-batches of one optimizer step, and the counts over all of them and all ranks."""
        batches = []
        for _ in range(num_batches):
            batch = next(epoch_iterator, None)
            if batch is not None:
                batches.append(batch)
        parts = [part for batch in batches for part in batch["parts"]]
        self._step_questions = [question_id for part in parts for question_id in part["question_ids"]]
        totals = self._count(parts).to(device)
        return batches, self.accelerator.reduce(totals, reduction="sum")

    def _count(self, batches: Sequence[dict[str, Any]]) -> Tensor:
        totals = torch.zeros(len(_TOTALS), dtype=torch.float64 if self.args.device.type == "cpu" else torch.float32)
        for batch in batches:
            supervised, mask = batch["supervised"], batch["candidate_mask"]
            real = mask.any(dim=1)  # an item without candidates is no group
            groups = with_pair = real.sum()
            if self.objective.with_pair is not None:
                with_pair = self.objective.with_pair(batch["ratings"], mask).sum()
            counts = (supervised[batch["sequences"]].sum(), supervised.sum(), groups, with_pair)
            totals += torch.stack(counts).to(totals)
        return totals

    # ---- loss ----

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | None = None
    ) -> Tensor:
        """Forward and backward of every part of the batch."""
        *earlier, last = inputs["parts"]
        losses = []
        for part in earlier:
            with more_to_come(self.accelerator, model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        losses.append(super().training_step(model, last, num_items_in_batch))
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """This part's share of the step's loss; shares add up over parts, micro-batches and ranks."""
        if num_items_in_batch is None:
            num_items_in_batch = self._count([inputs]).to(self.args.device)
        vft, align = self.loss_terms(model, inputs, num_items_in_batch)
        loss = vft + self.objective.weight * align
        self._stop_if_not_finite(vft, align, inputs["question_ids"])
        if model.training:
            self._logged["loss/vft"] += vft.detach().item()
            if self.objective.loss is not None:
                self._logged["loss/align"] += align.detach().item()
        # ranks' gradients are averaged, but the shares must be summed
        loss = loss.float() * self.args.world_size
        return (loss, {}) if return_outputs else loss

    def loss_terms(self, model: torch.nn.Module, batch: dict[str, Any], totals: Tensor) -> tuple[Tensor, Tensor]:
        """(L_VFT, L_A) of a part of a batch, each divided by its count in `totals`; differentiable zeros if empty."""
        seq_logps, lengths = score_responses(model, batch)
        tokens, sequences, groups, with_pair = totals.unbind()
        supervised = batch["supervised"]
        count = tokens if self.objective.vft_reduction == "token_mean" else sequences
        # masked before summing: a response outside L_VFT must not turn it into nan
        vft = -torch.where(supervised, seq_logps, 0.0).sum() / count.clamp(min=1)
        align = vft.new_zeros(())
        if self.objective.loss is not None:
            scores = candidate_scores(seq_logps, lengths, batch)
            before = self._scores_before(scores, batch) if self.objective.needs_reference else None
            per_group = self.objective.of_groups(scores, as_groups(lengths.to(scores), batch), before, batch)
            count = {"mean": groups, "mean_with_pair": with_pair, "sum": torch.ones_like(groups)}[
                self.objective.reduction
            ]
            align = per_group.sum() / count.clamp(min=1)
            if model.training:
                known = self.initial_scores is not None
                self._scores.note(scores.detach(), self._scores_before(scores, batch) if known else None, batch)
        return vft, align

    def _stop_if_not_finite(self, vft: Tensor, align: Tensor, question_ids: list[str]) -> None:
        if torch.isfinite(vft + align):
            return
        terms = {"loss/vft": vft, "loss/align": align}
        bad = [f"{name} is {value.item()}" for name, value in terms.items() if not torch.isfinite(value)]
        raise self._not_finite(" and ".join(bad), question_ids)

    def _not_finite(self, what: str, question_ids: list[str]) -> AftError:
        shown = ", ".join(question_ids[:8]) + (" …" if len(question_ids) > 8 else "")
        return AftError(
            f"step {self.state.global_step + 1}: {what}; the model was not updated. Questions: {shown}."
            " Lower training.learning_rate, set training.max_grad_norm, or resume from the last checkpoint."
        )

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """transformers' norm of the step's gradient, taken right before the update: a finite loss may have none.

        DeepSpeed has taken the step by then, or left it out: its norm of a step that is left out is infinite.
        """
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # the scaler of fp16 leaves out such a step by itself
        scaled = getattr(self.accelerator, "scaler", None) is not None
        scaled |= self.is_deepspeed_enabled and self.deepspeed.fp16_enabled()
        if norm is not None and not scaled and not math.isfinite(float(norm)):
            raise self._not_finite(f"the gradient's norm is {float(norm)}", self._step_questions)
        return norm

    # ---- what is logged ----

    def _scores_before(self, scores: Tensor, batch: dict[str, Any]) -> Tensor:
        """Scores (B, G) of the batch's candidates before training, constant, zero in padding slots."""
        assert self.initial_scores is not None
        before = torch.zeros_like(scores)
        for row, question_id in enumerate(batch["question_ids"]):
            if batch["candidate_mask"][row].any():
                values = self.initial_scores[question_id]
                before[row, : len(values)] = torch.tensor(values, dtype=scores.dtype, device=scores.device)
        return before

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds our terms to what transformers logs: means over the steps since the last log, over all ranks."""
        if "loss" in logs:
            logs.update(self._step_metrics())
        super().log(logs, start_time)

    def _step_metrics(self) -> dict[str, float]:
        steps = self.state.global_step - self._steps_logged
        self._steps_logged = self.state.global_step
        names = ["loss/vft"] + (["loss/align"] if self.objective.loss is not None else [])
        sums = torch.tensor([self._logged[name] for name in names], device=self.args.device)
        sums = self.accelerator.reduce(sums, reduction="sum")
        metrics = {name: value / max(steps, 1) for name, value in zip(names, sums.tolist(), strict=True)}
        # transformers averages the loss over ranks; the shares were scaled for that, so "loss" needs no change
        self._logged.clear()
        return {**metrics, **self._scores.metrics(self._reduce_statistics, steps)}

    def _reduce_statistics(self, statistics: Tensor) -> Tensor:
        # float64 is not to be had on every accelerator
        kind = torch.float64 if self.args.device.type in ("cpu", "cuda") else torch.float32
        return self.accelerator.reduce(statistics.to(self.args.device, kind), reduction="sum")

    # ---- evaluation while training ----

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """L_VFT (exact token mean) over the evaluation items, and what `validate` measures."""
        was_training = self.model_wrapped.training
        self.model_wrapped.eval()
        metrics: dict[str, float] = {}
        if self.eval_entries:
            sums = torch.zeros(2, device=self.args.device)
            loader = self._loader(self.eval_entries, self.args.per_device_eval_batch_size, shuffle=False)
            for part in (part for batch in loader for part in batch["parts"]):
                batch = self._prepare_inputs(part)
                seq_logps, lengths = score_responses(self.model_wrapped, batch)
                supervised = batch["supervised"]
                sums += torch.stack([-seq_logps[supervised].sum(), lengths[supervised].sum().to(seq_logps)])
            total, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
            metrics[f"{metric_key_prefix}_loss"] = total / max(tokens, 1)
        if self.validate is not None:
            for name, value in self.validate(self.accelerator.unwrap_model(self.model_wrapped)).items():
                metrics[f"{metric_key_prefix}_{name}"] = value
        self.model_wrapped.train(was_training)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def score_candidates(self) -> Scores:
        """Mean log-prob (nats per token) of every candidate under the model as it is, by question."""
        loader = self._loader(self.entries, self.args.per_device_eval_batch_size, shuffle=False)
        return score_candidates(self.model_wrapped, loader, self._prepare_inputs)
