"""A forward pass that returns token log-probs of padded batches or packed rows without making all logits at once.

Axes: `N` rows, `T` tokens of a row, `R` response tokens, `H` hidden size, `V` vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..logps import CHUNK_BYTES, default_chunk_size, token_logps
from .attention import IMPLEMENTATIONS, SEGMENTS, CannotShare
from .precise import in_float32
from .segments import Segments


def enable_scoring(
    model: torch.nn.Module,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    keep_bytes: int = 0,
    attn_implementation: str | None = None,
) -> None:
    """Give a causal LM's forward a second mode, in place: with `positions` and `targets` it returns token log-probs.

    `model(input_ids=(N, T), attention_mask=..., position_ids=..., positions=(R,), targets=(R,), columns=T,
    segments=...)` returns (R,) float32, nats per token: the log-prob of `targets[r]` under the output at row-major
    position `positions[r]` of the (N, T) input. `precise=True` computes everything in float32. With `segments` the
    input is one packed row and uses this package's attention; `attn_implementation` names its kind (see
    `attention.IMPLEMENTATIONS`). Logits exist for one chunk of `chunk_bytes` at a time and are computed again in the
    backward pass. If all logits fit in `keep_bytes`, they are kept instead.

    The head is called inside the model's own forward, so that the hooks of DDP, FSDP and ZeRO around the head run.
    Under an adapter (peft) the underlying model is changed. Calls without `positions` and `targets` use the model's own
    forward. The first scored call compares its result with the model's own logits and raises `ConfigError` if they
    differ. A second call of `enable_scoring` replaces the settings of the first.
    """
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    disable_scoring(causal)
    causal.forward = _Forward(causal, chunk_bytes, keep_bytes, IMPLEMENTATIONS.get(attn_implementation))


class _Forward:
    """A causal LM's forward with its second mode. A copy of the model gets its own copy of this object."""

    def __init__(self, causal: Any, chunk_bytes: int, keep_bytes: int, attention: str | None) -> None:
        self.causal, self.plain = causal, causal.forward
        if self.body is None or self.head is None:
            raise ConfigError(f"model: {type(causal).__name__} is not built as a body and a head that makes its logits")
        self.chunk_bytes, self.keep_bytes = chunk_bytes, keep_bytes
        self.attention = _Attention(causal, attention)
        self.unchecked = True
        # libraries inspect the signature of forward and may wrap it in their own functions
        functools.update_wrapper(self, self.plain)
        self.undo = self._undo

    @property
    def body(self) -> Any:
        """The model without its head."""
        return getattr(self.causal, self.causal.base_model_prefix, None) or getattr(self.causal, "model", None)

    @property
    def head(self) -> Any:
        """The layer that turns the body's last hidden states into logits."""
        return self.causal.get_output_embeddings()

    def __call__(
        self,
        *args: Any,
        positions: Tensor | None = None,
        targets: Tensor | None = None,
        columns: int | None = None,
        segments: Segments | None = None,
        precise: bool = False,
        **kwargs: Any,
    ) -> Any:
        if precise:
            # set here because autocast and a sharded model's casts act between the caller and this forward
            with in_float32():
                return self(*args, positions=positions, targets=targets, columns=columns, segments=segments, **kwargs)
        self.attention.restore()
        if positions is None or targets is None:
            return self.plain(*args, **kwargs)
        # peft passes all its arguments, most of them None
        inputs = {key: value for key, value in kwargs.items() if value is not None and key != "return_dict"}
        if self.unchecked:
            # not earlier: only now are the model's device and precision final
            self.unchecked = False
            was_training = self.causal.training
            self.causal.eval()  # dropout would make the two results differ
            _check_scoring(self.plain, self.score, inputs)
            self.causal.train(was_training)
        if segments is None:
            return self.score(inputs, positions, targets, columns)
        with self.attention.ours():
            return self.score({**inputs, SEGMENTS: segments}, positions, targets, columns)

    def score(self, inputs: dict[str, Any], positions: Tensor, targets: Tensor, columns: int | None) -> Tensor:
        """Log-probs (R,) of the targets."""
        hidden = self.body(**inputs, use_cache=False).last_hidden_state  # (N, T, H)
        if columns is not None:
            hidden = hidden[:, -columns:]  # an adapter may have added its own tokens in front
        hidden = hidden.flatten(0, 1).index_select(0, positions)  # (R, H)
        # gradient checkpointing means that memory is short, so no logits are kept
        again = any(map(_is_made_again, self.causal.modules()))
        return token_logps(
            hidden,
            targets,
            self.head,
            chunk_size=default_chunk_size(self.head, self.chunk_bytes),
            keep_bytes=0 if again else self.keep_bytes,
            postprocess=_logit_postprocess(self.causal.config.get_text_config()),
        )

    def _undo(self) -> None:
        self.attention.restore()
        self.causal.forward = self.plain


