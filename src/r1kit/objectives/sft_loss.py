"""Supervised fine-tuning: the negative log-likelihood of the example's completion.

B: examples   T: token positions, padded
"""

from torch import Tensor


def sft_loss(logprobs_BT: Tensor, *, token_weights_BT: Tensor) -> Tensor:
    """-Σ w · log p of the completion tokens; with token-mean weights this is the usual cross-entropy."""
    return -(logprobs_BT * token_weights_BT).sum()
