"""Ratings from a file, a judge or a function: groups with graded ratings, exact messages, and what runs again when."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from judge_server import HANG, Answer, judge_server, scores

from aft.config import load_config
from aft.errors import AftError, ConfigError, DataError
from aft.json_files import write_json_lines
from aft.labelling.ratings import read_ratings
from aft.records import read_completions, read_groups
from aft.run.manifest import MANIFEST, UnitLog, read_manifest
from aft.stages.label import run_label
from aft.stages.plan import DONE, RERUN, Plan
from limits import HUNG_AFTER

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-of-a-test-0123456789abcdef"
CONFIG = {
    "stages": ["sample", "label"],
    "data": {
        "name": "arithmetic",
        "num_train": 2,
        "num_answer_only": 1,
        "num_validation": 2,
        "num_test": 2,
        "options": {"min_statements": 1, "max_statements": 1},
    },
    "model": {"name_or_path": "some/model"},
    "sample": {"pool_questions": 1},
    "label": {"include_reference": True},
}
WRONG, COPY, LOST, RIGHT = 0, 1, 2, 3  # what the completions of every question are, by index


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """No judge but the test's own, and relative paths in its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("AFT_JUDGE_MODEL", "a-judge")


@pytest.fixture
def serve(monkeypatch):
    """`serve(behaviour)` starts a judge for the rest of the test and lets the environment name it."""
    with contextlib.ExitStack() as stack:

        def start(behave):
            server = stack.enter_context(judge_server(behave))
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            return server

        yield start


@pytest.fixture
def make(tmp_path):
    """`make("key=value", ...)` plans a run with these changes, whose completions are there."""

    def plan(*overrides):
        (tmp_path / "run.yaml").write_text(yaml.safe_dump({"output_dir": "run", **CONFIG}))
        made = Plan(load_config(tmp_path / "run.yaml", overrides))
        for seed in made.config.seeds:
            write_json_lines(made.completions(seed), completions(made, seed))
        return made

    return plan


def completions(plan, seed):
    """A wrong completion, its copy, one without an answer, and a right one, of every question."""
    for question in plan.training_questions(seed) + plan.pool_questions(seed):
        right = f"by another way [ANS] {question.answer}"
        for index, text in enumerate(("so [ANS] -1", "so [ANS] -1", "who knows", right)):
            row = {"question_id": question.id, "index": index, "completion": text}
            yield {**row, "truncated": False, "num_tokens": 3, "seed": seed}


def label(plan):
    """Groups and counts of one label unit, run here."""
    (unit,) = plan.units("label")
    plan.check_reads("label")
    run_label(plan, unit, lambda: UnitLog(unit.folder, plan.inputs(unit)))
    assert plan.status(unit).state == DONE
    return read_groups(plan.groups(unit.seed)), json.loads((unit.folder / "counts.json").read_text())


def reasons(plan):
    """Why the label unit would run again."""
    status = plan.status(plan.units("label")[0])
    assert status.state == RERUN
    return list(status.reasons)


def rows(plan, rate, *, seed=0):
    """Lines of a rating file for every candidate of the plan's groups: `rate(question's place, index)`."""
    for place, question in enumerate(plan.training_questions(seed)):
        indices = [WRONG, LOST, RIGHT] if question.rationale is None else [None, WRONG, LOST, RIGHT]
        for index in indices:
            yield {"question_id": question.id, "index": index, "rating": rate(place, index)}


def by_index(place, index):
    return 10 - place if index is None else 1 + index / 4


def ratings(group):
    return {candidate.index: candidate.rating for candidate in group.candidates}


FILE = "label.ratings={name: file, path: ratings.jsonl}"
DROP = "label.ratings={name: file, path: ratings.jsonl, missing: drop}"


# ---- binary ----


