"""Callbacks of the trainer: initial scores, logging, the live log, stopping on collapse, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import writing
from ..json_files import json_line, read_lines_leniently
from ..progress import Progress, say

POSITIVE_DRIFT = "scores/positive_drift"


class BeforeTraining(TrainerCallback):
    """Calls `begin(step)` before the first step of this run, once the model is wrapped and placed."""

    def __init__(self, begin: Callable[[int], None]) -> None:
        self.begin = begin

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.begin(state.global_step)


class OnceItTrains(BeforeTraining):
    """The same for a stage: transformers warns of two callbacks of one class."""


class SaveEnds(TrainerCallback):
    """Calls `set_ends` before the first step, because transformers puts the tokenizer's end token first there.

    Every checkpoint then says how a response ends. An adapter's checkpoint has no model that would say it, so the
    generation config is saved beside the adapter.
    """

    def __init__(self, set_ends: Callable[[], None]) -> None:
        self.set_ends = set_ends

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.set_ends()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        generation = getattr(kwargs["model"], "generation_config", None)
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if args.should_save and generation is not None and (folder / "adapter_config.json").exists():
            with writing(folder, "the generation config"):
                generation.save_pretrained(folder)


class LogAtStops(TrainerCallback):
    """Logs also whenever a checkpoint is written, the model is evaluated, or training ends.

    Logged values are means since the last log. A resumed run starts its first mean at the checkpoint, so an
    uninterrupted run must log there to give the same means. The log at the end includes the last steps.
    """

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if control.should_save or control.should_evaluate or control.should_training_stop:
            control.should_log = True
        return control

    on_epoch_end = on_step_end


class StopOnCollapse(TrainerCallback):
    """Ends training when the positives' mean score is lower by more than `max_fall` in `patience` logs in a row.

    The fall is measured against the scores before training, in nats per token. The callback reads the log history, so
    that a resumed run stops at the same step as an uninterrupted run. It saves no checkpoint at this step, because the
    stage would resume from there. `reason`: why training stopped; None if it did not.
    """

    def __init__(self, max_fall: float, patience: int) -> None:
        self.max_fall, self.patience = max_fall, patience
        self.reason: str | None = None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        drifts = [entry[POSITIVE_DRIFT] for entry in state.log_history if POSITIVE_DRIFT in entry][-self.patience :]
        fallen = len(drifts) == self.patience and max(drifts) < -self.max_fall
        if self.reason is None and fallen and state.global_step < state.max_steps:
            self.reason = (
                f"stopped at step {state.global_step} of {state.max_steps}: right chains score"
                f" {-drifts[-1]:.3f} nats per token lower than before training (stop_on_collapse.max_fall:"
                f" {self.max_fall:g})"
            )
            control.should_training_stop = True
            control.should_save = False
        return control


class LiveLog(TrainerCallback):
    """Appends every log to a file of JSON lines while the model trains, with `time` and what `memory` returns.

    transformers writes its log only into checkpoints and at the end. A resumed run keeps the lines up to its step. Once
    the file has `most` lines, every second step is taken out, and from then on the logs of every second step are
    written: a step may log its losses and its validation. A file that cannot be written is given up, and a line says
    so. Only the first rank writes.
    """

    def __init__(self, path: Path, memory: Callable[[], dict[str, int]], *, most: int = 2000) -> None:
        self.path, self.memory, self.most = path, memory, most
        self._lines: dict[int, list[str]] = {}  # by step
        self._step, self._steps, self._every = -1, 0, 1
        self._writes = True

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        found = read_lines_leniently(self.path) if state.is_world_process_zero else []
        before = [entry for entry in found if isinstance(entry.get("step"), int)]
        self._lines, self._every = {}, 1
        for entry in before:
            if entry["step"] <= state.global_step:
                self._lines.setdefault(entry["step"], []).append(json_line(entry))
        self._step, self._steps = max(self._lines, default=-1), len(self._lines)
        self._write(state, "w", self._all())

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        step = state.log_history[-1]["step"]
        self._steps += step != self._step
        self._step = step
        if self._steps % self._every:
            return
        entry = {"max_steps": state.max_steps, "time": round(time.time(), 3), **self.memory(), **state.log_history[-1]}
        new = json_line(entry)
        self._lines.setdefault(step, []).append(new)
        if len(self._all()) < self.most:
            self._write(state, "a", [new])
            return
        self._lines, self._every = dict(list(self._lines.items())[1::2]), 2 * self._every
        self._write(state, "w", self._all())

    def _all(self) -> list[str]:
        return [line for lines in self._lines.values() for line in lines]

    def _write(self, state: TrainerState, mode: str, lines: list[str]) -> None:
        if not self._writes or not state.is_world_process_zero:
            return
        try:
            with self.path.open(mode, encoding="utf-8") as handle:
                handle.writelines(lines)
        except OSError as error:
            self._writes = False
            say(f"warning: {self.path} cannot be written: {error.strerror}; aft-watch shows no curve of this training")


class ShowProgress(TrainerCallback):
    """Shows steps, losses, margin and accuracy with `Progress` instead of transformers' bars."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.progress: Progress | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.progress = Progress(self.description, state.max_steps, "step")
        self.progress.__enter__()
        self.progress.update(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.progress is not None:
            self.progress.update(1)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs.get("logs") or {}
        shown = {"loss": "loss", "scores/margin": "margin", "eval_loss": "val", "eval_task_accuracy": "val acc"}
        shown |= {"eval_parsed": "parsed", "eval_ended": "ended"}
        note = ", ".join(f"{label} {logs[key]:.3f}" for key, label in shown.items() if key in logs)
        if self.progress is not None and note:
            self.progress.update(0, note)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.progress is not None:
            self.progress.__exit__()
