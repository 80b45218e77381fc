"""TRL reads the sets that aft-convert writes: one step of its trainers, with every row and column where it belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aft.convert import (
    Prompts,
    Selection,
    completion_rows,
    preference_groups,
    preference_rows,
    unpaired_rows,
)
from aft.convert.files import write_rows
from aft.records import Candidate, Group
from tiny_models import tiny_model, word_tokenizer

trl = pytest.importorskip("trl", reason="trl is not installed")
# its own dependencies warn of what is no business of ours
pytestmark = pytest.mark.filterwarnings("ignore")

GROUPS = [
    Group("q1", "a b", "1", "g h", (Candidate("c d", 1.0, "positive"), Candidate("e f ?", 0.0, "negative"))),
    Group("q2", "b a", "1", None, (Candidate("d", 0.0, "negative"), Candidate("f e", 1.0, "positive"))),
]
TEXT, CHAT = Prompts("{question} ? "), Prompts("{question}", conversational=True, system="z")
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] }} {{ m['content'] }} {% if m['role'] == 'assistant' %}<eos>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}a {% endif %}"
)


@pytest.fixture
def tokenizer() -> Any:
    found = word_tokenizer()
    found.chat_template = CHAT_TEMPLATE
    return found


@pytest.fixture
def load(tmp_path):
    """The rows as TRL's users load them: a local JSON file through `datasets`."""
    import datasets

    def through_a_file(rows: list[dict[str, Any]], suffix: str) -> Any:
        path = tmp_path / f"rows{suffix}"
        write_rows(path, rows)
        return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))

    return through_a_file


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "learning_rate": 1e-2,
    }


def texts(tokenizer: Any, ids: list[list[int]]) -> list[str]:
    return [tokenizer.decode(row) for row in ids]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz"])
@pytest.mark.parametrize("prompts", [TEXT, CHAT], ids=["text", "conversation"])
def test_dpo_takes_a_step_on_the_preference_set(tmp_path, tokenizer, load, prompts, suffix):
    rows, _ = preference_rows(GROUPS, prompts, Selection())
    trainer = trl.DPOTrainer(
        model=tiny_model(),
        ref_model=tiny_model(),
        args=trl.DPOConfig(**settings(tmp_path), beta=0.1),
        train_dataset=load(rows, suffix),
        processing_class=tokenizer,
    )
    seen = trainer.train_dataset
    before, after = ("a b ?", "b a ?") if prompts is TEXT else ("s z u a b a", "s z u b a a")
    assert texts(tokenizer, seen["prompt_ids"]) == [before, after]
    assert texts(tokenizer, seen["chosen_ids"]) == ["c d <eos>", "f e <eos>"]
    assert texts(tokenizer, seen["rejected_ids"]) == ["e f ? <eos>", "d <eos>"]
    trainer.train()
    logged = trainer.state.log_history[-1]
    # before its first update the policy is the reference: log 2
    assert logged["train_loss"] == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize("prompts", [TEXT, CHAT], ids=["text", "conversation"])
def test_kto_takes_a_step_on_the_unpaired_set(tmp_path, tokenizer, load, prompts):
    rows, _ = unpaired_rows(GROUPS, prompts)
    trainer = trl.KTOTrainer(
        model=tiny_model(),
        ref_model=tiny_model(),
        args=trl.KTOConfig(**settings(tmp_path)),
        train_dataset=load(rows, ".jsonl"),
        processing_class=tokenizer,
    )
    seen = trainer.train_dataset
    assert texts(tokenizer, seen["completion_ids"]) == ["c d <eos>", "e f ? <eos>", "d <eos>", "f e <eos>"]
    assert seen["label"] == [True, False, False, True]
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("prompts", [TEXT, CHAT], ids=["text", "conversation"])
def test_sft_takes_a_step_on_the_completions(tmp_path, tokenizer, load, prompts):
    rows, _ = completion_rows(GROUPS, prompts)
    trainer = trl.SFTTrainer(
        model=tiny_model(),
        args=trl.SFTConfig(**settings(tmp_path)),
        train_dataset=load(rows, ".jsonl"),
        processing_class=tokenizer,
    )
    labels = trainer.train_dataset["labels"]
    learned = texts(tokenizer, [[token for token in row if token != -100] for row in labels])
    assert learned == ["g h <eos>", "c d <eos>", "f e <eos>"]
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] > 0


@pytest.mark.parametrize("conversational", [False, True])
def test_an_implicit_prompt_is_found_where_trl_finds_it(conversational):
    if conversational:
        asked, answers = {"role": "user", "content": "a b"}, ({"role": "assistant", "content": c} for c in ("c", "d"))
        row = dict(zip(("chosen", "rejected"), ([asked, answer] for answer in answers), strict=True))
    else:
        row = {"chosen": "Q: a?\nA: it is one", "rejected": "Q: a?\nA: it is won"}
    theirs = trl.extract_prompt(row)
    (group,) = preference_groups([("row", row)]).groups
    ours = [group.question, *(candidate.completion for candidate in group.candidates)]
    columns = [theirs[key] for key in ("prompt", "chosen", "rejected")]
    assert ours == ([column[0]["content"] for column in columns] if conversational else columns)
