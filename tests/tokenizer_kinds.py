"""Tokenizers in the kinds of Llama 2 and 3, GPT-2, Qwen and Gemma, built from code."""

from __future__ import annotations

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Question: How many apples does Tom have? Answer: The answer is 42.",
    "The answer is 7. There are three more of them, so the total is 10. [ANS] 10",
    "She sells 5 of the 12 eggs; then 12 - 5 = 7 are left. #### 7",
] * 2

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA = (
    # an answer stands between spaces, as in the published template
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)


def _merges(splitter, alphabet=()) -> tuple[list[str], list[tuple[str, str]]]:
    """Characters and merges that a trainer finds in `TEXTS`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=list(alphabet), show_progress=False)
    )
    model = json.loads(tokenizer.to_str())["model"]
    return list(model["vocab"]), [tuple(pair) for pair in model["merges"]]


def _sentencepiece(special: list[str], normalizer) -> Tokenizer:
    """BPE over whole texts, spaces as `▁`, bytes for unknown characters."""
    pieces, merges = _merges(pre_tokenizers.Metaspace(prepend_scheme="always"))
    vocabulary = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *(p for p in pieces if p not in special)]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: index for index, piece in enumerate(vocabulary)},
            merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizer
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer


def _byte_level(special: list[str]) -> Tokenizer:
    pieces, merges = _merges(pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer


def _begin(tokenizer: Tokenizer, bos: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )


def _wrapped(tokenizer: Tokenizer, chat_template: str | None, **special: str) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    wrapped.chat_template = chat_template
    return wrapped


def llama() -> PreTrainedTokenizerFast:
    """A space before every text, `<s>` at its beginning, no padding token."""
    tokenizer = _sentencepiece(
        ["<unk>", "<s>", "</s>"], normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _begin(tokenizer, "<s>")
    return _wrapped(tokenizer, LLAMA, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def gpt2() -> PreTrainedTokenizerFast:
    """One control token, which is no padding token."""
    end = "<|endoftext|>"
    return _wrapped(_byte_level([end]), None, bos_token=end, eos_token=end, unk_token=end)


def llama3() -> PreTrainedTokenizerFast:
    """A base model's: bytes, a token at the beginning of a text and one at its end, neither padding nor a template."""
    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    tokenizer = _byte_level([begin, end, "<|eot_id|>"])
    _begin(tokenizer, begin)
    return _wrapped(tokenizer, None, bos_token=begin, eos_token=end)


def qwen(eos: str = "<|im_end|>") -> PreTrainedTokenizerFast:
    """ChatML. A base model's end token is `<|endoftext|>`."""
    tokenizer = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return _wrapped(tokenizer, CHATML, eos_token=eos, pad_token="<|endoftext|>")


def qwen_base() -> PreTrainedTokenizerFast:
    """Qwen's for a base model: the end of a text is its padding too."""
    return qwen("<|endoftext|>")


def unmarked() -> PreTrainedTokenizerFast:
    """Qwen's, with an end and a padding token that are not marked as special."""
    parts = json.loads(qwen().backend_tokenizer.to_str())
    for token in parts["added_tokens"]:
        token["special"] = False
    return _wrapped(Tokenizer.from_str(json.dumps(parts)), CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def gemma() -> PreTrainedTokenizerFast:
    """Turns end in `<end_of_turn>`, texts in `<eos>`. The template refuses a system turn."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = _sentencepiece(special, normalizers.Replace(" ", "▁"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    _begin(tokenizer, "<bos>")
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return _wrapped(tokenizer, GEMMA, **names)


KINDS = {"llama": llama, "gpt2": gpt2, "qwen": qwen, "gemma": gemma}
ARCHITECTURES = {"llama": "llama", "gpt2": "gpt2", "qwen": "qwen2", "gemma": "gemma2"}
