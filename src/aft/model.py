"""Loads tokenizers and models, builds them from scratch, and adds or merges LoRA adapters."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import cached_file

from .errors import ConfigError, DataError, first_line, nearest, raise_of_machine
from .json_files import read_json
from .progress import say

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
    except Exception as error:  # tokenizers raises plain exceptions, and damaged files any kind
        raise_of_machine(error)  # the hub's cache is written, too
        raise ConfigError(
            f"model.name_or_path: no tokenizer could be loaded from '{name_or_path}': {_why(name_or_path, error)}"
        ) from None
    if gguf_file is not None:
        _restore_splitting(tokenizer, name_or_path, gguf_file, revision=revision)
    if not isinstance(tokenizer.model_max_length, (int, float)):
        said = repr(tokenizer.model_max_length)
        raise ConfigError(f"model.name_or_path: model_max_length of '{name_or_path}' must be a number, got {said}")
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
    **more: Any,
) -> PreTrainedModel:
    """A causal language model from the hub or a folder. Raises `ConfigError` if it is damaged or incomplete.

    `gguf_file` names a GGUF file in that place. Its weights are dequantised, and the model can be trained and saved.
    `more`: arguments of transformers' `from_pretrained`.
    """
    _check_shards(Path(name_or_path))
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            name_or_path,
            dtype="auto" if dtype == "auto" else getattr(torch, dtype),
            revision=revision,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **({} if gguf_file is None else {"gguf_file": gguf_file}),
            **more,
        )
    except Exception as error:  # damaged files raise any kind, such as an AttributeError for a list as config.json
        raise_of_machine(error)
        why = _why(name_or_path, error)
        raise ConfigError(f"model.name_or_path: '{name_or_path}' could not be loaded: {why}") from None
    _check_family(model, "model.name_or_path")
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers < 0:
        raise ConfigError(f"model.name_or_path: num_hidden_layers of '{name_or_path}' is {layers}")
    missing = sorted(found["missing_keys"])
    if missing:
        # transformers would give the missing weights random values
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise ConfigError(f"model.name_or_path: '{name_or_path}' lacks {len(missing)} of its weights: {shown}")
    model = model if gguf_file is None else _unquantised(model)
    model = language_model(model)
    _keep_soft_capping(model, attn_implementation)
    return model


def language_model(model: PreTrainedModel) -> PreTrainedModel:
    """The language model of a checkpoint that also has a model for images; any other model as it is.

    Questions are text. The other part would take memory, would be saved, and would be found by names of target modules.
    """
    text = model.config.get_text_config(decoder=True)
    inside = getattr(model.base_model, "language_model", None)
    if text is model.config or inside is None or type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return model
    with torch.device("meta"):
        alone: PreTrainedModel = AutoModelForCausalLM.from_config(text, dtype=model.dtype)
    if type(alone.base_model) is not type(inside):
        return model
    head: Any = model.get_output_embeddings()
    setattr(alone, alone.base_model_prefix, inside)
    alone.set_output_embeddings(head)
    # the layers look their attention up in the configuration that they were built with
    alone.config = inside.config
    alone.config.tie_word_embeddings = head.weight is inside.get_input_embeddings().weight
    alone.config.architectures, alone.config._name_or_path = [type(alone).__name__], model.config._name_or_path
    alone.name_or_path, alone.generation_config = model.name_or_path, model.generation_config
    for key, value in vars(model).items():  # what loading noted of it, such as how it is quantised
        alone.__dict__.setdefault(key, value)
    return alone


def is_inside(checkpoint: str, *, revision: str | None = None, local: bool = False) -> bool:
    """True if `language_model` takes a model out of a checkpoint. False also if its configuration cannot be read.

    `local`: uses no network. The weights are not read, and no code of the checkpoint's runs.
    """
    try:
        config = AutoConfig.from_pretrained(
            checkpoint, revision=revision, trust_remote_code=False, local_files_only=local
        )
        with torch.device("meta"):
            whole = AutoModelForCausalLM.from_config(config)
    except Exception:  # loading the model reports it
        return False
    return language_model(whole) is not whole


_JSON_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("model.safetensors.index.json", "pytorch_model.bin.index.json"),
)


def _check_shards(folder: Path) -> None:
    """Raise `ConfigError` for an index of weights that names a file outside the checkpoint's folder."""
    for index in _JSON_FILES[-2:]:
        try:
            found = read_json(folder / index)
        except DataError:
            continue  # loading the model reports it
        named = (found or {}).get("weight_map")
        for shard in named.values() if isinstance(named, dict) else ():
            if isinstance(shard, str) and (Path(shard).name != shard or (folder / shard).is_dir()):
                raise ConfigError(f"model.name_or_path: {folder / index} names a file outside its folder: {shard}")


