"""Drawing tokens: one uniform number a row from the row's own seed, then a search in the cumulative distribution.

N: rows   V: vocabulary
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from r1kit.models.compiling import compiled_library
from r1kit.types import SamplingSpec

# Logits that are drawn from at once: two float32 buffers of so many lie in a processor's second-level cache.
ELEMENTS_AT_ONCE = 2**18
# Probabilities are summed in blocks, so that a search looks at few sums.
BLOCK = 256
# Likeliest tokens that top-p and top-k are looked for among, before more of them are.
CANDIDATES = (256, 4096)

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
    is_cut_N: Tensor
    """True where a row has a top-p or a top-k."""
    top_p_N1: Tensor
    top_k_N1: Tensor
    banned_NV: Tensor | None
    any_heat: bool
    """True where some temperature is not 1."""
    any_greedy: bool
    any_cut: bool
    any_special: bool
    is_special_N: Tensor
    """True where a row is greedy or cut, or has banned tokens."""

    @classmethod
    def of(cls, specs: Sequence[SamplingSpec], vocab_size: int) -> "RowSampling":
        """One row a spec."""
        is_special = [
            spec.temperature == 0 or spec.top_p < 1 or spec.top_k > 0 or bool(spec.banned_token_ids) for spec in specs
        ]
        is_cut = [spec.temperature > 0 and (spec.top_p < 1 or 0 < spec.top_k < vocab_size) for spec in specs]
        return cls(
            temperature_N1=torch.tensor([[spec.logprob_temperature] for spec in specs]),
            is_greedy_N=torch.tensor([spec.temperature == 0 for spec in specs]),
            is_cut_N=torch.tensor(is_cut),
            top_p_N1=torch.tensor([[spec.top_p] for spec in specs]),
            top_k_N1=torch.tensor([[spec.top_k or vocab_size] for spec in specs]),
            banned_NV=_banned(specs, vocab_size) if any(spec.banned_token_ids for spec in specs) else None,
            any_heat=any(spec.logprob_temperature != 1 for spec in specs),
            any_greedy=any(spec.temperature == 0 for spec in specs),
            any_cut=any(is_cut),
            any_special=any(is_special),
            is_special_N=torch.tensor(is_special),
        )

    def select(self, rows: Tensor | slice) -> "RowSampling":
        """The same for some of the rows."""
        tensors = {name: getattr(self, name)[rows] for name in _ROW_TENSORS}
        return replace(self, **tensors, banned_NV=None if self.banned_NV is None else self.banned_NV[rows])

    def joined(self, other: "RowSampling") -> "RowSampling":
        """These rows, then the other's."""
        tensors: dict[str, Any] = {
            name: torch.cat([getattr(self, name), getattr(other, name)]) for name in _ROW_TENSORS
        }
        flags = {name: getattr(self, name) or getattr(other, name) for name in _FLAGS}
        return replace(self, **tensors, **flags, banned_NV=_joined_bans(self, other))


_ROW_TENSORS = ("temperature_N1", "is_greedy_N", "is_cut_N", "is_special_N", "top_p_N1", "top_k_N1")
_FLAGS = ("any_heat", "any_greedy", "any_cut", "any_special")


def _banned(specs: Sequence[SamplingSpec], vocab_size: int) -> Tensor:
    banned_NV = torch.zeros(len(specs), vocab_size, dtype=torch.bool)
    for row, spec in enumerate(specs):
        banned_NV[row, list(spec.banned_token_ids)] = True
    return banned_NV


def _joined_bans(one: RowSampling, other: RowSampling) -> Tensor | None:
    vocab_size = next((found.shape[1] for found in (one.banned_NV, other.banned_NV) if found is not None), None)
    if vocab_size is None:
        return None
    return torch.cat(
        [
            torch.zeros(len(rows.is_cut_N), vocab_size, dtype=torch.bool) if rows.banned_NV is None else rows.banned_NV
            for rows in (one, other)
        ]
    )


