"""The policy-gradient losses: pure functions of logprobs, advantages and token weights.

B: completions   T: token positions, padded; where no token was sampled, the weight is 0 and both logprobs are 0
"""

import torch
from torch import Tensor

from r1kit.objectives.kl import MAX_LOG_RATIO, kl_k3


def token_log_ratio(logprobs_BT: Tensor, old_logprobs_BT: Tensor) -> Tensor:
    """log (policy / old policy) of each token (B, T), clamped to ±20: the importance ratio of arXiv:2402.03300."""
    return (logprobs_BT - old_logprobs_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def clipped_surrogate(log_ratio_BT: Tensor, advantages_B: Tensor, *, clip_low: float, clip_high: float) -> Tensor:
    """min(ratio · A, clip(ratio, 1 - clip_low, 1 + clip_high) · A) of each token (B, T), to be maximised.

    arXiv:2402.03300, equation 3; asymmetric clips are DAPO's (arXiv:2503.14476). With R1's clip of 10 the lower bound
    never binds, so negative advantages are never clipped.
    """
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    advantages_B1 = advantages_B[:, None]
    return torch.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)


def grpo_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    *,
    advantages_B: Tensor,
    token_weights_BT: Tensor,
    reference_logprobs_BT: Tensor | None,
    clip_low: float,
    clip_high: float,
    kl_coef: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Minus the GRPO objective (arXiv:2402.03300, equation 3) as a weighted sum over tokens, and what to watch.

    The KL term stands inside the loss, not in the reward, where it would punish length (arXiv:2501.12948v2, A.3).
    """
    log_ratio_BT = token_log_ratio(logprobs_BT, old_logprobs_BT)
    objective_BT = clipped_surrogate(log_ratio_BT, advantages_B, clip_low=clip_low, clip_high=clip_high)
    watched = {"clip_share": _clipped(log_ratio_BT.detach(), advantages_B, clip_low=clip_low, clip_high=clip_high)}
    if reference_logprobs_BT is not None:
        kl_BT = kl_k3(logprobs_BT, reference_logprobs_BT)
        objective_BT = objective_BT - kl_coef * kl_BT
        watched["kl"] = kl_BT.detach()
    loss = -(objective_BT * token_weights_BT).sum()
    return loss, watched


def _clipped(log_ratio_BT: Tensor, advantages_B: Tensor, *, clip_low: float, clip_high: float) -> Tensor:
    """1 for tokens whose gradient the clip takes away (B, T)."""
    ratio_BT = log_ratio_BT.exp()
    too_high_BT = (ratio_BT > 1 + clip_high) & (advantages_B[:, None] > 0)
    too_low_BT = (ratio_BT < 1 - clip_low) & (advantages_B[:, None] < 0)
    return (too_high_BT | too_low_BT).to(ratio_BT.dtype)
