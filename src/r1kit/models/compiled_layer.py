"""A decoder layer's forward and backward pass through the compiled arithmetic: what layer.py computes, in fewer passes.

Gradients of weights are added to the masters' in float32, without being rounded in between.

N: tokens of the packed row   D: model width   I: width of the MLP   P: widths of queries, keys and values together
H: query heads   E: head width
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from r1kit.models.compiled import EDGE, Arithmetic, compiled_arithmetic
from r1kit.models.layer_parts import ATTENTION, MLP, NORMS, LayerSettings, Sink

HEAD_NORMS = ("q_norm", "k_norm")


def arithmetic_of(hidden: Tensor, parameters: dict[str, Tensor]) -> Arithmetic | None:
    """The compiled arithmetic, if it is there and suits a layer's shapes."""
    if hidden.device.type != "cpu" or any(tensor.dtype != torch.bfloat16 for tensor in (hidden, *parameters.values())):
        return None
    head_widths = [parameters[name].shape[0] for name in parameters if name.endswith("_norm.weight")]
    if any(size % EDGE for tensor in parameters.values() if tensor.dim() == 2 for size in tensor.shape):
        return None
    return None if any(width % EDGE for width in head_widths) else compiled_arithmetic()


@dataclass(slots=True)
class _Insides:
    """What the backward pass needs of a layer, besides its input."""

    projected_NP: Tensor
    """Queries and keys after their rotation, and values."""
    raw_NP: Tensor | None
    """The same before their norms, where heads have some."""
    attended_ND: Tensor
    normalisers_HN: Tensor
    """Of the attention's softmax, float32."""
    middle_ND: Tensor
    """The residual stream between attention and MLP."""
    gate_up_NI: Tensor
    """The two side by side."""

    def tensors(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


class CompiledLayer(torch.autograd.Function):
    """The layer as autograd sees it: gradients of parameters go to their sinks, that of the input is returned."""

    @staticmethod
    def forward(
        ctx: Any,
        input_ND: Tensor,
        settings: LayerSettings,
        arithmetic: Arithmetic,
        sink: Sink | None,
        *parameters: Tensor,
    ) -> Tensor:
        """The layer's output (N, D)."""
        layer = _Pass(settings, arithmetic, sink, dict(zip(settings.names, parameters, strict=True)))
        insides = layer.insides(input_ND)
        ctx.layer, ctx.shapes = layer, len(parameters)
        ctx.save_for_backward(input_ND, *(insides.tensors() if settings.keeps_insides else ()))
        gated_NI = arithmetic.gate(insides.gate_up_NI)
        return layer.linear(gated_NI, MLP[2:], "mlp", added=insides.middle_ND)

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the input."""
        input_ND, *kept = ctx.saved_tensors
        insides = _Insides(*kept) if kept else ctx.layer.insides(input_ND)
        grad_middle_ND = ctx.layer.mlp_backward(grad_ND.contiguous(), insides)
        return ctx.layer.attention_backward(grad_middle_ND, input_ND, insides), *(None,) * (3 + ctx.shapes)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One layer over one packed row."""

    settings: LayerSettings
    arithmetic: Arithmetic
    sink: Sink | None
    weights: dict[str, Tensor]

    def insides(self, input_ND: Tensor) -> _Insides:
        arithmetic, settings = self.arithmetic, self.settings
        normed_ND = arithmetic.norm(input_ND, self.weights[f"{NORMS[0]}.weight"], settings.eps)
        projected_NP, raw_NP = self.linear(normed_ND, ATTENTION[:3], "self_attn"), None
        if self.has_head_norms:
            raw_NP = projected_NP.clone()
            for part_NP, name in zip(self.parts(projected_NP), HEAD_NORMS, strict=False):
                heads_RE = part_NP.reshape(-1, settings.cos_NE.shape[1])
                weight_E = self.weights[f"self_attn.{name}.weight"]
                part_NP.copy_(arithmetic.norm(heads_RE, weight_E, settings.eps).view(part_NP.shape))
        self.rotate(projected_NP, backward=False)
        attended_ND, normalisers_HN = arithmetic.attend(self.heads(projected_NP), settings.scope)
        middle_ND = self.linear(attended_ND, ATTENTION[3:], "self_attn", added=input_ND)
        normed_ND = arithmetic.norm(middle_ND, self.weights[f"{NORMS[1]}.weight"], settings.eps)
        return _Insides(
            projected_NP, raw_NP, attended_ND, normalisers_HN, middle_ND, self.linear(normed_ND, MLP[:2], "mlp")
        )

    def mlp_backward(self, grad_ND: Tensor, insides: _Insides) -> Tensor:
        """The gradient of the residual stream before the MLP."""
        arithmetic = self.arithmetic
        grad_gated_NI = arithmetic.product(grad_ND, arithmetic.right(self.weights["mlp.down_proj.weight"]))
        gated_NI, grad_both_NI = arithmetic.gate_backward(insides.gate_up_NI, grad_gated_NI)
        self.gradients_of_linears(("mlp.down_proj",), (grad_ND,), gated_NI)
        names = tuple(f"mlp.{name}" for name in MLP[:2])
        return self.normed_linears_backward(NORMS[1], names, grad_both_NI.chunk(2, 1), insides.middle_ND, grad_ND)

    def attention_backward(self, grad_ND: Tensor, input_ND: Tensor, insides: _Insides) -> Tensor:
        """The gradient of the layer's input."""
        arithmetic, settings = self.arithmetic, self.settings
        self.gradients_of_linears(("self_attn.o_proj",), (grad_ND,), insides.attended_ND)
        grad_attended_ND = arithmetic.product(grad_ND, arithmetic.right(self.weights["self_attn.o_proj.weight"]))
        grad_NP = torch.empty_like(insides.projected_NP)
        saved = self.heads(insides.projected_NP)
        attended = insides.attended_ND, insides.normalisers_HN
        arithmetic.attend_backward(grad_attended_ND, saved, settings.scope, attended, self.heads(grad_NP))
        self.rotate(grad_NP, backward=True)
        if insides.raw_NP is not None:
            self.head_norms_backward(grad_NP, insides.raw_NP)
        names = tuple(f"self_attn.{name}" for name in ATTENTION[:3])
        return self.normed_linears_backward(NORMS[0], names, self.parts(grad_NP), input_ND, grad_ND)

    def head_norms_backward(self, grad_NP: Tensor, raw_NP: Tensor) -> None:
        """Through the norms of queries and keys, in place."""
        width = self.settings.cos_NE.shape[1]
        for grad_NQ, raw_NQ, name in zip(self.parts(grad_NP), self.parts(raw_NP), HEAD_NORMS, strict=False):
            weight_E = self.weights[f"self_attn.{name}.weight"]
            raw_RE = raw_NQ.reshape(-1, width)
            grad_RE = self.arithmetic.norm_backward(
                grad_NQ.reshape(-1, width).float(),
                raw_RE,
                weight_E,
                self.settings.eps,
                added_RW=torch.zeros_like(raw_RE),
                weight_gradient_W=self.sink_of(weight_E),
            )
            grad_NQ.copy_(grad_RE.view(grad_NQ.shape))

    def normed_linears_backward(
        self, norm: str, names: tuple[str, ...], grads: tuple[Tensor, ...], input_ND: Tensor, grad_ND: Tensor
    ) -> Tensor:
        """Through projections that share a normed input, to the residual stream, whose own gradient is added."""
        arithmetic, weight_D = self.arithmetic, self.weights[f"{norm}.weight"]
        normed_ND = arithmetic.norm(input_ND, weight_D, self.settings.eps)
        self.gradients_of_linears(names, grads, normed_ND)
        grad_normed_ND = torch.empty(input_ND.shape)
        for number, (name, grad_NO) in enumerate(zip(names, grads, strict=True)):
            multiply = arithmetic.add_product if number else arithmetic.wide_product
            multiply(grad_NO, arithmetic.right(self.weights[f"{name}.weight"]), grad_normed_ND)
        return arithmetic.norm_backward(
            grad_normed_ND,
            input_ND,
            weight_D,
            self.settings.eps,
            added_RW=grad_ND,
            weight_gradient_W=self.sink_of(weight_D),
        )

    def gradients_of_linears(self, names: tuple[str, ...], grads: tuple[Tensor, ...], input_ND: Tensor) -> None:
        """Of projections that were given the same input."""
        laid_out = None
        for name, grad_NO in zip(names, grads, strict=True):
            weight_OI = self.weights[f"{name}.weight"]
            adapter = None if self.sink is None else self.sink.adapter_of(weight_OI)
            if adapter is not None:
                adapter.add_gradient(grad_NO, input_ND)
            sink_OD = self.sink_of(weight_OI)
            if sink_OD is not None:
                laid_out = laid_out or self.arithmetic.right(input_ND)
                self.arithmetic.add_product(self.arithmetic.left_transposed(grad_NO), laid_out, sink_OD)
            bias_O = self.weights.get(f"{name}.bias")
            sink_O = None if bias_O is None else self.sink_of(bias_O)
            if sink_O is not None:
                sink_O += grad_NO.sum(0, dtype=torch.float32)

    def linear(self, input_NI: Tensor, names: tuple[str, ...], part: str, added: Tensor | None = None) -> Tensor:
        """Projections of one input, side by side."""
        right = self.arithmetic.right_transposed(*(self.weights[f"{part}.{name}.weight"] for name in names))
        biases = [self.weights.get(f"{part}.{name}.bias") for name in names]
        bias_O = None
        if any(bias is not None for bias in biases):
            sizes = [len(self.weights[f"{part}.{name}.weight"]) for name in names]
            filled = [input_NI.new_zeros(size) if b is None else b for b, size in zip(biases, sizes, strict=True)]
            bias_O = torch.cat(filled)
        return self.arithmetic.product(input_NI, right, bias_N=bias_O, added_MN=added)

    def rotate(self, projected_NP: Tensor, *, backward: bool) -> None:
        """Of queries and keys, in place."""
        settings = self.settings
        num_heads = sum(part.shape[1] for part in self.parts(projected_NP)[:2]) // settings.cos_NE.shape[1]
        self.arithmetic.rotate(projected_NP, num_heads, settings.cos_NE, settings.sin_NE, backward=backward)

    def parts(self, projected_NP: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values."""
        widths = [len(self.weights[f"self_attn.{name}.weight"]) for name in ATTENTION[:3]]
        return projected_NP.split(widths, 1)

    def heads(self, projected_NP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, head by head (N, H, E)."""
        width = self.settings.cos_NE.shape[1]
        query_NHE, key_NHE, value_NHE = (part.unflatten(1, (-1, width)) for part in self.parts(projected_NP))
        return query_NHE, key_NHE, value_NHE

    @property
    def has_head_norms(self) -> bool:
        """As in Qwen3."""
        return "self_attn.q_norm.weight" in self.weights

    def sink_of(self, weight: Tensor) -> Tensor | None:
        """Where the gradient of a weight is added."""
        return None if self.sink is None else self.sink.sum_of(weight)
