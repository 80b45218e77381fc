"""Turns hidden states into token logps, sequence logps and scores without holding all logits at once.

Axes: `B` questions in the batch, `G` candidate slots per question, `N = B * G` sequences, `T` tokens after padding,
`R` response tokens to predict, over all sequences, `H` hidden size, `V` vocabulary.
Units: `token_logps` in nats per token; `seq_logps` their sum, in nats per sequence; `scores` their mean over response
tokens, in nats per token. Log-probabilities are float32 for any dtype of the model (float64 for float64).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = 64 * 2**20  # size of the float32 logits of one chunk, unless a chunk size is given
UNKNOWN_VOCABULARY_CHUNK = 1024  # rows per chunk for a head without `out_features`

Head = Callable[[Tensor], Tensor]
Postprocess = Callable[[Tensor], Tensor]


def default_chunk_size(head: Head, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Rows per chunk that keep the float32 logits of one chunk within `chunk_bytes`; at least 1.

    The vocabulary size is the head's `out_features`, because a sharded weight has fewer rows. Forward and backward each
    need about two tensors of `chunk_bytes`.
    """
    vocabulary = getattr(head, "out_features", None)
    return max(1, chunk_bytes // (4 * vocabulary)) if vocabulary else UNKNOWN_VOCABULARY_CHUNK


def token_logps(
    hidden: Tensor,
    targets: Tensor,
    head: Head,
    *,
    chunk_size: int | None = None,
    keep_bytes: int = 0,
    postprocess: Postprocess | None = None,
) -> Tensor:
    """Log-probability of each target token, given the hidden state that predicts the token.

    Logits are computed for one chunk of rows at a time and again in the backward pass, so only one chunk is ever held.
    If all logits fit in `keep_bytes`, the forward pass keeps their gradients instead. `chunk_size` and `keep_bytes`
    change results only by rounding. A plain `torch.nn.Linear` is called once for all chunks: calling a sharded layer is
    a collective operation, and ranks have unequal numbers of rows. Any other head is called for every chunk. No
    gradient is computed for a frozen weight.

    Args:
        hidden: (R, H), any float: states at the positions *before* the targets, already gathered. Gradient flows.
        targets: (R,), int64, in [0, V). No id is ignored: leave out tokens that must not count.
        head: the model's output projection, (rows, H) -> (rows, V). Its hooks run; its parameters get gradient.
            Called also for R = 0.
        chunk_size: most rows per chunk, >= 1; None: `default_chunk_size(head)`.
        keep_bytes: keep the logits' gradients for the backward pass if they take at most this many bytes in the head's
            dtype; 0: never keep them.
        postprocess: applied to the float32 logits of each chunk: soft-capping, scaling.

    Returns:
        (R,), float32 (float64 for float64 logits), nats per token. Empty for R = 0, with zero gradient.
    Raises:
        ValueError: on a wrong shape or dtype, or a chunk size below 1.
    """
    if hidden.ndim != 2:
        raise ValueError(f"token_logps: hidden must be (R, H), got {tuple(hidden.shape)}")
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"token_logps: targets must be (R,) = ({len(hidden)},), got {tuple(targets.shape)}")
    if targets.dtype != torch.long:
        raise ValueError(f"token_logps: targets must be torch.int64, got {targets.dtype}")
    chunk_size = default_chunk_size(head) if chunk_size is None else chunk_size
    if chunk_size < 1:
        raise ValueError(f"token_logps: chunk_size must be >= 1, got {chunk_size}")
    if _is_plain_linear(head):
        return _in_linear(head, hidden, targets, chunk_size, keep_bytes, postprocess)

    def chunk_logps(hidden_chunk: Tensor, target_chunk: Tensor) -> Tensor:
        logps = _finished(head(hidden_chunk), postprocess).log_softmax(dim=-1)  # (rows, V)
        return logps.gather(-1, target_chunk.unsqueeze(-1)).squeeze(-1)  # (rows,)

    chunks = max(1, -(-len(hidden) // chunk_size))
    if chunks == 1:
        return chunk_logps(hidden, targets)
    pieces = zip(hidden.tensor_split(chunks), targets.tensor_split(chunks), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([chunk_logps(*piece) for piece in pieces])
    return torch.cat([checkpoint(chunk_logps, *piece, use_reentrant=False) for piece in pieces])


def _finished(logits: Tensor, postprocess: Postprocess | None) -> Tensor:
    """Logits (rows, V) in float32 (float64 stays), after `postprocess`."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if postprocess is None else postprocess(logits)


# ---- the head of nearly every model: a linear layer ----


def _is_plain_linear(head: Head) -> TypeGuard[torch.nn.Linear]:
    """True for a `torch.nn.Linear` with its own forward: no adapter around it and no replaced forward."""
    return (
        isinstance(head, torch.nn.Linear)
        and type(head).forward is torch.nn.Linear.forward
        and "forward" not in vars(head)
    )


def _in_linear(
    head: torch.nn.Linear,
    hidden: Tensor,
    targets: Tensor,
    chunk_size: int,
    keep_bytes: int,
    postprocess: Postprocess | None,
) -> Tensor:
    """Runs `_LinearLogps` as the layer's forward, so that the hooks that gather its weight run around it."""

    def forward(hidden: Tensor) -> Tensor:
        weight: Tensor = head.weight
        bias: Tensor | None = head.bias
        if torch.is_autocast_enabled(hidden.device.type):
            computing = torch.get_autocast_dtype(hidden.device.type)
            hidden, weight = hidden.to(computing), weight.to(computing)
            bias = None if bias is None else bias.to(computing)
        fits = hidden.element_size() * len(hidden) * head.out_features <= keep_bytes
        keep = _Keep.GRADIENTS if fits else _Keep.NOTHING
        if not torch.is_grad_enabled():
            keep = _Keep.NOTHING
        elif not weight.requires_grad and (bias is None or not bias.requires_grad):
            keep = _Keep.PRODUCTS
        return _LinearLogps.apply(hidden, weight, bias, targets, chunk_size, keep, postprocess)

    head.forward = forward  # type: ignore[method-assign, assignment]
    try:
        return head(hidden)
    finally:
        del head.forward


class _Keep(enum.Enum):
    """What is kept for the backward pass: nothing, gradients (R, V) of the losses, or their products (R, H).

    The loss of a row is its negative log-prob. Its gradient with respect to the logits is as large as the logits. A
    product is that gradient times the head's weight: all that the backward pass needs if the head is frozen.
    """

    NOTHING = enum.auto()
    GRADIENTS = enum.auto()
    PRODUCTS = enum.auto()


class _LinearLogps(torch.autograd.Function):
    """Token log-probs (R,) from hidden (R, H), weight (V, H) and bias (V,) or None. Logits are made chunk by chunk.

    The gradient that arrives for a row's log-prob is a factor of everything that the row adds. It multiplies rows of
    size H, never rows of size V.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        chunk_size: int,
        keep: _Keep,
        postprocess: Postprocess | None,
    ) -> Tensor:
        logps = hidden.new_empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        kept = None
        if keep is not _Keep.NOTHING:
            # in one piece: the backward pass then takes one product instead of one a chunk
            kept = torch.empty_like(hidden) if keep is _Keep.PRODUCTS else hidden.new_empty(len(hidden), len(weight))
        into = kept if keep is _Keep.GRADIENTS else None
        for rows, logits, finished in _by_chunk(hidden, weight, bias, chunk_size, postprocess, into):
            logps[rows] = finished.gather(-1, targets[rows].unsqueeze(-1)).squeeze(-1)
            if kept is not None:
                grad = _grad_of_loss(finished, logits, targets[rows], postprocess)
                kept[rows] = grad if keep is _Keep.GRADIENTS else grad.to(hidden.dtype) @ weight
        ctx.save_for_backward(hidden, *((None,) * 3 if keep is _Keep.PRODUCTS else (weight, bias, targets)), kept)
        ctx.chunk_size, ctx.keep, ctx.postprocess = chunk_size, keep, postprocess
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, kept = ctx.saved_tensors
        factor = -gradients[0].unsqueeze(-1)  # (R, 1), in at least float32: of each row's loss
        if ctx.keep is _Keep.PRODUCTS:
            return ((kept * factor).to(hidden.dtype), *(None,) * 6)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        # in float32, because rounding errors would add up over chunks
        summing = torch.promote_types(weight.dtype, torch.float32)
        grad_weight: Tensor | None = None
        grad_bias = torch.zeros_like(bias, dtype=summing) if wants_bias and bias is not None else None
        pieces: Iterable[tuple[slice, Tensor]] = [(slice(None), kept)]
        if kept is None:
            pieces = (
                (rows, _grad_of_loss(finished, logits, targets[rows], ctx.postprocess).to(hidden.dtype))
                for rows, logits, finished in _by_chunk(hidden, weight, bias, ctx.chunk_size, ctx.postprocess)
            )
        for rows, grad in pieces:  # (rows, V)
            if grad_hidden is not None:
                torch.mul(grad @ weight, factor[rows], out=grad_hidden[rows])
            if wants_weight:
                scaled = (hidden[rows] * factor[rows]).to(hidden.dtype)
                grad_weight = _plus_product(grad_weight, grad.t(), scaled)
            if grad_bias is not None:
                grad_bias += (grad.to(summing) * factor[rows]).sum(dim=0)
        if wants_weight and grad_weight is None:
            grad_weight = torch.zeros_like(weight)  # there is no row
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            *(None,) * 4,
        )


def _by_chunk(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    chunk_size: int,
    postprocess: Postprocess | None,
    into: Tensor | None = None,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yields a chunk's rows, their raw logits (rows, V), and their log-probs of the whole vocabulary (rows, V).

    The log-probs are written into the rows of `into` (R, V) if it has their dtype. Other chunks write over the rest.
    """
    chunks = _chunks(len(hidden), chunk_size)
    # One tensor for all chunks: on a CPU the system zeroes a new one of this size, as slowly as a pass over it.
    room = hidden.new_empty(max((rows.stop - rows.start for rows in chunks), default=0), len(weight))
    dtype = torch.promote_types(room.dtype, torch.float32)
    places = into if into is not None and into.dtype == dtype else torch.empty_like(room, dtype=dtype)
    for rows in chunks:
        logits = room[: rows.stop - rows.start]
        if bias is None:
            torch.mm(hidden[rows], weight.t(), out=logits)
        else:
            torch.addmm(bias, hidden[rows], weight.t(), out=logits)
        place = places[rows] if places is into else places[: len(logits)]
        yield rows, logits, torch.log_softmax(_finished(logits, postprocess), dim=-1, out=place)


def _chunks(rows: int, chunk_size: int) -> list[slice]:
    """Slices of nearly equal length, at most `chunk_size` rows each."""
    count = -(-rows // chunk_size)
    return [slice(rows * number // count, rows * (number + 1) // count) for number in range(count)]


def _grad_of_loss(finished: Tensor, logits: Tensor, targets: Tensor, postprocess: Postprocess | None) -> Tensor:
    """Gradient (rows, V) of each row's negative log-prob with respect to its logits. Writes over `finished`.

    `finished` (rows, V) are the log-probs of the whole vocabulary.
    """
    # probabilities minus one at the target
    through = finished.exp_().scatter_add_(-1, targets.unsqueeze(-1), finished.new_full((len(targets), 1), -1.0))
    if postprocess is None:
        return through
    with torch.enable_grad():
        raw = logits.detach().to(finished.dtype).requires_grad_()
        processed = postprocess(raw)
    return torch.autograd.grad(processed, raw, through)[0]


def _plus_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """`total` plus `left @ right`, added in at least float32; the product itself if there is no total yet."""
    if total is None:
        return left @ right
    total = total.to(torch.promote_types(total.dtype, torch.float32))
    return total.addmm_(left, right) if left.dtype == total.dtype else total.add_(left @ right)


# ---- token log-probs -> sequences ----


def sum_by_sequence(token_logps: Tensor, sequence_index: Tensor, num_sequences: int) -> tuple[Tensor, Tensor]:
    """Sum of log-probs and number of tokens of each sequence.

    Args:
        token_logps: (R,), any float, nats per token, in any order. Every token of a sequence gets the same gradient.
        sequence_index: (R,), int64: the sequence that each token belongs to, in [0, N).
        num_sequences: N.

    Returns:
        seq_logps (N,), float32 (float64 for float64), nats per sequence, 0 for an empty one; lengths (N,), int64.
        On CUDA the order of the additions is fixed only under `torch.use_deterministic_algorithms`.
    Raises:
        ValueError: on a wrong shape or dtype.
    """
    if token_logps.ndim != 1:
        raise ValueError(f"sum_by_sequence: token_logps must be (R,), got {tuple(token_logps.shape)}")
    if sequence_index.shape != token_logps.shape:
        raise ValueError(
            f"sum_by_sequence: sequence_index must be (R,) = ({len(token_logps)},), got {tuple(sequence_index.shape)}"
        )
    if sequence_index.dtype != torch.long:
        raise ValueError(f"sum_by_sequence: sequence_index must be torch.int64, got {sequence_index.dtype}")
    token_logps = token_logps.to(torch.promote_types(token_logps.dtype, torch.float32))
    seq_logps = token_logps.new_zeros(num_sequences).index_add(0, sequence_index, token_logps)  # (N,)
    ones = torch.ones_like(sequence_index)
    lengths = ones.new_zeros(num_sequences).index_add(0, sequence_index, ones)  # (N,)
    return seq_logps, lengths


def mean_scores(seq_logps: Tensor, lengths: Tensor) -> Tensor:
    """Scores (N,), nats per token: `seq_logps` over `lengths` (Eq 2 of arXiv 2309.02144); 0 for an empty sequence."""
    return seq_logps / lengths.clamp(min=1)


def sequence_logps(
    hidden: Tensor,
    input_ids: Tensor,
    response_mask: Tensor,
    head: Head,
    *,
    chunk_size: int | None = None,
    keep_bytes: int = 0,
    postprocess: Postprocess | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of log-probs and number of response tokens of each padded sequence. Does the shift by one token.

    Args:
        hidden: (N, T, H), any float, the model's last hidden states. Gradient flows.
        input_ids: (N, T), int64, padded on either side.
        response_mask: (N, T), bool, true at the tokens of the response, end token included. The first column must be
            false: nothing predicts a first token.
        head, chunk_size, keep_bytes, postprocess: as in `token_logps`.

    Returns:
        seq_logps (N,) and lengths (N,), as `sum_by_sequence`; `mean_scores` turns them into scores.
    Raises:
        ValueError: on a wrong shape or dtype, or a response that begins in the first column.
    """
    if hidden.ndim != 3:
        raise ValueError(f"sequence_logps: hidden must be (N, T, H), got {tuple(hidden.shape)}")
    for name, value in (("input_ids", input_ids), ("response_mask", response_mask)):
        if value.shape != hidden.shape[:2]:
            expected = tuple(hidden.shape[:2])
            raise ValueError(f"sequence_logps: {name} must be (N, T) = {expected}, got {tuple(value.shape)}")
    if response_mask.dtype != torch.bool:
        raise ValueError(f"sequence_logps: response_mask must be torch.bool, got {response_mask.dtype}")
    if response_mask[:, :1].any():
        rows = response_mask[:, 0].nonzero().flatten().tolist()
        raise ValueError(f"sequence_logps: response_mask must be false in the first column, is true in rows {rows}")

    sequence_index, position = response_mask.nonzero(as_tuple=True)  # (R,), (R,)
    logps = token_logps(
        hidden[sequence_index, position - 1],  # (R, H): the state before a token predicts it
        input_ids[sequence_index, position],
        head,
        chunk_size=chunk_size,
        keep_bytes=keep_bytes,
        postprocess=postprocess,
    )
    return sum_by_sequence(logps, sequence_index, len(hidden))
