"""Bytes of a training by hand, against published formulas, and the peak of a step against a real one."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig

from aft.config.plan import Hardware
from aft.forecast.hardware import GPUS
from aft.forecast.memory import (
    DDP,
    FSDP,
    NF4,
    ONE,
    ZERO1,
    ZERO2,
    ZERO3,
    Setup,
    cached_tokens,
    sampling_memory,
    states,
)
from aft.forecast.optimizers import is_known, state_bytes, step_bytes
from aft.forecast.trace import StepMemory, StepSettings, Texts, Window, trace_step
from aft.forecast.weights import Architecture, Weight, read_architecture
from aft.model import add_lora
from aft.scoring import enable_scoring, pack, score_responses
from tiny_models import CONFIGS, random_items, tiny_model

BILLION = 10**9
FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt2", "opt", "phi"]


def architecture(count=7_500_000_000, *, layers=10, adapters=0):
    """Weights in equal layers, all of them linear, without embeddings."""
    weights = tuple(Weight(f"w{n}", (count // layers,), n, linear=True) for n in range(layers))
    extra = (Weight("a", (adapters,), None),) if adapters else ()
    return Architecture(None, weights, extra, layers, 64, 1000, 64, 2 * layers * 64, 1.0)


def setup(kind=ONE, processes=1, dtype="float32", compute=None, optim="adamw_torch", **others):
    return Setup(kind, processes, dtype, compute, optim, False, **others)


@pytest.mark.parametrize(
    ("kind", "whole"),
    # Rajbhandari et al. 2020, arXiv 1910.02054, Figure 1: 7.5B weights, K = 12, 64 GPUs
    [(ZERO1, 31.4), (ZERO2, 16.6), (ZERO3, 1.88)],
)
def test_zero_divides_as_its_paper_says(kind, whole):
    held = states(architecture(), setup(kind, 64, compute="bfloat16"))
    assert held.weights + held.gradients + held.optimizer == pytest.approx(whole * BILLION, rel=0.01)


def test_adamw_in_float32_is_sixteen_bytes_a_weight():
    held = states(architecture(1000), setup())
    assert (held.weights, held.gradients, held.optimizer, held.buffers) == (4000, 4000, 8000, 0)


def test_weights_in_bfloat16_take_half_of_all():
    assert states(architecture(1000), setup(dtype="bfloat16")).total == 8000


def test_ddp_keeps_buckets_and_fsdp_divides_all_but_what_it_gathers():
    assert states(architecture(1000), setup(DDP, 4)).buffers == 4000
    held = states(architecture(1000), setup(FSDP, 4, compute="bfloat16"))
    assert (held.weights, held.gradients, held.optimizer) == (1000, 1000, 2000)
    assert held.buffers == 2 * 100 * 2 + 2 * 100 * 2  # weights and gradients of two layers of 100, in sixteen bits


def test_lora_keeps_states_of_its_adapters_alone_in_float32():
    held = states(architecture(1000, adapters=10), setup(dtype="bfloat16", lora={"r": 1}))
    assert (held.weights, held.gradients, held.optimizer) == (2000 + 40, 40, 80)


def test_qlora_keeps_half_a_byte_and_the_scales():
    assert pytest.approx(4.127 / 8, rel=1e-3) == NF4  # Dettmers et al. 2023, arXiv 2305.14314: 0.127 bits for scales
    held = states(architecture(1000, adapters=10), setup(dtype="bfloat16", lora={"r": 1}, quantised=True))
    assert held.weights == pytest.approx(1000 * NF4 + 40)
    assert held.buffers == 100 * 2  # the largest matrix, written out
    found = dataclasses.replace(architecture(1000), weights=(Weight("embedding", (1000,), None, embedding=True),))
    held = states(found, setup(dtype="bfloat16", lora={"r": 1}, quantised=True))
    assert held.weights == 1000 * 4  # all but the linear layers is float32


@pytest.mark.parametrize(
    ("optim", "expected"),
    [
        ("adamw_torch", 8 * 8192),
        ("adamw_torch_fused", 8 * 8192),
        ("sgd", 0),
        ("adagrad", 4 * 8192),
        ("adafactor", 4 * (64 + 128)),
        ("adamw_8bit", 2 * 8192 * (1 + 4 / 256)),
        ("adamw_bnb_8bit", 2 * 8192 * (1 + 4 / 256)),
        ("paged_adamw_32bit", 8 * 8192),
        ("paged_adamw_8bit", 2 * 8192 * (1 + 4 / 256)),
        ("lion_8bit", 8192 * (1 + 4 / 256)),
        ("lion_32bit", 4 * 8192),
        ("rmsprop_bnb_8bit", 8192 * (1 + 4 / 256)),
        ("adamw_torch_4bit", 2 * 8192 * (0.5 + 4 / 128)),
    ],
)
def test_states_of_each_optimizer(optim, expected):
    assert is_known(optim) and state_bytes(optim, [((64, 128), 4.0, False)]) == expected


def test_small_weights_and_embeddings_keep_float32_states_in_bitsandbytes():
    assert state_bytes("adamw_8bit", [((64,), 4.0, False), ((64, 128), 4.0, True)]) == 2 * 4 * (64 + 8192)


def test_an_unknown_optimizer_counts_as_adamw():
    assert not is_known("galore_adamw") and state_bytes("galore_adamw", [((10,), 4.0, False)]) == 80


def test_a_step_of_adamw_needs_two_of_the_largest_weight_on_a_cpu():
    weights = [((10,), 4.0, False), ((30,), 4.0, False)]
    assert step_bytes("adamw_torch", weights, cpu=True) == 240
    assert step_bytes("adamw_torch", weights, cpu=False) == 160
    assert step_bytes("adamw_torch_fused", weights, cpu=False) == 0


def test_the_cache_of_sampling():
    found = architecture(1000, layers=10)
    held = sampling_memory(found, "bfloat16", rows=8, prompt=100, new=200, prompts=2, spare=64)
    rows = 8 * 364 * 1280 * 2
    assert held.weights == 2000 and held.buffers == rows + rows / 10 + 2 * 100 * 1280 * 2
    assert held.activations >= 8 * 1000 * 20
    assert cached_tokens(found, "bfloat16", 2000 + 2560 * 77 + 5) == 77


def test_further_layers_add_what_one_keeps():
    windows = (Window(10, 9, (2, 2)), Window(20, 15, (3, 3)), Window(12, 4, (5, 0)))
    step = StepMemory(windows, gradients=8, layer_gradients=5, measured=2)
    assert step.peak(2, again=False) == 20 and step.peak(12, again=False) == 12 + 10 * 5
    assert step.peak(12, again=True) == 8 + 10 * 5 + 15 + 10 * 3


def test_hardware_has_the_names_of_the_configuration():
    assert set(GPUS) == set(Hardware.__args__)


# ---- against real models ----


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
@pytest.mark.parametrize("name", FAMILIES)
def test_the_meta_device_counts_a_family_s_weights(name):
    model = tiny_model(name)
    found = read_architecture(model.config, {"r": 4, "target_modules": "all-linear"})
    assert found.count == sum(weight.numel() for weight in model.parameters())
    assert found.layers == 2 and found.hidden == 16
    assert all(weight.layer is not None for weight in found.weights if weight.linear)
    adapted = add_lora(model, {"r": 4, "target_modules": "all-linear"})
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert sum(weight.count for weight in found.adapters) == trained


def test_the_model_for_images_of_a_checkpoint_is_not_counted():
    text = {**CONFIGS["gemma3_text"], "vocab_size": 100}
    images = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config={**images, "image_size": 28})
    found = read_architecture(config, {"r": 2, "target_modules": "all-linear"})
    assert not any("vision" in weight.name for weight in (*found.weights, *found.adapters))
    step = trace_step(config, StepSettings("float32", lora={"r": 2, "target_modules": "all-linear"}), TEXTS)
    assert step.measured == 2 and step.peak(2, again=False) > 0


class Held(TorchDispatchMode):
    """The most bytes of all storages that an operation has made."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.seen = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor) and value.untyped_storage() not in self.seen:
                storage = value.untyped_storage()
                self.seen.add(storage)
                weakref.finalize(storage, self._free, storage.nbytes())
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
        return result

    def _free(self, size):
        self.now -= size


