"""The model that is trained: logprobs of chosen tokens, computed only where a token was sampled.

B: rows   T: token positions, right-padded   N: positions that reach the head   D: model width   V: vocabulary
"""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.errors import ModelError

# Logits are made in chunks of at most so many elements, so that [positions x vocabulary] never exists at once.
MAX_LOGITS_PER_CHUNK = 2**24
# Chunks larger than this make their logits again in the backward pass instead of keeping them.
RECOMPUTED_ABOVE = 2**23


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


class Entropy(torch.autograd.Function):
    """Entropies (N,) of logits (N, V). What its backward needs is kept for the logprobs' anyway."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, normaliser_N: Tensor) -> Tensor:
        """logsumexp(z) - Σ p z; the normaliser is that logsumexp, without gradient."""
        entropy_N = normaliser_N - ((logits_NV - normaliser_N[:, None]).exp() * logits_NV).sum(-1)
        ctx.save_for_backward(logits_NV, normaliser_N, entropy_N)
        return entropy_N

    @staticmethod
    def backward(ctx: Any, gradient_N: Tensor) -> tuple[Tensor, None]:
        """dH / dz = -p (log p + H)."""
        logits_NV, normaliser_N, entropy_N = ctx.saved_tensors
        logprobs_NV = logits_NV - normaliser_N[:, None]
        return -gradient_N[:, None] * logprobs_NV.exp() * (logprobs_NV + entropy_N[:, None]), None


class Policy:
    """A causal language model of `transformers` and its tokenizer."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, compute_dtype: torch.dtype | None = None
    ) -> None:
        """Take a loaded model; raise ModelError where its head is more than a matrix product.

        `compute_dtype` is the precision of matrix products, by default that of the weights.
        """
        # Dropout stays off while training: the ratio of policy to old policy must be exactly 1 at the first update.
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.compute_dtype = compute_dtype or model.dtype
        self.tokenizer_files = _files_of(tokenizer)
        """What a checkpoint holds of the tokenizer, by file name."""
        self._refuse_unusual_heads()

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
    def vocab_size(self) -> int:
        """Logits of each position; may be more than the tokenizer has entries."""
        return self.head.weight.shape[0]

    def token_stats(self, token_ids_BT: Tensor, completion_mask_BT: Tensor, *, temperature: float) -> TokenStats:
        """Logprobs and entropies of the tokens under the mask, at a sampling temperature.

        Rows are right-padded, so a causal network needs no padding mask: nothing that counts comes after a pad.
        Position 0 has no prefix and can't be under the mask. Tensors may come from any device; the figures are on the
        policy's own.
        """
        with self._precision():
            return self._token_stats(
                token_ids_BT.to(self.device), completion_mask_BT.to(self.device), temperature=temperature
            )

    def _precision(self) -> AbstractContextManager:
        """Matrix products in the compute precision, from copies of the weights where those are kept in another."""
        if self.compute_dtype == self.model.dtype:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute_dtype)

    def _token_stats(self, token_ids_BT: Tensor, completion_mask_BT: Tensor, *, temperature: float) -> TokenStats:
        hidden_BTD = self.backbone(input_ids=token_ids_BT, use_cache=False).last_hidden_state
        predicts_BT = completion_mask_BT[:, 1:]
        hidden_ND = hidden_BTD[:, :-1][predicts_BT]
        targets_N = token_ids_BT[:, 1:][predicts_BT]
        rows_per_chunk = max(1, MAX_LOGITS_PER_CHUNK // self.vocab_size)
        parts = [
            self._head_stats(
                hidden_ND[start : start + rows_per_chunk], targets_N[start : start + rows_per_chunk], temperature
            )
            for start in range(0, max(1, len(targets_N)), rows_per_chunk)
        ]
        logprobs_N = torch.cat([logprobs for logprobs, _ in parts])
        entropy_N = torch.cat([entropy for _, entropy in parts])
        empty_BT = torch.zeros(completion_mask_BT.shape, dtype=torch.float32, device=token_ids_BT.device)
        return TokenStats(
            logprobs_BT=empty_BT.masked_scatter(completion_mask_BT, logprobs_N),
            live_entropy_BT=empty_BT.masked_scatter(completion_mask_BT, entropy_N),
        )

    def load_weights(self, other: "Policy") -> None:
        """Copy the weights of another policy of the same shape."""
        self.model.load_state_dict(other.model.state_dict())

    def converted(self, dtype: torch.dtype) -> "Policy":
        """A copy whose weights, and nothing else, are in another precision; it can't be trained.

        Not `model.to(dtype)`: that rounds the rotary embedding's frequencies too, which stay float32 in every network
        that was loaded in bfloat16.
        """
        memo = {id(p): nn.Parameter(p.detach().to(dtype), requires_grad=False) for p in self.model.parameters()}
        return Policy(deepcopy(self.model, memo), self.tokenizer, compute_dtype=dtype)

    def num_parameters(self) -> int:
        """Parameters of the network, tied ones counted once."""
        return self.model.num_parameters()

    def _head_stats(self, hidden_ND: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled() and len(hidden_ND) * self.vocab_size > RECOMPUTED_ABOVE:
            return checkpoint(self._head_chunk, hidden_ND, targets_N, temperature, use_reentrant=False)
        return self._head_chunk(hidden_ND, targets_N, temperature)

    def _head_chunk(self, hidden_ND: Tensor, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        logits_NV = self.head(hidden_ND).float() / temperature
        normaliser_N = logits_NV.logsumexp(-1)
        logprobs_N = logits_NV.gather(-1, targets_N[:, None])[:, 0] - normaliser_N
        return logprobs_N, Entropy.apply(logits_NV, normaliser_N.detach())

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


def _files_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, bytes]:
    """The tokenizer as it is saved; made once, since it never changes, and since its own writer hides a full disk."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