def test_without_a_source_ratings_are_binary(make):
    groups, counts = label(make())
    assert [ratings(group) for group in groups] == [
        {None: 1.0, WRONG: 0.0, LOST: 0.0, RIGHT: 1.0},
        {None: 1.0, WRONG: 0.0, LOST: 0.0, RIGHT: 1.0},
        {WRONG: 0.0, LOST: 0.0, RIGHT: 1.0},
    ]
    assert counts["rated_by"] == "binary" and "ratings" not in counts


# ---- a file ----


def test_ratings_of_a_file_replace_the_binary_ones_and_no_label(make, capsys):
    plan = make(FILE)
    binary, _ = label(make())
    pool = plan.pool(0).read_bytes()
    lines = list(rows(plan, by_index))
    # the copy, which deduplication drops, and the pool may be rated too: `completions.jsonl` with ratings added will do
    first, held_out = plan.training_questions(0)[0], plan.pool_questions(0)[0]
    lines += [{"question_id": first.id, "index": COPY, "rating": 4, "completion": "so [ANS] -1", "judge": "me"}]
    lines += [{"question_id": held_out.id, "index": 0, "rating": 3}]
    write_json_lines("ratings.jsonl", lines)
    groups, counts = label(plan)
    assert [ratings(group) for group in groups] == [
        {None: 10.0, WRONG: 1.0, LOST: 1.5, RIGHT: 1.75},
        {None: 9.0, WRONG: 1.0, LOST: 1.5, RIGHT: 1.75},
        {WRONG: 1.0, LOST: 1.5, RIGHT: 1.75},
    ]
    assert [[c.label for c in group.candidates] for group in groups] == [
        [c.label for c in group.candidates] for group in binary
    ]
    assert plan.pool(0).read_bytes() == pool, "right against wrong, whatever rates"
    assert (counts["rated_by"], counts["unrated"], counts["groups_with_pair"]) == ("file", 0, 3)
    assert counts["ratings"] == {
        "lines": 13,
        "unused": 2,
        "lowest": 1.0,
        "highest": 10.0,
        "mean": {"negative": 1.0, "positive": 1.75, "reference": 9.5, "unparsed": 1.5},
    }
    shown = capsys.readouterr().err
    assert "| unparsed, rated like the others         |     3 |  25.0 % |" in shown
    assert "| unrated, dropped (among the candidates) |     0 |   0.0 % |" in shown
    assert "| mean: reference |   9.5 |" in shown


def test_a_missing_rating_is_an_error_or_leaves_the_candidate_out(make):
    plan = make(FILE)
    kept = [row for row in rows(plan, by_index) if row["index"] not in (LOST, None)]
    write_json_lines("ratings.jsonl", kept)
    first = plan.training_questions(0)[0].id
    with pytest.raises(DataError) as caught:
        label(plan)
    assert str(caught.value) == (
        f"ratings.jsonl: no rating for the reference of question '{first}' and 4 more;"
        " label.ratings.missing=drop leaves such candidates out of their groups"
    )
    groups, counts = label(make(DROP))
    assert [ratings(group) for group in groups] == [{WRONG: 1.0, RIGHT: 1.75}] * 3
    assert (counts["unrated"], counts["groups_with_pair"], counts["groups_without_positive"]) == (5, 3, 0)


