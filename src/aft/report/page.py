"""A report dictionary as text: the Markdown page, and the plain table for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..markdown import ABSENT, markdown, plain
from ..stats.intervals import mean_sd
from . import sections
from .read import OPTIONAL_MEASURES
from .spread import bootstrap, number

Column = tuple[str, Sequence[str]]  # heading, cells
WIDTH = 100  # columns of the terminal table
# measure, heading of the page, heading in a terminal, factor, decimals on the page and in a terminal
COLUMNS = (
    ("task_accuracy", "task accuracy (%)", "task acc. %", 100, 2, 1),
    ("macro_accuracy", "macro accuracy (%)", "macro acc. %", 100, 2, 1),
    ("vs_vft", "vs VFT (percentage points)", "vs VFT", 100, 2, 1),
    ("assessment_accuracy", "assessment accuracy (%), own samples, train questions", "assess. own %", 100, 2, 1),
    ("pool_assessment_accuracy", "assessment accuracy (%), pool", "assess. pool %", 100, 2, 1),
    ("perplexity", "perplexity of right chains", "perplexity", 1, 3, 3),
    ("perplexity_wrong", "perplexity of wrong chains", "ppl. wrong", 1, 3, 3),
    ("perplexity_reference", "perplexity of reference chains", "ppl. reference", 1, 3, 3),
    ("pool_positive", "pool score of right chains", "pool right", 1, 3, 3),
    ("pool_negative", "pool score of wrong chains", "pool wrong", 1, 3, 3),
)


def summary_table(report: dict[str, Any]) -> str:
    """The main table as aligned plain text, at most 100 columns wide, with its caption and what is missing."""
    columns = [
        (column[2], [_cell(model, column, column[5]) for model in report["models"]])
        for column in COLUMNS
        if any(model[column[0]] is not None for model in report["models"])
    ]
    names = ("method", [model["name"] for model in report["models"]])
    sizes = sorted({int(n) for model in report["models"] for n in model["vote"]})
    votes = [(f"vote@{n} %", [number(model["vote"].get(str(n)), 100, 1) for model in report["models"]]) for n in sizes]
    blocks = [*_blocks(names, columns), *(_blocks(names, votes) if votes else [])]
    notes = [_spread_caption(report), *(f"missing: {line}" for line in report["missing"])]
    picture = (report.get("picture") or {}).get("note")
    return "\n\n".join([*map(_aligned, blocks), "\n".join(notes + ([picture] if picture else []))])


def _blocks(names: Column, columns: Sequence[Column]) -> list[list[Column]]:
    """The columns in as many blocks as the width needs, each behind the names."""
    blocks, block, width = [], [names], _width(names)
    for column in columns:
        if width + 2 + _width(column) > WIDTH and len(block) > 1:
            blocks.append(block)
            block, width = [names], _width(names)
        block.append(column)
        width += 2 + _width(column)
    return [*blocks, block]


def markdown_page(report: dict[str, Any]) -> str:
    """report.md: main table with caption, picture, and everything that the numbers rest on."""
    picture = report.get("picture") or {"file": None, "note": None}
    parts = [
        f"# Report: {report['run']}",
        _main_table(report),
        _caption(report),
        _picture(picture["file"]) if picture["file"] else picture["note"],
        sections.calibration(picture.get("calibration")),
        _section("Missing", "\n".join(f"- {line}" for line in report["missing"])),
        _section("Differences from VFT", _differences(report) if sections.has_vft(report) else None),
        _section("Every pair of models", sections.pairs(report)),
        _section("Self-consistency", sections.votes(report)),
        _section("How far alignment moved the scores", sections.displacement(report)),
        _section("Accuracy by category", sections.categories(report)),
        _section("What the numbers rest on", _sizes(report)),
        _section("Labelled samples", _labelled(report)),
        _section("Time and memory", _times(report)),
        _section("Versions", _versions(report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, text: str | None) -> str | None:
    return f"## {title}\n\n{text}" if text else None


def _picture(file: str) -> str:
    return (
        f"![Accuracies, pool scores and training curves]({file})\n\n"
        "*a*: bars are the spreads of the table. *b*: the pool's scores, right chains above each line and wrong ones"
        " below, all seeds together. *c*: as logged while aligning, each log over the questions of its steps; below,"
        " the share of questions on which both kinds have fallen since before training, and of wrong chains at or below"
        " their boundary. A method that compares no candidates logs none."
    )


def _main_table(report: dict[str, Any]) -> str:
    columns = [
        column
        for column in COLUMNS
        if (column[0] not in OPTIONAL_MEASURES or any(model[column[0]] is not None for model in report["models"]))
        and (column[0] != "vs_vft" or sections.has_vft(report))
    ]
    rows = [[model["name"], *(_cell(model, column, column[4]) for column in columns)] for model in report["models"]]
    return markdown(["method", *(column[1] for column in columns)], rows)


def _cell(model: dict[str, Any], column: tuple[str, str, str, int, int, int], decimals: int) -> str:
    return number(model[column[0]], column[3], decimals, signed=column[0] == "vs_vft")


def _spread_caption(report: dict[str, Any]) -> str:
    fewer = [
        f"{model['name']} on {', '.join(map(str, model['seeds']))} only"
        for model in report["models"]
        if model["seeds"] and model["missing_seeds"]
    ]
    text = (
        f"Seeds: {', '.join(map(str, report['seeds']))}{' (' + '; '.join(fewer) + ')' if fewer else ''}.\n"
        "± sample standard deviation over seeds; [95 % interval] over questions where there is a single value\n"
        "(perplexity and pool scores: over chains)."
    )
    if not sections.has_vft(report):
        return text
    return (
        f"{text} vs VFT: percentage points of task accuracy on the same\n"
        "questions, [95 % interval] over questions with the seeds held fixed."
    )


def _caption(report: dict[str, Any]) -> str:
    return " ".join(
        [
            _spread_caption(report).replace("\n", " "),
            *(
                ["How far the difference moves from seed to seed stands under *Differences from VFT*."]
                if sections.has_vft(report)
                else []
            ),
            f"Task accuracy: {_range(report, 'task_accuracy')} questions a seed ({'/'.join(report['splits'])} split).",
            "Assessment accuracy: share of (right, wrong) pairs in which the right chain scores higher; chance is 50 %;"
            f" own samples on {_range(report, 'assessment_accuracy')} training questions, pool on"
            f" {_range(report, 'pool_assessment_accuracy')} held-out questions.",
            "Pool: right and wrong chains that `sample.model` wrote, the same for every method of a seed"
            f" ({_range(report, 'pool_positive')} right, {_range(report, 'pool_negative')} wrong).",
            "Scores are mean log-probabilities in nats per token.",
            f"Perplexity: mean of exp(−score) over {_range(report, 'perplexity')} right chains of the model's own"
            + (
                f", {_range(report, 'perplexity_wrong')} wrong ones and the references of"
                f" {_range(report, 'perplexity_reference')} training questions."
                if _entries(report, "perplexity_reference")
                else "."
            ),
        ]
    )


def _range(report: dict[str, Any], measure: str) -> str:
    sizes = sorted({entry["n"] for _, _, entry in _entries(report, measure)})
    if not sizes:
        return "no"
    return f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"


def _entries(report: dict[str, Any], measure: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(model, seed, entry) of one measure."""
    return [
        (model["name"], seed, entry)
        for model in report["models"]
        if model[measure] is not None
        for seed, entry in model[measure]["by_seed"].items()
    ]


