"""Tokens, operations and seconds of each stage, from lengths on average."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..config import Config, align_config
from ..config.rounds import DEFAULT_QUESTIONS
from ..config.schema import DEFAULT_POOL, AlignConfig, model_names, trained_names, validates_rounds
from ..run.folder import VALIDATE, method_round
from ..stages.loss_section import takes_initial_scores

# Rounds of sampling that assessment accuracy is assumed to need.
ASSESSMENT_ROUNDS = 2
# A chain is assumed to be continued from its middle, and half of the continuations to end wrong.
_CONTINUED, _WRONG = 0.5, 0.5


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Numbers of questions and mean tokens. `longest`: of the longest prompt. `notes`: where the figures come from.

    `response`: of a reference with its end. `sampled`: of a completion. `referenced`: questions with a known chain.
    """

    referenced: int | None
    questions: int | None
    validation: int
    test: int
    prompt: float
    longest: int
    response: float
    sampled: float
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Work:
    """One unit's work. Tokens: `trained` forward and backward, `scored` forward only, `sampled` one after the other.

    `read`: tokens of the prompts of the samples. `repeated`: what `trained` and `scored` would be with the question
    repeated for each response. `predicted`: response tokens among the trained and scored ones, (trained, scored).
    `pairs`: of tokens in attention, for the trained and for the scored tokens.
    """

    stage: str
    name: str | None = None
    trained: float = 0.0
    scored: float = 0.0
    sampled: float = 0.0
    read: float = 0.0
    repeated: float = 0.0
    predicted: tuple[float, float] = (0.0, 0.0)
    pairs: tuple[float, float] = (0.0, 0.0)

    def __str__(self) -> str:
        return f"{self.stage} {self.name}" if self.name else self.stage


def work(config: Config, lengths: Lengths, processes: int = 1) -> list[Work]:
    """The units of one seed, in as many rounds as there may be.

    `processes`: those that share a training, which decide how many steps are an epoch.
    """
    units = []
    questions, referenced = lengths.questions or 0, lengths.referenced or 0
    wanted = config.sample.pool_questions
    pool = min(lengths.validation, DEFAULT_POOL if wanted is None else wanted)
    if "vft" in config.stages:
        passes = _passes({**config.training, **config.vft.training}, referenced, processes)
        units.append(_trained("vft", None, passes * referenced, lengths.prompt, [lengths.response]))
    if "sample" in config.stages:
        units.append(_sampling(config, lengths, None, questions + pool))
    if "align" in config.stages:
        scored: set[tuple[Any, ...]] = set()  # methods share the scores before training
        for name in trained_names(config):
            if method_round(name)[1] > 1:
                units.append(_sampling(config, lengths, name, questions))
            units.append(_alignment(config, lengths, name, processes, scored))
            if validates_rounds(config):
                assert config.rounds is not None
                asked = min(lengths.validation, config.rounds.validation_questions or DEFAULT_QUESTIONS)
                units.append(Work(VALIDATE, name, sampled=asked * lengths.sampled, read=asked * lengths.prompt))
    if "evaluate" in config.stages:
        units += _evaluations(config, lengths, pool)
    return units


def _sampling(config: Config, lengths: Lengths, name: str | None, count: int) -> Work:
    """Samples of `count` questions, and what continues the chains of the training questions among them."""
    section, cut = config.sample.from_prefix, lengths.questions or 0
    sampled, read = count * config.sample.num_samples * lengths.sampled, count * lengths.prompt
    if section is not None:
        places = cut * section.places
        sampled += places * section.num_samples * (1 - _CONTINUED) * lengths.sampled
        read += places * (lengths.prompt + _CONTINUED * lengths.sampled)
    return Work("sample", name, sampled=sampled, read=read)


def _alignment(config: Config, lengths: Lengths, name: str, processes: int, scored: set[tuple[Any, ...]]) -> Work:
    """The training of a method's round. `scored`: what earlier ones scored before training; it is added to."""
    align, number, questions = align_config(config, name), method_round(name)[1], lengths.questions or 0
    used = candidates_used(config, align, config.sample.num_samples) * rounds_of_groups(config, name)
    # without a loss on candidates, only right samples are used: half of them is an assumption
    share = float(used) if align.loss is not None else used / 2 if align.supervise != "reference" else 0.0
    passes = _passes({**config.training, **align.training}, questions, processes)
    responses = [lengths.response, *[lengths.sampled] * int(share)]
    unit = _trained("align", name, passes * questions, lengths.prompt, responses)
    start = align.init_from if number == 1 else name  # methods have one start in round 1 alone
    of = (start, used, align.negatives, align.response_mask)
    if takes_initial_scores(align) and of not in scored:
        scored.add(of)
        unit = _with_scores(unit, questions, lengths.prompt, [lengths.sampled] * used)
    return unit


def _evaluations(config: Config, lengths: Lengths, pool: int) -> list[Work]:
    section, questions, prompt = config.evaluate, lengths.questions or 0, lengths.prompt
    held = lengths.validation if section.split == "validation" else lengths.test
    greedy = min(held, section.num_questions or held)
    sampled, read = float(greedy), float(greedy)
    assessed = 0
    if section.assessment is not None:
        assessed = min(questions, section.assessment.num_questions or questions)
        each = min(section.assessment.max_samples, ASSESSMENT_ROUNDS * section.assessment.samples_per_round)
        sampled, read = sampled + assessed * each, read + assessed * ASSESSMENT_ROUNDS
    if section.self_consistency is not None:
        asked = min(greedy, section.self_consistency.num_questions or greedy)
        sampled, read = sampled + asked * section.self_consistency.num_paths, read + asked
    units = []
    for name in model_names(config):
        unit = Work("evaluate", name, sampled=sampled * lengths.sampled, read=read * prompt)
        if section.assessment is not None:
            own = [lengths.sampled] * (2 * section.assessment.per_label)
            unit = _with_scores(unit, assessed, prompt, [lengths.response, *own])
        units.append(_with_scores(unit, pool, prompt, [lengths.sampled] * config.sample.num_samples))
    return units


