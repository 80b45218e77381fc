"""The words of the pages: short sentences, one word for one thing. Tables, code and generated pages are left out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_WORDS = 30

# what is not written -> what is. Code spans, links' targets and the paper's title are left out before the search.
VOCABULARY = {
    r"\bCOTs?\b": "chain, or chain of thought",
    r"\bfrom nothing\b": "from scratch",
    r"\bin vain\b": "without effect; name what failed",
    r"\bthe plain way\b": "name the other way: padding, `generate`",
    r"\bsixteen bits\b": "bfloat16 (or: 16 bits)",
    r"\bre-?run(?:s|ning)?\b": "run again",
    r"\brestart(?:s|ed|ing)? from\b": "resume from",
    r"\bstep size\b": "learning rate",
    r"\bnewlines?\b": "line feed",
    r"\bEOS\b|\bend-of-sequence\b": "end token",
    r"\bground truth\b": "gold answer",
    r"\blogprobs?\b": "log-prob",
    r"\bwhoever\b": "name the person: you, a user",
    r"\bthe former\b|\bthe latter\b": "name the thing",
    r"\band so (?:do|does|is|are)\b": "say what the second thing does",
    r"\bvice versa\b": "say the other case",
    r"\bsimply\b|\bobviously\b|\bof course\b": "leave it out",
}


def prose(text: str) -> list[str]:
    """The paragraphs and list items of a page, each on one line: no code, tables, headings, HTML or links' targets."""
    text = re.sub(r"^(`{3,}).*?^\1[^\n]*$", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"^\s*(\||#|</?\w).*$", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*(?:[-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", text)]
    return [_plain(block) for block in blocks if block]


def _plain(block: str) -> str:
    block = re.sub(r"`[^`]*`", "CODE", block)
    block = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", block)
    return re.sub(r"\*+([^*]+)\*+", r"\1", block)


def sentences(block: str) -> list[str]:
    """The sentences of a paragraph. A colon before a list and a semicolon end none."""
    return [one for one in re.split(r"(?<=[.!?])[\")]?\s+(?=[A-ZΑ-Ω\"(0-9])", block) if one]


def words(sentence: str) -> int:
    """The words of a sentence. Numbers, formulas' signs and brackets alone are none."""
    return sum(bool(re.search(r"[A-Za-zÀ-ÿ]", word)) for word in sentence.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_sentences_are_short(page):
    found = [one for block in prose(page.read_text(encoding="utf-8")) for one in sentences(block)]
    assert [f"{words(one)} words: {one}" for one in found if words(one) > MOST_WORDS] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_one_word_for_one_thing(page):
    text = "\n".join(prose(page.read_text(encoding="utf-8")))
    told = [
        f"{match[0]!r} in {text[max(0, match.start() - 40) : match.end() + 20]!r}: write {instead}"
        for pattern, instead in VOCABULARY.items()
        for match in re.finditer(pattern, text)
    ]
    assert told == []


def test_the_reader_of_pages():
    page = "# One\n\nA b c. D *e* `f g`.\n\n| t | u |\n\n- [x](y) z\n\n```\ncode here\n```\n<!-- no -->\n"
    assert prose(page) == ["A b c. D e CODE.", "x z"]
    assert sentences("A b. C (d) e? F 1.5 g.") == ["A b.", "C (d) e?", "F 1.5 g."]
    assert words("a 12 = b (c) –") == 3
