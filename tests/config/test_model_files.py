"""The files of configs/models/: their names, what they set, and the architectures that they name, without a network."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from aft.config import load_config
from aft.config.packaged import CONFIGS, find_model_file, hub_name, model_file_names, part_names
from aft.config.starter import starter
from aft.model import add_lora, language_model
from aft.scoring.layouts import what_is_known
from published_models import PUBLISHED

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TASKS = [name for name in part_names() if name.startswith("tasks/")]


def built(name: str):
    """The model of a file as transformers' own classes make it, without memory for its weights."""
    kind, _, sizes = PUBLISHED[hub_name(name)]
    config = AutoConfig.for_model(kind, **({"text_config": sizes} if kind == "gemma3" else sizes))
    with torch.device("meta"):
        return language_model(AutoModelForCausalLM.from_config(config))


def test_every_published_model_has_one_file():
    assert sorted(map(hub_name, model_file_names())) == sorted(PUBLISHED)


@pytest.mark.parametrize("name", model_file_names())
def test_a_file_is_a_run(name):
    config = load_config(CONFIGS / f"{name}.yaml")
    file = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    assert config.output_dir == f"runs/{name.removeprefix('models/')}"
    assert config.data.name == "gsm8k" and not config.prompt.chat and config.training["bf16"]
    assert (config.model.dtype, config.model.inference_dtype) == (
        "bfloat16" if config.model.lora else "float32",
        "bfloat16",
    )
    # a file without adapters has the line to put them in
    assert f"lora: {{target_modules: [{', '.join(TARGETS)}]}}" in file
    adapted = load_config(
        CONFIGS / f"{name}.yaml", [] if config.model.lora else [f"model.lora.target_modules={TARGETS}"]
    )
    assert (adapted.model.lora.r, adapted.model.lora.target_modules) == (16, TARGETS)
    assert re.search(r"^# licence: .+$", file, re.MULTILINE) and re.search(r"^# gated: .+$", file, re.MULTILINE)


@pytest.mark.parametrize("name", model_file_names())
def test_its_architecture_has_what_the_file_names(name):
    model = built(name)
    parameters = sum(weight.numel() for weight in {id(w): w for w in model.parameters()}.values())
    assert parameters == pytest.approx(PUBLISHED[hub_name(name)][1], rel=0.005)
    assert model.config.num_hidden_layers == PUBLISHED[hub_name(name)][2]["num_hidden_layers"]
    layers = [module for key, module in model.named_modules() if key.endswith("self_attn")]
    assert len(layers) == model.config.num_hidden_layers, "every layer has attention that is ours to replace"
    assert what_is_known(model) is None
    ends = {key.rpartition(".")[2] for key, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert ends == {*TARGETS, "lm_head"}


# the architectures, one file each: sizes change nothing about names
@pytest.mark.parametrize(
    "name", ["qwen2.5-0.5b", "qwen3-0.6b", "llama-3.2-1b", "mistral-7b", "gemma-3-4b", "smollm3-3b", "olmo2-1b"]
)
def test_adapters_stand_at_every_target_and_nowhere_else(name):
    model = built(f"models/{name}")
    layers = model.config.num_hidden_layers
    lora = load_config(f"models/{name}", [f"model.lora.target_modules={TARGETS}"]).model.lora
    with torch.device("meta"):
        adapted = add_lora(model, {"r": lora.r, "target_modules": lora.target_modules})
    found = [key for key, _ in adapted.named_modules() if key.endswith("lora_A.default")]
    assert len(found) == layers * len(TARGETS)


@pytest.mark.parametrize("task", TASKS)
def test_two_lines_put_a_model_beside_a_task(tmp_path, task):
    path = tmp_path / "run.yaml"
    path.write_text(f"extends: [models/qwen2.5-7b, {task}]\noutput_dir: runs/mine\n", encoding="utf-8")
    config = load_config(path)
    assert config.output_dir == "runs/mine" and config.model.name_or_path == "Qwen/Qwen2.5-7B"
    assert config.data.name == task.removeprefix("tasks/").replace("own-data", "jsonl")
    # the way of training is a part as well, and a later file wins
    path.write_text(f"extends: [models/qwen2.5-7b, {task}, training/full]\noutput_dir: runs/mine\n", encoding="utf-8")
    changed = load_config(path)
    assert changed.model.lora is None and changed.model.dtype == "float32"
    assert changed.data == config.data


def test_aft_init_extends_the_file_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ("qwen2.5-1.5b", "models/qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B"):
        assert find_model_file(given) == "models/qwen2.5-1.5b"
        (tmp_path / "run.yaml").write_text(starter("math", given), encoding="utf-8")
        config = load_config(tmp_path / "run.yaml")
        assert (config.output_dir, config.data.name) == ("runs/qwen2.5-1.5b-math", "math")
        assert config.model == load_config("models/qwen2.5-1.5b").model
        assert config.training == load_config("models/qwen2.5-1.5b").training
    assert find_model_file("qwen2.5-2b") is None
    Path("qwen2.5-1.5b").mkdir()
    Path("qwen2.5-1.5b/config.json").touch()
    assert find_model_file("qwen2.5-1.5b") is None, "a checkpoint of that name is the user's own"


def test_the_page_has_the_table_of_the_files():
    script = runpy.run_path(str(ROOT / "scripts" / "write_models.py"))
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert page == script["render"](page), "run: python scripts/write_models.py"
