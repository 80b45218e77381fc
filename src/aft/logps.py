"""Hidden states -> token logps -> sequence logps and scores, never holding all logits at once.

Axes: `B` questions in the batch, `G` candidate slots per question, `N = B * G` sequences, `T` tokens after padding,
`R` response tokens to predict, over all sequences, `H` hidden size, `V` vocabulary.
Units: `token_logps` in nats per token; `seq_logps` their sum, in nats per sequence; `scores` their mean over response
tokens, in nats per token. Log-probabilities are float32 whatever the model runs in (float64 for float64).
The shift by one token happens here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOGITS_BUDGET = 256 * 2**20  # bytes of float32 logits per chunk, unless a chunk size is given
UNKNOWN_VOCABULARY_CHUNK = 1024  # rows per chunk, where the head does not say how wide its logits are

Head = Callable[[Tensor], Tensor]


def default_chunk_size(head: Head, chunk_bytes: int = LOGITS_BUDGET) -> int:
    """Rows per chunk that keep the float32 logits of one chunk within `chunk_bytes`; at least 1.

    The vocabulary size is the head's `out_features`: its weight may be sharded and say less. The backward pass of a
    chunk holds about three tensors of that size: the log-softmax and two gradients.
    """
    vocabulary = getattr(head, "out_features", None)
    return max(1, chunk_bytes // (4 * vocabulary)) if vocabulary else UNKNOWN_VOCABULARY_CHUNK


def num_chunks(rows: int, chunk_size: int) -> int:
    """How many calls of the head `token_logps` makes for that many rows; never none."""
    return max(1, -(-rows // chunk_size))


def token_logps(
    hidden: Tensor,
    targets: Tensor,
    head: Head,
    *,
    chunk_size: int | None = None,
    min_chunks: int = 1,
    postprocess: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Log-probability of each target token, under the hidden state that predicts it.

    The head runs on one chunk of rows at a time and, where there are several, again in the backward pass, so that the
    logits of one chunk are all that is ever held. The results do not depend on the chunking beyond rounding.

    Args:
        hidden: (R, H), any float: states at the positions *before* the targets, already gathered. Gradient flows.
        targets: (R,), int64, in [0, V). No id is special: what must not count is not passed.
        head: the model's output projection, (rows, H) -> (rows, V). Called as given, so that hooks on a module fire
            (sharded weights are gathered); its parameters get gradient. Called at least once, also for R = 0.
        chunk_size: most rows per call, >= 1; None: `default_chunk_size(head)`.
        min_chunks: fewest calls. Where calling the head is a collective operation (sharded weights), all ranks must
            call it equally often: pass the largest `num_chunks` over the ranks.
        postprocess: applied to the float32 logits of each chunk: soft-capping, scaling.

    Returns:
        (R,), float32 (float64 for float64 logits), nats per token. Empty for R = 0, with zero gradient.
    Raises:
        ValueError: on a wrong shape or dtype, or a count below 1.
    """
    if hidden.ndim != 2:
        raise ValueError(f"token_logps: hidden must be (R, H), got {tuple(hidden.shape)}")
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"token_logps: targets must be (R,) = ({len(hidden)},), got {tuple(targets.shape)}")
    if targets.dtype != torch.long:
        raise ValueError(f"token_logps: targets must be torch.int64, got {targets.dtype}")
    chunk_size = default_chunk_size(head) if chunk_size is None else chunk_size
    if chunk_size < 1 or min_chunks < 1:
        raise ValueError(f"token_logps: chunk_size and min_chunks must be >= 1, got {chunk_size} and {min_chunks}")

    def chunk_logps(hidden_chunk: Tensor, target_chunk: Tensor) -> Tensor:
        logits = head(hidden_chunk)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # (rows, V)
        if postprocess is not None:
            logits = postprocess(logits)
        return logits.log_softmax(dim=-1).gather(-1, target_chunk.unsqueeze(-1)).squeeze(-1)  # (rows,)

    chunks = max(min_chunks, num_chunks(len(hidden), chunk_size))
    if chunks == 1:
        return chunk_logps(hidden, targets)
    pieces = zip(hidden.tensor_split(chunks), targets.tensor_split(chunks), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([chunk_logps(*piece) for piece in pieces])
    return torch.cat([checkpoint(chunk_logps, *piece, use_reentrant=False) for piece in pieces])


def sum_by_sequence(token_logps: Tensor, sequence_index: Tensor, num_sequences: int) -> tuple[Tensor, Tensor]:
    """Sum and number of the tokens of each sequence.

    Args:
        token_logps: (R,), any float, nats per token, in any order. Every token of a sequence gets the same gradient.
        sequence_index: (R,), int64: the sequence each token belongs to, in [0, N).
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
    min_chunks: int = 1,
    postprocess: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum and number of the response tokens of each padded sequence: the shift by one and the two functions above.

    Args:
        hidden: (N, T, H), any float, the model's last hidden states. Gradient flows.
        input_ids: (N, T), int64, padded on either side.
        response_mask: (N, T), bool, true where a token belongs to the response, its end token included. The first
            column must be false: nothing predicts a first token.
        head, chunk_size, min_chunks, postprocess: as in `token_logps`.

    Returns:
        seq_logps (N,) and lengths (N,), as `sum_by_sequence`; `mean_scores` makes scores of them.
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
        min_chunks=min_chunks,
        postprocess=postprocess,
    )
    return sum_by_sequence(logps, sequence_index, len(hidden))
