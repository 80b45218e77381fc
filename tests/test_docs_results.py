"""The figures that results.md quotes stand in the pages of docs/results, and these name the manifests behind them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
NUMBER = r"[-+]?\d+\.\d+"
SPREAD = re.compile(rf"({NUMBER}) ± ({NUMBER})")
INTERVAL = re.compile(rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\]")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("−", "-")


def test_every_page_names_the_manifests_behind_it():
    pages = sorted(RESULTS.glob("*.md"))
    assert pages
    for page in pages:
        manifests = set(re.findall(r'"(sha256:[0-9a-f]{64})"', read(page.with_suffix(".json"))))
        assert manifests, f"{page.name}: no manifest"


@pytest.mark.parametrize("kind", [SPREAD, INTERVAL], ids=["spread", "interval"])
def test_every_figure_with_a_spread_stands_in_a_page(kind):
    """A digit that was typed wrong, or a page that was made again while the text stayed."""
    pages = "\n".join(map(read, sorted(RESULTS.glob("*.md"))))
    there = {tuple(abs(float(number)) for number in found) for found in kind.findall(pages)}
    if kind is INTERVAL:  # the text may give the difference the other way round
        there |= {(mean, high, low) for mean, low, high in there}
    quoted = kind.findall(read(RESULTS.with_name("results.md")))
    assert quoted
    absent = []
    for found in quoted:
        # pages may have more digits than the text: within half of the text's last one
        near = [0.5001 * 10 ** -len(number.partition(".")[2]) for number in found]
        values = [abs(float(number)) for number in found]
        if not any(all(abs(a - b) <= d for a, b, d in zip(values, page, near, strict=True)) for page in there):
            absent.append(found)
    assert not absent, f"results.md quotes what no page of docs/results has: {absent}"
