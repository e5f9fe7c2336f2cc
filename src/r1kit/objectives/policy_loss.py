"""What an update maximises: one pure function an objective, from log-ratios and advantages to a value for each token.

B: completions   T: token positions, padded; where no token was sampled, the weight is 0 and all logprobs are 0
"""

import torch
from torch import Tensor

from r1kit.objectives.kl import kl_k3
from r1kit.objectives.ratios import sequence_mean_log_ratio, token_log_ratio


def clipped_surrogate(
    log_ratio_BT: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float, dual_clip: float | None = None
) -> Tensor:
    """min(ratio · A, clip(ratio, 1 - clip_low, 1 + clip_high) · A) of each token (B, T), to be maximised.

    arXiv:2402.03300, equation 3; asymmetric clips are DAPO's (arXiv:2503.14476). With R1's clip of 10 the lower bound
    never binds, so negative advantages are never clipped, unless by `dual_clip`: then, where A < 0, the value is at
    least dual_clip · A (arXiv:1912.09729, equation 5). Advantages are of completions (B,)
    or, for PPO, of tokens (B, T).
    """
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    advantages_B1 = _for_tokens(advantages)
    surrogate_BT = torch.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)
    if dual_clip is None:
        return surrogate_BT
    return torch.where(advantages_B1 < 0, torch.maximum(surrogate_BT, dual_clip * advantages_B1), surrogate_BT)


def clipped_tokens(
    log_ratio_BT: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float, dual_clip: float | None = None
) -> Tensor:
    """1 for tokens whose gradient `clipped_surrogate` takes away (B, T)."""
    ratio_BT, advantages_B1 = log_ratio_BT.exp(), _for_tokens(advantages)
    too_high_BT = (ratio_BT > 1 + clip_high) & (advantages_B1 > 0)
    too_low_BT = (ratio_BT < 1 - clip_low) & (advantages_B1 < 0)
    if dual_clip is not None:
        too_high_BT = too_high_BT | ((ratio_BT > dual_clip) & (advantages_B1 < 0))
    return (too_high_BT | too_low_BT).to(ratio_BT.dtype)


def _for_tokens(advantages: Tensor) -> Tensor:
    return advantages if advantages.ndim == 2 else advantages[:, None]


def cispo_surrogate(
    logprobs_BT: Tensor, log_ratio_BT: Tensor, advantages_B: Tensor, *, cap: float, floor: float = 0.0
) -> Tensor:
    """sg[clip(ratio, floor, cap)] · A · logprob of each token (B, T), to be maximised: CISPO (arXiv:2506.13585, eq. 4).

    The weight is clipped, not the token: every token keeps a gradient. `cap` is the largest weight itself, as in TRL;
    where verl and the paper write 1 + ε_high, the cap is 1 + ε_high.
    """
    return log_ratio_BT.detach().exp().clamp(floor, cap) * advantages_B[:, None] * logprobs_BT


def reinforce_surrogate(logprobs_BT: Tensor, advantages_B: Tensor) -> Tensor:
    """A · logprob of each token (B, T), to be maximised: REINFORCE, without a ratio; right only on-policy."""
    return advantages_B[:, None] * logprobs_BT


def gmpo_surrogate(
    log_ratio_BT: Tensor, advantages_B: Tensor, mask_BT: Tensor, *, log_clip_low: float, log_clip_high: float
) -> Tensor:
    """The geometric mean of clipped token ratios · A (B, T), to be maximised: GMPO (arXiv:2507.20673, equation 4).

    Each log-ratio is clipped on the side that A favours before the mean, so one wild token can't move the completion.
    """
    advantages_B1 = advantages_B[:, None]
    held_BT = torch.where(advantages_B1 > 0, log_ratio_BT.clamp(max=log_clip_high), log_ratio_BT)
    held_BT = torch.where(advantages_B1 < 0, held_BT.clamp(min=-log_clip_low), held_BT)
    return sequence_mean_log_ratio(held_BT, mask_BT).exp() * advantages_B1


def sapo_surrogate(
    log_ratio_BT: Tensor, advantages_B: Tensor, *, temperature_positive: float, temperature_negative: float
) -> Tensor:
    """4/τ · sigmoid(τ (ratio - 1)) · A of each token (B, T), to be maximised: SAPO (arXiv:2511.20347).

    A soft gate instead of a clip: at ratio 1 the gradient is A, and it fades as the ratio leaves 1 on either side.
    """
    advantages_B1 = advantages_B[:, None]
    temperature_B1 = torch.full_like(advantages_B1, temperature_positive).where(advantages_B1 > 0, temperature_negative)
    gate_BT = torch.sigmoid(temperature_B1 * (log_ratio_BT.exp() - 1)) * 4 / temperature_B1
    return gate_BT * advantages_B1


def weighted_loss(
    surrogate_BT: Tensor,
    *,
    token_weights_BT: Tensor,
    kl_BT: Tensor | None = None,
    kl_coef: float = 0.0,
    entropy_BT: Tensor | None = None,
    entropy_coef: float = 0.0,
) -> Tensor:
    """-Σ w (surrogate - kl_coef · KL + entropy_coef · entropy): every term has its token's weight.

    The KL term stands inside the loss, not in the reward, where it would punish length (arXiv:2501.12948v2, A.3).
    """
    objective_BT = surrogate_BT if kl_BT is None else surrogate_BT - kl_coef * kl_BT
    if entropy_BT is not None:
        objective_BT = objective_BT + entropy_coef * entropy_BT
    return -(objective_BT * token_weights_BT).sum()


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
    """Minus the GRPO objective, whole, as it is printed (arXiv:2402.03300, equation 3), and what to watch (B, T)."""
    log_ratio_BT = token_log_ratio(logprobs_BT, old_logprobs_BT)
    surrogate_BT = clipped_surrogate(log_ratio_BT, advantages_B, clip_low=clip_low, clip_high=clip_high)
    watched = {
        "clip_share": clipped_tokens(log_ratio_BT.detach(), advantages_B, clip_low=clip_low, clip_high=clip_high)
    }
    if reference_logprobs_BT is None:
        return weighted_loss(surrogate_BT, token_weights_BT=token_weights_BT), watched
    kl_BT = kl_k3(logprobs_BT, reference_logprobs_BT)
    loss = weighted_loss(surrogate_BT, token_weights_BT=token_weights_BT, kl_BT=kl_BT, kl_coef=kl_coef)
    return loss, watched | {"kl": kl_BT.detach()}
