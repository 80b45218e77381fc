"""aft-convert: files in and out, what is printed, and every wrong argument or file in one clear line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from aft.config import load_config
from aft.config.schema import PromptConfig
from aft.json_files import write_json_lines
from aft.progress import Progress
from aft.records import Candidate, Group, read_groups
from aft.run.manifest import UnitLog
from aft.stages.context import Stage
from aft.stages.plan import DONE, Plan
from aft.stages.train import run_align
from aft.text_files import read_text
from planted_text import IN_A_FILE, SECRET, is_clean
from tiny_models import tiny_model, word_tokenizer

GROUP = Group(
    "q1",
    "Half of 漢?",
    "1",
    "ref",
    (
        Candidate("a", 1.0, "positive", "1", index=0),
        Candidate("b", 0.0, "negative", "2", index=1),
        Candidate("c", 0.0, "unparsed", truncated=True, index=2),
    ),
)
ROW = {"prompt": "p", "chosen": "a", "rejected": "b"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with groups.jsonl and prefs.jsonl, which the command runs in."""
    monkeypatch.chdir(tmp_path)
    write_json_lines("groups.jsonl", [GROUP])
    write_json_lines("prefs.jsonl", [ROW])
    return tmp_path


@pytest.fixture
def convert(command, folder):
    """`convert("--to", ...)` runs aft-convert there; it must end well, and what it printed is returned."""

    def convert_here(*arguments: object) -> str:
        ran = command("convert", *arguments)
        assert (ran.code, ran.err) == (0, "")
        return ran.out

    return convert_here


@pytest.fixture
def refused(command, folder):
    """The message of aft-convert, which must end with `code`."""

    def refuse(*arguments: object, code: int = 2) -> str:
        ran = command("convert", *arguments)
        assert ran.code == code
        return ran.err.removeprefix("aft: error: ").rstrip("\n")

    return refuse


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


# ---- from groups ----


def test_what_is_printed(convert):
    assert convert("--to", "preference", "groups.jsonl", "out.jsonl", "--pairs", "best-worst") == (
        "1  groups\n"
        "0  groups without a pair, left out\n"
        "3  candidates\n"
        "1  candidates in no pair, left out\n"
        "0  truncated candidates, kept\n"
        "0  truncated candidates, left out\n"
        "0  pairs of the same text, left out\n"
        "1  pairs not selected, left out\n"
        "1  rows (pairs)\n"
        "wrote out.jsonl, prompts as 'Question: {question}\\nAnswer:\\n'"
        " (the default of prompt.template: INPUT lies in no run's folder)\n"
    )


@pytest.mark.parametrize(
    ("target", "options", "expected"),
    [
        ("preference", [], [("a", "b"), ("a", "c")]),
        ("preference", ["--drop-truncated"], [("a", "b")]),
        ("preference", ["--min-rating-gap", "0.5", "--pairs", "one", "--seed", "0"], [("a", "c")]),
        ("unpaired", [], [("a", True), ("b", False), ("c", False)]),
        ("unpaired", ["--threshold", "-1"], [("a", True), ("b", True), ("c", True)]),
        ("prompt-completion", [], [("ref",), ("a",)]),
        ("prompt-completion", ["--completions", "best"], [("a",)]),
    ],
)
def test_options_reach_the_rows(convert, target, options, expected):
    convert("--to", target, "groups.jsonl", "out.jsonl", *options)
    found = lines("out.jsonl")
    columns = [key for key in ("chosen", "rejected", "completion", "label") if key in found[0]]
    assert [tuple(row[column] for column in columns) for row in found] == expected
    # with the defaults, the very prompt that a run gives its model
    assert {row["prompt"] for row in found} == {PromptConfig().template.replace("{question}", GROUP.question)}