def test_pairs_are_by_rating_and_what_is_missing_by_label(make):
    plan = make(DROP)
    first, second, third = (question.id for question in plan.training_questions(0))
    lines = [(first, WRONG, 5), (first, LOST, 6), (second, WRONG, 7), (second, RIGHT, 7), (third, RIGHT, 2)]
    write_json_lines("ratings.jsonl", [{"question_id": q, "index": i, "rating": r} for q, i, r in lines])
    groups, counts = label(plan)
    assert [list(ratings(group).values()) for group in groups] == [[5.0, 6.0], [7.0, 7.0], [2.0]]
    assert counts["groups_with_pair"] == 1, "two wrong ones can be a pair, two of the same rating cannot"
    assert (counts["groups_without_positive"], counts["groups_without_negative"]) == (1, 1)
    kept = sum(len(group.candidates) for group in groups)
    unparsed = sum(counts["unparsed"].values())
    labelled = counts["positives"] + counts["negatives"] + counts["references"] + unparsed
    assert kept == labelled - counts["unrated"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question_id": "train-0-0x"}, "unknown question 'train-0-0x'; 4 are known. Did you mean 'train-0-0'?"),
        ({"index": 9}, "question 'train-0-0' has no completion 9; its completions: 0, 1, 2, 3"),
        (
            {"question_id": "answer_only-0-0", "index": None},
            "index null is the reference, but question 'answer_only-0-",
        ),
        ({"rating": math.nan}, "'rating' must be finite, got nan"),
        ({"rating": 10**400}, "'rating' must be finite, got 1000"),
        ({"rating": "7"}, "'rating' must be int or float, got str"),
        ({"rating": True}, "'rating' must be int or float, got bool"),
        ({"index": 0}, "completion 0 of question 'train-0-0' is rated again, first in line 1"),
        ({"index": None}, "the reference of question 'train-0-0' is rated again, first in line 2"),
        (
            {"completion": "so"},
            "'completion' is not the text of completion 3 of question 'train-0-0': another sample was",
        ),
        ({"completion": None}, "'completion' must be str, got NoneType"),
    ],
)
def test_a_line_that_cannot_be_meant(make, line, message):
    question = "train-0-0"
    good = [{"question_id": question, "index": index, "rating": 1} for index in (0, None)]
    text = "".join(
        json.dumps(row) + "\n" for row in [*good, {"question_id": question, "index": 3, "rating": 2, **line}]
    )
    Path("ratings.jsonl").write_text(text)
    with pytest.raises(DataError) as caught:
        label(make(DROP))
    assert str(caught.value).startswith(f"ratings.jsonl:3: {message}")


def test_the_documented_line_is_read():
    document = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = document.partition("### A file of ratings\n")[2]
    line = section.partition("```json\n")[2].partition("```")[0]
    Path("ratings.jsonl").write_text(line)
    for name in ("Completion", "Group"):
        Path(f"{name}.jsonl").write_text(
            document.partition(f"### {name}\n")[2].partition("```json\n")[2].partition("```")[0]
        )
    found = read_ratings(Path("ratings.jsonl"), read_groups("Group.jsonl"), read_completions("Completion.jsonl"))
    assert found == {("gsm8k-train-000000", 0): 9.5}


