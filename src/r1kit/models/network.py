"""The network as it computes: the policy's layers on weights in the compute precision, over rows without padding.

B: rows   T: token positions, right-padded   N: tokens of a packed row   M: tokens under the mask
D: model width   V: vocabulary
"""

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from r1kit.errors import ModelError
from r1kit.models import attention
from r1kit.models.head import Head
from r1kit.models.layer import take_over
from r1kit.models.lora import Adapter, Adapters
from r1kit.models.packing import Packing, pack

# How far packed and padded hidden states may differ, relative to their norm: rounding is a tenth of it at most.
PACKING_TOLERANCE = {torch.bfloat16: 0.1, torch.float16: 0.03}

# Steps of all optimizers in this process: fused ones change weights without counting up the versions of tensors.
_optimizer_steps = [0]


def _count_step(*_: Any) -> None:
    _optimizer_steps[0] += 1


register_optimizer_step_post_hook(_count_step)


class ComputeNetwork:
    """The layers of a model once more, sharing its parameters where these are in the compute precision already.

    Where they are not, it holds a copy of each parameter, made again whenever the master has changed (an edit of
    `.data` is not noticed), and adds each copy's gradient to its master's, in the master's precision: many microbatches
    add up without being rounded. Only `.backward()` does so; `torch.autograd.grad` does not reach the masters.

    Of weights with an adapter it holds a copy in any case: the merged ones, whose gradient goes to the adapter.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype, adapters: Adapters | None = None) -> None:
        """Copy layers and settings; where the layers can't take packed rows, rows are padded instead."""
        self._masters = dict(model.named_parameters())
        self.adapters = adapters
        """Those that are merged from the next forward pass on."""
        self.is_shadow = dtype != model.dtype or adapters is not None
        copies = {name: self._counterpart(master, dtype) for name, master in self._masters.items()}
        memo: dict[int, Any] = {id(master): copies[name] for name, master in self._masters.items()}
        memo |= {id(buffer): buffer for buffer in model.buffers()}
        self._copies = copies
        self._master_of = {id(copy): self._masters[name] for name, copy in copies.items()}
        self._model: PreTrainedModel = deepcopy(model, memo)
        self._layers = [layer for layer in self._model.modules() if isinstance(layer, GradientCheckpointingLayer)]
        for layer in self._layers:
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        self._seen: tuple[int, ...] | None = None
        self._merged: tuple[int, ...] | None = None
        embeddings = model.get_input_embeddings()
        # A network that scores has no output embeddings; then only the device is asked of this.
        self._head_master: Tensor = (model.get_output_embeddings() or embeddings).weight
        if self.is_shadow and type(embeddings) is nn.Embedding:
            # Rows of the masters: gradients of frequent tokens would otherwise be summed in the low precision.
            self._model.get_input_embeddings().forward = partial(_embedded, embeddings, dtype)
        self._padded_attention = model.config._attn_implementation
        self.num_layers_by_hand = sum(take_over(layer, self if self.is_shadow else None) for layer in self._layers)
        self.packs_rows = self._takes_packed_rows()

    @property
    def backbone(self) -> nn.Module:
        """The network without its head."""
        return self._model.base_model

    def hidden_states(
        self, token_ids_BT: Tensor, completion_mask_BT: Tensor, *, recomputes_layers: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (M, D) that predict the tokens under the mask, and those tokens (M,), in the rows' order.

        Of so many layers as `recomputes_layers` says (True: of all) only the input is kept for the backward pass.
        """
        self._refresh()
        num_recomputed = len(self._layers) if recomputes_layers is True else recomputes_layers
        for number, layer in enumerate(self._layers):
            # The layer's own mode alone: dropout inside it stays off.
            layer.training = layer.gradient_checkpointing = number < num_recomputed
        targets_M = token_ids_BT[completion_mask_BT]
        if not self.packs_rows:
            return self._padded(token_ids_BT, completion_mask_BT), targets_M
        return self._packed(pack(token_ids_BT, completion_mask_BT)), targets_M

    def head(self, temperature: float) -> Head:
        """The head as it computes, with the master's gradient to add to where the weights are copies."""
        linear = self._model.get_output_embeddings()
        sink = None
        if self.is_shadow and torch.is_grad_enabled() and self._head_master.requires_grad:
            sink = partial(_gradient_of, self._head_master)
        return Head(linear.weight, linear.bias, temperature, sink)

    def _packed(self, packing: Packing) -> Tensor:
        self._model.config._attn_implementation = attention.NAME
        hidden_1ND = self.backbone(
            input_ids=packing.token_ids_N[None],
            position_ids=packing.position_ids_N[None],
            use_cache=False,
            packing=packing,
        ).last_hidden_state
        return hidden_1ND[0].index_select(0, packing.predictors_M)

    def _padded(self, token_ids_BT: Tensor, completion_mask_BT: Tensor) -> Tensor:
        self._model.config._attn_implementation = self._padded_attention
        hidden_BTD = self.backbone(input_ids=token_ids_BT, use_cache=False).last_hidden_state
        return hidden_BTD[:, :-1][completion_mask_BT[:, 1:]]

    @torch.no_grad()
    def _takes_packed_rows(self) -> bool:
        """Whether two rows of one prompt get the hidden states that they get apart."""
        self._refresh()
        device = self._head_master.device
        rows_BT = torch.tensor([[0, 1, 2, 3, 1], [0, 1, 3, 0, 2]], device=device)
        mask_BT = (torch.arange(5, device=device) > 1).expand(2, 5)
        expected_MD = self._padded(rows_BT, mask_BT)
        try:
            found_MD = self._packed(pack(rows_BT, mask_BT))
        except (ModelError, RuntimeError, TypeError, ValueError):
            return False
        tolerance = PACKING_TOLERANCE.get(found_MD.dtype, 1e-3)
        return bool((found_MD - expected_MD).norm() <= tolerance * expected_MD.norm())

    @torch.no_grad()
    def _refresh(self) -> None:
        if not self.is_shadow:
            return
        steps = _optimizer_steps[0]
        versions = tuple(master._version for master in self._masters.values())
        seen = (0 if self.adapters else steps, *versions)  # under adapters, no optimizer touches the masters
        if seen != self._seen:
            for name, copy in self._copies.items():
                if copy is not self._masters[name] and self._adapter_of_master(self._masters[name]) is None:
                    copy.copy_(self._masters[name])
            self._seen = seen
        merged = (steps, *versions, *self.adapters.state()) if self.adapters else None
        if self.adapters and merged != self._merged:
            for name, master in self._masters.items():
                if self.adapters.of(master) is not None:
                    self._copies[name].copy_(self.adapters.merged(master))
            self._merged = merged

    def sum_of(self, weight: Tensor) -> Tensor | None:
        """The master's gradient, to which that of its copy is added; None where it doesn't train."""
        master = self._master_of[id(weight)]
        return _gradient_of(master) if master.requires_grad else None

    def adapter_of(self, weight: Tensor) -> Adapter | None:
        """The adapter to which the gradient of a copy is handed on."""
        return self._adapter_of_master(self._master_of[id(weight)])

    def _adapter_of_master(self, master: Tensor) -> Adapter | None:
        return self.adapters.of(master) if self.adapters else None

    def _counterpart(self, master: nn.Parameter, dtype: torch.dtype) -> nn.Parameter:
        """What computes in a master's place."""
        has_adapter = self._adapter_of_master(master) is not None
        if not self.is_shadow or (self.adapters and not has_adapter and master.dtype == dtype):
            return master
        # That the merged weights ask for a gradient makes autograd come by; by hand, they are given none.
        copy = nn.Parameter(torch.empty_like(master, dtype=dtype), requires_grad=master.requires_grad or has_adapter)
        if has_adapter:
            copy.register_post_accumulate_grad_hook(partial(self._project, master))
        elif master.requires_grad:
            copy.register_post_accumulate_grad_hook(partial(_hand_over, master))
        return copy

    def _project(self, master: Tensor, copy: Tensor) -> None:
        """What autograd has found of merged weights, one matrix at a time, goes to their adapter."""
        gradient, copy.grad = copy.grad, None
        adapter = self._adapter_of_master(master)
        if gradient is not None and adapter is not None:
            adapter.add_weight_gradient(gradient)


class _Lookup(torch.autograd.Function):
    """Rows of an embedding in another precision; their gradients are added to the master's."""

    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, token_ids: Tensor, padding_idx: int | None, dtype: torch.dtype) -> Tensor:
        ctx.weight_VD, ctx.padding_idx = weight_VD, padding_idx
        ctx.save_for_backward(token_ids)
        return weight_VD.detach()[token_ids].to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        (token_ids,) = ctx.saved_tensors
        flat_N, gradient_ND = token_ids.flatten(), gradient.flatten(0, -2).to(ctx.weight_VD.dtype)
        if ctx.padding_idx is not None:
            gradient_ND = gradient_ND * (flat_N != ctx.padding_idx)[:, None]
        _gradient_of(ctx.weight_VD).index_add_(0, flat_N, gradient_ND)
        return None, None, None, None


def _embedded(embeddings: nn.Embedding, dtype: torch.dtype, input: Tensor) -> Tensor:
    if not embeddings.weight.requires_grad:
        return embeddings.weight[input].to(dtype)
    return _Lookup.apply(embeddings.weight, input, embeddings.padding_idx, dtype)


def _hand_over(master: Tensor, copy: Tensor) -> None:
    gradient, copy.grad = copy.grad, None
    if gradient is None:
        return
    if master.grad is None:
        master.grad = gradient.to(master.dtype)
    else:
        master.grad += gradient


def _gradient_of(master: Tensor) -> Tensor:
    if master.grad is None:
        master.grad = torch.zeros_like(master)
    return master.grad