@pytest.mark.parametrize(
    ("options", "prompt"),
    [
        (["--template", r"Q: {question}\nA:\\n"], "Q: Half of 漢?\nA:\\n"),  # \n as a shell passes it on
        (["--template", "{question}\n"], "Half of 漢?\n"),
        (["--conversational"], [{"role": "user", "content": "Half of 漢?"}]),
        (
            ["--conversational", "--system", "Think.", "--template", "<{question}>"],
            [{"role": "system", "content": "Think."}, {"role": "user", "content": "<Half of 漢?>"}],
        ),
    ],
)
def test_prompts(convert, options, prompt):
    convert("--to", "unpaired", "groups.jsonl", "out.jsonl", *options)
    assert lines("out.jsonl")[0]["prompt"] == prompt


RUN_CONFIG = "output_dir: run\ndata: {name: arithmetic}\nmodel: {name_or_path: a/b}\nprompt: "


@pytest.mark.parametrize(
    ("section", "options", "prompt", "told"),
    [
        ("{template: '{question} ='}", [], "Half of 漢? =", "'{question} =' (prompt.template of run/config.yaml)"),
        ("{template: '{question} ='}", ["--template", "{question}"], "Half of 漢?", "'{question}' (--template)"),
        (
            "{template: '{question} ='}",
            ["--conversational"],
            [{"role": "user", "content": "Half of 漢?"}],
            "'{question}' (the default of turns)",
        ),
        (
            "{template: '{question} =', chat: true, system: Think.}",
            ["--conversational"],
            [{"role": "system", "content": "Think."}, {"role": "user", "content": "Half of 漢? ="}],
            "'{question} =' (prompt.template of run/config.yaml) behind the system turn 'Think.'",
        ),
        (
            "{template: '{question} =', chat: true, system: Think.}",
            ["--conversational", "--system", "Act."],
            [{"role": "system", "content": "Act."}, {"role": "user", "content": "Half of 漢? ="}],
            "'{question} =' (prompt.template of run/config.yaml) behind the system turn 'Act.'",
        ),
        (
            "{template: '{question} =', chat: true}",
            [],
            "Half of 漢? =",
            "'{question} =' (prompt.template of run/config.yaml, whose prompt.chat makes a turn of it:"
            " --conversational)",
        ),
    ],
)
@pytest.mark.parametrize("name", ["groups.jsonl", "pool.jsonl"])
def test_prompts_are_those_of_the_run_that_made_the_groups(convert, section, options, prompt, told, name):
    write_json_lines(f"run/seed-3/label/{name}", [GROUP])
    Path("run/config.yaml").write_text(RUN_CONFIG + section)
    printed = convert("--to", "unpaired", f"run/seed-3/label/{name}", "out.jsonl", *options)
    assert printed.endswith(f"\nwrote out.jsonl, prompts as {told}\n")
    assert lines("out.jsonl")[0]["prompt"] == prompt


def test_the_run_is_found_from_within_it(convert, monkeypatch):
    write_json_lines("run/seed-0/label/groups.jsonl", [GROUP])
    write_json_lines("run/seed-0/other/groups.jsonl", [GROUP])
    Path("run/config.yaml").write_text(RUN_CONFIG + "{template: '{question} ='}")
    monkeypatch.chdir("run/seed-0/label")
    assert "(prompt.template of ../../config.yaml)" in convert("--to", "unpaired", "groups.jsonl", "out.jsonl")
    assert "no run's folder)" in convert("--to", "unpaired", "../other/groups.jsonl", "out2.jsonl")
    monkeypatch.chdir("..")
    convert("--to", "llama-factory-ranking", "label/groups.jsonl", "out.json")
    assert json.loads(Path("out.json").read_text(encoding="utf-8"))[0]["instruction"] == GROUP.question


def test_a_run_whose_configuration_cannot_be_read(refused, convert):
    write_json_lines("run/seed-0/label/groups.jsonl", [GROUP])
    Path("run/config.yaml").write_text(RUN_CONFIG + "{templat: x}")
    arguments = ("--to", "unpaired", "run/seed-0/label/groups.jsonl", "out.jsonl")
    found = refused(*arguments)
    assert "--template: not given, so prompt.template was looked for in run/config.yaml\n" in found
    assert "run/config.yaml: prompt.templat" in found and not Path("out.jsonl").exists()
    convert(*arguments, "--template", "{question}")


