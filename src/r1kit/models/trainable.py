"""What every network that trains here has: weights of `transformers`, a tokenizer, and layers over packed rows."""

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from r1kit.models.lora import Adapters
from r1kit.models.network import ComputeNetwork


class Trainable:
    """A network of `transformers` and its tokenizer; what its head says is the matter of each kind of network."""

    auto_class: ClassVar[Any] = AutoModelForCausalLM
    """As what `transformers` loads the folder that is saved of it."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        compute_dtype: torch.dtype | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        """Take a loaded model; `compute_dtype` is the precision of matrix products, by default that of the weights.

        Where there are adapters, they alone train.
        """
        # Dropout stays off while training: the ratio of policy to old policy must be exactly 1 at the first update.
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.compute_dtype = compute_dtype or model.dtype
        self.adapters = adapters
        self.tokenizer_files = _files_of(tokenizer)
        """What a checkpoint holds of the tokenizer, by file name."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def backbone(self) -> nn.Module:
        """The network without its head: token ids to hidden states."""
        return self.model.base_model

    @property
    def head(self) -> nn.Linear:
        """Hidden states to logits."""
        return self.model.get_output_embeddings()

    @property
    def network(self) -> ComputeNetwork:
        """The layers as they compute, made when they are first needed, under this network's adapters."""
        self._network.adapters = self.adapters
        return self._network

    @cached_property
    def _network(self) -> ComputeNetwork:
        return ComputeNetwork(self.model, self.compute_dtype, self.adapters)

    def num_parameters(self) -> int:
        """Parameters of the network without its adapters, tied ones counted once."""
        return self.model.num_parameters()

    def trained_parameters(self) -> list[nn.Parameter]:
        """What an optimizer changes: the adapters, or all weights that are not frozen."""
        if self.adapters is not None:
            return list(self.adapters.parameters())
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def trained_state(self) -> dict[str, Tensor]:
        """All that training changes, by name: the adapters, or the whole network."""
        return self.model.state_dict() if self.adapters is None else self.adapters.state_tensors()

    def load_trained_state(self, tensors: dict[str, Tensor]) -> None:
        """Take `trained_state`; raises KeyError or RuntimeError where it is another network's."""
        if self.adapters is None:
            self.model.load_state_dict(tensors)
        else:
            self.adapters.load_state(tensors)

    def merged(self, weight: Tensor) -> Tensor:
        """One of the model's weights as it computes: with what its adapter adds, if it has one."""
        return weight.detach() if self.adapters is None else self.adapters.merged(weight)

    def merged_state(self) -> dict[str, Tensor]:
        """The whole network by name, its adapters merged into it, in the precision of its weights."""
        found = self.model.state_dict()
        if self.adapters is not None:
            for adapter in self.adapters.adapters:
                found[f"{adapter.module}.weight"] = self.adapters.merged(adapter.base_OI).to(adapter.base_OI.dtype)
        return found


def _files_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, bytes]:
    """The tokenizer as it is saved; made once, since it never changes, and since its own writer hides a full disk."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
