"""Measurements during training: validation, and the scores before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..config.schema import ValidationConfig
from ..encoding import TextEncoder
from ..errors import AftError, DataError
from ..grading import grade
from ..json_files import read_json, write_json
from ..run.digest import digest_file
from ..run.folder import INITIAL_SCORES, MANIFEST
from ..run.manifest import read_manifest
from ..sampling.decoding import Decoding
from ..sampling.transformers_engine import TransformersEngine
from ..scoring.packing import Entry
from ..scoring.responses import Scores
from ..tasks import VALIDATION
from ..training.trainer import AftTrainer
from .context import Stage, references


def validation_entries(stage: Stage, texts: TextEncoder, seed: int) -> list[Entry]:
    return references(stage, stage.plan.task.load(VALIDATION, seed=seed), stage.encoder(texts))


def measure_accuracy(
    stage: Stage, texts: TextEncoder, validation: ValidationConfig, seed: int
) -> Callable[[torch.nn.Module], dict[str, float]]:
    """A function that measures a model's greedy task accuracy on the first validation questions.

    Beside it: the share of answers in which an answer is found (`parsed`), and that the model ended itself (`ended`).
    """
    questions = stage.plan.task.load(VALIDATION, seed=seed)[: validation.num_questions]
    by_id = {question.id: question for question in questions}
    requests = stage.requests(texts, questions, [0], purpose="validate", seed=seed)
    decoding = Decoding(stage.config.evaluate.max_new_tokens, temperature=0.0)

    def measure(model: torch.nn.Module) -> dict[str, float]:
        state = PartialState()
        mine = requests[state.process_index :: state.num_processes]
        engine = TransformersEngine(model, texts.tokenizer, validation.batch_size, ends=texts.ends)
        counts = dict.fromkeys(("task_accuracy", "parsed", "ended"), 0)
        for completion in engine.generate(engine.plan(mine), decoding):
            verdict = grade(stage.plan.task, completion, by_id[completion.question_id])
            counts["task_accuracy"] += verdict.is_correct
            counts["parsed"] += verdict.answer is not None
            counts["ended"] += not completion.truncated
        total = torch.tensor(list(map(float, counts.values())), device=stage.device)
        if state.num_processes > 1:
            torch.distributed.all_reduce(total)
        return {name: count / len(requests) for name, count in zip(counts, total.tolist(), strict=True)}

    return measure


def initial_scores(trainer: AftTrainer, *, folder: Path, key: str) -> Scores:
    """Scores of all candidates before training. The unit keeps them in its folder.

    `key` is a digest of everything that the scores depend on. A unit copies the scores of another unit of its seed with
    the same key. Raises `AftError` if a resumed unit has no scores: they can no longer be measured.
    """
    box = [_kept_scores(folder, key) if trainer.is_world_process_zero() else None]
    if trainer.args.world_size > 1:
        broadcast_object_list(box)
    (scores,) = box
    if scores is None:
        if trainer.state.global_step > 0:
            raise AftError(
                f"{folder / INITIAL_SCORES}: missing or made for other inputs; the drift since step 0 can no longer be"
                " measured. Delete this unit's folder to start it again."
            )
        scores = trainer.score_candidates()
    if trainer.is_world_process_zero():
        write_json(folder / INITIAL_SCORES, {"key": key, "scores": scores})
    return scores


def _kept_scores(folder: Path, key: str) -> Scores | None:
    """The scores with this key from the unit's folder or a sibling's; None: not computed yet."""
    others = sorted(folder.parent.glob(f"*/{INITIAL_SCORES}"))
    # Earlier versions kept one file beside the folders. Their runs may still resume from a checkpoint.
    shared = sorted(path for path in folder.parent.glob("initial-scores-*.json") if path.is_file())
    for path in (folder / INITIAL_SCORES, *others, *shared):
        try:
            kept = read_json(path)
            if path in others and path.parent != folder and not _is_as_recorded(path):
                continue
        except DataError:
            if path.parent == folder:
                raise
            continue  # a sibling's damaged file; its scores can be computed again
        if kept is not None and kept.get("key") == key:
            return kept["scores"]
    return None


def _is_as_recorded(path: Path) -> bool:
    """False if a finished sibling's scores are not those that its manifest names."""
    recorded = (read_manifest(path.with_name(MANIFEST)) or {}).get("initial_scores")
    return recorded is None or recorded == digest_file(path)
