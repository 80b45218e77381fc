"""The trainer: one optimizer step however divided, values by hand, stop and resume, what stops it, what it saves."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import signal

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainerCallback, TrainerControl, TrainerState

from aft.config.losses import KtoLoss
from aft.ending import Ended, deferring, listening
from aft.errors import AftError
from aft.losses import LOSSES, Boundary, Detached, Unconstrained
from aft.scoring.batching import Packer, StepSampler, unique_tokens
from aft.scoring.forward import enable_scoring
from aft.scoring.packing import Item
from aft.scoring.responses import Scores
from aft.stages.loss_section import make_objective
from aft.training.callbacks import POSITIVE_DRIFT, StopOnCollapse
from aft.training.checkpoints import last_checkpoint
from reference_losses import alignment as slow_alignment
from tiny_models import as_entries, random_items, same_weights, tiny_model, word_tokenizer
from tiny_trainers import DATA_SEED, KINDS, OBJECTIVES, items_for, logged, make_trainer

STEP = 8
CONSTRAINTS = {
    "bcl": ("boundary", Boundary(beta=0.1)),
    "dcl-mean-with-pair": ("detached", Detached()),
    "unconstrained-sum": ("none", Unconstrained()),
}


# ---- by hand ----


def plain_sums(model, item: Item) -> torch.Tensor:
    """Sum of token log-probs of each response, each sequence alone, through whole logits."""
    found = []
    for response in item.responses:
        logps = model(input_ids=torch.tensor([item.prompt_ids + response])).logits[0].log_softmax(-1)
        rows = torch.arange(len(response)) + len(item.prompt_ids) - 1
        found.append(logps[rows, torch.tensor(response)].sum())
    return torch.stack(found)


def scores_of(model, item: Item) -> torch.Tensor:
    lengths = torch.tensor([len(response) for response in item.responses])
    return (plain_sums(model, item) / lengths)[item.candidates]


def has_pair(item: Item) -> bool:
    return len({item.ratings[index] for index in item.candidates}) == 2


def expected_terms(model, name: str, items: list[Item]) -> tuple[torch.Tensor, torch.Tensor]:
    """(L_VFT, L_A) of a step from their definitions, with gradient."""
    objective = OBJECTIVES[name][0]
    questions = []  # (negative log-likelihood, tokens, responses) of each question's supervised responses
    for item in items:
        supervised = torch.tensor(item.supervised)
        if supervised.any():
            tokens = sum(len(response) for response, used in zip(item.responses, item.supervised, strict=True) if used)
            questions.append((-plain_sums(model, item)[supervised].sum(), tokens, int(supervised.sum())))
    whole, tokens, responses = map(sum, zip(*questions, strict=True))
    vft = {
        "token_mean": whole / tokens,
        "token_sum": whole / responses,
        "question_mean": sum(nll / tokens for nll, tokens, _ in questions) / len(questions),
        "question_sum": sum(nll / responses for nll, _, responses in questions) / len(questions),
    }[objective.vft_reduction]
    if objective.loss is None:
        return vft, torch.zeros(())
    groups = [item for item in items if item.candidates]
    align = torch.zeros(())
    for item in groups:
        ratings = torch.tensor([[item.ratings[index] for index in item.candidates]])
        align = (
            align + LOSSES["alignment"](scores_of(model, item)[None], ratings, constraint=CONSTRAINTS[name][1])[0][0]
        )
    count = {"mean": len(groups), "mean_with_pair": sum(map(has_pair, groups)), "sum": 1}[objective.reduction]
    return vft, align / count


def items_of_steps(items: list[Item], steps: int, *, step: int = STEP) -> list[list[Item]]:
    """The items of the first steps, in the order in which a trainer of `make_trainer` draws them."""
    sampler, drawn = StepSampler(as_entries(items), Packer(0), step, seed=DATA_SEED), []
    while len(drawn) < steps:
        drawn += [[items[index] for index in part] for (part,) in sampler]
        sampler.set_epoch(sampler.epoch + 1)
    return drawn[:steps]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_step_by_hand(tmp_path, name):
    items = items_for(name)
    trainer = make_trainer(tmp_path, name, max_steps=1, per_device_train_batch_size=STEP)
    trainer.train()
    (step,) = items_of_steps(items, 1)
    assert len(step) == STEP
    assert {bool(item.candidates) + has_pair(item) for item in step} == {0, 1, 2}, "the counts are not tested"
    model = tiny_model()
    vft, align = expected_terms(model, name, step)
    objective = OBJECTIVES[name][0]
    loss = vft + objective.weight * align
    loss.backward()
    (entry,) = logged(trainer)
    assert entry["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert entry["loss/vft"] == pytest.approx(vft.item(), rel=1e-5)
    # plain gradient descent: the weights moved by the gradient
    for (key, before), after in zip(model.named_parameters(), trainer.model.parameters(), strict=True):
        moved = (before.detach() - after.detach()) / 0.1
        torch.testing.assert_close(moved, before.grad, rtol=1e-3, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")
    norm = math.sqrt(sum((p.grad**2).sum().item() for p in model.parameters()))
    assert entry["grad_norm"] == pytest.approx(norm, rel=1e-4)
    keys = {"loss", "loss/vft", "grad_norm", "learning_rate", "epoch", "step"}
    if objective.loss is None:
        assert set(entry) == keys
        return
    assert entry["loss/align"] == pytest.approx(align.item(), rel=1e-5)
    assert set(entry) - keys == {
        "loss/align",
        "scores/positive",
        "scores/negative",
        "scores/margin",
        "pairs/accuracy",
        "groups/without_pair",
        *(["constraint/active_fraction"] if name == "bcl" else []),
    }


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_logged_scores_by_hand(tmp_path, name):
    trainer = make_trainer(tmp_path, name, max_steps=1, per_device_train_batch_size=STEP)
    trainer.train()
    (entry,) = logged(trainer)
    (step,) = items_of_steps(items_for(name), 1)
    model, positives, negatives, margins, active, slow = tiny_model(), [], [], [], 0, []
    with torch.no_grad():
        for item in step:
            scores = scores_of(model, item).tolist() if item.candidates else []
            ratings = [item.ratings[index] for index in item.candidates]
            if scores:
                slow.append(slow_alignment(scores, ratings, scores, CONSTRAINTS[name][0], 0.1, 0.0))
            if not has_pair(item):
                continue
            right = [score for score, rating in zip(scores, ratings, strict=True) if rating == 1]
            wrong = [score for score, rating in zip(scores, ratings, strict=True) if rating == 0]
            positives += right
            negatives += wrong
            margins += [p - n for p in right for n in wrong]
            active += sum(n <= min(right) - 0.1 for n in wrong) if name == "bcl" else 0
    reduction = OBJECTIVES[name][0].reduction
    count = {"mean": len(slow), "mean_with_pair": len([v for v in slow if v]), "sum": 1}[reduction]
    assert entry["loss/align"] == pytest.approx(sum(slow) / count, rel=1e-5)
    assert entry["scores/positive"] == pytest.approx(sum(positives) / len(positives), abs=1e-5)
    assert entry["scores/negative"] == pytest.approx(sum(negatives) / len(negatives), abs=1e-5)
    assert entry["scores/margin"] == pytest.approx(sum(margins) / len(margins), abs=1e-5)
    assert entry["pairs/accuracy"] == pytest.approx(sum(margin > 0 for margin in margins) / len(margins))
    if name == "bcl":
        assert entry["constraint/active_fraction"] == pytest.approx(active / len(negatives))
    else:
        assert "constraint/active_fraction" not in entry, "there is no boundary"
    assert name != "bcl" or active, "no negative is at its boundary, so the share is not tested"
    assert entry["groups/without_pair"] == sum(bool(item.candidates) and not has_pair(item) for item in step)


# ---- one step, however divided ----


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_is_the_same_however_it_is_divided(tmp_path, name):
    """Eleven questions in steps of eight: the second step is the incomplete one, and the third begins an epoch.

    Divided into micro-batches, into calls of the model by a budget of tokens, and laid out in every way. GPT-2, because
    Llama's norms compute in float32 whatever its weights are.
    """
    exact = {"architecture": "gpt2", "config": dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)}
    runs = []
    for batch, max_tokens, layout in (
        *((8, None, "auto"), (4, None, "shared"), (2, None, "packed"), (1, None, "padded")),
        *((8, 60, "shared"), (4, 40, "packed"), (8, 100, "padded"), (8, 1, "shared")),
    ):
        trainer = make_trainer(
            tmp_path,
            name,
            **exact,
            job={"layout": layout, "max_tokens": max_tokens},
            dtype=torch.float64,
            max_steps=3,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=STEP // batch,
        )
        trainer.train()
        assert trainer.packer.layout == ("shared" if layout == "auto" else layout)
        runs.append((trainer.model.state_dict(), logged(trainer)))
    weights, log = runs[0]
    assert [entry["step"] for entry in log] == [1, 2, 3]
    for other_weights, other_log in runs[1:]:
        for key in weights:
            torch.testing.assert_close(other_weights[key], weights[key], rtol=1e-8, atol=1e-8)
        for entry, other in zip(log, other_log, strict=True):
            assert {**other, "epoch": 0} == pytest.approx({**entry, "epoch": 0}, rel=1e-5, abs=1e-6)


def test_what_is_logged_is_a_mean_over_the_steps_since_the_last_log(tmp_path):
    options = {"max_steps": 4, "per_device_train_batch_size": 4}
    each, pairs = (
        make_trainer(tmp_path, "bcl", logging_steps=steps, logging_first_step=False, **options) for steps in (1, 2)
    )
    each.train()
    pairs.train()
    single, double = logged(each), logged(pairs)
    assert [entry["step"] for entry in double] == [2, 4]
    for number, entry in enumerate(double):
        two = single[2 * number : 2 * number + 2]
        for key in ("loss", "loss/vft", "loss/align", "groups/without_pair"):
            assert entry[key] == pytest.approx((two[0][key] + two[1][key]) / 2, rel=1e-5), key
        # scores are means over candidates, so a step with more of them weighs more
        low, high = sorted(step["scores/positive"] for step in two)
        assert low <= entry["scores/positive"] <= high


def test_a_model_that_cannot_share_trains_padded_and_says_so_once(tmp_path, capsys):
    trainer = make_trainer(tmp_path, "bcl", architecture="gemma2", max_steps=1, job={"description": "align"})
    enable_scoring(trainer.model, attn_implementation="sdpa")
    trainer.train()
    assert trainer.packer.layout == "padded"
    said = [line for line in capsys.readouterr().err.splitlines() if "Gemma2" in line]
    assert said == [
        "align: Gemma2ForCausalLM: questions are computed again for each of their responses, padded to the longest,"
        " because scaled-dot-product attention has no soft-capping"
    ]


def test_tokens_that_the_model_reads_are_counted(tmp_path):
    counted = {}
    for layout in ("shared", "padded"):
        trainer = make_trainer(
            tmp_path,
            "bcl",
            num_train_epochs=1,
            include_num_input_tokens_seen="all",
            job={"layout": layout, "max_tokens": 60},
        )
        trainer.train()
        counted[layout] = trainer.state.num_input_tokens_seen
    assert counted["shared"] == sum(map(unique_tokens, items_for("bcl"))) < counted["padded"]


def test_nothing_of_our_attention_is_saved(tmp_path):
    trainer = make_trainer(tmp_path / "run", "bcl", max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert "aft_" not in (tmp_path / "saved" / "config.json").read_text()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert loaded.config._attn_implementation == tiny_model().config._attn_implementation


# ---- drift ----


def test_drift_is_measured_on_the_same_candidates_as_the_scores(tmp_path):
    items = items_for("bcl")
    taken: list[Scores] = []

    def initial(trainer) -> Scores:
        taken.append(trainer.score_candidates())
        return taken[-1]

    def run(steps: int):
        trainer = make_trainer(
            tmp_path, "bcl", max_steps=steps, per_device_train_batch_size=STEP, job={"initial_scores": initial}
        )
        trainer.train()
        return trainer

    first, second = logged(run(2))
    assert first["scores/positive_drift"] == pytest.approx(0, abs=1e-6)
    assert first["scores/negative_drift"] == pytest.approx(0, abs=1e-6)
    before, after = tiny_model(), run(1).model
    with torch.no_grad():
        expected = {item.question_id: scores_of(before, item).tolist() for item in items if item.candidates}
        assert set(taken[0]) == set(expected)
        for key, scores in expected.items():
            assert taken[0][key] == pytest.approx(scores, abs=1e-5)
        for kind, rating in (("positive", 1.0), ("negative", 0.0)):
            old, new = [], []
            for item in filter(has_pair, items_of_steps(items, 2)[1]):
                mine = torch.tensor([item.ratings[index] == rating for index in item.candidates])
                old += scores_of(before, item)[mine].tolist()
                new += scores_of(after, item)[mine].tolist()
            drift = sum(new) / len(new) - sum(old) / len(old)
            assert second[f"scores/{kind}_drift"] == pytest.approx(drift, abs=1e-5)
            assert abs(drift) > 0.05


def test_steps_without_a_pair_log_no_scores(tmp_path):
    """Only the second of four questions has a pair, and each is a step."""
    kinds = [[None, 1.0], [None, 1.0, 0.0], [None], [0.0, 0.0]]
    trainer = make_trainer(
        tmp_path,
        "bcl",
        items=items_for("bcl", kinds),
        max_steps=4,
        per_device_train_batch_size=1,
        job={"initial_scores": lambda t: t.score_candidates()},
    )
    trainer.train()
    of_pairs = {"scores/positive", "scores/negative", "scores/margin", "scores/positive_drift", "scores/negative_drift"}
    of_pairs |= {"pairs/accuracy", "constraint/active_fraction", "groups/both_fell"}
    log = logged(trainer)
    assert sorted(len(of_pairs & set(entry)) for entry in log) == [0, 0, 0, len(of_pairs)]
    # a question without a supervised response has no L_VFT, and one without a pair no L_A
    assert sum("loss/vft" in entry for entry in log) == 3 and sum("loss/align" in entry for entry in log) == 1
    assert sum(entry["groups/without_pair"] for entry in log) == 2
    assert all(math.isfinite(value) for entry in log for value in entry.values())


def test_a_mean_over_the_groups_with_a_pair_is_absent_without_one(tmp_path):
    items = items_for("dcl-mean-with-pair", [[None, 1.0], [None, 0.0]])
    trainer = make_trainer(tmp_path, "dcl-mean-with-pair", items=items, max_steps=1)
    trainer.train()
    [entry] = logged(trainer)
    assert "loss/align" not in entry and entry["loss/vft"] == pytest.approx(entry["loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["bcl", "dcl-mean-with-pair", "kto"])
def test_a_term_is_a_mean_over_the_steps_that_have_it(tmp_path, name):
    """Only the second of four steps has a pair, the third no candidates and the fourth no supervised response."""
    kinds = [[None, 1.0], [None, 1.0, 0.0], [None], [0.0, 0.0]]
    objective = OBJECTIVES["bcl" if name == "kto" else name][0]
    job = {}
    if name == "kto":
        objective = make_objective(KtoLoss(name="kto"), "token_mean")
        job = {"objective": objective, "initial_scores": lambda trainer: trainer.score_candidates()}
    options = {"items": items_for("bcl", kinds), "max_steps": 4, "per_device_train_batch_size": 1, "job": job}
    each, window = (
        make_trainer(
            tmp_path, "bcl" if name == "kto" else name, logging_steps=steps, logging_first_step=False, **options
        )
        for steps in (1, 4)
    )
    each.train()
    window.train()
    single, (entry,) = logged(each), logged(window)
    steps_with = {"loss/vft": 3, "loss/align": 3 if name == "kto" else 1}
    whole = 0.0
    for key, weight in (("loss/vft", 1.0), ("loss/align", objective.weight)):
        values = [step[key] for step in single if key in step]
        assert len(values) == steps_with[key] == entry[f"{key}_steps"]
        assert entry[key] == pytest.approx(sum(values) / len(values), rel=1e-5)
        whole += weight * entry[key] * entry[f"{key}_steps"] / 4
    assert entry["loss"] == pytest.approx(whole, rel=1e-5)
    for step in single:
        found = step.get("loss/vft", 0) + objective.weight * step.get("loss/align", 0)
        assert step["loss"] == pytest.approx(found, rel=1e-5) and not any(key.endswith("_steps") for key in step)


@pytest.mark.parametrize(("patience", "stops_at"), [(2, 3), (3, None)])
def test_logs_without_a_drift_do_not_end_a_fall(tmp_path, patience, stops_at):
    arguments, state, control = make_trainer(tmp_path).args, TrainerState(max_steps=9), TrainerControl()
    callback = StopOnCollapse(max_fall=0.5, patience=patience)
    for step, drift in enumerate([-0.6, None, -1.0, None], start=1):
        state.global_step = step
        state.log_history.append({"step": step} if drift is None else {"step": step, POSITIVE_DRIFT: drift})
        callback.on_log(arguments, state, control)
        assert control.should_training_stop == (stops_at is not None and step >= stops_at)
    assert (callback.reason is None) == (stops_at is None)


# ---- stop and go on ----

DROPOUT = {"architecture": "gpt2", "config": {"resid_pdrop": 0.1, "attn_pdrop": 0.1, "embd_pdrop": 0.1}}


@pytest.mark.parametrize(("name", "bf16"), [("vft", False), ("bcl", False), ("bcl", True)])
@pytest.mark.parametrize(
    ("stop", "logging_steps"),
    [(2, 1), (3, 1), (3, 4), (6, 4)],  # three steps an epoch: within one, between two, and between two logs
)
def test_resuming_equals_running_through_bit_for_bit(tmp_path, name, bf16, stop, logging_steps):
    """With dropout, momentum, a schedule, evaluation in between and drift: weights and logged values."""
    options = {
        **DROPOUT,
        "bf16": bf16,
        "optim": "adamw_torch",
        "learning_rate": 1e-2,
        "lr_scheduler_type": "linear",
        "warmup_steps": 2,
        "max_grad_norm": 1.0,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "logging_steps": logging_steps,
        "save_strategy": "steps",
        "save_steps": 1 if logging_steps == 1 else 3,
        "save_total_limit": 20,
        "eval_strategy": "steps",
        "eval_steps": 3,
    }
    scores: list[Scores] = []

    def initial(trainer) -> Scores:
        scores[:] = scores or [trainer.score_candidates()]
        return scores[0]

    extra = {"eval_entries": as_entries(items_for("vft")[:3]), "initial_scores": initial if name == "bcl" else None}
    through = make_trainer(tmp_path / "through", name, job=extra, **options)
    through.train()
    assert through.state.global_step == 9
    checkpoint = tmp_path / "resumed" / f"checkpoint-{stop}"
    shutil.copytree(tmp_path / "through" / f"checkpoint-{stop}", checkpoint)
    torch.manual_seed(123)  # another process begins in another state
    resumed = make_trainer(tmp_path / "resumed", name, job=extra, **options)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert same_weights(through.model, resumed.model)
    assert logged(through) == logged(resumed)
    keys = {"loss", "loss/vft", "grad_norm", "learning_rate", "epoch", "step"}
    assert all(keys <= set(entry) for entry in logged(through) if "eval_loss" not in entry)


class Signal(TrainerCallback):
    """Sends this process a signal while it does a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step - 1:
            signal.raise_signal(signal.SIGTERM)