@pytest.mark.parametrize("key", ["question_id", "index", "rating"])
def test_a_line_that_lacks_a_key(make, key):
    row = {"question_id": "train-0-0", "index": 0, "rating": 1}
    del row[key]
    Path("ratings.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=rf"^ratings\.jsonl:1: missing '{key}'"):
        label(make(DROP))


def test_changed_ratings_label_again_and_a_moved_file_does_not(make):
    plan = make(FILE)
    write_json_lines("ratings.jsonl", rows(plan, by_index))
    label(plan)
    shutil.move("ratings.jsonl", "moved.jsonl")
    moved = make("label.ratings={name: file, path: moved.jsonl}")
    assert moved.status(moved.units("label")[0]).state == DONE
    write_json_lines("moved.jsonl", rows(plan, lambda place, index: 5))
    (reason,) = reasons(moved)
    assert reason.startswith("reads.ratings: was ")
    with pytest.raises(ConfigError) as caught:
        plan.check_reads("label")
    assert str(caught.value) == f"label.ratings.path: no file ratings.jsonl (looked in {Path.cwd()})"
    assert plan.status(plan.units("label")[0]).reasons == ("waits for ratings.jsonl",)


def test_every_seed_has_a_file_of_its_own(make):
    with pytest.raises(ConfigError, match=r"label\.ratings\.path: each of the 2 seeds has completions of its own"):
        make(FILE, "seeds=[3,4]")
    path = "label.ratings={name: file, path: 'ratings-{seed}.jsonl'}"
    plan = make(path, "seeds=[3,4]")
    for seed in (3, 4):
        write_json_lines(f"ratings-{seed}.jsonl", rows(plan, lambda place, index, seed=seed: seed, seed=seed))
    for unit in plan.units("label"):
        run_label(plan, unit, lambda: None)
        found = {rating for group in read_groups(plan.groups(unit.seed)) for rating in ratings(group).values()}
        assert found == {float(unit.seed)}


# ---- a function ----

FUNCTION = """\
def rate(*, question, reference, completion, answer, label, bonus=0):
    assert question.endswith("how many ?") and (reference is None or reference.endswith(f"[ANS] {answer}"))
    return bonus + {"positive": 9, "reference": 10.5, "negative": 2, "unparsed": len(completion)}[label]
"""


def function(text=FUNCTION, name="my_ratings.py"):
    Path(name).write_text(text)


def test_a_function_rates(make):
    function()
    groups, counts = label(make("label.ratings={name: function, function: 'my_ratings.py:rate'}"))
    assert [ratings(group) for group in groups] == [
        {None: 10.5, WRONG: 2.0, LOST: 9.0, RIGHT: 9.0},
        {None: 10.5, WRONG: 2.0, LOST: 9.0, RIGHT: 9.0},
        {WRONG: 2.0, LOST: 9.0, RIGHT: 9.0},
    ]
    assert counts["rated_by"] == "function" and counts["ratings"]["mean"]["unparsed"] == 9.0
    plan = make("label.ratings={name: function, function: 'my_ratings.py:rate', arguments: {bonus: 0.5}}")
    assert reasons(plan) == ["config.label.ratings.arguments.bonus: new, is 0.5"]
    groups, _ = label(plan)
    assert ratings(groups[2]) == {WRONG: 2.5, LOST: 9.5, RIGHT: 9.5}


def test_a_changed_function_labels_again(make):
    function()
    plan = make("label.ratings={name: function, function: 'my_ratings.py:rate'}")
    label(plan)
    function(FUNCTION + "# another\n")
    (reason,) = reasons(plan)
    assert reason.startswith("reads.rating_function: was ")


def test_a_function_of_an_installed_module(make, monkeypatch, tmp_path):
    package = tmp_path / "path" / "ratings_of_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(FUNCTION)
    monkeypatch.syspath_prepend(package.parent)
    plan = make("label.ratings={name: function, function: 'ratings_of_a_test.inner:rate'}")
    label(plan)
    (package / "inner.py").write_text(FUNCTION + "#\n")
    assert len(reasons(plan)) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (my_ratings.py:2)"),
        ("__import__('sys').exit(0)", "SystemExit: 0 (my_ratings.py:2)"),
        ("'7'", "expected a number, got '7' (str)"),
        ("None", "expected a number, got None (NoneType)"),
        ("float('nan')", "must be finite, got nan"),
        ("10**400", "must be finite, got 1000"),
    ],
)
def test_a_function_that_fails_names_the_candidate(make, body, message):
    function(f"def rate(label, **rest):\n    return {body} if label == 'negative' else 1\n")
    with pytest.raises(AftError) as caught:
        label(make("label.ratings={name: function, function: 'my_ratings.py:rate'}"))
    told = "label.ratings.function: my_ratings.py:rate for completion 0 of question 'train-0-0': "
    assert str(caught.value).startswith(told + message)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("function: rate", "label.ratings.function: expected my_ratings.py:rate or package.module:rate, got 'rate'"),
        ("function: 'no.py:rate'", "label.ratings.function: no file no.py (looked in "),
        ("function: 'no_such_module_here:rate'", "label.ratings.function: no module 'no_such_module_here' can be imp"),
        (
            "function: 'my_ratings.py:rat'",
            "label.ratings.function: my_ratings.py has no function 'rat'. Did you mean 'r",
        ),
        (
            "function: 'my_ratings.py:rate', arguments: {bonsu: 1}",
            "label.ratings.function: my_ratings.py:rate is called with question, reference, completion, answer, label,"
            " bonsu: got an unexpected keyword argument 'bonsu'",
        ),
        (
            "function: 'my_ratings.py:rate', arguments: {label: 1}",
            "label.ratings.arguments.label: the run itself gives",
        ),
        (
            "function: 'broken.py:rate'",
            "label.ratings.function: broken.py cannot be imported: NameError: name 'x' is no",
        ),
        (
            "function: 'leaves.py:rate'",
            "label.ratings.function: leaves.py cannot be imported: SystemExit: 0 (leaves.py:2)",
        ),
    ],
)
def test_a_function_that_cannot_be_used_is_told_before_anything_runs(make, command, named, message):
    function()
    Path("broken.py").write_text("x\n")
    Path("leaves.py").write_text("import sys\nsys.exit(0)\n")
    with contextlib.suppress(ConfigError):
        make(f"label.ratings={{name: function, {named}}}")
    ran = command("label", "--config", "run.yaml", f"label.ratings={{name: function, {named}}}")
    assert ran.code == 2
    assert ran.err.startswith(f"aft: error: run.yaml: {message}") and ran.err.count("\n") == 1, "told once"
    assert not Path("run/config.yaml").exists()


