"""The audit: three readings of every completion, how far they agree, and where they differ."""

from __future__ import annotations

import json

import pytest

from aft.answers import NO_MARKER, math_verify_installed
from aft.cli.label import main
from aft.json_files import iter_json_lines, write_json_lines
from aft.labelling.audit import (
    LENIENT,
    MATH_VERIFY,
    NOT_ASKED,
    NOT_INSTALLED,
    NOT_MATHS,
    READERS,
    TASK,
    audit_completions,
)
from aft.records import Completion, Question
from aft.tasks.gsm8k import Gsm8k
from planted_text import PLANTED, SECRET, is_clean
from shared_data import shared_path

GSM8K = Gsm8k()  # no data is read: only its marker and its equality
QUESTIONS = [Question("q1", "6 * 6?", "36"), Question("q2", "1,000 + 80?", "1,080")]
COMPLETIONS = [
    ("q1", "6 * 6 = 36\n[ANS] 36", ("positive", "positive", "positive")),
    ("q1", "6 * 6 = 12\n[ANS] 12", ("negative", "negative", "negative")),
    ("q1", "So the answer is 36.", ("unparsed", "positive", "positive")),
    ("q1", "6 * 6 makes\n36", ("unparsed", "positive", None)),
    ("q2", "[ANS] $1,080", ("positive", "positive", "positive")),
    ("q2", "[ANS] 1080.00", ("positive", "positive", "positive")),
    ("q2", "no idea", ("unparsed", "unparsed", "unparsed")),
]


def completions(texts):
    return [Completion(name, i, text, False, num_tokens=3, seed=0) for i, (name, text, *_) in enumerate(texts)]


def test_every_completion_gets_a_label_from_every_reader():
    audit = audit_completions(QUESTIONS, completions(COMPLETIONS), GSM8K, time_limit=60)
    for item, (_, text, labels) in zip(audit.audited, COMPLETIONS, strict=True):
        for name, label in zip(READERS, labels, strict=True):
            reading = item.readings[name]
            if label is not None and (name != MATH_VERIFY or math_verify_installed()):
                assert reading.label == label, (name, text)
                assert (reading.answer is None) == (label == "unparsed")
    assert [item.index for item in audit.disagreements()][:2] == [2, 3]
    assert audit.audited[2].readings[TASK].reason == NO_MARKER
    assert audit.audited[3].readings[LENIENT].answer == "36"
    if not math_verify_installed():
        assert audit.silent == {NOT_INSTALLED: len(COMPLETIONS)}


def test_the_summary_counts_agreement():
    audit = audit_completions(QUESTIONS, completions(COMPLETIONS), GSM8K, symbolic_limit=0)
    assert audit.silent == {NOT_ASKED if math_verify_installed() else NOT_INSTALLED: 7}
    summary = audit.summary()
    assert "| task | 3 (42.9 %) | 1 (14.3 %) | 3 (42.9 %) |" in summary
    assert "| lenient | 5 (71.4 %) | 1 (14.3 %) | 1 (14.3 %) |" in summary
    # 5 of 7 with Wilson's interval; the other two are right for the lenient reader only
    assert "| task, lenient | 7 | 71.43 [35.89, 91.78] | 71.43 [35.89, 91.78] | 0 | 2 |" in summary
    assert "The first 2 of 2 disagreements:" in summary
    assert "| q1 #2 | 36 | no marker (unparsed) | 36 (positive) | – | …So the answer is 36. |" in summary
    assert "The first 1 of 2 disagreements:" in audit.summary(1)
    assert "disagreements" not in audit.summary(0)


def test_choices_are_read_with_their_options():
    class Choices:
        marker = "[ANS]"

        def extract_answer(self, completion, question=None):
            from aft.answers import extract_choice

            return extract_choice(completion, self.marker, question.options)

        def is_correct(self, answer, question):
            return answer == question.answer

    question = Question("q", "Where?", "B", options=("park", "school", "the big park"))
    texts = [("q", "[ANS] (B)"), ("q", "[ANS] school"), ("q", "I say (B)."), ("q", "[ANS] park")]
    audit = audit_completions([question], completions(texts), Choices(), time_limit=60)
    labels = [[item.readings[name].label for name in (TASK, LENIENT)] for item in audit.audited]
    assert labels == [["positive"] * 2, ["positive"] * 2, ["unparsed", "positive"], ["negative"] * 2]
    assert [item.index for item in audit.disagreements() if item.readings[TASK].label == "unparsed"] == [2]


