"""Tasks of one's own: JSONL files and Python classes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from task_data import ids, round_trip, splits, write_rows

from aft.config import load_config, to_yaml
from aft.errors import ConfigError, DataError
from aft.stages.plan import Plan
from aft.tasks import make_task
from aft.tasks.base import ANSWER_ONLY, TEST, TRAIN, VALIDATION
from aft.tasks.jsonl import Jsonl
from aft.tasks.own import Python

ROOT = Path(__file__).resolve().parents[2]

# ---- JSONL ----


def rows(start, stop, **changes):
    return [
        {"question": f"Twice {number}?", "answer": 2 * number, "rationale": f"{number} + {number}", **changes}
        for number in range(start, stop)
    ]


def test_one_file_is_cut_into_splits(tmp_path):
    path = tmp_path / "all.jsonl"
    write_rows(path, [*rows(0, 10), *rows(10, 12, rationale=None), *rows(3, 4)])
    task = Jsonl(train=str(path), num_validation=3, num_test=2)
    assert sum(splits(task).values()) == 12
    assert splits(task) | {"train": 0, "answer_only": 0} == {"train": 0, "answer_only": 0, "validation": 3, "test": 2}
    assert task.notes()[0] == "1 question removed from training: the wording of an earlier one"
    every = [*task.load(TRAIN), *task.load(ANSWER_ONLY), *task.load(VALIDATION), *task.load(TEST)]
    assert sorted(ids(every)) == [f"train-{number:06d}" for number in range(12)]
    assert all(round_trip(task, question) for question in every)
    assert splits(Jsonl(train=str(path))) == {"train": 10, "answer_only": 2, "validation": 0, "test": 0}


def test_files_of_their_own(tmp_path):
    for name, (start, stop) in {"a": (0, 6), "b": (5, 8), "c": (10, 14)}.items():
        write_rows(tmp_path / f"{name}.jsonl", rows(start, stop))
    files = {"train": "a", "validation": "b", "test": "c"}
    task = Jsonl(**{split: str(tmp_path / f"{name}.jsonl") for split, name in files.items()}, num_test=3)
    assert splits(task) == {"train": 5, "answer_only": 0, "validation": 3, "test": 3}
    assert task.notes() == ["1 question removed from training: also held out (1 in validation)"]
    assert task.load(TEST)[0].id.startswith("test-")
    only_test = Jsonl(test=str(tmp_path / "c.jsonl"))
    assert splits(only_test) == {"train": 0, "answer_only": 0, "validation": 0, "test": 4}


@pytest.mark.parametrize(
    ("answer_type", "row", "answer", "response"),
    [
        ("number", {"answer": "1,200"}, "1,200", "r\n[ANS] 1,200"),
        ("number", {"answer": 7.5}, "7.5", "r\n[ANS] 7.5"),
        ("text", {"answer": "The Nile"}, "The Nile", "r\n[ANS] The Nile"),
        ("boxed", {"answer": "\\pi r^2"}, "\\pi r^2", "r\n\\boxed{\\pi r^2}"),
        ("choice", {"answer": "B", "options": ["x", "y"]}, "B", "r\n[ANS] (B)"),
        ("choice", {"answer": "y", "options": ["x", "y"]}, "B", "r\n[ANS] (B)"),
        ("choice", {"answer": "B", "options": ["B", "A"]}, "B", "r\n[ANS] (B)"),  # a letter is a letter
    ],
)
def test_every_type_of_answer(tmp_path, answer_type, row, answer, response):
    write_rows(tmp_path / "a.jsonl", [{"question": "Well?", "rationale": "r", "category": "easy", **row}])
    task = Jsonl(train=str(tmp_path / "a.jsonl"), answer_type=answer_type)
    (question,) = task.load(TRAIN)
    assert (question.answer, question.category) == (answer, "easy")
    assert task.reference_response(question) == response
    assert round_trip(task, question)
    assert question.question == "Well?" + (
        "\nOptions:\n(A) {}\n(B) {}".format(*row["options"]) if row.get("options") else ""
    )


def test_fields_of_other_names(tmp_path):
    write_rows(tmp_path / "a.jsonl", [{"prompt": "q", "gold": "4", "why": "2 + 2", "question": 7}])
    task = Jsonl(train=str(tmp_path / "a.jsonl"), question_field="prompt", answer_field="gold", rationale_field="why")
    (question,) = task.load(TRAIN)
    assert (question.question, question.answer, question.rationale) == ("q", "4", "2 + 2")


@pytest.mark.parametrize(
    ("answer_type", "row", "message"),
    [
        ("number", {"question": "q"}, "missing 'answer' (the line has 'question')"),
        ("number", {"question": "q", "answer": "few"}, "'answer' must be a number, got 'few'"),
        ("number", {"question": "q", "answer": True}, "'answer' must be str or int or float, got bool"),
        ("choice", {"question": "q", "answer": "A"}, "'options' must be list, got NoneType"),
        ("choice", {"question": "q", "answer": "C", "options": ["x", "y"]}, "'answer' must be the letter of an option"),
        ("choice", {"question": "q", "answer": "A", "options": ["x", 2]}, "'options[1]' must be str, got int"),
    ],
)
def test_a_broken_line_is_named(tmp_path, answer_type, row, message):
    path = tmp_path / "a.jsonl"
    write_rows(path, [row])
    with pytest.raises(DataError, match=re.escape(f"{path}:1: {message}")):
        Jsonl(train=str(path), answer_type=answer_type).load(TRAIN)


def test_wrong_arguments():
    with pytest.raises(ConfigError, match=r"data\.train: null, and so are data\.validation and data\.test"):
        Jsonl()
    with pytest.raises(ConfigError, match=r"data\.train: no file nowhere\.jsonl \(looked in "):
        Jsonl(train="nowhere.jsonl").load(TRAIN)
    with pytest.raises(ConfigError, match=r"data\.answer_type: got 'letter', allowed: number, choice, text, boxed"):
        Jsonl(train="x", answer_type="letter")


def test_the_example_is_ten_lines_and_plans(monkeypatch):
    monkeypatch.chdir(ROOT)
    path = ROOT / "configs" / "own-task" / "example.yaml"
    assert len(path.read_text().splitlines()) <= 10
    plan = Plan(load_config(path))
    assert plan.describe_data()["questions"] == {"train": 6, "answer_only": 1, "validation": 2, "test": 3}
    assert all(round_trip(plan.task, question) for question in plan.task.load(TRAIN))
    assert [str(unit) for unit, _ in plan.forecast(plan.stages())][:2] == ["vft seed 0", "sample seed 0"]


# ---- Python ----

SOURCE = """
from aft.answers import extract_text
from aft.records import Question

