"""The evaluate stage on a tiny random model: every file and number against the completions that it kept."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
import torch

from aft.answers import Extraction
from aft.config import load_config
from aft.errors import ConfigError
from aft.evaluation.assessment import assessment_accuracy, perplexity
from aft.evaluation.voting import Tally, vote_accuracy
from aft.json_files import write_json_lines
from aft.records import Candidate, Group, Question, read_completions, read_groups
from aft.run.digest import chain_digest
from aft.run.manifest import UnitLog, read_manifest
from aft.stages.context import Inference, Stage
from aft.stages.evaluate import run_evaluate
from aft.stages.plan import Plan
from aft.stages.recompute import recompute
from tiny_models import tiny_model, word_tokenizer


class Parity:
    """A task that a random model solves now and then: the answer is whether the completion's words are even or odd."""

    def load(self, split, *, seed=0):
        return [
            Question(f"{split}-{n}", f"{'abcdefgh'[n]} b", "even", "a b", category="early" if n < 3 else "late")
            for n in range(6)
        ]

    def reference_response(self, question):
        return question.rationale

    def extract_answer(self, completion, question=None):
        words = completion.split()
        if "?" in words:
            return Extraction(None, "it asks back")
        return Extraction("even" if len(words) % 2 == 0 else "odd", None)

    def is_correct(self, answer, question):
        return answer == question.answer

    def fingerprint(self):
        return "parity"

    def notes(self):
        return []


