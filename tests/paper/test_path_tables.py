"""The tables of sampled paths: sizes, equal tokens, bins of p, and the picture."""

from __future__ import annotations

import dataclasses
import json
import math
from statistics import fmean

import pytest
from paper_runs import write_run

from aft.evaluation.accuracy import self_consistency, vote_lines
from aft.evaluation.path_chains import chain_lines, chain_metrics
from aft.json_files import write_json, write_json_lines
from aft.paper.claims import CLAIMS, verdict_on
from aft.paper.page import make_page
from aft.paper.path_tables import bin_of, by_part, interpolated, path_tables
from aft.paper.render import as_json, as_markdown
from aft.paper.run_results import distinguish, read_run
from aft.paper.specs import SPECS
from aft.paper.write import write_table
from aft.records import Completion, Question
from aft.report.canvas import missing_library
from aft.stats.estimate import to_json
from aft.tasks import make_task

SIZES = (1, 2, 4, 8)
TASK = make_task("arithmetic")


def write_paths(
    folder, letters, *, seeds=3, tokens=10, answer_tokens=20, ids=None, more=(), task="arithmetic", sizes=None
):
    """A run with votes and chains of each model, on all seeds.

    `letters`: model -> for each question its paths. A letter is a text: upper case is right, lower case a wrong answer.
    The greedy answer is the first path. Questions beyond these have an answer alone, right or wrong as `more` says.
    """
    answers = {name: [[*(path[0].isupper() for path in paths), *more]] * seeds for name, paths in letters.items()}
    write_run(folder, answers, {"model": {"name_or_path": "a/b"}, "data": {"name": task}})
    for name, paths in letters.items():
        for seed in range(seeds):
            unit = folder / f"seed-{seed}" / "evaluate" / name
            own = sizes or [n for n in SIZES if n <= len(paths[0])]
            write_unit(unit, paths, tokens if name == "vft" else 2 * tokens, ids, own)
            names = ids or [f"q{number}" for number in range(len(paths) + len(more))]
            write_json_lines(
                unit / "completions.jsonl", [{"question_id": q, "num_tokens": answer_tokens} for q in names]
            )
            answered = zip(names, answers[name][seed], strict=True)
            lines = [{"question_id": question, "is_correct": bool(right)} for question, right in answered]
            write_json_lines(unit / "predictions.jsonl", lines)
    return folder


def write_unit(unit, paths, tokens, ids=None, sizes=SIZES):
    """What an evaluation writes of the paths of its questions."""
    questions = [Question(ids[i] if ids else f"q{i}", "", "1", None) for i in range(len(paths))]
    chains, graded = [], []
    for question, own in zip(questions, paths, strict=True):
        for index, letter in enumerate(own):
            answer = "1" if letter.isupper() else str(ord(letter))
            chains.append(Completion(question.id, index, letter, False, tokens, 0))
            line = {"question_id": question.id, "answer": answer, "is_correct": letter.isupper(), "truncated": False}
            graded.append(line)
    votes = vote_lines(graded, questions, TASK, sizes)
    lines = chain_lines(graded, chains, {(chain.question_id, chain.index): -0.5 for chain in chains})
    section = {**self_consistency(votes), **chain_metrics(lines)}
    metrics = json.loads((unit / "metrics.json").read_text(encoding="utf-8"))
    write_json(unit / "metrics.json", to_json({**metrics, "self_consistency": section}))
    write_json_lines(unit / "self_consistency.jsonl", votes)
    write_json_lines(unit / "path_chains.jsonl", lines)


def tables(run, *rows):
    found, curves, _ = path_tables("here", run, rows)
    return [table for _, table in found], curves


def notes_of(run, *rows):
    return path_tables("here", run, rows)[-1]


def first_row(page):
    return dict(zip(page.table.headings, page.table.rows[0], strict=True))


def test_a_vote_between_two_sizes_is_linear_in_their_logarithm():
    by_size = {1: 0.2, 2: 0.4, 8: 0.8}
    assert interpolated(by_size, 2) == 0.4 and interpolated(by_size, 4) == pytest.approx(0.6)
    assert interpolated(by_size, 8 * (1 + 1e-12)) == 0.8
    assert interpolated(by_size, math.sqrt(2)) == pytest.approx(0.3)
    assert interpolated(by_size, 0.9) is None and interpolated(by_size, 9) is None


