"""The keys and values of all running rows: one slot a row, written in place, never copied to grow by a token.

N: running rows   H: key-value heads   S: positions a slot holds   K: head width
"""

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin


class SlotLayer(CacheLayerMixin):
    """One layer's slots. Rows 0 to n-1 are running; a finished row's slot is taken over by the last one."""

    def __init__(self) -> None:
        """No memory is taken before the first prompt is stored."""
        super().__init__()
        self.keys = torch.empty(0)
        self.values = torch.empty(0)
        self.is_initialized = False
        self.positions_N = torch.empty(0, dtype=torch.long)
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Slots are made by `reserve`, which knows how many and how long."""

    def reserve(self, num_slots: int, slot_length: int, keys: Tensor, values: Tensor) -> None:
        """Hold at least so many slots of so many positions, shaped like `keys` and `values`; contents are kept."""
        old = (self.keys, self.values) if self.is_initialized else (None, None)
        if old[0] is not None and len(old[0]) >= num_slots and old[0].shape[2] >= slot_length:
            return
        num_slots = max(num_slots, 0 if old[0] is None else len(old[0]))
        slot_length = max(slot_length, 0 if old[0] is None else old[0].shape[2])
        self.keys, self.values = (
            _grown(like, num_slots, slot_length, kept) for like, kept in zip((keys, values), old, strict=True)
        )
        self.is_initialized = True

    def store(self, slots_M: Tensor, rows_M: Tensor, keys: Tensor, values: Tensor) -> None:
        """Copy prefilled prompts into slots: slot m gets the row rows_M[m] of `keys` and `values`."""
        length = keys.shape[2]
        self.keys[slots_M, :, :length] = keys[rows_M]
        self.values[slots_M, :, :length] = values[rows_M]

    def move(self, targets_M: Tensor, sources_M: Tensor, length: int) -> None:
        """Copy the first `length` positions of some slots over others."""
        self.keys[targets_M, :, :length] = self.keys[sources_M, :, :length]
        self.values[targets_M, :, :length] = self.values[sources_M, :, :length]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write one new position a row, each at its own place; returns views of all positions up to the longest row."""
        rows_N = torch.arange(len(key_states), device=key_states.device)
        self.keys[rows_N, :, self.positions_N] = key_states[:, :, 0]
        self.values[rows_N, :, self.positions_N] = value_states[:, :, 0]
        return self.keys[: len(key_states), :, : self.length], self.values[: len(key_states), :, : self.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Positions that attention sees, and the offset of the first."""
        return self.length, 0

    def get_seq_length(self) -> int:
        """Positions of the longest row."""
        return self.length

    def get_max_length(self) -> int:
        """Positions that a slot holds."""
        return self.keys.shape[2] if self.is_initialized else 0


def _grown(like: Tensor, num_slots: int, slot_length: int, kept: Tensor | None) -> Tensor:
    grown = like.new_zeros((num_slots, like.shape[1], slot_length, like.shape[3]))
    if kept is not None:
        grown[: len(kept), :, : kept.shape[2]] = kept
    return grown


class SlotCache(Cache):
    """The slots of all layers."""

    def __init__(self, num_layers: int) -> None:
        """Slots for a network of so many layers."""
        super().__init__(layers=[SlotLayer() for _ in range(num_layers)])

    def store_prompts(self, prompts: DynamicCache, slots_M: Tensor, rows_M: Tensor, slot_length: int) -> None:
        """Copy prefilled prompts into slots, which are made to hold `slot_length` positions."""
        num_slots = int(slots_M.max()) + 1
        for layer, prompt in zip(self.layers, prompts.layers, strict=True):
            layer.reserve(num_slots, slot_length, prompt.keys, prompt.values)
            layer.store(slots_M, rows_M, prompt.keys, prompt.values)

    def move_slots(self, targets_M: Tensor, sources_M: Tensor, length: int) -> None:
        """Copy slots over others, up to `length` positions."""
        for layer in self.layers:
            layer.move(targets_M, sources_M, length)

    def set_positions(self, positions_N: Tensor) -> None:
        """Where each running row's next key and value go."""
        length = int(positions_N.max()) + 1
        for layer in self.layers:
            layer.positions_N = positions_N.to(layer.keys.device)
            layer.length = length