CONFIG = """\
output_dir: {folder}/run
data: {{name: arithmetic, num_validation: 6}}
model: {{name_or_path: {folder}/model, max_length: 64}}
prompt: {{template: "{{question}}"}}
sample: {{pool_questions: 2}}
stages: [evaluate]
evaluate:
  models: [base]
  max_new_tokens: 6
  batch_size: 24
  assessment: {{num_questions: 4, max_samples: 8, samples_per_round: 4, per_label: 2}}
  self_consistency: {{num_paths: 8, ns: [1, 2, 8], num_questions: 5}}
  training_scores: {{max_questions: 2}}
"""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """(folder of the unit, its metrics) of one evaluation."""
    folder = tmp_path_factory.mktemp("evaluate")
    tiny_model(initializer_range=0.1).save_pretrained(folder / "model")
    word_tokenizer().save_pretrained(folder / "model")
    (folder / "run.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
    plan = Plan(load_config(folder / "run.yaml"), Parity())
    candidates = (Candidate("a b", 1.0, "positive"), Candidate("c", 0.0, "negative"), Candidate("", 0.0, "negative"))
    pool = [Group("p0", "a b", "even", None, candidates), Group("p1", "c b", "even", None, candidates[:1])]
    write_json_lines(plan.pool(0), pool)
    # one chain has no token, one is too long for training, and the third group is beyond the bound
    long = Candidate("a b " * 40, 1.0, "positive", index=3)
    groups = [Group("t0", "a b", "even", "a b", (*candidates, long)), Group("t1", "c b", "even", None, candidates[:1])]
    write_json_lines(plan.groups(0), [*groups, Group("t2", "d b", "even", None, candidates)])
    run(plan)
    return plan, json.loads((plan.units("evaluate")[0].folder / "metrics.json").read_text(encoding="utf-8"))


def run(plan):
    unit = plan.units("evaluate")[0]
    run_evaluate(Stage(plan, cpu=True), unit, UnitLog(unit.folder, plan.inputs(unit) or {}))


def read(plan, name):
    text = (plan.units("evaluate")[0].folder / name).read_text(encoding="utf-8")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def test_accuracy_by_category(evaluated):
    plan, metrics = evaluated
    predictions = read(plan, "predictions.jsonl")
    assert [line["category"] for line in predictions] == ["early"] * 3 + ["late"] * 3
    correct = [line["is_correct"] for line in predictions]
    assert metrics["task_accuracy"]["correct"] == sum(correct)
    assert metrics["by_category"]["categories"]["early"]["correct"] == sum(correct[:3])
    assert metrics["by_category"]["macro"]["value"] == pytest.approx(sum(correct) / 6)
    assert metrics["by_category"]["micro"] == metrics["task_accuracy"]


def test_assessment_samples_until_full_and_keeps_every_question(evaluated):
    plan, metrics = evaluated
    kept, chains = read(plan, "assessment_questions.jsonl"), read(plan, "assessment.jsonl")
    assert len(kept) == 4
    used = [line for line in kept if line["value"] is not None]
    assert used and all(line["right"] == line["wrong"] == 2 for line in used)
    assert len(chains) == 4 * len(used)
    counts = metrics["assessment"]
    assert (counts["questions"], counts["used"], counts["skipped"]) == (4, len(used), 4 - len(used))
    # a full question is not sampled any further, another to the end of its budget
    assert all(line["samples"] in ((4, 8) if line["value"] is not None else (8,)) for line in kept)
    assert counts["samples"] == sum(line["samples"] for line in kept)
    assert metrics["assessment_accuracy"] == assessment_accuracy(chains, skipped=counts["skipped"]).to_json()
    mean = sum(line["value"] for line in used) / len(used)
    assert metrics["assessment_accuracy"]["value"] == pytest.approx(mean)


def test_perplexity_of_right_wrong_and_reference_chains(evaluated):
    plan, metrics = evaluated
    chains, references = read(plan, "assessment.jsonl"), read(plan, "references.jsonl")
    for name, is_positive in (("perplexity", True), ("perplexity_wrong", False)):
        scores = [line["score"] for line in chains if line["is_positive"] == is_positive]
        assert metrics[name] == perplexity(scores).to_json()
    assert [line["question_id"] for line in references] == [f"train-{n}" for n in range(4)]
    assert metrics["perplexity_reference"]["value"] == pytest.approx(
        sum(math.exp(-line["score"]) for line in references) / 4
    )
    assert metrics["scores"]["reference"]["n"] == 4


def test_a_reference_is_scored_as_the_model_itself_would(evaluated):
    plan, _ = evaluated
    checkpoint, tokenizer = plan.checkpoint("base", 0), word_tokenizer()
    model = Stage(plan, cpu=True).model(checkpoint).eval()
    prompt, response = tokenizer("a b")["input_ids"], [*tokenizer("a b")["input_ids"], tokenizer.eos_token_id]
    ids = torch.tensor([prompt + response])
    with torch.no_grad():
        logps = model(input_ids=ids).logits[0].log_softmax(-1)
    score = sum(float(logps[len(prompt) - 1 + i, token]) for i, token in enumerate(response)) / len(response)
    assert read(plan, "references.jsonl")[0]["score"] == pytest.approx(score, abs=1e-4)


def test_votes_come_from_one_set_of_paths(evaluated):
    plan, metrics = evaluated
    folder = plan.units("evaluate")[0].folder
    paths, lines = read_completions(folder / "paths.jsonl"), read(plan, "self_consistency.jsonl")
    assert len(paths) == 5 * 8 and len(lines) == 5
    task = Parity()
    for line in lines:
        answers = [task.extract_answer(p.completion).answer for p in paths if p.question_id == line["question_id"]]
        votes = Tally(answers.count("even"), {"odd": answers.count("odd")}, answers.count(None))
        assert (line["right"], line["unparsed"]) == (votes.right, votes.unparsed)
        assert line["vote"] == {str(n): pytest.approx(p) for n, p in vote_accuracy(votes, [1, 2, 8]).items()}
    found = metrics["self_consistency"]
    assert (found["questions"], found["num_paths"], found["temperature"]) == (5, 8, 1.0)
    assert list(found["vote"]) == list(found["pass"]) == ["1", "2", "8"]
    assert found["vote"]["1"]["value"] == found["pass"]["1"]["value"]
    assert found["vote"]["8"]["value"] == pytest.approx(sum(line["vote"]["8"] for line in lines) / 5)


def with_chains(plan, folder, *overrides):
    """The plan of the same evaluation with the chains of its paths, run in a folder of its own."""
    given = [
        f"output_dir={folder}/run",
        "evaluate.assessment=null",
        "evaluate.self_consistency.chains=true",
        *overrides,
    ]
    other = Plan(load_config(plan.folder.parent / "run.yaml", [*given, "sample.pool_questions=0"]), Parity())
    run(other)
    return other


def test_the_chains_of_paths_are_measured_and_votes_stay_what_they_were(evaluated, tmp_path):
    plan, metrics = evaluated
    other = with_chains(plan, tmp_path)
    unit = other.units("evaluate")[0]
    assert read(other, "self_consistency.jsonl") == read(plan, "self_consistency.jsonl")
    paths, lines = read_completions(unit.folder / "paths.jsonl"), read(other, "path_chains.jsonl")
    assert [sum(line["right"]) for line in lines] == [line["right"] for line in read(plan, "self_consistency.jsonl")]
    # a slow reference of a score: one forward pass of one path
    model, questions = tiny_model(initializer_range=0.1), {q.id: q for q in other.task.load("test")}
    for path in paths[:3]:
        prompt = word_tokenizer()(questions[path.question_id].question, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logps = model(torch.tensor([[*prompt, *path.token_ids]])).logits[0].log_softmax(-1)
        score = sum(float(logps[len(prompt) - 1 + i, token]) for i, token in enumerate(path.token_ids))
        assert lines[0]["scores"][path.index] == pytest.approx(score / path.num_tokens, abs=1e-4)
    found = json.loads((unit.folder / "metrics.json").read_text(encoding="utf-8"))["self_consistency"]
    assert found["distinct_right"]["value"] == sum(line["distinct_right"] for line in lines) / 5
    earlier = metrics["self_consistency"]
    assert "chains" not in earlier and found.items() >= earlier.items() and found["chains"] is True
    again = recompute(other, unit, read_manifest(unit.manifest))
    assert not again.wrong and again.numbers
    lines[0]["tokens"][0] += 1
    write_json_lines(unit.folder / "path_chains.jsonl", lines)
    assert any("path_chains.jsonl: [0].tokens" in line for line in recompute(other, unit, {}).wrong)
    del lines[0]["scores"], lines[1]["question_id"]
    write_json_lines(unit.folder / "path_chains.jsonl", lines)
    wrong = recompute(other, unit, {}).wrong
    assert any("path_chains.jsonl: [0].scores is None" in line for line in wrong)
    assert not any("cannot be computed again" in line for line in wrong)


def test_the_entropy_of_paths_is_that_of_the_model(evaluated, tmp_path):
    plan, _ = evaluated
    keys = "evaluate.self_consistency={num_paths: 1000, ns: [1], num_questions: 1, chains: true}"
    other = with_chains(plan, tmp_path, keys, "evaluate.max_new_tokens=1", "evaluate.batch_size=1000")
    prompt = word_tokenizer()(other.task.load("test")[0].question, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logps = tiny_model(initializer_range=0.1)(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    entropy = -float((logps.exp() * logps).sum())
    error = float((logps.exp() * (logps + entropy) ** 2).sum()) ** 0.5 / 1000**0.5
    assert abs(read(other, "path_chains.jsonl")[0]["entropy"] - entropy) < 3 * error + 1e-4


def test_an_evaluation_without_chains_is_recorded_as_before_the_key(evaluated):
    plan, _ = evaluated
    unit, config = plan.units("evaluate")[0], plan.folder.parent / "run.yaml"
    asked = Plan(load_config(config, ["evaluate.self_consistency.chains=true"]), Parity())
    recorded, with_them = (one.inputs(unit)["config"]["evaluate"]["self_consistency"] for one in (plan, asked))
    assert "chains" not in recorded and with_them == {**recorded, "chains": True}


def test_the_pool_keeps_a_value_for_every_question(evaluated):
    plan, metrics = evaluated
    assert [line["question_id"] for line in read(plan, "pool_questions.jsonl")] == ["p0", "p1"]
    assert read(plan, "pool_questions.jsonl")[1]["value"] is None
    assert metrics["pool"]["assessment_accuracy"]["skipped"] == 1
    assert metrics["pool"]["positive"]["n"] == 2


def test_training_chains_keep_their_scores_up_to_the_bound(evaluated):
    plan, _ = evaluated
    lines, pool = read(plan, "training_scores.jsonl"), read(plan, "pool.jsonl")
    chains = [("t0", "a b"), ("t0", "c"), ("t0", ""), ("t1", "a b")]
    assert [(line["question_id"], line["chain"]) for line in lines] == [(q, chain_digest(text)) for q, text in chains]
    # the pool has the same questions and chains under other names
    assert [line["score"] for line in lines] == pytest.approx([line["score"] for line in pool], abs=1e-5)
    assert [line["is_positive"] for line in lines] == [line["is_positive"] for line in pool]


def test_training_chains_decide_nothing(evaluated, tmp_path):
    plan, metrics = evaluated
    unit = plan.units("evaluate")[0]
    assert "groups" not in plan.reads(unit)
    folder = plan.folder.parent
    other = Plan(
        load_config(folder / "run.yaml", ["evaluate.training_scores=null", f"output_dir={tmp_path}"]), Parity()
    )
    write_json_lines(other.pool(0), read_groups(plan.pool(0)))
    write_json_lines(other.groups(0), read_groups(plan.groups(0)))
    run(other)
    assert not other.run.evaluated("base", 0, "training_scores.jsonl").exists()
    assert json.loads(other.run.evaluated("base", 0).read_text(encoding="utf-8")) == metrics


def test_paths_that_are_there_are_not_sampled_again(evaluated):
    plan, metrics = evaluated
    folder = plan.units("evaluate")[0].folder
    before = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    lines = (folder / "paths.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "paths.jsonl").unlink()
    (folder / "paths.part-00000.jsonl").write_text("".join(lines[:11]), encoding="utf-8")
    run(plan)
    assert {path.name: path.read_bytes() for path in folder.glob("*.jsonl")} == before
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == metrics


class Replay:
    """An engine without a model: it repeats completions that another has made, in reverse."""

    def __init__(self, completions):
        self.by_seed = {completion.seed: completion for completion in completions}

    def plan(self, requests):
        return [[request] for request in requests]

    def generate(self, shards, decoding):
        for (request,) in reversed(shards):
            for seed in reversed(request.seeds.values()):
                yield self.by_seed[seed]


def test_another_engine_fits_and_is_closed_before_the_model_is_loaded(evaluated, tmp_path, monkeypatch):
    plan, metrics = evaluated
    folder, loaded = plan.units("evaluate")[0].folder, []

    @contextlib.contextmanager
    def engine(subject, unit, section, questions):
        names = ["completions.jsonl", "paths.jsonl", *(path.name for path in folder.glob("own-*.jsonl"))]
        yield Replay([completion for name in names for completion in read_completions(folder / name)])
        loaded.append("model" in vars(subject))

    monkeypatch.setattr(Inference, "engine", engine)
    other = Plan(load_config(plan.folder.parent / "run.yaml", [f"output_dir={tmp_path}/run"]), Parity())
    write_json_lines(other.pool(0), read_groups(plan.pool(0)))
    write_json_lines(other.groups(0), read_groups(plan.groups(0)))
    run(other)
    unit = other.units("evaluate")[0].folder
    assert loaded == [False]
    assert json.loads((unit / "metrics.json").read_text(encoding="utf-8")) == metrics
    for path in folder.glob("*.jsonl"):
        assert (unit / path.name).read_bytes() == path.read_bytes()


def test_without_its_sections_nothing_more_is_sampled(evaluated, tmp_path):
    plan, _ = evaluated
    folder = plan.folder.parent
    overrides = [f"output_dir={tmp_path}/run", "evaluate.assessment=null", "evaluate.self_consistency=null"]
    other = Plan(load_config(folder / "run.yaml", [*overrides, "sample.pool_questions=0"]), Parity())
    run(other)
    unit = other.units("evaluate")[0].folder
    metrics = json.loads((unit / "metrics.json").read_text(encoding="utf-8"))
    for key in ("assessment_accuracy", "assessment", "perplexity", "perplexity_reference", "pool", "self_consistency"):
        assert metrics[key] is None
    assert not list(unit.glob("own-*")) and not (unit / "paths.jsonl").exists()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{num_paths: 8}", r"ns: must be from 1 to num_paths = 8, got \[16, 32, 64\]"),
        ("{ns: []}", "ns: empty"),
        ("{ns: [1, 1]}", "ns: a value appears twice"),
        ("{num_paths: 2000}", "num_paths: must be at most 1000"),
        ("{temperature: 0}", "temperature: must be above 0"),
        (
            "{chains: true, temperature: 0.7}",
            "chains: the entropy is that of paths with temperature 1 and top_p 1, got 0.7",
        ),
    ],
)
def test_settings_that_cannot_be(evaluated, value, problem):
    plan, _ = evaluated
    with pytest.raises(ConfigError, match=problem):
        load_config(plan.folder.parent / "run.yaml", [f"evaluate.self_consistency={value}"])
