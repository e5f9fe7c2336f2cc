"""Drawing tokens: one uniform number a row from the row's own seed, then a search in the cumulative distribution.

N: rows   V: vocabulary
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from r1kit.types import SamplingSpec

# SplitMix64 (Steele, Lea and Flood, 2014), as signed 64-bit numbers: multiplication wraps around.
_GOLDEN = -7046029254386353131
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685


def uniforms(seeds_N: Tensor, counters_N: Tensor) -> Tensor:
    """One float64 in [0, 1) a row, a function of its seed and counter alone: neighbours can't change it."""
    state_N = seeds_N + (counters_N + 1) * _GOLDEN
    state_N = (state_N ^ _logical_shift(state_N, 30)) * _MIX_1
    state_N = (state_N ^ _logical_shift(state_N, 27)) * _MIX_2
    state_N = state_N ^ _logical_shift(state_N, 31)
    return _logical_shift(state_N, 11).double() * 2.0**-53


def _logical_shift(values_N: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift of signed numbers repeats the sign."""
    return (values_N >> bits) & ((1 << (64 - bits)) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSampling:
    """How each row is sampled, as tensors; what no row asks for is skipped."""

    temperature_N1: Tensor
    is_greedy_N: Tensor
    top_p_N1: Tensor
    top_k_N1: Tensor
    banned_NV: Tensor
    any_greedy: bool
    any_cut: bool
    """True where some row has a top-p or a top-k."""
    any_banned: bool

    @classmethod
    def of(cls, specs: Sequence[SamplingSpec], vocab_size: int) -> "RowSampling":
        """One row a spec."""
        banned_NV = torch.zeros(len(specs), vocab_size, dtype=torch.bool)
        for row, spec in enumerate(specs):
            banned_NV[row, list(spec.banned_token_ids)] = True
        return cls(
            temperature_N1=torch.tensor([[spec.logprob_temperature] for spec in specs]),
            is_greedy_N=torch.tensor([spec.temperature == 0 for spec in specs]),
            top_p_N1=torch.tensor([[spec.top_p] for spec in specs]),
            top_k_N1=torch.tensor([[spec.top_k or vocab_size] for spec in specs]),
            banned_NV=banned_NV,
            any_greedy=any(spec.temperature == 0 for spec in specs),
            any_cut=any(spec.top_p < 1 or spec.top_k for spec in specs),
            any_banned=any(spec.banned_token_ids for spec in specs),
        )

    def select(self, rows: Tensor | slice) -> "RowSampling":
        """The same for some of the rows."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ROW_TENSORS})

    def joined(self, other: "RowSampling") -> "RowSampling":
        """These rows, then the other's."""
        tensors: dict[str, Any] = {
            name: torch.cat([getattr(self, name), getattr(other, name)]) for name in _ROW_TENSORS
        }
        flags = {name: getattr(self, name) or getattr(other, name) for name in ("any_greedy", "any_cut", "any_banned")}
        return replace(self, **tensors, **flags)


_ROW_TENSORS = ("temperature_N1", "is_greedy_N", "top_p_N1", "top_k_N1", "banned_NV")


def draw(logits_NV: Tensor, uniforms_N: Tensor, sampling: RowSampling) -> tuple[Tensor, Tensor]:
    """A token (N,) a row, and its logprob (N,) at the row's temperature, before top-p and top-k cut the tail.

    Banned tokens are gone before the softmax, so logprobs are of what could be drawn.
    """
    scaled_NV = logits_NV.float() / sampling.temperature_N1
    if sampling.any_banned:
        scaled_NV = scaled_NV.masked_fill(sampling.banned_NV, -torch.inf)
    logprobs_NV = scaled_NV.log_softmax(-1)
    probs_NV = _cut_tail(logprobs_NV.exp(), sampling)
    cumulative_NV = probs_NV.cumsum(-1)
    # The threshold stays below the last sum, though float32 may round it up: past the end lie only tokens that can't be
    # drawn. `right` skips tokens of probability 0 before it.
    last_N1 = cumulative_NV[:, -1:]
    below_N1 = torch.nextafter(last_N1, torch.zeros_like(last_N1))
    thresholds_N1 = torch.minimum((uniforms_N[:, None] * last_N1).to(last_N1.dtype), below_N1)
    tokens_N1 = torch.searchsorted(cumulative_NV, thresholds_N1, right=True)
    if sampling.any_greedy:
        tokens_N1 = torch.where(sampling.is_greedy_N[:, None], scaled_NV.argmax(-1, keepdim=True), tokens_N1)
    return tokens_N1[:, 0], logprobs_NV.gather(-1, tokens_N1)[:, 0]


def _cut_tail(probs_NV: Tensor, sampling: RowSampling) -> Tensor:
    """Zero what lies outside the k likeliest tokens, then outside the smallest set of probability top_p."""
    if not sampling.any_cut:
        return probs_NV
    sorted_NV, order_NV = probs_NV.sort(dim=-1, descending=True, stable=True)
    ranks_V = torch.arange(probs_NV.shape[-1], device=probs_NV.device)
    sorted_NV = sorted_NV.masked_fill(ranks_V >= sampling.top_k_N1, 0.0)
    before_NV = sorted_NV.cumsum(-1) - sorted_NV
    # A row without top-p keeps its whole tail: rounding may take the sum of all before the last token to 1.
    outside_NV = (before_NV >= sampling.top_p_N1 * sorted_NV.sum(-1, keepdim=True)) & (sampling.top_p_N1 < 1)
    return torch.zeros_like(probs_NV).scatter(-1, order_NV, sorted_NV.masked_fill(outside_NV, 0.0))
