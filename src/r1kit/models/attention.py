"""Attention over a packed row, forward and backward by hand, block by block; no scores are kept between the two.

N: tokens of the packed row   H: query heads   K: key-value heads   R: query heads of each key-value head
E: head width   S, L, P: sequences of a block, their longest, the prompt before them   Q: queries of a tile   C: keys
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from r1kit.errors import ModelError
from r1kit.models.packing import Block, Packing

NAME = "r1kit_packed"
# Query-key pairs of all heads that exist at once.
MAX_SCORES = 2**22
MIN_QUERIES = 64
UNSUPPORTED = ("softcap", "s_aux", "position_bias")


def packed_attention(
    module: nn.Module,
    query_1HNE: Tensor,
    key_1KNE: Tensor,
    value_1KNE: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention function that `transformers` calls in each layer; returns (1, N, H, E).

    Raises ModelError for what would change the scores and is not reckoned with.
    """
    asked = [name for name in UNSUPPORTED if options.get(name) is not None]
    if asked or attention_mask is not None:
        raise ModelError(f"packed attention does not reckon with {', '.join(asked) or 'masks'}")
    scale = query_1HNE.shape[-1] ** -0.5 if scaling is None else scaling
    heads = (tensor[0].transpose(0, 1) for tensor in (query_1HNE, key_1KNE, value_1KNE))
    return _PackedAttention.apply(*heads, Scope(packing, scale, sliding_window))[None], None


