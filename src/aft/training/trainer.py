"""The trainer of every stage: L_VFT on supervised responses plus a term on each question's candidates.

A subclass of `transformers.Trainer`, which provides the loop, checkpoints, resuming, sharding, trackers and callbacks.
This class adds the loss, its normalisation over the whole optimizer step, and the logged metrics.

Axes: `B` questions in the batch, `G` candidate slots per question, `N` responses in the batch.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from ..ending import Ended, asked
from ..errors import AftError, DiskError, writing
from ..model import first_not_finite, pad_id
from ..progress import Progress, saving, say
from ..scoring.batching import Calls, Packer, StepSampler, entry_loader
from ..scoring.entries import with_initial_scores
from ..scoring.layouts import Trial, try_layouts
from ..scoring.packing import Batch, Entry
from ..scoring.precise import is_rough, uses_tf32
from ..scoring.responses import (
    Scores,
    as_groups,
    candidate_scores,
    score_candidates,
    score_responses,
    to_device,
)
from .callbacks import BeforeTraining, LogAtStops, ShowProgress
from .checkpoints import begin, delete_oldest, seal
from .control import ControlledBeta, spread_before
from .job import TrainingJob
from .score_log import ScoreLog
from .sharding import keep_output_precision, more_to_come
from .step_terms import StepTerms, whole_norm


def _exact(device: torch.device) -> torch.dtype:
    """The dtype of sums. Not every accelerator has float64."""
    return torch.float64 if device.type in ("cpu", "cuda") else torch.float32


# The counts that normalise an optimizer step, in the order of the vector from `_count`.
_TOTALS = ("tokens", "sequences", "groups", "groups_with_pair", "questions")
# Of these, the number of the first that are counted for the log.
_LOGGED = 4


def _tokens_read(batch: Batch) -> int:
    """The tokens that the model reads in a call, without padding."""
    mask = batch["attention_mask"]
    return batch["input_ids"].numel() if mask is None else int(mask.sum())


# In a checkpoint: a rank's sums since the last log. Only one that a signal caused has this file.
_UNLOGGED = "unlogged_{rank}.pt"


class AftTrainer(Trainer):
    """Trains on a job's entries, each a question.

    Each term is divided by its own count over all the step's batches and ranks. A step reads from the device once,
    right before the update (`_get_grad_norm`). With padded rows it reads more often: transformers reads their attention
    mask in every model call. Logged metrics are summed on the device and read only when they are logged.
    """

    control: TrainerControl

    def __init__(self, job: TrainingJob, args: TrainingArguments, callbacks: Sequence[TrainerCallback] = ()) -> None:
        config: Any = job.model.config
        use_cache = getattr(config, "use_cache", None)
        self.job, self.objective = job, job.objective
        self.entries = list(job.entries)
        super().__init__(
            model=job.model,
            args=args,
            train_dataset=self.entries,
            eval_dataset=self.entries if job.validate and not job.eval_entries else (job.eval_entries or None),
            processing_class=job.tokenizer,
            callbacks=[BeforeTraining(self._begin), LogAtStops(), ShowProgress(job.description), *callbacks],
        )
        # `ShowProgress` and the log replace its output
        self.remove_callback(PrinterCallback)
        # transformers sets use_cache to false in the model's config, and checkpoints would save that
        config.use_cache = use_cache
        keep_output_precision(self.accelerator)
        # our loss is normalised over the accumulated batch already
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        self.packer = Packer(pad_id(job.tokenizer), max_tokens=job.max_tokens)
        self.trial = Trial(self.packer.layout)
        self._scores = ScoreLog()
        self._steps_logged = 0
        self._beta: ControlledBeta | None = None
        if job.objective.control is not None:
            self._beta = ControlledBeta(job.objective.control, self._over_ranks, lambda beta: self._measured(beta=beta))
            self.add_callback(self._beta)
        self._terms = StepTerms(args.device, _exact(args.device))
        self._ends, self._ranks_asked, self._last_step, self._step_is_saved = False, torch.zeros(()), -1, False
        # of the steps since the last log, those in which each count is above 0; the same on all ranks
        self._steps_with = torch.zeros(_LOGGED, device=args.device)
        # the sum of the largest rank's tokens over the mean rank's, and of how many steps
        self._rank_spread = torch.zeros(2, device=args.device)

    def _begin(self, step: int) -> None:
        self._steps_logged = step
        self.choose_layout()
        if self.job.initial_scores is not None:
            # in place, because the loader that transformers has already made reads this list
            self.entries[:] = with_initial_scores(self.entries, self.job.initial_scores(self))
        if "spread" in self.objective.constraint_takes:
            self._measured(spread=spread_before(self.entries, self.objective.min_rating_gap))

    def _measured(self, **values: Tensor) -> None:
        """Give the constraint what has been measured for it."""
        device, dtype = self.args.device, _exact(self.args.device)
        on_device = {name: value.to(device, dtype) for name, value in values.items()}
        self.objective = dataclasses.replace(self.objective, measured=on_device)

    @functools.cached_property
    def _has_initial_scores(self) -> bool:
        return any(item.initial_scores is not None for entry in self.entries for item in entry)

    def choose_layout(self) -> None:
        """Set a layout of batches that this model supports. Prints a line if responses do not share their question."""
        sixteen = self.args.bf16 or self.args.fp16 or is_rough(self.model)
        rough = sixteen or (self.args.device.type == "cuda" and uses_tf32())
        self.trial = try_layouts(
            self.model_wrapped,
            self.entries,
            self.packer.pad_id,
            wanted=self.job.layout,
            rough=rough,
            prepare=self._prepare_inputs,
        )
        self.packer.layout = self.trial.layout
        line = self.trial.line(self.model_wrapped)
        lines = [line] if line else []
        if sixteen and self.is_deepspeed_enabled:
            lines.append("DeepSpeed holds and saves its weights in sixteen bits; the optimizer's copies are float32")
        for line in lines:
            say(f"{self.job.description}: {line}")

    # ---- data ----

    def get_train_dataloader(self) -> DataLoader:
        """Batches of questions; ranks share each step's questions without repeating or dropping one."""
        # not transformers' loader: ours orders the data by data_seed and balances ranks
        # not `_train_batch_size`, which transformers reads from a checkpoint: other processes may have written it
        batch_size, accumulation = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        return self._loader(self.entries, batch_size, shuffle=True, accumulation=accumulation)

    def _loader(self, entries: Sequence[Entry], batch_size: int, *, shuffle: bool, accumulation: int = 1) -> DataLoader:
        sampler = StepSampler(
            entries,
            self.packer,
            batch_size,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            rank=self.args.process_index,
            num_ranks=self.args.world_size,
            accumulation=accumulation,
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
        self._terms.begin_step()
        counts = self._count(parts)
        # ranks count also how many of them a signal has reached, so that all end at the same step
        more = [float(asked() is not None)]
        if self.args.world_size > 1:
            # what each rank reads, a place for each; one process needs no comparison
            more += [0.0] * self.args.world_size
            more[1 + self.args.process_index] = float(sum(map(_tokens_read, parts)))
        counts = self.accelerator.reduce(
            torch.cat([counts, counts.new_tensor(more)]).to(device, non_blocking=True), reduction="sum"
        )
        totals, self._ranks_asked, read = counts[: len(_TOTALS)], counts[len(_TOTALS)], counts[len(_TOTALS) + 1 :]
        self._steps_with = self._steps_with + (totals[:_LOGGED] > 0)
        if len(read):
            spread = read.max() / read.mean()
            self._rank_spread = self._rank_spread + torch.stack([spread, torch.ones_like(spread)])
        return batches, totals

    def _prepare_inputs(self, inputs: Any) -> Any:
        """A part on the device. transformers' version waits for each copy, and rounds the ratings under DeepSpeed."""
        return to_device(inputs, self.args.device)

    def _count(self, batches: Sequence[Batch]) -> Tensor:
        totals = torch.zeros(len(_TOTALS), dtype=torch.float64 if self.args.device.type == "cpu" else torch.float32)
        for batch in batches:
            supervised, mask = batch["supervised"], batch["candidate_mask"]
            real = mask.any(dim=1)  # an item without candidates is no group
            with_pair = self.objective.with_pair(batch)
            counts = [supervised[batch["sequences"]].sum(), supervised.sum(), real.sum(), with_pair.sum()]
            counts.append(torch.zeros_like(real).index_fill(0, batch["questions"][supervised], True).sum())
            totals += torch.stack(counts).to(totals)
        return totals

    # ---- loss ----

    def training_step(self, model: torch.nn.Module, inputs: Calls, num_items_in_batch: Tensor | None = None) -> Tensor:
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
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """This part's share of the step's loss. The step's loss is the sum over parts, micro-batches and ranks."""
        if num_items_in_batch is None:
            num_items_in_batch = self._count([inputs]).to(self.args.device)
        vft, align = self.loss_terms(model, inputs, num_items_in_batch)
        loss = vft + self.objective.weight * align
        if model.training:
            self._terms.note(vft, align, inputs["question_ids"])
            if self.is_deepspeed_enabled and self.accelerator.sync_gradients:
                # DeepSpeed updates the weights inside this part's backward pass
                self._stop_if_not_finite(None)
        # gradients are averaged over ranks, but the shares must be summed
        loss = loss.float() * self.args.world_size
        return (loss, {}) if return_outputs else loss

    def loss_terms(self, model: torch.nn.Module, batch: Batch, totals: Tensor) -> tuple[Tensor, Tensor]:
        """(L_VFT, L_A) of a part of a batch, each divided by its count in `totals`; differentiable zeros if empty."""
        seq_logps, lengths = score_responses(model, batch)
        tokens, sequences, groups, with_pair, questions = totals.unbind()
        count = {"token_mean": tokens, "token_sum": sequences}.get(self.objective.vft_reduction, questions)
        vft = self.objective.supervised_nll(seq_logps, lengths, batch) / count.clamp(min=1)
        align = vft.new_zeros(())
        if self.objective.loss is not None:
            scores = candidate_scores(seq_logps, lengths, batch)
            in_groups = as_groups(lengths.to(scores), batch)
            per_group = self.objective.of_groups(scores, in_groups, batch)
            count = {"mean": groups, "mean_with_pair": with_pair, "sum": torch.ones_like(groups)}[
                self.objective.reduction
            ]
            align = per_group.sum() / count.clamp(min=1)
            if model.training:
                drift = self._has_initial_scores
                moved = self._scores.note(self.objective, scores.detach(), in_groups, batch, drift=drift)
                if self._beta is not None and moved is not None:
                    self._beta.note(moved)
        return vft, align

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """transformers' norm of the step's gradient. Raises `AftError` if the norm or a term of the step is not finite.

        transformers calls this right before the update. DeepSpeed has already taken or skipped the step by then; the
        norm of a skipped step is infinite.
        """
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._stop_if_not_finite(norm)
        if self.args.world_size > 1:
            self._ends = bool(self._ranks_asked)  # read here, where the step waits for the device anyway
        return norm

    # ---- a signal ----

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """transformers' end of a step, and the safe point of a training that a signal has asked to end.

        Raises `Ended` there, behind a checkpoint if this training saves any. A training that is over anyway is not cut.
        """
        step = self.state.global_step
        if self.args.world_size == 1:
            self._ends = asked() is not None
        # Behind the last step of an epoch, transformers calls this twice: for the step, and for the epoch, at whose end
        # a log, an evaluation or a checkpoint may be due. The training ends at the second call then.
        of_epoch = step == self._last_step
        ends = self._ends and step < self.state.max_steps and of_epoch == float(self.state.epoch or 0).is_integer()
        is_saved = of_epoch and self._step_is_saved
        self._last_step, self._step_is_saved = step, is_saved or self.control.should_save
        if ends and not is_saved and self.args.save_strategy != SaveStrategy.NO and not self.args.save_only_model:
            self.control.should_save = True
        super()._maybe_log_save_evaluate(*args, **kwargs)
        if ends and not self.control.should_training_stop:
            ended = asked() or Ended(signal.SIGTERM)  # the signal of another rank
            saved = (Path(str(self.args.output_dir)) / f"checkpoint-{step}").exists()
            say(f"{self.job.description}: {ended.name}: ends at step {step}, {'saved' if saved else 'not saved'}")
            raise ended

    def _save_rng_state(self, output_dir: str) -> None:
        """Saves, beside each rank's random state, the sums of the steps since the last log, if there are any."""
        super()._save_rng_state(output_dir)
        path = Path(output_dir) / _UNLOGGED.format(rank=self.args.process_index)
        path.unlink(missing_ok=True)
        if steps := self.state.global_step - self._steps_logged:
            sums = {"terms": self._terms.sums, "steps_with": self._steps_with, "scores": self._scores.sums}
            torch.save({"steps": steps, "loss": self._tr_loss, "rank_spread": self._rank_spread, **sums}, path)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Loads the sums, too, so that what is logged next is a mean over the steps before and after the cut."""
        super()._load_rng_state(checkpoint)
        written = len(list(Path(checkpoint).glob(_UNLOGGED.format(rank="*")))) if checkpoint else 0
        if not checkpoint or not written:
            return
        ranks, rank = self.args.world_size, self.args.process_index

        def load(number: int) -> dict[str, Any]:
            path = Path(checkpoint) / _UNLOGGED.format(rank=number)
            # without the number: several ranks on a CPU have "cpu:0", which torch.load does not know
            return torch.load(path, map_location=self.args.device.type, weights_only=True)

        # As many ranks as before take a file each. Otherwise some take several, or none.
        for saved in map(load, range(rank, written, ranks)):
            # a mean over ranks, of which there were others
            self._tr_loss += saved["loss"] * (ranks / written)
            self._terms.sums += saved["terms"]
            self._scores.add(saved["scores"])
        of_all = load(rank % written)  # the same on all ranks
        # the batches of the next step are counted already
        self._steps_with = self._steps_with + of_all["steps_with"]
        self._rank_spread = self._rank_spread + of_all.get("rank_spread", 0.0)
        self._steps_logged = self._globalstep_last_logged = self.state.global_step - of_all["steps"]

    def _stop_if_not_finite(self, norm: Any) -> None:
        """Raise `AftError` if a term of this step, or its gradient's norm (None: not known), is not finite."""
        # the fp16 loss scaler skips a step with a non-finite gradient by itself
        scaled = getattr(self.accelerator, "scaler", None) is not None
        scaled |= self.is_deepspeed_enabled and self.deepspeed.fp16_enabled()
        whole = None if scaled or norm is None else whole_norm(norm)
        if self._terms.all_finite(whole):
            return
        found = self._terms.explain()
        if whole is not None and not whole.isfinite():
            # The norm is the same on all ranks, so all reach this collective call. It collects what each rank found.
            found = gather_object(found) if self.args.world_size > 1 else found
            found = found or [(f"the gradient's norm is {whole.item()}", self._terms.question_ids)]
        what, question_ids = found[0]
        damaged = first_not_finite(self.model)
        what += f" ({damaged} of the model holds nan or inf)" if damaged else ""
        shown = ", ".join(question_ids[:8]) + (" …" if len(question_ids) > 8 else "")
        raise AftError(
            f"step {self.state.global_step + 1}: {what}; the model was not updated. Questions: {shown}."
            " Lower training.learning_rate, set training.max_grad_norm, or resume from the last checkpoint."
        )

    # ---- checkpoints ----

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """transformers' checkpoint, sealed when all ranks have written, and before an older one is deleted.

        Raises `DiskError` if the disk is full, read-only or gone. The half-written checkpoint is removed then.
        """
        with saving():
            self._save_whole_checkpoint(model, trial)

    def _save_whole_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = Path(str(self.args.output_dir))
        path, limit = folder / f"checkpoint-{self.state.global_step}", self.args.save_total_limit
        if not folder.is_dir():
            raise DiskError(f"{folder}: the folder was deleted while it was written. The same command makes it anew.")
        is_new = not path.exists()
        self.args.save_total_limit = None
        try:
            if self.args.should_save:
                begin(path)
            with writing(path, "the checkpoint"):
                super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                seal(path, self.args.world_size)
        except DiskError:
            if self.args.should_save and is_new:
                shutil.rmtree(path, ignore_errors=True)
            raise
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            delete_oldest(folder, limit, [path, *([Path(best)] if best else [])])
        # a rank that a signal ends here would have its launcher end the one that still seals
        self.accelerator.wait_for_everyone()

    # ---- what is logged ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add our metrics to those of transformers: means over the steps since the last log and over all ranks.

        A term's mean is over the steps that have it. A mean over nothing has no key.
        """
        if "loss" in logs:
            logs.update(self._step_metrics())
        super().log(logs, start_time)

    def _step_metrics(self) -> dict[str, float]:
        steps = self.state.global_step - self._steps_logged
        self._steps_logged = self.state.global_step
        if steps == 0:
            return {}
        # transformers averages "loss" over ranks, and `compute_loss` scaled the shares for that: no change needed
        vft, align = self._over_ranks(self._terms.sums).tolist()
        supervised, _, groups, with_pair = self._steps_with.tolist()
        self._terms.sums.zero_()
        self._steps_with.zero_()
        spread, of_steps = self._rank_spread.tolist() if self.args.world_size > 1 else (0.0, 0.0)
        of_ranks = {"tokens/rank_spread": spread / of_steps} if of_steps else {}
        self._rank_spread = torch.zeros_like(self._rank_spread)
        of_beta = {"constraint/beta": self._beta.beta.item()} if self._beta is not None else {}
        terms = {"loss/vft": (vft, supervised)}
        if self.objective.loss is not None:
            terms["loss/align"] = (align, with_pair if self.objective.pairs_only else groups)
        metrics: dict[str, float] = {}
        for name, (total, steps_with) in terms.items():
            if steps_with:
                metrics[name] = total / steps_with
            if 0 < steps_with < steps:
                metrics[f"{name}_steps"] = steps_with
        return {**metrics, **of_ranks, **of_beta, **self._scores.metrics(self._over_ranks, steps)}

    def _over_ranks(self, values: Tensor) -> Tensor:
        return self.accelerator.reduce(values.to(self.args.device, _exact(self.args.device)), reduction="sum")

    # ---- evaluation while training ----

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """L_VFT (exact token mean) over the evaluation entries, and the metrics of `validate`."""
        was_training = self.model_wrapped.training
        self.model_wrapped.eval()
        metrics: dict[str, float] = {}
        if self.job.eval_entries:
            sums = torch.zeros(2, device=self.args.device)
            loader = self._loader(self.job.eval_entries, self.args.per_device_eval_batch_size, shuffle=False)
            for part in (part for batch in loader for part in batch["parts"]):
                batch = self._prepare_inputs(part)
                seq_logps, lengths = score_responses(self.model_wrapped, batch)
                supervised = batch["supervised"]
                sums += torch.stack([-seq_logps[supervised].sum(), lengths[supervised].sum().to(seq_logps)])
            total, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
            if tokens:
                metrics[f"{metric_key_prefix}_loss"] = total / tokens
        if self.job.validate is not None:
            for name, value in self.job.validate(self.accelerator.unwrap_model(self.model_wrapped)).items():
                metrics[f"{metric_key_prefix}_{name}"] = value
        self.model_wrapped.train(was_training)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def score_candidates(self) -> Scores:
        """Mean log-prob (nats per token) of every candidate under the current model, by question id."""
        loader = self._loader(self.entries, self.args.per_device_eval_batch_size, shuffle=False)
        description = f"{self.job.description}: scores before training"
        with Progress(description, len(self.entries), "question", delay=2.0) as progress:
            return score_candidates(self.model_wrapped, loader, self._prepare_inputs, advance=progress.update)
