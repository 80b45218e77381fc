"""The tables of sampled paths: sizes, equal tokens, bins of p, and the picture."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from paper_runs import write_run

from aft.evaluation.voting import pass_at_k
from aft.paper.claims import CLAIMS, verdict_on
from aft.paper.page import make_page
from aft.paper.path_tables import bin_of, interpolated, path_tables
from aft.paper.render import as_json, as_markdown
from aft.paper.run_results import read_run
from aft.paper.specs import SPECS
from aft.paper.write import write_table
from aft.report.canvas import missing_library

SIZES = (1, 2, 4, 8)


def write_paths(folder, rights, *, seeds=3, tokens=10, answer_tokens=20):
    """A run with votes and chains of each model. `rights`: model -> for each question its paths, R or w, on all seeds.

    The vote of n paths is half of pass@n.
    """
    answers = {name: [[path[0] == "R" for path in paths]] * seeds for name, paths in rights.items()}
    write_run(folder, answers, {"model": {"name_or_path": "a/b"}, "data": {"name": "arithmetic"}})
    for name, paths in rights.items():
        for seed in range(seeds):
            unit = folder / f"seed-{seed}" / "evaluate" / name
            files = {"path_chains": [], "self_consistency": [], "completions": []}
            for number, path in enumerate(paths):
                question, right = {"question_id": f"q{number}"}, [letter == "R" for letter in path]
                shares = {str(n): pass_at_k(sum(right), len(right), n) for n in SIZES}
                cost = tokens if name == "vft" else 2 * tokens
                chains = {"right": right, "tokens": [cost] * len(path), "distinct_right": sum(right), "entropy": 0.5}
                files["path_chains"].append({**question, **chains})
                votes = {n: share / 2 for n, share in shares.items()}
                files["self_consistency"].append({**question, "vote": votes, "pass": shares})
                files["completions"].append({**question, "num_tokens": answer_tokens})
            metrics = json.loads((unit / "metrics.json").read_text(encoding="utf-8"))
            entropy = {"value": 0.5, "low": 0.4, "high": 0.6, "n": len(paths)}
            (unit / "metrics.json").write_text(json.dumps({**metrics, "self_consistency": {"entropy": entropy}}))
            for file, lines in files.items():
                (unit / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def tables(run, *rows):
    found, curves = path_tables("here", run, rows)
    return [table for _, table in found], curves


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
    # by its first half VFT seems never right on q0 and always right on q1; RFT has the same paths
    paths = ["wwwwRRRR", "RRRRwwww"]
    run = read_run(write_paths(tmp_path / "run", {"vft": paths, "rft": paths}))
    (*_, shares, anys), _ = tables(run, ("VFT", "vft"), ("RFT", "rft"))
    rows = {row[0]: row[1:] for row in shares.rows}
    assert rows["questions of all seeds"] == ("3", "0", "0", "0", "0", "3")
    assert rows["VFT (%)"] == ("100.0", "–", "–", "–", "–", "0.0")
    assert [cell.split(" ")[0] for cell in rows["RFT − VFT"]] == ["+0.0", "–", "–", "–", "–", "+0.0"]
    assert anys.headings == ("p of VFT", "0", "(0, 0.25]", "(0.25, 0.5]", "(0.5, 0.75]", "(0.75, 1)", "1")


def test_models_vote_with_as_many_paths_as_the_cheapest_ones_tokens_buy(tmp_path):
    run = read_run(write_paths(tmp_path / "run", {"vft": ["RRRRwwww"], "rft": ["RRRRwwww"]}))
    (votes, passes, equal, *_), curves = tables(run, ("VFT", "vft"), ("RFT", "rft"))
    assert votes.headings == passes.headings == ("method", "1", "2", "4", "8")
    assert votes.rows[0][1] == "25.0 ± 0.0" and passes.rows[0][4] == "100.0 ± 0.0"
    assert equal.headings == ("method", "greedy", "its tokens", *(f"vote, {n} tokens" for n in (20, 40, 80)))
    vft, rft = equal.rows
    assert vft[1:3] == ("100.0 ± 0.0", "20.0") and vft[3:] == votes.rows[0][2:]
    assert rft[3:] == votes.rows[0][1:4]  # paths of twice the tokens: half as many
    assert [curve.path_tokens for curve in curves.models] == [10, 20]


def test_the_paths_whose_vote_reaches_a_greedy_answer(tmp_path):
    # greedy: right on one question of two; the vote of n is half of pass@n
    rights = {"vft": ["RRRRRRRR", "wRRRRRRR"], "rft": ["RRRRRRRR", "wwwwwwww"], "aft-bc": ["wRRRRRRR", "wwwwwwww"]}
    run = read_run(write_paths(tmp_path / "run", rights))
    (_, _, _, reaching, *_), _ = tables(run, ("VFT", "vft"), ("RFT", "rft"), ("AFT BC", "aft-bc"))
    assert reaching.headings[2:] == ("votes of VFT", "votes of RFT", "votes of AFT BC")
    rows = {row[0]: row[1:] for row in reaching.rows}
    # pass@2 of VFT is 1 on both questions
    assert rows["RFT"] == ("50.0 ± 0.0", "2 (1.0×)", "> 8", "> 8")
    assert rows["AFT BC"] == ("0.0 ± 0.0", "1 (0.5×)", "1 (1.0×)", "1 (1.0×)")


def test_the_page_has_tables_claims_and_picture(tmp_path):
    rights = {"vft": ["Rwwwwwww"] * 4, "rft": ["RRRRwwww"] * 4, "rft-bc": ["RRRRRRRR"] * 4}
    folder = write_paths(tmp_path / "run", rights)
    run = read_run(folder)
    page = make_page(SPECS["wrong-chains"], [run])
    assert dict(zip(page.table.headings, page.table.rows[0], strict=True))["entropy, nats per token"] == "0.500 ± 0.000"
    assert len(page.further) == 6 and all(title.startswith("run, arithmetic: ") for title, _ in page.further)
    text, raw = as_markdown(page), as_json(page)
    assert all(f"### {title}" in text for title in raw["further"])
    statuses = {verdict.claim: verdict.status for verdict in page.verdicts}
    assert statuses["RFT narrows: it has fewer distinct right chains than VFT"] == "not held"
    worth = "Wrong chains keep right ones diverse: RFT + AFT BC is above RFT"
    assert statuses[worth] == "held" and statuses[f"{worth} with as many tokens"] == "not tested"
    if missing_library() is None:
        _, written = write_table("wrong-chains", [folder], tmp_path, "png")
        assert written[-1].suffix == ".png" and written[-1].stat().st_size > 10_000


def test_shares_by_number_of_paths_pair_by_question(tmp_path):
    rights = {"rft": ["RRRRwwww", "wwwwwwww"], "rft-bc": ["Rwwwwwww", "Rwwwwwww"]}
    run = read_run(write_paths(tmp_path / "run", rights))
    assert run.values("pass@8", "rft") == {seed: {"q0": 1.0, "q1": 0.0} for seed in range(3)}
    assert run.values("pass@64", "rft") == {seed: {} for seed in range(3)}
    found = verdict_on("pass-rft-bc-rft", run, "here")
    assert found.status == "not tested" and "pass@64: not measured by question" in found.evidence[0]


def test_a_run_without_chains_has_no_such_table(tmp_path):
    run = read_run(write_run(tmp_path / "run", {"vft": [[1, 0]] * 3}))
    found, curves = path_tables("here", run, [("VFT", "vft"), ("RFT", None)])
    assert found == [] and curves.models == ()
    assert not make_page(dataclasses.replace(SPECS["wrong-chains"], claims=()), [run]).further


def test_every_claim_of_the_table_is_known():
    assert set(SPECS["wrong-chains"].claims) <= CLAIMS.keys()