TEXTS = Texts(3, 9, (7, 7, 7))


def measured(name, layers, *, checkpointing=False, lora=None):
    """Bytes that a real step adds: the same shapes with data."""
    key = "n_layer" if name == "gpt2" else "num_hidden_layers"
    model = tiny_model(name, **{key: layers})
    model.train()
    model = add_lora(model, lora) if lora else model
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    enable_scoring(model, chunk_bytes=2**20, keep_bytes=2**20)
    items = random_items(3, [[None, 1.0, 0.0]] * 3)
    for item in items:
        item.prompt_ids[:] = [1] * TEXTS.prompt
        item.responses[:] = [[1] * length for length in TEXTS.responses]
    batch = pack(items, 0, "shared")
    score_responses(model, batch)  # the comparison with the model's own logits comes first
    for weight in (*model.parameters(), *model.buffers()):
        weight.untyped_storage()
    gc.collect()
    held = Held()
    held.seen |= {weight.untyped_storage() for weight in (*model.parameters(), *model.buffers())}
    with held:
        score_responses(model, batch)[0].sum().backward()
    return held.most, model


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
@pytest.mark.parametrize("name", ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3", "gpt2"))])
@pytest.mark.parametrize("way", [{}, {"checkpointing": True}, {"lora": {"r": 2, "target_modules": "all-linear"}}])
def test_the_traced_step_of_two_layers_stands_for_four(name, way):
    most, model = measured(name, 4, **way)
    config = getattr(model, "get_base_model", lambda: model)().config
    settings = StepSettings("float32", chunk_bytes=2**20, keep_bytes=2**20, **way)
    assert trace_step(config, settings, TEXTS).peak(4, again=False) == pytest.approx(most, rel=0.03)


def test_a_pass_that_only_scores_keeps_nothing_of_a_layer():
    config = tiny_model("llama").config
    step = trace_step(config, StepSettings("float32", gradients=False), TEXTS)
    assert step.peak(2, again=False) == step.peak(80, again=False) > 0
    assert CONFIGS["llama"]["num_hidden_layers"] == 2
