"""What a decoder layer's two forms, by torch's operators and compiled, have in common.

N: tokens of the packed row   E: head width
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from r1kit.models.attention import Scope

NORMS = ("input_layernorm", "post_attention_layernorm")
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")

Sink = Callable[[Tensor], Tensor | None]
"""Where the gradient of a weight is added in float32; None where it doesn't train."""


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
