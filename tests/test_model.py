"""Tokenizers, models from code, adapters, and the forward that returns log-probs beside the one it had."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from transformers import AutoModelForCausalLM, AutoTokenizer, BartConfig, BartForCausalLM, PreTrainedTokenizerFast

from aft.errors import AftError, ConfigError, DiskError
from aft.model import (
    add_lora,
    build_model,
    build_tokenizer,
    build_word_tokenizer,
    check_lora,
    generation_ends,
    load_model,
    load_tokenizer,
    merge_lora,
    pad_id,
    shapes_from_scratch,
)
from families import save_family
from tiny_models import CONFIGS, WORDS, same_weights, tiny_model, word_tokenizer

CHUNK_BYTES = 2**10


# ---- tokenizers ----


def test_rows_are_filled_with_the_end_token_where_there_is_none_for_padding():
    tokenizer = word_tokenizer()
    tokenizer.pad_token = None
    assert pad_id(tokenizer) == tokenizer.eos_token_id == 1


def test_the_word_tokenizer_has_one_token_per_word():
    tokenizer = word_tokenizer()
    assert len(tokenizer) == 3 + len(WORDS)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert pad_id(tokenizer) == 0
    assert tokenizer("a b ? 0")["input_ids"] == [3, 4, 31, 29]
    assert tokenizer.decode([3, 4, 31, 29]) == "a b ? 0"
    assert tokenizer("a nothing")["input_ids"] == [3, 2]


@pytest.mark.parametrize(
    "text", ["plain words", "  two  spaces , and\n\nlines\t", "½ 家 🙂 naïve", "<<48/2=24>>24 .", ""]
)
def test_any_text_survives_the_byte_tokenizer(text):
    tokenizer = build_tokenizer(["some words to learn from", "and some more words"], 300)
    assert len(tokenizer) <= 300
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_built_tokenizers_survive_saving(tmp_path):
    for number, tokenizer in enumerate([word_tokenizer(), build_tokenizer(["a b c"] * 3, 300)]):
        tokenizer.save_pretrained(tmp_path / str(number))
        again = load_tokenizer(str(tmp_path / str(number)))
        assert again("a b")["input_ids"] == tokenizer("a b")["input_ids"]
        assert again.eos_token_id == tokenizer.eos_token_id and again.pad_token_id == tokenizer.pad_token_id


# ---- loading and building ----


def test_a_seed_gives_the_same_weights():
    assert same_weights(tiny_model(seed=3), tiny_model(seed=3))
    assert not same_weights(tiny_model(seed=3), tiny_model(seed=4))


def test_a_built_model_knows_its_tokenizer():
    config = tiny_model().config
    assert (config.vocab_size, config.pad_token_id, config.eos_token_id) == (32, 0, 1)


def test_bad_architectures_and_arguments():
    with pytest.raises(ConfigError, match=r"unknown 'lama'\. Did you mean 'llama'"):
        build_model("lama", {}, word_tokenizer(), seed=0)
    with pytest.raises(ConfigError) as caught:
        build_model("llama", {"hiden_size": 8, "num_hidden_layer": 1}, word_tokenizer(), seed=0)
    assert len(caught.value.problems) == 2
    assert "model.from_scratch.config.hiden_size: LlamaConfig has no such argument. Did you mean 'hidden_size'" in str(
        caught.value
    )
    with pytest.raises(ConfigError, match=r"model\.from_scratch: llama cannot be built so"):
        build_model("llama", {"hidden_size": 30, "num_attention_heads": 4}, word_tokenizer(), seed=0)
    with pytest.raises(ConfigError, match=r"model\.from_scratch: llama cannot be built so"):
        build_model("llama", {"hidden_size": "wide"}, word_tokenizer(), seed=0)
    with pytest.raises(ConfigError, match=r"model\.from_scratch: vit cannot be built so"):
        build_model("vit", {}, word_tokenizer(), seed=0)


def test_what_cannot_be_loaded_is_named(tmp_path):
    for load in (load_tokenizer, load_model):
        with pytest.raises(ConfigError, match=r"^model\.name_or_path: .*nothing-here"):
            load(str(tmp_path / "nothing-here"))
        with pytest.raises(ConfigError, match=r"^model\.name_or_path: "):
            load(str(tmp_path))


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path):
    tokenizer = Tokenizer(tokenizer_models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has no end token"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "auto"])
def test_a_saved_model_loads_in_the_type_asked_for(tmp_path, dtype):
    model = tiny_model().to(torch.float16)
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), dtype=dtype)
    expected = torch.float16 if dtype == "auto" else getattr(torch, dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {expected}


def test_a_damaged_or_incomplete_checkpoint_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole, weights = file.read_bytes(), load_file(file)
    for length in (0, 100, len(whole) - 10):
        file.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"^model\.name_or_path: .* could not be loaded: Error while deserializ"):
            load_model(str(tmp_path))
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**weights, name: torch.zeros(3, 3)}, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"^model\.name_or_path: .* could not be loaded: "):
        load_model(str(tmp_path))
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"^model\.name_or_path: .* lacks 1 of its weights: {name}$"):
        load_model(str(tmp_path))


def test_half_of_an_encoder_decoder_is_refused(tmp_path):
    told = r"bart is an encoder-decoder \(is_encoder_decoder\); expected a causal language model"
    sizes = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 1, "decoder_ffn_dim": 16}
    with pytest.raises(ConfigError, match=rf"^model\.from_scratch\.architecture: {told}"):
        build_model("bart", sizes, word_tokenizer(), seed=0)
    bart = BartForCausalLM(BartConfig(vocab_size=30, **sizes))
    assert bart.config.is_encoder_decoder is False  # what is saved calls itself a decoder
    bart.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=rf"^model\.name_or_path: {told}"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_no_weight_of_a_saved_model_counts_as_missing(tmp_path, architecture):
    """Among them models whose head shares its weights with the embedding."""
    tiny_model(architecture).save_pretrained(tmp_path)
    assert same_weights(load_model(str(tmp_path)), tiny_model(architecture))


# ---- adapters ----


@pytest.mark.filterwarnings("ignore:Could not find a config file")  # peft 0.18 asks for that of a model without a name
def test_a_saved_adapter_merges_into_its_base(tmp_path):
    model = add_lora(tiny_model(), {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": None})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(tmp_path)
    merged = merge_lora(tiny_model(), tmp_path)
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        expected, found, before = (m.eval()(input_ids=ids).logits for m in (model, merged, tiny_model()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, before, atol=0.1)
    assert type(merged) is type(tiny_model())


@pytest.mark.filterwarnings("ignore:Could not find a config file")
def test_an_adapter_whose_weights_have_no_place_in_the_model_is_refused(tmp_path):
    add_lora(tiny_model(), {"r": 4, "target_modules": ["q_proj", "v_proj"]}).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    for targets, match in {
        ("q_proj",): "the model has no place for [0-9]+ weights: .*v_proj",
        ("q_proj", "k_proj", "v_proj"): "it lacks [0-9]+ weights: .*k_proj",
    }.items():
        (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "target_modules": targets}))
        with pytest.raises(ConfigError, match=f"does not fit its model: {match}"):
            merge_lora(tiny_model(), tmp_path)


def test_unknown_target_modules_are_a_config_error():
    with pytest.raises(ConfigError, match=r"^model\.lora: .*no_such"):
        add_lora(tiny_model(), {"r": 4, "target_modules": ["no_such"]})


def test_the_saved_tokenizer_and_model_are_plain_transformers(tmp_path):
    word_tokenizer().save_pretrained(tmp_path)
    tiny_model().save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("a")["input_ids"] == [3]
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_the_word_tokenizer_refuses_nothing_it_was_given():
    tokenizer = build_word_tokenizer(["[ANS]", "<<", "=", "7"])
    assert tokenizer.decode(tokenizer("<< 7 = [ANS]")["input_ids"]) == "<< 7 = [ANS]"


def test_soft_capping_is_not_left_out(tmp_path, monkeypatch):
    # older versions of transformers say that scaled-dot-product attention, which has no cap, fits this family
    monkeypatch.setattr(transformers.Gemma2PreTrainedModel, "_supports_sdpa", True)
    built = tiny_model("gemma2")
    built.save_pretrained(tmp_path)
    assert built.config._attn_implementation == "eager"
    assert load_model(str(tmp_path)).config._attn_implementation == "eager"
    with pytest.raises(
        ConfigError, match="attn_implementation: sdpa has no soft-capping, which Gemma2ForCausalLM needs"
    ):
        load_model(str(tmp_path), attn_implementation="sdpa")


# ---- damaged checkpoints ----


DAMAGED = [
    ("config.json", "[1]", "config.json: expected a JSON object, got list"),
    ("config.json", "3", "config.json: expected a JSON object, got int"),
    ("config.json", "[" * 100_000, "config.json: cannot be read as JSON: maximum recursion depth"),
    ("config.json", '{"model_type": "llama", "hidden_size": "x"}', "Field 'hidden_size' expected int, got str"),
    ("tokenizer.json", "{}", "KeyError: 'added_tokens'"),
    ("tokenizer.json", "[]", "tokenizer.json: expected a JSON object, got list"),
    ("tokenizer_config.json", "[]", "tokenizer_config.json: expected a JSON object, got list"),
    ("tokenizer_config.json", '{"eos_token": 5}', "Special token eos_token has to be either str or AddedToken"),
    ("generation_config.json", "[]", "generation_config.json: expected a JSON object, got list"),
    ("generation_config.json", '{"eos_token_id": "x"}', "must be ids, got ['x']"),
    ("generation_config.json", '{"eos_token_id": [1, -3]}', "must be ids, got [1, -3]"),
    ("generation_config.json", '{"eos_token_id": 1.5}', "TypeError: 'float' object is not iterable"),
    ("generation_config.json", '{"max_new_tokens": -5}', "`max_new_tokens` must be greater than 0"),
    ("model.safetensors", "", "header too small"),
    ("model.safetensors", "x" * 100, "header too large"),
    ("model.safetensors.index.json", '{"metadata": {}, "weight_map": {"a": "model-1-of-2.safetensors"}}', ""),
    (
        "model.safetensors.index.json",
        '{"metadata": {}, "weight_map": {"a": "../outside.safetensors"}}',
        "names a file outside its folder: ../outside.safetensors",
    ),
    (
        "tokenizer_config.json",
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>", "model_max_length": "x"}',
        "must be a number, got 'x'",
    ),
]


@pytest.mark.parametrize(("file", "content", "reason"), DAMAGED)
def test_a_damaged_checkpoint_is_one_error_with_the_file(tmp_path, file, content, reason):
    tiny_model().save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    if "index" in file:
        (tmp_path / "model.safetensors").unlink()
    (tmp_path / file).write_text(content)
    said = []
    for load in (load_tokenizer, generation_ends, load_model):
        try:
            load(str(tmp_path))
        except ConfigError as error:
            said.append(str(error))
    assert said and any(reason in one for one in said)
    assert all(one.startswith("model.name_or_path: ") and str(tmp_path) in one and "\n" not in one for one in said)


def test_what_the_disk_or_the_memory_refused_is_no_wrong_model(tmp_path, monkeypatch):
    """Only the library's call is replaced: the hub's cache cannot be filled here."""
    causes = [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/x"), DiskError, "/cache/x: No space left on device"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), AftError, "no memory is left"),
        (MemoryError(), AftError, "no memory is left"),
    ]
    for cause, kind, told in causes:

        def fails(*_: object, _cause: Exception = cause, **__: object) -> None:
            if isinstance(_cause, OSError):  # as transformers tells it
                raise OSError("Can't load the model") from _cause
            raise _cause

        for library in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM, transformers.AutoConfig):
            monkeypatch.setattr(library, "from_pretrained", fails)
        for load in (load_tokenizer, load_model, generation_ends):
            with pytest.raises(AftError, match=f"^{told}") as caught:
                load(str(tmp_path))
            assert type(caught.value) is kind
        monkeypatch.setattr(transformers.AutoConfig, "for_model", fails)
        with pytest.raises(kind, match=f"^{told}"):
            shapes_from_scratch("llama", {}, 8)
        monkeypatch.undo()


def test_a_model_of_fewer_than_no_layers_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": -1}))
    with pytest.raises(ConfigError, match=f"num_hidden_layers of '{tmp_path}' is -1"):
        load_model(str(tmp_path))


def test_a_checkpoint_with_a_model_for_images_gives_its_language_model(tmp_path):
    folder = save_family("gemma-3-4b", tmp_path / "base")
    whole, alone = AutoModelForCausalLM.from_pretrained(folder).eval(), load_model(str(folder)).eval()
    assert (type(whole).__name__, type(alone).__name__) == ("Gemma3ForConditionalGeneration", "Gemma3ForCausalLM")
    assert not any("vision" in name for name, _ in alone.named_parameters())
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        assert torch.equal(alone(ids).logits, whole(ids).logits)
    alone.save_pretrained(tmp_path / "alone")
    again = load_model(str(tmp_path / "alone"))
    assert again.config.tie_word_embeddings and same_weights(again, alone)
    # adapters are checked on it as well: a target of the other part's would stand nowhere
    with pytest.raises(ConfigError, match=r"^model.lora: Target modules .*fc1"):
        check_lora(str(folder), {"target_modules": ["fc1"]})
