"""AQuA, ECQA and MMLU on small files and on rows of the hub's fields."""

from __future__ import annotations

import csv
import io
import re
import tarfile

import pytest
from task_data import ids, round_trip, serve, splits, write_rows

from aft.errors import ConfigError, DataError
from aft.tasks.aqua import PAPER_SIZES, Aqua
from aft.tasks.base import ANSWER_ONLY, TEST, TRAIN, VALIDATION
from aft.tasks.ecqa import Ecqa
from aft.tasks.mmlu import Mmlu

# ---- AQuA ----


def aqua_row(name, number):
    options = [f"{letter}){' ' if number % 2 else ''}{number + place}" for place, letter in enumerate("ABCDE")]
    return {
        "question": f"{name} {number}: what is {number} + 1?",
        "options": options,
        "rationale": f"{number} + 1 = {number + 1}\nAnswer B",
        "correct": "B",
    }


@pytest.fixture
def aqua(tmp_path):
    write_rows(tmp_path / "train.json", [aqua_row("train", number) for number in range(20)])
    write_rows(tmp_path / "dev.json", [aqua_row("dev", number) for number in range(6)])
    write_rows(tmp_path / "test.json", [aqua_row("test", number) for number in range(8)])
    return tmp_path


def test_an_aqua_record(aqua):
    task = Aqua(str(aqua))
    question = task.records(TRAIN)[3]
    assert question.id == "aqua-train-000003"
    assert question.question == "train 3: what is 3 + 1?\nOptions:\n(A) 3\n(B) 4\n(C) 5\n(D) 6\n(E) 7"
    assert (question.answer, question.options) == ("B", ("3", "4", "5", "6", "7"))
    assert task.reference_response(question) == "3 + 1 = 4\nAnswer B\n[ANS] (B)"
    assert all(round_trip(task, question) for file in task.FILES for question in task.records(file))


def test_aqua_with_few_questions_keeps_the_official_files_apart(aqua):
    task = Aqua(str(aqua))
    assert splits(task) == {"train": 20, "answer_only": 0, "validation": 6, "test": 8}
    assert task.notes() == [
        "the training file (train.json) has 20 usable questions, too few for the paper's 5,000 / 400 / 1,254: dev is"
        " validation, test is test, the rest is train, except for sizes that are set"
    ]


def test_aqua_borrows_from_the_end_of_the_training_file(aqua):
    task = Aqua(str(aqua), num_validation=9, num_test=10)
    assert splits(task) == {"train": 15, "answer_only": 0, "validation": 9, "test": 10}
    every = [*task.load(TRAIN), *task.load(VALIDATION), *task.load(TEST)]
    assert len(set(ids(every))) == 34
    assert task.load(TRAIN) == Aqua(str(aqua)).load(TRAIN)[:15]
    assert task.notes()[1:] == [
        "3 questions of validation drawn from the training file",
        "2 questions of test drawn from the training file",
    ]
    with pytest.raises(ConfigError, match=re.escape("data.num_test: got 29; available: 28 questions of AQuA-RAT")):
        Aqua(str(aqua), num_test=29).load(TRAIN)
    with pytest.raises(ConfigError, match=r"data\.num_train: got 16, .*; available: 15 quest"):
        Aqua(str(aqua), num_train=16, num_validation=9, num_test=10).load(TRAIN)


def test_aqua_in_the_papers_sizes(tmp_path, monkeypatch):
    rows = {
        ("deepmind/aqua_rat", "raw", split): [aqua_row(split, number) for number in range(size)]
        for split, size in (("train", 6200), ("validation", 254), ("test", 254))
    }
    serve(monkeypatch, rows)
    task = Aqua()
    assert splits(task) == {"train": 5000, "answer_only": 0, "validation": 400, "test": 1254}
    assert {f"num_{split}": size for split, size in splits(task).items() if size} == PAPER_SIZES
    assert task.notes() == [
        "146 questions of validation drawn from the training file",
        "1,000 questions of test drawn from the training file",
    ]
    assert len(set(ids([*task.load(TRAIN), *task.load(VALIDATION), *task.load(TEST)]))) == 6654
    held_out = {question.split(":")[0] for question in (q.question for q in task.load(TEST))}
    assert {f"test {number}" for number in range(254)} <= held_out


def test_aqua_from_the_hub_is_the_same_as_from_files(aqua, monkeypatch):
    files = {"train": "train", "validation": "dev", "test": "test"}
    sizes = {"train": 20, "validation": 6, "test": 8}
    rows = {
        ("deepmind/aqua_rat", "raw", split): [aqua_row(files[split], number) for number in range(size)]
        for split, size in sizes.items()
    }
    serve(monkeypatch, rows)
    hub, local = Aqua(num_train=5), Aqua(str(aqua), num_train=5)
    assert hub.fingerprint() == local.fingerprint()
    assert hub.load(TRAIN) == local.load(TRAIN)