@pytest.mark.parametrize(
    ("paths", "number"), [("wwww", 0), ("Rwww", 1), ("RRww", 2), ("RRRw", 3), ("RRRRRRRw", 4), ("RRRR", 5)]
)
def test_bins_of_p(paths, number):
    assert bin_of([letter == "R" for letter in paths]) == number


def test_the_half_that_chooses_a_questions_bin_is_not_the_half_that_is_measured(tmp_path):
    # by its first half VFT seems never right on ten questions and always right on ten others; RFT has the same paths
    paths = ["wwwwRRRR"] * 10 + ["RRRRwwww"] * 10 + ["RRwwRRww"] * 9
    run = read_run(write_paths(tmp_path / "run", {"vft": paths, "rft": paths}))
    (*_, shares, anys), _ = tables(run, ("VFT", "vft"), ("RFT", "rft"))
    rows = {row[0]: row[1:] for row in shares.rows}
    assert rows["questions"] == ("10", "0", "9", "0", "0", "10")
    assert rows["the same, counted on each seed"] == ("30", "0", "27", "0", "0", "30")
    assert rows["VFT (%)"] == ("100.0", "–", "–", "–", "–", "0.0")  # nine questions are too few for a figure
    assert [cell.split(" ")[0] for cell in rows["RFT − VFT"]] == ["+0.0", "–", "–", "–", "–", "+0.0"]
    assert anys.headings == ("p of VFT", "0", "(0, 0.25]", "(0.25, 0.5]", "(0.5, 0.75]", "(0.75, 1)", "1")


def test_models_vote_with_as_many_paths_as_the_cheapest_ones_tokens_buy(tmp_path):
    run = read_run(write_paths(tmp_path / "run", {"vft": ["RRRRRwww"], "rft": ["RRRRRwww"]}))
    (votes, passes, equal, *_), curves = tables(run, ("VFT", "vft"), ("RFT", "rft"))
    assert votes.headings == passes.headings == ("method", "1", "2", "4", "8")
    assert votes.rows[0][1:3] == ("62.5 ± 0.0", "62.5 ± 0.0") and votes.rows[0][4] == "100.0 ± 0.0"
    assert passes.rows[0][1:3] == ("62.5 ± 0.0", "89.3 ± 0.0")  # 1 − C(3, 2) / C(8, 2)
    assert equal.headings == ("method", "greedy", "its tokens", *(f"vote, {n} tokens" for n in (20, 40, 80)))
    vft, rft = equal.rows
    assert vft[1:3] == ("100.0 ± 0.0", "20.0") and vft[3:] == votes.rows[0][2:]
    assert rft[3:] == votes.rows[0][1:4]  # paths of twice the tokens: half as many
    assert [curve.path_tokens for curve in curves.models] == [10, 20]


def test_the_paths_whose_vote_reaches_a_greedy_answer(tmp_path):
    # aft-bcl is another name of aft-bc
    letters = {"vft": ["RRRRRwww", "wRwwwwww"], "rft": ["RRRRRRRR", "wwwwwwww"], "aft-bcl": ["wRRRRRRR", "wwwwwwww"]}
    run = read_run(write_paths(tmp_path / "run", letters))
    (_, _, _, reaching, *_), _ = tables(run, ("VFT", "vft"), ("RFT", "rft"), ("AFT BC", "aft-bcl"))
    assert reaching.headings[2:] == ("votes of VFT", "votes of RFT", "votes of AFT BC")
    rows = {row[0]: row[1:] for row in reaching.rows}
    assert rows["RFT"] == ("50.0 ± 0.0", "8 (4.0×)", "1 (1.0×)", "4 (4.0×)")
    assert rows["AFT BC"] == ("0.0 ± 0.0", "1 (0.5×)", "1 (1.0×)", "1 (1.0×)")