def _why(name_or_path: str, error: Exception) -> str:
    """Why a checkpoint cannot be loaded: the file of its folder that is no JSON object, or the error of a library."""
    for name in _JSON_FILES:
        try:
            read_json(Path(name_or_path) / name, hint="")
        except DataError as damaged:
            return str(damaged).removesuffix(".")
    said = " ".join(str(error).split())[:300]
    # a message such as `'added_tokens'` says nothing without its class
    return f"{type(error).__name__}: {said}" if isinstance(error, (LookupError, TypeError)) or not said else said


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


def generation_ends(
    name_or_path: str, *, revision: str | None = None, trust_remote_code: bool = False, gguf_file: str | None = None
) -> list[int]:
    """The ids at which a checkpoint's generation config ends a text. The model is not loaded.

    Raises `ConfigError` for a config that is damaged, or whose ends are no ids.
    """
    load = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config: Any
        try:
            config = GenerationConfig.from_pretrained(name_or_path, revision=revision)
        except OSError:
            if gguf_file is not None:
                return []
            config = AutoConfig.from_pretrained(name_or_path, **load)  # as transformers does when it loads such a model
        ends = as_ends(getattr(config, "eos_token_id", None))
    except Exception as error:
        raise_of_machine(error)
        why = _why(name_or_path, error)
        raise ConfigError(f"model.name_or_path: no ends could be read from '{name_or_path}': {why}") from None
    if not all(type(end) is int and end >= 0 for end in ends):
        raise ConfigError(f"model.name_or_path: eos_token_id of '{name_or_path}' must be ids, got {ends}")
    return ends


def describe_not_finite(model: torch.nn.Module, what: str) -> str:
    """A message about a model whose `what` (logits or log-probs) are nan or inf, with the first tensor that is."""
    config = getattr(model, "config", None)
    name = getattr(config, "_name_or_path", "") or type(model).__name__
    damaged = first_not_finite(model)
    if damaged:
        return f"the {what} of '{name}' are not finite: its tensor {damaged} holds nan or inf"
    return f"the {what} of '{name}' are not finite, but its weights are; set model.inference_dtype to float32"


def first_not_finite(model: torch.nn.Module) -> str | None:
    """The name of the first parameter of a model that holds nan or inf, or None. It waits for the device."""
    values = ((key, value.detach()) for key, value in model.named_parameters() if value.is_floating_point())
    return next((key for key, value in values if not value.isfinite().all()), None)


def as_ends(ids: int | Sequence[int] | None) -> list[int]:
    """The ids of a config's `eos_token_id`."""
    return [ids] if isinstance(ids, int) else list(ids or [])


def model_config(
    name_or_path: str, *, revision: str | None = None, trust_remote_code: bool = False, gguf_file: str | None = None
) -> Any:
    """transformers' configuration of a checkpoint. Raises the errors of transformers."""
    return AutoConfig.from_pretrained(
        name_or_path,
        revision=revision,
        trust_remote_code=trust_remote_code,
        **({} if gguf_file is None else {"gguf_file": gguf_file}),
    )


def model_settings(name_or_path: str, **load: Any) -> dict[str, Any]:
    """The keys of a checkpoint's configuration, with their defaults. Empty if it cannot be read."""
    try:
        return dict(model_config(name_or_path, **load).get_text_config(decoder=True).to_dict())
    except Exception:  # loading the model reports the error
        return {}


def architecture_settings(architecture: str, config: dict[str, Any]) -> dict[str, Any]:
    """The keys of an architecture's configuration, with their defaults. Empty if there is no such configuration."""
    try:
        return dict(AutoConfig.for_model(architecture, **config).get_text_config(decoder=True).to_dict())
    except Exception:  # `build_model` reports the error
        return {}


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
    model = _untrained(architecture, {"vocab_size": len(tokenizer), **special, **config})
    _check_family(model, "model.from_scratch.architecture")
    _keep_soft_capping(model, None)
    return model


def shapes_from_scratch(
    architecture: str, config: dict[str, Any], vocab_size: int
) -> list[tuple[str, tuple[int, ...]]]:
    """(name, shape) of each weight of a model that `build_model` would build. No memory is taken for the weights.

    Raises `ConfigError` for arguments that do not fit the architecture.
    """
    with torch.device("meta"):
        model = _untrained(architecture, {"vocab_size": vocab_size, **config})
    return [(name, tuple(weight.shape)) for name, weight in model.named_parameters()]


