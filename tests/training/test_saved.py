"""What is saved is compared with what was trained."""

from __future__ import annotations

import functools

import pytest
import torch

from aft.errors import AftError
from aft.model import load_model, merge_lora
from aft.scoring.forward import enable_scoring
from aft.training.saved import check_saved, trained_scores
from tiny_models import tiny_model
from tiny_trainers import make_trainer

PEFT_WARNING = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"]}
CPU = torch.device("cpu")


def loaded(folder, change=lambda model: None, dtype="float32"):
    model = load_model(str(folder), dtype=dtype)
    with torch.no_grad():
        change(model)
    enable_scoring(model)
    return model


def train(folder, **changes):
    trainer = make_trainer(folder, "vft", max_steps=3, **changes)
    trainer.train()
    return trainer, trained_scores(trainer)


@pytest.mark.parametrize(
    ("dtype", "training"),
    [(torch.float32, {}), (torch.float32, {"bf16": True}), (torch.bfloat16, {})],
    ids=["float32", "mixed", "bfloat16"],
)
def test_a_saved_model_scores_as_the_trained_one_and_another_is_refused(tmp_path, dtype, training, capsys):
    trainer, trained = train(tmp_path, dtype=dtype, **training)
    assert trained.precise and trained.without_adapter is None and len(trained.batch["question_ids"]) == 4
    trainer.save_model(str(tmp_path / "saved"))
    name = str(dtype).removeprefix("torch.")
    check_saved(trained, functools.partial(loaded, tmp_path / "saved", dtype=name), CPU, "saved")
    assert "saved:" not in capsys.readouterr().err

    def shuffle(model):
        model.lm_head.weight.copy_(model.lm_head.weight.roll(1, 0))

    with pytest.raises(AftError, match=r"^saved: what was saved is not what was trained: .* The stage is not done$"):
        check_saved(trained, functools.partial(loaded, tmp_path / "saved", shuffle, name), CPU, "saved")
    with pytest.raises(AftError, match="not what was trained"):
        check_saved(
            trained, lambda: loaded(tmp_path / "saved", lambda m: m.lm_head.weight.fill_(torch.nan), name), CPU, "saved"
        )


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_an_adapter_that_did_not_reach_the_merged_model_is_noticed_however_little_it_learnt(tmp_path):
    trainer, trained = train(tmp_path, lora=LORA, learning_rate=3e-3)
    trainer.save_model(str(tmp_path / "adapter"))
    merge_lora(tiny_model(), tmp_path / "adapter").save_pretrained(tmp_path / "merged")
    check_saved(trained, lambda: loaded(tmp_path / "merged"), CPU, "merged")
    tiny_model().save_pretrained(tmp_path / "base")
    learnt = (trained.logps - trained.without_adapter).abs().mean().item()
    assert learnt < 0.01  # less than rounding may change
    with pytest.raises(AftError, match="not what was trained"):
        check_saved(trained, lambda: loaded(tmp_path / "base"), CPU, "base")


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_sixteen_bits_that_lose_what_an_adapter_learnt_are_told(tmp_path, capsys):
    _, trained = train(tmp_path, lora=LORA, learning_rate=1e-2, dtype=torch.bfloat16)
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path / "base")
    check_saved(trained, lambda: loaded(tmp_path / "base", dtype="bfloat16"), CPU, "base")
    assert "merged into weights of sixteen bits, the adapter is" in capsys.readouterr().err
