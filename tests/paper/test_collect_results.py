"""scripts/collect_results.py: what it takes from runs/ and what it leaves."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from paper_runs import write_run

from aft.json_files import write_json, write_text
from aft.run.digest import digest_file

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "collect_results.py"


@pytest.fixture
def collect(tmp_path, monkeypatch, capsys):
    output = tmp_path / "results"
    output.mkdir()

    def run(*options):
        known = ["--runs", str(tmp_path / "runs"), "--output", str(output), *options]
        monkeypatch.setattr("sys.argv", [str(SCRIPT), *known])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_tables_get_their_own_grids_and_no_others(tmp_path, collect):
    folder = tmp_path / "runs" / "tables" / "tiny"
    for stem in ("table-1", "table-10", "laboratory", "laboratory-losses"):
        write_text(folder / f"{stem}.md", f"# {stem}\n")
        write_json(folder / f"{stem}.json", {"table": stem})
        write_text(folder / f"{stem}-rank-grid.md", f"grid of {stem}\n")
        write_json(folder / f"{stem}-rank-grid.json", {"grid": stem})
    collect()
    pages = {path.stem: path.read_text() for path in (tmp_path / "results").glob("*.md")}
    assert pages == {
        f"tiny-{stem}": f"# {stem}\n\ngrid of {stem}\n"
        for stem in ("table-1", "table-10", "laboratory", "laboratory-losses")
    }
    behind = json.loads((tmp_path / "results" / "tiny-table-10.json").read_text())
    assert behind == {"table": "table-10", "grids": [{"grid": "table-10"}]}


def test_a_report_comes_with_its_manifests(tmp_path, collect):
    run = write_run(tmp_path / "runs" / "quickstart", {"vft": [[1, 0, 1, 0]], "rft": [[1, 1, 1, 0]]})
    manifest = run / "seed-0" / "evaluate" / "rft" / "manifest.json"
    write_json(manifest, {"inputs": {}, "outputs": {}})
    collect()
    text = (tmp_path / "results" / "quickstart.md").read_text()
    assert re.search(r"\| rft \| 75\.00 ", text)
    found = json.loads((tmp_path / "results" / "quickstart.json").read_text())
    assert found["manifests"] == {"seed-0/evaluate/rft/manifest.json": digest_file(manifest)}


def test_rates_of_vft_stand_in_order_with_what_they_were_read_from(tmp_path, collect):
    runs = tmp_path / "runs"
    (runs / "vft-1e-5" / "seed-100" / "vft").mkdir(parents=True)  # only begun
    for rate, accuracy in ((1e-3, 0.5), (2e-4, 0.75)):
        folder = runs / f"vft-{rate}" / "seed-100" / "vft"
        inputs = {"config": {"vft": {"training": {"learning_rate": rate}}}}
        write_json(folder / "manifest.json", {"inputs": inputs, "git_revision": "abc"})
        write_json(folder / "trainer_state.json", {"best_metric": accuracy, "best_global_step": 7})
    collect()
    rows = (tmp_path / "results" / "vft-rates.md").read_text().splitlines()[-2:]
    assert rows == ["| 0.0002 | 100 | 75.0 | 7 | abc |", "| 0.001 | 100 | 50.0 | 7 | abc |"]
    lowest = json.loads((tmp_path / "results" / "vft-rates.json").read_text())[0]
    files = [f"vft-0.0002/seed-100/vft/{name}.json" for name in ("manifest", "trainer_state")]
    assert lowest["manifests"] == {file: digest_file(runs / file) for file in files}


def test_what_is_only_begun_replaces_nothing(tmp_path, collect):
    """A run without all its evaluations, a VFT without its manifest."""
    write_run(tmp_path / "runs" / "quickstart", {"vft": [[1, 0], [1, 1]], "rft": [[1, 1]]}, {"seeds": [0, 1]})
    (tmp_path / "runs" / "vft-1e-3" / "seed-100" / "vft").mkdir(parents=True)
    collect()
    assert not list((tmp_path / "results").iterdir())


def test_two_pages_of_one_name_are_refused(tmp_path, collect, capsys):
    table = tmp_path / "runs" / "tables" / "tiny" / "table-2.md"
    write_text(table, "# table 2\n")
    write_json(table.with_suffix(".json"), {})
    with pytest.raises(SystemExit):
        collect("--page", f"tiny-table-2={table}")
    assert "tiny-table-2: another page has that name" in capsys.readouterr().err


def test_pages_of_absent_runs_are_left_and_named(tmp_path, collect):
    page = tmp_path / "results" / "tiny-table-2.md"
    page.write_text("measured before\n")
    assert str(page) in collect()
    assert page.read_text() == "measured before\n"
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["tiny-table-2.md"]


def test_a_page_from_elsewhere_gets_the_name_it_is_given(tmp_path, collect):
    table = tmp_path / "other" / "tiny" / "laboratory.md"
    write_text(table, "# the laboratory\n")
    write_json(table.with_suffix(".json"), {})
    collect("--page", f"tiny-laboratory-ten-seeds={table}")
    assert (tmp_path / "results" / "tiny-laboratory-ten-seeds.md").read_text() == "# the laboratory\n"


@pytest.mark.parametrize("given", ["TABLE", "name=", "name=absent.md", "=TABLE", "../name=TABLE", "a/b=TABLE"])
def test_a_page_without_name_or_table_is_refused(tmp_path, collect, given, capsys):
    table = tmp_path / "laboratory.md"
    write_text(table, "# the laboratory\n")
    write_json(table.with_suffix(".json"), {})
    given = given.replace("TABLE", str(table))
    with pytest.raises(SystemExit) as stopped:
        collect("--page", given)
    assert stopped.value.code == 2
    assert f"--page {given}: expected NAME=TABLE.md" in capsys.readouterr().err
    assert not list((tmp_path / "results").iterdir())