def draw(logits_NV: Tensor, uniforms_N: Tensor, sampling: RowSampling) -> tuple[Tensor, Tensor]:
    """A token (N,) a row, and its logprob (N,) at the row's temperature, before top-p and top-k cut the tail.

    Banned tokens are gone before the softmax, so logprobs are of what could be drawn. The token is the one at which the
    cumulative probability, in the order of token ids, passes the uniform number.
    """
    library = compiled_library("engine/native/drawing.c", BF16=int(logits_NV.dtype == torch.bfloat16))
    if library is None or logits_NV.dtype not in (torch.float32, torch.bfloat16):
        return draw_by_torch(logits_NV, uniforms_N, sampling)
    tokens_N, logprobs_N = _draw_compiled(library, logits_NV.contiguous(), uniforms_N, sampling.temperature_N1)
    if sampling.any_special and bool(sampling.is_special_N.any()):
        rows_M = torch.nonzero(sampling.is_special_N)[:, 0]
        tokens_N[rows_M], logprobs_N[rows_M] = draw_by_torch(
            logits_NV[rows_M], uniforms_N[rows_M], sampling.select(rows_M)
        )
    return tokens_N, logprobs_N


def _draw_compiled(
    library: ctypes.CDLL, logits_NV: Tensor, uniforms_N: Tensor, temperature_N1: Tensor
) -> tuple[Tensor, Tensor]:
    num_rows, vocab_size = logits_NV.shape
    sizes = torch.empty(num_rows, -(-vocab_size // BLOCK))
    tokens_N, logprobs_N = torch.empty(num_rows, dtype=torch.long), torch.empty(num_rows)
    tensors = (logits_NV, temperature_N1.contiguous(), uniforms_N.contiguous(), sizes, tokens_N, logprobs_N)
    library.draw(
        ctypes.c_int64(num_rows),
        ctypes.c_int64(vocab_size),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
        torch.get_num_threads(),
    )
    return tokens_N, logprobs_N


def draw_by_torch(logits_NV: Tensor, uniforms_N: Tensor, sampling: RowSampling) -> tuple[Tensor, Tensor]:
    """The same by torch's operators, a few rows at a time."""
    num_rows = max(1, ELEMENTS_AT_ONCE // logits_NV.shape[1])
    scratch = Scratch.of(min(num_rows, len(logits_NV)), logits_NV.shape[1])
    parts = [
        _draw(logits_NV[rows], uniforms_N[rows], sampling.select(rows), scratch)
        for rows in (slice(start, start + num_rows) for start in range(0, len(logits_NV), num_rows))
    ]
    return torch.cat([tokens_N for tokens_N, _ in parts]), torch.cat([logprobs_N for _, logprobs_N in parts])


def _draw(logits_NV: Tensor, uniforms_N: Tensor, sampling: RowSampling, scratch: "Scratch") -> tuple[Tensor, Tensor]:
    scaled_NV, probs_NV = scratch.scaled_NV[: len(logits_NV)], scratch.probs_NV[: len(logits_NV)]
    scaled_NV[:, : logits_NV.shape[1]].copy_(logits_NV)
    if sampling.any_heat:
        scaled_NV.div_(sampling.temperature_N1)
    if sampling.banned_NV is not None:
        scaled_NV[:, : logits_NV.shape[1]].masked_fill_(sampling.banned_NV, -torch.inf)
    top_N1 = scaled_NV.amax(-1, keepdim=True)
    torch.sub(scaled_NV, top_N1, out=probs_NV).exp_()
    blocks_NB = probs_NV.view(len(probs_NV), -1, BLOCK).sum(-1).double()
    tokens_N = _search_blocks(probs_NV, blocks_NB, uniforms_N)
    total_N = blocks_NB.sum(-1)
    if sampling.any_cut:
        rows_M = torch.nonzero(sampling.is_cut_N)[:, 0]
        tokens_N[rows_M] = draw_cut(
            probs_NV[rows_M], total_N[rows_M], uniforms_N[rows_M], sampling.top_p_N1[rows_M], sampling.top_k_N1[rows_M]
        )
    if sampling.any_greedy:
        rows_M = torch.nonzero(sampling.is_greedy_N)[:, 0]
        tokens_N[rows_M] = scaled_NV[rows_M].argmax(-1)
    return tokens_N, scaled_NV.gather(-1, tokens_N[:, None])[:, 0] - top_N1[:, 0] - total_N.log().float()


def _search_blocks(probs_NV: Tensor, blocks_NB: Tensor, uniforms_N: Tensor) -> Tensor:
    """First the block in which the cumulative probability passes the uniform number, then the place in the block."""
    cumulative_NB = blocks_NB.cumsum(-1)
    thresholds_N1 = uniforms_N[:, None] * cumulative_NB[:, -1:]
    block_N1 = _first_above(cumulative_NB, thresholds_N1)
    size_N1 = blocks_NB.gather(-1, block_N1)
    share_N1 = (thresholds_N1 - cumulative_NB.gather(-1, block_N1) + size_N1) / size_N1
    inside_NI = probs_NV.view(len(probs_NV), -1, BLOCK)[torch.arange(len(probs_NV)), block_N1[:, 0]]
    cumulative_NI = inside_NI.double().cumsum(-1)
    place_N1 = _first_above(cumulative_NI, share_N1.clamp(min=0) * cumulative_NI[:, -1:])
    return (block_N1 * BLOCK + place_N1)[:, 0]


def _first_above(cumulative_NV: Tensor, thresholds_N1: Tensor) -> Tensor:
    """The first place (N, 1) whose sum is above the threshold.

    The threshold stays below the last sum, though rounding may take it there: past the end lie only tokens that can't
    be drawn. `right` skips tokens of probability 0 before it.
    """
    last_N1 = cumulative_NV[:, -1:]
    below_N1 = torch.nextafter(last_N1, torch.zeros_like(last_N1))
    return torch.searchsorted(cumulative_NV, torch.minimum(thresholds_N1, below_N1), right=True)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Two buffers for the rows that are drawn at once, small enough for the processor's cache, used again and again.

    A vocabulary is filled up to whole blocks with tokens of probability 0.
    """

    scaled_NV: Tensor
    probs_NV: Tensor

    @classmethod
    def of(cls, num_rows: int, vocab_size: int) -> "Scratch":
        """Buffers for so many rows, the same ones for the same numbers."""
        return _scratch(num_rows, vocab_size)


@lru_cache(maxsize=4)
def _scratch(num_rows: int, vocab_size: int) -> Scratch:
    width = -(-vocab_size // BLOCK) * BLOCK
    return Scratch(torch.full((num_rows, width), -torch.inf), torch.zeros(num_rows, width))


def draw_cut(probs_NV: Tensor, total_N: Tensor, uniforms_N: Tensor, top_p_N1: Tensor, top_k_N1: Tensor) -> Tensor:
    """Tokens (N,) from the k likeliest, then from the smallest set of probability top_p among them.

    Sorting the whole vocabulary costs far more than finding its first few hundred, which nearly always are enough:
    rows for which they are not try more, and at last all. Of equally likely tokens the first ids are kept.
    """
    tokens_N = torch.empty(len(probs_NV), dtype=torch.long)
    left_M = torch.arange(len(probs_NV))
    for width in (*(width for width in CANDIDATES if width < probs_NV.shape[1]), probs_NV.shape[1]):
        found_M, is_sure_M = _draw_among(
            probs_NV[left_M], width, total_N[left_M], uniforms_N[left_M], top_p_N1[left_M], top_k_N1[left_M]
        )
        tokens_N[left_M] = found_M
        left_M = left_M[~is_sure_M]
        if not len(left_M):
            break
    return tokens_N


def _draw_among(
    probs_NV: Tensor, width: int, total_N: Tensor, uniforms_N: Tensor, top_p_N1: Tensor, top_k_N1: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens (N,) if only the `width` likeliest count, and whether (N,) the others indeed don't."""
    values_NC, ids_NC = probs_NV.topk(width, dim=-1)
    ids_NC, order_NC = ids_NC.sort(dim=-1)
    values_NC, order_NC = values_NC.gather(-1, order_NC).sort(dim=-1, descending=True, stable=True)
    ids_NC = ids_NC.gather(-1, order_NC)
    exact_NC = values_NC.double().masked_fill(torch.arange(width) >= top_k_N1, 0.0)
    total_N1 = torch.where(top_k_N1 < probs_NV.shape[1], exact_NC.sum(-1, keepdim=True), total_N[:, None])
    before_NC = exact_NC.cumsum(-1) - exact_NC
    # A row without top-p keeps its whole tail: rounding may take the sum of all before the last token to 1.
    exact_NC = exact_NC.masked_fill((before_NC >= top_p_N1 * total_N1) & (top_p_N1 < 1), 0.0)
    # Unless what is left out is less likely than all that is kept, there may be more of it elsewhere.
    least_N = values_NC.masked_fill(exact_NC == 0, torch.inf).amin(-1)
    is_sure_N = (values_NC[:, -1] < least_N) | (width == probs_NV.shape[1]) | (values_NC[:, -1] == 0)
    ids_NC, order_NC = ids_NC.sort(dim=-1)
    cumulative_NC = exact_NC.gather(-1, order_NC).cumsum(-1)
    places_N1 = _first_above(cumulative_NC, uniforms_N[:, None] * cumulative_NC[:, -1:])
    return ids_NC.gather(-1, places_N1)[:, 0], is_sure_N
