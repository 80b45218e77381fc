"""The exported task scores completions as our own does, and its YAML is what the harness documents."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re

import pytest
import yaml

from aft.cli.report import main
from aft.config import load_config
from aft.convert.lm_eval import export_lm_eval, plain_pattern
from aft.errors import ConfigError
from aft.prompts import render_prompt
from aft.tasks import make_task

ARITHMETIC = """\
output_dir: {folder}/run
data: {{name: arithmetic, num_test: 20}}
model: {{name_or_path: a/b}}
prompt: {{template: "Q: {{question}} {{{{x}}}}\\nA:"}}
evaluate: {{max_new_tokens: 33, num_questions: 12}}
seeds: [3]
"""
CHOICES = """\
output_dir: {folder}/run
data: {{name: jsonl, test: {folder}/test.jsonl, answer_type: choice}}
model: {{name_or_path: a/b}}
"""
QUESTIONS = [
    {"question": "Which is red?", "options": ["grass", "a ripe tomato", "the sea"], "answer": "B", "category": "food"},
    {"question": "Which is wet?", "options": ["sand", "fire", "the sea"], "answer": "C"},
]


class Loader(yaml.SafeLoader):
    """Reads `!function file.name` as the harness does, but keeps the text."""


Loader.add_constructor("!function", lambda loader, node: ("function", loader.construct_scalar(node)))


def config_of(folder, text, *overrides):
    (folder / "run.yaml").write_text(text.format(folder=folder), encoding="utf-8")
    (folder / "test.jsonl").write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS), encoding="utf-8")
    return load_config(folder / "run.yaml", overrides)


def exported(folder):
    """(documents, the scoring function) of an exported folder, read as the harness reads them."""
    text = (folder / "questions.jsonl").read_text(encoding="utf-8")
    spec = importlib.util.spec_from_file_location("utils_of_export", folder / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [json.loads(line) for line in text.splitlines()], module.process_results


def completions_for(question):
    gold = question.answer
    return [
        f"so [ANS] {gold}",
        f"so [ANS] {gold}.",
        f"[ANS] 1 no, wait: [ANS] {gold}\nand so on",
        f"the answer is {gold}",
        "[ANS] $ 7,000.00",
        "[ANS] A",
        "[ANS] (C) the sea",
        "[ANS] a ripe tomato",
        "[ANS]",
        "",
    ]


@pytest.mark.parametrize("text", [ARITHMETIC, CHOICES], ids=["arithmetic", "choices"])
def test_a_completion_is_scored_as_by_our_own_task(text, tmp_path):
    config = config_of(tmp_path, text)
    export_lm_eval(config, tmp_path / "out")
    documents, process_results = exported(tmp_path / "out")
    task = make_task(**dataclasses.asdict(config.data))
    questions = {question.id: question for question in task.load("test", seed=config.seeds[0])}
    assert len(documents) == (12 if text == ARITHMETIC else 2)
    seen = set()
    for document in documents:
        question = questions[document["id"]]
        for completion in completions_for(question):
            answer = task.extract_answer(completion, question).answer
            right = answer is not None and task.is_correct(answer, question)
            found = process_results(document, [completion])
            assert found == {"task_accuracy": float(right), "unparsed": float(answer is None)}, completion
            seen.add((right, answer is None))
    assert seen == {(True, False), (False, False), (False, True)}


def test_the_yaml_is_what_the_harness_documents(tmp_path):
    config = config_of(tmp_path, ARITHMETIC)
    files = export_lm_eval(config, tmp_path / "out")
    assert sorted(path.name for path in files) == sorted(path.name for path in (tmp_path / "out").iterdir())
    own = yaml.load((tmp_path / "out" / "aft_arithmetic.yaml").read_text(encoding="utf-8"), Loader)
    assert own["task"] == "aft_arithmetic"
    assert own["output_type"] == "generate_until"
    assert own["process_results"] == ("function", "utils.process_results")
    # every metric that the scoring function returns is aggregated, and no other
    documents, process_results = exported(tmp_path / "out")
    assert {entry["metric"] for entry in own["metric_list"]} == set(process_results(documents[0], ["x"]))
    assert own["generation_kwargs"] == {"until": [], "do_sample": False, "max_gen_toks": 33}
    data = own["dataset_kwargs"]["data_files"][own["test_split"]]
    assert (tmp_path / "out" / data).exists() and own["dataset_path"] == "json"
    # the prompt is a column, so that no template language touches braces in it
    assert own["doc_to_text"] == "{{prompt}}"
    question = make_task(**dataclasses.asdict(config.data)).load("test", seed=3)[0]
    assert documents[0]["prompt"] == render_prompt(question.question, config.prompt.template)
    assert documents[0]["prompt"].startswith("Q: ") and "{{x}}" in documents[0]["prompt"]


def test_the_plain_task_reads_behind_the_last_marker(tmp_path):
    export_lm_eval(config_of(tmp_path, ARITHMETIC), tmp_path / "out")
    plain = yaml.load((tmp_path / "out" / "aft_arithmetic_plain.yaml").read_text(encoding="utf-8"), Loader)
    regex, first = plain["filter_list"][0]["filter"]
    assert (regex["function"], regex["group_select"], first) == ("regex", -1, {"function": "take_first"})
    found = re.findall(regex["regex_pattern"], "[ANS] 3 but no: [ANS] 41\n[ANS]  1,042.\nthe end")
    answer = found[regex["group_select"]].strip()
    for ignored in plain["metric_list"][0]["regexes_to_ignore"]:
        answer = re.sub(ignored, "", answer)
    assert answer == "1042"
    assert "process_results" not in plain


def test_a_task_whose_answers_are_not_behind_a_marker_has_no_plain_task(tmp_path):
    class Boxed:
        marker = "\\boxed"

        def extract_answer(self, completion, question=None):
            return make_task("arithmetic").extract_answer("nothing")

    questions = make_task("arithmetic").load("test")[:2]
    assert plain_pattern(Boxed(), questions) is None
    assert plain_pattern(object(), questions) is None
    assert plain_pattern(make_task("arithmetic"), questions) == r"\[ANS\][ \t]*([^\n]+)"


def test_sampling_and_chat_settings_are_carried_over(tmp_path):
    overrides = ["evaluate.temperature=0.7", "prompt.chat=true", "prompt.system=Be brief.", "evaluate.split=validation"]
    export_lm_eval(config_of(tmp_path, ARITHMETIC, *overrides), tmp_path / "out")
    own = yaml.load((tmp_path / "out" / "aft_arithmetic.yaml").read_text(encoding="utf-8"), Loader)
    assert own["generation_kwargs"] == {"until": [], "do_sample": True, "temperature": 0.7, "max_gen_toks": 33}
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "--apply_chat_template" in page and '--system_instruction "Be brief."' in page
    assert "12 questions of `arithmetic` (validation split, seed 3)" in page


def test_the_command_writes_the_folder_and_no_report(tmp_path, capsys):
    config_of(tmp_path, ARITHMETIC)
    with pytest.raises(SystemExit) as done:
        main(["--config", str(tmp_path / "run.yaml"), "--export-lm-eval", str(tmp_path / "out")])
    assert done.value.code == 0
    assert f"wrote {tmp_path / 'out' / 'aft_arithmetic.yaml'}" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--export-lm-eval: .*out is a file"):
        export_lm_eval(config_of(tmp_path, ARITHMETIC), tmp_path / "out")
