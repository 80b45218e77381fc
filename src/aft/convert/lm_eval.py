"""Exports a run's questions as a task of the lm-evaluation-harness (0.4 or newer). Others can then check our figures.

The folder has the questions with their exact prompts, and up to two tasks. The first task is scored by our own
extraction and equality. The plain task is scored by the harness's filters and exact match and does not need `aft`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ..config import Config
from ..errors import ConfigError
from ..json_files import write_json, write_json_lines, write_text
from ..markdown import code
from ..prompts import render_prompt
from ..records import Question
from ..shown import UNSEEN
from ..tasks import Task, make_task

QUESTIONS, DATA, UTILS = "questions.jsonl", "task.json", "utils.py"
IGNORED = [",", r"\$", r"\.$", "[()]"]  # text that the plain task's exact match ignores

SCORING = '''\
"""Scores a completion as `aft` does, with the task's own extraction and equality. Needs the package `aft`."""

import json
from pathlib import Path

from aft.records import Question
from aft.tasks import make_task

TASK = make_task(**json.loads(Path(__file__).with_name("task.json").read_text(encoding="utf-8")))


def process_results(doc, results):
    """1.0 or 0.0: whether the answer is right, and whether none was found."""
    question = Question(
        id=doc["id"],
        question=doc["question"],
        answer=doc["answer"],
        options=tuple(doc["options"]) if doc.get("options") else None,
        category=doc.get("category"),
    )
    answer = TASK.extract_answer(results[0], question).answer
    is_correct = answer is not None and TASK.is_correct(answer, question)
    return {"task_accuracy": float(is_correct), "unparsed": float(answer is None)}
'''

README = """\
# {name}

{count} questions of `{data}` ({split} split, seed {seed}), exported for the lm-evaluation-harness. Run in this folder,
because the tasks name their questions relative to it:

```bash
lm_eval --model hf --model_args pretrained=MODEL{dtype} --include_path . --tasks {tasks} --device cpu
```

- `{name}` is scored by `utils.py`: the extraction and equality of `aft`, which must be installed. `task_accuracy` is
  then the same figure as in a run's metrics.json, and `unparsed` the share of completions without an answer.
{plain}
`questions.jsonl` has the exact prompt of each question.{chat} Decoding: {decoding}, up to {tokens} new tokens, ended by
the model's end token alone. Figures can differ in single answers where two tokens are almost equally likely, because
batches are padded in another way.
"""


def export_lm_eval(config: Config, folder: Path) -> list[Path]:
    """Writes the questions of `evaluate` for the first seed as a harness task into `folder`. Returns the files' paths.

    Raises `ConfigError` if `folder` is a file or there are no questions, and `DataError` if the data cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--export-lm-eval: {folder} is a file, not a folder")
    arguments = dataclasses.asdict(config.data)
    task = make_task(**dict(arguments))
    section = config.evaluate
    questions = task.load(section.split, seed=config.seeds[0])[: section.num_questions]
    if not questions:
        raise ConfigError(f"evaluate.split: the {section.split} split has no questions to export")
    name = f"aft_{config.data.name}"
    write_json_lines(folder / QUESTIONS, [_document(question, config) for question in questions])
    write_json(folder / DATA, arguments)
    write_text(folder / UTILS, SCORING)
    write_text(folder / f"{name}.yaml", _yaml(_settings(name, config, _own_scoring()), "utils.process_results"))
    names, pattern = [name], plain_pattern(task, questions)
    if pattern is not None:
        names.append(f"{name}_plain")
        write_text(folder / f"{names[1]}.yaml", _yaml(_settings(names[1], config, _plain_scoring(pattern))))
    write_text(folder / "README.md", _readme(names, config, len(questions)))
    return [folder / file for file in (QUESTIONS, DATA, UTILS, *(f"{task}.yaml" for task in names), "README.md")]


def _document(question: Question, config: Config) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.question,
        "answer": question.answer,
        "options": None if question.options is None else list(question.options),
        "category": question.category,
        "prompt": render_prompt(question.question, config.prompt.template),
    }


def _settings(name: str, config: Config, scoring: dict[str, Any]) -> dict[str, Any]:
    section = config.evaluate
    sampled = section.temperature > 0
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": QUESTIONS}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "num_fewshot": 0,
        "generation_kwargs": {
            "until": [],
            "do_sample": sampled,
            **({"temperature": section.temperature} if sampled else {}),
            "max_gen_toks": section.max_new_tokens,
        },
        **scoring,
        "metadata": {"version": 1.0},
    }


def _own_scoring() -> dict[str, Any]:
    metrics = (("task_accuracy", True), ("unparsed", False))
    return {
        "metric_list": [{"metric": key, "aggregation": "mean", "higher_is_better": up} for key, up in metrics],
    }


def _plain_scoring(pattern: str) -> dict[str, Any]:
    regex = {"function": "regex", "regex_pattern": pattern, "group_select": -1}
    return {
        "filter_list": [{"name": "last-marker", "filter": [regex, {"function": "take_first"}]}],
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "regexes_to_ignore": IGNORED,
            }
        ],
    }


def plain_pattern(task: Task, questions: Sequence[Question]) -> str | None:
    """Returns a regular expression for the text after the task's marker, or None if the task is not plain.

    A task is plain if it has a marker and grades `marker answer` as right for every question.
    """
    marker = getattr(task, "marker", None)
    if not isinstance(marker, str):
        return None
    for question in questions:
        answer = task.extract_answer(f"{marker} {question.answer}", question).answer
        if answer is None or not task.is_correct(answer, question):
            return None
    return re.escape(marker) + r"[ \t]*([^\n]+)"


def _yaml(settings: dict[str, Any], function: str | None = None) -> str:
    """Returns the settings as YAML. `function` is written with the harness's tag for a function in a local file."""
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=1000)
    if UNSEEN.search(text):
        text = yaml.safe_dump(settings, sort_keys=False, width=1000)  # in ASCII, with escapes
    return text + (f"process_results: !function {function}\n" if function else "")


def _readme(names: Sequence[str], config: Config, count: int) -> str:
    section = config.evaluate
    plain = (
        f"- `{names[1]}` needs no `aft`: the text behind the last marker must equal the gold answer, apart from\n"
        "  commas, `$`, brackets and a final period. Stricter: other spellings of a right answer are wrong to it.\n"
        if len(names) > 1
        else "\nThere is no plain task: its answers are not simply the text behind a marker.\n"
    )
    chat = ""
    if config.prompt.chat:
        chat = " It is a user's turn: add `--apply_chat_template`"
        chat += (
            f" and {code(f'--system_instruction {json.dumps(config.prompt.system)}')}." if config.prompt.system else "."
        )
        chat += " The harness lets a chat template show the day on which it runs."
        chat += f" The run showed {config.prompt.date}." if config.prompt.date else " The run showed the day it began."
        if config.prompt.template_kwargs:
            chat += f" The run gave the chat template {code(json.dumps(config.prompt.template_kwargs))}."
    return README.format(
        name=names[0],
        count=f"{count:,}",
        data=config.data.name,
        split=section.split,
        seed=config.seeds[0],
        tasks=",".join(names),
        dtype=f",dtype={config.model.inference_dtype or config.model.dtype}",
        plain=plain,
        chat=chat,
        decoding="greedy" if section.temperature == 0 else f"temperature {section.temperature:g}",
        tokens=section.max_new_tokens,
    )
