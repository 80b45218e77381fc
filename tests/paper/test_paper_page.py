"""The printer: shapes, the paper's figures beside ours, differences, formats, and folders read back."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path

import pytest
from paper_runs import over_seeds, run_result, write_run

from aft.errors import AftError
from aft.paper.figures import FIGURES, MODELS, RANK, TASKS, best_beta
from aft.paper.page import cell_text, make_page
from aft.paper.picture import lines_of
from aft.paper.render import as_csv, as_json, as_latex, as_markdown
from aft.paper.run_results import at_suffix, read_run
from aft.paper.specs import SPECS, ModelRow
from aft.report.canvas import missing_library
from aft.stats.estimate import Estimate, to_json

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
HALF, RIGHT, WRONG = [1, 0] * 10, [1] * 20, [0] * 20


def test_the_papers_figures():
    sizes = {key: len(figures) for key, figures in FIGURES.items()}
    assert sizes == {"1": 8, "2": 48, "3": 20, "4": 7, "5": 12, "7": 16, "8": 4, "9": 10, "10": 4, "real": 48}
    assert FIGURES["2"]["LLama2-13B", "ECQA", "AFT BC"] == "76.57±0.83"
    assert FIGURES["2"]["LLama-13B", "AQUA", "RFT"] == "34.29±1.28"
    assert FIGURES["3"]["LLama-13B", RANK, "PRO"] == "20.34±1.51"
    assert FIGURES["9"]["LLama-7B", RANK, "0.7"] == "9.83" and FIGURES["9"]["LLama-7B", RANK, "1"] == "7.51"
    assert FIGURES["5"]["LLama-7B", "MMLU", "AFT DC"] == "39.25±0.35"
    assert best_beta("LLama2-7B", "AQUA") == 0.4
    values = [text for figures in FIGURES.values() for text in figures.values()]
    assert all(re.fullmatch(r"\d*\.\d+(±\d+\.\d+)?( / \d+\.\d+(±\d+\.\d+)?)*", text) for text in values)
    # Table 3 and 8 tell one run; so do 4, 9 and 10
    assert FIGURES["3"]["LLama-7B", RANK, "AFT RBC"] == FIGURES["8"]["LLama-7B", RANK, "RBC"]


@pytest.mark.parametrize("key", FIGURES)
def test_every_figure_stands_in_a_row_of_its_table(key):
    spec = SPECS[key]
    labels = {" ".join(row.labels) for row in spec.rows if isinstance(row, ModelRow)}
    series = {f"{0.1 * step:.1f}" for step in range(1, 10)} if key == "9" else {"β"} if key == "7" else set()
    assert {row for _, _, row in FIGURES[key]} <= labels | series


def test_table_4_puts_each_loss_without_and_with_beside_the_paper():
    moved = {"positive_drift": -0.25, "negative_drift": -1.5, "both_fell": 0.4, "stopped": None}
    run = run_result(
        {"vft": [HALF] * 2, "rrhf": [WRONG] * 2, "rrhf-dc": [RIGHT] * 2},
        displacement={"rrhf": {"0": moved, "1": {**moved, "positive_drift": -0.75}}},
    )
    table = make_page(SPECS["4"], [run]).table
    assert table.headings[:3] == ("method", "constraint", "TAcc (%)")
    assert table.headings[-1] == f"paper (LLama-7B, {RANK}): TAcc / AAcc / PPL"
    rows = {row[:2]: row[2:] for row in table.rows}
    assert rows["VFT", "–"][0] == "50.0 ± 0.0" and rows["VFT", "–"][-1] == "20.82 / 68.72 / 1.60"
    assert rows["RRHF", "without"][0] == "0.0 ± 0.0" and rows["RRHF", "without"][-1] == "7.51 / 87.44 / 1.80"
    assert rows["RRHF", "without"][-4:-1] == ("-0.500 ± 0.354", "-1.500 ± 0.000", "40.0 ± 0.0")
    drift = run.measure("rrhf", "positive_drift")
    assert drift is not None and drift.to_json()["by_seed"] == {"0": {"value": -0.25}, "1": {"value": -0.75}}
    assert rows["RRHF", "with"][0] == "100.0 ± 0.0" and rows["RRHF", "with"][-1] == "25.53 / 79.89 / 1.35"
    assert rows["AFT", "with"] == (*("–",) * 8, "26.08 / 81.36 / 1.37")
    assert ("DPO", "with") not in rows and any("DPO with" in note for note in make_page(SPECS["4"], [run]).notes)


def test_a_real_models_page_has_every_measure_and_the_papers_figures_of_its_task():
    shares = {"4": over_seeds([0.5, 0.7]), "16": over_seeds([0.6, 0.8])}
    measures = {"vote": shares, "pass": shares, "assessment_accuracy": over_seeds([0.6, 0.5])}
    answers = {"vft": [HALF] * 2, "rft-bc": [RIGHT] * 2}
    runs = [run_result(answers, model="smollm2-135m", task=task, measures=measures) for task in ("ECQA", "arithmetic")]
    page = make_page(SPECS["real"], runs)
    assert page.table.headings == (
        *("run", "method", "TAcc (%)", "AAcc, own samples (%)", "AAcc, pool (%)", "vote of 16 (%)", "pass@4 (%)"),
        *("pass@16 (%)", "PPL of own right chains", "PPL of references", "paper (LLama-7B): TAcc / AAcc"),
    )
    rows = {row[:2]: row[2:] for row in page.table.rows}
    ecqa, sums = "smollm2-135m, ECQA", "smollm2-135m, arithmetic"
    assert rows[ecqa, "VFT"][3:6] == ("70.0 ± 14.1", "60.0 ± 14.1", "70.0 ± 14.1")
    assert rows[ecqa, "VFT"][-1] == "70.40±1.07 / 61.62±0.01" and rows[ecqa, "RFT"][-1] == "72.23±0.11"
    assert rows[sums, "RFT + AFT BC"][0] == "100.0 ± 0.0" and {row[-1] for key, row in rows.items() if sums in key} == {
        "–"
    }
    assert {verdict.status for verdict in page.verdicts} == {"not tested"}  # two seeds are too few


def papers_run(model, task, level):
    answers = {"vft": [HALF] * 3, "rft": [HALF] * 3, "aft-dc": [level] * 3}
    return run_result(answers, model=model, task=task, start="base")


def test_table_2_has_models_down_and_tasks_across():
    runs = [papers_run(model, task, RIGHT) for model in MODELS[:2] for task in TASKS[:2]]
    page = make_page(SPECS["2"], runs)
    assert page.table.headings == ("model", "method", "GSM8K", "paper", "AQUA", "paper")
    assert page.table.rows[0] == ("LLama-7B", "VFT", "50.0 ± 0.0", "36.48±0.92", "50.0 ± 0.0", "31.19±0.28")
    assert ("LLama2-7B", "AFT DC", "100.0 ± 0.0", "44.25±0.43", "100.0 ± 0.0", "33.49±0.63") in page.table.rows
    assert ("LLama2-7B", "AFT BC", "–", "44.16±0.81", "–", "32.89±0.98") in page.table.rows
    assert len(page.table.rows) == 2 * 4  # no further steps of VFT, there or here
    held = [verdict for verdict in page.verdicts if verdict.status == "held"]
    assert {verdict.run for verdict in held} == {f"{m}, {t}" for m in MODELS[:2] for t in TASKS[:2]}


def test_table_3_has_models_across():
    runs = [papers_run(model, RANK, RIGHT) for model in ("LLama-7B", "LLama-13B")]
    table = make_page(SPECS["3"], runs).table
    assert table.headings == ("method", "LLama-7B", "paper", "LLama-13B", "paper")
    assert table.rows[1] == ("RFT", "50.0 ± 0.0", "25.09±1.18", "50.0 ± 0.0", "28.21±0.86")


def test_differences_from_vft_and_rft():
    run = run_result({"vft": [HALF] * 3, "rft": [HALF] * 3, "aft-dc": [RIGHT] * 3})
    rows = {row[1]: row[2:] for row in make_page(SPECS["2"], [run]).differences.rows}
    assert rows["RFT"] == ("+0.0 [+0.0, +0.0]; by seed +0.0, +0.0, +0.0", "–")
    assert re.fullmatch(r"\+50\.0 \[\+[\d.]+, \+[\d.]+\]; by seed \+50\.0, \+50\.0, \+50\.0 \*", rows["AFT DC"][0])
    assert rows["AFT DC"][0] == rows["AFT DC"][1]
    assert set(rows) == {"RFT", "AFT DC"}


def runs_of_table_1(assessments):
    levels = {"LLama-7B": HALF, "LLama2-7B": [1] * 12 + [0] * 8, "LLama-13B": RIGHT}
    return [
        run_result(
            {"vft": [answers] * 2},
            model=model,
            task="GSM8K",
            measures={"assessment_accuracy": over_seeds([assessed, assessed])},
        )
        for (model, answers), assessed in zip(levels.items(), assessments, strict=False)
    ]


def test_table_1_correlates_over_models():
    page = make_page(SPECS["1"], runs_of_table_1((0.6, 0.62, 0.7)))
    assert page.table.rows[0] == ("LLama-7B", "VFT", "50.0 ± 0.0 / 60.0 ± 0.0", "36.48±0.92 / 68.41±0.32")
    assert page.notes[0] == "GSM8K: Pearson's correlation of the two figures over 3 models is 1.00 (paper: 0.93)."


@pytest.mark.parametrize(
    ("assessments", "told"),
    [((0.7, 0.62, 0.6), "3 models is -0.79"), ((0.6, 0.7), "2 models cannot"), ((0.6,) * 3, "3 models cannot")],
)
def test_a_correlation_needs_three_models_that_differ(assessments, told):
    assert f"over {told}" in make_page(SPECS["1"], runs_of_table_1(assessments)).notes[0]


def test_table_5_has_the_parts_of_a_mixture_across():
    parts = {"gsm8k": over_seeds([0.4, 0.4]), "mmlu": over_seeds([0.3, 0.3])}
    answers = {"vft": [HALF] * 2, "aft-dc": [RIGHT] * 2}
    run = run_result(answers, model="LLama-7B", task="mixture", measures={"categories": parts})
    table = make_page(SPECS["5"], [run]).table
    assert table.headings == ("method", "GSM8K", "paper", "MMLU", "paper", "all")
    assert table.rows[0] == ("VFT", "40.0 ± 0.0", "35.72±0.95", "30.0 ± 0.0", "37.52±1.03", "50.0 ± 0.0")


def test_table_5_compares_part_by_part():
    def values(measure, model):
        right = {"vft": 0.0, "aft-dc": 1.0}[model]
        return {seed: {"long/q": 1.0, **{f"sums/q{i}": right for i in range(9)}} for seed in (0, 1)}

    parts = {"sums": over_seeds([0.4, 0.4]), "long": over_seeds([0.3, 0.3])}
    run = run_result({"vft": [HALF] * 2, "aft-dc": [RIGHT] * 2}, task="mixture", measures={"categories": parts})
    found = make_page(SPECS["5"], [dataclasses.replace(run, values=values)]).differences
    assert {row[1]: row[2].split(" ")[0] for row in found.rows} == {
        "AFT DC": "+90.0",
        "AFT DC, sums": "+100.0",
        "AFT DC, long": "+0.0",
    }


def test_table_7_takes_the_best_and_of_equals_the_lowest():
    betas = {"0": HALF, "0.15": RIGHT, "0.3": RIGHT, "0.5": WRONG}
    run = run_result({f"aft-bc-beta{beta}": [level] * 2 for beta, level in betas.items()})
    table = make_page(SPECS["7"], [run]).table
    assert table.headings == ("model", "arithmetic", "paper (LLama-7B, GSM8K)")
    assert table.rows == (("arithmetic-base", "0.15 (100.0 ± 0.0)", ".15"),)
    ranked = run_result({"aft-bc-beta0.3": [HALF] * 2}, task="arithmetic-RANK")
    table = make_page(SPECS["7"], [run, ranked]).table
    assert table.headings[3:] == ("arithmetic-RANK", f"paper (LLama-7B, {RANK})")
    assert table.rows[0][3:] == ("0.3 (50.0 ± 0.0)", ".05")


def test_a_series_is_in_the_order_of_its_numbers():
    run = run_result({f"aft-dc-k{k}": [HALF] * 2 for k in (16, 8, 64)} | {"vft": [WRONG] * 2})
    page = make_page(SPECS["k"], [run])
    assert page.table.headings == ("k", "arithmetic-base")
    assert [row[0] for row in page.table.rows] == ["0", "8", "16", "64"]
    assert lines_of(page) == {
        "arithmetic-base, arithmetic": [(0, 0, 0), (8, 50, 0), (16, 50, 0), (64, 50, 0)],
    }


def test_votes_are_columns():
    votes = {"1": over_seeds([0.5, 0.5]), "16": over_seeds([0.75, 0.75])}
    page = make_page(
        SPECS["self-consistency"], [run_result({"vft": [HALF] * 2, "aft-bc": [HALF] * 2}, measures={"vote": votes})]
    )
    assert page.table.headings == ("method", "1", "16")
    assert [row[0] for row in page.table.rows] == ["VFT", "AFT BC"]
    assert page.table.rows[0] == ("VFT", "50.0 ± 0.0", "75.0 ± 0.0")
    assert lines_of(page)["AFT BC"] == [(1, 50, 0), (16, 75, 0)]


def test_runs_alike_are_told_apart_by_their_folders(tmp_path):
    config = {"model": {"name_or_path": "models/arithmetic-base"}, "data": {"name": "arithmetic"}}
    folders = [write_run(tmp_path / name, {"vft": [HALF] * 2}, config) for name in ("pilot-25", "pilot-50")]
    page = make_page(SPECS["1"], [read_run(folder) for folder in folders])
    assert [row[0] for row in page.table.rows] == ["pilot-25", "pilot-50"]


def test_none_of_the_tables_models():
    with pytest.raises(AftError, match=r"table 9: none of its models \(vft, .*\) is evaluated in runs"):
        make_page(SPECS["9"], [run_result({"rft": [HALF]})])


@pytest.mark.parametrize(
    ("config", "model", "task"),
    [
        ({"model": {"name_or_path": "huggyllama/llama-7b"}, "data": {"name": "gsm8k"}}, "LLama-7B", "GSM8K"),
        (
            {
                "model": {"name_or_path": "a/b"},
                "data": {"name": "gsm8k"},
                "label": {"ratings": {"name": "judge"}},
            },
            "b",
            RANK,
        ),
        ({"model": {"name_or_path": "runs/gpu/small/base"}, "data": {"name": "arithmetic"}}, "small", "arithmetic"),
        ({"model": {"from_scratch": {}}, "data": {"name": "mixture"}}, "run", "mixture"),
        ({"model": {"name_or_path": "2026-11-29"}, "data": {"name": "gsm8k"}}, "2026-11-29", "GSM8K"),
    ],
)
def test_what_a_folder_is_of(config, model, task, tmp_path):
    run = read_run(write_run(tmp_path / "run", {"vft": [HALF]}, config))
    assert (run.model, run.task) == (model, task)


def test_values_by_question(tmp_path):
    folder = write_run(tmp_path / "run", {"vft": [HALF, RIGHT]}, {"align": {"init_from": "vft"}})
    evaluated = folder / "seed-0" / "evaluate" / "vft"
    pool = [("a", True, 0.0), ("a", True, None), ("a", False, -9.0), ("b", True, -1.0)]
    rows = [{"question_id": q, "is_positive": p, "score": s} for q, p, s in pool]
    (evaluated / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vote = {"question_id": "a", "vote": {"1": 0.25, "16": 1.0, "4": 0.5}}
    (evaluated / "self_consistency.jsonl").write_text(json.dumps(vote) + "\n")
    run = read_run(folder)
    assert run.start == "vft" and run.values("task_accuracy", "vft")[1]["q1"] == 1
    assert run.values("pool_perplexity", "vft") == {0: {"a": float("inf"), "b": pytest.approx(2.718281828)}}
    assert run.values("vote_gain", "vft") == {0: {"a": 0.75}}


def test_methods_of_one_suffix_stand_under_their_bare_names():
    run = run_result({"vft": [HALF], "rft": [HALF], "rft-lr0.001": [RIGHT]})
    same = at_suffix(run, "-lr0.001")
    assert set(same.models) == {"vft", "rft"}
    assert same.measure("rft", "task_accuracy").mean == 1 and run.measure("rft", "task_accuracy").mean == 0.5
    assert same.values("task_accuracy", "rft") == run.values("task_accuracy", "rft-lr0.001")
    assert same.values("task_accuracy", "vft") == run.values("task_accuracy", "vft")


@pytest.fixture
def page():
    return make_page(SPECS["2"], [run_result({"vft": [HALF] * 3, "aft-dc": [RIGHT, RIGHT, HALF]})])


def test_markdown_has_table_differences_claims_and_notes(page):
    text = as_markdown(page)
    assert "| arithmetic-base | AFT DC | 83.3 ± 28.9 | 40.43±1.04 |" in text
    assert "- **not tested** (arithmetic-base, arithmetic): RFT is above VFT." in text
    assert "- arithmetic-base, arithmetic: not in this run: VFT, further steps, RFT, AFT BC." in text


def test_latex_escapes(page):
    text = as_latex(page)
    assert r"arithmetic-base & AFT DC & 83.3 $\pm$ 28.9 & 40.43$\pm$1.04 \\" in text
    assert r"task accuracy (\%)" in text and text.count("{") == text.count("}")


def test_csv_keeps_all_digits(page):
    rows = list(csv.DictReader(io.StringIO(as_csv(page))))
    row = next(row for row in rows if row["model"] == "aft-dc")
    assert float(row["mean"]) == pytest.approx(2.5 / 3, abs=1e-15) and row["seeds"] == "0 1 2"
    assert row["paper"] == "40.43±1.04" and row["measure"] == "task_accuracy"


def test_json_is_json(page):
    found = json.loads(json.dumps(as_json(page)))
    assert found["table"] == "2" and {claim["status"] for claim in found["claims"]} <= {"not tested", "not held"}


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*table-*.json")), ids=lambda path: path.stem)
def test_the_numbers_of_a_kept_table_are_written_as_they_were(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        values = {measure: value for measure, value in cell["values"].items() if measure != "beta"}
        found = {measure: value and Estimate.from_json(value) for measure, value in values.items()}
        assert to_json(found) == values
        assert " / ".join(cell_text(measure, value) for measure, value in found.items()) in cell["text"]


def test_every_alignment_and_evaluation_behind_a_page_is_named_with_its_digest(tmp_path):
    folder = write_run(tmp_path / "run", {"vft": [HALF] * 2, "rft-lr0.1": [RIGHT], "stray": [RIGHT]})
    (folder / "seed-0" / "align" / "rft-lr0.1").mkdir(parents=True)
    texts = {
        "seed-0/evaluate/vft": '{"inputs": {}, "outputs": {}}',
        "seed-1/evaluate/vft": '{"inputs": {"seed": 1}, "outputs": {}}',
        "seed-0/evaluate/rft-lr0.1": '{"inputs": {"seed": 0}, "outputs": {}}',
        "seed-0/align/rft-lr0.1": '{"inputs": {"seed": 2}, "outputs": {}}',
    }
    for name, text in {**texts, "seed-0/evaluate/stray": '{"inputs": {"seed": 9}, "outputs": {}}'}.items():
        (folder / name / "manifest.json").write_text(text)
    found = as_json(make_page(SPECS["2"], [at_suffix(read_run(folder), "-lr0.1")]))["manifests"]
    assert found == {
        f"{folder}/{name}/manifest.json": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        for name, text in texts.items()
    }


def test_a_page_names_the_commits_of_its_evaluations_not_of_the_last_command(tmp_path):
    folder = write_run(tmp_path / "run", {"vft": [HALF] * 2, "rft": [RIGHT], "stray": [RIGHT]})
    (folder / "environment.json").write_text('{"git_revision": "ddd"}')
    for name, revision in {
        "seed-0/evaluate/vft": "bbb",
        "seed-1/evaluate/vft": "aaa",
        "seed-0/evaluate/stray": "ccc",
        "seed-0/align/rft": "eee",
    }.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        text = json.dumps({"inputs": {}, "outputs": {}, "git_revision": revision})
        (folder / name / "manifest.json").write_text(text)
    notes = make_page(SPECS["2"], [read_run(folder)]).notes
    assert notes[0].endswith("test questions; evaluated at commit aaa, bbb.")


def test_the_command_writes_beside_the_first_run(tmp_path, command):
    config = {"model": {"name_or_path": "huggyllama/llama-7b"}, "data": {"name": "gsm8k"}}
    folder = write_run(tmp_path / "run", {"vft": [HALF] * 3, "rft": [RIGHT] * 3}, config)
    ran = command("report", "--table", "2", folder, "--format", "all")
    assert ran.code == 0 and "| LLama-7B | RFT | 100.0 ± 0.0 | 39.75±1.03 |" in ran.out
    drawn = [] if missing_library() else ["table-2.png"]
    written = sorted(path.name for path in folder.iterdir() if path.is_file())
    assert written == sorted(["config.yaml", "table-2.csv", "table-2.json", "table-2.md", "table-2.tex", *drawn])
    ran = command("report", "--table", "2", tmp_path / "none")
    assert ran.code == 1 and f"{tmp_path / 'none'}: no such run folder" in ran.err
