"""The GSM8K task, on a small file of its own and, where present, on all 8,792 records."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import subprocess
import sys

import pytest

from aft.errors import ConfigError, DataError, DiskError
from aft.records import Question
from aft.tasks.base import ANSWER_ONLY, PRETRAIN, TEST, TRAIN, VALIDATION
from aft.tasks.gsm8k import Gsm8k
from limits import HUNG_AFTER
from shared_data import shared_path


def row(number: int) -> dict[str, str]:
    return {
        "question": f"Ann has {number} apples and eats 1. How many are left?",
        "answer": f"She has {number} - 1 = <<{number}-1={number - 1}>>{number - 1} left.\n#### {number - 1:,}",
    }


SKIPPED = "data.skip_unreadable: true leaves such records out and counts them"


def write_rows(path, rows):
    path.write_text("".join(json.dumps(value) + "\n" for value in rows))


@pytest.fixture
def folder(tmp_path):
    write_rows(tmp_path / "train.jsonl", [row(number) for number in range(1000, 1020)])
    write_rows(tmp_path / "test.jsonl", [row(number) for number in range(30)])
    return tmp_path


def ids(questions):
    return [question.id for question in questions]


def test_a_record_becomes_a_question_and_a_reference_response(folder):
    task = Gsm8k(str(folder), num_validation=0)
    question = next(question for question in task.load(TRAIN) if question.id == "gsm8k-train-000003")
    assert question == Question(
        id="gsm8k-train-000003",
        question="Ann has 1003 apples and eats 1. How many are left?",
        answer="1,002",
        rationale="She has 1003 - 1 = <<1003-1=1002>>1002 left.",
    )
    assert task.reference_response(question) == "She has 1003 - 1 = <<1003-1=1002>>1002 left.\n[ANS] 1,002"
    assert task.extract_answer("1003 - 1 = 1002\n[ANS] 1002 apples.").answer == "1002"
    assert task.is_correct("1002", question)
    assert not task.is_correct("1003", question)


def test_annotations_and_marker_are_a_choice(folder):
    task = Gsm8k(str(folder), num_validation=0, keep_annotations=False, marker="####")
    question = min(task.load(TRAIN), key=lambda item: item.id)
    assert task.reference_response(question) == "She has 1000 - 1 = 999 left.\n#### 999"


def test_the_answer_is_behind_the_last_answer_line(folder):
    rows = [{"question": "q", "answer": "a\n#### 1 is not it\n#### 2"}]
    write_rows(folder / "train.jsonl", rows)
    (question,) = Gsm8k(str(folder)).load(TRAIN)
    assert (question.rationale, question.answer) == ("a\n#### 1 is not it", "2")


def test_splits_divide_each_file(folder):
    task = Gsm8k(str(folder), num_answer_only=6, num_validation=12)
    train, answer_only = task.load(TRAIN), task.load(ANSWER_ONLY)
    validation, test = task.load(VALIDATION), task.load(TEST)
    assert [len(part) for part in (train, answer_only, validation, test)] == [14, 6, 12, 18]
    assert sorted(ids(train + answer_only)) == [f"gsm8k-train-{number:06d}" for number in range(20)]
    assert sorted(ids(validation + test)) == [f"gsm8k-test-{number:06d}" for number in range(30)]
    assert all(question.rationale for question in train + validation + test)
    assert all(question.rationale is None for question in answer_only)
    assert task.load(PRETRAIN) == train
    with pytest.raises(DataError, match=f"question '{answer_only[0].id}': no rationale"):
        task.reference_response(answer_only[0])


def test_a_subset_is_the_beginning_of_the_whole(folder):
    whole = Gsm8k(str(folder), num_validation=12)
    part = Gsm8k(str(folder), num_train=5, num_answer_only=3, num_validation=12, num_test=4)
    assert part.load(TRAIN) == whole.load(TRAIN)[:5]
    assert ids(part.load(ANSWER_ONLY)) == ids(whole.load(TRAIN)[5:8])
    assert part.load(VALIDATION) == whole.load(VALIDATION)
    assert part.load(TEST) == whole.load(TEST)[:4]


def test_the_split_seed_alone_decides(folder):
    first, again, other = (Gsm8k(str(folder), num_train=5, num_validation=12, split_seed=s) for s in (0, 0, 1))
    assert first.load(TRAIN) == again.load(TRAIN) == first.load(TRAIN, seed=7)
    assert ids(first.load(TRAIN)) != ids(other.load(TRAIN))
    assert set(ids(first.load(TEST))) != set(ids(other.load(TEST)))


def test_a_caller_cannot_change_the_next_load(folder):
    task = Gsm8k(str(folder), num_validation=0)
    before = list(task.load(TRAIN))
    task.load(TRAIN).clear()
    assert task.load(TRAIN) == before


@pytest.mark.parametrize(
    ("arguments", "split", "message"),
    [
        ({"num_train": 21}, TRAIN, "data.num_train: got 21, data.num_answer_only: got 0; available: 20 questions"),
        (
            {"num_train": 15, "num_answer_only": 6},
            ANSWER_ONLY,
            "data.num_train: got 15, data.num_answer_only: got 6; available: 20 questions in GSM8K's train file",
        ),
        ({"num_answer_only": 21}, TRAIN, "data.num_answer_only: got 21; available: 20 questions"),
        ({}, VALIDATION, "data.num_validation: got 400; available: 30 questions in GSM8K's test file"),
        ({"num_validation": 10, "num_test": 21}, TEST, "data.num_validation: got 10, data.num_test: got 21; available"),
        ({}, "valdation", "split: unknown 'valdation'; allowed: train, answer_only, validation, test, pretrain."),
        ({}, "valdation", "Did you mean 'validation'?"),
    ],
)
def test_more_than_there_is_is_an_error(folder, arguments, split, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Gsm8k(str(folder), **arguments).load(split)


def test_arguments_out_of_range_are_reported_together():
    with pytest.raises(ConfigError) as error:
        Gsm8k(num_train=-1, num_test=-2, marker=" ")
    assert error.value.problems == [
        "data.num_train: must be at least 0, got -1",
        "data.num_test: must be at least 0, got -2",
        "data.answer_marker: must be visible text on one line, got ' '",
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"question": "q"}, "missing 'answer' (the line has 'question')"),
        ({"question": "q", "answer": 3}, "'answer' must be str, got int"),
        ({"question": "q", "answer": "no last line"}, "'answer' has no last line '#### ' with the final answer"),
        ({"question": "q", "answer": "#### 3"}, "'answer' has no last line '#### ' with the final answer"),
        ({"question": "q", "answer": "a\n#### three"}, "the text behind '#### ' must be a number, got 'three'"),
        ({"question": "q", "answer": "a\n#### 3\nb"}, "the text behind '#### ' must be a number, got '3\\nb'"),
    ],
)
def test_a_broken_line_is_named(folder, value, message):
    write_rows(folder / "train.jsonl", [row(1), value])
    with pytest.raises(DataError) as error:
        Gsm8k(str(folder)).load(TRAIN)
    assert str(error.value) == f"{folder / 'train.jsonl'}:2: {message}. {SKIPPED}"


def test_a_record_that_cannot_be_read_is_skipped_and_counted_if_asked(folder):
    broken = [{"question": "q", "answer": f"a\n#### {text}"} for text in ("three", "3 or four", "2 thirds", "8!")]
    write_rows(folder / "train.jsonl", [row(1), *broken, {"question": "q"}, {"question": 4, "answer": ""}, row(2)])
    with (folder / "train.jsonl").open("a") as handle:
        handle.write("no JSON\n")
    task = Gsm8k(str(folder), num_validation=3, skip_unreadable=True)
    assert ids(task.records(TRAIN)) == ["gsm8k-train-000000", "gsm8k-train-000007"]
    note = task.notes()[0]
    assert note.startswith("7 records of train skipped as unreadable (data.skip_unreadable): ")
    assert f"{folder / 'train.jsonl'}:2: the text behind '#### ' must be a number, got 'three'" in note
    assert note.endswith("; and 2 more")
    assert not any("skipped" in line for line in task.notes()[1:])


def test_a_file_of_which_nothing_can_be_read_is_an_error(folder):
    write_rows(folder / "train.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(DataError, match=r":1: 'answer' has no last line .*; data\.skip_unreadable leaves no record of"):
        Gsm8k(str(folder), skip_unreadable=True).load(TRAIN)


def test_a_folder_without_the_files_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.path: .* has no train\.jsonl or train\.jsonl\.gz$"):
        Gsm8k(str(tmp_path)).load(TRAIN)


def test_compressed_files_are_the_same_data(folder):
    plain = Gsm8k(str(folder), num_validation=12)
    questions, fingerprint = plain.load(TRAIN), plain.fingerprint()
    for name in ("train.jsonl", "test.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    compressed = Gsm8k(str(folder), num_validation=12)
    assert compressed.load(TRAIN) == questions
    assert compressed.fingerprint() == fingerprint


@pytest.mark.parametrize("file", ["train.jsonl", "test.jsonl"])
def test_the_fingerprint_follows_the_content(folder, file):
    before = Gsm8k(str(folder)).fingerprint()
    assert Gsm8k(str(folder), num_train=3, split_seed=5).fingerprint() == before
    text = (folder / file).read_text()
    (folder / file).write_text(text.replace("Ann", "Bob", 1))
    assert Gsm8k(str(folder)).fingerprint() != before


def test_the_hub_gives_the_same_as_local_files(folder, monkeypatch):
    """Only the download is replaced: rows arrive in the type that the datasets library serves them in."""
    datasets = pytest.importorskip("datasets")

    def load_dataset(name, config, split):
        assert (name, config) == ("openai/gsm8k", "main")
        lines = (folder / f"{split}.jsonl").read_text().splitlines()
        return datasets.Dataset.from_list([json.loads(line) for line in lines])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hub, local = Gsm8k(num_validation=12), Gsm8k(str(folder), num_validation=12)
    for split in (TRAIN, VALIDATION, TEST):
        assert hub.load(split) == local.load(split)
    assert hub.fingerprint() == local.fingerprint()


def test_a_full_disk_is_no_fault_of_the_hub(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def load_dataset(name, config, split):
        cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/x.arrow")
        raise datasets.exceptions.DatasetsError("An error occurred while generating the dataset") from cause

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DiskError, match=r"^/cache/x\.arrow: No space left on device"):
        Gsm8k().load(TRAIN)


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    """In a process of its own: the library reads its offline switch when it is imported."""
    code = (
        "from aft.errors import DataError\n"
        "from aft.tasks.gsm8k import Gsm8k\n"
        "try:\n    Gsm8k().load('train')\n"
        "except DataError as error:\n    print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=HUNG_AFTER
    )
    assert result.returncode == 0, result.stderr
    assert "data set openai/gsm8k (main) cannot be loaded from the hub: " in result.stdout
    assert "data.path=DIR takes a folder with train.jsonl and test.jsonl" in result.stdout


def test_importing_the_task_is_light():
    modules = "aft.tasks.gsm8k, aft.labelling.labels, aft.prompts"
    code = f"import sys, {modules}; print('datasets' in sys.modules, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HUNG_AFTER)
    assert result.stdout == "False False\n", result.stderr


def test_all_of_gsm8k():
    folder = str(shared_path("data", "gsm8k"))
    task = Gsm8k(folder)
    splits = {split: task.load(split) for split in (TRAIN, VALIDATION, TEST)}
    assert {split: len(questions) for split, questions in splits.items()} == {TRAIN: 7473, VALIDATION: 400, TEST: 919}
    for question in [question for questions in splits.values() for question in questions]:
        response = task.reference_response(question)
        extraction = task.extract_answer(response)
        assert extraction.answer == question.answer.replace(",", "")
        assert task.is_correct(extraction.answer, question)
        assert task.extract_answer(response + ".") == extraction  # as the paper prints it
    assert not set(ids(splits[VALIDATION])) & set(ids(splits[TEST]))
    unannotated = Gsm8k(folder, keep_annotations=False)
    questions = [question for split in splits for question in unannotated.load(split)]
    assert sum("<<" in question.rationale or ">>" in question.rationale for question in questions) == 0
    # which questions are held out must never move: every hyper-parameter chosen on validation hangs on it
    assert ids(splits[VALIDATION])[:3] == ["gsm8k-test-001101", "gsm8k-test-000120", "gsm8k-test-000474"]
    assert ids(splits[TRAIN])[:3] == ["gsm8k-train-004530", "gsm8k-train-006017", "gsm8k-train-004120"]
    assert task.fingerprint().startswith("a92d487fd2d756d9")