AttentionInterface.register(NAME, packed_attention)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a query may see, and how scores are scaled."""

    packing: Packing
    scale: float
    window: int | None
    """How many tokens back, itself included, where a layer sees no further."""


def attend(query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, scope: Scope) -> Tensor:
    """Softmax attention (N, H, E)."""
    out_NHE = query_NHE.new_empty(*query_NHE.shape[:2], value_NKE.shape[-1])
    for block in scope.packing.blocks:
        reader = _Reader.of(block, query_NHE, key_NKE, value_NKE, scope.scale)
        tiles = [
            torch.bmm(_probabilities(reader, tile, scope.window), reader.value[:, : tile.num_keys])
            for tile in reader.tiles()
        ]
        reader.write_queries(out_NHE, tiles[0] if len(tiles) == 1 else torch.cat(tiles, 1))
    return out_NHE


def attend_backward(
    grad_NHE: Tensor, saved: tuple[Tensor, Tensor, Tensor], scope: Scope
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values, given these; the probabilities are made again."""
    grad_query, grad_key, grad_value = (tensor.new_zeros(tensor.shape) for tensor in saved)
    # A prompt's own block comes before those that add to its gradient.
    for block in scope.packing.blocks:
        reader = _Reader.of(block, *saved, scope.scale)
        of_query, of_key, of_value = _block_gradients(reader, reader.gradients_of(grad_NHE), scope.window)
        reader.write_queries(grad_query, of_query.mul_(scope.scale))
        reader.write_keys(grad_key, of_key)
        reader.write_keys(grad_value, of_value)
    return grad_query, grad_key, grad_value


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, scope: Scope) -> Tensor:
        ctx.save_for_backward(query_NHE, key_NKE, value_NKE)
        ctx.scope = scope
        return attend(query_NHE, key_NKE, value_NKE, scope)

    @staticmethod
    def backward(ctx: Any, grad_NHE: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        # Asked for once: under checkpointing they are made again each time.
        return *attend_backward(grad_NHE, ctx.saved_tensors, ctx.scope), None


@dataclass(frozen=True, slots=True)
class _Tile:
    """Some queries of each sequence of a block, with the keys that the last of them may see."""

    first: int
    end: int
    """Tokens within the sequence."""
    num_keys: int


@dataclass(frozen=True, slots=True)
class _Reader:
    """One block's tensors, a batch entry for each sequence and key-value head; a token's R queries stand together."""

    block: Block
    num_groups: int
    """R."""
    query: Tensor
    """(S K, L R, E), scaled."""
    key: Tensor
    """(S K, P + L, E)."""
    value: Tensor

    @classmethod
    def of(cls, block: Block, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, scale: float) -> "_Reader":
        num_heads = key_NKE.shape[1]
        query = _by_head(_taken(block, query_NHE), num_heads) * scale
        key, value = (_with_prefix(block, tensor) for tensor in (key_NKE, value_NKE))
        return cls(block, query_NHE.shape[1] // num_heads, query, key, value)

    def tiles(self) -> Iterator[_Tile]:
        """Queries in tiles whose scores stay within bounds."""
        length, before = self.block.longest, self.block.prefix_length
        scores_of_query = self.query.shape[0] * self.num_groups * (before + length)
        step = max(MIN_QUERIES, MAX_SCORES // scores_of_query)
        for first in range(0, length, step):
            end = min(first + step, length)
            yield _Tile(first, end, before + end)

    def rows(self, tile: _Tile) -> slice:
        """Where a tile's queries stand."""
        return slice(tile.first * self.num_groups, tile.end * self.num_groups)

    def gradients_of(self, grad_NHE: Tensor) -> Tensor:
        """The gradient of this block's part of the result (S K, L R, E), 0 at padding."""
        taken_SLHE = _taken(self.block, grad_NHE)
        if self.block.first is None:
            taken_SLHE *= self.block.is_token_F.view(*taken_SLHE.shape[:2], 1, 1)
        return _by_head(taken_SLHE, self.query.shape[0] // self.block.num_sequences)

    def write_queries(self, into_NHE: Tensor, part: Tensor) -> None:
        """Put (S K, L R, E) where its tokens are."""
        parts = part.view(self.block.num_sequences, -1, self.block.longest, self.num_groups * part.shape[-1])
        _put(self.block, into_NHE, parts.transpose(1, 2))

    def write_keys(self, into_NKE: Tensor, part: Tensor) -> None:
        """Put (S K, P + L, E) where its tokens are, and add the sequences' parts up where the prompt's are."""
        before = self.block.prefix_length
        part_SKCE = part.view(self.block.num_sequences, -1, *part.shape[1:])
        if before:
            prompt = slice(self.block.prefix_start, self.block.prefix_start + before)
            into_NKE[prompt] += part_SKCE[:, :, :before].sum(0).transpose(0, 1)
        _put(self.block, into_NKE, part_SKCE[:, :, before:].transpose(1, 2))


def _probabilities(reader: _Reader, tile: _Tile, window: int | None) -> Tensor:
    """(S K, Q R, C) of one tile."""
    scores = torch.bmm(reader.query[:, reader.rows(tile)], reader.key[:, : tile.num_keys].mT)
    bias = _bias(tile, reader.block.prefix_length, window, reader.num_groups, scores.dtype, scores.device)
    scores[:, :, -bias.shape[1] :] += bias
    return torch.softmax(scores, -1)


@lru_cache(maxsize=128)
def _bias(
    tile: _Tile, before: int, window: int | None, num_groups: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """-inf where a query (Q R) may not see a key, for the last keys (C) of a tile; all before are seen by all."""
    reach = tile.num_keys if window is not None and tile.num_keys > window else tile.end - tile.first
    own = torch.arange(before + tile.first, tile.num_keys, device=device)[:, None]
    other = torch.arange(tile.num_keys - reach, tile.num_keys, device=device)[None]
    hidden_QC = other > own
    if window is not None:
        hidden_QC |= other <= own - window
    bias_QC = torch.zeros(hidden_QC.shape, dtype=dtype, device=device).masked_fill_(hidden_QC, -torch.inf)
    return bias_QC.repeat_interleave(num_groups, 0)


def _block_gradients(reader: _Reader, grad_out: Tensor, window: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries (scaled), keys and values, shaped as the reader holds them."""
    tiles = list(reader.tiles())
    grad_query = torch.empty_like(reader.query)
    # Sums over many tiles would lose what bfloat16 rounds away each time.
    dtype = torch.float32 if len(tiles) > 1 and reader.key.dtype == torch.bfloat16 else reader.key.dtype
    grad_key, grad_value = (torch.zeros_like(tensor, dtype=dtype) for tensor in (reader.key, reader.value))
    for tile in tiles:
        rows, keys = reader.rows(tile), slice(0, tile.num_keys)
        probabilities = _probabilities(reader, tile, window)
        grad_rows = grad_out[:, rows]
        grad_value[:, keys] += torch.bmm(probabilities.mT, grad_rows)
        grad_probabilities = torch.bmm(grad_rows, reader.value[:, keys].mT)
        grad_scores = torch._softmax_backward_data(grad_probabilities, probabilities, -1, probabilities.dtype)
        grad_query[:, rows] = torch.bmm(grad_scores, reader.key[:, keys])
        grad_key[:, keys] += torch.bmm(grad_scores.mT, reader.query[:, rows])
    return grad_query, grad_key, grad_value


def _taken(block: Block, tensor_NHE: Tensor) -> Tensor:
    """The block's tokens (S, L, H, E); padding repeats a sequence's last token. To be changed only if not one piece."""
    shape = (block.num_sequences, block.longest, *tensor_NHE.shape[1:])
    if block.first is not None:
        return tensor_NHE[block.first : block.first + shape[0] * shape[1]].view(shape)
    return tensor_NHE.flatten(1).index_select(0, block.slots_F).view(shape)


def _put(block: Block, into_NHE: Tensor, part_SLHE: Tensor) -> None:
    """The reverse of `_taken`, without padding."""
    if block.first is not None:
        into_NHE[block.first : block.first + len(block.slots_F)].view(part_SLHE.shape).copy_(part_SLHE)
        return
    flat_FD = part_SLHE.reshape(len(block.slots_F), -1).to(into_NHE.dtype)
    slots_X = block.slots_F.index_select(0, block.tokens_X)
    into_NHE.flatten(1).index_copy_(0, slots_X, flat_FD.index_select(0, block.tokens_X))


def _by_head(tensor_SLHE: Tensor, num_heads: int) -> Tensor:
    """(S, L, K R, E) as (S K, L R, E)."""
    num_sequences, length, _, width = tensor_SLHE.shape
    parts = tensor_SLHE.view(num_sequences, length, num_heads, -1, width)
    return parts.transpose(1, 2).reshape(num_sequences * num_heads, -1, width)


def _with_prefix(block: Block, tensor_NKE: Tensor) -> Tensor:
    """(S K, P + L, E): the prompt's keys or values before each sequence's own."""
    own_SKLE = _taken(block, tensor_NKE).transpose(1, 2)
    if block.prefix_length:
        prompt = slice(block.prefix_start, block.prefix_start + block.prefix_length)
        prompt_KPE = tensor_NKE[prompt].transpose(0, 1)
        own_SKLE = torch.cat([prompt_KPE.expand(len(own_SKLE), *prompt_KPE.shape), own_SKLE], 2)
    return own_SKLE.reshape(-1, *own_SKLE.shape[2:])
