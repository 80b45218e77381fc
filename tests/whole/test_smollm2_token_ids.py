"""On a pretrained model: ids sampled are stored, trained on and scored, and what no text would give back is counted.

Prints the counts with `pytest -m slow -s`. Needs `models/smollm2-135m` (`make smollm2`), or AFT_SMOLLM2 with its path.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from aft.encoding import TextEncoder
from aft.json_files import write_json_lines
from aft.labelling.labels import label_completions
from aft.markdown import aligned
from aft.model import generation_ends, load_model, load_tokenizer
from aft.records import Completion, Question, read_completions, read_groups
from aft.sampling import Decoding, Request, TransformersEngine, make_seeds, transformers_engine
from aft.scoring.batching import Packer, StepSampler, entry_loader
from aft.scoring.entries import Encoder, alignment_entries, scoring_entries
from aft.scoring.forward import enable_scoring
from aft.scoring.responses import score_candidates
from aft.tasks import make_task

MODEL = Path(os.environ.get("AFT_SMOLLM2") or Path(__file__).parents[2] / "models" / "smollm2-135m")
NUM_QUESTIONS, NUM_SAMPLES, NUM_LONG = 25, 20, 20
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODEL.is_dir(), reason=f"no model in {MODEL}; `make smollm2` makes it"),
]


def questions() -> list[Question]:
    """Word problems whose answers need words, signs, foreign characters and code, so that many tokens occur."""
    topics = ("apples for 3 €", "naïve café guests", "lines of Python code", "家 houses", "emoji 🙂 stickers")
    return [
        Question(
            f"q{n}", f"Ann has {n + 2} {topic} and {name} has {2 * n}. How many have they together?", str(3 * n + 2)
        )
        for n, (topic, name) in enumerate((topic, name) for topic in topics for name in ("Bo", "Cy", "Di", "Ed", "Fay"))
    ]


def test_a_thousand_completions_of_smollm2(tmp_path, monkeypatch, capsys):
    tokenizer = load_tokenizer(str(MODEL))
    counts: Counter[str] = Counter()
    for chat, template in ((True, "{question}"), (False, "Question: {question}\nAnswer:\n")):
        model = load_model(str(MODEL)).eval()
        texts = TextEncoder(tokenizer, template, chat=chat, model_ends=generation_ends(str(MODEL)))
        counts.update(_check(model, texts, tmp_path / f"chat-{chat}", monkeypatch))
    total = counts["completions"]
    assert total == 2 * NUM_QUESTIONS * NUM_SAMPLES
    rows = [(name, f"{count:,}", f"{100 * count / total:.1f} %") for name, count in counts.items()]
    with capsys.disabled():
        print("\n" + aligned(("completions of SmolLM2", "count", "share"), rows))


def _check(model, texts: TextEncoder, folder: Path, monkeypatch) -> Counter[str]:
    chosen = questions()[:NUM_QUESTIONS]
    requests = [
        Request(q.id, tuple(texts.prompt(q.question)), make_seeds(q.id, range(NUM_SAMPLES), folder.name))
        for q in chosen
    ]
    written: list[list[int]] = []
    decode = transformers_engine.decode

    def listening(*args, **keywords):
        for place, ids in decode(*args, **keywords):
            written.append(list(ids))
            yield place, ids

    monkeypatch.setattr(transformers_engine, "decode", listening)
    engine = TransformersEngine(model, texts.tokenizer, 100, ends=texts.ends)
    sampled = [
        *engine.generate([requests[:13]], Decoding(12, 1.0)),
        *engine.generate([requests[13:]], Decoding(24, 1.0)),
    ]
    monkeypatch.undo()
    assert [list(completion.token_ids) for completion in sampled] == written
    counts = _counted(sampled, {q.id: q.question for q in chosen}, texts)

    # longer ones than there is time to sample: any tokens in any order
    generator = random.Random(0)
    ids = [token for token in range(len(texts.tokenizer)) if token not in texts.ends]
    for number in range(NUM_LONG):
        long = (*generator.choices(ids, k=400), texts.end)
        text = texts.tokenizer.decode(long[:-1], skip_special_tokens=True)
        question_id = chosen[number % len(chosen)].id
        sampled.append(Completion(question_id, NUM_SAMPLES + number, text, False, len(long), 0, long))

    write_json_lines(folder / "completions.jsonl", sampled)
    stored = read_completions(folder / "completions.jsonl")
    assert stored == sampled
    task = make_task("arithmetic")
    groups, _ = label_completions(chosen, {q.id: "The answer is 42." for q in chosen}, stored, task, deduplicate="none")
    write_json_lines(folder / "groups.jsonl", groups)
    groups = read_groups(folder / "groups.jsonl")
    encoder = Encoder(texts, 2**31)
    options = {"ranked": True, "pair_references": False, "seed": 0}
    trained = alignment_entries(groups, encoder, supervise="reference_and_positives", **options)
    scored = scoring_entries(groups, encoder)
    for question, (in_training,), (alone,) in zip(chosen, trained, scored, strict=True):
        own = sorted((c for c in sampled if c.question_id == question.id), key=lambda c: c.index)
        expected = [list(completion.token_ids) for completion in own]
        assert alone.responses == in_training.responses[1:] == expected
        assert alone.prompt_ids == in_training.prompt_ids == texts.prompt(question.question)
        assert in_training.responses[0][-1] == texts.end
    assert encoder.dropped == encoder.truncated == encoder.empty == 0
    short = dataclasses.replace(scored[0][0], responses=scored[0][0].responses[:8], ratings=scored[0][0].ratings[:8])
    _check_scores(model, [(dataclasses.replace(short, supervised=short.supervised[:8]),)])
    return counts


def _counted(sampled: list[Completion], asked: dict[str, str], texts: TextEncoder) -> Counter[str]:
    """How many completions their text would not give back, and what is special about them."""
    tokenizer, special = texts.tokenizer, set(texts.tokenizer.all_special_ids)
    again = TextEncoder(tokenizer, texts.template, chat=texts.chat, model_ends=texts.ends)
    counts: Counter[str] = Counter()
    for completion in sampled:
        ids, text, ended = list(completion.token_ids), completion.completion, not completion.truncated
        joint = again.response(asked[completion.question_id], text, ended=ended)
        alone = tokenizer(text, add_special_tokens=False)["input_ids"] + [texts.end] * ended
        found = {
            "completions": True,
            "truncated": completion.truncated,
            "ended by another end than the trained one": ended and ids[-1] != texts.end,
            "text encodes to other ids behind its prompt": joint != ids,
            "text encodes to other ids alone": alone != ids,
            "U+FFFD in the text": "\ufffd" in text,
            "special tokens inside": not special.isdisjoint(ids[:-1] if ended else ids),
            "ran past an end": texts.sampled(ids) != ids,
        }
        for kind, holds in found.items():
            counts[kind] += holds
    counts["no token boundary at the prompt's end"] = again.counts()["undivided"]
    return counts


def _check_scores(model, entries) -> None:
    """The scores are those of a plain forward pass over the prompt and the completion's ids."""
    with torch.no_grad():
        expected = {
            item.question_id: [_mean_logp(model, item.prompt_ids, ids) for ids in item.responses] for (item,) in entries
        }
        enable_scoring(model)
        sampler = StepSampler(entries, Packer(0, max_tokens=4096), 1, shuffle=False)
        found = score_candidates(model, entry_loader(sampler), lambda batch: batch)
    for question_id, scores in expected.items():
        assert found[question_id] == pytest.approx(scores, abs=1e-3)


def _mean_logp(model, prompt: list[int], response: list[int]) -> float:
    logps = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logps[torch.arange(len(response)), torch.tensor(response)].mean().item()
