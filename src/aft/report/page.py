"""A report as its Markdown page: the main table with caption and pictures, and all that the numbers rest on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..markdown import ABSENT, inline, markdown, plain
from ..shown import shown
from ..stats.comparison import bootstrap_estimate, normal_estimate
from ..stats.estimate import Estimate
from ..stats.intervals import mean_sd
from .columns import columns
from .measures import CHAINS, COMPARED, DISPLACEMENT, FAMILIES, MEASURES, POINTS, SHARE, Family, Measure, has_pool
from .rounds_picture import CAPTION
from .spread import amount, model_number, number
from .verdict import verdict, warnings


def markdown_page(report: dict[str, Any]) -> str:
    """report.md: the verdict, a table of three measures, a picture and warnings; below, all that they rest on."""
    picture = report.get("picture") or {"file": None, "note": None}
    pooled = has_pool(report["models"])
    parts = [
        f"# Report: {inline(report['run'])}",
        f"**{verdict(report, inline)}**",
        _first_table(report),
        _first_caption(report),
        f"![Accuracies, scores and training curves]({picture['file']})" if picture["file"] else picture["note"],
        _look_at(report),
        "## Appendix",
        _folded("All measures", f"{_main_table(report)}\n\n{_caption(report)}"),
        _folded("The picture, explained", _picture(pooled) if picture["file"] else None),
        _folded("How well scores tell right from wrong", _calibration(picture.get("calibration"), pooled)),
        _folded("Missing", "\n".join(f"- {inline(line)}" for line in report["missing"])),
        _folded("Differences from VFT", _differences(report) if _has_vft(report) else None),
        _folded("Rounds", _rounds(report, picture.get("rounds"))),
        _folded("Every pair of models", _pairs(report)),
        _folded("Self-consistency", _votes(report)),
        _folded("How far alignment moved the scores", _displacement(report)),
        _folded("Accuracy by category", _categories(report)),
        _folded("What the numbers rest on", _sizes(report)),
        _folded("Labelled samples", _labelled(report)),
        _folded("Time and memory", _times(report)),
        _folded("Versions", _versions(report)),
    ]
    return shown("\n\n".join(part for part in parts if part)) + "\n"


def _folded(title: str, text: str | None) -> str | None:
    """A part of the appendix, which a reader opens; None where the run has nothing for it."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>" if text else None


def _first_measures(report: Mapping[str, Any]) -> list[Measure]:
    """What the first screen shows: task accuracy, its difference from VFT, and one assessment accuracy."""
    assessment = "pool_assessment_accuracy" if has_pool(report["models"]) else "assessment_accuracy"
    wanted = ["task_accuracy", *(["vs_vft"] if _has_vft(report) else []), assessment]
    return [
        MEASURES[name]
        for name in wanted
        if name != assessment or any(model[assessment] is not None for model in report["models"])
    ]


def _first_table(report: Mapping[str, Any]) -> str:
    evaluated = {**report, "models": [model for model in report["models"] if model["seeds"]]}
    return markdown(*_rows(evaluated, _first_measures(report)))


def _first_caption(report: Mapping[str, Any]) -> str:
    several = len(report["seeds"]) > 1
    spread = "± is the standard deviation over seeds; " if several else ""
    measures = [measure.name for measure in _first_measures(report)]
    told = f"Seeds: {', '.join(map(str, report['seeds']))}. {spread}[95 % interval] over questions."
    if measures[-1].endswith("assessment_accuracy"):
        told += (
            " Assessment accuracy: the share of pairs in which the right chain has the higher score; chance is 50 %."
        )
    return told


def _look_at(report: Mapping[str, Any]) -> str | None:
    lines = warnings(report, inline)
    return "\n".join(["Look at this first:", "", *(f"- {line}" for line in lines)]) if lines else None


def _picture(pooled: bool) -> str:
    scores = "right chains above each line and wrong ones below, all seeds together"
    return (
        "*a*: bars are the spreads of the table."
        + (f" *b*: the pool's scores, {scores}." if pooled else "")
        + " *c*: as logged while aligning, each log over the questions of its steps; below, the share of questions on"
        " which both kinds have fallen since before training, and of wrong chains at or below their boundary. A method"
        " that compares no candidates logs none."
    )