def _differences(report: dict[str, Any]) -> str:
    rows = []
    for model in report["models"]:
        value = model["vs_vft"]
        if value is None:
            continue
        by_seed = ", ".join(
            f"{seed}: {ABSENT if entry['mean'] is None else format(100 * entry['mean'], '+.2f')}"
            for seed, entry in value["by_seed"].items()
        )
        sd = ABSENT if value["sd_over_seeds"] is None else f"{100 * value['sd_over_seeds']:.2f}"
        unmatched = f"{value['unmatched']:,}"
        if value["unpaired_seeds"]:
            unmatched += f", and seed {', '.join(map(str, value['unpaired_seeds']))} as a whole"
        counts = [f"{value[key]:,}" for key in ("n", "only_this_right", "only_vft_right")]
        intervals = [number(value, 100, 2, signed=True), bootstrap(value)]
        rows.append([model["name"], *intervals, by_seed, sd, *counts, unmatched])
    if not rows:
        return "None: no model shares predictions with VFT."
    headings = ["method", "points [95 %, normal]", "points [95 %, bootstrap]", "by seed", "sd over seeds", "questions"]
    return (
        markdown([*headings, "only this right", "only VFT right", "unmatched, left out"], rows)
        + "\n\nThe intervals are over questions: one that several seeds answered counts once, with its mean over them."
        " Normal: from the standard error of the differences. Bootstrap: questions resampled in pairs, 10,000 times"
        " with a fixed seed."
        " The *only* columns count the answers of every seed."
    )


