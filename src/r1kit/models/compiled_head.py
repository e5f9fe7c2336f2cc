"""One pass of positions over the vocabulary through the compiled arithmetic: what head.py computes, tile by tile.

N: positions   D: model width   V: vocabulary   W: vocabulary entries in a tile
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from r1kit.models.compiled import EDGE, Arithmetic, compiled_arithmetic

TILE_WIDTH = 512


def arithmetic_of(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Arithmetic | None:
    """The compiled arithmetic, if it is there and suits the head's shapes."""
    if hidden_ND.device.type != "cpu" or {hidden_ND.dtype, weight_VD.dtype} != {torch.bfloat16} or bias_V is not None:
        return None
    return None if any(size % EDGE for size in weight_VD.shape) or not len(hidden_ND) else compiled_arithmetic()


def forward_pass(
    hidden_ND: Tensor, targets_N: Tensor, weight_VD: Tensor, temperature: float, arithmetic: Arithmetic
) -> tuple[Tensor, Tensor, Tensor]:
    """Logprobs, entropies and normalisers of some positions."""
    highest_N = torch.full((len(hidden_ND),), -torch.inf)
    mass_N, moment_N, chosen_N = (torch.zeros(len(hidden_ND)) for _ in range(3))
    for start, logits_NW in _tiles(hidden_ND, weight_VD, arithmetic):
        arithmetic.softmax_tile(logits_NW, temperature, start, targets_N, (highest_N, mass_N, moment_N, chosen_N))
    log_mass_N = mass_N.log()
    normaliser_N = highest_N + log_mass_N
    return chosen_N - normaliser_N, log_mass_N - moment_N / mass_N, normaliser_N


def backward_pass(
    hidden_ND: Tensor,
    known: tuple[Tensor, Tensor, Tensor],
    asked: tuple[Tensor, Tensor | None],
    weight_VD: Tensor,
    temperature: float,
    arithmetic: Arithmetic,
    sink_VD: Tensor | None,
) -> Tensor:
    """The gradient of some positions' hidden states; the weights' is added to the sink."""
    grad_hidden_ND = torch.zeros(hidden_ND.shape)
    figures = tuple(tensor if tensor is None else tensor.contiguous() for tensor in (*known, *asked))
    room = hidden_ND.new_empty(len(hidden_ND) * TILE_WIDTH)
    laid_out = None if sink_VD is None else arithmetic.right(hidden_ND)
    for start, logits_NW in _tiles(hidden_ND, weight_VD, arithmetic):
        grad_NW = room[: logits_NW.numel()].view(logits_NW.shape)
        arithmetic.softmax_tile_backward(logits_NW, temperature, start, figures, grad_NW)
        rows = slice(start, start + logits_NW.shape[1])
        arithmetic.add_product(grad_NW, arithmetic.right(weight_VD[rows]), grad_hidden_ND)
        if sink_VD is not None and laid_out is not None:
            arithmetic.add_product(arithmetic.left_transposed(grad_NW), laid_out, sink_VD[rows])
    return grad_hidden_ND.to(hidden_ND.dtype)


def _tiles(hidden_ND: Tensor, weight_VD: Tensor, arithmetic: Arithmetic) -> Iterator[tuple[int, Tensor]]:
    """The first vocabulary entry of each tile, and its logits in float32, in room that is used again."""
    room = torch.empty(len(hidden_ND) * TILE_WIDTH)
    for start in range(0, len(weight_VD), TILE_WIDTH):
        weight_WD = weight_VD[start : start + TILE_WIDTH]
        logits_NW = room[: len(hidden_ND) * len(weight_WD)].view(len(hidden_ND), -1)
        yield start, arithmetic.wide_product(hidden_ND, arithmetic.right_transposed(weight_WD), logits_NW)
