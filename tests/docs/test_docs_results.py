"""The figures that results.md quotes stand in the pages it links to, and these name the manifests behind them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
NUMBER = r"[-+]?\d+\.\d+"
SPREAD = re.compile(rf"({NUMBER})\s±\s({NUMBER})")
INTERVAL = re.compile(rf"({NUMBER})\s+\[({NUMBER}),\s+({NUMBER})\]")
LINK = re.compile(r"\]\(results/([\w.-]+)\.md\)")
SOURCE = re.compile(r"(\S+); seeds (\d+(?:, \d+)*);")  # a run's folder and its seeds, in a note or above a grid


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("−", "-")


def sections() -> Iterator[tuple[str, str, list[str]]]:
    """Heading, text and pages of each section of results.md. What links to no page has those of the part it is in."""
    for part in re.split(r"^## ", read(RESULTS.with_name("results.md")), flags=re.MULTILINE)[1:]:
        for text in re.split(r"^### ", part, flags=re.MULTILINE):
            heading, _, body = text.partition("\n")
            yield heading, body, LINK.findall(body) or LINK.findall(part)


def figures(text: str) -> list[tuple[str, ...]]:
    return [found.groups() for kind in (SPREAD, INTERVAL) for found in kind.finditer(text)]


def absent(text: str, pages: str) -> list[tuple[str, ...]]:
    """The figures of a text that are not in these pages, which may have more digits."""
    there = [tuple(map(float, found)) for found in figures(pages)]
    # a difference may be given the other way round, or as what it costs
    there += [(-mean, -high, -low) for mean, low, high in (found for found in there if len(found) == 3)]

    def stands(quoted: tuple[str, ...]) -> bool:
        near = [0.5001 * 10 ** -len(number.partition(".")[2]) for number in quoted]
        return any(
            len(page) == len(quoted) and all(abs(float(q) - p) <= n for q, p, n in zip(quoted, page, near, strict=True))
            for page in there
        )

    return [quoted for quoted in figures(text) if not stands(quoted)]


@pytest.mark.parametrize(("heading", "text", "pages"), [pytest.param(*each, id=each[0]) for each in sections()])
def test_every_figure_with_a_spread_stands_in_a_page_of_its_section(heading, text, pages):
    """A digit that was typed wrong, or a page that was made again while the text stayed."""
    if figures(text):
        assert pages, f"{heading}: no page is linked"
        assert not absent(text, "\n".join(read(RESULTS / f"{page}.md") for page in pages))


def test_the_readme_repeats_what_the_pages_have():
    text = read(ROOT / "README.md")
    assert len(figures(text)) > 20
    assert not absent(text, "\n".join(map(read, RESULTS.glob("*.md"))))


def test_what_is_not_in_a_page_is_found():
    pages = "| a | 93.6 ± 1.1 | -1.47 [-2.63, -0.30] |"
    assert not absent("93.6 ± 1.1, 94 ± 1, and -1.5 [-2.6, -0.3], the other way round +1.5 [+0.3, +2.6]", pages)
    wrong = ("93.7 ± 1.1", "93.6 ± 1.2", "+1.5 [-2.6, -0.3]", "-1.5 [-2.6, +0.3]", "1.4 [0.3, 2.6]")
    assert [len(absent(text, pages)) for text in wrong] == [1] * len(wrong)


@pytest.mark.parametrize("page", sorted(RESULTS.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_names_the_manifests_of_every_run_and_seed(page):
    behind = json.dumps(json.loads(read(page.with_suffix(".json"))))
    manifests = set(re.findall(r'"([^"]+)": "sha256:[0-9a-f]{64}"', behind))
    assert manifests
    for folder, seeds in SOURCE.findall(read(page)):
        for seed in seeds.split(", "):
            assert any(path.startswith(f"{folder}/seed-{seed}/") for path in manifests), f"{folder}, seed {seed}"
