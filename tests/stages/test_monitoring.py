"""What is measured while a model trains: the accuracy by which the best model is chosen is that of the evaluation."""

from __future__ import annotations

import itertools

import pytest
import torch

from aft.answers import extract_number, numbers_equal
from aft.config import load_config
from aft.config.schema import ValidationConfig
from aft.grading import grade_all
from aft.model import build_model, build_word_tokenizer
from aft.records import Question
from aft.sampling.decoding import Decoding
from aft.sampling.transformers_engine import TransformersEngine
from aft.stages.context import Stage
from aft.stages.monitoring import measure_accuracy
from aft.stages.plan import Plan
from tiny_models import CONFIGS

CONFIG = """\
output_dir: {folder}/run
data: {{name: arithmetic, num_validation: 3}}
model: {{name_or_path: {folder}/model, max_length: 64}}
prompt: {{template: "{{question}}"}}
stages: [evaluate]
evaluate: {{models: [base], max_new_tokens: {limit}}}
"""
WORDS = ["ask", "[ANS]", "12", "apples"]
TOKENIZER = build_word_tokenizer(WORDS)


class Numbers:
    """A task whose answers are numbers behind a marker."""

    def load(self, split, *, seed=0):
        return [Question(f"{split}-{n}", "ask", "12") for n in range(3)]

    def extract_answer(self, completion, question=None):
        return extract_number(completion, "[ANS]")

    def is_correct(self, answer, question):
        return numbers_equal(answer, question.answer)

    def fingerprint(self):
        return "numbers"

    def notes(self):
        return []


def speaker():
    """A model that answers `[ANS] 12 apples` and ends."""
    model = build_model("llama", CONFIGS["llama"], TOKENIZER, seed=0).eval()
    ids = [*TOKENIZER.convert_tokens_to_ids(WORDS), TOKENIZER.eos_token_id]
    following = dict(itertools.pairwise(ids))

    def overwrite(_, args, inputs, output):
        for row, last in enumerate(inputs["input_ids"][:, -1].tolist()):
            output.logits[row, -1, following.get(last, TOKENIZER.eos_token_id)] = 1e4

    model.register_forward_hook(overwrite, with_kwargs=True)
    return model


@pytest.mark.parametrize(
    ("limit", "text", "accuracy"),
    # `12` at the limit may be what is left of 120
    [(2, "[ANS] 12", 0.0), (3, "[ANS] 12 apples", 1.0), (4, "[ANS] 12 apples", 1.0)],
)
def test_an_answer_cut_by_the_length_limit_is_not_right_while_validating(tmp_path, limit, text, accuracy):
    (tmp_path / "run.yaml").write_text(CONFIG.format(folder=tmp_path, limit=limit), encoding="utf-8")
    task, model = Numbers(), speaker()
    stage = Stage(Plan(load_config(tmp_path / "run.yaml"), task), cpu=True)
    validation = ValidationConfig(batch_size=2)
    with torch.no_grad():
        found = measure_accuracy(stage, stage.texts(TOKENIZER), validation, seed=0)(model)
    assert found == {"task_accuracy": accuracy, "parsed": accuracy, "ended": float(limit == 4)}
    # and evaluation says the same of the same completions
    questions, engine = task.load("validation"), TransformersEngine(model, TOKENIZER, 2)
    requests = stage.requests(stage.texts(TOKENIZER), questions, [0], purpose="validate", seed=0)
    completions = list(engine.generate(engine.plan(requests), Decoding(limit, 0.0)))
    assert {completion.completion for completion in completions} == {text}
    assert [line["is_correct"] for line in grade_all(task, completions, questions)] == [accuracy == 1.0] * 3
