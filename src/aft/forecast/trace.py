"""The peak memory of a training step, from the step itself on fake tensors: shapes without data.

The model's own forward, this package's scoring and attention, adapters, autocast and checkpointing run on two layers.
Every storage is counted from its first to its last use. Further layers add what the first of the two keeps.

Axes and units: bytes of one process; `L` layers.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..scoring.forward import enable_scoring
from ..scoring.packing import SHARED, Item, pack
from ..scoring.responses import score_responses
from .weights import build, is_linear, layers_of, with_lora

_LAYERS = 2


@dataclasses.dataclass(frozen=True)
class Texts:
    """The questions of one model call: how many, tokens of a prompt, and of each of its responses."""

    questions: int
    prompt: int
    responses: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Unique tokens that the model reads: a prompt once, each response without its last token."""
        return self.questions * (self.prompt + sum(response - 1 for response in self.responses))


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """How a step is computed. `dtype`: of the weights. `autocast`: the type of mixed precision; None: that of the
    weights. `lora`: arguments of peft's LoraConfig. `gradients`: False for a pass that only scores. `quantised`: all
    but the linear layers is float32."""

    dtype: str
    autocast: str | None = None
    checkpointing: bool = False
    lora: dict[str, Any] | None = None
    chunk_bytes: int = 64 * 2**20
    keep_bytes: int = 512 * 2**20
    layout: str = SHARED
    gradients: bool = True
    quantised: bool = False


@dataclasses.dataclass(frozen=True)
class Window:
    """The most bytes in a part of a step. `most`: with the step's own gradients. `again`: without them, beside
    gradients that an earlier call has left. `layer`: what each further layer adds to `most`, and to `again`."""

    most: float
    again: float
    layer: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes of a step beyond weights and optimizer, for a model of any depth.

    `windows`: the forward pass, the backward pass until the gradient has reached the first layer, and the rest.
    `gradients`: of the measured model; `layer_gradients`: of one layer; `measured`: how many layers it has.
    """

    windows: tuple[Window, ...]
    gradients: float
    layer_gradients: float
    measured: int

    def peak(self, layers: int, *, again: bool) -> float:
        """The most bytes of a step. `again`: earlier calls of the step have left gradients, which are included."""
        more = layers - self.measured
        if again:
            held = self.gradients + more * self.layer_gradients
            return held + max(window.again + more * window.layer[1] for window in self.windows)
        return max(window.most + more * window.layer[0] for window in self.windows)


def trace_step(config: Any, settings: StepSettings, texts: Texts) -> StepMemory:
    """The memory of a step on `texts`. Raises what an architecture raises that needs data, as some routers do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _trace(_small(config, settings), settings, texts)


def _trace(model: torch.nn.Module, settings: StepSettings, texts: Texts) -> StepMemory:
    with FakeTensorMode(allow_non_fake_inputs=True):
        _give_memory(model)
        enable_scoring(model, chunk_bytes=settings.chunk_bytes, keep_bytes=settings.keep_bytes)
        _trust_scoring(model)
        batch: Any = pack(_items(texts), 0, settings.layout)
        held = _Held()
        marks = _mark(model, held)
        compute = getattr(torch, settings.autocast) if settings.autocast else torch.bfloat16
        casting = torch.autocast("cpu", compute, enabled=settings.autocast is not None)
        with held, torch.set_grad_enabled(settings.gradients):
            with casting:
                loss = score_responses(model, batch)[0].sum()
            marks.backward = len(held.events)
            if settings.gradients:
                loss.backward()
        return _read(model, held, marks)


def _small(config: Any, settings: StepSettings) -> torch.nn.Module:
    config = copy.deepcopy(config)
    text = config.get_text_config(decoder=True)
    layers = int(text.num_hidden_layers)
    few = min(layers, _LAYERS)
    for key, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == layers:
            setattr(text, key, value[:few])
    text.num_hidden_layers = few
    model: Any = build(config, dtype=getattr(torch, settings.dtype))
    model.train()
    if settings.quantised:
        in_4_bits = {
            id(w) for layer in layers_of(model) for m in layer.modules() if is_linear(m) for w in m.parameters()
        }
        for weight in model.parameters():
            if id(weight) not in in_4_bits:
                weight.data = weight.data.float()
    if settings.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found: torch.nn.Module = with_lora(model, settings.lora) if settings.lora is not None else model
    return found


