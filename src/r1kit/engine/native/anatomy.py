"""The parts of the networks that the fast forward pass knows: Llama, Qwen2, Qwen3, and others built of their layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from r1kit.models.policy import Policy

# The modules' class names say what they compute; a name that is not here gets the plain forward pass.
_LAYERS = {"LlamaDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}
_ROTARY_TYPES = {"default", "linear", "llama3", "yarn"}


@dataclass(frozen=True, slots=True)
class Shape:
    """What all layers have in common."""

    num_heads: int
    num_key_value_heads: int
    head_width: int
    intermediate_size: int
    eps: float
    """Of every norm."""
    scale: float
    """What scores are multiplied by before the softmax."""

    @property
    def heads_per_key(self) -> int:
        """Query heads that share a key-value head."""
        return self.num_heads // self.num_key_value_heads


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer, the model's own tensors."""

    attention_norm: Tensor
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    query_norm: Tensor | None
    key_norm: Tensor | None
    output: nn.Linear
    mlp_norm: Tensor
    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A network of these families, taken apart."""

    shape: Shape
    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: nn.Linear
    rotary: nn.Module
    merged: Callable[[Tensor], Tensor]
    """A weight as the policy computes: with what its adapter adds, if it has one."""


def read_anatomy(policy: Policy) -> Anatomy | None:
    """The network's parts; None where it is of another family, elsewhere than on the processor, or was changed."""
    config: Any = policy.model.config
    backbone: Any = policy.backbone
    layers = list(getattr(backbone, "layers", []))
    if policy.device.type != "cpu" or policy.compute_dtype not in (torch.float32, torch.bfloat16):
        return None
    if not layers or {type(layer).__name__ for layer in layers} - _LAYERS or config.hidden_act not in ("silu", "swish"):
        return None
    if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        return None
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default") not in _ROTARY_TYPES:
        return None
    # An adapter, a quantised weight or a hook makes a module of another kind.
    linears = [module for layer in layers for module in layer.modules() if next(module.children(), None) is None]
    if any(type(module) is not nn.Linear for module in linears if hasattr(module, "in_features")):
        return None
    attention = layers[0].self_attn
    shape = Shape(
        num_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_width=attention.head_dim,
        intermediate_size=config.intermediate_size,
        eps=config.rms_norm_eps,
        scale=attention.scaling,
    )
    if _rotary_width(backbone.rotary_emb) != shape.head_width or shape.head_width % 2:
        return None
    return Anatomy(
        shape=shape,
        embedding=backbone.embed_tokens.weight,
        layers=tuple(_layer(layer) for layer in layers),
        norm=backbone.norm.weight,
        head=policy.head,
        rotary=backbone.rotary_emb,
        merged=policy.merged,
    )


def _rotary_width(rotary: nn.Module) -> int:
    cos_1TD, _ = rotary(torch.zeros(1), torch.zeros(1, 1, dtype=torch.long))
    return cos_1TD.shape[-1]


def _layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    has_norms = hasattr(attention, "q_norm")
    return Layer(
        attention_norm=layer.input_layernorm.weight,
        query=attention.q_proj,
        key=attention.k_proj,
        value=attention.v_proj,
        query_norm=attention.q_norm.weight if has_norms else None,
        key_norm=attention.k_norm.weight if has_norms else None,
        output=attention.o_proj,
        mlp_norm=layer.post_attention_layernorm.weight,
        gate=mlp.gate_proj,
        up=mlp.up_proj,
        down=mlp.down_proj,
    )