class Capitals:
    def __init__(self, count: int = 1):
        self.count = count

    def load(self, split, *, seed=0):
        if split != "train":
            return []
        return [Question(f"c{n}", f"Capital {n}?", "Rome", "As is known.") for n in range(self.count)]

    def reference_response(self, question):
        return f"{question.rationale} [ANS] {question.answer}"

    def extract_answer(self, completion, question=None):
        return extract_text(completion, "[ANS]")

    def is_correct(self, answer, question):
        return answer == question.answer.casefold()

    def vocabulary(self):
        return ["Rome"]

class Idle:
    def load(self, split):
        return []

class Fussy(Capitals):
    def __init__(self):
        raise RuntimeError("not today")
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "capitals.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_class_of_ones_own(module):
    task = make_task("python", module=str(module), class_name="Capitals", options={"count": 3})
    assert splits(task) == {"train": 3, "answer_only": 0, "validation": 0, "test": 0}
    assert all(round_trip(task, question) for question in task.load(TRAIN))
    assert task.notes() == []
    assert task.vocabulary() == ["Rome"]
    with pytest.raises(AttributeError):
        _ = task.nothing_of_the_kind


def test_the_fingerprint_follows_data_and_source(module):
    first, more = (Python(str(module), "Capitals", {"count": count}).fingerprint() for count in (1, 2))
    assert first == Python(str(module), "Capitals").fingerprint() != more
    module.write_text(SOURCE + "# another way of reading answers\n", encoding="utf-8")
    assert Python(str(module), "Capitals").fingerprint() != first
    module.write_text(SOURCE + "    def fingerprint(self):\n        return 'own'\n", encoding="utf-8")
    assert len(Python(str(module), "Capitals").fingerprint()) == 64