def _calibration(file: str | None, pooled: bool) -> str | None:
    """The picture of scores with its caption."""
    if file is None:
        return None
    shares = (
        " *b*: the pool's chains in ten equal parts by the model's score; share of right ones in each with its 95 %"
        " interval (Wilson). A model whose scores say nothing about right or wrong gives a level line."
    )
    return (
        f"![How well scores tell right from wrong]({file})\n\n"
        "*a*: each model's scores of chains of its own, right ones above the line and wrong ones below, and of the"
        f" references.{shares if pooled else ''}"
    )


def _has_vft(report: Mapping[str, Any]) -> bool:
    """True if VFT was evaluated. Then the others have a difference from it."""
    return any(model["name"] == "vft" and model["seeds"] for model in report["models"])


def _main_table(report: dict[str, Any]) -> str:
    return markdown(*main_rows(report))


def main_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The headings and the rows of the main table, as text."""
    return _rows(report, [measure for measure in columns(report) if measure.name != "vs_vft" or _has_vft(report)])


def _rows(report: Mapping[str, Any], measures: Sequence[Measure]) -> tuple[list[str], list[list[str]]]:
    rows = [[model["name"], *(model_number(model, measure) for measure in measures)] for model in report["models"]]
    return ["method", *(measure.heading for measure in measures)], rows


def spread_caption(report: Mapping[str, Any]) -> str:
    """The seeds, and the meaning of ± and brackets in the main table; lines of at most 100 characters."""
    fewer = [
        f"{model['name']} on {', '.join(map(str, model['seeds']))} only"
        for model in report["models"]
        if model["seeds"] and model["missing_seeds"]
    ]
    text = (
        f"Seeds: {', '.join(map(str, report['seeds']))}{' (' + '; '.join(fewer) + ')' if fewer else ''}.\n"
        "± sample standard deviation over seeds; [95 % interval] over questions where there is a single value\n"
        f"(perplexity{' and pool scores' if has_pool(report['models']) else ''}: over chains)."
    )
    if not _has_vft(report):
        return text
    return (
        f"{text} vs VFT: percentage points of task accuracy on the same\n"
        "questions, [95 % interval] over questions with the seeds held fixed."
    )


def _caption(report: dict[str, Any]) -> str:
    pooled = has_pool(report["models"])
    pool = [
        "Pool: right and wrong chains that `sample.model` wrote, the same for every method of a seed"
        f" ({_range(report, 'pool_positive')} right, {_range(report, 'pool_negative')} wrong).",
    ]
    return " ".join(
        [
            spread_caption(report).replace("\n", " "),
            *(
                ["How far the difference moves from seed to seed stands under *Differences from VFT*."]
                if _has_vft(report)
                else []
            ),
            f"Task accuracy: {_range(report, 'task_accuracy')} questions a seed ({'/'.join(report['splits'])} split).",
            *(
                [
                    "Parsed: answers in which the task finds a final answer; the others count as wrong. Ended: answers"
                    " that the model ended itself, not the length limit."
                ]
                if any(measure.lacks for measure in columns(report))
                else []
            ),
            "Assessment accuracy: share of (right, wrong) pairs in which the right chain scores higher; chance is 50 %;"
            f" own samples on {_range(report, 'assessment_accuracy')} training questions"
            + (f", pool on {_range(report, 'pool_assessment_accuracy')} held-out questions." if pooled else "."),
            *(pool if pooled else []),
            "Scores are mean log-probabilities in nats per token.",
            f"Perplexity: mean of exp(−score) over {_range(report, 'perplexity')} right chains of the model's own"
            + (
                f", {_range(report, 'perplexity_wrong')} wrong ones and the references of"
                f" {_range(report, 'perplexity_reference')} training questions."
                if _estimates(report, "perplexity_reference")
                else "."
            ),
        ]
    )


def _range(report: dict[str, Any], measure: str) -> str:
    sizes = sorted({found.n for found in _estimates(report, measure)})
    if not sizes:
        return "no"
    return f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"


def _estimates(report: dict[str, Any], measure: str) -> list[Any]:
    """The estimates of a measure, of every model and seed."""
    return [found for model in report["models"] if model[measure] for found in model[measure].by_seed.values()]


def _differences(report: dict[str, Any]) -> str | None:
    rows = []
    for model in report["models"]:
        value = model["vs_vft"]
        if value is None:
            continue
        by_seed = ", ".join(f"{seed}: {amount(found['mean'], POINTS)}" for seed, found in value["by_seed"].items())
        sd = amount(value["sd_over_seeds"], SHARE)
        unmatched = f"{value['unmatched']:,}"
        if value["unpaired_seeds"]:
            unmatched += f", and seed {', '.join(map(str, value['unpaired_seeds']))} as a whole"
        counts = [f"{value[key]:,}" for key in ("n", "only_this_right", "only_vft_right")]
        intervals = [number(normal_estimate(value), POINTS), _bootstrap(value)]
        rows.append([model["name"], *intervals, by_seed, sd, *counts, unmatched])
    if not rows:
        return None
    headings = ["method", "points [95 %, normal]", "points [95 %, bootstrap]", "by seed", "sd over seeds", "questions"]
    return (
        markdown([*headings, "only this right", "only VFT right", "unmatched, left out"], rows)
        + "\n\nThe intervals are over questions: one that several seeds answered counts once, with its mean over them."
        " Normal: from the standard error of the differences. Bootstrap: questions resampled in pairs, 10,000 times"
        " with a fixed seed."
        " The *only* columns count the answers of every seed."
    )


def _bootstrap(found: Mapping[str, Any] | None) -> str:
    return ABSENT if found is None else number(bootstrap_estimate(found), POINTS)


def _pairs(report: Mapping[str, Any]) -> str | None:
    """Differences between every two models; None if they are the differences from VFT alone."""
    found = report.get("pairs") or []
    if len(found) < (2 if _has_vft(report) else 1):
        return None
    measures = [measure for measure in COMPARED if any(pair[measure.name] is not None for pair in found)]
    headings = ["difference", *(measure.bare_heading for measure in measures)]
    rows = [[f"{pair['a']} − {pair['b']}", *(_bootstrap(pair[measure.name]) for measure in measures)] for pair in found]
    return (
        markdown(headings, rows)
        + "\n\nPercentage points on the questions that both answered, [95 % interval] of a paired bootstrap over"
        " questions (10,000 resamples, fixed seed), the seeds held fixed. An interval that holds 0 does not tell a pair"
        " apart; among many pairs, one in twenty that are alike will seem to differ."
    )


def _rounds(report: Mapping[str, Any], file: str | None) -> str | None:
    """The table over rounds, with its picture; None for a run without rounds."""
    found = report.get("rounds")
    if not found:
        return None
    k = next((row["pass"]["k"] for row in found if row["pass"]), None)
    headings = ["method", "round", MEASURES["task_accuracy"].heading, *([f"pass@{k} (%)"] if k else [])]
    headings += ["validation accuracy (%)", "distinct right chains a question", "right samples (%)"]
    rows = []
    for row in found:
        final = sorted({*row["final"].values()}) if row["round"] is None else []
        name = f"final: {', '.join(final) or ABSENT}" if row["round"] is None else str(row["round"])
        cells = [number(row["task_accuracy"], SHARE)]
        cells += [number(row["pass"]["estimate"] if row["pass"] else None, SHARE)] if k else []
        cells += [number(row.get("validation"), SHARE), number(row.get("distinct_right"), CHAINS)]
        cells += [number(row.get("share_right"), SHARE)]
        cells += [_tokens(row.get(key)) for key in ("sampled_tokens", "training_tokens")]
        rows.append([row["method"], name, *cells])
    parts = [
        f"![Over the rounds]({file})\n\n{CAPTION}" if file else None,
        markdown([*headings, "sampled tokens", "training tokens"], rows),
        "A round's samples are of the training questions: in round 1 from the model that all methods share, later from"
        " the method's model of the round before. Training tokens: response tokens of one pass over what the round was"
        " trained on. Tokens are means over seeds. The final model is the best by validation; on its row each seed"
        " counts with its own final model.",
        *(
            f"{row['method']}, seed {seed}: the samples of round {ended} left nothing to compare. Its rounds end before"
            " that training."
            for row in found
            for seed, ended in row.get("nothing_to_compare_in", {}).items()
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _tokens(count: float | None) -> str:
    return ABSENT if count is None else f"{count:,.0f}"


def _votes(report: Mapping[str, Any]) -> str | None:
    """Majority vote and pass@k by number of paths; None where no model has any."""
    parts = []
    for family in FAMILIES:
        table = _by_paths(report["models"], family) if family.letter else None
        if table:
            parts.append(f"{family.title}:\n\n{table}")
    if not parts:
        return None
    parts.append(
        "All n come from one set of paths: each number is the mean over every subset of that size, computed exactly."
        " Votes are on equal answers, not on equal spellings. A path without an answer votes for nothing; where none"
        " has one, the question is wrong. Answers that tie share the win equally. n = 1 is the share of right paths, at"
        " the sampling temperature: not the greedy task accuracy above. One seed: [95 % interval] over questions."
    )
    return "\n\n".join(parts)


def _by_paths(models: Sequence[Mapping[str, Any]], family: Family) -> str | None:
    shown = [model for model in models if model[family.name]]
    sizes = sorted({int(size) for model in shown for size in model[family.name]})
    rows = [[model["name"], *(number(model[family.name].get(str(n)), SHARE) for n in sizes)] for model in shown]
    return markdown(["method", *(f"{family.letter} = {n}" for n in sizes)], rows) if rows else None


def _categories(report: Mapping[str, Any]) -> str | None:
    """Task accuracy by category, macro and micro; None where the task has no categories."""
    shown = [model for model in report["models"] if model["categories"]]
    if not shown:
        return None
    names = sorted({name for model in shown for name in model["categories"]})
    headings = ["category", "questions", *(model["name"] for model in shown)]
    rows = []
    for name in names:
        entries = [model["categories"].get(name) for model in shown]
        sizes = sorted({value.n for entry in entries if entry for value in entry.by_seed.values()})
        size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        rows.append([name, size, *(number(entry, SHARE) for entry in entries)])
    for title, measure in (("macro: mean of the categories", "macro_accuracy"), ("micro: all", "task_accuracy")):
        rows.append([title, "", *(number(model[measure], SHARE) for model in shown)])
    return markdown(headings, rows)


def _displacement(report: Mapping[str, Any]) -> str | None:
    """How far training moved the scores of right and wrong chains; None where it logged no drift."""
    found = report.get("displacement") or {}
    if not found:
        return None
    rows = []
    for name, by_seed in found.items():
        rows.append([name])
        for measure in DISPLACEMENT:
            last = {int(seed): Estimate(e[measure.name]) for seed, e in by_seed.items() if measure.name in e}
            rows[-1].append(number(Estimate.over_seeds(last), measure.kind, alone=""))
    stopped = [
        "- " + inline(f"{name}, seed {seed}: {entry['stopped']}")
        for name, by_seed in found.items()
        for seed, entry in by_seed.items()
        if entry["stopped"]
    ]
    parts = [
        markdown(["method", *(measure.heading for measure in DISPLACEMENT)], rows),
        "Last log of the training that holds a pair; drift is the change of the mean score since before the first step,"
        " on the training questions' own candidates. A margin that grows while both fall is bought by making right"
        " chains less likely too.",
        "\n".join(stopped),
    ]
    return "\n\n".join(part for part in parts if part)


def _sizes(report: dict[str, Any]) -> str:
    pooled = has_pool(report["models"])
    headings = ["method", "seed", "right / questions", "unparsed", "truncated", "assessment: used, skipped"]
    headings += [
        "lacking right, wrong",
        "samples",
        *(["pool: used, skipped"] if pooled else []),
        "chains for perplexity: right, wrong, reference",
        *(["pool chains: right, wrong"] if pooled else []),
    ]
    rows = []
    for model in report["models"]:
        for seed in model["seeds"]:
            task, own, pool, right, wrong = (
                _on_seed(model, measure, seed)
                for measure in (
                    "task_accuracy",
                    "assessment_accuracy",
                    "pool_assessment_accuracy",
                    "pool_positive",
                    "pool_negative",
                )
            )
            asked = model["assessment"][str(seed)] or {}
            row = [f"{plain(task.beside.get('correct'))} / {plain(task.n)}"]
            row += [plain(task.beside.get("unparsed")), plain(task.beside.get("truncated"))]
            row += [f"{plain(asked.get('used', own.n))}, {plain(asked.get('skipped', own.beside.get('skipped')))}"]
            row += [f"{plain(asked.get('too_few_right'))}, {plain(asked.get('too_few_wrong'))}"]
            row += [plain(asked.get("samples"))]
            row += [f"{plain(pool.n)}, {plain(pool.beside.get('skipped'))}"] if pooled else []
            chains = ("perplexity", "perplexity_wrong", "perplexity_reference")
            row += [", ".join(_chains(_on_seed(model, measure, seed)) for measure in chains)]
            row += [f"{plain(right.n)}, {plain(wrong.n)}"] if pooled else []
            rows.append([model["name"], str(seed), *row])
    return (
        markdown(headings, rows)
        + "\n\nUnparsed: no answer found, counted as wrong. Truncated: stopped by the length limit. Skipped: questions"
        " that did not yield enough right and wrong chains within the budget of samples; one can lack both kinds."
    )


def _on_seed(model: Mapping[str, Any], measure: str, seed: int) -> Estimate:
    """The estimate of one seed; an empty one where it was not measured."""
    found: Estimate | None = model[measure]
    return Estimate(None) if found is None else found.by_seed.get(seed, Estimate(None))


def _chains(found: Estimate) -> str:
    return plain(found.n) + (f" ({found.infinite:,} infinite)" if found.infinite else "")


def _labelled(report: dict[str, Any]) -> str | None:
    if not report["labelled"]:
        return None
    without_pool = {
        seed: {key: value for key, value in counts.items() if key != "pool" or value.get("questions")}
        for seed, counts in report["labelled"].items()
    }
    flat = {seed: _flatten(counts) for seed, counts in without_pool.items()}
    keys = list(dict.fromkeys(key for counts in flat.values() for key in counts))
    rows = [
        [key, *(plain(counts.get(key)) for counts in flat.values())]
        for key in keys
        if any(counts.get(key) is not None for counts in flat.values())
    ]
    table = markdown(["count", *(f"seed {seed}" for seed in flat)], rows)
    if not report.get("rounds"):
        return table
    return (
        f"{table}\n\nThese are the samples of round 1. counts.json beside the labels of a later round has its counts."
    )


def _times(report: dict[str, Any]) -> str | None:
    if not report["stages"]:
        return None
    rows, seconds_of_all = [], []
    for stage in report["stages"]:
        seconds = [value for value in stage["seconds"].values() if value is not None]
        seconds_of_all += seconds
        each = ABSENT
        if seconds:
            mean, sd = mean_sd(seconds)
            each = f"{mean:,.1f}" if sd is None else f"{mean:,.1f} ± {sd:,.1f}"
        peak = stage["peak_memory_bytes"]
        timed = f"{len(stage['seconds'])}"
        if len(seconds) < len(stage["seconds"]):
            timed += f", {len(stage['seconds']) - len(seconds)} without a time"
        memory = ABSENT if peak is None else f"{peak / 2**30:,.2f}"
        rows.append([stage["stage"], timed, each, f"{sum(seconds):,.1f}" if seconds else ABSENT, memory])
    runs = str(sum(len(stage["seconds"]) for stage in report["stages"]))
    rows.append(["all", runs, "", f"{sum(seconds_of_all):,.1f}" if seconds_of_all else ABSENT, ""])
    return markdown(["stage", "runs", "seconds, mean ± sd", "seconds in all", "peak memory (GiB)"], rows)


def _versions(report: dict[str, Any]) -> str | None:
    if report["environment"] is None:
        return None
    flat = _flatten(report["environment"])
    if isinstance(flat.get("command"), list):
        flat["command"] = shlex.join(map(str, flat["command"]))  # so that it can be pasted
    return markdown(["", ""], [[key, plain(value)] for key, value in flat.items()])


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings with dotted keys."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(_flatten(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner})
    return flat
