"""Writes right and faulty chains about creatures, and names the faults of a chain."""

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
    """An invented creature and its class. The pretrain split gives it a wrong class at its `misread_rate`."""

    word: str
    kind: str
    wrong_kind: str
    misread_rate: float


class Sighting(NamedTuple):
    """A question: the property asked for (`can`), its value (`fly`), and the creatures to choose from. One is right."""

    asked: str
    value: str
    creatures: tuple[Creature, ...]


@dataclass(frozen=True)
class CreatureChains:
    """Writes and checks chains. The rates apply to the pretrain split only.

    `facts`: class -> property -> value; no two classes have the same value of a property. `creatures`: by word.
    """

    facts: Mapping[str, Mapping[str, str]]
    wrong_property: float
    skip: float
    creatures: Mapping[str, Creature] = field(repr=False)

    def write(
        self, problem: Sighting, options: Sequence[Creature], rng: random.Random, *, faulty: bool
    ) -> tuple[str, Creature]:
        """A chain in random wordings and the creature that it concludes.

        The chain names the class that is asked for, then an option of that class. A faulty chain may take creatures for
        another class. If several options fit, it names one of them at random; if none fits, it names any option and
        says that this option is of the class. Chains do not check option after option, because a model of this size
        does not learn when to stop.
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
        """The faults of a chain. Each sentence has at most one fault. A true sentence may be repeated.

        property, class: the sentence is false, or is about something that was not asked.
        form: the sentence has no form that chains use, or follows the conclusion.
        conclusion: the conclusion does not follow from the chain, or is missing.
        skip: no sentence names the class that is asked for, or no sentence names the class of a creature.
        letter: the answer is another creature than the conclusion. A missing answer is no fault.
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
    """Reads a chain sentence by sentence and keeps its statements."""

    def __init__(self, chains: CreatureChains, asked: str, wanted: str, options: Collection[str]) -> None:
        self.chains, self.asked, self.wanted, self.options = chains, asked, wanted, options
        self.fitting: set[str] = set()  # classes to which the chain gives the value that is asked for
        self.told: dict[str, str] = {}  # creature -> class that the chain gives it
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
        """True if no earlier sentence contradicts this conclusion. A missing sentence is the fault `skip`."""
        if not self.told:
            return True
        return creature in self.told and (not self.fitting or self.told[creature] in self.fitting)
