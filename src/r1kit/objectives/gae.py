"""Advantages of single tokens from a value model: generalised advantage estimation (arXiv:1506.02438).

B: completions   T: token positions, padded; tokens of one completion may have others between them that are not sampled
"""

import torch
from torch import Tensor


def token_rewards(rewards_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, *, kl_coef: float) -> Tensor:
    """-β · KL at each token under the mask, and the completion's reward at the last (B, T).

    arXiv:2402.03300, equation 2. Rows without a token under the mask have no reward.
    """
    positions_T = torch.arange(1, mask_BT.shape[1] + 1, device=mask_BT.device)
    last_B = (mask_BT * positions_T).amax(-1)
    is_last_BT = mask_BT & (positions_T == last_B[:, None])
    return torch.where(is_last_BT, rewards_B[:, None], 0.0) - kl_coef * kl_BT * mask_BT


def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns (B, T), both exactly 0 outside the mask.

    A_t = Σ_l (γλ)^l δ_{t+l} with δ_t = r_t + γ V_{t+1} - V_t and V = 0 after the last token; the return is A + V.
    With γ = λ = 1 that is A_t = Σ_{s≥t} r_s - V_t. Tokens outside the mask are stepped over as if they were not there:
    neither their rewards nor their values count, and nothing is discounted on the way.
    """
    advantages_BT = torch.zeros_like(values_BT)
    ahead_B, next_value_B = torch.zeros_like(values_BT[:, 0]), torch.zeros_like(values_BT[:, 0])
    for position in range(values_BT.shape[1] - 1, -1, -1):
        counts_B, value_B = mask_BT[:, position], values_BT[:, position]
        delta_B = rewards_BT[:, position] + gamma * next_value_B - value_B
        ahead_B = torch.where(counts_B, delta_B + gamma * lam * ahead_B, ahead_B)
        next_value_B = torch.where(counts_B, value_B, next_value_B)
        advantages_BT[:, position] = torch.where(counts_B, ahead_B, 0.0)
    return advantages_BT, torch.where(mask_BT, advantages_BT + values_BT, 0.0)


def whitened(advantages_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(A - mean) / std over all tokens under the mask, 0 outside it, and 0 everywhere where they are all equal."""
    found_N = advantages_BT[mask_BT]
    if not len(found_N) or bool((found_N == found_N[0]).all()):
        return torch.zeros_like(advantages_BT)
    return torch.where(mask_BT, (advantages_BT - found_N.mean()) / found_N.std(correction=0), 0.0)
