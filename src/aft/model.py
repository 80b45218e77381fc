"""Tokenizer and model: load, build from scratch, adapt, score, save. The forward pass that never holds all logits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from .errors import ConfigError, nearest
from .logps import default_chunk_size, token_logps
from .prompts import chat_messages, render_prompt

SPECIAL_TOKENS = ("<pad>", "<eos>", "<unk>")


# ---- text -> token ids ----


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, text: str, template: str, *, chat: bool, system: str | None
) -> list[int]:
    """Token ids of a question's prompt. A response is encoded apart, so that the prompt is its exact beginning."""
    if chat:
        messages = chat_messages(text, template, system)
        try:
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        except (ValueError, TemplateError) as error:
            raise ConfigError(f"prompt.chat: the tokenizer's chat template fails: {_first_line(error)}") from None
        return list(ids)
    ids = list(tokenizer(render_prompt(text, template))["input_ids"])
    # a tokenizer that ends every text would end the prompt as well
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str, *, ended: bool = True) -> list[int]:
    """Token ids of a response; `ended` adds the end token (a truncated completion has none)."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return [*ids, tokenizer.eos_token_id] if ended else ids


# ---- loading and building ----


def load_tokenizer(
    name_or_path: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint; one without an end token raises `ConfigError`."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"model.name_or_path: no tokenizer could be loaded from '{name_or_path}': {_first_line(error)}"
        ) from None
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"model.name_or_path: the tokenizer of '{name_or_path}' has no end token (eos_token)")
    return tokenizer


def load_model(
    name_or_path: str,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """A causal language model from the hub or a folder. A damaged or incomplete one raises `ConfigError`."""
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name_or_path,
            dtype="auto" if dtype == "auto" else getattr(torch, dtype),
            revision=revision,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"model.name_or_path: '{name_or_path}' could not be loaded: {_first_line(error)}") from None
    missing = sorted(found["missing_keys"])
    if missing:
        # transformers would go on with random numbers in their place
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise ConfigError(f"model.name_or_path: '{name_or_path}' lacks {len(missing)} of its weights: {shown}")
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def build_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`: any text survives encoding and decoding unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS[:2]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrap_tokenizer(tokenizer)


def build_word_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per space-separated word of a closed vocabulary."""
    ids = {word: index for index, word in enumerate([*SPECIAL_TOKENS, *vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL_TOKENS[2]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrap_tokenizer(tokenizer, unk_token=SPECIAL_TOKENS[2])


def _wrap_tokenizer(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL_TOKENS[0],
        eos_token=SPECIAL_TOKENS[1],
        clean_up_tokenization_spaces=False,
        **special,
    )


def build_model(
    architecture: str, config: dict[str, Any], tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> PreTrainedModel:
    """A causal language model with random weights, drawn from `seed`."""
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    if architecture not in known:
        raise ConfigError(f"model.from_scratch.architecture: unknown '{architecture}'.{nearest(architecture, known)}")
    reference = AutoConfig.for_model(architecture)
    unknown = [key for key in config if not hasattr(reference, key)]
    if unknown:
        raise ConfigError(
            [
                f"model.from_scratch.config.{key}: {type(reference).__name__} has no such argument."
                + nearest(key, reference.to_dict())
                for key in unknown
            ]
        )
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    torch.manual_seed(seed)
    try:
        model_config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **{**special, **config})
        return AutoModelForCausalLM.from_config(model_config)
    except (ValueError, TypeError, AssertionError, RuntimeError, KeyError, StrictDataclassError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"model.from_scratch: {architecture} cannot be built so: {reason}") from None


def add_lora(model: PreTrainedModel, lora: dict[str, Any]) -> torch.nn.Module:
    """`model` with trainable low-rank adapters; everything else is frozen. `lora`: arguments of peft's LoraConfig."""
    from peft import LoraConfig, get_peft_model

    try:
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    except ValueError as error:
        raise ConfigError(f"model.lora: {_first_line(error)}") from None


def merge_lora(base: PreTrainedModel, adapter: str | Path) -> PreTrainedModel:
    """`base` with the saved adapter added to its weights."""
    from peft import PeftModel

    merged: PreTrainedModel = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    return merged


# ---- scoring ----


def enable_scoring(model: torch.nn.Module, *, chunk_bytes: int) -> None:
    """Give a causal LM's forward a second mode, in place: with `positions` and `targets` it returns token log-probs.

    `model(input_ids=..., attention_mask=..., position_ids=..., positions=(R,), targets=(R,))` returns (R,) float32,
    nats per token: `targets[r]` under the output at row-major position `positions[r]` of the (N, T) input. The
    logits exist for one chunk of `chunk_bytes` at a time and are recomputed in the backward pass.

    The head is called inside the model's own forward, so that the hooks of DDP, FSDP and ZeRO around it run; under
    an adapter (peft) the underlying model is the one that changes. Any other call is passed on untouched. The first
    scored call compares itself with the model's own logits and raises `ConfigError` where they disagree.
    """
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    plain = causal.forward
    body = getattr(causal, causal.base_model_prefix, None) or getattr(causal, "model", None)
    head = causal.get_output_embeddings()
    if body is None or head is None:
        raise ConfigError(f"model: {type(causal).__name__} is not built as a body and a head that makes its logits")
    chunk_size = default_chunk_size(head, chunk_bytes)
    postprocess = _logit_postprocess(causal.config.get_text_config())
    unchecked = True

    def score(inputs: dict[str, Any], positions: Tensor, targets: Tensor) -> Tensor:
        hidden = body(**inputs, use_cache=False).last_hidden_state  # (N, T, H)
        hidden = hidden.flatten(0, 1).index_select(0, positions)  # (R, H)
        return token_logps(hidden, targets, head, chunk_size=chunk_size, postprocess=postprocess)

    @functools.wraps(plain)
    def forward(*args: Any, positions: Tensor | None = None, targets: Tensor | None = None, **kwargs: Any) -> Any:
        nonlocal unchecked
        if positions is None or targets is None:
            return plain(*args, **kwargs)
        # peft passes every argument of its own, most of them None
        inputs = {key: value for key, value in kwargs.items() if value is not None and key != "return_dict"}
        if unchecked:
            # not earlier: only now is the model surely where, and in the precision in which, it will compute
            unchecked = False
            was_training = causal.training
            causal.eval()  # dropout would tell the two apart
            _check_scoring(plain, score, inputs["input_ids"])
            causal.train(was_training)
        return score(inputs, positions, targets)

    causal.forward = forward


@torch.no_grad()
def _check_scoring(plain: Callable[..., Any], score: Callable[..., Tensor], input_ids: Tensor) -> None:
    """Raise `ConfigError` if scores are not what the model's own logits say: an architecture may do more to them."""
    ids = input_ids[:1, :8]
    positions = torch.arange(ids.shape[1], device=ids.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": positions[None]}
    logits = plain(**inputs, use_cache=False).logits[0, :-1]
    found = score(inputs, positions[:-1], ids[0, 1:])
    # under autocast, weights that were cast here are remembered without a gradient
    torch.clear_autocast_cache()
    expected = logits.float().log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1)
    # sixteen bits leave about 1 % of a logit
    allowed = 1e-3 if logits.dtype == torch.float32 else 0.01 * (1 + logits.abs().max().item())
    difference = (found - expected).abs().max().item()
    if difference > allowed:
        name = getattr(plain, "__qualname__", "This architecture").partition(".")[0]
        raise ConfigError(
            f"model: {name} does more to its logits than scoring knows: a token's log-prob would be wrong by"
            f" {difference:.3g} nats, so this architecture cannot be trained or evaluated here"
        )


def _logit_postprocess(config: Any) -> Callable[[Tensor], Tensor] | None:
    """What an architecture does to its logits after the head, by the names that transformers' configurations use."""
    cap = getattr(config, "final_logit_softcapping", None)
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale *= float(getattr(config, "lm_head_multiplier", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    if cap is None and scale == 1.0:
        return None

    def postprocess(logits: Tensor) -> Tensor:
        logits = logits * scale
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return postprocess
