"""What is sampled is stored, is trained on and is scored, token for token, for each kind of tokenizer."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sampling_cases import by_generate

from aft.answers import Extraction
from aft.encoding import TextEncoder
from aft.json_files import write_json_lines
from aft.labelling.labels import label_completions
from aft.model import build_model
from aft.records import Question, read_completions, read_groups
from aft.sampling import Decoding, Request, TransformersEngine, make_seeds
from aft.scoring.batching import Packer, StepSampler, entry_loader
from aft.scoring.entries import Encoder, alignment_entries, reference_entries, scoring_entries
from aft.scoring.forward import enable_scoring
from aft.scoring.responses import score_candidates
from tiny_models import CONFIGS
from tokenizer_kinds import ARCHITECTURES, KINDS

CHATS = [(kind, chat) for kind in KINDS for chat in (False, True) if not (kind == "gpt2" and chat)]
QUESTIONS = [
    Question(f"q{n}", text, "even", rationale=chain)
    for n, (text, chain) in enumerate(
        [
            ("How many apples?", "The answer is 42."),
            ("What of <|im_end|> and <eos>?", "½ is no token </s>"),
            ("And then?", "There are 7 more."),
        ]
    )
]
LIMIT = 24


class Length:
    """The answer is whether a text is long."""

    def extract_answer(self, text, question):
        return Extraction("even" if len(text) > 10 else "odd", None)

    def is_correct(self, answer, question):
        return answer == question.answer


def taught(kind: str, chat: bool):
    """(model that knows its references by heart, its texts): built from code and trained for a second."""
    tokenizer = KINDS[kind]()
    # large enough to learn by heart; Gemma's window and caps are tighter in `CONFIGS` than a model can learn with
    sizes = {
        **dict.fromkeys(("hidden_size", "n_embd"), 32),
        **dict.fromkeys(("max_position_embeddings", "n_positions", "sliding_window"), 256),
        "initializer_range": 0.1,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    known = CONFIGS[ARCHITECTURES[kind]]
    config = {**known, **{name: value for name, value in sizes.items() if name in known}}
    model = build_model(ARCHITECTURES[kind], config, tokenizer, seed=0)
    texts = TextEncoder(tokenizer, "{question}\nAnswer:\n", chat=chat, model_ends=[7])
    entries = reference_entries([(q.id, q.question, q.rationale) for q in QUESTIONS], Encoder(texts, 200))
    items = [item for entry in entries for item in entry]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    length = max(len(item.prompt_ids) + len(item.responses[0]) for item in items)
    ids, labels = torch.zeros(len(items), length, dtype=torch.long), torch.full((len(items), length), -100)
    for row, item in enumerate(items):
        begin, end = len(item.prompt_ids), len(item.prompt_ids) + len(item.responses[0])
        ids[row, :end] = torch.tensor(item.prompt_ids + item.responses[0])
        labels[row, begin:end] = ids[row, begin:end]
    for _ in range(100):
        model(input_ids=ids, labels=labels).loss.backward()  # what pads stands behind and is not seen
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), texts


@pytest.mark.parametrize(("kind", "chat"), CHATS)
def test_ids_sampled_are_stored_and_trained_on_and_scored(kind, chat, tmp_path):
    model, texts = taught(kind, chat)
    engine = TransformersEngine(model, texts.tokenizer, 8, ends=texts.ends)

    def sample(count, decoding):
        requests = [
            Request(q.id, tuple(texts.prompt(q.question)), make_seeds(q.id, range(count), "test")) for q in QUESTIONS
        ]
        write_json_lines(tmp_path / "completions.jsonl", list(engine.generate([requests], decoding)))
        return read_completions(tmp_path / "completions.jsonl")

    # greedily the model says its references, the end token included
    model.generation_config.eos_token_id = list(texts.ends)
    encoder = Encoder(texts, 200)
    greedy = {completion.question_id: completion for completion in sample(1, Decoding(LIMIT, 0.0))}
    for question in QUESTIONS:
        stored = greedy[question.id]
        assert list(stored.token_ids) == by_generate(model, texts.prompt(question.question), LIMIT)
        assert list(stored.token_ids) == texts.response(question.question, question.rationale)
        assert stored.token_ids[-1] == texts.end and not stored.truncated

    # a model that is unsure writes what no text encodes to, and is cut within characters
    completions = [*sample(12, Decoding(LIMIT, 2.0)), *_shifted(sample(12, Decoding(5, 3.0)), 12)]
    assert {completion.truncated for completion in completions} == {True, False}
    odd = [c for c in completions if texts.response("", c.completion, ended=not c.truncated) != list(c.token_ids)]
    assert odd
    groups, _ = label_completions(
        QUESTIONS, {q.id: q.rationale for q in QUESTIONS}, completions, Length(), deduplicate="none"
    )
    write_json_lines(tmp_path / "groups.jsonl", groups)
    groups = read_groups(tmp_path / "groups.jsonl")
    sampled = {
        question.id: [
            list(c.token_ids) for c in sorted(completions, key=lambda c: c.index) if c.question_id == question.id
        ]
        for question in QUESTIONS
    }
    trained = alignment_entries(groups, encoder, supervise="reference", ranked=True, pair_references=False, seed=0)
    scored = scoring_entries(groups, encoder)
    for question, (in_training,), (alone,) in zip(QUESTIONS, trained, scored, strict=True):
        assert in_training.prompt_ids == alone.prompt_ids == texts.prompt(question.question)
        assert alone.responses == sampled[question.id]
        candidates = [
            ids for ids, rating in zip(in_training.responses, in_training.ratings, strict=True) if rating is not None
        ]
        assert sorted(candidates) == sorted(alone.responses)
        assert in_training.responses[0] == texts.response(question.question, question.rationale)
    assert encoder.dropped == encoder.truncated == encoder.empty == texts.counts()["ran_past_end"] == 0

    # and the scores are those of these ids
    expected = {
        item.question_id: [_mean_logp(model, item.prompt_ids, ids) for ids in item.responses] for (item,) in scored
    }
    enable_scoring(model)
    sampler = StepSampler(scored, Packer(0, max_tokens=None), 2, shuffle=False)
    with torch.no_grad():
        found = score_candidates(model, entry_loader(sampler), lambda batch: batch)
    for question in QUESTIONS:
        assert found[question.id] == pytest.approx(expected[question.id], abs=1e-3)


def _shifted(completions, by):
    return [dataclasses.replace(completion, index=completion.index + by) for completion in completions]


def _mean_logp(model, prompt, response) -> float:
    with torch.no_grad():
        logps = model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
    rows = torch.arange(len(response)) + len(prompt) - 1
    return logps[rows, torch.tensor(response)].mean().item()
