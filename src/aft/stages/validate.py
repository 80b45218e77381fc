"""Validates the model of a round: greedy answers to validation questions, by which rounds stop and one is chosen."""

from __future__ import annotations

from ..grading import grade_all
from ..json_files import write_json, write_json_lines
from ..progress import say
from ..run.folder import COMPLETIONS, PREDICTIONS, VALIDATION, Unit
from ..run.manifest import UnitLog
from ..sampling.decoding import Decoding
from ..sampling.resumable import collect
from .context import Inference, Stage
from .rounds import validated


def run_validate(stage: Stage, unit: Unit, log: UnitLog | None) -> None:
    """Answers the validation questions and writes validation.json, with the completions and predictions behind it."""
    plan, section, seed = stage.plan, stage.config.evaluate, unit.seed or 0
    subject = Inference(stage, plan.checkpoint(unit.name or "", unit.seed))
    questions = plan.validation_questions(seed)
    with subject.engine(unit, section, questions) as engine:
        completions = collect(
            engine,
            stage.requests(subject.texts, questions, [0], purpose="validate", seed=seed),
            Decoding(section.max_new_tokens, 0.0),
            path=unit.folder / COMPLETIONS,
            description=str(unit),
        )
    if log is None:
        return
    subject.tell_counts(unit)
    predictions = grade_all(plan.task, completions, questions)
    found = validated(predictions)
    write_json_lines(unit.folder / PREDICTIONS, predictions)
    write_json(unit.folder / VALIDATION, found)
    say(f"{unit}: {found['right']:,} of {found['questions']:,} validation questions are right")
    log.complete([COMPLETIONS, PREDICTIONS, VALIDATION])