SELECTION = (
    "Is it (A) or (B)?\\n(A) x\\nTruly?\\nOptions:\\n(A) 1\\n(B) 2\\n(C) 3\\n(D) 4\\n(E) 5\t(B)\tfirst\\nthen\n"
    "What is 2 + 2 ?\\nOptions:\\n(A) 4\\n(B) 5\\n(C) 6\\n(D) 7\\n(E) 8\t(A)\tfour\n"
    "what is 2+2?\\nOptions:\\n(A) 5\\n(B) 4\\n(C) 6\\n(D) 7\\n(E) 8\t(B)\tfour again\n"
    "Dev 1, what is 1 + 1?\\nOptions:\\n(A) 5\\n(B) 2\\n(C) 6\\n(D) 7\\n(E) 8\t(B)\ttwo\n"
)


def test_the_selection_stands_in_for_aquas_training_file(aqua):
    (aqua / "train.json").unlink()
    (aqua / "flan_aqua_train.tsv").write_text(SELECTION, encoding="utf-8")
    task = Aqua(str(aqua))
    first = task.records(TRAIN)[0]
    assert first.question.startswith("Is it (A) or (B)?\n(A) x\nTruly?\nOptions:\n(A) 1\n(B) 2")
    assert (first.answer, first.rationale, first.options) == ("B", "first\nthen", ("1", "2", "3", "4", "5"))
    assert sorted(ids(task.load(TRAIN))) == ["aqua-train-000000", "aqua-train-000001"]
    assert task.notes()[:2] == [
        "1 question removed from training: also held out (1 in validation)",
        "1 question removed from training: the wording of an earlier one",
    ]
    assert "flan_aqua_train.tsv" in task.notes()[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a\tb", "expected 3 columns separated by tabs, got 2"),
        ("no list\t(A)\tr", "expected a question with 'Options:', then a letter in brackets"),
        ("q\\nOptions:\\n(A) 1\tA\tr", "expected a question with 'Options:', then a letter in brackets"),
    ],
)
def test_a_broken_line_of_the_selection(aqua, line, message):
    (aqua / "train.json").unlink()
    path = aqua / "flan_aqua_train.tsv"
    path.write_text(f"{SELECTION}{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Aqua(str(aqua)).load(TRAIN)
    assert str(caught.value).startswith(f"{path}:5: {message}. data.skip_unreadable: true leaves")
    assert len(Aqua(str(aqua), skip_unreadable=True).records(TRAIN)) == 4


def test_an_option_s_label_may_be_there_twice(aqua):
    """As in AQuA's test file, record 30, and in 45 records of the selection."""
    texts = ["A)A)59", "B)b) 69", "C) (C) 79", "D)", "E)A) 99"]
    write_rows(aqua / "dev.json", [{**aqua_row("dev", 1), "options": texts}])
    (question,) = Aqua(str(aqua)).records(VALIDATION)
    assert question.options == ("59", "69", "79", "", "A) 99")
    assert question.question.splitlines()[-5:-3] == ["(A) 59", "(B) 69"]


def test_a_letter_without_an_option(aqua):
    write_rows(aqua / "dev.json", [{**aqua_row("dev", 1), "correct": "F"}])
    with pytest.raises(DataError, match=re.escape("question 'aqua-validation-000000': the answer must be the letter")):
        Aqua(str(aqua)).load(VALIDATION)


# ---- ECQA ----


def ecqa_row(number, **changes):
    row = {
        "id": f"{number:032x}",
        "question": f"Where is thing {number}?",
        "options": ["park", "Park", "shop", "lake", f"{number}"],
        "answer": "C",
        "explanation": f"Thing {number} is sold. ",
    }
    return {**row, **changes}


def on_the_hub(row):
    options = {f"q_op{place}": option for place, option in enumerate(row["options"], start=1)}
    text = row["options"]["ABCDE".index(row["answer"])]
    return {
        "q_no": row["id"],
        "q_concept": "thing",
        "q_text": row["question"],
        **options,
        "q_ans": text,
        "taskA_pos": "",
        "taskA_neg": "",
        "taskB": row.get("explanation"),
    }


@pytest.fixture
def ecqa_rows():
    train = [ecqa_row(number) for number in range(9)] + [ecqa_row(9, explanation=None)]
    return {
        "train": train,
        "validation": [ecqa_row(number) for number in (2, 20, 21)],
        "test": [ecqa_row(number) for number in (1, 2, 3, 21, 30)],
    }


@pytest.fixture
def ecqa(tmp_path, ecqa_rows):
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        write_rows(tmp_path / f"ecqa_{name}.jsonl", ecqa_rows[split])
    return tmp_path


def test_an_ecqa_reference_may_end_with_the_text_of_its_option(tmp_path):
    options = ["bank", "river bank", "river", "river", "sea"]
    rows = [ecqa_row(i, options=options, answer=answer, explanation="Why.") for i, answer in enumerate("ABCE")]
    for name in ("train", "val", "test"):
        write_rows(tmp_path / f"ecqa_{name}.jsonl", rows if name == "train" else [ecqa_row(20 + len(name))])
    task = Ecqa(str(tmp_path), answer_as="text", num_answer_only=0)
    by_answer = {q.answer: q for q in task.load("train")}
    found = {answer: task.reference_response(question) for answer, question in by_answer.items()}
    # a repeated option is told apart by its letter alone
    ends = {"A": "bank", "B": "river bank", "C": "(C)", "E": "sea"}
    assert found == {answer: f"Why.\n[ANS] {end}" for answer, end in ends.items()}
    for answer, response in found.items():
        assert task.is_correct(task.extract_answer(response, by_answer[answer]).answer, by_answer[answer])
    with pytest.raises(ConfigError, match="answer_as: got 'words'; allowed: letter, text"):
        Ecqa(str(tmp_path), answer_as="words")


def test_an_ecqa_record(ecqa):
    task = Ecqa(str(ecqa))
    question = task.records(TRAIN)[0]
    assert question.id == "ecqa-train-00000000000000000000000000000000"
    assert question.question == "Where is thing 0?\nOptions:\n(A) park\n(B) Park\n(C) shop\n(D) lake\n(E) 0"
    assert task.reference_response(question) == "Thing 0 is sold.\n[ANS] (C)"
    assert all(round_trip(task, question) for file in task.FILES for question in task.records(file))


def test_ecqa_without_its_overlaps(ecqa):
    task = Ecqa(str(ecqa))
    assert splits(task) == {"train": 6, "answer_only": 1, "validation": 3, "test": 5}
    assert task.notes() == [
        "3 questions removed from training: also held out (1 in validation, 3 in test)",
        "2 questions of validation also in test: kept in both",
        "1 question to train on without a chain: at most the answer is used",
    ]
    assert [question.question[:16] for question in task.load(ANSWER_ONLY)] == ["Where is thing 9"]
    assert len(task.load(VALIDATION)) == len(set(ids(task.load(VALIDATION))))
    assert not set(ids(task.load(VALIDATION))) & set(ids(task.load(TEST)))
    with pytest.raises(ConfigError, match=re.escape("data.num_test: got 6; available: 5 questions of ECQA for test")):
        Ecqa(str(ecqa), num_test=6).load(TEST)


def test_ecqa_from_the_hub_is_the_same_as_from_files(ecqa, ecqa_rows, monkeypatch):
    rows = {("tasksource/ecqa", None, split): [on_the_hub(row) for row in ecqa_rows[split]] for split in ecqa_rows}
    serve(monkeypatch, rows)
    hub, local = Ecqa(), Ecqa(str(ecqa))
    assert hub.fingerprint() == local.fingerprint()
    assert hub.load(TEST) == local.load(TEST)


def test_ecqas_answer_is_the_text_of_an_option(ecqa, ecqa_rows):
    rows = [on_the_hub(row) for row in ecqa_rows["test"]]
    rows[0] |= {"q_ans": "Park"}
    rows[1] |= {"q_ans": "LAKE "}
    write_rows(ecqa / "ecqa_test.jsonl", rows)
    assert [question.answer for question in Ecqa(str(ecqa)).records(TEST)][:3] == ["B", "D", "C"]
    rows[2] |= {"q_ans": "sea"}
    write_rows(ecqa / "ecqa_test.jsonl", rows)
    with pytest.raises(DataError, match=r"ecqa_test\.jsonl:3: 'q_ans' must be the text of an option, got 'sea'"):
        Ecqa(str(ecqa)).load(TEST)


# ---- MMLU ----

MMLU = {
    ("dev", "anatomy"): [("Which bone?", "a", "b", "c", "d", "0")],
    ("test", "anatomy"): [("Two\nlines?", "None", "N/A", "x, y", "d", "1"), ("Which?", "a", "b", "c", "d", "3")],
    ("test", "zoology"): [("What is c?", "2c", "c", "0.8c", "0.5c", "2")],
}


def mmlu_text(rows, header):
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    if header:
        writer.writerow(["question", "choice0", "choice1", "choice2", "choice3", "answer"])
    writer.writerows(rows if header else [(*row[:5], "ABCD"[int(row[5])]) for row in rows])
    return out.getvalue()


def mmlu_folder(path, *, header=True):
    for (split, subject), rows in MMLU.items():
        (path / split).mkdir(exist_ok=True)
        (path / split / f"{subject}_{split}.csv").write_bytes(mmlu_text(rows, header).encode())
    return path


def test_an_mmlu_record(tmp_path):
    task = Mmlu(str(mmlu_folder(tmp_path)))
    assert ids(task.records(TEST)) == ["mmlu-test-anatomy-0000", "mmlu-test-anatomy-0001", "mmlu-test-zoology-0000"]
    question = task.records(TEST)[0]
    assert question.question == "Two\nlines?\nOptions:\n(A) None\n(B) N/A\n(C) x, y\n(D) d"
    assert (question.answer, question.category, question.rationale) == ("B", "anatomy", None)
    assert splits(task) == {"train": 0, "answer_only": 0, "validation": 1, "test": 3}
    assert all(round_trip(task, question) for question in task.records(TEST))


def test_every_form_of_mmlu_is_the_same(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("header", "original", "archive")]
    for folder in folders:
        folder.mkdir()
    mmlu_folder(folders[0])
    mmlu_folder(folders[1], header=False)
    with tarfile.open(folders[2] / "mmlu.tar.gz", "w:gz") as archive:
        for split in ("dev", "test"):
            archive.add(folders[0] / split, arcname=f"data/{split}")
    rows = {
        ("cais/mmlu", "all", split): [
            {"question": q, "subject": subject, "choices": choices, "answer": int(answer)}
            for (of, subject), questions in MMLU.items()
            if of == split
            for q, *choices, answer in questions
        ]
        for split in ("dev", "test")
    }
    serve(monkeypatch, rows)
    forms = [Mmlu(), Mmlu(str(folders[2] / "mmlu.tar.gz")), *(Mmlu(str(folder)) for folder in folders)]
    assert len({task.fingerprint() for task in forms}) == 1


def test_a_broken_mmlu_file(tmp_path):
    with pytest.raises(ConfigError, match=r"has no dev/SUBJECT_dev\.csv, nor a \.tar\.gz with these"):
        Mmlu(str(tmp_path)).load(VALIDATION)
    mmlu_folder(tmp_path)
    (tmp_path / "dev" / "anatomy_dev.csv").write_text("q,a,b,c,d,4\n")
    with pytest.raises(DataError, match=r"anatomy_dev\.csv, record 1: the answer must be 0 to 3 or A to D, got '4'"):
        Mmlu(str(tmp_path)).load(VALIDATION)
    (tmp_path / "dev" / "anatomy_dev.csv").write_text("q,a,b,c,0\n")
    with pytest.raises(DataError, match="record 1: expected 6 columns, got 5"):
        Mmlu(str(tmp_path)).load(VALIDATION)
    (tmp_path / "dev" / "anatomy_dev.csv").write_text("question,choice0,choice1,choice2,choice3,answer\n")
    with pytest.raises(DataError, match=r"anatomy_dev\.csv: no question; expected records of"):
        Mmlu(str(tmp_path)).load(VALIDATION)
    (tmp_path / "x.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"x\.tar\.gz: cannot be read: "):
        Mmlu(str(tmp_path / "x.tar.gz")).load(VALIDATION)


def test_mmlu_fields_of_any_usual_size(tmp_path, monkeypatch):
    folder = mmlu_folder(tmp_path)
    long = "x" * 200_000
    (folder / "dev" / "anatomy_dev.csv").write_bytes(b"\xef\xbb\xbf" + f"{long},a,b,c,d,A\n".encode())
    limit = csv.field_size_limit()
    (question,) = Mmlu(str(folder)).load(VALIDATION)
    assert question.question.startswith(long) and csv.field_size_limit() == limit
    monkeypatch.setattr("aft.tasks.mmlu.LONGEST_LINE", 2**20)
    (folder / "dev" / "anatomy_dev.csv").write_text("q,a,b,c,d,A\n" + "y" * (2**20 + 1) + ",a,b,c,d,A\n")
    with pytest.raises(
        DataError, match=r"anatomy_dev\.csv, line 2: not CSV: field larger than field limit \(1048576\)"
    ):
        Mmlu(str(folder)).load(VALIDATION)
