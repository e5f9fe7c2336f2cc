"""From rows of tokens to tensors: a batch, cut into minibatches (one optimizer step) and microbatches (one forward).

B: rows   T: token positions, right-padded
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from r1kit.models.packing import RowShape, row_shapes
from r1kit.types import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows that train together. Whatever is per token stands at the token's own position, 0 where none was sampled."""

    token_ids_BT: Tensor
    """Prompt, completion, padding."""
    completion_mask_BT: Tensor
    """True where a token was sampled and trains."""
    token_weights_BT: Tensor
    """Each token's share of the loss; sums over the whole minibatch."""
    advantages_B: Tensor
    sampler_logprobs_BT: Tensor
    """Logprobs that the engine reported while sampling."""
    old_logprobs_BT: Tensor | None = None
    """Logprobs before the first update; None where they are the new ones, detached (one update an iteration)."""
    reference_logprobs_BT: Tensor | None = None
    advantages_BT: Tensor | None = None
    """Where each token has its own (PPO); `advantages_B` is then their mean."""
    values_BT: Tensor | None = None
    """What the value model expected before each token, when the completions were drawn."""
    returns_BT: Tensor | None = None
    """What came of it."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.token_ids_BT)

    def select(self, rows: Sequence[int]) -> "Batch":
        """Some of the rows, cut to the longest of them."""
        index_B = torch.tensor(rows, dtype=torch.long)
        length = int(self.lengths_B[index_B].max())
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen = {name: tensor[index_B] for name, tensor in tensors.items() if tensor is not None}
        cut = {name: tensor[:, :length] if name.endswith("_BT") else tensor for name, tensor in chosen.items()}
        return replace(self, **cut)

    @property
    def lengths_B(self) -> Tensor:
        """Tokens of each row up to the last one that counts."""
        positions_T = torch.arange(1, self.completion_mask_BT.shape[1] + 1)
        return (self.completion_mask_BT * positions_T).amax(-1).clamp_min(1)

    def with_token_weights(self, token_weights_BT: Tensor) -> "Batch":
        """The same rows with other weights."""
        return replace(self, token_weights_BT=token_weights_BT)

    def to(self, device: torch.device) -> "Batch":
        """The same rows on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None})

    def microbatches(self, max_tokens: int) -> Iterator["Batch"]:
        """At most `max_tokens` tokens each, a prompt that rows share counted once (a longer row stands alone)."""
        yield from (self.select(rows) for rows in self.row_groups(max_tokens))

    def row_groups(self, max_tokens: int) -> list[list[int]]:
        """The rows of each microbatch."""
        return rows_by_prompt(row_shapes(self.token_ids_BT, self.completion_mask_BT), max_tokens)


def rows_by_prompt(shapes: Sequence[RowShape], max_tokens: int) -> list[list[int]]:
    """Row numbers in lists that pack into `max_tokens` tokens; rows of one prompt follow one another.

    Prompts with the longest rows come first, so that what fits badly is seen early.
    """
    families: dict[tuple[int, ...], list[int]] = {}
    for row in sorted(range(len(shapes)), key=lambda row: (-shapes[row].length, row)):
        families.setdefault(shapes[row].prompt, []).append(row)
    groups: list[list[int]] = []
    room = 0
    for prompt, rows in families.items():
        is_held = False
        for row in rows:
            own = shapes[row].length - len(prompt)
            needed = own if is_held else own + len(prompt)
            if needed > room:
                groups.append([])
                room, needed = max_tokens, own + len(prompt)
            groups[-1].append(row)
            room -= needed
            is_held = True
    return groups


def rows_by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Row numbers, longest first, in lists whose rows x longest row stays within `max_tokens`."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    groups: list[list[int]] = []
    for row in order:
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def collate_rollouts(rollouts: Sequence[Rollout], advantages_B: Tensor) -> Batch:
    """The tensors of rollouts, in their order; token weights are set per minibatch."""
    prompts = [rollout.prompt_token_ids for rollout in rollouts]
    completions = [rollout.completion.token_ids for rollout in rollouts]
    batch = collate_tokens(prompts, completions)
    sampler_logprobs_BT = torch.zeros(batch.token_ids_BT.shape)
    for row, rollout in enumerate(rollouts):
        sampler_logprobs_BT[row][batch.completion_mask_BT[row]] = torch.tensor(rollout.completion.logprobs)
    return replace(batch, advantages_B=advantages_B, sampler_logprobs_BT=sampler_logprobs_BT)


def collate_tokens(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> Batch:
    """The tensors of prompts and completions; weights and advantages are 0 until they are set."""
    lengths = [len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True)]
    token_ids_BT = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    completion_mask_BT = torch.zeros(token_ids_BT.shape, dtype=torch.bool)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        token_ids_BT[row, : lengths[row]] = torch.tensor([*prompt, *completion])
        completion_mask_BT[row, len(prompt) : lengths[row]] = True
    return Batch(
        token_ids_BT=token_ids_BT,
        completion_mask_BT=completion_mask_BT,
        token_weights_BT=torch.zeros(token_ids_BT.shape),
        advantages_B=torch.zeros(len(prompts)),
        sampler_logprobs_BT=torch.zeros(token_ids_BT.shape),
    )


def shuffled_split(num_rows: int, num_parts: int, *, seed: str) -> list[list[int]]:
    """Row numbers, shuffled and dealt into parts of nearly equal size (R1: 8,192 rollouts into 16 minibatches)."""
    rows = list(range(num_rows))
    random.Random(seed).shuffle(rows)
    return [rows[part::num_parts] for part in range(num_parts)]
