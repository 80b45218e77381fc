"""Tables inside the documents are those that scripts/write_figures.py makes of the pages; the prose has no figures."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from aft.errors import AftError
from aft.json_files import write_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
SCRIPT = ROOT / "scripts" / "write_figures.py"
DOCUMENTS = ("README.md", "docs/results.md")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
SPREAD = re.compile(r"±|\[\s*[-+−]?\d[\d.]*\s*,\s*[-+−]?\d[\d.]*\s*\]")
SOURCE = re.compile(r"(\S+); seeds (\d+(?:, \d+)*);")  # a run's folder and its seeds, in a note or above a grid


@pytest.fixture(scope="module")
def figures():
    return runpy.run_path(str(SCRIPT))


# ---- the documents ----


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_is_what_the_command_writes(figures, name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert figures["BLOCK"].search(text)
    assert text == figures["fill"](text, name), "run: make figures"


def test_every_maker_is_used(figures):
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS]
    used = {match[2].split()[0] for text in texts for match in figures["BLOCK"].finditer(text)}
    assert used == set(figures["MAKERS"])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_prose_has_no_spread_and_no_interval(figures, name):
    prose = CODE.sub("", figures["BLOCK"].sub("", (ROOT / name).read_text(encoding="utf-8")))
    assert SPREAD.findall(prose) == []


def test_spreads_and_intervals_are_found():
    found = ("93.6 ± 1.1", "−0.5 [−0.9, −0.0]", "+4.5 [+3.9,\n+5.2]", "[1, 2]")
    assert all(SPREAD.search(text) for text in found)
    assert not any(SPREAD.search(text) for text in ("[page](results/tiny-k.md)", "[95 %]", "stages=[vft]"))


@pytest.mark.parametrize("page", sorted(RESULTS.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_names_the_manifests_of_every_run_and_seed(page):
    behind = json.dumps(json.loads(page.with_suffix(".json").read_text(encoding="utf-8")))
    manifests = set(re.findall(r'"([^"]+)": "sha256:[0-9a-f]{64}"', behind))
    assert manifests
    for folder, seeds in SOURCE.findall(page.read_text(encoding="utf-8")):
        for seed in seeds.split(", "):
            assert any(path.startswith(f"{folder}/seed-{seed}/") for path in manifests), f"{folder}, seed {seed}"


# ---- the command ----


def page(folder: Path, name: str, claims: dict[str, tuple[str, list[str]]]) -> None:
    """A page of a run `world` with claims: text -> verdict and evidence."""
    found = [
        {"claim": claim, "run": "world, arithmetic", "status": status, "evidence": evidence}
        for claim, (status, evidence) in claims.items()
    ]
    write_json(folder / f"{name}.json", {"claims": found})


def block(mark: str, table: str = "old") -> str:
    return f"before\n\n<!-- figures: {mark} -->\n{table}\n<!-- /figures -->\n\nafter\n"


def test_a_table_replaces_what_stood_between_its_marks(figures, tmp_path):
    for name, mean in (("a", 1.0), ("b", -1.0)):
        page(
            tmp_path,
            name,
            {"RFT is above VFT": ("held", [f"rft − vft, task accuracy: {mean:+} [+0.5]; by seed {mean:+}, +1.0"])},
        )
    mark = 'differences "one base=a:world"\n     "other base=b"'
    expected = "\n".join(
        [
            "| difference; on how many seeds above 0 | one base | other base |",
            "| --- | ---: | ---: |",
            "| rft − vft | +1.0 [+0.5]; 2 of 2 | -1.0 [+0.5]; 1 of 2 |",
        ]
    )
    assert figures["fill"](block(mark), "README.md", tmp_path) == block(mark, expected)
    assert figures["fill"](block(mark, expected), "README.md", tmp_path) == block(mark, expected)


def test_a_real_models_table_names_what_has_not_finished(figures, tmp_path):
    assert figures["real"](tmp_path, "small-real") == "Nothing of this table has been evaluated yet."

    def cell(method: str, column: str, text: str, paper: str) -> dict[str, object]:
        row = ["smollm2-135m, ECQA", method]
        return {"row": row, "column": column, "text": text, "paper": paper, "model": method if text else None}

    claim = {"claim": "RFT is above VFT", "run": "smollm2-135m, ECQA", "status": "not tested"}
    found = {
        "table": "real",
        "cells": [
            cell("VFT", "TAcc (%)", "31.0", "70.40 / 61.62"),
            cell("VFT", "AAcc (%)", "55.0", "70.40 / 61.62"),
            cell("RFT", "TAcc (%)", "", "72.23"),
            cell("RFT", "AAcc (%)", "", "72.23"),
        ],
        "claims": [{**claim, "evidence": ["rft − vft, task accuracy: +1.0 [-1.0, +3.0]; by seed +1.0; 1 of 3 seeds"]}],
        "notes": ["smollm2-135m, ECQA: a folder", "not finished: ecqa, seed 1: every unit"],
    }
    write_json(tmp_path / "small-real.json", found)
    text = figures["real"](tmp_path, "small-real")
    assert "| smollm2-135m, ECQA | VFT | 31.0 | 55.0 | 70.40 / 61.62 |" in text and "72.23" in text
    assert "| RFT is above VFT | smollm2-135m, ECQA | not tested | rft − vft, task accuracy: +1.0 [-1.0" in text
    assert text.endswith("Not finished:\n\n- ecqa, seed 1: every unit") and "a folder" not in text


def test_a_table_below_a_pages_own_is_chosen_by_the_beginning_of_its_title(figures, tmp_path):
    tables = [
        {"title": f"harsh: {name} (%)", "headings": ["method", "1"], "rows": [["VFT", name]]}
        for name in ("vote", "pass@k")
    ]
    write_json(tmp_path / "a.json", {"further": tables})
    text = figures["table"](tmp_path, "a", "harsh: pass")
    assert text.startswith("harsh: pass@k (%):\n\n| method | 1 |") and "| VFT | pass@k |" in text and "vote" not in text
    with pytest.raises(AftError, match=r"a.json has no table 'harsher', only: harsh: vote \(%\); harsh: pass"):
        figures["table"](tmp_path, "a", "harsher")


def test_verdicts_gather_the_places_of_a_claim(figures, tmp_path):
    line = ["rft − vft, task accuracy: +1.0 [+0.5, +1.5]; by seed +1.0"]
    page(tmp_path, "a", {"RFT is above VFT": ("held", line), "β matters": ("not tested", ["no β"])})
    page(tmp_path, "b", {"RFT is above VFT": ("not held", line)})
    rows = figures["verdicts"](tmp_path, "harsh 1=a", "harsh 2=a", "tables=a", "harsher=b").splitlines()
    assert rows[2:] == ["| RFT is above VFT | harsh 1, 2; tables | harsher |"]


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        ("tabel a", "there is no maker tabel, only table, "),
        ("claims absent", "absent.json is absent"),
        ("claims a:elsewhere", "a.json has no claim of a run elsewhere"),
        ('seeds a "aft − vft"', "there is no difference aft − vft, only rft − vft"),
    ],
)
def test_an_error_names_document_mark_and_cause(figures, tmp_path, mark, problem):
    page(tmp_path, "a", {"RFT is above VFT": ("held", ["rft − vft, task accuracy: +1.0 [+0.5]; by seed +1.0, +2.0"])})
    with pytest.raises(AftError) as raised:
        figures["fill"](block(mark), "docs/results.md", tmp_path)
    assert str(raised.value).startswith(f"docs/results.md: <!-- figures: {mark} -->: ")
    assert problem in str(raised.value)


def test_a_forgotten_end_mark_deletes_nothing(figures, tmp_path):
    text = "<!-- figures: claims a -->\n\nprose\n\n" + block("claims a")
    page(tmp_path, "a", {"RFT is above VFT": ("held", ["rft − vft, task accuracy: +1.0 [+0.5]; by seed +1.0"])})
    with pytest.raises(AftError, match=r"README.md: a mark .* without its"):
        figures["fill"](text, "README.md", tmp_path)


def test_check_writes_nothing_and_fails(figures, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(figures["main"].__globals__, "ROOT", tmp_path)
    monkeypatch.setitem(figures["main"].__globals__, "DOCUMENTS", ("README.md",))
    readme = tmp_path / "README.md"
    readme.write_text(block("vft-rates"), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["write_figures.py", "--check"])
    with pytest.raises(SystemExit, match=r"README.md: a table is not what the pages say; run: make figures"):
        figures["main"]()
    assert readme.read_text(encoding="utf-8") == block("vft-rates")
    monkeypatch.setattr("sys.argv", ["write_figures.py"])
    figures["main"]()
    assert "| seed 100 |" in readme.read_text(encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["write_figures.py", "--check"])
    figures["main"]()
    assert capsys.readouterr().out == "wrote README.md\n"
