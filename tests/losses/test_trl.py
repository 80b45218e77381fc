"""The losses that TRL has too, against TRL's own values on the same pairs, policy and reference."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("trl", reason="trl is not installed: pip install -e '.[dev]'")

from datasets import Dataset

from aft.logps import mean_scores
from aft.losses import dpo_loss, ipo_loss, kto_loss, nca_loss, orpo_loss, simpo_loss
from tiny_models import tiny_model, word_tokenizer

# TRL calls transformers' arguments by their old names
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")
BETA = 0.3
PAIRS = {
    "prompt": ["a b c ", "d e ", "f "],
    "chosen": ["g h i j", "k", "l m"],
    "rejected": ["n o", "p q r s t", "u v w"],
}


def perturbed(model):
    """The policy: another model than the reference."""
    policy = copy.deepcopy(model)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return policy


def arguments(folder):
    return {
        "output_dir": str(folder),
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "beta": BETA,
        "gradient_checkpointing": False,
        "disable_dropout": True,
        "max_length": 64,
    }


@torch.no_grad()
def log_probs(model, batch):
    """(sum of the completion's log-probs, its number of tokens) of every row of TRL's batch, by the plain way."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].double()
    tokens = batch["input_ids"][:, 1:].unsqueeze(-1)
    mask = batch["completion_mask"][:, 1:].bool()
    token_logps = logits.log_softmax(-1).gather(-1, tokens).squeeze(-1)
    return torch.where(mask, token_logps, 0.0).sum(-1), mask.sum(-1)


def as_pairs(values):
    """TRL's rows, chosen first then rejected, as (B, 2)."""
    return torch.stack(values.chunk(2), dim=1)


@pytest.mark.parametrize("loss_type", ["sigmoid", "sigmoid_norm", "ipo", "nca_pair"])
def test_dpo_ipo_and_nca(tmp_path, loss_type):
    from trl import DPOConfig, DPOTrainer

    reference = tiny_model()
    policy = perturbed(reference)
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=DPOConfig(**arguments(tmp_path), loss_type=[loss_type], per_device_train_batch_size=3),
        train_dataset=Dataset.from_dict(PAIRS),
        processing_class=word_tokenizer(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    policy.eval()
    theirs = trainer.compute_loss(policy, batch).item()
    (logps, lengths), (ref_logps, _) = log_probs(policy, batch), log_probs(reference, batch)
    sums, ref_sums = as_pairs(logps), as_pairs(ref_logps)
    scores, ref_scores = as_pairs(mean_scores(logps, lengths)), as_pairs(mean_scores(ref_logps, lengths))
    ratings = torch.tensor([[1, 0]]).expand(3, 2)
    per_group, _ = {
        "sigmoid": lambda: dpo_loss(sums, ratings, ref_scores=ref_sums, beta=BETA),
        "sigmoid_norm": lambda: dpo_loss(scores, ratings, ref_scores=ref_scores, beta=BETA),
        "ipo": lambda: ipo_loss(scores, ratings, ref_scores=ref_scores, beta=BETA),
        "nca_pair": lambda: nca_loss(sums, ratings, ref_scores=ref_sums, beta=BETA, alpha=0.01),
    }[loss_type]()
    assert per_group.mean().item() == pytest.approx(theirs, rel=1e-5)
    unmoved, _ = dpo_loss(sums, ratings, ref_scores=sums, beta=BETA)
    assert unmoved.mean().item() != pytest.approx(theirs, rel=1e-3), "the policy must differ from the reference"


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
def test_kto(tmp_path, loss_type):
    from trl import KTOConfig, KTOTrainer

    reference = tiny_model()
    policy = perturbed(reference)
    rows = {
        "prompt": PAIRS["prompt"] * 2,
        "completion": PAIRS["chosen"] + PAIRS["rejected"],
        "label": [True] * 3 + [False] * 3,
    }
    trainer = KTOTrainer(
        model=policy,
        ref_model=reference,
        args=KTOConfig(
            **arguments(tmp_path),
            loss_type=loss_type,
            per_device_train_batch_size=6,
            desirable_weight=1.25,
            undesirable_weight=0.75,
        ),
        train_dataset=Dataset.from_dict(rows),
        processing_class=word_tokenizer(),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    policy.eval()
    theirs = trainer.compute_loss(policy, batch).item()
    divergence = trainer._metrics["train" if policy.training else "eval"]["kl"][-1]
    assert (divergence > 0) == (loss_type == "kto"), "the reference point must matter"
    (logps, _), (ref_logps, _) = log_probs(policy, batch), log_probs(reference, batch)
    labels = torch.as_tensor(batch["label"]).unsqueeze(0)
    per_group, _ = kto_loss(
        logps.unsqueeze(0),
        labels,
        ref_scores=ref_logps.unsqueeze(0),
        beta=BETA,
        reference_point=divergence,
        desirable_weight=1.25,
        undesirable_weight=0.75,
    )
    assert per_group.item() == pytest.approx(theirs, rel=1e-5)


def scores_of_pairs(seed):
    return -2 * torch.rand(20, 2, generator=torch.Generator().manual_seed(seed)) - 0.01


def test_simpo():
    from trl.experimental.cpo import CPOTrainer

    scores = scores_of_pairs(0)
    settings = SimpleNamespace(
        loss_type="simpo",
        beta=2.5,
        simpo_gamma=0.7,
        label_smoothing=0.0,
        alpha=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )
    theirs = CPOTrainer.cpo_loss(settings, *scores.T)[0]
    per_group, _ = simpo_loss(scores, torch.tensor([[1, 0]]).expand(20, 2), beta=2.5, gamma=0.7)
    torch.testing.assert_close(per_group, theirs)


def test_orpo():
    from trl.experimental.orpo import ORPOTrainer

    scores = scores_of_pairs(1)
    settings = SimpleNamespace(beta=0.4, accelerator=SimpleNamespace(device="cpu"))
    theirs = -ORPOTrainer.odds_ratio_loss(settings, *scores.T)[0]  # TRL subtracts it
    per_group, _ = orpo_loss(scores, torch.tensor([[1, 0]]).expand(20, 2))
    torch.testing.assert_close(0.4 * per_group, theirs)
