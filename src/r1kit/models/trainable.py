"""What every network that trains here has: weights of `transformers`, a tokenizer, and layers over packed rows."""

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from r1kit.models.network import ComputeNetwork


class Trainable:
    """A network of `transformers` and its tokenizer; what its head says is the matter of each kind of network."""

    auto_class: ClassVar[Any] = AutoModelForCausalLM
    """As what `transformers` loads the folder that is saved of it."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, compute_dtype: torch.dtype | None = None
    ) -> None:
        """Take a loaded model; `compute_dtype` is the precision of matrix products, by default that of the weights."""
        # Dropout stays off while training: the ratio of policy to old policy must be exactly 1 at the first update.
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.compute_dtype = compute_dtype or model.dtype
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

    @cached_property
    def network(self) -> ComputeNetwork:
        """The layers as they compute, made when they are first needed."""
        return ComputeNetwork(self.model, self.compute_dtype)

    def num_parameters(self) -> int:
        """Parameters of the network, tied ones counted once."""
        return self.model.num_parameters()


def _files_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, bytes]:
    """The tokenizer as it is saved; made once, since it never changes, and since its own writer hides a full disk."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
