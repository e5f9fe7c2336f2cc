"""How much each completion token counts in the loss: pure functions from a mask to weights.

The weights are made for a whole minibatch before it is cut into microbatches, so no cut can change the loss.

B: completions   T: token positions, padded
"""

from torch import Tensor


def sequence_mean(completion_mask_BT: Tensor) -> Tensor:
    """Every completion counts the same, whatever its length (B, T): GRPO (arXiv:2402.03300, equation 3).

    All rows share the weight, empty ones included, so an empty completion lowers the sum (as in TRL, unlike verl).
    """
    lengths_B1 = completion_mask_BT.sum(-1, keepdim=True).clamp_min(1)
    return completion_mask_BT / lengths_B1 / len(completion_mask_BT)


def token_mean(completion_mask_BT: Tensor) -> Tensor:
    """Every token counts the same, so long completions weigh more (B, T): DAPO (arXiv:2503.14476)."""
    return completion_mask_BT / completion_mask_BT.sum().clamp_min(1)


def constant_length(completion_mask_BT: Tensor, *, max_new_tokens: int) -> Tensor:
    """Every token counts 1 / (B x max_new_tokens), whatever was sampled (B, T): Dr. GRPO (arXiv:2503.20783)."""
    return completion_mask_BT / (len(completion_mask_BT) * max_new_tokens)
