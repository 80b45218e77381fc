"""A run folder made by hand: every reported number against arithmetic, and folders in which something is missing."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from aft.errors import AftError, ConfigError, DataError
from aft.report.build import build_report, write_report
from aft.report.calibration_picture import shares_by_score
from aft.report.canvas import missing_library
from aft.report.csv_file import csv_report
from aft.report.overview_picture import _draw_curve
from aft.report.page import markdown_page
from aft.report.read import read_config, read_curves, read_displacement, read_report, read_scores
from aft.report.terminal import summary_table
from aft.shown import shown
from aft.stats.estimate import to_json
from aft.yaml_files import yaml_text
from planted_text import IN_A_FILE, PLANTED, SECRET, is_clean

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
Z = 1.959963984540054
MODELS = ["vft", "loose", "bounded"]
# which of four questions are right, by model and seed
RIGHT = {
    "vft": {0: [1, 1, 0, 0], 1: [1, 0, 0, 0]},
    "loose": {0: [0, 1, 0, 0], 1: [1, 0, 0, 0]},
    "bounded": {0: [1, 1, 1, 0], 1: [1, 1, 0, 0]},
}
POOL = {"vft": (-0.2, -0.4), "loose": (-2.0, -5.0), "bounded": (-0.2, -0.6)}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


MANIFEST = {"inputs": {}, "outputs": {}}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def lines(values):
    return "".join(json.dumps(value) + "\n" for value in values)


def metrics(model, seed):
    right = RIGHT[model][seed]
    positive, negative = POOL[model]
    value = sum(right) / len(right)
    return {
        "model": model,
        "seed": seed,
        "split": "test",
        "checkpoint": f"seed-{seed}/{model}",
        "task_accuracy": {
            "value": value,
            "low": value - 0.125,
            "high": value + 0.25,
            "n": 4,
            "correct": sum(right),
            "unparsed": seed,
            "truncated": 0,
        },
        "assessment_accuracy": {"value": 0.75, "low": 0.5, "high": 1.0, "n": 3, "skipped": 1 + seed},
        "perplexity": {"value": 1.5 + 0.1 * seed, "low": 1.25, "high": 1.75, "n": 9},
        "pool": {
            "assessment_accuracy": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 2, "skipped": 0},
            "positive": {"mean": positive, "sd": 0.1, "n": 16},
            "negative": {"mean": negative, "sd": 0.3, "n": 9},
        },
    }


@pytest.fixture
def run(tmp_path):
    """Two seeds and three models, complete."""
    folder = tmp_path / "run"
    config = {"seeds": [0, 1], "methods": {"loose": {}, "bounded": {}}, "evaluate": {"models": MODELS}}
    write(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    write(folder / "environment.json", {"git": {"revision": "abc123", "dirty": False}, "versions": {"torch": "2.13.0"}})
    write(folder / "base" / "manifest.json", {**MANIFEST, "seconds": 240.0, "peak_memory_bytes": 2**30})
    for seed in (0, 1):
        part = folder / f"seed-{seed}"
        write(
            part / "vft" / "manifest.json",
            {**MANIFEST, "seconds": 8.0 + 2 * seed, "peak_memory_bytes": 2**29 * (1 + seed)},
        )
        write(
            part / "label" / "counts.json", {"questions": 10, "candidates": {"positive": 1234 + seed, "negative": 20}}
        )
        for model in MODELS:
            evaluated = part / "evaluate" / model
            write(evaluated / "metrics.json", metrics(model, seed))
            write(evaluated / "manifest.json", {**MANIFEST, "seconds": 30.0})
            answers = [{"question_id": f"q{i}", "is_correct": bool(x)} for i, x in enumerate(RIGHT[model][seed])]
            write(evaluated / "predictions.jsonl", lines(answers))
            pool = [
                {
                    "question_id": f"p{i}",
                    "index": i,
                    "is_positive": i % 2 == 0,
                    "score": POOL[model][i % 2] * (1 + i / 50),
                }
                for i in range(20)
            ]
            write(evaluated / "pool.jsonl", lines(pool))
        for model in ("loose", "bounded"):
            history = [
                {"step": step, "scores/positive": -0.5, "scores/negative": -0.5 - 0.1 * step * (1 + seed)}
                for step in range(1, 6)
            ]
            history.append({"step": 5, "eval_loss": 1.0})
            write(part / "align" / model / "trainer_state.json", {"log_history": history})
    return folder


def model_of(report, name):
    return next(model for model in report["models"] if model["name"] == name)


def page_of(run):
    return (run / "report.md").read_text(encoding="utf-8")


def part_of(page, title):
    """The text of one part of the appendix."""
    return page.partition(f"<summary>{title}</summary>")[2].partition("</details>")[0]


def edit(path, change):
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    write(path, value)


def test_seeds_are_aggregated_as_mean_and_sample_sd(run):
    report = build_report(run)
    assert report["seeds"] == [0, 1]
    assert [model["name"] for model in report["models"]] == MODELS
    bounded = model_of(report, "bounded")
    # 3/4 and 2/4: mean 0.625, sd √((0.125² + 0.125²) / 1)
    assert bounded["task_accuracy"].mean == 0.625
    assert bounded["task_accuracy"].sd == pytest.approx(math.sqrt(2 * 0.125**2))
    assert bounded["task_accuracy"].low is None
    assert bounded["perplexity"].mean == pytest.approx(1.55)
    assert bounded["task_accuracy"].by_seed[1].beside["unparsed"] == 1
    assert report["missing"] == []


def test_the_manifest_of_every_alignment_and_evaluation_is_named_by_its_digest(run):
    (run / "seed-1" / "evaluate" / "loose" / "manifest.json").unlink()
    write(run / "seed-0" / "align" / "bounded" / "manifest.json", {"inputs": {}, "outputs": {}})
    found = build_report(run)["manifests"]
    there = {f"seed-{seed}/evaluate/{model}/manifest.json" for seed in (0, 1) for model in MODELS}
    assert set(found) == there - {"seed-1/evaluate/loose/manifest.json"} | {"seed-0/align/bounded/manifest.json"}
    digest = hashlib.sha256((run / "seed-0/evaluate/vft/manifest.json").read_bytes()).hexdigest()
    assert found["seed-0/evaluate/vft/manifest.json"] == f"sha256:{digest}"


def test_difference_to_vft_is_paired_over_questions(run):
    bounded = model_of(build_report(run), "bounded")["vs_vft"]
    # per question, mean over the seeds, bounded − vft: 0, (0 + 1)/2, (1 + 0)/2, 0
    half = Z * math.sqrt((4 * 0.25**2) / 3) / 2
    assert (bounded["mean"], bounded["low"], bounded["high"]) == pytest.approx((0.25, 0.25 - half, 0.25 + half))
    assert (bounded["n"], bounded["only_this_right"], bounded["only_vft_right"]) == (4, 2, 0)
    assert bounded["by_seed"]["0"]["mean"] == bounded["by_seed"]["1"]["mean"] == 0.25
    assert bounded["sd_over_seeds"] == 0.0
    loose = model_of(build_report(run), "loose")["vs_vft"]
    assert (loose["mean"], loose["only_vft_right"]) == (-0.125, 1)
    assert model_of(build_report(run), "vft")["vs_vft"] is None


def test_unmatched_questions_and_seeds_are_counted(run):
    answers = [{"question_id": "q0", "is_correct": True}, {"question_id": "new", "is_correct": True}]
    write(run / "seed-0" / "evaluate" / "bounded" / "predictions.jsonl", lines(answers))
    (run / "seed-1" / "evaluate" / "bounded" / "predictions.jsonl").unlink()
    versus = model_of(build_report(run), "bounded")["vs_vft"]
    # q0 is common; 'new' is only bounded's, three questions only VFT's; VFT's seed 1 has no partner
    assert (versus["n"], versus["unmatched"], versus["unpaired_seeds"]) == (1, 4, [1])
    write_report(run, picture=False)
    assert "4, and seed 1 as a whole" in (run / "report.md").read_text(encoding="utf-8")


def test_one_seed_shows_intervals(run):
    config = {"seeds": [0], "methods": {"loose": {}, "bounded": {}}, "evaluate": {"models": None}}
    write(run / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    for path in sorted((run / "seed-1").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    report = build_report(run)
    assert [model["name"] for model in report["models"]] == ["base", *MODELS]
    assert report["missing"] == ["base: not evaluated on any seed"]
    bounded = model_of(report, "bounded")
    assert (bounded["task_accuracy"].sd, bounded["task_accuracy"].low) == (None, 0.625)
    # over 16 right chains with sd 0.1
    assert bounded["pool_positive"].low == pytest.approx(-0.2 * math.exp(Z * 0.1 / 4 / 0.2))
    text = summary_table(report)
    assert "75.0 [62.5, 100.0]" in text
    assert "1.500 [1.250, 1.750]" in text
    assert "±" not in text.split("Seeds:")[0]


def test_a_model_shared_by_all_seeds_keeps_its_interval(run):
    # the same checkpoint gives the same number on both seeds: a deviation of 0 would say nothing
    for seed in (0, 1):
        folder = run / f"seed-{seed}" / "evaluate" / "base"
        write(folder / "metrics.json", {**metrics("vft", 0), "model": "base", "checkpoint": "base"})
    base = model_of(build_report(run), "base")["task_accuracy"]
    assert (base.mean, base.sd, base.low, base.high) == (0.5, None, 0.375, 0.75)
    vft = model_of(build_report(run), "vft")["pool_positive"]
    assert (vft.sd, vft.low) == (0.0, None)


def test_every_cell_of_the_tables_has_its_spread(run):
    write_report(run, picture=False)
    page = (run / "report.md").read_text(encoding="utf-8")
    table = [
        line.strip("| ").split(" | ") for line in part_of(page, "All measures").splitlines() if line.startswith("| ")
    ]
    main = table[: 2 + len(MODELS)]
    assert {len(row) for row in main} == {10}
    assert [row[0] for row in main[2:]] == MODELS
    assert main[4][:2] == ["bounded", "62.50 ± 17.68"] and main[4][4] == "+25.00 [-3.29, +53.29]"
    assert main[2][4] == "–"
    # no optional measure was taken, so it has no column
    assert not any("reference" in heading or "macro" in heading for heading in main[0])
    for row in main[2:]:
        assert all("±" in cell or "[" in cell for cell in row[1:] if cell != "–")


def test_parsed_and_ended_shares_have_columns_where_a_model_leaves_answers_unparsed(run):
    # of four answers one is unparsed on seed 1, in every model
    table = part_of(page_of_written(run), "All measures").splitlines()
    heading = next(line for line in table if line.startswith("| method | task accuracy"))
    assert " | task accuracy (%) | parsed (%) | ended (%) | " in heading
    row = next(line for line in table if line.startswith("| bounded | 62.50"))
    assert row.split(" | ")[2:4] == ["87.50 ± 17.68", "100.00 ± 0.00"]
    assert "parsed %" in summary_table(build_report(run)) and "Parsed: answers in which" in "\n".join(table)
    for path in run.glob("seed-*/evaluate/*/metrics.json"):
        edit(path, lambda value: value["task_accuracy"].update(unparsed=0, truncated=2))
    page = page_of_written(run)
    assert "parsed (%)" not in page and "ended (%)" not in page and "Parsed:" not in page
    assert "parsed %" not in summary_table(build_report(run))


def page_of_written(run):
    write_report(run, picture=False)
    return page_of(run)


def test_page_is_well_formed_markdown(run):
    write_report(run, picture=False)
    page = (run / "report.md").read_text(encoding="utf-8")
    for block in page.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) <= 1, block
    assert [line for line in page.splitlines() if line.startswith("#")] == ["# Report: run", "## Appendix"]
    assert re.findall("<summary>(.*)</summary>", page) == [
        "All measures",
        "Differences from VFT",
        "Every pair of models",
        "What the numbers rest on",
        "Labelled samples",
        "Time and memory",
        "Versions",
    ]
    assert page.count("<details>\n<summary>") == page.count("\n\n</details>") == 7
    # the first screen: a verdict, three columns, at most three warnings
    first = page.partition("## Appendix")[0]
    headings = "| method | task accuracy (%) | vs VFT (percentage points) | assessment accuracy (%), pool |"
    assert next(line for line in first.splitlines() if line.startswith("| method")).startswith(headings)
    assert first.splitlines()[2].startswith("**") and 1 <= first.count("\n- ") <= 3
    assert "4 questions a seed (test split)" in page
    assert "| candidates.positive | 1,234 | 1,235 |" in page
    assert "| vft | 2 | 9.0 ± 1.4 | 18.0 | 1.00 |" in page
    assert "| base | 1 | 240.0 | 240.0 | 1.00 |" in page
    assert "| evaluate/loose | 2 | 30.0 ± 0.0 | 60.0 | – |" in page
    assert "| all | 9 |  | 438.0 |  |" in page
    assert "| git.revision | abc123 |" in page
    assert "| bounded | 1 | 2 / 4 | 1 | 0 | 3, 2 | –, – | – | 2, 0 | 9, –, – | 16, 9 |" in page


def test_json_holds_the_report(run):
    paths = write_report(run, picture=False)
    assert [path.name for path in paths] == ["report.json", "report.md", "report.csv", "report.html"]
    stored = json.loads(paths[0].read_text(encoding="utf-8"))
    stored_picture = stored.pop("picture")
    assert stored_picture == {"file": None, "calibration": None, "note": "No picture was asked for."}
    report = build_report(run)
    assert stored == to_json(report)
    assert read_report(paths[0]) == {**report, "picture": stored_picture}


@pytest.mark.parametrize("name", ["quickstart", "grid", "gsm8k-tiny"])
def test_a_kept_report_gives_its_page_again(name):
    path = RESULTS / f"{name}.json"
    report = read_report(path)
    assert markdown_page(report) == path.with_suffix(".md").read_text(encoding="utf-8")
    assert to_json(report) == json.loads(path.read_text(encoding="utf-8"))


def test_no_report_to_read(tmp_path):
    with pytest.raises(DataError, match=r"report\.json: no such file"):
        read_report(tmp_path / "report.json")


def test_terminal_table_is_narrow_and_aligned(run):
    text = summary_table(build_report(run))
    assert max(map(len, text.splitlines())) <= 100
    block = text.split("\n\n")[0].splitlines()
    assert block[0].startswith("method") and set(block[1]) == {"-", " "}
    assert len({len(line) for line in block[:2]}) == 1
    assert [line.split()[0] for line in block[2:]] == MODELS


def test_order_falls_back_to_methods_then_to_names(run):
    write(run / "config.yaml", yaml.safe_dump({"methods": {"loose": {}, "bounded": {}}}, sort_keys=False))
    assert [model["name"] for model in build_report(run)["models"]] == ["base", *MODELS]
    (run / "config.yaml").unlink()
    report = build_report(run)
    assert [model["name"] for model in report["models"]] == ["bounded", "loose", "vft"]
    assert report["missing"] == ["config.yaml: absent; models stand in alphabetical order"]


def test_a_run_without_vft_says_nothing_of_it(run):
    write(
        run / "config.yaml", yaml.safe_dump({"stages": ["align", "evaluate"], "methods": {"loose": {}, "bounded": {}}})
    )
    assert "vft" in [model["name"] for model in build_report(run)["models"]]  # what was measured is shown
    for seed in (0, 1):
        shutil.rmtree(run / f"seed-{seed}" / "evaluate" / "vft")
    report = build_report(run)
    assert [model["name"] for model in report["models"]] == ["base", "bounded", "loose"]
    assert report["missing"] == ["base: not evaluated on any seed"]
    write_report(run, picture=False)
    page = page_of(run)
    assert "VFT" not in page and "| loose − bounded |" in part_of(page, "Every pair of models")
    assert "vft" not in summary_table(report).lower()


def test_a_run_without_a_pool_does_not_speak_of_one(run):
    for path in run.rglob("metrics.json"):
        edit(path, lambda value: value.update(pool=None))
    for path in [*run.rglob("pool.jsonl"), *run.rglob("pool_questions.jsonl")]:
        path.unlink()
    for path in run.rglob("counts.json"):
        edit(path, lambda value: value.update(pool={"questions": 0, "candidates": {"positive": 0}}))
    report = build_report(run)
    assert report["missing"] == []
    write_report(run, picture=False)
    texts = [page_of(run), summary_table(report), (run / "report.csv").read_text(encoding="utf-8")]
    assert [line for text in texts for line in text.splitlines() if "pool" in line.lower()] == []
    assert "| loose | 0 | 1 / 4 | 0 | 0 | 3, 1 | –, – | – | 9, –, – |" in texts[0]


def test_missing_parts_are_named(run):
    (run / "seed-1" / "evaluate" / "loose" / "metrics.json").unlink()
    for seed in (0, 1):
        edit(run / f"seed-{seed}" / "evaluate" / "vft" / "metrics.json", lambda value: value.update(pool=None))
    edit(run / "seed-1" / "evaluate" / "bounded" / "metrics.json", lambda value: value.update(perplexity=None))
    (run / "environment.json").unlink()
    (run / "seed-1" / "label" / "counts.json").unlink()
    report = build_report(run)
    assert report["missing"] == [
        "loose: not evaluated for seed 1",
        "pool assessment accuracy: not measured for vft",
        "perplexity: not measured for bounded (seed 1)",
        "pool positive: not measured for vft",
        "pool negative: not measured for vft",
        "seed-1/label/counts.json: absent",
        "environment.json: absent; versions are unknown",
    ]
    write_report(run, picture=False)
    page = (run / "report.md").read_text(encoding="utf-8")
    assert "- loose: not evaluated for seed 1" in page
    assert "Seeds: 0, 1 (loose on 0 only)." in page
    assert "missing: loose: not evaluated for seed 1" in summary_table(report)


def test_an_unbounded_perplexity_is_shown_not_hidden(run):
    edit(
        run / "seed-0" / "evaluate" / "loose" / "metrics.json",
        lambda value: value["perplexity"].update(value=math.inf, low=None, high=None),
    )
    report = build_report(run)
    loose = model_of(report, "loose")["perplexity"]
    assert (loose.mean, loose.infinite) == (None, 1)
    assert loose.by_seed[1].mean == 1.6
    assert report["missing"] == []
    assert "infinite" in summary_table(report)
    write_report(run, picture=False)
    json.loads((run / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert "| loose | 0 | 1 / 4 | 0 | 0 | 3, 1 | –, – | – | 2, 0 | 9 (1 infinite), –, – | 16, 9 |" in page_of(run)
    assert "loose,0,perplexity,inf,,,9\n" in (run / "report.csv").read_text(encoding="utf-8")


def test_a_mean_score_that_is_not_finite_is_not_measured(run):
    path = run / "seed-0" / "evaluate" / "loose" / "metrics.json"
    edit(path, lambda value: value["pool"]["negative"].update(mean=-math.inf, sd=None))
    assert build_report(run)["missing"] == ["pool negative: not measured for loose (seed 0)"]
    write_report(run, picture=False)
    json.loads((run / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_no_evaluation_names_the_command(tmp_path):
    (tmp_path / "seed-0" / "vft").mkdir(parents=True)
    with pytest.raises(AftError, match=r"aft-train --config .*config\.yaml --stage evaluate"):
        build_report(tmp_path)
    with pytest.raises(AftError, match="no such run folder"):
        build_report(tmp_path / "elsewhere")


def test_unusable_files_are_named(run):
    path = run / "seed-0" / "evaluate" / "vft" / "metrics.json"
    edit(path, lambda value: value["task_accuracy"].pop("n"))
    with pytest.raises(DataError, match=r"seed-0/evaluate/vft/metrics\.json: task_accuracy: missing 'n'"):
        build_report(run)
    write(path, "{")
    with pytest.raises(DataError, match=r"metrics\.json: cannot be read as JSON"):
        build_report(run)
    write(path, metrics("vft", 0))
    twice = [{"question_id": "q0", "is_correct": True}] * 2
    write(path.with_name("predictions.jsonl"), lines(twice))
    with pytest.raises(DataError, match=r"predictions\.jsonl:2: question 'q0' appears twice"):
        build_report(run)
    write(run / "config.yaml", "a: [")
    with pytest.raises(ConfigError, match=r"config\.yaml:1:5: not valid YAML"):
        build_report(run)


def test_a_configuration_is_read_in_the_dialect_in_which_it_is_written(run):
    """A model named like a date stays text, and a learning rate is a number."""
    config = {"model": {"name_or_path": "2026-11-29"}, "training": {"learning_rate": 1e-5}, "seeds": [0, 1]}
    write(run / "config.yaml", "model: {name_or_path: 2026-11-29}\ntraining: {learning_rate: 1e-5}\nseeds: [0, 1]\n")
    assert read_config(run) == config
    write(run / "config.yaml", yaml_text(config))
    assert read_config(run) == config
    assert build_report(run)["seeds"] == [0, 1]


def test_pool_scores_and_curves_are_read_per_model(run):
    right, wrong = read_scores(run, MODELS, [0, 1])["loose"]
    assert (len(right), len(wrong)) == (20, 20)
    assert right[:2] == [-2.0, pytest.approx(-2.0 * 1.04)]
    curves = read_curves(run, MODELS, [0, 1])
    assert set(curves) == {"loose", "bounded"}
    assert curves["loose"]["negative"][1][5] == pytest.approx(-1.5)
    assert list(curves["loose"]["positive"][0]) == [1, 2, 3, 4, 5]


def test_a_log_without_a_pair_is_a_gap_and_the_last_with_one_counts(run):
    drifts = {1: -0.1, 3: -0.4, 4: -0.3}
    log = [
        {"step": step, "loss": 1.0, **({"scores/positive_drift": drifts[step]} if step in drifts else {})}
        for step in range(1, 7)
    ]
    log.append({"step": 6, "eval_loss": 1.0})
    log.append({"step": 6, "train_loss": 1.0})
    write(run / "seed-0" / "align" / "loose" / "trainer_state.json", {"log_history": log})
    points = read_curves(run, ["loose"], [0])["loose"]["positive_drift"][0]
    assert list(points) == [1, 2, 3, 4, 5, 6]
    assert {step: value for step, value in points.items() if not math.isnan(value)} == drifts
    assert read_displacement(run, ["loose"], [0]) == {"loose": {"0": {"positive_drift": -0.3, "stopped": None}}}


def test_a_curve_has_a_gap_and_a_lone_point_a_dot():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    _draw_curve(axes, {0: {1: -0.5, 2: math.nan, 3: -0.4, 4: -0.3}, 1: {1: -0.7, 2: -0.6, 3: -0.4, 4: -0.3}}, "black")
    mean, lone = axes.lines[-2:]
    assert list(mean.get_xdata()) == [1, 2, 3, 4]
    assert list(mean.get_ydata()) == pytest.approx([-0.6, math.nan, -0.4, -0.3], nan_ok=True)
    assert list(lone.get_xdata()) == [1]


def test_picture_is_drawn(run):
    pytest.importorskip("matplotlib")
    paths = write_report(run)
    assert [path.name for path in paths] == [
        "report.json",
        "report.md",
        "report.csv",
        "report.html",
        "report.png",
        "calibration.png",
    ]
    for path in paths[4:]:
        assert path.read_bytes().startswith(PNG_SIGNATURE)
        assert path.stat().st_size > 20_000
        assert f"]({path.name})" in page_of(run)


def test_picture_without_pool_curves_or_intervals(run):
    pytest.importorskip("matplotlib")
    for path in [*run.rglob("pool.jsonl"), *run.rglob("trainer_state.json")]:
        path.unlink()
    for path in run.rglob("metrics.json"):
        edit(path, lambda value: value.update(pool=None, assessment_accuracy=None, perplexity=None))
    assert [path.name for path in write_report(run)[4:]] == ["report.png"]
    assert (run / "report.png").read_bytes().startswith(PNG_SIGNATURE)
    assert "calibration.png" not in page_of(run)


def test_picture_of_odd_scores(run):
    # one chain, equal chains, an infinite score, no right chain, and one seed that logged other steps
    pytest.importorskip("matplotlib")
    first = run / "seed-0" / "evaluate"
    record = {"question_id": "p", "index": 0, "is_positive": False, "score": -0.5}
    for model, scores in {"vft": [-0.5], "loose": [-0.5] * 9, "bounded": [-math.inf, -0.1]}.items():
        write(first / model / "pool.jsonl", lines({**record, "score": score} for score in scores))
        (run / "seed-1" / "evaluate" / model / "pool.jsonl").unlink()
    state = run / "seed-1" / "align" / "loose" / "trainer_state.json"
    write(state, {"log_history": [{"step": 50, "scores/positive": -1.0}]})
    for path in write_report(run)[4:]:
        assert path.read_bytes().startswith(PNG_SIGNATURE)


def test_without_matplotlib_the_page_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert [path.name for path in write_report(run)][:3] == ["report.json", "report.md", "report.csv"]
    assert not list(run.glob("*.png"))
    line = "No picture: matplotlib is not installed. Install the `plots` extra: pip install 'aft[plots]'"
    assert missing_library() == line
    assert line in (run / "report.md").read_text(encoding="utf-8").splitlines()
    assert f"\n{line}\n" in summary_table(read_report(run / "report.json"))


# ---- votes, categories, further perplexities ----


def measure(value, n=4):
    return {"value": value, "low": value - 0.125, "high": value + 0.125, "n": n}


@pytest.fixture
def rich(run):
    """The same run with everything that an evaluation can measure."""
    for path in run.rglob("metrics.json"):
        model, seed = path.parent.name, int(path.parents[2].name.removeprefix("seed-"))
        step = MODELS.index(model) / 8 + seed / 16
        votes = {
            "vote": {"1": measure(0.25 + step), "4": measure(0.5 + step)},
            "pass": {"1": measure(0.25 + step), "4": measure(0.75)},
        }
        more = {
            "perplexity_wrong": measure(3.0),
            "perplexity_reference": {**measure(2.0), "infinite": 0},
            "self_consistency": {"num_paths": 4, **votes},
            "by_category": {
                "macro": measure(0.4 + step, 2),
                "categories": {"law": measure(0.3, 3), "algebra": measure(0.5, 1)},
            },
            "assessment": {
                "questions": 5,
                "used": 3,
                "skipped": 2,
                "too_few_right": 2,
                "too_few_wrong": 1,
                "samples": 77,
            },
        }
        edit(path, lambda value, more=more: value.update(more))
        votes_by_question = [
            {"question_id": f"q{i}", "vote": {"1": 0.1, "4": share}}
            for i, share in enumerate((0.0, 0.5, 1.0, 1.0 if model == "bounded" else 0.0))
        ]
        write(path.with_name("self_consistency.jsonl"), lines(votes_by_question))
        pool = [{"question_id": "p0", "value": 1.0}, {"question_id": "p1", "value": None}]
        write(path.with_name("pool_questions.jsonl"), lines(pool))
        own = [{"question_id": "t", "index": i, "is_positive": i < 6, "score": -0.1 * i} for i in range(12)]
        own.append({"question_id": "t", "index": 12, "is_positive": False, "score": None})
        write(path.with_name("assessment.jsonl"), lines(own))
        write(path.with_name("references.jsonl"), lines({"question_id": "t", "score": -0.3 - i} for i in range(3)))
    return run


def test_votes_are_aggregated_over_seeds_for_every_number_of_paths(rich):
    vote = model_of(build_report(rich), "loose")["vote"]
    assert list(vote) == ["1", "4"]
    assert vote["4"].mean == pytest.approx(0.5 + 1 / 8 + 1 / 32)
    assert vote["4"].sd == pytest.approx(math.sqrt(2) / 32)
    write_report(rich, picture=False)
    assert "| loose | 40.62 ± 4.42 | 65.62 ± 4.42 |" in page_of(rich)
    text = summary_table(build_report(rich))
    assert max(map(len, text.splitlines())) <= 100
    assert "vote@1 %" in text and "65.6 ± 4.4" in text


def test_categories_with_macro_and_micro(rich):
    write_report(rich, picture=False)
    section = part_of(page_of(rich), "Accuracy by category")
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    assert rows[0] == ["category", "questions", *MODELS]
    assert [row[:2] for row in rows[2:4]] == [["algebra", "1"], ["law", "3"]]
    assert rows[4][0] == "macro: mean of the categories" and rows[4][2] == "43.12 ± 4.42"
    assert rows[5][0] == "micro: all" and rows[5][2] == "37.50 ± 17.68"


def test_perplexities_of_wrong_and_reference_chains_have_columns(rich):
    write_report(rich, picture=False)
    page = page_of(rich)
    assert "perplexity of wrong chains | perplexity of reference chains" in page
    assert "4 wrong ones and the references of 4 training questions" in page
    assert "| bounded | 1 | 2 / 4 | 1 | 0 | 3, 2 | 2, 1 | 77 | 2, 0 | 9, 4, 4 | 16, 9 |" in page
    assert build_report(rich)["missing"] == []


def test_an_optional_measure_that_only_some_models_have_is_missed(rich):
    path = rich / "seed-0" / "evaluate" / "vft" / "metrics.json"
    edit(path, lambda value: value.pop("perplexity_reference"))
    assert build_report(rich)["missing"] == ["perplexity reference: not measured for vft (seed 0)"]


def test_every_pair_is_compared_on_its_own_questions(rich):
    pairs = build_report(rich)["pairs"]
    assert [(pair["a"], pair["b"]) for pair in pairs] == [
        ("loose", "vft"),
        ("bounded", "vft"),
        ("bounded", "loose"),
    ]
    last = pairs[2]
    assert last["task_accuracy"]["mean"] == pytest.approx(3 / 8 + 0.0)
    assert (last["vote"]["mean"], last["vote"]["n"]) == (0.25, 4)
    # p1 has no value under any model, so nothing is unmatched there
    assert (last["pool_assessment_accuracy"]["n"], last["pool_assessment_accuracy"]["unmatched"]) == (1, 0)


def test_csv_has_a_row_for_every_model_seed_and_measure(rich):
    write_report(rich, picture=False)
    with (rich / "report.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["model", "seed", "measure", "value", "low", "high", "n"]
    keys = [(row["model"], row["seed"], row["measure"]) for row in rows]
    assert len(set(keys)) == len(keys)
    # 9 measures, two votes, two passes, two categories, and the difference for all but VFT
    assert len(rows) == 2 * (3 * 15 + 2)
    found = dict(zip(keys, rows, strict=True))
    task = found["bounded", "0", "task_accuracy"]
    assert [float(task[key]) for key in ("value", "low", "high", "n")] == [0.75, 0.625, 1.0, 4]
    assert float(found["vft", "1", "vote@4"]["value"]) == 0.5625
    assert float(found["vft", "0", "accuracy:law"]["n"]) == 3
    assert float(found["loose", "0", "vs_vft"]["value"]) == -0.25
    assert all(row["low"] and row["high"] for row in rows)


def test_calibration_picture_of_own_chains_and_references(rich):
    pytest.importorskip("matplotlib")
    assert [path.name for path in write_report(rich)[4:]] == ["report.png", "calibration.png"]
    for path in rich.rglob("pool.jsonl"):
        path.unlink()
    assert write_report(rich)[-1].read_bytes().startswith(PNG_SIGNATURE)
    right, wrong = read_scores(rich, ["vft"], [0], "assessment.jsonl")["vft"]
    assert (len(right), wrong[-1]) == (6, -math.inf)


def test_shares_by_score():
    # scores rise with the index, and the upper half is right
    assert shares_by_score([5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0], 4) == [(0, 2), (0, 2), (2, 2), (2, 2)]
    # one score for all: a level line
    assert shares_by_score([0.0] * 6, [0.0] * 6, 3) == [(2, 4), (2, 4), (2, 4)]
    assert shares_by_score([1.0], [math.nan, -math.inf], 3) == [(0, 1), (0, 1), (1, 1)]
    assert sum(size for _, size in shares_by_score([0.0] * 7, [1.0] * 16, 10)) == 23


def test_text_from_outside_is_shown_in_every_part(rich, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for path in rich.glob("seed-*/evaluate/*/metrics.json"):
        edit(path, lambda value: value["by_category"]["categories"].update({IN_A_FILE: measure(0.5, 2)}))
    for path in rich.glob("seed-*/label/counts.json"):
        edit(path, lambda value: value.update({IN_A_FILE: IN_A_FILE}))
    edit(rich / "environment.json", lambda value: value.update({IN_A_FILE: [IN_A_FILE]}))
    report = build_report(rich)
    report["missing"].append(PLANTED)
    report["run"] = PLANTED
    for text in (markdown_page(report), csv_report(report)):
        assert is_clean(text) and r"\x1b[31m" in text
    page = markdown_page(report)
    ours = r"</?details>|</?summary>|`.*?`"
    assert "<" not in re.sub(ours, "", page)
    assert re.findall(r"(?<=\]\()[^)]*", page) == [], "no picture was drawn, so the page has no link"
    bars = re.compile(r"(?<!\\)(?:\\\\)*\|")
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(bars.findall(line)) for line in table.splitlines()}) == 1, table
    assert is_clean(shown(summary_table(report)))
