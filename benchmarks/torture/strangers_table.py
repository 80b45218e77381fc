"""The changes that make a good checkpoint a hostile one. `canary` is a file that only code from the checkpoint makes."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

REFUSED, ORDERLY = True, False
Change = Callable[[Path, Path], object]


class _Payload:
    """What makes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._code = f"open({str(canary)!r}, 'w').close()"

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self._code,)


def _pickle(canary: Path) -> bytes:
    return pickle.dumps(_Payload(canary), protocol=2)


def _torch_file(canary: Path) -> bytes:
    """The archive that torch.save writes, with the payload in the place of the weights."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", _pickle(canary))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return made.getvalue()


def _instead(name: str, make: Callable[[Path], bytes], *, keep: bool = False) -> Change:
    def change(model: Path, canary: Path) -> None:
        if not keep:
            (model / "model.safetensors").unlink()
        (model / name).write_bytes(make(canary))

    return change


def _index(name: str, value: Any) -> Change:
    def change(model: Path, canary: Path) -> None:
        (model / "model.safetensors").rename(model.parent / "outside.safetensors")
        (model / name).write_text(json.dumps(value), encoding="utf-8")

    return change


def _header(header: bytes, data: bytes = b"", length: int | None = None) -> Change:
    content = struct.pack("<Q", len(header) if length is None else length) + header + data
    return lambda model, canary: (model / "model.safetensors").write_bytes(content)


def _weights(change: Callable[[dict[str, Any]], object]) -> Change:
    """Changes the tensors of the file."""

    def write(model: Path, canary: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(model / "model.safetensors")
        change(tensors)
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            model / "model.safetensors",
            {"format": "pt"},
        )

    return write


def _fill(value: float) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: [tensor.fill_(value) for tensor in tensors.values()]


def _one(value: float) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(value)


def _transpose(tensors: dict[str, Any]) -> None:
    tensors.update({name: tensor.T for name, tensor in tensors.items() if tensor.dim() == 2})


_MAPS = {"model.embed_tokens.weight": "{}"}
_NAMES = (
    "../outside.safetensors",
    "/etc/passwd",
    "../../../../../../etc/passwd",
    "nowhere.safetensors",
    "",
    ".",
    "model\0",
)

WEIGHTS: dict[str, tuple[Change, bool]] = {
    "a pickle": (_instead("pytorch_model.bin", _pickle), REFUSED),
    "a pickle in torch's archive": (_instead("pytorch_model.bin", _torch_file), REFUSED),
    "a pickle called safetensors": (_instead("model.safetensors", _pickle, keep=True), REFUSED),
    "an archive called safetensors": (_instead("model.safetensors", _torch_file, keep=True), REFUSED),
    "a pickle beside good weights": (_instead("pytorch_model.bin", _pickle, keep=True), ORDERLY),
    "a pickled adapter beside good weights": (_instead("adapter_model.bin", _pickle, keep=True), ORDERLY),
    "pickled arguments beside good weights": (_instead("training_args.bin", _pickle, keep=True), ORDERLY),
    "a pickle for TensorFlow": (_instead("tf_model.h5", _pickle), REFUSED),
    "a pickle for Flax": (_instead("flax_model.msgpack", _pickle), REFUSED),
    "none": (lambda model, canary: (model / "model.safetensors").unlink(), REFUSED),
    "empty": (lambda model, canary: os.truncate(model / "model.safetensors", 0), REFUSED),
    "cut": (lambda model, canary: os.truncate(model / "model.safetensors", 5000), REFUSED),
    **{f"an index to {name!r}": (_index("model.safetensors.index.json", {"metadata": {}, "weight_map": {"x": name}}), REFUSED)
       for name in _NAMES},
    **{f"an index of pickles to {name!r}": (_index("pytorch_model.bin.index.json", {"metadata": {}, "weight_map": {"x": name}}), REFUSED)
       for name in ("../outside.safetensors", "/etc/passwd")},
    **{f"an index {value!r}": (_index("model.safetensors.index.json", value), REFUSED)
       for value in ([], {}, None, {"weight_map": None}, {"weight_map": []}, {"weight_map": {"x": 3}})},
    "a header of 2**63 bytes": (_header(b"{}", length=2**63), REFUSED),
    "a header of 100 MB": (_header(b"{}", length=100_000_000), REFUSED),
    "a header that is no JSON": (_header(b"{x}"), REFUSED),
    "a header that is a list": (_header(b"[]"), REFUSED),
    "a header with nothing": (_header(b"{}"), REFUSED),
    "a header with a hole": (_header(b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8)), REFUSED),
    "a header with a negative shape": (_header(b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', bytes(4)), REFUSED),
    "a header with a huge shape": (_header(b'{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}', bytes(4)), REFUSED),
    "NaN": (_weights(_fill(float("nan"))), REFUSED),
    "one NaN": (_weights(_one(float("nan"))), REFUSED),
    "infinite": (_weights(_fill(float("inf"))), REFUSED),
    "one infinite": (_weights(_one(float("inf"))), REFUSED),
    "zero": (_weights(_fill(0.0)), ORDERLY),
    "transposed": (_weights(_transpose), REFUSED),
    "one missing": (_weights(lambda tensors: tensors.pop(sorted(tensors)[1])), REFUSED),
    "all but one missing": (_weights(lambda tensors: [tensors.pop(name) for name in sorted(tensors)[1:]]), REFUSED),
}  # fmt: skip

CONFIGS: dict[str, bytes] = {
    "a list": b"[]",
    "null": b"null",
    "a text": b'"llama"',
    "a number": b"3",
    "empty": b"",
    "an empty object": b"{}",
    "cut": b'{"model_type": "lla',
    "not UTF-8": b'{"model_type": "\xff"}',
    "10,000 brackets": b"[" * 10_000,
    "100,000 levels": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "an integer of 10,000 digits": b'{"model_type": "llama", "hidden_size": ' + b"9" * 10_000 + b"}",
    "control characters in its type": b'{"model_type": "\\u001b[31mred"}',
}

_CODE = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}

JSON_CHANGES: list[tuple[str, dict[str, Any], bool]] = [
    *(("config.json", {key: value}, REFUSED) for key, value in (
        ("hidden_size", -1), ("hidden_size", 0), ("hidden_size", 10**12), ("hidden_size", "96"), ("hidden_size", None),
        ("hidden_size", [96]), ("hidden_size", 97), ("num_attention_heads", 0), ("num_attention_heads", -4),
        ("num_attention_heads", "four"), ("num_hidden_layers", -1), ("num_hidden_layers", "3"), ("vocab_size", -1),
        ("vocab_size", 0), ("vocab_size", 10**12), ("vocab_size", 1), ("intermediate_size", 10**12),
        ("max_position_embeddings", "128"), ("model_type", "../evil"), ("model_type", "nonsense"), ("model_type", 3),
        ("model_type", None), ("hidden_act", "os.system"), ("hidden_act", 3), ("head_dim", 0), ("head_dim", "x"))),
    *(("config.json", {key: value}, ORDERLY) for key, value in (
        ("num_hidden_layers", 0), ("architectures", ["os.system"]), ("architectures", "x"), ("architectures", [3]),
        ("torch_dtype", "os.system"), ("dtype", "float99"), ("dtype", ["float32"]), ("eos_token_id", 10**12),
        ("eos_token_id", "x"), ("eos_token_id", -5), ("eos_token_id", []), ("pad_token_id", 10**12), ("pad_token_id", -7),
        ("rope_parameters", []), ("rope_parameters", {"rope_type": "x"}), ("rope_theta", "x"), ("rope_scaling", 3),
        ("_name_or_path", "someone/elsewhere"), ("_attn_implementation", "someone/kernel"),
        ("attn_implementation", "kernels-community/flash-attn"), ("_commit_hash", "../../x"), ("trust_remote_code", True),
        ("quantization_config", {"quant_method": "gptq"}), ("quantization_config", {"quant_method": "os.system"}),
        ("quantization_config", []), ("auto_map", []), ("auto_map", {"AutoConfig": 3}), ("id2label", [1, 2]),
        ("rms_norm_eps", "x"), ("initializer_range", float("nan")), ("tie_word_embeddings", "maybe"))),
    ("config.json", {"auto_map": {"AutoConfig": "someone/elsewhere--evil.Evil"}, "model_type": "evil"}, REFUSED),
    ("config.json", {"auto_map": {"AutoModelForCausalLM": "someone/elsewhere--evil.Evil"}}, ORDERLY),
    ("config.json", {"auto_map": {"AutoConfig": "../evil.Evil"}, "model_type": "evil"}, REFUSED),
    *(("generation_config.json", changes, ORDERLY) for changes in (
        {"eos_token_id": "x"}, {"eos_token_id": [10**12]}, {"max_length": -1}, {"temperature": "hot"}, {"do_sample": 3},
        {"custom_generate": "someone/elsewhere"}, {"suppress_tokens": list(range(5000))}, {"bad_words_ids": 3},
        {"max_new_tokens": 10**12}, {"watermarking_config": {"x": 1}}, {"cache_implementation": "x"})),
    *(("tokenizer_config.json", changes, ORDERLY) for changes in (
        {"tokenizer_class": "os.system"}, {"tokenizer_class": 3}, {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}},
        {"auto_map": {"AutoTokenizer": ["someone/elsewhere--evil.Evil", None]}}, {"eos_token": 3}, {"eos_token": {"x": 1}},
        {"pad_token": "\x1b[31m"}, {"model_max_length": -1}, {"model_max_length": "x"}, {"added_tokens_decoder": []},
        {"added_tokens_decoder": {"x": {}}}, {"extra_special_tokens": [3]}, {"chat_template": 3}, {"chat_template": []},
        {"tokenizer_file": "/etc/passwd"}, {"name_or_path": "someone/elsewhere"}, {"processor_class": "Evil"})),
    *(("tokenizer.json", changes, REFUSED) for changes in (
        {"model": None}, {"model": {}}, {"model": {"type": "Evil"}}, {"model": []}, {"version": 3}, {"added_tokens": 3})),
    *(("tokenizer.json", changes, ORDERLY) for changes in (
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x"}}, {"truncation": {"x": 1}},
        {"pre_tokenizer": {"type": "Evil"}}, {"post_processor": {"type": "Evil"}}, {"decoder": {"type": "Evil"}},
        {"added_tokens": [{"id": 10**6, "content": "x", "special": True}]}, {"padding": 3})),
]  # fmt: skip


def _code(model: Path, canary: Path) -> None:
    """A module of code, and every key that would have it run."""
    (model / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Evil: pass\n", encoding="utf-8")
    for name in ("config.json", "tokenizer_config.json"):
        value = json.loads((model / name).read_text("utf-8"))
        (model / name).write_text(json.dumps({**value, "auto_map": _CODE}), encoding="utf-8")


def _code_alone(model: Path, canary: Path) -> None:
    """The same for a kind of model that transformers does not know."""
    _code(model, canary)
    value = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**value, "model_type": "evil"}), encoding="utf-8")


def _generate(model: Path, canary: Path) -> None:
    (model / "custom_generate").mkdir()
    (model / "custom_generate" / "generate.py").write_text(f"open({str(canary)!r}, 'w').close()\n", encoding="utf-8")


def _shadow(model: Path, canary: Path) -> None:
    """Modules called like those that a command imports, in the checkpoint and in the working folder."""
    for folder in (model, model.parent):
        for name in ("torch", "transformers", "json", "yaml", "sitecustomize", "tokenizers", "my_task"):
            (folder / f"{name}.py").write_text(f"open({str(canary)!r}, 'w').close()\n", encoding="utf-8")


def _adapter(model: Path, canary: Path) -> None:
    value = {"peft_type": "LORA", "base_model_name_or_path": "someone/elsewhere", "auto_mapping": None}
    (model / "adapter_config.json").write_text(json.dumps(value), encoding="utf-8")
    (model / "adapter_model.bin").write_bytes(_pickle(canary))


def _put(name: str, make: Callable[[Path], object]) -> Change:
    def change(model: Path, canary: Path) -> None:
        (model / name).unlink()
        make(model / name)

    return change


_ODD: dict[str, Callable[[Path], object]] = {
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a folder": Path.mkdir,
    "a pipe": lambda path: os.mkfifo(path),
}

FILES: dict[str, tuple[Change, bool]] = {
    "code for every class": (_code, ORDERLY),
    "code for a kind of its own": (_code_alone, REFUSED),
    "code for sampling": (_generate, ORDERLY),
    "modules with the names of ours": (_shadow, ORDERLY),
    "an adapter of another model": (_adapter, ORDERLY),
    "no tokenizer": (_put("tokenizer.json", lambda path: None), REFUSED),
    "a tokenizer that is empty": (_put("tokenizer.json", lambda path: path.write_bytes(b"")), REFUSED),
    "a tokenizer that is {}": (_put("tokenizer.json", lambda path: path.write_bytes(b"{}")), REFUSED),
    "a tokenizer that is a pickle": (_put("tokenizer.json", lambda path: path.write_bytes(_pickle(path))), REFUSED),
    "no tokenizer_config.json": (_put("tokenizer_config.json", lambda path: None), ORDERLY),
    "tokenizer_config.json is a list": (_put("tokenizer_config.json", lambda path: path.write_bytes(b"[]")), REFUSED),
    "generation_config.json is a list": (_put("generation_config.json", lambda path: path.write_bytes(b"[]")), ORDERLY),
    **{f"{name} is {what}": (_put(name, make), REFUSED) for name in ("config.json", "model.safetensors", "tokenizer.json")
       for what, make in _ODD.items()},
}  # fmt: skip

_QUESTION = "{% for m in messages %}{{ m.content }}{% endfor %}"
TEMPLATES: dict[str, str] = {
    "classes of Python": "{{ ''.__class__.__mro__[1].__subclasses__() }}" + _QUESTION,
    "globals of a function": "{{ raise_exception.__globals__['os'].system('touch canary') }}" + _QUESTION,
    "globals of a macro": "{% macro f() %}{% endmacro %}{{ f.__globals__ }}" + _QUESTION,
    "attributes through a filter": "{{ messages|attr('__class__')|attr('__mro__') }}" + _QUESTION,
    "the config": "{{ self.__init__.__globals__ }}" + _QUESTION,
    "a file": "{% include '/etc/passwd' %}" + _QUESTION,
    "an import": "{% import 'os' as os %}{{ os.system('touch canary') }}" + _QUESTION,
    "extends": "{% extends '/etc/passwd' %}",
    "a syntax error": "{% for %}",
    "an undefined name": "{{ nowhere.at.all }}" + _QUESTION,
    "an exception": "{{ raise_exception('\x1b[31mno\x1b]0;title\x07') }}",
    "division by zero": "{{ 1 // 0 }}" + _QUESTION,
    "an overflow": "{{ 2.0 ** 99999 }}" + _QUESTION,
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + _QUESTION,
    "a loop over 10**12": "{% for i in range(1000000000000) %}{% endfor %}" + _QUESTION,
    "a text of 10**12 letters": "{{ 'x' * 1000000000000 }}" + _QUESTION,
    "a power without an end": "{{ 9 ** 9 ** 9 ** 9 }}" + _QUESTION,
    "nothing": "",
    "white space": "  \n",
    "no question": "hello",
    "control characters": "\x1b[31m" + _QUESTION,
    "lone braces": "{{",
    "10,000 brackets": "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
    "changes the messages": "{% set _ = messages.clear() %}{% set _ = messages.append({'role': 'user', 'content': 'x'}) %}"
    + _QUESTION,
}
