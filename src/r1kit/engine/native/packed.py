"""Matrices laid out once for the processor's matrix units, which otherwise happens again at every product."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from r1kit.engine.native.anatomy import Anatomy, Layer

SMALL = 2**18
"""Numbers of a matrix that lies in the processor's second-level cache with all else."""


class PackedLinear:
    """x W' + b for one or several linear modules at once, their outputs side by side.

    The weights are laid out as the processor's matrix units take them. Small float32 matrices, which stay in its cache,
    are faster merely transposed: without oneDNN's overhead at each call.
    """

    def __init__(self, modules: Sequence[nn.Linear], merged: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        """Copy the modules' weights, their adapters merged into them, in the given precision."""
        weight = torch.cat([merged(module.weight).to(dtype) for module in modules])
        has_bias = any(module.bias is not None for module in modules)
        self._bias = torch.cat([_bias(module, dtype) for module in modules]) if has_bias else None
        self._is_packed = can_pack(dtype) and (dtype == torch.bfloat16 or weight.numel() > SMALL)
        if self._is_packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        else:
            self._weight = weight.t().contiguous()

    def __call__(self, inputs_ND: Tensor) -> Tensor:
        """The product, in the precision of the inputs and the weights."""
        if self._is_packed:
            return torch.ops.mkldnn._linear_pointwise(inputs_ND, self._weight, self._bias, "none", [], "")
        if self._bias is None:
            return torch.mm(inputs_ND, self._weight)
        return torch.addmm(self._bias, inputs_ND, self._weight)


def _bias(module: nn.Linear, dtype: torch.dtype) -> Tensor:
    bias: Tensor | None = module.bias
    return torch.zeros(module.out_features, dtype=dtype) if bias is None else bias.detach().to(dtype)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch packs weights of a precision; the operators are torch's own, but not documented."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PackedLayer:
    """One layer's weights: projections of the same input are one product."""

    def __init__(self, layer: Layer, merged: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        """Copy a layer."""
        self.attention_norm = layer.attention_norm.detach().float()
        self.query_key_value = PackedLinear([layer.query, layer.key, layer.value], merged, dtype)
        self.query_norm = None if layer.query_norm is None else layer.query_norm.detach().float()
        self.key_norm = None if layer.key_norm is None else layer.key_norm.detach().float()
        self.output = PackedLinear([layer.output], merged, dtype)
        self.mlp_norm = layer.mlp_norm.detach().float()
        self.gate_up = PackedLinear([layer.gate, layer.up], merged, dtype)
        self.down = PackedLinear([layer.down], merged, dtype)


class PackedWeights:
    """A whole network's weights. The embeddings stay the model's own: they are looked up, not multiplied."""

    def __init__(self, anatomy: Anatomy, dtype: torch.dtype) -> None:
        """Copy a network in the given precision."""
        self.embedding = anatomy.embedding.detach()
        self.layers = [PackedLayer(layer, anatomy.merged, dtype) for layer in anatomy.layers]
        self.norm = anatomy.norm.detach().float()
        self.head = PackedLinear([anatomy.head], anatomy.merged, dtype)