def test_long_work_shows_how_far_it_is(command, folder, monkeypatch):
    class Slow(Progress):
        def __init__(self, *arguments: object, delay: float) -> None:
            super().__init__(*arguments, delay=0.0)

    monkeypatch.setattr("aft.progress.Progress", Slow)
    ran = command("convert", "--to", "preference", "groups.jsonl", "out.jsonl")
    assert ran.code == 0 and {"converting (1)", "writing 100 % (2/2)"} <= set(ran.err.splitlines())


def test_lists_and_packed_files_hold_the_same_rows(convert):
    for name in ("out.jsonl", "out.json", "out.jsonl.gz", "out.json.gz"):
        convert("--to", "preference", "groups.jsonl", name)
    rows = lines("out.jsonl")
    assert json.loads(Path("out.json").read_text(encoding="utf-8")) == rows
    assert gzip.decompress(Path("out.jsonl.gz").read_bytes()) == Path("out.jsonl").read_bytes()
    assert json.loads(gzip.decompress(Path("out.json.gz").read_bytes())) == rows
    for name in ("out.jsonl", "out.json", "out.jsonl.gz", "out.json.gz"):
        convert("--to", "groups", name, "back.jsonl", "--overwrite")
        assert [group.question_id for group in read_groups("back.jsonl")] == ["q1"]


def test_half_a_surrogate_pair_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json_lines("groups.jsonl", [Group("q", "?", "", None, (Candidate("\ud800", 1.0, "positive"),))])
    ran = command("convert", "--to", "unpaired", "groups.jsonl", "out.json")
    assert ran.code == 3 and "groups.jsonl:1: cannot be read as JSON: 'completion' holds half of a surrogate" in ran.err


# ---- LLaMA-Factory ----

ENTRY = {
    "file_name": "chains.json",
    "ranking": True,
    "columns": {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"},
}


def info() -> dict[str, Any]:
    return json.loads(Path("dataset_info.json").read_text(encoding="utf-8"))


def test_ranking_data_comes_with_its_description(convert):
    Path("dataset_info.json").write_text('{"other": {"file_name": "other.json"}}')
    assert convert("--to", "llama-factory-ranking", "groups.jsonl", "chains.json").endswith(
        "wrote chains.json, prompts as '{question}' (the default of turns)\nwrote dataset_info.json\n"
    )
    assert info() == {"other": {"file_name": "other.json"}, "chains": ENTRY}
    rows = json.loads(Path("chains.json").read_text(encoding="utf-8"))
    assert [(row["instruction"], row["chosen"], row["rejected"]) for row in rows] == [
        ("Half of 漢?", "a", "b"),
        ("Half of 漢?", "a", "c"),
    ]
    convert("--to", "llama-factory-ranking", "groups.jsonl", "chains.json", "--system", "Think.", "--overwrite")
    assert info()["chains"]["columns"] == {**ENTRY["columns"], "system": "system"}
    assert {row["system"] for row in json.loads(Path("chains.json").read_text(encoding="utf-8"))} == {"Think."}


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (
            '{"chains": {"file_name": "chains.csv"}}',
            2,
            "OUTPUT: dataset_info.json describes another data set 'chains'; --overwrite replaces its entry",
        ),
        ("[]", 3, "dataset_info.json: expected a JSON object, got list"),
        ("{", 3, "dataset_info.json:1: not JSON: Expecting property name enclosed in double quotes"),
    ],
)
def test_a_description_that_cannot_be_added_leaves_all_as_it_was(refused, content, code, message):
    Path("dataset_info.json").write_text(content)
    found = refused("--to", "llama-factory-ranking", "groups.jsonl", "chains.json", code=code)
    assert found.startswith(message)
    assert Path("dataset_info.json").read_text() == content and not Path("chains.json").exists()


