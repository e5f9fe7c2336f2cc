"""A decoder layer, forward and backward by hand, for the layout that Llama, Mistral, Qwen2 and Qwen3 share.

Autograd would keep some thirty tensors of each layer for the backward pass, many of them float32 copies; this keeps
nine, or the layer's input alone. Wherever a network's layers differ in anything, `transformers`' own are used.

N: tokens of the packed row   D: model width   I: width of the MLP   H: query heads   K: key-value heads   E: head width
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from r1kit.models.attention import Scope, attend, attend_backward
from r1kit.models.compiled_layer import CompiledLayer, arithmetic_of
from r1kit.models.layer_parts import ATTENTION, MLP, NORMS, LayerSettings, Sink
from r1kit.models.lora import Adapter
from r1kit.models.packing import Packing

SILU = ("SiLU", "SiLUActivation")
KNOWN_LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
HEAD_NORMS = ("q_norm", "k_norm")

CACHED_ROWS = 256


def take_over(layer: nn.Module, sink: Sink | None) -> bool:
    """Let a layer of the known layout compute by hand wherever its rows are packed; says whether it does.

    `sink`: of weights that are copies, if they are.
    """
    if not _has_known_layout(layer):
        return False
    layer.forward = partial(_forward, layer, layer.forward, sink)
    return True


def _forward(
    layer: Any,
    otherwise: Any,
    sink: Sink | None,
    hidden_states: Tensor,
    *args: Any,
    packing: Packing | None = None,
    **options: Any,
) -> Tensor:
    if packing is None:
        return otherwise(hidden_states, *args, **options)
    cos_1NE, sin_1NE = options["position_embeddings"]
    attention = layer.self_attn
    named = dict(layer.named_parameters())
    settings = LayerSettings(
        scope=Scope(packing, attention.scaling, _window(attention)),
        cos_NE=cos_1NE[0],
        sin_NE=sin_1NE[0],
        eps=layer.input_layernorm.variance_epsilon,
        names=tuple(named),
        keeps_insides=not layer.gradient_checkpointing,
    )
    arithmetic = arithmetic_of(hidden_states, named)
    if arithmetic is not None and (sink is not None or not torch.is_grad_enabled()):
        return CompiledLayer.apply(hidden_states[0], settings, arithmetic, sink, *named.values())[None]
    return _Layer.apply(hidden_states[0], settings, sink, *named.values())[None]


@dataclass(slots=True)
class _Insides:
    """What the backward pass needs of a layer, besides its input."""

    query_NHE: Tensor
    """After the rotation, as the keys."""
    key_NKE: Tensor
    value_NKE: Tensor
    attended_ND: Tensor
    middle_ND: Tensor
    """The residual stream between attention and MLP."""
    gate_NI: Tensor
    up_NI: Tensor
    raw_query_NHE: Tensor | None
    """Before its norm, where heads have one."""
    raw_key_NKE: Tensor | None

    def tensors(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input_ND: Tensor, settings: LayerSettings, sink: Sink | None, *parameters: Tensor) -> Tensor:
        weights = dict(zip(settings.names, parameters, strict=True))
        insides = _insides(input_ND, settings, weights)
        ctx.settings = settings
        ctx.adapters = {name: sink.adapter_of(weight) for name, weight in weights.items()} if sink else {}
        ctx.save_for_backward(input_ND, *parameters, *(insides.tensors() if settings.keeps_insides else ()))
        return _linear(_gated(insides.gate_NI, insides.up_NI), weights, "mlp.down_proj", insides.middle_ND)

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        settings, saved = ctx.settings, ctx.saved_tensors
        input_ND, kept = saved[0], saved[1 + len(settings.names) :]
        weights = dict(zip(settings.names, saved[1:], strict=False))
        insides = _Insides(*kept) if kept else _insides(input_ND, settings, weights)
        asked = {name for name, asked in zip(settings.names, ctx.needs_input_grad[3:], strict=True) if asked}
        gradients = _Gradients(asked, ctx.adapters)
        grad_middle_ND = _mlp_backward(grad_ND, insides, settings, weights, gradients)
        grad_input_ND = _attention_backward(grad_middle_ND, input_ND, insides, settings, weights, gradients)
        return grad_input_ND, None, None, *(gradients.found.get(name) for name in settings.names)


class _Gradients:
    """The gradients of a layer's parameters, by name; those that train are computed."""

    def __init__(self, asked: set[str], adapters: dict[str, Adapter | None]) -> None:
        self.asked = asked
        self.adapters = adapters
        self.found: dict[str, Tensor] = {}

    def of_linear(self, name: str, grad_NO: Tensor, input_NI: Tensor) -> None:
        """Of a projection that was given this input."""
        adapter = self.adapters.get(f"{name}.weight")
        if adapter is not None:
            adapter.add_gradient(grad_NO, input_NI)
        elif f"{name}.weight" in self.asked:
            # oneDNN multiplies a left factor that was laid out anew up to twice as fast as a transposed view.
            self.found[f"{name}.weight"] = grad_NO.T.contiguous() @ input_NI
        if f"{name}.bias" in self.asked:
            self.found[f"{name}.bias"] = grad_NO.sum(0)


