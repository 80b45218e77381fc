"""report.html: table, pictures and a browser of questions in one file, which fetches nothing and sends nothing.

The policy in its head allows the page's own script and style by their digests, and pictures inside the page. Texts are
as `shown`; what Python writes is escaped, and the rest is JSON that the script adds as text nodes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..run.folder import BASE, VFT, RunFolder, Unit
from ..shown import shown, shown_line
from .columns import columns
from .page import spread_caption
from .questions import BYTES, HELD_OUT, MOST, TEST, TRAINED, Reader, encode_questions, markers_of
from .rounds_picture import CAPTION as ROUNDS_CAPTION
from .spread import model_number

_FILES = Path(__file__).with_name("html")
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_KINDS = {TEST: "questions of task accuracy", HELD_OUT: "held-out questions", TRAINED: "training questions"}
CAPTIONS = {
    "png": (
        "Accuracies, scores of right and wrong chains, and training curves",
        "a: accuracies with the spreads of the table. b: scores of the held-out right and wrong chains, the same for"
        " every method. c: scores and shares while aligning.",
    ),
    "calibration": (
        "How well scores tell right chains from wrong ones",
        "a: scores of each model’s own right and wrong chains, and of the references. b: share of right chains in ten"
        " equal parts of the held-out chains by score.",
    ),
    "rounds": ("Over the rounds", ROUNDS_CAPTION),
}


def html_page(
    report: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    run_folder: Path,
    pictures: Mapping[str, str],
    left_out: Sequence[Unit] = (),
    *,
    everything: bool = False,
) -> str:
    """The page of a report.

    `pictures`: SVG by a key of `CAPTIONS`. `everything`: all questions; otherwise the sample of `encode_questions`.
    """
    script, style = (_FILES.joinpath(name).read_text(encoding="utf-8") for name in ("browser.js", "style.css"))
    slots = {
        "policy": (
            f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:;"
            " base-uri 'none'; form-action 'none'"
        ),
        "title": _text(f"Report: {report['run']}"),
        "style": style,
        "table": _table(report),
        "caption": _text(" ".join(spread_caption(report).split())),
        "missing": _missing(report["missing"]),
        "pictures": _pictures(pictures, (report.get("picture") or {}).get("note")),
        "data": _data(report, config, run_folder, left_out, everything=everything),
        "script": script,
    }
    template = _FILES.joinpath("page.html").read_text(encoding="utf-8")
    return _SLOT.sub(lambda slot: slots[slot[1]], template)


def _digest(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _text(text: str) -> str:
    return html.escape(shown_line(text))


def _table(report: Mapping[str, Any]) -> str:
    models = report["models"]
    measures = [m for m in columns(report) if m.name != "vs_vft" or any(model["name"] == VFT for model in models)]
    headings = "".join(
        f'<th scope="col">{_text(heading)}</th>' for heading in ("method", *(m.heading for m in measures))
    )
    rows = "\n".join(
        f'<tr><th scope="row">{_text(model["name"])}</th>'
        + "".join(f"<td>{_text(model_number(model, measure))}</td>" for measure in measures)
        + "</tr>"
        for model in models
    )
    return f"<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _missing(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f"<details><summary>Missing: {len(lines)}</summary><ul>{items}</ul></details>" if lines else ""


def _pictures(pictures: Mapping[str, str], note: str | None) -> str:
    figures = [
        f'<figure>\n<img alt="{_text(CAPTIONS[key][0])}" src="data:image/svg+xml;base64,'
        f'{base64.b64encode(svg.encode()).decode()}">\n<figcaption>{_text(CAPTIONS[key][1])}</figcaption>\n</figure>'
        for key, svg in pictures.items()
    ]
    return "\n".join(figures) or (f'<p class="caption">{_text(note)}</p>' if note else "")


def _data(
    report: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    run_folder: Path,
    left_out: Sequence[Unit],
    *,
    everything: bool,
) -> str:
    """The JSON of the browser. No "<" is in it, so that no text of it can end its element."""
    names = [model["name"] for model in report["models"] if model["seeds"]]
    reader = Reader(RunFolder(run_folder), names, markers_of(config), left_out)
    parts = list(reader.parts(report["seeds"]))
    questions, counts = encode_questions(parts, everything=everything)
    config_file = shlex.quote(str(reader.run.config))
    rest = f"aft-report --config {config_file} --html --all writes a page with every question."
    head = {
        "models": [shown(name) for name in names],
        "origin": shown(next((name for name in (VFT, BASE) if name in names), names[0] if names else "")),
        "seeds": report["seeds"],
        "sample": _sample(counts, shown(rest), everything=everything),
        "rest": shown(rest),
    }
    text = json.dumps(head, ensure_ascii=False)[:-1] + ', "questions": [\n' + ",\n".join(questions) + "\n]}"
    return text.replace("<", "\\u003c")


def _sample(counts: Sequence[Mapping[str, Any]], rest: str, *, everything: bool) -> str:
    """What the page holds, and by which rule."""
    if not counts:
        return "The run keeps no answers and no chains."
    parts, is_sample = [], False
    for kind, words in _KINDS.items():
        have, of = (sum(count[key] for count in counts if count["kind"] == kind) for key in ("shown", "of"))
        if of:
            parts.append(f"{have:,} of {of:,} {words}" if have < of else f"all {of:,} {words}")
            is_sample |= have < of
    text = f"All seeds together, this page holds {', '.join(parts)}."
    if everything or not is_sample:
        return text
    return (
        f"{text} It is a sample: at most {MOST} questions of a kind and seed, evenly spaced in the order of the data,"
        f" and as many as fit in {BYTES / 1e6:.1f} MB. Of the training questions it has only those whose chains were"
        f" scored, if there are any. {rest}"
    )
