"""Rows of tokens laid end to end, without padding, the prompt that several rows share only once.

B: rows   T: token positions, right-padded   N: tokens of the packed row   M: tokens under the mask
S: sequences of a block   L: tokens of the longest of them   P: tokens of the prompt before them
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Sequences of one block are padded to the longest of them inside the attention: at most so much of it is padding.
MAX_PADDING_SHARE = 0.2
# Query-key pairs of one block, for each head: what its scores may fill.
MAX_PAIRS_PER_BLOCK = 2**19


@dataclass(frozen=True, slots=True)
class Block:
    """Sequences of like length that attend to themselves and to the same tokens before them."""

    num_sequences: int
    longest: int
    """Tokens of the longest sequence; the others are padded to it inside the attention."""
    prefix_start: int
    prefix_length: int
    """0 where nothing stands before them."""
    first: int | None
    """Where the sequences begin, if all are of one length and follow one another; else None."""
    slots_F: Tensor
    """Where each token stands, F = S x L of them; padding points at the last token of its sequence."""
    tokens_X: Tensor
    """Which of these are tokens and not padding."""
    is_token_F: Tensor

    @classmethod
    def of(cls, sequences: Sequence[tuple[int, int]], prefix_start: int, prefix_length: int) -> "Block":
        """The block of sequences (start, length)."""
        starts_S1, lengths_S1 = (torch.tensor(figures)[:, None] for figures in zip(*sequences, strict=True))
        longest = int(lengths_S1.max())
        positions_1L = torch.arange(longest)[None]
        slots_F = (starts_S1 + torch.minimum(positions_1L, lengths_S1 - 1)).flatten()
        is_token_F = (positions_1L < lengths_S1).flatten()
        is_one_piece = bool(is_token_F.all() and (slots_F.diff() == 1).all())
        return cls(
            num_sequences=len(sequences),
            longest=longest,
            prefix_start=prefix_start,
            prefix_length=prefix_length,
            first=sequences[0][0] if is_one_piece else None,
            slots_F=slots_F,
            tokens_X=is_token_F.nonzero()[:, 0],
            is_token_F=is_token_F,
        )

    def to(self, device: torch.device) -> "Block":
        """The same with its tensors on a device."""
        tensors = {name: getattr(self, name).to(device) for name in ("slots_F", "tokens_X", "is_token_F")}
        return replace(self, **tensors)


@dataclass(frozen=True, slots=True)
class Packing:
    """A packed row, and how to read it."""

    token_ids_N: Tensor
    position_ids_N: Tensor
    """As in the rows that were packed."""
    predictors_M: Tensor
    """For each token under the mask, in the order of the rows, the slot of the token before it."""
    blocks: tuple[Block, ...]
    """Those without anything before them first."""
    sequences_S4: Tensor
    """First token, length, first token of the prompt and its length (0: none), of each sequence, in the blocks' order;
    on the processor."""
    families: tuple[int, ...]
    """Where the sequences of each prompt begin, and the end of all; before the first stand those without a prompt."""


@dataclass(frozen=True, slots=True)
class RowShape:
    """What of a row is packed: a prompt that others may share, and the rest up to the last token that counts."""

    prompt: tuple[int, ...]
    length: int


def row_shapes(token_ids_BT: Tensor, completion_mask_BT: Tensor) -> list[RowShape]:
    """The shape of each row. A row in which nothing counts is its first token alone."""
    num_positions = completion_mask_BT.shape[1]
    counts_BT = completion_mask_BT.cpu()
    any_B = counts_BT.any(1)
    firsts = torch.where(any_B, counts_BT.int().argmax(1), 1).tolist()
    lengths = torch.where(any_B, num_positions - counts_BT.flip(1).int().argmax(1), 1).tolist()
    rows = token_ids_BT.cpu().tolist()
    return [
        RowShape(tuple(row[: min(first, length)]), length)
        for row, first, length in zip(rows, firsts, lengths, strict=True)
    ]


def pack(token_ids_BT: Tensor, completion_mask_BT: Tensor) -> Packing:
    """Lay rows end to end; rows of the same prompt stand behind it, the longest first."""
    shapes = row_shapes(token_ids_BT, completion_mask_BT)
    families: dict[tuple[int, ...], list[int]] = {}
    for row, shape in enumerate(shapes):
        families.setdefault(shape.prompt, []).append(row)
    pieces: list[Tensor] = []
    positions: list[Tensor] = []
    slots: dict[int, Tensor] = {}
    alone: list[tuple[int, int]] = []
    blocks: list[Block] = []
    listed: list[tuple[int, int, int, int]] = []
    begins: list[int] = []
    rows_BT = token_ids_BT.cpu()
    end = 0
    for prompt, rows in families.items():
        # A prompt of one row alone is not parted from it.
        shared = len(prompt) if len(rows) > 1 else 0
        prefix_start, end = end, end + shared
        if shared:
            pieces.append(rows_BT[rows[0], :shared])
            positions.append(torch.arange(shared))
            alone.append((prefix_start, shared))
        sequences = []
        for row in sorted(rows, key=lambda row: -shapes[row].length):
            length = shapes[row].length - shared
            slots[row] = torch.cat([torch.arange(prefix_start, prefix_start + shared), torch.arange(end, end + length)])
            if length:
                sequences.append((end, length))
                pieces.append(rows_BT[row, shared : shared + length])
                positions.append(torch.arange(shared, shared + length))
            end += length
        if shared:
            blocks += _blocks(sequences, prefix_start, shared)
            begins.append(len(listed))
            listed += [(*sequence, prefix_start, shared) for sequence in sequences]
        else:
            alone += sequences
    # Whatever stands before others comes first.
    blocks = _blocks(sorted(alone, key=lambda sequence: -sequence[1]), 0, 0) + blocks
    mask_BT = completion_mask_BT.cpu()
    predictors = [slots[row][mask_BT[row].nonzero()[:, 0] - 1] for row in range(len(shapes))]
    device = token_ids_BT.device
    return Packing(
        token_ids_N=torch.cat(pieces).to(device),
        position_ids_N=torch.cat(positions).to(device),
        predictors_M=torch.cat(predictors).to(device),
        blocks=tuple(block.to(device) for block in blocks),
        sequences_S4=torch.tensor([(*sequence, 0, 0) for sequence in alone] + listed),
        families=tuple(len(alone) + begin for begin in [*begins, len(listed)]),
    )


def packed_length(shapes: Sequence[RowShape]) -> int:
    """Tokens of the packed row of these rows."""
    prompts: dict[tuple[int, ...], int] = {}
    for shape in shapes:
        prompts[shape.prompt] = len(shape.prompt)
    return sum(prompts.values()) + sum(shape.length - len(shape.prompt) for shape in shapes)


def _blocks(sequences: list[tuple[int, int]], prefix_start: int, prefix_length: int) -> list[Block]:
    """Sequences (start, length), longest first, in blocks with little padding and of bounded size."""
    blocks: list[list[tuple[int, int]]] = []
    for sequence in sequences:
        if blocks:
            longest = blocks[-1][0][1]
            rows = len(blocks[-1]) + 1
            is_alike = sequence[1] >= (1 - MAX_PADDING_SHARE) * longest
            if is_alike and rows * longest * (longest + prefix_length) <= MAX_PAIRS_PER_BLOCK:
                blocks[-1].append(sequence)
                continue
        blocks.append([sequence])
    return [Block.of(block, prefix_start, prefix_length) for block in blocks]
