"""Compares tokenizer, data and lengths with the model before the first stage that uses a model begins."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import align_config
from ..config.schema import EvaluateConfig, SampleConfig
from ..errors import ConfigError
from ..progress import say
from ..run.folder import BASE, TRAINING_STAGES, VALIDATE, Unit
from ..run.manifest import is_cut
from ..sizes import Positions, check_length, positions_of, vllm_positions
from ..stages.plan import DONE, Plan
from ..tasks import ANSWER_ONLY, TEST, TRAIN, VALIDATION
from .preflight import check_pushed_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Share of unknown tokens that is worth a warning.
_MANY = 0.01
# Questions whose rendered prompts are measured: those with the most tokens.
_LONGEST = 8
# Texts that are searched for examples of unknown words.
_SEARCHED = 50


def check_fit(plan: Plan, stages: Sequence[str]) -> dict[str, Any] | None:
    """Checks a run's lengths and its tokenizer. Does nothing if all units that use a model are done.

    Raises `ConfigError` if a prompt and its completion, or a training's sequence, exceed positions that the model
    cannot do without, if the prompts cannot be rendered, or if adapters stand where they cannot. Prints how many tokens
    the questions and references have and how many of them the tokenizer does not know, and returns these counts.
    """
    waiting = [
        unit for stage in stages if stage != "label" for unit in plan.units(stage) if plan.status(unit).state != DONE
    ]
    if not waiting:
        return None
    from ..model import check_lora, lora_arguments

    checkpoint = _checkpoint(plan, waiting)
    settings = _settings(plan, checkpoint)
    longest, reference, counts = 1, plan.config.model.max_length, None
    if checkpoint is not None:
        from ..stages.context import Stage

        stage = Stage(plan, cpu=True)
        tokenizer = stage.tokenizer(checkpoint)
        questions, references = _texts(plan)
        encoded = _encode(tokenizer, questions)
        order = sorted(range(len(questions)), key=lambda place: -len(encoded[place]))[:_LONGEST]
        prompts = stage.texts(tokenizer)
        longest = max((len(prompts.prompt(questions[place])) for place in order), default=1)
        encoded += (responses := _encode(tokenizer, references))
        reference = max(map(len, responses), default=0) + 1  # its end
        counts = _count(tokenizer, [*questions, *references], encoded)
        _tell(counts, checkpoint)
    _check_lengths(plan, waiting, settings, longest, reference)
    lora = plan.config.model.lora
    if checkpoint is not None and lora is not None and any(unit.stage in ("vft", "align") for unit in waiting):
        check_lora(checkpoint, lora_arguments(dataclasses.asdict(lora)), **_load(plan, checkpoint))
        if problems := check_pushed_adapter(plan.config, local=False):  # now the hub may be asked
            raise ConfigError(problems)
    return counts


def _checkpoint(plan: Plan, waiting: Sequence[Unit]) -> str | None:
    """The first checkpoint that a waiting unit reads and that is there, or the base model; None: none is made yet."""
    read = [source for unit in waiting for source in plan.reads(unit).values() if isinstance(source, str)]
    for source in [*read, plan.checkpoint(BASE, None)]:
        folder = Path(source)  # without a configuration, or of a cut training: nothing can be loaded from it yet
        if source == plan.config.model.name_or_path or ((folder / "config.json").is_file() and not is_cut(folder)):
            return source
    return None


def _settings(plan: Plan, checkpoint: str | None) -> dict[str, Any]:
    """The keys of the model's configuration; empty if they cannot be read, which the stage reports."""
    from ..model import architecture_settings, model_settings

    if checkpoint is None:
        scratch = plan.config.model.from_scratch
        return architecture_settings(scratch.architecture, scratch.config) if scratch else {}
    return model_settings(checkpoint, **_load(plan, checkpoint))


def _load(plan: Plan, checkpoint: str) -> dict[str, Any]:
    model = plan.config.model
    return {
        "revision": None if Path(checkpoint).is_dir() else model.revision,
        "trust_remote_code": model.trust_remote_code,
        "gguf_file": plan.gguf_file(checkpoint),
    }


