"""What a value model minimises.

B: completions   T: token positions, padded; the weight is 0 where no token was sampled
"""

import torch
from torch import Tensor


def value_loss(
    values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, token_weights_BT: Tensor, *, clip: float | None
) -> Tensor:
    """½ Σ w max((V - R)², (clip(V, V_old - c, V_old + c) - R)²): PPO's (arXiv:2005.12729, section 3).

    The larger of the two: a value that has left the range gets no more gradient unless it went away from the return.
    `clip` None: the squared error alone.
    """
    error_BT = (values_BT - returns_BT) ** 2
    if clip is not None:
        held_BT = old_values_BT + (values_BT - old_values_BT).clamp(-clip, clip)
        error_BT = torch.maximum(error_BT, (held_BT - returns_BT) ** 2)
    return 0.5 * (error_BT * token_weights_BT).sum()


def clipped_values(values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, *, clip: float | None) -> Tensor:
    """1 for tokens whose gradient the clip takes away (B, T)."""
    if clip is None:
        return torch.zeros_like(values_BT)
    held_BT = old_values_BT + (values_BT - old_values_BT).clamp(-clip, clip)
    is_out_BT = (values_BT - old_values_BT).abs() > clip
    return (is_out_BT & ((held_BT - returns_BT) ** 2 >= (values_BT - returns_BT) ** 2)).to(values_BT.dtype)


def explained_variance(values_N: Tensor, returns_N: Tensor) -> float:
    """1 - Var(R - V) / Var(R): 1 for a perfect value model, 0 for a constant one; 0 where returns don't vary."""
    variance = float(returns_N.double().var(correction=0)) if len(returns_N) else 0.0
    return 1 - float((returns_N.double() - values_N.double()).var(correction=0)) / variance if variance else 0.0
