"""Runs a model in float32, whatever precision it is held in or computes in: the judge of what sixteen bits do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SIXTEEN_BITS = (torch.bfloat16, torch.float16)

# Questions about a tensor. Converting a weight to answer them would copy it for nothing.
_QUESTIONS = {"size", "dim", "numel", "stride", "is_floating_point", "is_complex", "is_contiguous", "data_ptr"}


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Every operation inside computes in float32: no autocast, no TF32, and sixteen-bit tensors are widened.

    Weights stay as they are. Each operation reads a float32 copy of the weight that it needs, and only of that one.
    What is no torch function, such as a kernel of a library, does not notice.
    """
    with contextlib.ExitStack() as stack:
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_without_tf32())
        stack.enter_context(_Widened())
        yield


class _Widened(TorchFunctionMode):
    """Calls every torch function with float32 in place of sixteen-bit tensors and types."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__" or name in _QUESTIONS:
            answer = func(*args, **(kwargs or {}))
            return torch.float32 if isinstance(answer, torch.dtype) and answer in _SIXTEEN_BITS else answer
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
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
