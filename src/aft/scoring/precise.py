"""Runs a model in float32, whatever precision it is held in or computes in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode

_SIXTEEN_BITS = (torch.bfloat16, torch.float16)

# Questions about a tensor. A weight need not be converted to answer them.
_QUESTIONS = {"size", "dim", "numel", "stride", "is_floating_point", "is_complex", "is_contiguous", "data_ptr"}


def why_not_in_float32(model: torch.nn.Module) -> str | None:
    """Why a model cannot run inside `in_float32`, or None if it can be tried.

    Sharded weights are gathered by hooks inside the model's forward. Widened tensors would break their bookkeeping.
    """
    for parameter in model.parameters():
        if isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") or hasattr(parameter, "_handle"):
            return "its weights are divided among processes"
        if type(parameter).__name__ == "FlatParameter":
            return "its weights are divided among processes"
    return None


def is_rough(model: torch.nn.Module) -> bool:
    """Whether a model holds weights of sixteen bits, or computes in them with weights of four (bitsandbytes)."""
    held = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    computed = {getattr(module, "compute_dtype", None) for module in model.modules()}
    return bool((held | computed) & {*_SIXTEEN_BITS})


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Every torch function inside computes in float32: no autocast, no TF32, and sixteen-bit tensors are widened.

    Weights stay as they are. Each operation reads a float32 copy of the weight that it needs, and of no other. A
    library's kernel that is not a torch function still gets sixteen bits. A write into a sixteen-bit tensor raises
    `RuntimeError`, because it would reach a copy only.
    """
    with contextlib.ExitStack() as stack:
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_without_tf32())
        stack.enter_context(_Widened())
        yield


def uses_tf32() -> bool:
    """Whether float32 products are computed in TF32 on a GPU."""
    name, _ = _tf32_switch()
    return getattr(torch.backends.cuda.matmul, name) in (True, "tf32")


def _tf32_switch() -> tuple[str, Any]:
    """The name of torch's switch for TF32, and the value that turns it off.

    torch refuses to read its old switch after the new one was set, as recent versions of transformers do.
    """
    try:
        _ = torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:
        return "fp32_precision", "ieee"
    return "allow_tf32", False


class _Widened(TorchFunctionMode):
    """Calls every torch function with float32 in place of sixteen-bit tensors and types."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__" or name in _QUESTIONS:
            answer = func(*args, **(kwargs or {}))
            return torch.float32 if isinstance(answer, torch.dtype) and answer in _SIXTEEN_BITS else answer
        writes = name == "__setitem__" or (name.endswith("_") and not name.endswith("__") and name != "requires_grad_")
        target = args[0] if writes and args else (kwargs or {}).get("out")
        if isinstance(target, Tensor) and target.dtype in _SIXTEEN_BITS:
            raise RuntimeError(f"the model writes into a sixteen-bit tensor ({name})")
        return func(*_widen(args), **_widen(kwargs or {}))


def _widen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in _SIXTEEN_BITS else value
    if isinstance(value, torch.dtype):
        return torch.float32 if value in _SIXTEEN_BITS else value
    if isinstance(value, dict):
        return {key: _widen(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_widen, value))
    return value


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    matmul: Any = torch.backends.cuda.matmul
    name, exact = _tf32_switch()
    before = getattr(matmul, name)
    setattr(matmul, name, exact)
    try:
        yield
    finally:
        setattr(matmul, name, before)