# ---- a judge ----

JUDGE = "label.ratings={name: judge, num_ratings: 2, concurrency: 2}"


def by_length(body, number):
    """A score that the candidate's text decides."""
    candidate = body["messages"][0]["content"].partition("[Candidate solution]\n")[2].partition("\n\n[Evid")[0]
    return scores(1 + len(candidate) % 10)


def expected_of(candidate):
    return 1.0 + len(candidate.completion) % 10


def test_a_judge_rates(make, serve, capsys):
    server = serve(by_length)
    groups, counts = label(make(JUDGE))
    candidates = [candidate for group in groups for candidate in group.candidates]
    assert len(candidates) == 11
    assert all(candidate.rating == expected_of(candidate) for candidate in candidates)
    assert len(server.requests) == 22
    assert all(body["model"] == "a-judge" for body, _ in server.requests)
    assert sum("[Reference solution]\n(none is known)\n" in prompt for prompt in server.prompts) == 6
    asked = counts["ratings"]
    assert (asked["model"], asked["candidates"], asked["wanted"], asked["requests"]) == ("a-judge", 11, 22, 22)
    assert (asked["prompt_tokens"], asked["completion_tokens"], asked["failures"]) == (2200, 440, {})
    shown = capsys.readouterr().err
    assert "| prompt tokens            |   2,200 |" in shown
    assert not any(KEY in path.read_text() for path in Path("run").rglob("*") if path.is_file()) and KEY not in shown


def test_a_judge_is_asked_once_whatever_is_labelled_again(make, serve):
    serve(by_length)
    first, _ = label(make(JUDGE))
    server = serve([HANG])
    plan = make(JUDGE, "label.unparsed=drop")
    assert reasons(plan) == ['config.label.unparsed: was "negative", is "drop"']
    groups, counts = label(plan)
    assert server.requests == [] and counts["ratings"]["cached"] == 16
    assert ratings(groups[0]) == {key: value for key, value in ratings(first[0]).items() if key != LOST}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("label.ratings.num_ratings=1", "config.label.ratings.num_ratings: was 2, is 1"),
        ("label.ratings.temperature=null", "config.label.ratings.temperature: was 1.0, is null"),
        ("label.ratings.model=another", 'config.label.ratings.model: was "a-judge", is "another"'),
        ("label.ratings.unrated=drop", 'config.label.ratings.unrated: was "error", is "drop"'),
        ("label.ratings.prompt=prompt.txt", "reads.judge_prompt: new, is "),
        ("label.ratings.model=a-judge", None),  # the same, named elsewhere
        ("label.ratings.retries=1", None),
        ("label.ratings.timeout=9", None),
        ("label.ratings.concurrency=1", None),
        ("label.ratings.cache=elsewhere", None),
    ],
)
def test_what_is_asked_decides_and_how_does_not(make, serve, change, reason):
    Path("prompt.txt").write_text("{question} {completion} Score: N")
    serve(by_length)
    label(make(JUDGE))
    plan = make(JUDGE, change)
    if reason is None:
        assert plan.status(plan.units("label")[0]).state == DONE
    else:
        assert any(found.startswith(reason) for found in reasons(plan))


