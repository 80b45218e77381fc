"""Estimates the disk space that units will write, and warns before they begin if less is free."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import align_config
from ..config.launch_file import count_processes, read_launch_file
from ..errors import ConfigError, DataError
from ..forecast.optimizers import DEFAULT, Trained, state_bytes
from ..progress import say
from ..run.folder import BASE, TRAINING_STAGES, VALIDATE, Unit
from ..run.weights import shapes
from ..stages.plan import Plan
from ..tasks import ANSWER_ONLY, PRETRAIN, TEST, TRAIN, VALIDATION, closed_vocabulary

_BYTES_OF_DTYPE = {"float32": 4, "bfloat16": 2, "float16": 2}
_CHARACTERS_PER_TOKEN, _BYTES_PER_LINE = 4, 300
# A label file holds each completion again, and an evaluation writes completions, predictions and scores.
_COPIES = {"sample": 1, "label": 1, VALIDATE: 2, "evaluate": 2}


def warn_of_space(plan: Plan, units: Sequence[Unit], what: str) -> None:
    """Prints one line if `units` will probably write more than is free. `what`: the units' name in it.

    Says nothing if the size of the model is not known yet, as for one that must be downloaded first. Never raises.
    """
    # an estimate must not stop a run: what is wrong with data or model is told where it is read
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, ConfigError, DataError):
        needed, models, checkpoints = estimate(plan, units)
        there = next(path for path in (plan.folder, *plan.folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if needed > free:
            kinds = ((models, "model"), (checkpoints, "checkpoint"))
            counts = [f"{number} {kind}" if number == 1 else f"{number} {kind}s" for number, kind in kinds if number]
            parts = f" ({', '.join(counts)})" if counts else ""
            less = "; training.save_total_limit and training.save_strategy decide how many" if checkpoints else ""
            say(
                f"warning: {what} can write up to {_size(needed)}{parts}, but {plan.folder} has {_size(free)}"
                f" free{less}"
            )


def estimate(plan: Plan, units: Sequence[Unit]) -> tuple[int, int, int]:
    """Returns (bytes, models, checkpoints) that `units` will write, an upper bound for texts.

    What a unit that was cut has written already is taken off. Models count as none if their size is not known.
    """
    weights = _Weights.of(plan) if any(unit.stage in TRAINING_STAGES for unit in units) else None
    total, models, checkpoints, spare = 0.0, 0, 0, 0.0
    for unit in units:
        written = 0.0
        if unit.stage in TRAINING_STAGES:
            if weights is None:
                continue
            kept, peak = _checkpoints(plan, unit)
            each = weights.checkpoint_bytes(plan, _training(plan, unit))
            written = weights.model_bytes(plan, unit) + kept * each
            spare = max(spare, (peak - kept) * each)
            models, checkpoints = models + 1, checkpoints + kept
        else:
            written = _texts(plan, unit)
        total += max(0.0, written - _bytes_in(unit.folder))
    return math.ceil(total + spare), models, checkpoints


class _Weights:
    """A model's weights: their number, the part in matrices with its rows and columns, and their saved bytes."""

    def __init__(self, shapes: Sequence[tuple[str, Sequence[int], int]], dtype: str) -> None:
        self.count = sum(math.prod(shape) for _, shape, _ in shapes)
        self.trained: list[Trained] = [
            (shape, _BYTES_OF_DTYPE.get(dtype, size), "embed" in name) for name, shape, size in shapes
        ]
        self.bytes = sum(math.prod(shape) * _BYTES_OF_DTYPE.get(dtype, size) for _, shape, size in shapes)
        ends = ("embed", "lm_head", "wte", "wpe")
        self.sides = sum(
            sum(shape) for name, shape, _ in shapes if len(shape) == 2 and not any(end in name for end in ends)
        )

    @classmethod
    def of(cls, plan: Plan) -> _Weights | None:
        """The weights of the base model, which all models of a run share in size; None: not known."""
        model = plan.config.model
        if model.gguf_file is not None:
            return None
        folder = Path(plan.checkpoint(BASE, None))
        if not folder.is_dir() and model.name_or_path:
            found = _cached(model.name_or_path, model.revision)
            folder = found.parent if found else folder
        files = sorted(folder.glob("*.safetensors"))
        if files:
            return cls([shape for path in files for shape in shapes(path)], model.dtype)
        return cls(_of_architecture(plan), "float32") if model.from_scratch else None

    def model_bytes(self, plan: Plan, unit: Unit) -> float:
        """The bytes of what a training leaves."""
        lora = plan.config.model.lora
        if lora is None or unit.stage == "pretrain":
            return self.bytes
        return {"adapter": 0, "merged": self.bytes}.get(lora.save, self.bytes) + lora.r * self.sides * 4

    def checkpoint_bytes(self, plan: Plan, training: dict[str, Any]) -> float:
        """The bytes of one of a training's checkpoints."""
        lora = plan.config.model.lora
        # an adapter has a matrix of rank r on both sides of each weight, in float32
        trained, saved = (self.count, self.bytes) if lora is None else (lora.r * self.sides, lora.r * self.sides * 4)
        if training.get("save_only_model"):
            return saved
        launch = plan.config.launch.config
        kind = read_launch_file(launch).get("distributed_type") if launch is not None else None
        adapters: list[Trained] = [((lora.r, self.sides), 4, False)] if lora else []
        states = state_bytes(str(training.get("optim", DEFAULT)), adapters or self.trained)
        again = {"FSDP": saved, "DEEPSPEED": saved + 4 * trained}.get(str(kind), 0)
        return saved + states + again


