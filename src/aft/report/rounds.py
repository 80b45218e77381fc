"""The rounds of a run: what each round sampled and trained on, and how good its model is."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import DataError
from ..json_files import iter_json_lines, read_json
from ..records import POSITIVE, REFERENCE, iter_groups
from ..run.folder import RunFolder, Unit, count_rounds, method_round, round_names
from ..run.manifest import read_manifest
from ..stats.estimate import Estimate
from ..stats.intervals import mean_interval, wilson

_ENDED = "nothing_to_compare_in"  # of rounds.json: the round whose samples ended a method's rounds


def trained_names(config: Mapping[str, Any], run: RunFolder | None = None) -> list[str]:
    """Names of the models that the alignments of a configuration make, each method followed by its rounds.

    `run`: rounds that stopped on every seed are left out.
    """
    methods = [str(method) for method in config.get("methods") or []]
    return round_names(methods, count_rounds(config.get("rounds")), None if run is None else _stops(run))


def _record(run: RunFolder) -> dict[str, Any]:
    """What rounds.json holds; empty where it is absent or damaged."""
    try:
        return read_json(run.rounds) or {}
    except DataError:
        return {}


def _stops(run: RunFolder) -> dict[str, int]:
    """Method -> the last round that any seed reaches, where all of them have stopped."""
    found = {}
    for method, by_seed in _record(run).items():
        stops = [entry.get("stopped_after") for entry in by_seed.values()]
        if stops and all(isinstance(stop, int) for stop in stops):
            found[method] = max(stops)
    return found


def was_stopped(run: RunFolder, name: str, seed: int) -> bool:
    """True if a method's rounds stopped before the one of this model."""
    method, number = method_round(name)
    stop = (_record(run).get(method) or {}).get(str(seed), {}).get("stopped_after")
    return isinstance(stop, int) and number > stop


def read_rounds(
    run: RunFolder,
    config: Mapping[str, Any] | None,
    metrics: Mapping[str, Mapping[int, Mapping[str, Any]]],
    seeds: list[int],
    left_out: Collection[Unit] = (),
) -> list[dict[str, Any]]:
    """A row for each round of each method, and one for its final models. Empty for a run without rounds.

    A row has task accuracy and pass@k of the round's model, its validation accuracy, and from its samples the distinct
    right chains of a question and the share of right chains. `sampled_tokens` and `training_tokens` are means over
    seeds. Training tokens are the response tokens of one pass over what the round was trained on. The row of the final
    models has `nothing_to_compare_in` by seed, where the samples of a round ended the rounds.
    """
    if config is None or count_rounds(config.get("rounds")) == 1:
        return []
    rows, names, record = [], trained_names(config, run), _record(run)
    samples = {seed: _samples(run, seed, None, left_out) for seed in seeds}  # of round 1, shared by all methods
    for method in dict.fromkeys(method_round(name)[0] for name in names):
        for name in [name for name in names if method_round(name)[0] == method]:
            number = method_round(name)[1]
            own = samples if number == 1 else {seed: _samples(run, seed, name, left_out) for seed in seeds}
            rows.append(_row(run, name, own, metrics.get(name, {}), seeds, left_out))
        final = {int(seed): str(entry["final"]) for seed, entry in (record.get(method) or {}).items()}
        chosen = {seed: metrics[name][seed] for seed, name in final.items() if seed in metrics.get(name, {})}
        final_names = {str(seed): name for seed, name in final.items()}
        ended = {
            seed: entry[_ENDED] for seed, entry in (record.get(method) or {}).items() if entry.get(_ENDED) is not None
        }
        last = {"method": method, "round": None, "final": final_names, **_accuracies(chosen)}
        rows.append({**last, _ENDED: ended} if ended else last)
    return rows


