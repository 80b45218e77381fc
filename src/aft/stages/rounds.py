"""Which rounds a method has, and which of its models is the final one. Does not import torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DataError
from ..json_files import read_json
from ..records import REFERENCE, Group
from ..run.folder import RunFolder, round_name


@dataclasses.dataclass(frozen=True)
class Standing:
    """What the validation and the samples of a method's rounds say so far.

    `accuracies`: by round, for the rounds that were validated. `best`: the round of the highest, the earliest of
    equals; None: no round was validated. `stopped`: the round after which the rounds stop; None: they go on.
    `saturated`: the round whose samples left nothing to compare, if that is why they stop before it.
    """

    accuracies: tuple[float, ...]
    best: int | None
    stopped: int | None
    saturated: int | None = None

    def has(self, stage: str, number: int) -> bool:
        """True if the rounds have units of a stage in this round."""
        if self.stopped is None:
            return True
        # the samples that show a stop are units: made again, they may not show it
        shows = number == self.saturated and stage in ("sample", "label")
        return number <= self.stopped or shows


def stand(accuracies: Sequence[float], patience: int | None, saturated: int | None = None) -> Standing:
    """Returns what validation accuracies of rounds 1, 2, ... say. Those behind a stop are left out.

    `saturated`: the first round whose samples leave nothing to compare.
    """
    if saturated is not None:
        accuracies = accuracies[: saturated - 1]
    best, stopped = None, None
    for number, accuracy in enumerate(accuracies, 1):
        if best is None or accuracy > accuracies[best - 1]:
            best = number
        elif patience is not None and number - best >= patience:
            stopped = number
            break
    if stopped is None and saturated is not None:
        return Standing(tuple(accuracies), best, saturated - 1, saturated)
    return Standing(tuple(accuracies[:stopped]), best, stopped)


def leaves_nothing(counts: Mapping[str, Any], *, pairs: bool, mixed: bool) -> bool:
    """True if labels give an alignment nothing to compare, by what their counts.json holds.

    `pairs`: its loss compares candidates of different ratings. `mixed`: it reads only questions with right and wrong
    samples. Counts of earlier versions that lack what is needed say nothing.
    """
    if pairs and counts.get("groups_with_pair") == 0:
        return True
    found = counts.get("outcomes")
    if not mixed or found is None or (counts.get("from_prefix") or {}).get("kept"):
        return False
    return bool(found["all_wrong"] + found["all_right"] >= found["questions"])


def validated(predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what validation.json holds: the number of right predictions, of all, and their ratio."""
    right = sum(line["is_correct"] for line in predictions)
    return {"accuracy": right / len(predictions), "right": right, "questions": len(predictions)}


def read_accuracies(run: RunFolder, method: str, seed: int, count: int) -> list[float]:
    """Returns the validation accuracies of a method's first rounds, up to the first round without any."""
    found: list[float] = []
    for number in range(1, count + 1):
        try:
            measured = read_json(run.validation(round_name(method, number), seed))
        except DataError:  # damaged; the state of its unit says so
            break
        accuracy = (measured or {}).get("accuracy")
        if not isinstance(accuracy, (int, float)):
            break
        found.append(float(accuracy))
    return found


def describe(standing: Standing, method: str, count: int) -> dict[str, Any]:
    """Returns what rounds.json says of a method and seed. Without validation the last round is the final one."""
    found = {
        "validation": list(standing.accuracies),
        "final": round_name(method, standing.best or standing.stopped or count),
        "stopped_after": standing.stopped,
    }
    return found if standing.saturated is None else {**found, "nothing_to_compare_in": standing.saturated}


def merge_groups(rounds: Sequence[Sequence[Group]], *, deduplicate: str = "exact") -> list[Group]:
    """Returns the groups of several rounds as one group a question, with all candidates of all rounds.

    `deduplicate`: exact leaves out a text that an earlier round gave the question; none keeps it. The reference is in
    a group once. Questions and candidates keep their order, earlier rounds first.
    """
    merged: dict[str, Group] = {}
    for groups in rounds:
        for group in groups:
            known = merged.get(group.question_id)
            if known is None:
                merged[group.question_id] = group
                continue
            texts = {candidate.completion for candidate in known.candidates}
            new = [
                candidate
                for candidate in group.candidates
                if candidate.completion not in texts or (deduplicate == "none" and candidate.label != REFERENCE)
            ]
            merged[group.question_id] = dataclasses.replace(known, candidates=(*known.candidates, *new))
    return list(merged.values())