def _untrained(architecture: str, config: dict[str, Any]) -> PreTrainedModel:
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **config))
    except Exception as error:  # whatever an architecture does with arguments that do not fit
        raise_of_machine(error)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"model.from_scratch: {architecture} cannot be built so: {reason}") from None
    return model


def lora_arguments(section: dict[str, Any]) -> dict[str, Any]:
    """Arguments of peft's LoraConfig, from the keys of `model.lora`."""
    return {key: value for key, value in section.items() if key != "save"}


def add_lora(model: PreTrainedModel, lora: dict[str, Any]) -> torch.nn.Module:
    """`model` with trainable LoRA adapters; all other weights are frozen. `lora`: see `lora_arguments`.

    Raises `ConfigError` for an adapter on one of two tied weights: the merged checkpoint has one matrix for both.
    """
    from peft import LoraConfig, get_peft_model

    ends = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    tied = ends["output"] is not None and ends["input"].weight is ends["output"].weight
    names = {name: id(module) for name, module in model.named_modules() if any(module is end for end in ends.values())}
    try:
        with _without_peft_warnings():
            adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    except ValueError as error:
        raise ConfigError(f"model.lora: {first_line(error)}") from None
    within = {id(module) for wrapper in adapted.modules() for module in _wrapped(wrapper)}
    both = [name for name, module in names.items() if module in within]
    if tied and both:
        raise ConfigError(
            f"model.lora.target_modules: {', '.join(both)} shares its weights with the other end of the model"
            " (tie_word_embeddings), and a merged checkpoint could not hold what the adapter changes;"
            " leave it out, or start from a copy of the model that is saved untied"
        )
    return adapted


def check_lora(checkpoint: str, lora: dict[str, Any], **load: Any) -> None:
    """Raise the `ConfigError` of `add_lora` for a checkpoint, whose weights are not read. `load`: of `model_config`."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            add_lora(language_model(AutoModelForCausalLM.from_config(model_config(checkpoint, **load))), lora)
    except ConfigError:
        raise
    except Exception:  # whatever an architecture does without weights: the stage itself tries with them
        return


def _wrapped(module: torch.nn.Module) -> list[Any]:
    """The layers that an adapter's layer stands in front of, or that it trains a copy of."""
    inside = (getattr(module, name, None) for name in ("base_layer", "original_module"))
    return [layer for layer in inside if layer is not None]


def merge_lora(base: PreTrainedModel, adapter: str | Path) -> PreTrainedModel:
    """`base` with the saved adapter added to its weights."""
    merged: PreTrainedModel = attach_lora(base, adapter).merge_and_unload()  # type: ignore[operator]
    merged.requires_grad_(True)  # peft froze it
    return merged


def attach_lora(base: PreTrainedModel, adapter: str | Path) -> torch.nn.Module:
    """`base` with the saved adapter in front of its weights, which stay as they are.

    Raises `ConfigError`, also if the adapter's weights are not those that the model has a place for.
    """
    from peft import PeftModel

    with _without_peft_warnings():
        try:
            adapted: Any = PeftModel.from_pretrained(base, str(adapter))
            # `from_pretrained` only warns of missing weights, and of others not at all: a second loading tells both
            mapping = getattr(base, "_checkpoint_conversion_mapping", {})
            found = adapted.load_adapter(str(adapter), adapted.active_adapter, key_mapping=mapping)
        except (ValueError, RuntimeError, OSError, KeyError, SafetensorError) as error:
            raise_of_machine(error)
            raise ConfigError(f"{adapter}: the adapter could not be loaded: {first_line(error)}") from None
    for what, keys in {"it lacks": found.missing_keys, "the model has no place for": found.unexpected_keys}.items():
        if keys:
            shown = ", ".join(sorted(keys)[:3]) + (" …" if len(keys) > 3 else "")
            raise ConfigError(f"{adapter}: the adapter does not fit its model: {what} {len(keys)} weights: {shown}")
    fitting: torch.nn.Module = adapted
    return fitting


@contextlib.contextmanager
def _without_peft_warnings() -> Iterator[None]:
    """Leaves out the warnings of a name that peft 0.21 still uses, and of tied weights, which are refused here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tie_word_embeddings", UserWarning)
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)  # peft sets it right by itself
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)  # `attach_lora` raises instead
        yield
