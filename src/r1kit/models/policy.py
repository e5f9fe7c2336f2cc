"""The model that is trained: logprobs of chosen tokens, computed only where a token was sampled.

B: rows   T: token positions, right-padded   M: tokens under the mask   D: model width
"""

from copy import copy, deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.errors import ModelError
from r1kit.models.head import chosen_stats
from r1kit.models.lora import Adapters
from r1kit.models.trainable import Trainable


@dataclass(frozen=True, slots=True)
class TokenStats:
    """What the policy says of each token, 0 where nothing was sampled."""

    logprobs_BT: Tensor
    """Log-probability of the token at its position, given all before it."""
    live_entropy_BT: Tensor
    """Entropy, in nats, of the distribution that it was drawn from; its gradient costs nothing until asked for."""

    @property
    def entropy_BT(self) -> Tensor:
        """The same, detached."""
        return self.live_entropy_BT.detach()


class Policy(Trainable):
    """A causal language model of `transformers` and its tokenizer."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        compute_dtype: torch.dtype | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        """Take a loaded model; raise ModelError where its head is more than a matrix product.

        `compute_dtype` is the precision of matrix products, by default that of the weights.
        """
        super().__init__(model, tokenizer, compute_dtype=compute_dtype, adapters=adapters)
        self._refuse_unusual_heads()

    @property
    def vocab_size(self) -> int:
        """Logits of each position; may be more than the tokenizer has entries."""
        return self.head.weight.shape[0]

    def token_stats(
        self,
        token_ids_BT: Tensor,
        completion_mask_BT: Tensor,
        *,
        temperature: float,
        recomputes_layers: int = 0,
    ) -> TokenStats:
        """Logprobs and entropies of the tokens under the mask, at a sampling temperature.

        Rows are laid end to end without their padding, and what rows share before their first token under the mask is
        forwarded once. Position 0 has no prefix and can't be under the mask. Tensors may come from any device; the
        figures are on the policy's own. The backward pass makes the insides of the first `recomputes_layers` layers
        again (True: of all).
        """
        token_ids_BT, completion_mask_BT = token_ids_BT.to(self.device), completion_mask_BT.to(self.device)
        hidden_MD, targets_M = self.network.hidden_states(
            token_ids_BT, completion_mask_BT, recomputes_layers=recomputes_layers if torch.is_grad_enabled() else 0
        )
        logprobs_M, entropy_M = chosen_stats(hidden_MD, targets_M, self.network.head(temperature))
        empty_BT = torch.zeros(completion_mask_BT.shape, dtype=torch.float32, device=token_ids_BT.device)
        return TokenStats(
            logprobs_BT=empty_BT.masked_scatter(completion_mask_BT, logprobs_M.float()),
            live_entropy_BT=empty_BT.masked_scatter(completion_mask_BT, entropy_M.float()),
        )

    def load_weights(self, other: "Policy") -> None:
        """Copy the weights of another policy of the same shape, its adapters merged where this one has none."""
        if self.adapters is not None:
            self.adapters.load_state(other.trained_state())
        else:
            self.model.load_state_dict(other.merged_state())

    def without_adapters(self) -> "Policy":
        """The network on its own weights, which it shares with this one: the reference of a policy with adapters.

        It follows `load_weights` by adapters of its own.
        """
        assert self.adapters is not None
        reference = copy(self)
        reference._network = self._network
        reference.adapters = self.adapters.switched_off()
        return reference

    def converted(self, dtype: torch.dtype) -> "Policy":
        """A copy whose weights, and nothing else, are in another precision, adapters merged; it can't be trained.

        Not `model.to(dtype)`: that rounds the rotary embedding's frequencies too, which stay float32 in every network
        that was loaded in bfloat16.
        """
        memo = {id(p): nn.Parameter(self.merged(p).to(dtype), requires_grad=False) for p in self.model.parameters()}
        return Policy(deepcopy(self.model, memo), self.tokenizer, compute_dtype=dtype)

    @torch.no_grad()
    def _refuse_unusual_heads(self) -> None:
        """Some architectures scale or cap their logits after the head; ignoring that would be silently wrong."""
        probe = torch.tensor([[0, 1]], device=self.model.device)
        expected = self.model(input_ids=probe, use_cache=False).logits
        found = self.head(self.backbone(input_ids=probe, use_cache=False).last_hidden_state)
        if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
            raise ModelError(
                f"{self.model.config.model_type}: its logits are not its head times its hidden states "
                "(they are scaled or capped), which is not supported"
            )
