"""What a plan knows of its rounds: which models there are, what each starts from and reads, and where rounds stop.

Does not import torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..config import Config, align_config
from ..config.rounds import RoundsConfig
from ..config.schema import AlignConfig, num_rounds, validates_rounds
from ..errors import DataError
from ..json_files import read_json
from ..run.folder import COUNTS, RunFolder, Unit, method_round, round_name
from .rounds import Standing, describe, leaves_nothing, read_accuracies, stand


def needs_pairs(align: AlignConfig) -> bool:
    """True if a training compares candidates of different ratings and nothing else."""
    return align.loss is not None and (align.loss.needs_pairs or align.loss.reduction == "mean_with_pair")


class PlannedRounds:
    """The rounds of a configuration and of what lies in its run's folder. A base of `Plan`."""

    config: Config
    run: RunFolder

    @property
    def rounds(self) -> RoundsConfig:
        """The section `rounds`, or that of a single round."""
        return self.config.rounds or RoundsConfig()

    @property
    def num_rounds(self) -> int:
        """How many rounds the run may have."""
        return num_rounds(self.config)

    @property
    def validates(self) -> bool:
        """True if the run has rounds whose models are validated."""
        return validates_rounds(self.config)

    def standing(self, method: str, seed: int) -> Standing:
        """Returns what the validation and the samples of a method's rounds say so far."""
        found = read_accuracies(self.run, method, seed, self.num_rounds) if self.validates else []
        return stand(found, self.rounds.patience, self._saturated(method, seed))

    def _saturated(self, method: str, seed: int) -> int | None:
        """Returns the first round after round 1 whose labels leave a method nothing to compare."""
        align = align_config(self.config, method)
        pairs, mixed = needs_pairs(align), align.groups == "mixed"
        if not pairs and not mixed:
            return None
        for number in range(2, self.num_rounds + 1):
            labels = self.label_units(self.run.unit("align", seed, round_name(method, number)))
            try:
                counts = [read_json(label.folder / COUNTS) for label in labels]
            except DataError:  # damaged; the state of its unit says so
                continue
            if all(found is not None and leaves_nothing(found, pairs=pairs, mixed=mixed) for found in counts):
                return number
        return None

    def final_model(self, method: str, seed: int) -> str:
        """Returns the name of a method's final model: of its best round so far, or without validation of its last."""
        name: str = describe(self.standing(method, seed), method, self.num_rounds)["final"]
        return name

    def describe_rounds(self) -> dict[str, Any]:
        """Returns what rounds.json holds: for each method and seed its validation, final model and stop."""
        return {
            method: {
                str(seed): describe(self.standing(method, seed), method, self.num_rounds) for seed in self.config.seeds
            }
            for method in self.config.methods
        }

    def behind_stops(self) -> Callable[[Unit], bool]:
        """Returns a test for units of rounds behind a stop. It reads once what decides the stops of a method."""
        standing = functools.cache(self.standing)

        def is_behind(unit: Unit) -> bool:
            if unit.round == 1 or unit.seed is None:
                return False
            return not standing(method_round(unit.name or "")[0], unit.seed).has(unit.stage, unit.round)

        return is_behind

    def earlier(self, name: str) -> str:
        """Returns the model of the round before the one that makes `name`."""
        method, number = method_round(name)
        return round_name(method, number - 1)

    def sampled_model(self, unit: Unit) -> str:
        """Returns the name of the model that a sample unit samples from."""
        return self.config.sample.model if unit.name is None else self.earlier(unit.name)

    def start_of(self, name: str) -> str:
        """Returns the name of the model that the training of a method's round starts from."""
        if method_round(name)[1] > 1 and self.rounds.start_from == "last":
            return self.earlier(name)
        return align_config(self.config, name).init_from

    def label_units(self, unit: Unit) -> list[Unit]:
        """Returns the label units whose groups an align unit is trained on, in the order of rounds."""
        method, last = method_round(unit.name or "")
        first = 1 if self.rounds.keep == "all" else last
        names = [None if number == 1 else round_name(method, number) for number in range(first, last + 1)]
        return [self.run.unit("label", unit.seed, name) for name in names]