def _sizes(report: dict[str, Any]) -> str:
    headings = ["method", "seed", "right / questions", "unparsed", "truncated", "assessment: used, skipped"]
    headings += [
        "lacking right, wrong",
        "samples",
        "pool: used, skipped",
        "chains for perplexity: right, wrong, reference",
    ]
    headings += ["pool chains: right, wrong"]
    rows = []
    for model in report["models"]:
        for seed in map(str, model["seeds"]):
            task, own, pool, right, wrong = (
                _entry(model, measure, seed)
                for measure in (
                    "task_accuracy",
                    "assessment_accuracy",
                    "pool_assessment_accuracy",
                    "pool_positive",
                    "pool_negative",
                )
            )
            asked = model["assessment"][seed] or {}
            row = [f"{plain(task.get('correct'))} / {plain(task.get('n'))}"]
            row += [plain(task.get("unparsed")), plain(task.get("truncated"))]
            row += [f"{plain(asked.get('used', own.get('n')))}, {plain(asked.get('skipped', own.get('skipped')))}"]
            row += [f"{plain(asked.get('too_few_right'))}, {plain(asked.get('too_few_wrong'))}"]
            row += [plain(asked.get("samples")), f"{plain(pool.get('n'))}, {plain(pool.get('skipped'))}"]
            chains = ("perplexity", "perplexity_wrong", "perplexity_reference")
            row += [", ".join(_chains(_entry(model, measure, seed)) for measure in chains)]
            row += [f"{plain(right.get('n'))}, {plain(wrong.get('n'))}"]
            rows.append([model["name"], seed, *row])
    return (
        markdown(headings, rows)
        + "\n\nUnparsed: no answer found, counted as wrong. Truncated: stopped by the length limit. Skipped: questions"
        " that did not yield enough right and wrong chains within the budget of samples; one can lack both kinds."
    )


def _entry(model: Mapping[str, Any], measure: str, seed: str) -> dict[str, Any]:
    found: dict[str, Any] = (model[measure] or {"by_seed": {}})["by_seed"].get(seed, {})
    return found


def _chains(entry: Mapping[str, Any]) -> str:
    infinite = entry.get("infinite")
    return plain(entry.get("n")) + (f" ({infinite:,} infinite)" if infinite else "")


def _labelled(report: dict[str, Any]) -> str:
    if not report["labelled"]:
        return "No counts: no seed has label/counts.json."
    flat = {seed: _flatten(counts) for seed, counts in report["labelled"].items()}
    keys = list(dict.fromkeys(key for counts in flat.values() for key in counts))
    rows = [[key, *(plain(counts.get(key)) for counts in flat.values())] for key in keys]
    return markdown(["count", *(f"seed {seed}" for seed in flat)], rows)


def _times(report: dict[str, Any]) -> str:
    if not report["stages"]:
        return "No manifest.json was found."
    rows, total = [], 0.0
    for stage in report["stages"]:
        seconds = [value for value in stage["seconds"].values() if value is not None]
        total += sum(seconds)
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
    rows.append(["all", str(sum(len(stage["seconds"]) for stage in report["stages"])), "", f"{total:,.1f}", ""])
    return markdown(["stage", "runs", "seconds, mean ± sd", "seconds in all", "peak memory (GiB)"], rows)


def _versions(report: dict[str, Any]) -> str:
    if report["environment"] is None:
        return "Unknown: the run folder has no environment.json."
    return markdown(["", ""], [[key, plain(value)] for key, value in _flatten(report["environment"]).items()])


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings with dotted keys."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(_flatten(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner})
    return flat


def _width(column: Column) -> int:
    return max(len(cell) for cell in [column[0], *column[1]])


def _aligned(block: Sequence[Column]) -> str:
    """Columns under their headings; the first to the left, numbers to the right."""
    widths = [_width(column) for column in block]
    pad: Sequence[Callable[[str, int], str]] = [str.ljust] + [str.rjust] * (len(block) - 1)
    lines = [[column[0] for column in block], ["-" * width for width in widths]]
    lines += [list(row) for row in zip(*(column[1] for column in block), strict=True)]
    return "\n".join("  ".join(p(c, w) for p, c, w in zip(pad, row, widths, strict=True)).rstrip() for row in lines)
