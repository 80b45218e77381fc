"""What is saved is compared with what was trained."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
import torch
from tokenizers import pre_tokenizers

from aft.errors import AftError
from aft.model import load_model, merge_lora
from aft.scoring.forward import enable_scoring
from aft.scoring.responses import response_logps
from aft.training.saved import check_saved, check_tokenizer, trained_scores
from tiny_models import tiny_model, word_tokenizer
from tiny_trainers import make_trainer

PEFT_WARNING = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"]}
CPU = torch.device("cpu")
SAVED = Path("saved")


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
    check_saved(trained, functools.partial(loaded, tmp_path / "saved", dtype=name), CPU, SAVED)
    assert "saved:" not in capsys.readouterr().err

    def shuffle(model):
        model.lm_head.weight.copy_(model.lm_head.weight.roll(1, 0))

    with pytest.raises(AftError, match=r"^saved: what was saved is not what was trained: .* kept in saved\. To go on"):
        check_saved(trained, functools.partial(loaded, tmp_path / "saved", shuffle, name), CPU, SAVED)
    with pytest.raises(AftError, match="not what was trained"):
        check_saved(
            trained, lambda: loaded(tmp_path / "saved", lambda m: m.lm_head.weight.fill_(torch.nan), name), CPU, SAVED
        )


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_an_adapter_that_did_not_reach_the_merged_model_is_noticed_however_little_it_learnt(tmp_path):
    trainer, trained = train(tmp_path, lora=LORA, learning_rate=3e-3)
    trainer.save_model(str(tmp_path / "adapter"))
    merge_lora(tiny_model(), tmp_path / "adapter").save_pretrained(tmp_path / "merged")
    check_saved(trained, lambda: loaded(tmp_path / "merged"), CPU, Path("merged"))
    tiny_model().save_pretrained(tmp_path / "base")
    learnt = (trained.logps - trained.without_adapter).abs().mean().item()
    assert learnt < 0.01  # less than rounding may change
    with pytest.raises(AftError, match="not what was trained"):
        check_saved(trained, lambda: loaded(tmp_path / "base"), CPU, Path("base"))


@pytest.mark.filterwarnings(PEFT_WARNING)
@pytest.mark.parametrize("rate", [3e-3, 1e-2, 3e-2])
def test_an_adapter_that_was_lost_is_noticed_in_sixteen_bits(tmp_path, rate):
    _, trained = train(tmp_path, lora=LORA, learning_rate=rate, dtype=torch.bfloat16)
    learnt = (trained.logps - trained.without_adapter).abs().mean().item()
    assert 0.001 < learnt < 0.1  # what was once the bound of sixteen bits
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path / "base")
    with pytest.raises(AftError, match=r"not what was trained: .* set model\.dtype to float32"):
        check_saved(trained, lambda: loaded(tmp_path / "base", dtype="bfloat16"), CPU, tmp_path / "base")


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_a_merge_that_is_rounded_to_sixteen_bits_is_accepted_and_a_large_loss_is_told(tmp_path, capsys):
    trainer, trained = train(tmp_path, lora=LORA, learning_rate=0.1, dtype=torch.bfloat16)
    trainer.save_model(str(tmp_path / "adapter"))
    merge_lora(tiny_model().to(torch.bfloat16), tmp_path / "adapter").save_pretrained(tmp_path / "merged")
    load = functools.partial(loaded, tmp_path / "merged", dtype="bfloat16")
    check_saved(trained, load, CPU, tmp_path / "merged")
    assert "merged" not in capsys.readouterr().err
    # as if the adapter had learnt little more than the merge lost
    with torch.no_grad():
        found = response_logps(load(), trained.batch, precise=True)
    little = trained.logps + 1.5 * (trained.logps - found)
    trained = dataclasses.replace(trained, without_adapter=little)
    check_saved(trained, load, CPU, tmp_path / "merged")
    assert "merged into weights of sixteen bits, the adapter is" in capsys.readouterr().err


@pytest.mark.parametrize(("scale", "shift", "accepted"), [(1, 0.08, False), (1, 0, True), (16, 0, True)])
def test_the_bound_of_sixteen_bits_is_the_noise_of_the_model(tmp_path, scale, shift, accepted):
    """Scores in mixed precision: a quiet model may not be 0.08 off, and a noisy one may be more than 0.1 off."""
    trainer, trained = train(tmp_path, bf16=True)

    def sharpen(model):
        model.lm_head.weight.mul_(scale)

    trainer.save_model(str(tmp_path / "saved"))
    exact = loaded(tmp_path / "saved", sharpen)
    batch = trained.batch
    with torch.no_grad():
        logps = response_logps(loaded(tmp_path / "saved", sharpen, "bfloat16"), batch).float()
        off = (logps - response_logps(exact, batch)).abs().mean().item()
    assert (off > 0.1) == (scale > 1)
    trained = dataclasses.replace(trained, logps=logps + shift, precise=False)
    load = functools.partial(loaded, tmp_path / "saved", sharpen)
    if accepted:
        check_saved(trained, load, CPU, SAVED)
    else:
        with pytest.raises(AftError, match="not what was trained"):
            check_saved(trained, load, CPU, SAVED)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_a_model_for_which_there_is_no_memory_is_not_compared(tmp_path, error, capsys):
    _, trained = train(tmp_path)

    def load():
        raise error

    check_saved(trained, load, CPU, SAVED)
    assert "saved: not loaded and compared with the trained model" in capsys.readouterr().err


def test_a_saved_tokenizer_that_encodes_otherwise_is_refused(tmp_path):
    """Without its pre-tokenizer it reads all ids as the same text."""
    _, trained = train(tmp_path)
    check_tokenizer(trained, word_tokenizer(), word_tokenizer(), SAVED)
    other = word_tokenizer()
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split("?", "isolated")
    with pytest.raises(AftError, match=r"^saved: the saved tokenizer encodes text to other ids .* kept in saved\."):
        check_tokenizer(trained, other, word_tokenizer(), SAVED)
