"""GGUF files: text is split as the file says, and the model that comes out can be trained and saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from aft.config import load_config
from aft.errors import ConfigError
from aft.launch.preflight import find_lacking
from aft.model import load_model, load_tokenizer
from aft.stages.plan import Plan

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")

WIDTH, HEADS, LAYERS, INNER = 32, 2, 2, 64
PIECES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ċ", "ĊĊ", "Ġ", "x", ".", "4", "8", "48"]
MERGES = ["Ċ Ċ", "4 8"]


def write_gguf(path, *, splitting="smollm", seed=0):
    """A tiny Llama with random weights, as llama.cpp would write it."""
    generator = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(PIECES))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(PIECES)
    writer.add_token_types([3, 3, 3, *[1] * (len(PIECES) - 3)])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    shapes = {"token_embd": (len(PIECES), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {block + name: (WIDTH,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {block + f"attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        shapes |= {
            block + "ffn_gate": (INNER, WIDTH),
            block + "ffn_up": (INNER, WIDTH),
            block + "ffn_down": (WIDTH, INNER),
        }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", generator.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(folder / "tiny.gguf")
    return folder


@pytest.mark.filterwarnings("ignore")
def test_text_is_split_as_the_file_says(folder, tmp_path, capsys):
    tokenizer = load_tokenizer(str(folder), gguf_file="tiny.gguf")
    # single digits, and line feeds before a number are one piece: GPT-2's pattern alone gives 48 and two line feeds
    assert tokenizer.tokenize("x.\n\n48") == ["x", ".", "ĊĊ", "4", "8"]
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 2
    assert "split in the way" not in capsys.readouterr().err
    write_gguf(tmp_path / "other.gguf", splitting="qwen2")
    load_tokenizer(str(tmp_path), gguf_file="other.gguf")
    assert "other.gguf: its text is split in the way 'qwen2'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_the_model_is_saved_and_loads_again(folder, tmp_path):
    model = load_model(str(folder), gguf_file="tiny.gguf")
    assert model.dtype == torch.float32 and not hasattr(model.config, "quantization_config")
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[6, 7, 4, 8]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)
    assert model(ids).logits.std() > 0


def resolve(folder, tmp_path, *overrides):
    path = tmp_path / "run.yaml"
    path.write_text(
        f"output_dir: {tmp_path / 'run'}\nstages: [vft]\ndata: {{name: arithmetic}}\n"
        f"model: {{name_or_path: {folder}, gguf_file: tiny.gguf}}\n"
    )
    return load_config(path, overrides)


def test_a_plan_reads_the_file_and_not_the_folder(folder, tmp_path):
    plan = Plan(resolve(folder, tmp_path))
    (unit,) = plan.units("vft")
    assert plan.inputs(unit)["reads"]["base"].startswith("gguf:tiny.gguf:")
    assert find_lacking(plan.config) == []
    # a stage's own checkpoint is no GGUF file
    assert plan.gguf_file(plan.checkpoint("vft", 0)) is None


def test_a_file_that_is_not_there_is_named_with_the_nearest(folder, tmp_path):
    from aft.launch.preflight import check_run

    problems = check_run(resolve(folder, tmp_path, "model.gguf_file=tinny.gguf"))
    assert any(
        p.startswith(f"model.gguf_file: no file tinny.gguf in {folder}; there: tiny.gguf.") and "Did you mean" in p
        for p in problems
    )
    with pytest.raises(ConfigError, match=r"model\.gguf_file: names a file in model\.name_or_path"):
        resolve(folder, tmp_path, "model.name_or_path=null", "model.from_scratch={}")