def _insides(input_ND: Tensor, settings: LayerSettings, weights: dict[str, Tensor]) -> _Insides:
    width = settings.cos_NE.shape[-1]
    normed_ND = _normed(input_ND, weights["input_layernorm.weight"], settings.eps)
    query_NHE, key_NKE, value_NKE = (
        _linear(normed_ND, weights, f"self_attn.{name}").unflatten(-1, (-1, width)) for name in ATTENTION[:3]
    )
    raw = (None, None)
    if "self_attn.q_norm.weight" in weights:
        raw = query_NHE, key_NKE
        query_NHE = _normed(query_NHE, weights["self_attn.q_norm.weight"], settings.eps)
        key_NKE = _normed(key_NKE, weights["self_attn.k_norm.weight"], settings.eps)
    query_NHE, key_NKE = (_rotated(heads, settings.cos_NE, settings.sin_NE) for heads in (query_NHE, key_NKE))
    attended_ND = attend(query_NHE, key_NKE, value_NKE, settings.scope).flatten(1)
    middle_ND = _linear(attended_ND, weights, "self_attn.o_proj", input_ND)
    normed_ND = _normed(middle_ND, weights["post_attention_layernorm.weight"], settings.eps)
    gate_NI, up_NI = (_linear(normed_ND, weights, f"mlp.{name}") for name in MLP[:2])
    return _Insides(query_NHE, key_NKE, value_NKE, attended_ND, middle_ND, gate_NI, up_NI, *raw)


def _mlp_backward(
    grad_ND: Tensor, insides: _Insides, settings: LayerSettings, weights: dict[str, Tensor], gradients: _Gradients
) -> Tensor:
    """The gradient of the residual stream before the MLP."""
    grad_gated_NI = grad_ND @ weights["mlp.down_proj.weight"]
    gated_NI, grad_gate_NI, grad_up_NI = _gated_backward(grad_gated_NI, insides.gate_NI, insides.up_NI)
    gradients.of_linear("mlp.down_proj", grad_ND, gated_NI)
    normed_ND = _normed(insides.middle_ND, weights["post_attention_layernorm.weight"], settings.eps)
    grads = {"mlp.gate_proj": grad_gate_NI, "mlp.up_proj": grad_up_NI}
    return _normed_linears_backward(
        "post_attention_layernorm", grads, normed_ND, insides.middle_ND, grad_ND, settings, weights, gradients
    )