def disable_scoring(model: torch.nn.Module) -> None:
    """Restore a causal LM's own forward and attention. Does nothing if scoring is not enabled."""
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    undo = getattr(causal.forward, "undo", None)
    if undo is not None:
        undo()


def _is_made_again(module: torch.nn.Module) -> bool:
    """True if a layer uses gradient checkpointing: transformers' flag is set, or the layer is torch's wrapper."""
    return getattr(module, "gradient_checkpointing", False) or type(module).__name__ == "CheckpointWrapper"


class _Attention:
    """Sets which attention the model's layers look up in their configuration: the model's own, or ours for packed rows.

    After a call with gradient ours stays set, because checkpointed layers look it up again in the backward pass. The
    next call of `restore` sets the model's own again. transformers saves neither with a configuration.
    """

    def __init__(self, causal: torch.nn.Module, name: str | None) -> None:
        configs = {id(c): c for c in (getattr(module, "config", None) for module in causal.modules()) if c is not None}
        self.configs = [config for config in configs.values() if hasattr(config, "_attn_implementation")]
        self.name = name
        self.own: list[str | None] | None = None

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """Inside, the layers use our attention for packed rows. Raises `CannotShare` if there is none."""
        if self.name is None:
            raise CannotShare("its model.attn_implementation has no form for packed rows")
        if self.own is None:
            self.own = [config._attn_implementation for config in self.configs]
        for config in self.configs:
            config._attn_implementation = self.name
        try:
            yield
        except BaseException:
            self.restore()
            raise
        if not torch.is_grad_enabled():
            self.restore()

    def restore(self) -> None:
        """Set the model's own attention again."""
        if self.own is not None:
            for config, own in zip(self.configs, self.own, strict=True):
                config._attn_implementation = own
            self.own = None


@torch.no_grad()
def _check_scoring(plain: Callable[..., Any], score: Callable[..., Tensor], inputs: dict[str, Any]) -> None:
    """Raise `ConfigError` if scores differ from the model's own logits: an architecture may change them further."""
    if "input_ids" in inputs:
        ids = inputs["input_ids"][:1, :8]
        positions = torch.arange(ids.shape[1], device=ids.device)
        few = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": positions[None]}
    else:  # an adapter has replaced the ids by embeddings
        few = {key: value[:1] if isinstance(value, Tensor) else value for key, value in inputs.items()}
    logits = plain(**few, use_cache=False).logits[0]
    positions = torch.arange(min(8, len(logits)), device=logits.device)
    found = score(few, positions, positions, None)  # any token ids serve as targets
    # autocast would reuse the weights cast here, which have no gradient
    torch.clear_autocast_cache()
    expected = logits[positions].float().log_softmax(-1).gather(-1, positions.unsqueeze(-1)).squeeze(-1)
    # 16-bit logits are precise to about 1 %
    allowed = 1e-3 if logits.dtype == torch.float32 else 0.01 * (1 + logits.abs().max().item())
    difference = (found - expected).abs().max().item()
    if difference > allowed:
        name = getattr(plain, "__qualname__", "This architecture").partition(".")[0]
        raise ConfigError(
            f"model: {name} does more to its logits than scoring knows: a token's log-prob would be wrong by"
            f" {difference:.3g} nats, so this architecture cannot be trained or evaluated here"
        )


def _logit_postprocess(config: Any) -> Callable[[Tensor], Tensor] | None:
    """What an architecture does to its logits after the head, read from transformers' configuration keys."""
    cap = getattr(config, "final_logit_softcapping", None)
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale *= float(getattr(config, "lm_head_multiplier", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    if cap is None and scale == 1.0:
        return None

    def postprocess(logits: Tensor) -> Tensor:
        logits = logits * scale
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return postprocess