# ---- to groups ----


def test_groups_of_a_preference_set(convert):
    write_json_lines("prefs.jsonl", [{**ROW, "source": "x"}, {**ROW, "source": "x", "rejected": "c"}])
    assert convert("--to", "groups", "prefs.jsonl", "run/seed-0/label/groups.jsonl") == (
        "2  rows\n"
        "0  rows of two equal completions, no pair\n"
        "0  rows that repeat an earlier one\n"
        "1  groups (prompts)\n"
        "0  groups without a candidate\n"
        "3  candidates\n"
        "2  pairs in the rows\n"
        "0  pairs that follow from these\n"
        "0  pairs that ratings alone add\n"
        "columns not read: source\n"
        "wrote run/seed-0/label/groups.jsonl\n"
        'a run on it needs prompt: {template: "{question}"} and, as there are no references, align: {supervise:'
        " reference_and_positives}\n"
    )
    (group,) = read_groups("run/seed-0/label/groups.jsonl")
    assert (group.question_id, group.question, group.answer, group.reference) == ("prefs-000000", "p", "", None)
    assert [(c.completion, c.rating) for c in group.candidates] == [("a", 1.0), ("b", 0.0), ("c", 0.0)]


def test_keys_of_messages_that_are_not_read_are_named(convert):
    user = {"role": "user", "content": "p", "name": "Ann"}
    turns = {"chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}
    write_json_lines("prefs.jsonl", [{"prompt": [user], **turns}])
    printed = convert("--to", "groups", "prefs.jsonl", "out.jsonl")
    assert "\nkeys of messages not read: name (1 rows)\n" in printed and "columns not read" not in printed


def test_how_a_run_must_write_the_prompts(convert):
    convert("--to", "preference", "groups.jsonl", "a.jsonl", "--template", r"Q: {question}\n")
    printed = convert("--to", "groups", "a.jsonl", "a-groups.jsonl", "--template", r"Q: {question}\n")
    assert 'prompt: {template: "Q: {question}\\n"} and' in printed
    convert("--to", "preference", "groups.jsonl", "b.json", "--conversational", "--system", "Think.")
    printed = convert("--to", "groups", "b.json", "b-groups.jsonl")
    assert 'prompt: {template: "{question}", chat: true, system: "Think."} and' in printed
    for name in ("a", "b"):
        assert [group.question for group in read_groups(f"{name}-groups.jsonl")] == [GROUP.question]


def test_tables_of_datasets(convert, refused, folder):
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    table = Dataset.from_list([ROW, {**ROW, "prompt": "p2"}])
    table.to_parquet("table.parquet")
    table.save_to_disk("saved")
    DatasetDict({"train": table, "test": table}).save_to_disk("splits")
    for source in ("table.parquet", "saved", "splits/train"):
        convert("--to", "groups", source, "out.jsonl", "--overwrite", "--ratings", "order")
        assert [group.question for group in read_groups("out.jsonl")] == ["p", "p2"]
    assert refused("--to", "groups", "splits", "out2.jsonl", code=3) == (
        "splits: has several splits; name one of them: splits/train, splits/test"
    )
    assert refused("--to", "groups", ".", "out2.jsonl", code=3).startswith(".: cannot be read: ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", '[{"a": 1},\n\n{"a" 1}]', "x.json:3: not JSON: Expecting ':' delimiter at column 6"),
        ("x.json", f"[{json.dumps(ROW)}, 3]", "x.json: row 2: expected a JSON object, got int"),
        ("x.json", '{"a": 1}\n{', "x.json:1: missing 'chosen' (the row has 'a')."),
        (
            "x.jsonl",
            '\n{"prompt": "p", "rejected": "b"}',
            "x.jsonl:2: missing 'chosen' (the row has 'prompt', 'rejected').",
        ),
        ("x.csv", "a,b", "x.csv: expected .jsonl, .json (either also .gz), .parquet or a folder of save_to_disk"),
        ("x.jsonl.gz", "no gzip", "x.jsonl.gz: cannot be read: Not a gzipped file (b'no')"),
        ("x.parquet", "no parquet", "x.parquet: cannot be read: "),
        ("x.jsonl", "", "x.jsonl: nothing to write, the counts say why"),
    ],
)
def test_a_file_that_cannot_be_read(refused, name, content, message):
    Path(name).write_text(content)
    assert refused("--to", "groups", name, "out.jsonl", code=3).startswith(message)
    assert not Path("out.jsonl").exists()