# where nothing is due, between two epochs, and where a log is due
@pytest.mark.parametrize(("stop", "strategy"), [(2, "steps"), (3, "epoch"), (5, "steps"), (8, "epoch")])
def test_a_signal_ends_training_at_a_step_and_it_resumes_bit_for_bit(tmp_path, stop, strategy):
    options = {
        **DROPOUT,
        "optim": "adamw_torch",
        "lr_scheduler_type": "linear",
        "num_train_epochs": 3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "logging_steps": 4,
        "save_strategy": strategy,
        "save_steps": 6,
        "save_total_limit": 20,
    }
    scores: list[Scores] = []

    def initial(trainer) -> Scores:
        scores[:] = scores or [trainer.score_candidates()]
        return scores[0]

    extra = {"initial_scores": initial}
    through = make_trainer(tmp_path / "through", "bcl", job=extra, **options)
    through.train()
    cut = make_trainer(tmp_path / "cut", "bcl", job=extra, **options)
    cut.add_callback(Signal(stop))
    with pytest.raises(Ended) as caught, listening(), deferring():
        cut.train()
    assert (caught.value.exit_code, cut.state.global_step) == (128 + signal.SIGTERM, stop)
    checkpoint = str(last_checkpoint(tmp_path / "cut").path)
    assert checkpoint == str(tmp_path / "cut" / f"checkpoint-{stop}")
    torch.manual_seed(123)  # another process begins in another state
    resumed = make_trainer(tmp_path / "cut", "bcl", job=extra, **options)
    resumed.train(resume_from_checkpoint=checkpoint)
    assert same_weights(through.model, resumed.model)
    assert logged(through) == logged(resumed)
    assert resumed.state.global_step == 9


