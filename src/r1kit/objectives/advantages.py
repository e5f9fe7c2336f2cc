"""How much better a completion is than its siblings.

P: problems in an iteration   G: completions a problem
"""

import torch
from torch import Tensor


def group_mean_advantages(rewards_PG: Tensor) -> Tensor:
    """r - mean over each group (P, G): Dr. GRPO (arXiv:2503.20783).

    A group whose rewards are all equal gets exactly 0, whatever the rounding of its mean.
    """
    centred_PG = rewards_PG - rewards_PG.mean(-1, keepdim=True)
    return torch.where(has_variance(rewards_PG)[:, None], centred_PG, 0.0)


def group_norm_advantages(rewards_PG: Tensor) -> Tensor:
    """(r - mean) / std over each group (P, G): GRPO (arXiv:2402.03300, section 4.1.2).

    The papers leave the kind of std open; this is the population's, so that binary rewards with a share p right give
    exactly sqrt((1 - p) / p) and -sqrt(p / (1 - p)). Equality is detected on the rewards, before dividing: in float32
    the std of sixteen equal 0.1s is not 0.
    """
    std_P1 = rewards_PG.std(-1, keepdim=True, correction=0)
    centred_PG = group_mean_advantages(rewards_PG)
    return torch.where(has_variance(rewards_PG)[:, None], centred_PG / std_P1, 0.0)


def has_variance(rewards_PG: Tensor) -> Tensor:
    """True (P,) for groups in which at least two rewards differ."""
    return (rewards_PG != rewards_PG[:, :1]).any(-1)
