"""L_VFT and L_A of an optimizer step, kept on the device: sums since the last log, and a check for non-finite terms."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_NAMES = ("loss/vft", "loss/align")


class StepTerms:
    """Collects the two terms of every part of a step. Only `all_finite` and `explain` wait for the device."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.sums = torch.zeros(2, device=device, dtype=dtype)
        """(2,), `dtype`: L_VFT and L_A since the last call of `sums.zero_()`."""
        self._parts: list[tuple[Tensor, list[str]]] = []

    def begin_step(self) -> None:
        """Forget the parts of the previous step."""
        self._parts.clear()

    def note(self, vft: Tensor, align: Tensor, question_ids: list[str]) -> None:
        """Add a part of the step: its two terms (0-dim) and the ids of its questions."""
        terms = torch.stack([vft, align]).detach().to(self.sums)
        self.sums += terms
        self._parts.append((terms, question_ids))

    @property
    def question_ids(self) -> list[str]:
        """The ids of all questions noted in this step so far."""
        return [question_id for _, question_ids in self._parts for question_id in question_ids]

    def all_finite(self, norm: Tensor | None) -> bool:
        """True if the terms of all parts, and the gradient's norm if given, are finite.

        A step reads from the device only here.
        """
        finite = torch.stack([terms for terms, _ in self._parts]).isfinite().all()
        if norm is not None:
            finite = finite & norm.to(finite.device, non_blocking=True).isfinite()
        return bool(finite)

    def explain(self) -> list[tuple[str, list[str]]]:
        """(message, question ids) of each part of the step that has a non-finite term."""
        found = []
        for terms, question_ids in self._parts:
            values = zip(_NAMES, terms.tolist(), strict=True)
            bad = [f"{name} is {value}" for name, value in values if not math.isfinite(value)]
            if bad:
                found.append((" and ".join(bad), question_ids))
        return found


def whole_norm(norm: Any) -> Tensor:
    """A gradient's norm, 0-dim. transformers gives a number, a tensor or, under FSDP2, a sharded tensor."""
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else torch.as_tensor(norm)
    return whole