def _attention_backward(
    grad_ND: Tensor,
    input_ND: Tensor,
    insides: _Insides,
    settings: LayerSettings,
    weights: dict[str, Tensor],
    gradients: _Gradients,
) -> Tensor:
    """The gradient of the layer's input."""
    gradients.of_linear("self_attn.o_proj", grad_ND, insides.attended_ND)
    grad_attended_ND = grad_ND @ weights["self_attn.o_proj.weight"]
    grad_NHE = grad_attended_ND.view(len(grad_ND), insides.query_NHE.shape[1], -1)
    saved = insides.query_NHE, insides.key_NKE, insides.value_NKE
    grad_query_NHE, grad_key_NKE, grad_value_NKE = attend_backward(grad_NHE, saved, settings.scope)
    grad_query_NHE, grad_key_NKE = (
        _rotated(heads, settings.cos_NE, -settings.sin_NE) for heads in (grad_query_NHE, grad_key_NKE)
    )
    if insides.raw_query_NHE is not None and insides.raw_key_NKE is not None:
        names = [f"self_attn.{name}.weight" for name in HEAD_NORMS]
        raws = (insides.raw_query_NHE, insides.raw_key_NKE)
        grads_of_heads = (grad_query_NHE, grad_key_NKE)
        grad_query_NHE, grad_key_NKE = (
            _norm_backward(grad, raw, weights[name], settings.eps, name, gradients)
            for grad, raw, name in zip(grads_of_heads, raws, names, strict=True)
        )
    normed_ND = _normed(input_ND, weights["input_layernorm.weight"], settings.eps)
    by_name = zip(ATTENTION[:3], (grad_query_NHE, grad_key_NKE, grad_value_NKE), strict=True)
    grads = {f"self_attn.{name}": grad.flatten(1) for name, grad in by_name}
    return _normed_linears_backward(
        "input_layernorm", grads, normed_ND, input_ND, grad_ND, settings, weights, gradients
    )


def _normed_linears_backward(
    norm: str,
    grads: dict[str, Tensor],
    normed_ND: Tensor,
    input_ND: Tensor,
    grad_ND: Tensor,
    settings: LayerSettings,
    weights: dict[str, Tensor],
    gradients: _Gradients,
) -> Tensor:
    """Through projections that share a normed input, to the residual stream, whose own gradient is added."""
    grad_normed_ND: Tensor | None = None
    for name, grad_NO in grads.items():
        gradients.of_linear(name, grad_NO, normed_ND)
        weight_OD = weights[f"{name}.weight"]
        if grad_normed_ND is None:
            grad_normed_ND = grad_NO @ weight_OD
        else:
            grad_normed_ND.addmm_(grad_NO, weight_OD)
    assert grad_normed_ND is not None
    name = f"{norm}.weight"
    return _norm_backward(grad_normed_ND, input_ND, weights[name], settings.eps, name, gradients).add_(grad_ND)