def test_a_list_that_is_too_large_says_the_way_on(refused, monkeypatch):
    Path("x.json").write_text(json.dumps([ROW] * 30_000))
    monkeypatch.setattr("aft.convert.files.read_text", lambda path: read_text(path, 2**20))
    assert refused("--to", "groups", "x.json", "out.jsonl", code=3) == (
        "x.json: larger than 1 MB; convert it to JSON lines, which are read one at a time"
    )


def test_skip_unusable(convert, refused):
    write_json_lines("prefs.jsonl", [ROW, {**ROW, "chosen": "b", "rejected": "a"}, {**ROW, "prompt": "p2"}])
    assert "its pairs contradict each other" in refused("--to", "groups", "prefs.jsonl", "out.jsonl", code=3)
    printed = convert("--to", "groups", "prefs.jsonl", "out.jsonl", "--skip-unusable")
    assert "1  prompts left out: its pairs contradict each other\n" in printed
    assert [group.question for group in read_groups("out.jsonl")] == ["p2"]


def test_a_run_aligns_on_an_imported_set(convert, folder):
    rows = [{"prompt": f"{letter} ?", "chosen": "a b c", "rejected": rejected} for letter in "efg" for rejected in "dc"]
    write_json_lines("prefs.jsonl", rows)
    convert("--to", "groups", "prefs.jsonl", "run/seed-0/label/groups.jsonl")
    tiny_model().save_pretrained("base")
    word_tokenizer().save_pretrained("base")
    Path("questions.jsonl").write_text('{"question": "h ?", "answer": "1"}\n')
    Path("run.yaml").write_text(
        "output_dir: run\ndata: {name: jsonl, test: questions.jsonl}\nmodel: {name_or_path: base}\n"
        'prompt: {template: "{question}"}\nstages: [align]\nalign: {supervise: reference_and_positives}\n'
        "training: {per_device_train_batch_size: 3, max_steps: 2, logging_steps: 1, learning_rate: 1e-2}\n"
    )
    plan = Plan(load_config("run.yaml"))
    (unit,) = plan.units("align")
    plan.check_reads("align")
    log = UnitLog(unit.folder, plan.inputs(unit))
    run_align(Stage(plan, cpu=True), unit, log)
    assert plan.status(unit).state == DONE
    history = json.loads((unit.folder / "trainer_state.json").read_text())["log_history"]
    first = next(entry for entry in history if "loss/align" in entry)
    assert first["groups/without_pair"] == 0 and first["loss/align"] > 0 and first["loss/vft"] > 0
    manifest = json.loads((unit.folder / "manifest.json").read_text())
    assert manifest["entries"] == 3 and manifest["responses"]["responses"] == 9


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--to", "preferences"],
            "--to: got 'preferences', allowed: preference, unpaired, prompt-completion, llama-factory-ranking, groups."
            " Did you mean 'preference'?",
        ),
        (["--to", "preference", "--pears", "all"], "unknown argument --pears. Did you mean '--pairs'?"),
        (
            ["--to", "preference", "--pairs", "best"],
            "--pairs: got 'best', allowed: all, covering, best-worst, one.",
        ),
        (
            ["--to", "unpaired", "--pairs", "all", "--ratings", "order"],
            "2 problems:\n  - --pairs: only with --to preference or llama-factory-ranking, not with unpaired\n"
            "  - --ratings: only with --to groups, not with unpaired",
        ),
        (
            ["--to", "unpaired", "--min-rating-gap", "0"],
            "--min-rating-gap: only with --to preference or llama-factory-ranking, not with unpaired",
        ),
        (["--to", "preference", "--seed", "0"], "--seed: only with --pairs one, which draws"),
        (["--to", "preference", "--system", "x"], "--system: only with --conversational; a text has no turns"),
        (["--to", "preference", "--min-rating-gap", "-1"], "--min-rating-gap: must be at least 0 and finite, got -1.0"),
        (["--to", "unpaired", "--threshold", "nan"], "--threshold: must be finite, got nan"),
        (
            ["--to", "preference", "--template", "Q: {qestion}"],
            "the prompt template has no {question}: got 'Q: {qestion}', it has {qestion} instead",
        ),
    ],
)
def test_wrong_arguments(refused, arguments, message):
    assert refused(*arguments, "groups.jsonl", "out.jsonl") == message
    assert not Path("out.jsonl").exists()