def _check_lengths(plan: Plan, waiting: Sequence[Unit], settings: dict[str, Any], longest: int, reference: int) -> None:
    """`longest`: tokens of the longest prompt. `reference`: of the longest reference."""
    config, positions = plan.config, positions_of(settings)
    found = {unit.stage for unit in waiting}
    trained = found & {*TRAINING_STAGES}
    wanted: list[tuple[int, str, str, Positions | None]] = []

    def sampled(section: SampleConfig | EvaluateConfig, key: str, engine: str) -> None:
        needed, what = longest + section.max_new_tokens, "a prompt with its completion"
        if engine == "vllm":
            wanted.append((needed, what, key, vllm_positions(settings)))
        else:
            wanted.append((needed - 1, what, key, positions))  # the newest token has no position yet

    if trained:
        response = max(reference, config.sample.max_new_tokens if "align" in trained else 0)
        needed = min(config.model.max_length, longest + response)
        wanted.append((needed, "a sequence of the training", "model.max_length", positions))
    if "sample" in found:
        sampled(config.sample, "sample.max_new_tokens", config.sample.engine)
    aligns = [align_config(config, method) for method in config.methods] if "align" in trained else []
    validations = [config.vft.validation if "vft" in trained else None, *(align.validation for align in aligns)]
    evaluated = bool(found & {"evaluate", VALIDATE})
    if evaluated or any(validations):
        # validation during training samples with transformers
        engine = config.evaluate.engine if evaluated else "transformers"
        sampled(config.evaluate, "evaluate.max_new_tokens", engine)
    problems = []
    for tokens, what, key, limit in wanted:
        try:
            warning = check_length(tokens, limit, what, key)
        except ConfigError as error:
            problems += error.problems
            continue
        if warning:
            say(warning)
    if problems:
        raise ConfigError(problems)


def _texts(plan: Plan) -> tuple[list[str], list[str]]:
    """The texts of all questions, and of the references that are known, with the first seed."""
    questions: list[str] = []
    references: list[str] = []
    for split in (TRAIN, ANSWER_ONLY, VALIDATION, TEST):
        for question in plan.task.load(split, seed=plan.config.seeds[0]):
            questions.append(question.question)
            if question.rationale is not None:
                references.append(plan.task.reference_response(question))
    return questions, references


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])


def _count(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], encoded: Sequence[list[int]]) -> dict[str, Any]:
    """The number of tokens, how many of them stand for what the tokenizer does not know, and words with such tokens."""
    unknown = tokenizer.unk_token_id if _has_unknown(tokenizer) else None
    in_text = [ids.count(unknown) for ids in encoded] if unknown is not None else [0] * len(encoded)
    found = (text for text, count in zip(texts, in_text, strict=True) if count)
    words = Counter(_unknown_words(tokenizer, [text for text, _ in zip(found, range(_SEARCHED), strict=False)]))
    return {
        "total": sum(map(len, encoded)),
        "unknown": sum(in_text),
        "unknown_words": [word for word, _ in words.most_common(5)],
    }


def _unknown_words(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[str]:
    words = [word for text in texts for word in text.split()]
    for word, ids in zip(words, _encode(tokenizer, words), strict=True):
        if tokenizer.unk_token_id in ids:
            yield word


def _has_unknown(tokenizer: PreTrainedTokenizerBase) -> bool:
    """False if the tokenizer divides whatever it does not know into bytes."""
    model: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "byte_fallback", False):
        return False
    return type(model).__name__ != "BPE" or model.unk_token is not None


def _tell(counts: dict[str, Any], checkpoint: str) -> None:
    total, unknown = counts["total"], counts["unknown"]
    shown = f"{unknown:,} unknown to the tokenizer" if unknown else "none unknown to the tokenizer"
    say(f"tokens: {total:,} in questions and references, {shown}")
    if unknown > _MANY * total:
        say(
            f"warning: the tokenizer of {checkpoint} does not know {unknown / total:.1%} of the tokens;"
            f" among the words that it cannot read: {', '.join(counts['unknown_words'])}"
        )