def test_a_signal_in_the_last_step_does_not_cut_what_is_finished(tmp_path):
    trainer = make_trainer(tmp_path, "vft", max_steps=3)
    trainer.add_callback(Signal(3))
    with pytest.raises(Ended), listening(), deferring():
        trainer.train()
        trained = True
    assert trained and trainer.state.global_step == 3


def test_training_that_saves_nothing_ends_without_a_checkpoint(tmp_path, capsys):
    trainer = make_trainer(tmp_path, "vft", max_steps=3)
    trainer.add_callback(Signal(1))
    with pytest.raises(Ended), listening(), deferring():
        trainer.train()
    assert trainer.state.global_step == 1 and not list(tmp_path.glob("checkpoint-*"))
    assert "SIGTERM: ends at step 1, not saved" in capsys.readouterr().err


def test_what_is_measured_in_between_does_not_change_training(tmp_path):
    runs = []
    for extra, strategy in [
        ({}, "no"),
        ({"eval_entries": as_entries(items_for("vft")), "initial_scores": lambda t: t.score_candidates()}, "steps"),
    ]:
        trainer = make_trainer(tmp_path, "bcl", **DROPOUT, max_steps=5, eval_strategy=strategy, eval_steps=2, job=extra)
        trainer.train()
        runs.append(trainer.model)
    assert same_weights(*runs)


