"""A generated task about creatures: each question needs facts that it does not state, and one step of reasoning.

`which one can fly ? ( A ) hato ( B ) fesu` requires two facts: which class of creatures can fly, and which option
belongs to this class. Only chains state these facts: `a moth can fly . the fesu is a moth . so it is fesu .` All facts
are drawn at random. The pretrain split has many faulty chains; all other splits have only right chains. Wordings and
the positions of options are drawn independently of right or wrong. `aft.tasks.steps:rate` can rate these chains.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

from ..answers import LETTERS
from ..errors import ConfigError, DataError
from ..records import WORLD_SIZES, Question
from .chains import ChainCheck
from .creature_chains import (
    CLASS_WORDINGS,
    CLASSES,
    CONCLUSIONS,
    PROPERTIES,
    PROPERTY_WORDINGS,
    Creature,
    CreatureChains,
    Sighting,
)
from .generated import (
    MAX_CHOICES,
    GeneratedTask,
    Written,
    common_problems,
    draw_misread_rates,
    list_options,
    option_tokens,
    own_arguments,
    split_options,
    zipf_shares,
)

NUM_CREATURES = 80
QUESTION = "which one {} ?"
_RATES = (
    "misconception_fraction",
    "misconception_low",
    "misconception_high",
    "base_wrong_class",
    "wrong_property",
    "slip",
    "skip",
)


class Creatures(GeneratedTask[Sighting]):
    """The generated common-sense task. Every argument has a default, and every draw is seeded.

    Args:
        num_train: number of questions with a reference chain, per seed.
        num_answer_only: number of further training questions with a known answer and no chain, per seed.
        num_validation, num_test: number of questions of these splits, per seed.
        num_pretrain: number of chains, some of them wrong, for training a base model from scratch.
        num_choices: number of options of a question, 2 to 8; exactly one is right.
        data_seed: seed of the world: 80 creatures, their classes, and the properties of the classes.
        marker: text before the final answer.
        frequency_exponent: the r-th creature occurs in proportion to r ** -frequency_exponent; in 0 .. 2.
        misconception_fraction: share of creatures with a misconception: faulty chains often give them a wrong class,
            the same one each time.
        misconception_low, misconception_high: range of the misread rates of these creatures, drawn uniformly.
        base_wrong_class: misread rate of all other creatures.
        wrong_property: rate at which a chain names a wrong class for the property.
        slip: rate of answers that differ from the chain's conclusion.
        skip: rate of chains that leave out one of their two steps.

    The error rates apply to the pretrain split only. A faulty chain continues from its own wrong facts: it takes one of
    the options that fit these facts, or any option if none fits.
    Raises: a `ConfigError` that names every argument out of range.
    """

    NAME = "creatures"
    VERSION = 2

    def __init__(
        self,
        *,
        num_train: int = WORLD_SIZES["num_train"],
        num_answer_only: int = WORLD_SIZES["num_answer_only"],
        num_validation: int = WORLD_SIZES["num_validation"],
        num_test: int = WORLD_SIZES["num_test"],
        num_pretrain: int = WORLD_SIZES["num_pretrain"],
        num_choices: int = 4,
        data_seed: int = 0,
        marker: str = "[ANS]",
        frequency_exponent: float = 0.5,
        misconception_fraction: float = 0.45,
        misconception_low: float = 0.35,
        misconception_high: float = 0.8,
        base_wrong_class: float = 0.01,
        wrong_property: float = 0.05,
        slip: float = 0.01,
        skip: float = 0.02,
    ) -> None:
        arguments = own_arguments(locals())
        problems = common_problems(arguments, _RATES)
        if not isinstance(num_choices, int) or not 2 <= num_choices <= MAX_CHOICES:
            problems.append(f"num_choices: must be 2 to {MAX_CHOICES}, got {num_choices!r}")
        if not 0 <= frequency_exponent <= 2:
            # Above 2, rare creatures are so rare that drawing distinct options takes too long.
            problems.append(f"frequency_exponent: must be from 0 to 2, got {frequency_exponent!r}")
        if problems:
            raise ConfigError(problems)
        super().__init__(arguments, "choice")
        self.num_choices = num_choices
        self.slip = slip
        rng = random.Random(f"{data_seed}/creatures")
        misconceptions = {
            "fraction": misconception_fraction,
            "low": misconception_low,
            "high": misconception_high,
            "base": base_wrong_class,
        }
        self.creatures = _make_creatures(draw_misread_rates(NUM_CREATURES, **misconceptions, rng=rng), rng)
        self._weights = list(itertools.accumulate(zipf_shares(NUM_CREATURES, frequency_exponent)))
        self._chains = CreatureChains(
            _make_facts(rng), wrong_property, skip, {creature.word: creature for creature in self.creatures}
        )
        self.facts = self._chains.facts

    def vocabulary(self) -> list[str]:
        """Every token of questions and chains, in a fixed order. Texts are tokens joined by one space."""
        wordings = " ".join([QUESTION, *CLASS_WORDINGS, *PROPERTY_WORDINGS, *CONCLUSIONS, *PROPERTIES])
        values = itertools.chain(*PROPERTIES.values())
        words = [creature.word for creature in self.creatures]
        tokens = [*wordings.split(), self.marker, *option_tokens(self.num_choices), *CLASSES, *values, *words]
        return [token for token in dict.fromkeys(tokens) if token != "{}"]

    def check_chain(self, question: str, completion: str) -> ChainCheck:
        """The faults of a chain. `CreatureChains.check` defines their kinds.

        Raises `DataError` if the text is no question of this world.
        """
        asked, value, options = self._parse_question(question)
        letter = self.extract_answer(completion, Question("", question, "", options=options)).answer
        answer = None if letter is None else options[LETTERS.index(letter)]
        return self._chains.check(asked, value, options, completion.split(self.marker)[0], answer)

    def _draw_problem(self, rng: random.Random) -> Sighting:
        right = self._draw_creature(rng)
        asked = rng.choice(list(PROPERTIES))
        value = self.facts[right.kind][asked]
        drawn = [right]
        while len(drawn) < self.num_choices:
            creature = self._draw_creature(rng)
            if creature not in drawn and self.facts[creature.kind][asked] != value:
                drawn.append(creature)
        return Sighting(asked, value, tuple(drawn))

    def _draw_creature(self, rng: random.Random) -> Creature:
        return rng.choices(self.creatures, cum_weights=self._weights)[0]

    def _key(self, problem: Sighting) -> str:
        words = sorted(creature.word for creature in problem.creatures)
        return f"{problem.asked} {problem.value} {' '.join(words)}"

    def _write(self, problem: Sighting, rng: random.Random, *, faulty: bool) -> Written:
        listed = rng.sample(problem.creatures, self.num_choices)
        options = tuple(creature.word for creature in listed)
        chain, chosen = self._chains.write(problem, listed, rng, faulty=faulty)
        answer = chosen.word
        if faulty and rng.random() < self.slip:
            answer = rng.choice([option for option in options if option != answer])
        text = f"{QUESTION.format(f'{problem.asked} {problem.value}')} {list_options(options)}"
        return Written(text, chain, LETTERS[options.index(answer)], options)

    def _parse_question(self, question: str) -> tuple[str, str, tuple[str, ...]]:
        stem, options = split_options(question)
        if options and all(option in self._chains.creatures for option in options):
            for asked, values in PROPERTIES.items():
                for value in values:
                    if stem == QUESTION.format(f"{asked} {value}"):
                        return asked, value, options
        raise DataError(f"not a question of this world of creatures: {question!r}")


def is_question(text: str) -> bool:
    """True if a text begins like a question about creatures of any world."""
    return text.startswith(QUESTION.partition("{")[0])


def _make_creatures(rates: Iterable[float], rng: random.Random) -> list[Creature]:
    """80 creatures, most frequent first. No word can be a verb of the arithmetic world."""
    words = ["".join(letters) for letters in itertools.product("fhjstwy", "aeiou", "fhjstwy", "aeiou")]
    creatures = []
    for number, (word, rate) in enumerate(zip(rng.sample(words, NUM_CREATURES), rates, strict=True)):
        kind = CLASSES[number % len(CLASSES)]
        creatures.append(Creature(word, kind, rng.choice([other for other in CLASSES if other != kind]), rate))
    return creatures


def _make_facts(rng: random.Random) -> dict[str, dict[str, str]]:
    """Class -> property -> value. No two classes share a value, so that every question asks for exactly one class."""
    facts: dict[str, dict[str, str]] = {kind: {} for kind in CLASSES}
    for asked, values in PROPERTIES.items():
        for kind, value in zip(CLASSES, rng.sample(values, len(values)), strict=True):
            facts[kind][asked] = value
    return facts