def test_the_page_has_tables_claims_and_picture(tmp_path):
    letters = {
        "vft": ["RSwwwwww", "RSTwwwww", "Rwwwwwww", "wwRSTwww"],
        "rft": ["RRRRwwww", "RRRRwwww", "RRSSwwww", "RRSSwwww"],
        "rft-bc": ["RSTUVWXY"] * 4,
        "rft-balanced": ["RSTUVWXx"] * 4,
    }
    folder = write_paths(tmp_path / "run", letters)
    page = make_page(SPECS["wrong-chains"], [read_run(folder)])
    metrics = json.loads((folder / "seed-0" / "evaluate" / "vft" / "metrics.json").read_text(encoding="utf-8"))
    section, row = metrics["self_consistency"], first_row(page)
    shares = {
        "pass@1 (%)": section["pass"]["1"],
        "pass@4 (%)": section["pass"]["4"],
        "pairs of right paths that differ (%)": section["right_pairs_differ"],
    }
    assert {name: row[name] for name in shares} == {
        name: f"{100 * found['value']:.1f} ± 0.0" for name, found in shares.items()
    }
    assert section["vote"]["4"]["value"] < section["pass"]["4"]["value"]
    assert row["entropy, nats per token"] == "0.500 ± 0.000" and row["vote of 64 (%)"] == "–"
    assert (
        row["distinct right chains of a question"] == "2.25 ± 0.00" and row["sampled tokens of a path"] == "10.0 ± 0.0"
    )
    assert len(page.further) == 6 and all(title.startswith("run, arithmetic: ") for title, _ in page.further)
    text, raw = as_markdown(page), as_json(page)
    assert all(f"### {table['title']}" in text and table["headings"] for table in raw["further"])
    assert f"{len(page.verdicts)} verdicts, and nothing corrects for their number" in text
    verdicts = {verdict.claim: verdict for verdict in page.verdicts}
    narrows = verdicts["RFT narrows: fewer pairs of right paths differ than with VFT"]
    # on one question VFT has a single right path
    assert narrows.status == "held" and narrows.evidence[0].endswith(
        "on the 3 questions where both have two right paths"
    )
    assert verdicts["RFT + AFT BC is above RFT in pairs of right paths that differ"].status == "held"
    worth = "Wrong chains keep right ones diverse: RFT + AFT BC is above RFT with as many tokens"
    assert verdicts[worth].status == "not tested"
    if missing_library() is None:
        _, written = write_table("wrong-chains", [folder], tmp_path, "png")
        assert written[-1].suffix == ".png" and written[-1].stat().st_size > 10_000


def test_more_right_paths_alone_are_no_diversity(tmp_path):
    letters = {"rft": ["RRSSwwww"] * 4, "rft-bc": ["RRRSSSTw"] * 2 + ["RRRRSSSS"] * 2}
    letters["rft-balanced"] = ["RRRSSSTT"] * 4
    run = read_run(write_paths(tmp_path / "run", letters))
    # of the pairs of four paths four in six differ, of those of eight as many or fewer, though more texts are right
    values = {name: fmean(run.values("right_pairs_differ", name)[0].values()) for name in letters}
    assert values["rft"] == pytest.approx(2 / 3) and values["rft-bc"] < values["rft"] < values["rft-balanced"]
    assert verdict_on("differ-rft-bc-rft", run, "here").status == "not held"
    distinct = {name: fmean(run.values("paths_distinct_right", name)[0].values()) for name in letters}
    assert distinct["rft"] < distinct["rft-bc"]


def test_a_share_at_its_ceiling_tells_nothing(tmp_path):
    run = read_run(write_paths(tmp_path / "run", {"rft": ["RRRRRRww"] * 4, "rft-bc": ["RRRRRRRR"] * 4}))
    found = verdict_on("pass-rft-bc-rft", run, "here")
    assert found.status == "not tested" and found.evidence[0].endswith("; both above 97%")


def test_shares_by_number_of_paths_pair_by_question(tmp_path):
    letters = {"rft": ["RRRRwwww", "wwwwwwww"], "rft-bc": ["Rwwwwwww", "Rwwwwwww"]}
    run = read_run(write_paths(tmp_path / "run", letters))
    assert run.values("pass@8", "rft") == {seed: {"q0": 1.0, "q1": 0.0} for seed in range(3)}
    assert run.values("pass@64", "rft") == {seed: {} for seed in range(3)}
    found = verdict_on("vote-rft-bc-rft", run, "here")
    assert found.status == "not tested" and "vote of 64: not measured by question" in found.evidence[0]