def test_a_prompt_of_ones_own_is_used_and_its_change_labels_again(make, serve):
    Path("prompt.txt").write_text("Mark {completion} ({question}) like {reference}.\nScore: N")
    server = serve([scores(4)])
    plan = make(JUDGE, "label.ratings.prompt=prompt.txt")
    label(plan)
    first = plan.training_questions(0)[0]
    assert f"Mark who knows ({first.question}) like {plan.task.reference_response(first)}.\nScore: N" in server.prompts
    Path("prompt.txt").write_text("Mark {completion} ({question}) again.\nScore: N")
    (reason,) = reasons(plan)
    assert reason.startswith("reads.judge_prompt: was ")


def test_candidates_without_a_score_are_an_error_or_left_out(make, serve):
    def refuses_some(body, number):
        return Answer(400, b"no") if "who knows" in body["messages"][0]["content"] else by_length(body, number)

    server = serve(refuses_some)
    with pytest.raises(AftError) as caught:
        label(make(JUDGE))
    assert str(caught.value) == (
        "label.ratings: a-judge gave no score to completion 2 of question 'train-0-0' and 2 more (failures of 22"
        " requests: 6 × HTTP 400). All other replies are kept in run/judge-cache, and the same command asks for the"
        " rest again; label.ratings.unrated=drop leaves such candidates out of their groups"
    )
    groups, counts = label(make(JUDGE, "label.ratings.unrated=drop"))
    assert len(server.requests) == 22 + 6
    assert all(LOST not in ratings(group) and len(ratings(group)) >= 2 for group in groups)
    assert (counts["unrated"], counts["ratings"]["unrated"], counts["ratings"]["given_up"]) == (3, 3, 6)


def test_what_a_judge_did_not_give_can_be_asked_for_again(make, serve, capsys):
    serve(lambda body, number: Answer(400, b"busy") if "who knows" in str(body) else by_length(body, number))
    _, counts = label(make(JUDGE, "label.ratings.unrated=drop"))
    told = (
        "0 candidates were rated by fewer replies than asked for, and 3 by none; that stays so. To ask for what is"
        " missing, and for nothing else, again: rm -r run/seed-0/label && aft-label --config run/config.yaml\n"
    )
    assert counts["unrated"] == 3 and told in capsys.readouterr().err
    shutil.rmtree("run/seed-0/label")
    server = serve(by_length)
    _, counts = label(make(JUDGE, "label.ratings.unrated=drop"))
    assert (counts["unrated"], counts["ratings"]["cached"], len(server.requests)) == (0, 16, 6)
    assert "To ask for what is missing" not in capsys.readouterr().err


def test_a_plan_needs_no_judge_and_a_run_does(make, command, monkeypatch):
    make()
    monkeypatch.delenv("AFT_JUDGE_MODEL")
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost")
    lacking = [
        "label.ratings.model: null, and the environment variable AFT_JUDGE_MODEL is not set; name a model",
        "OPENAI_BASE_URL: expected an address such as https://api.openai.com/v1, got 'localhost'",
    ]
    ran = command("label", "--config", "run.yaml", JUDGE, "--dry-run")
    assert ran.code == 0 and all(f"# here: {problem}\n" in ran.out for problem in lacking)
    ran = command("label", "--config", "run.yaml", JUDGE)
    assert ran.code == 2 and all(f"run.yaml: {problem}\n" in ran.err for problem in lacking)
    ran = command("label", "--config", "run.yaml", JUDGE, "label.ratings.prompt=no.txt", "--dry-run")
    assert ran.code == 2 and "run.yaml: label.ratings.prompt: no file no.txt (looked in " in ran.err


