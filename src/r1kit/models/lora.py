"""Low-rank adapters: W + s B A for linear layers, of which A and B alone train (LoRA, arXiv:2106.09685).

The network computes with merged weights, made anew after each step, and hands the gradient on to A and B by hand: its
layers stay what they are, so that the compiled layers and the embedded engine know them. `peft`'s own injection would
put modules of its kind in their place, which both would pass over for slower ways. Files are in peft's format.

N: tokens   I, O: inputs and outputs of a linear layer   R: rank
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from r1kit.config.peft import PeftSettings
from r1kit.errors import RecipeError

ALL_LINEAR = "all-linear"
SHOWN = 12


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """What is added to one linear layer."""

    module: str
    """The layer's name in the network."""
    base_OI: Tensor
    """Its own weights, which never change."""
    down_RI: nn.Parameter
    """A."""
    up_OR: nn.Parameter
    """B."""
    scale: float
    """s."""

    @torch.no_grad()
    def merged(self) -> Tensor:
        """W + s B A, in the precision of A and B."""
        return torch.addmm(self.base_OI.to(self.up_OR.dtype), self.up_OR, self.down_RI, alpha=self.scale)

    @torch.no_grad()
    def add_gradient(self, grad_NO: Tensor, input_NI: Tensor) -> None:
        """Add to A's and B's gradients, from that of the layer's output: [O x I] is never made.

        dB = s g' (x A'), dA = s (g B)' x.
        """
        down_RI, up_OR = self.down_RI.to(grad_NO.dtype), self.up_OR.to(grad_NO.dtype)
        _add(self.up_OR, grad_NO.T @ (input_NI @ down_RI.T), self.scale)
        _add(self.down_RI, (grad_NO @ up_OR).T @ input_NI, self.scale)

    @torch.no_grad()
    def add_weight_gradient(self, grad_OI: Tensor) -> None:
        """The same from that of the merged weights: dB = s dW A', dA = s B' dW."""
        grad_OI = grad_OI.to(self.up_OR.dtype)
        _add(self.up_OR, grad_OI @ self.down_RI.T, self.scale)
        _add(self.down_RI, self.up_OR.T @ grad_OI, self.scale)


class Adapters:
    """The adapters of a network, or a copy of them that does not train."""

    def __init__(
        self,
        settings: PeftSettings,
        adapters: list[Adapter],
        *,
        base: str = "",
        revision: str | None = None,
        is_on: bool = True,
    ) -> None:
        """`base` names their network in files. Where they are not on, it computes with its own weights."""
        self.settings = settings
        self.adapters = adapters
        self.base, self.revision = base, revision
        self.is_on = is_on
        self._of_weight = {id(adapter.base_OI): adapter for adapter in adapters}

    @property
    def target_names(self) -> list[str]:
        """The layers as `peft` is told of them: by the ends of their names.

        Of networks whose experts are one tensor, `peft` takes `gate_proj` for those experts, whichever layer is meant.
        """
        targets = self.settings.target_modules
        ends = {adapter.module.rsplit(".", 1)[-1] for adapter in self.adapters}
        return sorted(ends) if isinstance(targets, str) else list(targets)

    def of(self, weight: Tensor) -> Adapter | None:
        """The adapter of one of the network's own weights."""
        return self._of_weight.get(id(weight))

    def merged(self, weight: Tensor) -> Tensor:
        """One of the network's weights as it computes; the weight itself where it has no adapter."""
        adapter = self.of(weight) if self.is_on else None
        return weight.detach() if adapter is None else adapter.merged()

    def parameters(self) -> Iterator[nn.Parameter]:
        """All that trains."""
        for adapter in self.adapters:
            yield adapter.down_RI
            yield adapter.up_OR

    def num_parameters(self) -> int:
        """How many numbers train."""
        return sum(parameter.numel() for parameter in self.parameters())

    def state(self) -> tuple[int | bool, ...]:
        """Changes where anything but an optimizer changes what is merged."""
        return (id(self), self.is_on, *(parameter._version for parameter in self.parameters()))

    def state_tensors(self) -> dict[str, Tensor]:
        """A and B of every layer, under the names that `peft` gives them; nothing where they are off."""
        found: dict[str, Tensor] = {}
        for adapter in self.adapters if self.is_on else ():
            found[f"base_model.model.{adapter.module}.lora_A.weight"] = adapter.down_RI.detach()
            found[f"base_model.model.{adapter.module}.lora_B.weight"] = adapter.up_OR.detach()
        return found

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take `state_tensors`; raises KeyError or RuntimeError where they are not those of these layers."""
        self.is_on = bool(tensors)
        mine = self.state_tensors()
        if other := mine.keys() ^ tensors.keys():
            raise KeyError(f"{min(other)} is on one side only")
        for name, tensor in mine.items():
            if tensor.shape != tensors[name].shape:
                raise RuntimeError(f"{name} is {list(tensors[name].shape)}, not {list(tensor.shape)}")
            tensor.copy_(tensors[name])

    def switched_off(self) -> "Adapters":
        """As many that are off, and do not train: what a reference has, until it takes the policy's."""
        copies = [
            replace(
                adapter,
                down_RI=nn.Parameter(adapter.down_RI.detach().clone(), requires_grad=False),
                up_OR=nn.Parameter(torch.zeros_like(adapter.up_OR), requires_grad=False),
            )
            for adapter in self.adapters
        ]
        return Adapters(self.settings, copies, is_on=False)