def candidates_used(config: Config, align: AlignConfig, k: int) -> int:
    """Candidates of a question that an alignment reads. Where it leaves negatives out, half of the samples are some."""
    used, section = min(k, align.max_candidates or k), config.sample.from_prefix
    if align.negatives == "from_prefix":
        used = max(1, used // 2)
    if section is None or align.negatives == "sampled" or align.loss is None:
        return used
    return used + int(_WRONG * section.places * section.num_samples)


def rounds_of_groups(config: Config, name: str) -> int:
    """How many rounds gave the groups that the training of a method's round reads, at most."""
    return method_round(name)[1] if config.rounds is not None and config.rounds.keep == "all" else 1


def _passes(training: dict[str, Any], entries: int, processes: int) -> float:
    """How often a training sees each of its entries."""
    steps = int(training.get("max_steps", -1))
    if steps < 1 or not entries:
        return float(training.get("num_train_epochs", 3))
    batch = int(training.get("per_device_train_batch_size", 8)) * int(training.get("gradient_accumulation_steps", 1))
    return steps * batch * processes / entries


def _shared(prompt: float, responses: list[float]) -> tuple[float, float, float, float]:
    """(unique tokens, tokens if the question is repeated, pairs in attention, response tokens) of a question."""
    own = [response - 1 for response in responses]
    pairs = prompt * (prompt + 1) / 2 + sum(one * prompt + one * (one + 1) / 2 for one in own)
    return prompt + sum(own), len(own) * prompt + sum(own), pairs, sum(responses)


def _trained(stage: str, name: str | None, count: float, prompt: float, responses: list[float]) -> Work:
    unique, repeated, pairs, predicted = _shared(prompt, responses)
    return Work(
        stage,
        name,
        trained=count * unique,
        repeated=count * repeated,
        predicted=(count * predicted, 0.0),
        pairs=(count * pairs, 0.0),
    )


def _with_scores(unit: Work, count: float, prompt: float, responses: list[float]) -> Work:
    unique, repeated, pairs, predicted = _shared(prompt, responses)
    return dataclasses.replace(
        unit,
        scored=unit.scored + count * unique,
        repeated=unit.repeated + count * repeated,
        predicted=(unit.predicted[0], unit.predicted[1] + count * predicted),
        pairs=(unit.pairs[0], unit.pairs[1] + count * pairs),
    )


# ---- operations and time ----


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a token costs a model: its matrices' weights, those of the head, the width of attention times layers.

    `frozen`: no gradient of the weights is computed. `again`: the layers are computed twice.
    """

    matrices: float
    head: float
    attention: float
    frozen: bool = False
    again: bool = False

    def operations(self, unit: Work) -> float:
        """Floating point operations of a unit: 6ND with attention, less the frozen weights' gradients, and what
        checkpointing computes again. A sampled token counts as a forward pass of the matrices."""
        # in units of the forward pass; attention has no weights, so nothing of it is frozen
        layers, attention = 3 + self.again - self.frozen, 3 + self.again
        inside = 2 * self.matrices * (layers * unit.trained + unit.scored)
        pairs = attention * unit.pairs[0] + unit.pairs[1]
        # a frozen head is never computed again
        head = 2 * self.head * ((2 if self.frozen else layers) * unit.predicted[0] + unit.predicted[1])
        sampling = 2 * (self.matrices + self.head) * unit.sampled + 2 * self.matrices * unit.read
        return inside + 4 * self.attention * pairs + head + sampling


@dataclasses.dataclass(frozen=True)
class Speed:
    """One GPU: operations a second in training, and bytes a second in sampling; or measured tokens a second.

    `scoring`: operations a second in scoring; None: as in training.
    """

    operations: float | None
    bytes: float | None
    train_tokens: float | None = None
    sample_tokens: float | None = None
    scoring: float | None = None


def seconds(unit: Work, costs: Costs, speed: Speed, sampling: tuple[float, float, int], gpus: int) -> float | None:
    """Seconds of a unit on `gpus`; None: a rate is not known.

    `sampling`: (bytes of the weights, bytes of a row's cache on average, rows at once). Each step of sampling reads the
    weights once, and every row's cache.
    """
    total, computed = 0.0, dataclasses.replace(unit, sampled=0.0, read=0.0)
    if unit.trained or unit.scored:
        if speed.train_tokens is not None:
            total += (unit.trained + unit.scored / 3) / speed.train_tokens
        elif speed.operations is not None:
            trained = dataclasses.replace(
                computed, scored=0.0, predicted=(unit.predicted[0], 0.0), pairs=(unit.pairs[0], 0.0)
            )
            training = costs.operations(trained)
            total += training / speed.operations
            total += (costs.operations(computed) - training) / (speed.scoring or speed.operations)
        else:
            return None
    if unit.sampled:
        weights, cache, rows = sampling
        if speed.sample_tokens is not None:
            total += unit.sampled / speed.sample_tokens
        elif speed.bytes is not None:
            total += unit.sampled / rows * (weights + rows * cache) / speed.bytes
        else:
            return None
    return total / gpus
