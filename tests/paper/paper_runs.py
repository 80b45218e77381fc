"""Runs for the tests of the paper's tables: results made by hand, and folders of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from aft.paper.run_results import RunResult
from aft.stats.estimate import Estimate
from aft.yaml_files import yaml_text

Answers = Mapping[str, Sequence[Sequence[float]]]  # model -> for each seed the value of each question


def over_seeds(values: Sequence[float]) -> Estimate | None:
    return Estimate.over_seeds({seed: Estimate(value, n=1) for seed, value in enumerate(values)})


def entry(name: str, accuracies: Sequence[float], seeds: int, **measures: Any) -> dict[str, Any]:
    """A model as a report has it; what is not given was not measured."""
    names = ("assessment_accuracy", "pool_assessment_accuracy", "perplexity", "perplexity_reference", "pool_positive")
    return {
        "name": name,
        "seeds": list(range(len(accuracies))),
        "missing_seeds": list(range(len(accuracies), seeds)),
        "task_accuracy": over_seeds(accuracies),
        **dict.fromkeys(names),
        "vote": {},
        "pass": {},
        "categories": {},
        **measures,
    }


def run_result(
    answers: Answers,
    *,
    model: str = "arithmetic-base",
    task: str = "arithmetic",
    start: str = "vft",
    others: Mapping[str, Answers] | None = None,
    measures: Mapping[str, Any] | None = None,
    displacement: Mapping[str, Any] | None = None,
) -> RunResult:
    """`answers` are task accuracies by question, `others` those of further measures; `measures` go to every model."""
    seeds = max(len(by_seed) for by_seed in answers.values())
    known = {"task_accuracy": answers, **(others or {})}

    def values(measure: str, name: str) -> dict[int, dict[str, float]]:
        by_seed = known.get(measure, {}).get(name, [])
        return {seed: {f"q{i}": float(v) for i, v in enumerate(own)} for seed, own in enumerate(by_seed)}

    return RunResult(
        folder=Path("runs") / f"{model}-{task}",
        model=model,
        task=task,
        seeds=tuple(range(seeds)),
        splits=("test",),
        start=start,
        models={
            name: entry(name, [fmean(own) for own in by_seed], seeds, **(measures or {}))
            for name, by_seed in answers.items()
        },
        values=values,
        displacement=displacement or {},
    )


def write_run(folder: Path, answers: Answers, config: Mapping[str, Any] | None = None) -> Path:
    """A run folder with predictions, metrics and, if given, a configuration."""
    if config is not None:
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml_text(dict(config)), encoding="utf-8")
    for name, by_seed in answers.items():
        for seed, own in enumerate(by_seed):
            target = folder / f"seed-{seed}" / "evaluate" / name
            target.mkdir(parents=True)
            lines = [{"question_id": f"q{i}", "is_correct": bool(v)} for i, v in enumerate(own)]
            (target / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            measured = {"value": fmean(own), "low": 0.0, "high": 1.0, "n": len(own)}
            metrics = {
                "split": "test",
                "checkpoint": f"seed-{seed}/{name}",
                "task_accuracy": measured,
                "assessment_accuracy": None,
                "perplexity": None,
                "pool": None,
            }
            (target / "metrics.json").write_text(json.dumps(metrics))
    return folder