def make_adapters(
    model: PreTrainedModel, settings: PeftSettings, *, seed: int, base: str = "", revision: str | None = None
) -> Adapters:
    """New adapters for a network, which is frozen: A is random, B is 0, so that nothing changes yet.

    `base` and `revision` say in their files where the network is from.
    Raises RecipeError for names that are no linear layers of the network.
    """
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    adapters = []
    for name, linear in target_layers(model, settings.target_modules).items():
        # As `peft` begins: uniform within 1 / sqrt(I), which is what Kaiming's rule gives for a = sqrt(5).
        down_RI = torch.empty(settings.rank, linear.in_features).uniform_(-1, 1, generator=generator)
        down_RI /= math.sqrt(linear.in_features)
        device = linear.weight.device
        adapters.append(
            Adapter(
                module=name,
                base_OI=linear.weight,
                down_RI=nn.Parameter(down_RI.to(device, dtype)),
                up_OR=nn.Parameter(torch.zeros(linear.out_features, settings.rank, dtype=dtype, device=device)),
                scale=settings.scale,
            )
        )
    return Adapters(settings, adapters, base=base, revision=revision)


def target_layers(model: PreTrainedModel, wanted: str | tuple[str, ...]) -> dict[str, nn.Linear]:
    """The layers that `target_modules` names, in the network's order; raises RecipeError, in one line."""
    modules = dict(model.named_modules())
    head = model.get_output_embeddings()
    linears = {name: module for name, module in modules.items() if type(module) is nn.Linear}
    if wanted == ALL_LINEAR:
        chosen = {name for name, module in linears.items() if module is not head}
        if not chosen:
            raise RecipeError(
                f"peft.target_modules: {model.config.model_type} has no linear layers that adapters could be put on; "
                "leave [peft] out"
            )
    else:
        found = [_matching(target, modules, linears) for target in wanted]
        chosen = set().union(*found)
        if not chosen:
            raise RecipeError("peft.target_modules is empty; name layers, or 'all-linear'")
    embeddings = model.get_input_embeddings()
    if any(linears[name].weight is embeddings.weight for name in chosen):
        raise RecipeError(
            f"peft.target_modules names the head, whose weights are also the embeddings of this "
            f"{model.config.model_type}: an adapter would change one of the two alone; leave it out"
        )
    return {name: module for name, module in linears.items() if name in chosen}


def _matching(target: str, modules: Mapping[str, nn.Module], linears: Mapping[str, nn.Linear]) -> set[str]:
    """The linear layers of a name, or whose name ends with it, as `peft` matches them."""
    named = [name for name in modules if target and (name == target or name.endswith(f".{target}"))]
    if others := [name for name in named if name not in linears]:
        kind = type(modules[others[0]]).__name__
        raise RecipeError(f"peft.target_modules names {target!r}, but {others[0]} is a {kind}, not a linear layer")
    if not named:
        known = sorted({name.rsplit(".", 1)[-1] for name in linears})
        shown = ", ".join(known[:SHOWN]) + (", …" if len(known) > SHOWN else "")
        raise RecipeError(f"peft.target_modules names {target!r}, but no layer here is called that; known: {shown}")
    return set(named)


def _add(parameter: nn.Parameter, gradient: Tensor, scale: float) -> None:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad.add_(gradient, alpha=scale)