def test_math_verify_reads_evenly_spaced_completions_and_no_words():
    if not math_verify_installed():
        pytest.skip("math-verify (extra 'math') is not installed")
    texts = [("q1", f"[ANS] {number}") for number in range(10)]
    audit = audit_completions(QUESTIONS, completions(texts), GSM8K, symbolic_limit=4, time_limit=60)
    assert [item.index for item in audit.audited if item.readings[MATH_VERIFY]] == [0, 3, 6, 9]
    assert audit.silent == {NOT_ASKED: 6}
    question = Question("q", "Which town?", "New York")

    class Text(Gsm8k):
        def is_correct(self, answer, question):
            return answer == question.answer

    audit = audit_completions([question], completions([("q", "[ANS] New York")]), Text(), time_limit=60)
    assert audit.silent == {NOT_MATHS: 1}


def test_all_readers_agree_on_real_generations():
    """2,640 generations: no reader calls right what another calls wrong; seven have no marker."""
    path = shared_path("data", "gsm8k", "example_model_solutions_first_half.jsonl")
    task, questions, sampled = Gsm8k(marker="A:"), [], []
    for line, row in iter_json_lines(path):
        questions.append(Question(f"q{line}", row["question"], task.extract_answer(row["ground_truth"]).answer))
        solutions = [value["solution"] for value in row.values() if isinstance(value, dict)]
        sampled += [Completion(f"q{line}", i, text, False, num_tokens=1, seed=0) for i, text in enumerate(solutions)]
    audit = audit_completions(questions, sampled, task, time_limit=60)
    assert len(audit.audited) == 2640
    differing = audit.disagreements()
    assert len(differing) == 7
    for item in differing:
        assert item.readings[TASK].reason == NO_MARKER
        assert item.readings[LENIENT].label == "negative"


def test_the_command_prints_the_table_and_writes_what_differs(tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text(
        f"output_dir: {tmp_path / 'run'}\nseeds: [0]\nmodel: {{name_or_path: none}}\nsample: {{pool_questions: 2}}\n"
        "data: {name: arithmetic, num_train: 2, num_answer_only: 1, num_validation: 2, num_test: 2}\n"
    )
    from aft.config import load_config
    from aft.stages.plan import Plan

    plan = Plan(load_config(str(config), []))
    questions = plan.training_questions(0) + plan.pool_questions(0)
    marker = plan.task.marker
    sampled = []
    for question in questions:
        texts = (f"{marker} {question.answer}", f"so {question.answer}")
        sampled += [Completion(question.id, i, text, False, num_tokens=1, seed=0) for i, text in enumerate(texts)]
    write_json_lines(plan.completions(0), sampled)
    with pytest.raises(SystemExit) as done:
        main(["--config", str(config), "--audit", "--examples", "3"])
    out = capsys.readouterr().out
    assert done.value.code == 0
    assert f"{2 * len(questions)} completions" in out
    assert f"| task | {len(questions)} (50.0 %) | 0 (0.0 %) | {len(questions)} (50.0 %) |" in out
    assert f"The first 3 of {len(questions)} disagreements:" in out
    rows = [json.loads(line) for line in (tmp_path / "run/seed-0/label/audit.jsonl").read_text().splitlines()]
    assert [row["question_id"] for row in rows] == [question.id for question in questions]
    assert rows[0]["readings"]["task"] == {"answer": None, "reason": NO_MARKER, "label": "unparsed"}
    assert rows[0]["completion"] == sampled[1].completion


def test_what_a_model_wrote_is_shown_and_kept_as_it_is(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    text = f"The answer is 36.\n{PLANTED}"
    audit = audit_completions([Question("q1", "6 * 6?", "36")], completions([("q1", text)]), GSM8K, symbolic_limit=0)
    assert is_clean(audit.summary()) and "| q1 #0 |" in audit.summary()
    assert audit.disagreements()[0].row()["completion"] == text
