"""The head and the log-softmax over the vocabulary, in tiles: [positions x vocabulary] never exists.

N: positions   D: model width   V: vocabulary   W: vocabulary entries in a tile
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from r1kit.models import compiled_head

# A tile's figures, read and written several times, should stay in a core's cache.
TILE_ELEMENTS = 2**19
# Positions of one pass over the vocabulary; more are taken in several passes, each of which reads all of the weights.
POSITIONS_PER_PASS = 2048
MIN_TILE_WIDTH = 256


@dataclass(frozen=True, slots=True)
class Head:
    """What turns hidden states into logits, in the precision of its products."""

    weight_VD: Tensor
    bias_V: Tensor | None
    temperature: float
    sink: Callable[[], Tensor] | None = None
    """Says where (V, D) the weight's gradient is added in float32, if autograd is not to carry it."""


@dataclass(slots=True)
class _Buffers:
    """Room for one tile, used again for each."""

    products: Tensor
    logits: Tensor
    spare: Tensor

    @classmethod
    def of(cls, num_positions: int, width: int, like: Tensor) -> "_Buffers":
        products = like.new_empty(num_positions * width)
        wide = [torch.empty(num_positions * width, dtype=_wide(like.dtype), device=like.device) for _ in range(2)]
        return cls(products, *wide)