def test_a_finished_run_needs_no_environment_and_another_judge_is_one(make, serve, command, monkeypatch):
    serve(by_length)
    label(make(JUDGE))
    before = Path("run/seed-0/label/groups.jsonl").read_bytes()
    monkeypatch.delenv("AFT_JUDGE_MODEL")
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost")
    assert command("label", "--config", "run.yaml", JUDGE).code == 0
    ran = command("label", "--config", "run.yaml", JUDGE, "--dry-run")
    assert ran.code == 0 and "# here:" not in ran.out and ran.out.split()[:4] == ["skip", "label", "seed", "0"]
    assert Path("run/seed-0/label/groups.jsonl").read_bytes() == before
    # what has to run needs both, and is compared with the judge that was
    ran = command("label", "--config", "run.yaml", JUDGE, "label.unparsed=drop")
    assert ran.code == 2 and "run.yaml: label.ratings.model: null, and the environment variable" in ran.err
    assert reasons(make(JUDGE, "label.unparsed=drop")) == ['config.label.unparsed: was "negative", is "drop"']
    monkeypatch.setenv("AFT_JUDGE_MODEL", "another")
    assert reasons(make(JUDGE)) == ['config.label.ratings.model: was "a-judge", is "another"']


@pytest.mark.parametrize(
    ("ratings", "problem"),
    [
        (
            "{name: juge}",
            "label.ratings.name: got 'juge' (str), allowed: binary, file, judge, function. Did you mean 'ju",
        ),
        ("{name: judge, min_score: 10}", "label.ratings.min_score: must be below max_score = 10, got 10"),
        ("{name: judge, num_ratings: 0}", "label.ratings.num_ratings: must be at least 1, got 0"),
        ("{name: judge, timeout: 0}", "label.ratings.timeout: must be above 0.0, got 0.0"),
        ("{name: file}", "label.ratings.path: missing; it has no default and must be chosen"),
        ("{name: file, path: x, missing: skip}", "label.ratings.missing: got 'skip' (str), allowed: error, drop."),
    ],
)
def test_a_section_that_is_wrong(make, ratings, problem):
    with pytest.raises(ConfigError) as caught:
        make(f"label.ratings={ratings}")
    assert problem in str(caught.value)


# ---- the commands ----


def rank_run(gsm8k_folder):
    """Arguments of the shipped configuration on made-up questions, two completions of each of four there already."""
    arguments = [f"data.path={gsm8k_folder}", "data.num_train=4", "sample.num_samples=2", "output_dir=run"]
    plan = Plan(load_config(ROOT / "configs" / "gsm8k" / "gsm8k-rank.yaml", arguments))
    row = {"truncated": False, "num_tokens": 3, "seed": 0}
    write_json_lines(
        plan.completions(0),
        [
            {"question_id": question.id, "index": index, "completion": f"{index} steps. [ANS] {answer}", **row}
            for question in plan.training_questions(0)
            for index, answer in enumerate((question.answer, "-1"))
        ],
    )
    return plan, ["--config", ROOT / "configs" / "gsm8k" / "gsm8k-rank.yaml", *arguments]


