"""Chains about creatures: how they are written, right or faulty, and which faults a written one holds."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .chains import ChainCheck

CLASSES = ("bird", "fish", "frog", "goat", "moth", "newt", "snake", "worm")
PROPERTIES = {
    "lives in": ("bogs", "caves", "cliffs", "lakes", "reeds", "sand", "snow", "trees"),
    "eats": ("bark", "buds", "grass", "leaves", "moss", "nuts", "roots", "seeds"),
    "can": ("bite", "climb", "dig", "dive", "fly", "hide", "sing", "swim"),
    "has": ("claws", "fangs", "fur", "horns", "humps", "scales", "spots", "wings"),
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
    """`facts`: class -> kind of property -> its value, which no other class has. The rates are the pretrain split's."""

    facts: Mapping[str, Mapping[str, str]]
    wrong_property: float
    skip: float
    creatures: Mapping[str, Creature] = field(repr=False)

    def write(
        self, problem: Sighting, options: Sequence[Creature], rng: random.Random, *, faulty: bool
    ) -> tuple[str, Creature]:
        """A chain in random wordings and the creature that it ends with.

        It names the class that is asked for, then the option of that class, as it believes: one of them where several
        are, and where none is, any option, of which it says so. A chain that went through the options one by one would
        have to know when to stop, which a model of this size does not learn.
        """
        kind = next(kind for kind, has in self.facts.items() if has[problem.asked] == problem.value)
        if faulty and rng.random() < self.wrong_property:
            kind = rng.choice([other for other in self.facts if other != kind])
        fitting = [
            creature
            for creature in options
            if kind == (creature.wrong_kind if faulty and rng.random() < creature.misread_rate else creature.kind)
        ]
        chosen = rng.choice(fitting or options)
        sentences = [
            rng.choice(PROPERTY_WORDINGS).format(kind, f"{problem.asked} {problem.value}"),
            rng.choice(CLASS_WORDINGS).format(chosen.word, kind),
        ]
        if faulty and rng.random() < self.skip:
            del sentences[rng.randrange(2)]
        sentences.append(rng.choice(CONCLUSIONS).format(chosen.word))
        return " ".join(sentences), chosen

    def check(self, asked: str, wanted: str, options: Sequence[str], chain: str, answer: str | None) -> ChainCheck:
        """The faults of a chain; a sentence has at most one. Every false sentence counts, a true one may be repeated.

        property, class: a sentence says what is not so, or what was not asked. form: it says nothing that a chain can
        say. conclusion: it does not follow from the chain's own words, or there is none. skip: no sentence says which
        class is asked for, or none of which class an option is. letter: the answer, if there is one, is another
        creature than the conclusion's.
        """
        reader = _Reader(self, asked, wanted, options)
        sentences = [sentence for sentence in chain.split(" .") if sentence.strip()]
        faults = [reader.read(sentence.split()) for sentence in sentences]
        ending = ["skip"] * ((not reader.fitting) + (not reader.told))
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
        self.fitting: set[str] = set()  # the classes that are said to have what is asked for
        self.told: dict[str, str] = {}  # creature -> the class that it is said to be of
        self.concluded: str | None = None

    def read(self, tokens: list[str]) -> str | None:
        """The fault of one sentence, or None."""
        creatures = [token for token in tokens if token in self.chains.creatures]
        kinds = [token for token in tokens if token in CLASSES]
        values = [token for token in tokens if token in VALUES]
        if self.concluded is not None:
            return "form"
        match creatures, kinds, values:
            case [], [kind], [value] if self.asked in " ".join(tokens):
                return self._read_property(kind, value)
            case [creature], [kind], []:
                return self._read_class(creature, kind)
            case [creature], [], []:
                self.concluded = creature
                return None if self._follows(creature) else "conclusion"
        return "form"

    def _read_property(self, kind: str, value: str) -> str | None:
        if value == self.wanted:
            self.fitting.add(kind)
        return None if value == self.wanted == self.chains.facts[kind][self.asked] else "property"

    def _read_class(self, creature: str, kind: str) -> str | None:
        self.told[creature] = kind
        known = creature in self.options and self.chains.creatures[creature].kind == kind
        return None if known else "class"

    def _follows(self, creature: str) -> bool:
        """Whether nothing that was said speaks against it. What was left unsaid is a fault of its own."""
        if not self.told:
            return True
        return creature in self.told and (not self.fitting or self.told[creature] in self.fitting)
