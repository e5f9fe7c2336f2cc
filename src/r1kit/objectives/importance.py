"""What another sampler than our own costs: weights that make its completions count as the old policy's.

Three policies: the sampler drew the completions (an engine, other kernels, another precision), the old policy is the
trainer's at the same weights, the policy is what the updates make of it. The objective's ratio is policy / old policy;
the weights here are old policy / sampler, and exactly 1 where the sampler's logprobs are the old ones.

B: completions   T: token positions   mask: True where a token was sampled
"""

import torch
from torch import Tensor


def truncated_weights(log_ratio_BT: Tensor, *, cap: float) -> tuple[Tensor, Tensor]:
    """min(ratio, cap) of each token (B, T), without gradient, and 1 where the cap held: truncated importance sampling.

    The log-ratio says of what: of the token (low variance, biased), or of the whole completion (unbiased but for the
    cap).
    """
    ratio_BT = log_ratio_BT.detach().exp()
    return ratio_BT.clamp(max=cap), (ratio_BT > cap).to(ratio_BT.dtype)


def masked_weights(log_ratio_BT: Tensor, *, low: float, high: float) -> tuple[Tensor, Tensor]:
    """The ratio of each token inside [low, high], 0 outside (B, T), and 1 where it is 0: masked importance sampling.

    What the two disagree on wildly does not train at all; with a token's ratio this is IcePop.
    """
    ratio_BT = log_ratio_BT.detach().exp()
    cut_BT = (ratio_BT < low) | (ratio_BT > high)
    return ratio_BT.masked_fill(cut_BT, 0.0), cut_BT.to(ratio_BT.dtype)


def off_policy_mask(
    logprobs_BT: Tensor, sampler_logprobs_BT: Tensor, advantages_B: Tensor, mask_BT: Tensor, *, delta: float
) -> Tensor:
    """0 for completions to be left out, else 1 (B, 1): DeepSeek-V3.2's off-policy sequence mask (arXiv:2512.02556).

    Left out is a completion of negative advantage that the policy has gone away from: the mean over its tokens of
    log (sampler / policy) exceeds `delta`.
    """
    gone_BT = torch.where(mask_BT, sampler_logprobs_BT - logprobs_BT.detach(), 0.0)
    gone_B1 = gone_BT.sum(-1, keepdim=True) / mask_BT.sum(-1, keepdim=True).clamp_min(1)
    return 1 - ((advantages_B[:, None] < 0) & (gone_B1 > delta)).to(logprobs_BT.dtype)