def _give_memory(model: torch.nn.Module) -> None:
    """Replaces weights on the meta device by fake ones on the CPU. peft could not move its adapters otherwise."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, old in held.items():
                if old is None:
                    continue
                if id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    weight = isinstance(old, torch.nn.Parameter)
                    made[id(old)] = torch.nn.Parameter(new, requires_grad=old.requires_grad) if weight else new
                held[name] = made[id(old)]


def _trust_scoring(model: Any) -> None:
    """Leaves out the comparison with the model's own logits: fake tensors have no values to compare."""
    _causal(model).forward.unchecked = False


def _items(texts: Texts) -> list[Item]:
    responses = [[0] * length for length in texts.responses]
    ratings = [None, *[1.0] * (len(responses) - 1)]
    return [
        Item(
            question_id=str(number),
            prompt_ids=[0] * texts.prompt,
            responses=responses,
            supervised=[True] * len(responses),
            ratings=ratings,
        )
        for number in range(texts.questions)
    ]


# ---- counting ----


class _Held(TorchDispatchMode):
    """Logs each new storage and the end of each: (bytes, number of the storage), negative at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[int, int]] = []
        self.numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.now = 0
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.note(value)
        return result

    def note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self.numbers:
            return
        number, size = self.count, storage.nbytes()
        self.count += 1
        self.numbers[storage] = number
        self._add(size, number)
        weakref.finalize(storage, self._add, -size, number)

    def _add(self, size: int, number: int) -> None:
        self.now += size
        self.events.append((size, number))


@dataclasses.dataclass
class _Marks:
    """Events: the end of each layer's forward pass, the begin of the backward pass, the gradient at the first layer."""

    after: list[int] = dataclasses.field(default_factory=list)
    backward: int = 0
    reached: int | None = None


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _mark(model: Any, held: _Held) -> _Marks:
    for weight in (*model.parameters(), *model.buffers()):
        held.numbers[weight.untyped_storage()] = -1  # there before the step
    marks = _Marks()

    def reached(gradient: torch.Tensor) -> None:
        if marks.reached is None:
            marks.reached = len(held.events)

    def after(place: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, arguments: Any, output: Any) -> None:
            if len(marks.after) == place:  # not when it is computed again
                marks.after.append(len(held.events))
                first = output[0] if isinstance(output, (tuple, list)) else output
                if place == 0 and first.requires_grad:
                    first.register_hook(reached)

        return hook

    for place, layer in enumerate(layers_of(_causal(model))):
        layer.register_forward_hook(after(place))
    return marks


def _read(model: Any, held: _Held, marks: _Marks) -> StepMemory:
    gradients = {
        held.numbers[weight.grad.untyped_storage()]: weight.grad.untyped_storage().nbytes()
        for weight in model.parameters()
        if weight.grad is not None
    }
    layers = layers_of(_causal(model))
    of_layer = float(sum(w.grad.untyped_storage().nbytes() for w in layers[-1].parameters() if w.grad is not None))
    end = len(held.events)
    reached = end if marks.reached is None else marks.reached
    most, again = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    total = others = 0
    for place, (size, number) in enumerate(held.events):
        window = (place >= marks.backward) + (place >= reached)
        total += size
        # beside a gradient that is there, a new one exists until it is added
        most[window], again[window] = max(most[window], total), max(again[window], others + size)
        if number not in gradients:
            others += size
    forward = top = 0.0
    if marks.reached is not None and len(marks.after) > 1:
        begin, end = marks.after[-2:]
        forward, top = _kept(held, begin, end, end), _kept(held, begin, end, marks.backward)
    steps = ((forward, forward), (top, top), (of_layer, 0.0))
    windows = tuple(Window(*found) for found in zip(most, again, steps, strict=True))
    return StepMemory(windows, float(sum(gradients.values())), of_layer, len(layers))


def _kept(held: _Held, begin: int, end: int, until: int) -> float:
    """Bytes of the storages that were made between two events and live at a third."""
    made = {number: size for size, number in held.events[begin:end] if size > 0}
    for size, number in held.events[begin:until]:
        if size < 0:
            made.pop(number, None)
    return float(sum(made.values()))