# ---- what stops it ----


class Snapshot(TrainerCallback):
    """The weights behind each step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, args, state, control, model=None, **_):
        self.weights.append({key: value.clone() for key, value in model.state_dict().items()})


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(("in_reference", "term"), [(True, "loss/vft"), (False, "loss/align")])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, accumulation, in_reference, term):
    bad_word = 31
    items = [item for item in items_for("bcl") if item.supervised[0] and item.candidates]
    without = [
        Item(
            item.question_id,
            [min(token, bad_word - 1) for token in item.prompt_ids],
            [[min(token, bad_word - 1) for token in response] for response in item.responses],
            item.supervised,
            item.ratings,
        )
        for item in items
    ]
    order = [item.question_id for step in items_of_steps(without, 3, step=2) for item in step]
    poisoned = order[2 * accumulation]  # in the second step
    items = [
        Item(
            item.question_id,
            item.prompt_ids,
            [[bad_word, *r] if (index == 0) == in_reference else r for index, r in enumerate(item.responses)],
            item.supervised,
            item.ratings,
        )
        if item.question_id == poisoned
        else item
        for item in without
    ]
    trainer = make_trainer(
        tmp_path,
        "bcl",
        items=items,
        optim="adamw_torch",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=accumulation,
        max_steps=5,
    )
    with torch.no_grad():
        trainer.model.model.embed_tokens.weight[bad_word] = math.nan
    snapshot = Snapshot()
    trainer.add_callback(snapshot)
    with pytest.raises(AftError) as caught:
        trainer.train()
    message = str(caught.value)
    tensor = "model.embed_tokens.weight of the model holds nan or inf"
    assert message.startswith(f"step 2: {term} is nan ({tensor}); the model was not updated. Questions: ")
    assert poisoned in message.split("Questions: ")[1].split(".")[0].split(", ")
    assert len(snapshot.weights) == 1
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value.nan_to_num(7), snapshot.weights[0][key].nan_to_num(7))


def test_a_term_that_is_not_finite_stops_before_the_update_whatever_its_gradient(tmp_path):
    """The norm of the gradient is finite here, so that it alone would let the step pass."""

    def infinite(scores, ratings, **_):
        return 0 * scores.sum(dim=1) + math.inf, {}

    objective = dataclasses.replace(OBJECTIVES["bcl"][0], loss=infinite)
    trainer = make_trainer(tmp_path, "bcl", job={"objective": objective}, gradient_accumulation_steps=2, max_steps=1)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    with pytest.raises(AftError, match=r"^step 1: loss/align is inf; the model was not updated\. Questions: q"):
        trainer.train()
    assert all(parameter.grad.isfinite().all() for parameter in trainer.model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items())


def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path):
    """The square root has a finite value and an infinite slope at zero; a loss like it must not spoil the weights."""
    items = items_for("vft")
    trainer = make_trainer(tmp_path, "vft", items=items, optim="adamw_torch", max_steps=3)

    class Root(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, hidden):
            logits = self.inner(hidden)
            return logits + (logits - logits.detach()).abs().sqrt()

    snapshot = Snapshot()
    trainer.add_callback(snapshot)
    trainer.model.model.layers[1].mlp = Root(trainer.model.model.layers[1].mlp)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    drawn = ", ".join(item.question_id for item in items_of_steps(items, 1, step=2)[0])
    with pytest.raises(AftError, match=rf"^step 1: the gradient's norm is nan; .* Questions: {drawn}\."):
        trainer.train()
    assert not snapshot.weights
    assert all(torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items())


# ---- what it learns ----


@pytest.mark.parametrize("name", ["bcl", "dcl-mean-with-pair"])
def test_eight_groups_are_overfitted(tmp_path, name):
    items = random_items(2, [[None, 1.0, 0.0, 0.0], [None, 1.0, 1.0, 0.0]] * 4)
    model = tiny_model()
    with torch.no_grad():
        before = [scores_of(model, item) for item in items]
    assert sum(scores[0] > scores[-1] for scores in before) < 8
    trainer = make_trainer(
        tmp_path,
        name,
        items=items,
        optim="adamw_torch",
        learning_rate=1e-2,
        max_steps=60,
        logging_steps=20,
        per_device_train_batch_size=8,
    )
    trainer.train()
    trainer.model.eval()
    with torch.no_grad():
        for item in items:
            scores = scores_of(trainer.model, item)
            ratings = torch.tensor([item.ratings[index] for index in item.candidates])
            assert scores[ratings == 1].min() > scores[ratings == 0].max()
    entries = logged(trainer)
    assert entries[-1]["scores/margin"] > 0 > entries[0]["scores/margin"] - 0.5
    assert entries[-1]["loss"] < entries[0]["loss"] / 2


# ---- evaluation while training, and what is saved ----


def test_the_validation_loss_is_an_exact_token_mean(tmp_path):
    items = items_for("vft")
    for batch in (1, 4, 11):
        trainer = make_trainer(
            tmp_path, "vft", per_device_eval_batch_size=batch, job={"eval_entries": as_entries(items)}
        )
        found = trainer.evaluate()
        with torch.no_grad():
            expected, _ = expected_terms(tiny_model(), "vft", items)
        assert found["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_validation_metrics_are_logged_and_the_best_model_is_kept(tmp_path):
    values = iter([0.2, 0.9, 0.9, 0.1])
    modes = []

    def validate(model) -> dict[str, float]:
        modes.append(model.training)
        return {"task_accuracy": next(values)}

    snapshot = Snapshot()
    trainer = make_trainer(
        tmp_path,
        "bcl",
        job={"validate": validate},
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="task_accuracy",
        greater_is_better=True,
    )
    trainer.add_callback(snapshot)
    trainer.train()
    measured = [entry["eval_task_accuracy"] for entry in logged(trainer) if "eval_task_accuracy" in entry]
    assert measured == [0.2, 0.9, 0.9, 0.1] and not any(modes)
    # of equals the first
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, snapshot.weights[1][key])
        assert not torch.equal(value, snapshot.weights[3][key])


def test_the_saved_model_is_plain_transformers(tmp_path):
    tiny_model().save_pretrained(tmp_path / "plain")
    trainer = make_trainer(tmp_path / "run", max_steps=2, save_strategy="steps", save_steps=2)
    trainer.train()
    trainer.save_model()
    ids = torch.tensor([[3, 4, 5, 6]])
    trainer.model.eval()
    plain = json.loads((tmp_path / "plain" / "config.json").read_text())
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-2"):
        assert json.loads((folder / "config.json").read_text()) == plain
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            assert torch.equal(loaded(ids).logits, trainer.model(ids).logits)
        assert word_tokenizer().get_vocab() == json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]


def test_nothing_is_printed_beside_the_progress(tmp_path, capsys):
    make_trainer(tmp_path, max_steps=1).train()
    assert capsys.readouterr().out == ""


# ---- precision and memory ----


@pytest.mark.parametrize("training", [{"bf16": True}, {"gradient_checkpointing": True}])
def test_mixed_precision_and_checkpointing_stay_near(tmp_path, training):
    plain, other = (make_trainer(tmp_path, max_steps=2, learning_rate=0.01, **options) for options in ({}, training))
    plain.train()
    other.train()
    tolerance = 0.05 if "bf16" in training else 1e-5
    for entry, expected in zip(logged(other), logged(plain), strict=True):
        assert entry == pytest.approx(expected, rel=tolerance, abs=tolerance)
    assert {parameter.dtype for parameter in other.model.parameters()} == {torch.float32}


def test_kinds_hold_what_the_tests_need():
    items = random_items(11, KINDS)
    assert len({len(r) for item in items for r in item.responses}) > 5 and len(items) % STEP
    assert any(not item.candidates for item in items) and any(not any(item.supervised) for item in items)
    assert any(item.candidates and not has_pair(item) for item in items)