def chosen_stats(hidden_ND: Tensor, targets_N: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """Logprobs of the targets and entropies (N,), both with gradients; float32, or float64 where the weights are.

    The backward pass makes the logits once more. The entropy's gradient costs nothing unless it is asked for.
    """
    return _ChosenStats.apply(hidden_ND, head.weight_VD, head.bias_V, targets_N, head)


class _ChosenStats(torch.autograd.Function):
    """Log-softmax with an online normaliser (arXiv:1805.02867), tile by tile."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, head: Head
    ) -> tuple[Tensor, Tensor]:
        passes = [_forward_pass(part_ND, targets_N[rows], head) for rows, part_ND in _passes(hidden_ND.contiguous())]
        logprobs_N, entropy_N, normaliser_N = (torch.cat(parts) for parts in zip(*passes, strict=True))
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, targets_N, normaliser_N, entropy_N)
        ctx.head = head
        ctx.set_materialize_grads(False)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, grad_logprobs_N: Tensor | None, grad_entropy_N: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, targets_N, normaliser_N, entropy_N = ctx.saved_tensors
        if grad_logprobs_N is None and grad_entropy_N is None:
            return None, None, None, None, None
        if grad_logprobs_N is None:
            grad_logprobs_N = torch.zeros_like(normaliser_N)
        head, wide = ctx.head, _wide(weight_VD.dtype)
        carries = head.sink is None and ctx.needs_input_grad[1]
        sink_VD = torch.zeros_like(weight_VD, dtype=wide) if carries else head.sink and head.sink()
        bias_sink_V = torch.zeros_like(bias_V, dtype=wide) if bias_V is not None and ctx.needs_input_grad[2] else None
        grad_hidden_ND = torch.empty_like(hidden_ND)
        for rows, part_ND in _passes(hidden_ND.contiguous()):
            known = targets_N[rows], normaliser_N[rows], entropy_N[rows]
            asked = grad_logprobs_N[rows], None if grad_entropy_N is None else grad_entropy_N[rows]
            grad_hidden_ND[rows] = _backward_pass(part_ND, known, asked, head, sink_VD, bias_sink_V)
        return (
            grad_hidden_ND,
            sink_VD.to(weight_VD.dtype) if carries else None,
            None if bias_sink_V is None else bias_sink_V.to(weight_VD.dtype),
            None,
            None,
        )


def _forward_pass(hidden_ND: Tensor, targets_N: Tensor, head: Head) -> tuple[Tensor, Tensor, Tensor]:
    """Logprobs, entropies and normalisers of some positions."""
    arithmetic = compiled_head.arithmetic_of(hidden_ND, head.weight_VD, head.bias_V)
    if arithmetic is not None:
        return compiled_head.forward_pass(hidden_ND, targets_N, head.weight_VD, head.temperature, arithmetic)
    wide = _wide(hidden_ND.dtype)
    highest_N = hidden_ND.new_full((len(hidden_ND),), -torch.inf, dtype=wide)
    chosen_N, mass_N, moment_N = (hidden_ND.new_zeros(len(hidden_ND), dtype=wide) for _ in range(3))
    for start, logits_NW, spare_NW in _tiles(hidden_ND, head):
        last = logits_NW.shape[1] - 1
        place_N = targets_N - start
        in_tile_N = (place_N >= 0) & (place_N <= last)
        found_N = logits_NW.gather(1, place_N.clamp(0, last)[:, None])[:, 0]
        chosen_N = torch.where(in_tile_N, found_N, chosen_N)
        new_highest_N = torch.maximum(highest_N, logits_NW.amax(1))
        # Σ e^z and Σ e^z z, both of z less the highest logit so far; the fall is 0 x inf in the first tile.
        fall_N = torch.where(mass_N > 0, highest_N - new_highest_N, 0)
        decay_N = fall_N.exp()
        logits_NW -= new_highest_N[:, None]
        torch.exp(logits_NW, out=spare_NW)
        moment_N = (moment_N + mass_N * fall_N) * decay_N + torch.linalg.vecdot(spare_NW, logits_NW)
        mass_N = mass_N * decay_N + spare_NW.sum(1)
        highest_N = new_highest_N
    log_mass_N = mass_N.log()
    normaliser_N = highest_N + log_mass_N
    return chosen_N - normaliser_N, log_mass_N - moment_N / mass_N, normaliser_N


def _backward_pass(
    hidden_ND: Tensor,
    known: tuple[Tensor, Tensor, Tensor],
    asked: tuple[Tensor, Tensor | None],
    head: Head,
    sink_VD: Tensor | None,
    bias_sink_V: Tensor | None,
) -> Tensor:
    """The gradient of some positions' hidden states; the weights' is added to the sinks.

    d logprob / dz = onehot - p, d entropy / dz = -p (log p + H).
    """
    targets_N, normaliser_N, entropy_N = known
    arithmetic = compiled_head.arithmetic_of(hidden_ND, head.weight_VD, head.bias_V)
    if arithmetic is not None:
        settings = head.weight_VD, head.temperature, arithmetic
        return compiled_head.backward_pass(hidden_ND, known, asked, *settings, sink_VD)
    grad_N = asked[0] / head.temperature
    grad_entropy_N = None if asked[1] is None else asked[1] / head.temperature
    grad_hidden_ND = torch.zeros_like(hidden_ND, dtype=_wide(hidden_ND.dtype))
    sorted_N, order_N = targets_N.sort()
    for start, logits_NW, gradient_NW in _tiles(hidden_ND, head):
        logits_NW -= normaliser_N[:, None]
        torch.exp(logits_NW, out=gradient_NW)
        if grad_entropy_N is None:
            gradient_NW *= -grad_N[:, None]
        else:
            logits_NW += entropy_N[:, None]
            logits_NW *= grad_entropy_N[:, None]
            logits_NW += grad_N[:, None]
            gradient_NW *= logits_NW.neg_()
        width = gradient_NW.shape[1]
        first, end = torch.searchsorted(sorted_N, torch.tensor([start, start + width], device=sorted_N.device)).tolist()
        rows_M = order_N[first:end]
        gradient_NW[rows_M, targets_N[rows_M] - start] += grad_N[rows_M]
        products_NW = gradient_NW.to(hidden_ND.dtype)
        _add_product(grad_hidden_ND, products_NW, head.weight_VD[start : start + width])
        if sink_VD is not None:
            _add_product(sink_VD[start : start + width], products_NW.T.contiguous(), hidden_ND)
        if bias_sink_V is not None:
            bias_sink_V[start : start + width] += gradient_NW.sum(0)
    return grad_hidden_ND.to(hidden_ND.dtype)


def _tiles(hidden_ND: Tensor, head: Head) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The first vocabulary entry of each tile, its logits (N, W) and room of the same shape."""
    num_positions, vocab_size = len(hidden_ND), len(head.weight_VD)
    width = min(vocab_size, max(MIN_TILE_WIDTH, TILE_ELEMENTS // max(1, num_positions)))
    buffers = _Buffers.of(num_positions, width, hidden_ND)
    for start in range(0, vocab_size, width):
        weight_WD = head.weight_VD[start : start + width]
        shape = (num_positions, len(weight_WD))
        size = num_positions * len(weight_WD)
        products_NW = torch.mm(hidden_ND, weight_WD.T, out=buffers.products[:size].view(shape))
        logits_NW = buffers.logits[:size].view(shape).copy_(products_NW)
        if head.bias_V is not None:
            logits_NW += head.bias_V[start : start + width]
        if head.temperature != 1:
            logits_NW /= head.temperature
        yield start, logits_NW, buffers.spare[:size].view(shape)


def _passes(hidden_ND: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Positions in passes over the vocabulary; one pass where there are none."""
    for start in range(0, max(1, len(hidden_ND)), POSITIONS_PER_PASS):
        rows = slice(start, start + POSITIONS_PER_PASS)
        yield rows, hidden_ND[rows]


def _add_product(sum_: Tensor, left: Tensor, right: Tensor) -> None:
    """sum += left @ right, the sum in float32 where the factors are not."""
    if sum_.dtype == left.dtype:
        sum_.addmm_(left, right)
    else:
        sum_ += left @ right


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
