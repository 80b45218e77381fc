"""Stage 2a: samples k completions of every training and pool question from the VFT model (or the base model).

From round 2 on, from the method's model of the round before, and without the pool.

With `sample.from_prefix`, it then samples how right completions of training questions could go on from their steps.
"""

from __future__ import annotations

from ..progress import say
from ..run.folder import COMPLETIONS, FROM_PREFIX, Unit
from ..run.manifest import UnitLog
from ..sampling.decoding import Decoding
from ..sampling.resumable import collect
from .context import Inference, Stage
from .from_prefix import FROM_PREFIX_KEY, describe_sampled, sample_continuations
from .limits import judge_completions


def run_sample(stage: Stage, unit: Unit, log: UnitLog | None) -> None:
    """Samples completions and writes completions.jsonl, and from_prefix.jsonl if it is asked for."""
    section, seed = stage.config.sample, unit.seed or 0
    subject = Inference(stage, stage.plan.checkpoint(stage.plan.sampled_model(unit), unit.seed))
    questions = stage.plan.training_questions(seed) + stage.plan.pool_of(unit)
    # no round repeats the random numbers of another
    purpose = "sample" if unit.round == 1 else f"sample round {unit.round}"
    indices = range(section.num_samples)
    with subject.engine(unit, section, questions) as engine:
        completions = collect(
            engine,
            stage.requests(subject.texts, questions, indices, purpose=purpose, seed=seed),
            Decoding(section.max_new_tokens, section.temperature, section.top_p),
            path=stage.plan.completions(unit.seed, unit.name),
            description=str(unit),
        )
        continued = sample_continuations(subject, unit, engine, completions) if section.from_prefix else None
    if log is not None:
        subject.tell_counts(unit)
        outcomes = judge_completions(stage.plan, unit, completions)
        if continued is not None:
            say(describe_sampled(unit, completions, continued))
        log.complete(
            [COMPLETIONS] if continued is None else [COMPLETIONS, FROM_PREFIX],
            completions=len(completions),
            truncated=outcomes.truncated,
            unparsed=outcomes.unparsed,
            tokens=sum(completion.num_tokens for completion in completions),
            **({} if continued is None else {FROM_PREFIX_KEY: continued}),
        )