def _cached(name: str, revision: str | None) -> Path | None:
    from transformers.utils import cached_file

    for file in ("model.safetensors", "model.safetensors.index.json"):
        with contextlib.suppress(OSError):
            if found := cached_file(name, file, revision=revision, local_files_only=True):
                return Path(found)
    return None


def _of_architecture(plan: Plan) -> list[tuple[str, Sequence[int], int]]:
    from ..model import SPECIAL_TOKENS, shapes_from_scratch

    scratch = plan.config.model.from_scratch
    assert scratch is not None
    vocabulary = closed_vocabulary(plan.task)
    size = len(vocabulary) + len(SPECIAL_TOKENS) if vocabulary else scratch.vocab_size
    return [(name, shape, 4) for name, shape in shapes_from_scratch(scratch.architecture, scratch.config, size)]


def _training(plan: Plan, unit: Unit) -> dict[str, Any]:
    config = plan.config
    section = align_config(config, unit.name or "") if unit.stage == "align" else getattr(config, unit.stage)
    return plan.training(section.training)


def _checkpoints(plan: Plan, unit: Unit) -> tuple[int, int]:
    """How many checkpoints a training keeps, and how many are there while a new one is written."""
    from ..training.arguments import DEFAULTS

    training = {**DEFAULTS, **_training(plan, unit)}
    strategy, limit = str(training["save_strategy"]), training["save_total_limit"]
    if strategy == "no":
        return 0, 0
    processes = count_processes(plan.config.launch) or 1
    batch = int(training.get("per_device_train_batch_size", 8)) * int(training.get("gradient_accumulation_steps", 1))
    splits = {"pretrain": [PRETRAIN], "vft": [TRAIN]}.get(unit.stage, [TRAIN, ANSWER_ONLY])
    questions = sum(len(plan.task.load(split, seed=unit.seed or 0)) for split in splits)
    per_epoch = max(1, math.ceil(questions / (batch * processes)))
    epochs = float(training.get("num_train_epochs", 3))
    steps = int(training.get("max_steps", -1))
    steps = steps if steps > 0 else math.ceil(per_epoch * epochs)
    every = float(training.get("save_steps", 500))
    every = per_epoch if strategy == "epoch" else max(1, math.ceil(every * steps) if every < 1 else int(every))
    saves = math.ceil(steps / every)  # the last step saves as well
    kept = min(saves, int(limit)) if limit else saves
    return kept, min(saves, kept + 1)


def _texts(plan: Plan, unit: Unit) -> float:
    """The bytes of a unit's JSON lines, if every completion is as long as allowed."""
    config, seed = plan.config, unit.seed or 0
    pool = len(plan.pool_of(unit) if unit.stage in ("sample", "label") else plan.pool_questions(seed))
    per_question = config.sample.num_samples
    if unit.stage == VALIDATE:
        lines, tokens = len(plan.validation_questions(seed)), config.evaluate.max_new_tokens
        return float(_COPIES[unit.stage] * lines * (tokens * _CHARACTERS_PER_TOKEN + _BYTES_PER_LINE))
    if unit.stage == "evaluate":
        split = VALIDATION if config.evaluate.split == "validation" else TEST
        questions = len(plan.task.load(split, seed=seed))
        lines, tokens = min(questions, config.evaluate.num_questions or questions), config.evaluate.max_new_tokens
        lines += pool * per_question
    else:
        questions = sum(len(plan.task.load(split, seed=seed)) for split in (TRAIN, ANSWER_ONLY))
        lines, tokens = (questions + pool) * per_question, config.sample.max_new_tokens
        if (continued := config.sample.from_prefix) is not None:
            lines += questions * continued.places * continued.num_samples
    return float(_COPIES[unit.stage] * lines * (tokens * _CHARACTERS_PER_TOKEN + _BYTES_PER_LINE))


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _size(count: float) -> str:
    power = min(4, int(math.log10(max(count, 1)) / 3))
    return f"{count / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
