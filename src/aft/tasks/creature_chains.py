"""Chains about creatures: how they are written, right or faulty, and which faults a written one holds."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .chains import ChainCheck

CLASSES = ("bird", "fish", "frog", "goat", "moth", "newt", "snake", "worm")
PROPERTIES = {
    "lives in": ("caves", "reeds", "sand", "snow", "trees"),
    "eats": ("bark", "grass", "moss", "roots", "seeds"),
    "can": ("climb", "dig", "fly", "swim"),
    "has": ("claws", "fur", "horns", "scales"),
}
VALUES = frozenset(value for values in PROPERTIES.values() for value in values)
CLASS_WORDINGS = ("{} is a {} .", "a {} is a {} .", "the {} is a {} .", "now {} is a {} .")
PROPERTY_WORDINGS = ("{} {} .", "a {} {} .", "each {} {} .", "every {} {} .")
CONCLUSIONS = ("so it is {} .", "it is {} .", "so {} .", "that is {} .")


class Creature(NamedTuple):
    """An invented creature: its class, and the class that the pretrain split takes it for, at a rate of its own."""

    word: str
    kind: str
    wrong_kind: str
    misread_rate: float


class Sighting(NamedTuple):
    """What is asked, such as `can`, `fly`, and the creatures to choose from, of which one is right."""

    asked: str
    value: str
    creatures: tuple[Creature, ...]


@dataclass(frozen=True)
class CreatureChains:
    """`facts`: class -> kind of property -> its value. The three rates are those of the pretrain split."""

    facts: Mapping[str, Mapping[str, str]]
    wrong_property: float
    skip: float
    creatures: Mapping[str, Creature] = field(repr=False)

    def write(
        self, problem: Sighting, options: Sequence[Creature], rng: random.Random, *, faulty: bool
    ) -> tuple[str, Creature]:
        """A chain in random wordings and the creature that it ends with.

        It goes through the options, from a random one on and around, until one fits what it believes. Where none does,
        the last that it looked at is its answer. An order that always began with the first would be told by the letter:
        a chain that stops at A is wrong more often than one that stops at D.
        """
        start = rng.randrange(len(options))
        order = [*options[start:], *options[:start]]
        sentences: list[str] = []
        told: dict[str, str] = {}  # what the chain has said of a class, which it does not take back
        chosen = order[-1]
        for position, creature in enumerate(order, start=1):
            if faulty and rng.random() < self.skip and (sentences or position < len(order)):
                continue
            kind, chosen = creature.kind, creature
            if faulty and rng.random() < creature.misread_rate:
                kind = creature.wrong_kind
            value = self.facts[kind][problem.asked]
            if faulty and rng.random() < self.wrong_property:
                value = rng.choice([other for other in PROPERTIES[problem.asked] if other != value])
            value = told.setdefault(kind, value)
            sentences.append(rng.choice(CLASS_WORDINGS).format(creature.word, kind))
            sentences.append(rng.choice(PROPERTY_WORDINGS).format(kind, f"{problem.asked} {value}"))
            if value == problem.value:
                break
        sentences.append(rng.choice(CONCLUSIONS).format(chosen.word))
        return " ".join(sentences), chosen

    def check(self, asked: str, wanted: str, options: Sequence[str], chain: str, answer: str | None) -> ChainCheck:
        """The faults of a chain; a sentence has at most one, and an error that is carried along counts once.

        class, property: a sentence says what is not so. form: it says nothing that a chain can say. conclusion: it does
        not name what fits by the chain's own words, or there is none. skip: nothing fits, but not every creature was
        looked at. letter: the answer, if there is one, is another creature than the conclusion's.
        """
        reader = _Reader(self, asked, wanted, options)
        sentences = [sentence for sentence in chain.split(" .") if sentence.strip()]
        faults = [reader.read(sentence.split()) for sentence in sentences]
        ending = []
        if not reader.fits and not reader.seen.issuperset(options):
            ending.append("skip")
        if reader.concluded is None:
            ending.append("conclusion")
        elif answer is not None and answer != reader.concluded:
            ending.append("letter")
        kinds = [fault for fault in faults if fault] + ending
        wrong = [index for index, fault in enumerate(faults) if fault]
        first_wrong = wrong[0] if wrong else len(sentences) if ending else None
        return ChainCheck(len(sentences), first_wrong, tuple(kinds))


class _Reader:
    """Follows a chain sentence by sentence and remembers what it has said."""

    def __init__(self, chains: CreatureChains, asked: str, wanted: str, options: Collection[str]) -> None:
        self.chains, self.asked, self.wanted, self.options = chains, asked, wanted, options
        self.seen: set[str] = set()
        self.fits: set[str] = set()
        self.concluded: str | None = None
        self._looked_at: tuple[str, str] | None = None  # the last creature, and the class it is said to be of

    def read(self, tokens: list[str]) -> str | None:
        """The fault of one sentence, or None."""
        creatures = [token for token in tokens if token in self.chains.creatures]
        kinds = [token for token in tokens if token in CLASSES]
        values = [token for token in tokens if token in VALUES]
        if self.concluded is not None:
            return "form"
        match creatures, kinds, values:
            case [creature], [kind], []:
                return self._read_class(creature, kind)
            case [], [kind], [value] if self.asked in " ".join(tokens):
                return self._read_property(kind, value)
            case [creature], [], []:
                self.concluded = creature
                return "conclusion" if self.fits and creature not in self.fits else None
        return "form"

    def _read_class(self, creature: str, kind: str) -> str | None:
        self._looked_at = creature, kind
        self.seen.add(creature)
        known = creature in self.options and self.chains.creatures[creature].kind == kind
        return None if known else "class"

    def _read_property(self, kind: str, value: str) -> str | None:
        creature, believed = self._looked_at or (None, None)
        if kind == believed and creature is not None and value == self.wanted:
            self.fits.add(creature)
        return None if kind == believed and self.chains.facts[kind][self.asked] == value else "property"
