"""What a decoder layer's two forms, by torch's operators and compiled, have in common.

N: tokens of the packed row   E: head width
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from r1kit.models.attention import Scope
from r1kit.models.lora import Adapter

NORMS = ("input_layernorm", "post_attention_layernorm")
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")


class Sink(Protocol):
    """Where the gradients of weights go that are copies of those that train."""

    def sum_of(self, weight: Tensor) -> Tensor | None:
        """What the gradient of a weight is added to in float32; None where it doesn't train."""
        ...

    def adapter_of(self, weight: Tensor) -> Adapter | None:
        """What takes the gradient of a linear layer in its place, from its input and the gradient of its output."""
        ...


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """What a layer computes with, apart from its parameters."""

    scope: Scope
    cos_NE: Tensor
    sin_NE: Tensor
    eps: float
    names: tuple[str, ...]
    """Of the parameters, as they are passed."""
    keeps_insides: bool
