"""A finished run with hostile texts in it, and its report.html, for the tests of the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from finished_run import finish_run

# what a model may write, and how the page shows it
HOSTILE = {
    "</script><script>document.title='owned'</script>": "</script><script>document.title='owned'</script>",
    "<!--<script><img src=x onerror=alert(1)>": "<!--<script><img src=x onerror=alert(1)>",
    "\x1b[31mred\x07 \x9b2J": "\\x1b[31mred\\x07 \\x9b2J",
    "left \u202eright\u2066 \u200bzero \ufeff": "left \\u202eright\\u2066 \\u200bzero \\ufeff",
    "\u2028line \U000e0041tag &lt;b&gt; {{data}}": "\\u2028line \\U000e0041tag &lt;b&gt; {{data}}",
}
HOSTILE_TEXT = "\n".join(HOSTILE) + "\nAt last: [ANS] 77"
HOSTILE_SHOWN = "\n".join(HOSTILE.values()) + "\nAt last: [ANS] 77"


def finish_hostile_run(folder: Path) -> Path:
    """A finished run of two seeds and two models, hostile in the first test question and in the first pool chain."""
    plan = finish_run(folder)
    for model in ("vft", "bcl"):
        _edit(plan.run.evaluated(model, 0, "predictions.jsonl"), _spoil_prediction)
    _edit(plan.run.pool(0), lambda line: line["candidates"][0].update(completion=HOSTILE_TEXT, answer="77"))
    return plan.folder


def _spoil_prediction(line: dict[str, Any]) -> None:
    line.update(completion=HOSTILE_TEXT, question=f"<b>bold</b>?\n{line['question']}", answer="77", is_correct=False)
    line.update(category="<i>law</i>", truncated=True)


def _edit(path: Path, change) -> None:
    """Changes the first line of a file, and leaves it without a manifest, as if it had been given."""
    lines = path.read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    change(first)
    path.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n", encoding="utf-8")
    (path.parent / "manifest.json").unlink(missing_ok=True)


def data_of(page: str) -> dict[str, Any]:
    """The data of the browser of questions."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])
