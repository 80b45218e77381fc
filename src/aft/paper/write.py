"""Writes the table of some runs in the formats asked for, and says what it wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..json_files import write_json, write_text
from ..report.canvas import missing_library
from .page import make_page
from .paths_picture import draw_paths
from .picture import draw_page
from .render import as_csv, as_json, as_latex, as_markdown
from .run_results import at_suffix, read_run
from .specs import SPECS

FORMATS = ("markdown", "latex", "csv", "png", "all")


def write_table(
    key: str,
    runs: Sequence[str | Path],
    folder: str | Path,
    form: str = "all",
    suffix: str = "",
    part: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> tuple[str, list[Path]]:
    """The Markdown of a table, and the files written: `table-KEY.md` and `.json` always, and those of `form`.

    `suffix`: the methods that are called so (`-lr0.001`) in the place of those without. `part`: names of the only runs
    among the table's, which then does not replace the whole one. `notes`: further lines below the table.
    """
    read = [read_run(run) for run in runs]
    page = make_page(SPECS[key], [at_suffix(run, suffix) for run in read] if suffix else read)
    page = dataclasses.replace(page, notes=(*page.notes, *notes))
    text = as_markdown(page)
    name = "-".join([f"table-{key}" if key.isdigit() else key, *part]) + suffix
    stem = Path(folder) / name
    written = [stem.with_name(f"{name}.md"), stem.with_name(f"{name}.json")]
    write_text(written[0], text)
    write_json(written[1], as_json(page))
    for kind, ending, render in (("latex", ".tex", as_latex), ("csv", ".csv", as_csv)):
        if form in (kind, "all"):
            written.append(stem.with_name(name + ending))
            write_text(written[-1], render(page))
    note = missing_library()
    if form in ("png", "all") and note is None:
        written.append(stem.with_name(f"{name}.png"))
        (draw_paths if page.spec.paths else draw_page)(page, written[-1])
    elif form in ("png", "all"):
        text += f"\n{note}\n"
    return text, written
