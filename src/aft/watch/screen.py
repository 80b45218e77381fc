"""A snapshot as the lines of a terminal, at any width and height."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.text import Text

from ..progress import describe
from ..shown import shown_line
from .snapshot import AT_WORK, BUSY, CUT, DAMAGED, DONE, FINISHED, NOT_STARTED, TO_DO, Snapshot, Training, Work

Points = Sequence[tuple[float, float]]

_COLORS = {AT_WORK: "bold cyan", FINISHED: "bold green", NOT_STARTED: "bold yellow"}  # all other states are red
_BAR = 20  # cells
_CURVE_ROWS = 7
_MOST_WORK = 3  # lines
_LEVELS = "▁▂▃▄▅▆▇█"
_RIGHT, _WRONG = "green", "red"
_BRAILLE = 0x2800
# The bit of each dot of a braille character, by row and column.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def draw(snapshot: Snapshot, width: int, height: int | None = None) -> list[Text]:
    """The lines of a snapshot. None of them is longer than `width`; with `height`, no more than that many.

    The curve gets the rows that the rest leaves over, and is left out where fewer than three are left.
    """
    head = [_title(snapshot), *_plan(snapshot), *_work(snapshot)]
    training = snapshot.training
    tail = [Text(f"memory    {words}") for words in [_memory(snapshot)] if words]
    if snapshot.state == AT_WORK:
        tail.append(Text(f"to go     {_to_go(snapshot)}"))
    middle = [_losses(training, width)] if training else []
    rows = _CURVE_ROWS if height is None else min(_CURVE_ROWS, height - len([*head, *middle, *tail]) - 1)
    if training and rows >= 3:
        middle += score_curve(training, width, rows)
    lines = [*head, *middle, *tail]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


# ---- the plan ----


def _title(snapshot: Snapshot) -> Text:
    name = shown_line(snapshot.folder.resolve().name)
    color = _COLORS.get(snapshot.state, "bold red")
    return Text.assemble((name, "bold"), ": ", (snapshot.state, color), f"; {shown_line(snapshot.words)}")


def _plan(snapshot: Snapshot) -> list[Text]:
    """A line for each stage: a bar of its units, how many are done, and the names of those at work."""
    lines = []
    for stage, units in snapshot.units.items():
        counts = {state: sum(of == state for _, of in units) for state in (DONE, BUSY, CUT, DAMAGED, TO_DO)}
        cells = [round(_BAR * sum(list(counts.values())[: place + 1]) / len(units)) for place in range(5)]
        parts = zip("█▒▒▒░", ("green", "cyan", "red", "red", "dim"), [0, *cells], cells, strict=False)
        bar = Text.assemble(*[(glyph * (end - begin), style) for glyph, style, begin, end in parts])
        others = [f"{count} {state}" for state, count in counts.items() if count and state not in (DONE, TO_DO)]
        named = ", ".join(" ".join(map(str, filter(None, (u.name, _seed(u.seed))))) for u, of in units if of == BUSY)
        note = f" {'; '.join(others)}" + (f": {shown_line(named)}" if named else "") if others else ""
        lines.append(Text.assemble(f"{stage:<9} ", bar, f" {counts[DONE]}/{len(units)} done", note))
    return lines


def _seed(seed: int | None) -> str:
    return "" if seed is None else f"seed {seed}"


# ---- the work ----


def _work(snapshot: Snapshot) -> list[Text]:
    lines = [Text(_describe(work), style="cyan") for work in snapshot.work[:_MOST_WORK]]
    if (more := len(snapshot.work) - _MOST_WORK) > 0:
        lines[-1].append(f" and {more} more")
    return lines


def _describe(work: Work) -> str:
    if not work.done and not work.total:
        return f"{shown_line(work.what)}: begins"
    message = {"what": work.what, "done": work.done, "total": work.total, "note": work.note, "left": round(work.left)}
    return describe(message)


def _to_go(snapshot: Snapshot) -> str:
    left = f"about {_time(snapshot.left)}" if snapshot.left else "no time known yet"
    unknown = f", without {', '.join(snapshot.unknown)}" if snapshot.left and snapshot.unknown else ""
    units = snapshot.count(BUSY, CUT, DAMAGED, TO_DO)
    return f"{units} unit{'s' if units != 1 else ''}, {left}{unknown}"


def _time(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{hours:.1f} h"


def _memory(snapshot: Snapshot) -> str:
    found = [
        (snapshot.memory, "now"),
        (snapshot.peak, "at most in one process"),
        (snapshot.gpu_peak, "at most on a GPU"),
    ]
    return ", ".join(f"{count / 2**20:,.0f} MiB {what}" for count, what in found if count)


# ---- the training ----


def _losses(training: Training, width: int) -> Text:
    """One line: the unit, its loss, the share of questions on which both kinds fell, and its speed."""
    line = Text(f"{training.unit}: ", style="bold")
    parts = {"loss": "loss {:.3f}", "eval_loss": "val {:.3f}", "groups/both_fell": "both fell {:.0%}"}
    texts = [text.format(value) for key, text in parts.items() if (value := training.last(key)) is not None]
    texts += [f"{training.speed:.3g} steps/s"] if training.speed else []
    words = ", ".join(texts) or "nothing logged yet"
    losses = training.curves.get("loss", [])
    blocks = sparkline(losses, max(0, min(24, width - len(line) - len(words) - 2)))
    return line.append(f"{words}  ", style="not bold").append(blocks, style="yellow not bold")


def sparkline(points: Points, width: int) -> str:
    """The values of (step, value) as one line of blocks, at most `width` of them; a wider series shows means."""
    count = min(width, len(points))
    if count <= 0:
        return ""
    bounds = [len(points) * place // count for place in range(count + 1)]
    means = [sum(v for _, v in points[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    low, high = min(means), max(means)
    span = high - low or 1.0
    return "".join(_LEVELS[min(len(_LEVELS) - 1, int((mean - low) / span * len(_LEVELS)))] for mean in means)


def score_curve(training: Training, width: int, rows: int) -> list[Text]:
    """The scores of right and wrong chains against the step, in `rows` lines and one that explains them.

    Without colours the two still differ: the curve of wrong chains is dotted.
    """
    right, wrong = (training.curves.get(f"scores/{kind}", []) for kind in ("positive", "negative"))
    if not right and not wrong:
        return []
    values = [value for _, value in (*right, *wrong)]
    low, high = min(values), max(values)
    labels = [f"{high:8.3f} ", *[" " * 9] * (rows - 2), f"{low:8.3f} "]
    columns = max(1, width - len(labels[0]))
    first, last = min(step for step, _ in (*right, *wrong)), max(step for step, _ in (*right, *wrong))
    box = (first, last, low, high)
    full, dotted = braille(right, columns, rows, box), braille(wrong, columns, rows, box, dotted=True)
    lines = []
    for label, above, below in zip(labels, full, dotted, strict=True):
        line = Text(label, style="dim")
        for a, b in zip(above, below, strict=True):
            # a cell of both curves has the dots of both
            line.append(chr(_BRAILLE | a | b) if a | b else " ", style=f"not dim {_RIGHT if a else _WRONG}")
        lines.append(line)
    legend = Text(f"─ right {_change(right)}", style=_RIGHT)
    legend.append(f"  ┄ wrong {_change(wrong)}", style=_WRONG)
    legend.append(f"  nats/token, steps {first}-{last}", style="dim")
    return [*lines, legend]


def _change(points: Points) -> str:
    return f"{points[-1][1]:.3f} ({points[-1][1] - points[0][1]:+.3f})" if points else "none"


def braille(
    points: Points, columns: int, rows: int, box: tuple[float, float, float, float], *, dotted: bool = False
) -> list[list[int]]:
    """The dots of a curve through (x, y), as braille bits for each character: `rows` lists of `columns` integers.

    `box`: lowest and highest x and y. `dotted`: every second character column stays empty.
    """
    cells = [[0] * columns for _ in range(rows)]
    left, right, low, high = box
    across, down = 2 * columns - 1, 4 * rows - 1
    places = [
        (
            round((x - left) / ((right - left) or 1.0) * across),
            round((high - y) / ((high - low) or 1.0) * down),
        )
        for x, y in points
    ]
    for (x0, y0), (x1, y1) in zip(places, [*places[1:], *places[-1:]], strict=True):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for number in range(steps + 1):
            x, y = round(x0 + (x1 - x0) * number / steps), round(y0 + (y1 - y0) * number / steps)
            if not dotted or x // 2 % 2 == 0:
                cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    return cells
