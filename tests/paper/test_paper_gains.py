"""Gain over VFT by size of the base model, data and k: the table, the order of runs, claims, the picture."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from paper_runs import run_result, write_run
from safetensors.numpy import save_file

from aft.errors import AftError
from aft.paper import gains_picture
from aft.paper.claims import HELD, NOT_TESTED
from aft.paper.gains import ends
from aft.paper.gains_picture import panels
from aft.paper.page import make_page
from aft.paper.picture import draw_page
from aft.paper.render import as_csv, as_json, as_latex, as_markdown
from aft.paper.run_results import read_run
from aft.paper.specs import SPECS
from aft.report.canvas import missing_library

HALF, RIGHT, WRONG = [1, 0] * 20, [1] * 40, [0] * 40
LEVELS = {"vft": HALF, "vft-more": HALF, "rft": [1] * 30 + [0] * 10, "rft-bc": RIGHT}


def run_of(parameters, alone=700, k=6, levels=LEVELS):
    run = run_result({name: [level] * 3 for name, level in levels.items()}, model=f"m{parameters}-{alone}-{k}")
    return dataclasses.replace(run, parameters=parameters, answers_alone=alone, k=k)


def of_ks(parameters):
    ks = {f"rft-k{k}": level for k, level in ((3, HALF), (12, RIGHT))}
    return run_of(parameters, k=12, levels={"vft": HALF, **ks})


@pytest.fixture
def page():
    runs = [of_ks(1_030_000), run_of(4_010_000, 100), run_of(4_010_000), run_of(139_000, 100), run_of(139_000)]
    return make_page(SPECS["size"], runs)


def test_a_row_is_a_size_an_amount_of_data_and_a_k(page):
    headings = ("million parameters", "answers alone", "k", "VFT (%)", "VFT, further steps", "RFT", "RFT + AFT BC")
    assert page.table.headings == headings
    sizes = [("0.14", "700", "6"), ("4", "700", "6"), ("0.14", "100", "6"), ("4", "100", "6")]
    assert [row[:3] for row in page.table.rows] == [*sizes, ("1", "700", "3 of 12"), ("1", "700", "12 of 12")]
    first, last = page.table.rows[0], page.table.rows[-1]
    assert first[3:5] == ("50.0 ± 0.0", "+0.0 [+0.0, +0.0]") and first[6].startswith("+50.0 [+")
    assert last[5].startswith("+50.0 [+") and last[4] == last[6] == "–"


def test_gains_by_seed_over_rft_and_in_vfts_errors(page):
    rows = {(row[0], row[2]): row for row in page.differences.rows if row[1] == "6"}
    _, _, _, vft, rft, removed = rows["m139000-700-6, arithmetic", "RFT + AFT BC"]
    assert vft.startswith("+50.0 [+") and vft.endswith(" *; by seed +50.0, +50.0, +50.0")
    assert rft.startswith("+25.0 [+") and removed == "+100.0"  # every draw gives it: no interval
    assert rows["m139000-700-6, arithmetic", "RFT"][4] == "–"  # not against itself
    csv = as_csv(page)
    assert "vs_vft,0.5,0.0," in csv and "errors_removed,1.0,," in csv
    assert as_json(page)["differences"]["rows"] and as_latex(page) and "by seed" in as_markdown(page)


def test_vft_without_errors_leaves_none_to_remove():
    page = make_page(SPECS["size"], [run_of(139_000, levels={**LEVELS, "vft": RIGHT})])
    assert {row[-1] for row in page.differences.rows} == {"–"}


def test_sizes_are_compared_where_nothing_else_differs(page):
    pairs = [
        run_of(parameters, alone, k) for parameters, alone, k in ((4, 700, 6), (1, 700, 6), (2, 700, 6), (9, 100, 6))
    ]
    # one size of the small data, and a size that is not known
    other = dataclasses.replace(run_of(16), setting={"data": {"num_train": 50}})
    found = list(ends([*pairs, run_of(None), run_of(8, 700, 3), other, of_ks(32)]))
    sizes = [(small.parameters, large.parameters) for small, large in found]
    assert sorted(sizes) == [(1, 4), (8, 8), (9, 9), (16, 16)]  # twice the same where it has no other to compare with
    claims = {
        (verdict.claim.partition("'")[0], verdict.run) for verdict in page.verdicts if "largest model" in verdict.claim
    }
    assert ("RFT", "0.14 → 4 million: m4010000-100-6, arithmetic against m139000-100-6, arithmetic") in claims
    assert "Sizes on this page, in million parameters: 0.14, 1, 4. " in " ".join(page.notes)


def test_a_missing_method_makes_no_claim_disappear(page):
    # the run with several k bears on the claims of k alone, and names what it lacks
    several = {verdict.claim: verdict.status for verdict in page.verdicts if verdict.run.startswith("m1030000")}
    assert {claim.partition(" gains with k")[0] for claim in several} == {"RFT", "AFT BC", "RFT + AFT BC"}
    assert several["AFT BC gains with k: the largest is above the smallest"] == NOT_TESTED
    (note,) = [note for note in page.notes if note.startswith("m1030000") and "not in this run" in note]
    assert "rft-k6" in note and "aft-bc-k3" in note
    assert not re.search(r"[ :]rft-k(3|12)\b", note)
    main = {verdict.claim: verdict.status for verdict in page.verdicts if verdict.run == "m4010000-100-6, arithmetic"}
    assert main["AFT BC is above RFT"] == NOT_TESTED and main["RFT is above VFT at equal steps"] == HELD
    # with VFT alone, a run with several k is told by its configuration
    begun = dataclasses.replace(run_of(2, k=12, levels={"vft": HALF}), methods=("rft-k3", "rft-k12"))
    assert {v.claim for v in make_page(SPECS["size"], [begun]).verdicts if v.run.startswith("m2-")} == set(several)


def test_one_size_leaves_claims_over_sizes_untested():
    page = make_page(SPECS["size"], [run_of(139_000)])
    over = [verdict for verdict in page.verdicts if "largest model" in verdict.claim]
    assert len(over) == 5 and {verdict.status for verdict in over} == {NOT_TESTED}


def test_two_runs_do_not_share_a_row():
    other = dataclasses.replace(run_of(139_100), model="harsher")
    with pytest.raises(AftError, match=r"both have 0\.14 million parameters, 700 answers alone and k = 6"):
        make_page(SPECS["size"], [run_of(139_000), other])
    # of runs whose size is not known, each has a row
    unknown = make_page(SPECS["size"], [run_of(None), dataclasses.replace(run_of(None), model="harsher")])
    assert [row[0] for row in unknown.table.rows] == ["– (mNone-700-6)", "– (harsher)"]


def test_runs_that_differ_in_more_than_size_are_named():
    other = dataclasses.replace(run_of(4_010_000), setting={"data": {"num_train": 50}})
    page = make_page(SPECS["size"], [run_of(139_000), other])
    (note,) = [note for note in page.notes if note.startswith("Not compared over sizes")]
    assert "m139000-700-6" in note and "m4010000-700-6" in note


def test_the_picture_has_panels_for_data_and_for_k(page):
    data, ks = panels(page.cells)
    assert list(data) == ["700 answers alone, k = 6", "100 answers alone, k = 6"]
    assert list(ks) == ["700 answers alone, k = 3 of 12", "700 answers alone, k = 12 of 12"]
    line = data["700 answers alone, k = 6"]["RFT + AFT BC"]
    assert [size for size, _ in line] == [0.14, 4.0]
    assert all(gain.low < gain.mean < gain.high and len(gain.by_seed) == 3 for _, gain in line)


@pytest.mark.skipif(missing_library() is not None, reason="needs matplotlib")
def test_panels_of_a_row_have_the_ticks_of_all(tmp_path, monkeypatch):
    ticks = []
    draw_panel = gains_picture._draw_panel

    def draw(axes, *given):
        drawn = draw_panel(axes, *given)
        ticks.append([text.get_text() for text in axes.get_xticklabels()])
        return drawn

    monkeypatch.setattr(gains_picture, "_draw_panel", draw)
    runs = [run_of(139_000), run_of(1_030_000), run_of(4_010_000), run_of(139_000, 100)]
    draw_page(make_page(SPECS["size"], runs), tmp_path / "some.png")
    assert ticks == [["0.14", "1", "4"]] * 2


@pytest.mark.skipif(missing_library() is not None, reason="needs matplotlib")
def test_the_picture_is_drawn_whatever_has_finished(page, tmp_path):
    draw_page(page, tmp_path / "all.png")
    draw_page(make_page(SPECS["size"], [of_ks(139_000)]), tmp_path / "k.png")
    draw_page(make_page(SPECS["size"], [run_of(None)]), tmp_path / "none.png")  # no size, so no place on the axis
    assert all((tmp_path / f"{name}.png").stat().st_size for name in ("all", "k", "none"))


def test_parameters_are_counted_in_the_weights_of_vft_or_of_the_base_model(tmp_path):
    config = {
        "model": {"name_or_path": str(tmp_path / "base")},
        "data": {"name": "arithmetic", "num_answer_only": 700, "num_train": 25, "seed": 3},
        "sample": {"num_samples": 6},
        "training": {"max_steps": 5, "num_train_epochs": 2},
        "align": {"init_from": "vft", "training": {"max_steps": 9}},
        "methods": {"rft-k3": {}},
    }
    folder = write_run(tmp_path / "run", {"vft": [HALF]}, config)
    known = read_run(folder)
    assert (known.parameters, known.answers_alone, known.k) == (None, 700, 6)
    assert known.methods == ("rft-k3",) and known.setting["data"] == {"name": "arithmetic", "num_train": 25}
    assert known.setting["align"] == {"init_from": "vft", "max_steps": 9, "num_train_epochs": 2}
    (tmp_path / "base").mkdir()
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, tmp_path / "base/model.safetensors")
    assert read_run(folder).parameters == 17
    vft = folder / "seed-0" / "vft"
    vft.mkdir()
    (vft / "model.safetensors").write_bytes(b"damaged")
    assert read_run(folder).parameters == 17
    save_file({"a": np.zeros(2, np.float32)}, vft / "model.safetensors")
    assert read_run(folder).parameters == 2