def test_gsm8k_rank_is_built_without_a_model(command, serve, gsm8k_folder):
    plan, arguments = rank_run(gsm8k_folder)
    server = serve(by_length)
    ran = command("label", *arguments)
    assert ran.code == 0, ran.err
    assert len(server.requests) == 4 * 2 * 3
    groups = read_groups(plan.groups(0))
    assert len(groups) == 4 and all(group.reference is not None for group in groups)
    assert all(candidate.rating == expected_of(candidate) for group in groups for candidate in group.candidates)
    assert not any(KEY in path.read_text() for path in Path("run").rglob("*") if path.is_file())
    # again, from a file
    lines = [
        {"question_id": group.question_id, "index": index, "rating": index} for group in groups for index in (0, 1)
    ]
    write_json_lines("ratings.jsonl", lines)
    ran = command("label", *arguments, "label.ratings={name: file, path: ratings.jsonl}")
    assert ran.code == 0, ran.err
    assert [list(ratings(group).values()) for group in read_groups(plan.groups(0))] == [[0.0, 1.0]] * 4
    # and a mistake in it is told by the process that meets it
    Path("ratings.jsonl").write_text('{"question_id": "q"}\n')
    ran = command("label", *arguments, "label.ratings={name: file, path: ratings.jsonl}")
    assert ran.code == 3
    assert "ratings.jsonl:1: missing 'index' (the line has 'question_id')" in ran.err
    # and costs nothing of what is there
    assert plan.groups(0).is_file() and not Path("run/replaced/2").exists()
    write_json_lines("ratings.jsonl", lines[1:])
    ran = command("label", *arguments, "label.ratings={name: file, path: ratings.jsonl}")
    assert ran.code == 3 and "ratings.jsonl: no rating for completion 0 " in ran.err and plan.groups(0).is_file()


def test_earlier_labels_stay_until_the_new_ones_are_ready(command, serve, gsm8k_folder):
    plan, arguments = rank_run(gsm8k_folder)
    assert command("label", *arguments, "label.ratings={name: binary}").code == 0
    binary = plan.groups(0).read_text()
    Path("slow.py").write_text("import time\ndef rate(**_):\n    time.sleep(0.05)\n    return 1.0\n")
    Path("fails.py").write_text("def rate(**_):\n    raise ValueError('no')\n")
    ran = command("label", *arguments, "label.ratings={name: function, function: 'fails.py:rate'}")
    assert ran.code != 0 and plan.groups(0).read_text() == binary
    serve(lambda body, number: Answer(status=401))
    ran = command("label", *arguments)
    assert ran.code != 0 and plan.groups(0).read_text() == binary
    assert not Path("run/replaced").exists()
    ran = command("label", *arguments, "label.ratings={name: function, function: 'slow.py:rate'}")
    assert ran.code == 0, ran.err
    assert Path("run/replaced/1/seed-0/label/groups.jsonl").read_text() == binary != plan.groups(0).read_text()
    manifest = read_manifest(plan.groups(0).with_name(MANIFEST))
    assert manifest["seconds"] >= 8 * 0.05  # the rating too, not the writing alone


def test_a_run_that_was_killed_goes_on_from_its_replies(command, serve, gsm8k_folder):
    plan, arguments = rank_run(gsm8k_folder)
    server = serve(lambda body, number: by_length(body, number) if number < 7 else HANG)
    program = "from aft.cli.train import main; main()"
    (config,) = [argument for argument in arguments if isinstance(argument, Path)]
    Path("run").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--config", config, "--stage", "label", "--worker", "0", *arguments[2:]],
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + HUNG_AFTER
    while len(server.requests) < 7 + 8 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(server.requests) == 7 + 8, "seven were answered, and eight are on their way"
    server = serve(by_length)
    ran = command("label", *arguments)
    assert ran.code == 0, ran.err
    assert "label seed 0: resumes, it was cut" in ran.err
    assert len(server.requests) == 24 - 7
    counts = json.loads((plan.groups(0).parent / "counts.json").read_text())["ratings"]
    assert (counts["cached"], counts["requests"], counts["cached_prompt_tokens"]) == (7, 17, 700)
