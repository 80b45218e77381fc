"""Loads tokenizers and models, builds them from scratch, and adds or merges LoRA adapters."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import cached_file

from .errors import ConfigError, nearest
from .progress import say
from .prompts import chat_messages, render_prompt

# How text is split before its merges, by the name in the file's `tokenizer.ggml.pre`.
_SPLITTING = {
    # single digits first, then GPT-2's pattern
    "smollm": lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    ),
}
# Names for which transformers' own choice is right.
_RIGHT_ALREADY = {"gpt-2", "default"}

SPECIAL_TOKENS = ("<pad>", "<eos>", "<unk>")


# ---- text -> token ids ----


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, text: str, template: str, *, chat: bool, system: str | None
) -> list[int]:
    """Token ids of a question's prompt. Responses are encoded separately, so that a sequence starts with these ids."""
    if chat:
        messages = chat_messages(text, template, system)
        try:
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        except (ValueError, TemplateError) as error:
            raise ConfigError(f"prompt.chat: the tokenizer's chat template fails: {_first_line(error)}") from None
        return list(ids)
    ids = list(tokenizer(render_prompt(text, template))["input_ids"])
    # some tokenizers add the end token to every text; a prompt must not have it
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str, *, ended: bool = True) -> list[int]:
    """Token ids of a response; `ended` adds the end token (a truncated completion has none)."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return [*ids, tokenizer.eos_token_id] if ended else ids


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding id: the tokenizer's pad token, or its end token if it has no pad token."""
    own: int | None = tokenizer.pad_token_id
    return tokenizer.eos_token_id if own is None else own


# ---- loading and building ----


def load_tokenizer(
    name_or_path: str, *, revision: str | None = None, trust_remote_code: bool = False, gguf_file: str | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, or of a GGUF file in it.

    Raises `ConfigError` if it cannot be loaded or has no end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name_or_path, revision=revision, trust_remote_code=trust_remote_code, gguf_file=gguf_file
        )
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"model.name_or_path: no tokenizer could be loaded from '{name_or_path}': {_first_line(error)}"
        ) from None
    if gguf_file is not None:
        _restore_splitting(tokenizer, name_or_path, gguf_file, revision=revision)
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
    gguf_file: str | None = None,
) -> PreTrainedModel:
    """A causal language model from the hub or a folder. Raises `ConfigError` if it is damaged or incomplete.

    `gguf_file` names a GGUF file in that place. Its weights are dequantised, and the model can be trained and saved.
    """
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name_or_path,
            dtype="auto" if dtype == "auto" else getattr(torch, dtype),
            revision=revision,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **({} if gguf_file is None else {"gguf_file": gguf_file}),
        )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"model.name_or_path: '{name_or_path}' could not be loaded: {_first_line(error)}") from None
    _check_family(model, "model.name_or_path")
    missing = sorted(found["missing_keys"])
    if missing:
        # transformers would give the missing weights random values
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise ConfigError(f"model.name_or_path: '{name_or_path}' lacks {len(missing)} of its weights: {shown}")
    model = model if gguf_file is None else _unquantised(model)
    _keep_soft_capping(model, attn_implementation)
    return model


def _keep_soft_capping(model: PreTrainedModel, asked: str | None) -> None:
    """Take eager attention for a model with soft-capping: scaled-dot-product attention leaves the cap out.

    Some versions of transformers choose that attention for such a model, and say nothing.
    """
    cap = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    if cap is None or model.config._attn_implementation != "sdpa":
        return
    if asked == "sdpa":
        raise ConfigError(f"model.attn_implementation: sdpa has no soft-capping, which {type(model).__name__} needs")
    model.set_attn_implementation("eager")


# ---- GGUF: what transformers leaves undone ----


def _restore_splitting(
    tokenizer: PreTrainedTokenizerBase, name_or_path: str, gguf_file: str, *, revision: str | None = None
) -> None:
    """Split text as the file says. transformers takes GPT-2's pattern for every byte-level tokenizer.

    A name that is not known here is told, with what to compare.
    """
    named = _text_field(cached_file(name_or_path, gguf_file, revision=revision), "tokenizer.ggml.pre")
    if named in _SPLITTING:
        backend: Any = tokenizer.backend_tokenizer
        backend.pre_tokenizer = _SPLITTING[named]()
    elif named is not None and named not in _RIGHT_ALREADY:
        say(
            f"{gguf_file}: its text is split in the way '{named}', which transformers may not follow;"
            " compare the ids of a few texts with those of the published tokenizer"
        )


def _text_field(path: str | Path, key: str) -> str | None:
    from gguf import GGUFReader

    field = GGUFReader(path).get_field(key)
    return None if field is None else bytes(field.parts[field.data[0]]).decode("utf-8")


def _unquantised(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that does not call itself quantised: transformers saves no other."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=model.dtype, attn_implementation=config._attn_implementation
    )
    fresh.load_state_dict(model.state_dict())
    fresh.generation_config = model.generation_config
    return fresh


def _check_family(model: PreTrainedModel, key: str) -> None:
    """Raise `ConfigError` for an encoder-decoder. Its decoder counts padding in positions, so scores would be wrong."""
    config = model.config
    # the config of a decoder loaded alone says False; its class still says True
    if type(config).is_encoder_decoder or config.is_encoder_decoder:
        raise ConfigError(f"{key}: {encoder_decoder(config.model_type)}")


def encoder_decoder(model_type: str) -> str:
    """The error message for an encoder-decoder."""
    return f"{model_type} is an encoder-decoder (is_encoder_decoder); expected a causal language model"


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
        model: PreTrainedModel = AutoModelForCausalLM.from_config(model_config)
    except (ValueError, TypeError, AssertionError, RuntimeError, KeyError, StrictDataclassError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"model.from_scratch: {architecture} cannot be built so: {reason}") from None
    _check_family(model, "model.from_scratch.architecture")
    _keep_soft_capping(model, None)
    return model


def add_lora(model: PreTrainedModel, lora: dict[str, Any]) -> torch.nn.Module:
    """`model` with trainable LoRA adapters; all other weights are frozen. `lora`: arguments of peft's LoraConfig."""
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