def _normed(input_ND: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """RMS norm over the last dimension, in float32 until the end."""
    out_ND, wide_weight_D = torch.empty_like(input_ND), weight_D.float()
    for rows in _chunks(input_ND):
        wide_ND = input_ND[rows].to(torch.float32, copy=True)
        out_ND[rows] = wide_ND.mul_(_scale(wide_ND, eps)).mul_(wide_weight_D)
    return out_ND


def _norm_backward(
    grad_ND: Tensor, input_ND: Tensor, weight_D: Tensor, eps: float, name: str, gradients: _Gradients
) -> Tensor:
    """d x = s (g w - n mean(g w n)), n = s x; the weight's gradient is Σ g n."""
    out_ND, wide_weight_D = torch.empty_like(input_ND), weight_D.float()
    grad_weight_D = torch.zeros_like(wide_weight_D)
    for rows in _chunks(input_ND):
        wide_ND, wide_grad_ND = (tensor[rows].to(torch.float32, copy=True) for tensor in (input_ND, grad_ND))
        scale_N1 = _scale(wide_ND, eps)
        product_ND = wide_grad_ND * wide_ND.mul_(scale_N1)
        grad_weight_D += product_ND.flatten(0, -2).sum(0)
        mean_N1 = (product_ND @ wide_weight_D)[..., None] / input_ND.shape[-1]
        wide_grad_ND.mul_(wide_weight_D).sub_(wide_ND.mul_(mean_N1)).mul_(scale_N1)
        out_ND[rows] = wide_grad_ND
    if name in gradients.asked:
        gradients.found[name] = grad_weight_D.to(weight_D.dtype)
    return out_ND


def _gated(gate_NI: Tensor, up_NI: Tensor) -> Tensor:
    """silu(gate) up."""
    out_NI = torch.empty_like(gate_NI)
    for rows in _chunks(gate_NI):
        torch.mul(functional.silu(gate_NI[rows]), up_NI[rows], out=out_NI[rows])
    return out_NI


def _gated_backward(grad_NI: Tensor, gate_NI: Tensor, up_NI: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the forward pass gave, and the gradients of gate and up."""
    out_NI, grad_gate_NI, grad_up_NI = (torch.empty_like(gate_NI) for _ in range(3))
    for rows in _chunks(gate_NI):
        silu_NI = functional.silu(gate_NI[rows])
        torch.mul(silu_NI, up_NI[rows], out=out_NI[rows])
        torch.mul(silu_NI, grad_NI[rows], out=grad_up_NI[rows])
        of_silu_NI = torch.mul(grad_NI[rows], up_NI[rows], out=silu_NI)
        grad_gate_NI[rows] = torch.ops.aten.silu_backward(of_silu_NI, gate_NI[rows])
    return out_NI, grad_gate_NI, grad_up_NI


def _chunks(tensor: Tensor) -> Iterator[slice]:
    """Rows of which the few tensors of an elementwise formula fit in a core's cache; all at once on other devices."""
    rows = CACHED_ROWS if tensor.device.type == "cpu" else len(tensor)
    for start in range(0, len(tensor), rows):
        yield slice(start, start + rows)


def _scale(wide_ND: Tensor, eps: float) -> Tensor:
    return (torch.linalg.vecdot(wide_ND, wide_ND)[..., None] / wide_ND.shape[-1] + eps).rsqrt_()


def _linear(input_NI: Tensor, weights: dict[str, Tensor], name: str, added_NO: Tensor | None = None) -> Tensor:
    weight_OI, bias_O = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    if added_NO is None:
        return functional.linear(input_NI, weight_OI, bias_O)
    sum_NO = torch.addmm(added_NO, input_NI, weight_OI.T)
    return sum_NO if bias_O is None else sum_NO.add_(bias_O)


def _rotated(heads_NHE: Tensor, cos_NE: Tensor, sin_NE: Tensor) -> Tensor:
    """Rotary position embedding, the halves of a head being the parts of its complex numbers."""
    half = heads_NHE.shape[-1] // 2
    cos_N1E, sin_N1E = cos_NE[:, None, :half], sin_NE[:, None, :half]
    first, second = heads_NHE[..., :half], heads_NHE[..., half:]
    out_NHE = torch.empty_like(heads_NHE, memory_format=torch.contiguous_format)
    torch.mul(first, cos_N1E, out=out_NHE[..., :half]).addcmul_(second, sin_N1E, value=-1)
    torch.mul(second, cos_N1E, out=out_NHE[..., half:]).addcmul_(first, sin_N1E)
    return out_NHE


def _window(attention: Any) -> int | None:
    """How far back a layer sees: its own figure where layers differ (Qwen), else the network's (Mistral)."""
    if hasattr(attention, "sliding_window"):
        return attention.sliding_window
    return getattr(attention.config, "sliding_window", None)


def _has_known_layout(layer: nn.Module) -> bool:
    children = dict(layer.named_children())
    if type(layer).__name__ not in KNOWN_LAYERS:
        return False
    if set(children) != {*NORMS, "self_attn", "mlp"}:
        return False
    attention, mlp = (dict(children[name].named_children()) for name in ("self_attn", "mlp"))
    linears = [attention.get(name) for name in ATTENTION] + [mlp.get(name) for name in MLP]
    norms = [children[name] for name in NORMS] + [attention[name] for name in HEAD_NORMS if name in attention]
    return (
        set(attention) in ({*ATTENTION}, {*ATTENTION, *HEAD_NORMS})
        and set(mlp) == {*MLP, "act_fn"}
        and type(mlp["act_fn"]).__name__ in SILU
        and all(type(linear) is nn.Linear for linear in linears)
        and len({getattr(norm, "variance_epsilon", number) for number, norm in enumerate(norms)}) == 1
    )