def _row(
    run: RunFolder,
    name: str,
    samples: Mapping[int, Mapping[str, Any]],
    measured: Mapping[int, Mapping[str, Any]],
    seeds: list[int],
    left_out: Collection[Unit],
) -> dict[str, Any]:
    method, number = method_round(name)
    trained = [_manifest(run.unit("align", seed, name), left_out).get("epoch") for seed in seeds]
    estimates = {
        key: Estimate.over_seeds({seed: found[key] for seed, found in samples.items() if key in found})
        for key in ("distinct_right", "share_right")
    }
    return {
        "method": method,
        "round": number,
        "model": name,
        **_accuracies(measured),
        "validation": Estimate.over_seeds(_validation(run, name, seeds, left_out)),
        **estimates,
        "sampled_tokens": _mean([found["tokens"] for found in samples.values() if "tokens" in found]),
        "training_tokens": _mean([epoch["response_tokens"] for epoch in trained if epoch]),
    }


def rounds_from_json(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of report.json with an `Estimate` for each measure."""
    found = []
    for row in rows:
        own: dict[str, Any] = {key: Estimate.from_json(row[key]) for key in _ESTIMATES if row.get(key) is not None}
        paths = row.get("pass")
        if paths is not None:
            own["pass"] = {**paths, "estimate": paths["estimate"] and Estimate.from_json(paths["estimate"])}
        found.append({**row, **own})
    return found


_ESTIMATES = ("task_accuracy", "validation", "distinct_right", "share_right")


def _accuracies(by_seed: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Task accuracy, and pass@k of the largest k, of the models of a row."""
    task = {seed: found["task_accuracy"] for seed, found in by_seed.items() if found["task_accuracy"]}
    sizes = {int(size) for found in by_seed.values() for size in found["pass"]}
    largest = str(max(sizes)) if sizes else None
    passes = {seed: found["pass"][largest] for seed, found in by_seed.items() if largest in found["pass"]}
    return {
        "task_accuracy": Estimate.over_seeds(task),
        "pass": None if largest is None else {"k": int(largest), "estimate": Estimate.over_seeds(passes)},
    }


def _validation(run: RunFolder, name: str, seeds: list[int], left_out: Collection[Unit]) -> dict[int, Estimate]:
    found = {}
    for seed in seeds:
        path = run.validation(name, seed)
        measured = None if run.unit("validate", seed, name) in left_out else read_json(path)
        if measured is not None:
            low, high = wilson(measured["right"], measured["questions"])
            found[seed] = Estimate(measured["accuracy"], low=low, high=high, n=measured["questions"])
    return found


def _manifest(unit: Unit, left_out: Collection[Unit]) -> dict[str, Any]:
    return {} if unit in left_out else read_manifest(unit.manifest) or {}


def _samples(run: RunFolder, seed: int, name: str | None, left_out: Collection[Unit]) -> dict[str, Any]:
    """What a round's samples hold: estimates over the training questions, and the number of sampled tokens.

    Continuations of right chains add their tokens and nothing else: they are no samples of the model on its own.
    """
    units = [run.unit(stage, seed, name) for stage in ("sample", "label")]
    groups, completions = run.groups(seed, name), run.completions(seed, name)
    if any(unit in left_out for unit in units) or not groups.is_file() or not completions.is_file():
        return {}
    # a sample with the text of the reference has no candidate of its own
    right_texts = {
        group.question_id: {item.completion for item in group.candidates if item.label in (POSITIVE, REFERENCE)}
        for group in iter_groups(groups)
    }
    sampled, right = dict.fromkeys(right_texts, 0), dict[str, list[str]]()
    tokens = 0
    for _, line in iter_json_lines(completions):
        question = line["question_id"]
        if question in right_texts:  # the pool has its own questions
            sampled[question] += 1
            tokens += line["num_tokens"]
            if line["completion"] in right_texts[question]:
                right.setdefault(question, []).append(line["completion"])
    continued = run.continuations(seed, name)
    if continued.is_file():
        tokens += sum(line["num_tokens"] for _, line in iter_json_lines(continued))
    distinct = [float(len({*right.get(question, [])})) for question in right_texts]
    shares = [len(right.get(question, [])) / count for question, count in sampled.items() if count]
    return {
        "distinct_right": _over_questions(distinct, (0.0, math.inf)),
        "share_right": _over_questions(shares, (0.0, 1.0)),
        "tokens": tokens,
    }


def _over_questions(values: list[float], within: tuple[float, float]) -> Estimate:
    if not values:
        return Estimate(None, n=0)
    low, high = mean_interval(values, within=within)
    return Estimate(sum(values) / len(values), low=low, high=high, n=len(values))


def _mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None
