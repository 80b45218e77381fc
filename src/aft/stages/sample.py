"""Stage 2a: k completions of every training question, and of the held-out pool's questions, from the VFT model."""

from __future__ import annotations

from ..run.folder import COMPLETIONS, Unit
from ..run.manifest import UnitLog
from ..sampling.decoding import Decoding
from ..sampling.requests import derive_seed
from ..sampling.resumable import collect
from .context import Stage


def run_sample(stage: Stage, unit: Unit, log: UnitLog | None) -> None:
    """Sample into completions.jsonl."""
    section, seed = stage.config.sample, unit.seed or 0
    checkpoint = stage.plan.checkpoint(section.model, unit.seed)
    tokenizer = stage.tokenizer(checkpoint)
    questions = stage.plan.training_questions(seed) + stage.plan.pool_questions(seed)
    completions = collect(
        stage.model(checkpoint, inference=True).to(stage.device).eval(),
        tokenizer,
        stage.requests(tokenizer, questions, range(section.num_samples)),
        Decoding(section.max_new_tokens, section.temperature, section.top_p),
        path=stage.plan.completions(unit.seed),
        seed_of=lambda question_id, index: derive_seed("sample", seed, question_id, index),
        batch_size=section.batch_size,
        batching=section.batching,
        description=str(unit),
    )
    if log is not None:
        log.complete(
            [COMPLETIONS],
            completions=len(completions),
            truncated=sum(completion.truncated for completion in completions),
            tokens=sum(completion.num_tokens for completion in completions),
        )