def test_a_module_by_its_dotted_name(module, monkeypatch):
    monkeypatch.syspath_prepend(module.parent)
    assert len(Python("capitals", "Capitals").load(TRAIN)) == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Capital", {}, "has no class 'Capital'. Did you mean 'Capitals'?"),
        (
            "Capitals",
            {"cuont": 1},
            "data.options: Capitals(count: int = 1): got an unexpected keyword argument 'cuont'",
        ),
        ("Idle", {}, "data.class_name: Idle .load must take (split, seed)"),
        ("Idle", {}, "data.class_name: Idle has no method extract_answer(completion, question)"),
        ("Fussy", {}, "data.options: Fussy cannot be made: RuntimeError: not today (capitals.py:32)"),
    ],
)
def test_what_is_wrong_with_a_class(module, name, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Python(str(module), name, options)


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        ("absent.py", None, "data.module: no file "),
        ("no_such_module_here", None, "data.module: no module 'no_such_module_here' can be imported; a file is named"),
        ("broken.py", "x = 1 +\n", "broken.py cannot be imported: SyntaxError: invalid syntax (broken.py, line 1)"),
        (
            "raises.py",
            "x = 1\ny = x / 0\n",
            "raises.py cannot be imported: ZeroDivisionError: division by zero (raises",
        ),
        ("lacks.py", "import no_such_module_here\n", "cannot be imported: ModuleNotFoundError: No module named"),
    ],
)
def test_what_is_wrong_with_a_module(tmp_path, module, text, message):
    path = module
    if text is not None or module.endswith(".py"):
        path = str(tmp_path / module)
    if text is not None:
        Path(path).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)):
        Python(path, "Any")


def test_it_is_chosen_by_yaml(module, tmp_path):
    path = tmp_path / "run.yaml"
    data = f"{{name: python, module: {module}, class_name: Capitals, options: {{count: 4}}}}"
    path.write_text(f"output_dir: {tmp_path}/run\ndata: {data}\nmodel: {{name_or_path: a/b}}\n", encoding="utf-8")
    config = load_config(path)
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(path) == config
    assert Plan(config).describe_data()["questions"]["train"] == 4


BROKEN = """\
from aft.records import Question
from aft.answers import extract_number


class Broken:
    def load(self, split, *, seed=0):
        return QUESTIONS

    def reference_response(self, question):
        return ""

    def extract_answer(self, completion, question):
        return extract_number(completion, "[ANS]")

    def is_correct(self, answer, question):
        return False
"""


@pytest.mark.parametrize(
    ("questions", "problem"),
    [
        ("[Question('1', 'q', 'a'), Question('1', 'r', 'a')]", "question 1: the id '1' is that of question 0"),
        ("[Question('1', 'q \\ud800', 'a')]", "question 0: 'question' holds half of a surrogate pair"),
        ("[Question('1', 'q', 'a', '\\udfff')]", "question 0: 'rationale' holds half of a surrogate pair"),
        ("[Question('1', 'q', 3)]", "question 0: 'answer' must be str, got int"),
        ("[('1', 'q', 'a')]", "question 0: expected aft.records.Question, got tuple"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("3", "TypeError: 'int' object is not iterable"),
    ],
)
def test_questions_that_a_class_must_not_give(tmp_path, questions, problem):
    path = tmp_path / "broken.py"
    path.write_text(BROKEN.replace("QUESTIONS", questions))
    with pytest.raises(DataError) as error:
        Python(str(path), "Broken").load(TRAIN)
    assert str(error.value).startswith(f"data.class_name: Broken.load('train', seed=0): {problem}")