def test_nothing_is_overwritten_unless_asked(refused, convert):
    Path("out.jsonl").write_text("mine")
    arguments = ("--to", "preference", "groups.jsonl", "out.jsonl")
    assert refused(*arguments) == "OUTPUT: out.jsonl is there already; --overwrite replaces it"
    assert Path("out.jsonl").read_text() == "mine"
    convert(*arguments, "--overwrite")
    assert len(lines("out.jsonl")) == 2
    assert refused("--to", "preference", "groups.jsonl", "./groups.jsonl", "--overwrite") == (
        "OUTPUT: groups.jsonl is INPUT"
    )


@pytest.mark.parametrize(
    ("target", "output", "message"),
    [
        ("preference", "out.txt", "OUTPUT: out.txt must end in .jsonl or .json or .jsonl.gz or .json.gz"),
        ("preference", ".json", "OUTPUT: .json must end in .jsonl or .json or .jsonl.gz or .json.gz"),
        ("llama-factory-ranking", "out.json.gz", "OUTPUT: out.json.gz must end in .jsonl or .json"),
        ("groups", "out.json", "OUTPUT: out.json must end in .jsonl or .jsonl.gz"),
        ("preference", "groups.jsonl/out.jsonl", "OUTPUT: groups.jsonl/out.jsonl cannot be written: "),
    ],
)
def test_an_output_that_cannot_be_written(refused, target, output, message):
    source = "prefs.jsonl" if target == "groups" else "groups.jsonl"
    assert refused("--to", target, source, output).startswith(message)


def test_an_input_that_is_no_groups_file_or_has_no_pair(refused):
    assert refused("--to", "preference", "prefs.jsonl", "out.jsonl", code=3).startswith(
        "prefs.jsonl:1: missing 'candidates'"
    )
    assert refused("--to", "preference", "gone.jsonl", "out.jsonl", code=3) == (
        "gone.jsonl: cannot be read: No such file or directory"
    )
    write_json_lines("groups.jsonl", [Group("q", "?", "", None, ())])
    assert refused("--to", "preference", "groups.jsonl", "out.jsonl", code=3) == (
        "groups.jsonl: nothing to write, the counts say why"
    )


def test_names_and_texts_of_a_file_are_shown(convert, refused, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    user = {"role": "user", "content": "p", IN_A_FILE: "Ann"}
    turns = {"chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}
    write_json_lines(
        "prefs.jsonl", [{"prompt": [{"role": "system", "content": IN_A_FILE}, user], **turns, IN_A_FILE: 1}]
    )
    printed = convert("--to", "groups", "prefs.jsonl", "out.jsonl")
    assert is_clean(printed) and printed.count("***") == 3
    for row in (
        {IN_A_FILE: 1},
        {**ROW, "prompt": [{"role": IN_A_FILE, "content": "x"}]},
        {**ROW, "chosen": {IN_A_FILE: 1}},
    ):
        write_json_lines("prefs.jsonl", [row])
        message = refused("--to", "groups", "prefs.jsonl", "other.jsonl", code=3)
        assert is_clean(message) and "Traceback" not in message