def test_greedy_accuracy_in_the_table_is_of_the_questions_with_paths(tmp_path):
    folder = write_paths(tmp_path / "run", {"vft": ["Rw", "wR"], "rft": ["Rw", "wR"]}, more=(1, 1))
    # sizes of four paths were not measured with two
    page = make_page(SPECS["wrong-chains"], [read_run(folder)])
    assert first_row(page)["TAcc (%)"] == "50.0 ± 0.0"
    assert any(note == "run, arithmetic: paths were sampled for 2 questions." for note in page.notes)


def test_each_part_of_a_mixture_stands_for_itself(tmp_path):
    ids = ["sums/0", "long/0", "long/1", "sums/1", "long/2"]
    paths = ["RRRw" if name.startswith("long") else "RRww" for name in ids]
    folder = write_paths(tmp_path / "run", {"vft": paths}, ids=ids, task="mixture")
    parts = by_part(read_run(folder), SPECS["wrong-chains"].measures)
    assert [(run.task, len(run.values("pass@1", "vft")[0])) for run in parts] == [("long", 3), ("sums", 2)]
    assert [run.measure("vft", "pass@1").mean for run in parts] == [0.75, 0.5]
    page = make_page(SPECS["wrong-chains"], [read_run(folder)])
    assert [title.partition(":")[0] for title, _ in page.further][::6] == ["run, long", "run, sums"]
    assert page.table.rows[0][0] == "run, long"


def test_rows_are_of_the_same_seeds(tmp_path):
    folder = write_paths(tmp_path / "run", {"vft": ["RRRRwwww"], "rft": ["RRRRwwww"]})
    (folder / "seed-2" / "evaluate" / "rft" / "path_chains.jsonl").unlink()
    write_unit(folder / "seed-2" / "evaluate" / "vft", ["wwwwwwww"], 10)
    rows = ("VFT", "vft"), ("RFT", "rft")
    (votes, *_), _ = tables(read_run(folder), *rows)
    assert votes.rows[0][1:] == votes.rows[1][1:]
    assert notes_of(read_run(folder), *rows)[-1] == (
        "here: the tables of paths are of seeds 0, 1, as its models were not evaluated on the same seeds"
    )
    for seed in (0, 1):
        (folder / f"seed-{seed}" / "evaluate" / "vft" / "path_chains.jsonl").unlink()
    found, curves = tables(read_run(folder), *rows)
    assert found == [] and curves.models == ()
    assert "the tables of paths are left out" in notes_of(read_run(folder), *rows)[-1]


def test_one_path_other_numbers_on_a_seed_and_an_empty_file(tmp_path):
    rows = ("VFT", "vft"), ("RFT", "rft")
    letters = {"vft": ["RRRRwwww"], "rft": ["RRRRwwww"]}
    one = read_run(write_paths(tmp_path / "one", {name: ["R"] for name in letters}, sizes=(1,)))
    assert len(tables(one, *rows)[0]) == 4  # no bins: half of one path is none
    folder = write_paths(tmp_path / "run", letters)
    write_unit(folder / "seed-1" / "evaluate" / "rft", ["RRRRwwww"], 20, sizes=(1, 8))
    assert tables(read_run(folder), *rows)[0][0].headings == ("method", "1", "8")
    (folder / "seed-0" / "evaluate" / "rft" / "path_chains.jsonl").write_text("", encoding="utf-8")
    assert "are of seeds 1, 2" in notes_of(read_run(folder), *rows)[-1]
    assert make_page(SPECS["wrong-chains"], [read_run(folder)]).further


def test_folders_of_one_name_have_more_of_their_path(tmp_path):
    folders = [write_paths(tmp_path / part / "run", {"vft": ["RRRRwwww"]}) for part in ("a", "b")]
    runs = [read_run(folder) for folder in folders]
    assert [run.model for run in distinguish(runs, by_folder=True)] == ["a/run", "b/run"]
    page = make_page(SPECS["wrong-chains"], runs)
    assert len(as_json(page)["further"]) == len({title for title, _ in page.further}) == 12


def test_a_run_without_chains_has_no_such_table(tmp_path):
    run = read_run(write_run(tmp_path / "run", {"vft": [[1, 0]] * 3}))
    found, curves, notes = path_tables("here", run, [("VFT", "vft"), ("RFT", None)])
    assert found == [] and curves.models == () and notes == []
    assert not make_page(dataclasses.replace(SPECS["wrong-chains"], claims=()), [run]).further


def test_every_claim_of_the_table_is_known():
    assert set(SPECS["wrong-chains"].claims) <= CLAIMS.keys()
