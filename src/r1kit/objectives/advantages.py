"""How much better a completion is than its siblings, or than the whole iteration.

Every function takes the rewards and, where some of them are not known, which are: an unknown one counts in no mean
and no deviation, and its own advantage is exactly 0.

P: problems in an iteration   G: completions a problem
"""

import torch
from torch import Tensor


def group_mean_advantages(rewards_PG: Tensor, known_PG: Tensor | None = None) -> Tensor:
    """r - mean over each group (P, G): Dr. GRPO (arXiv:2503.20783).

    A group whose rewards are all equal gets exactly 0, whatever the rounding of its mean.
    """
    centred_PG = rewards_PG - _mean(rewards_PG, known_PG)
    return _kept(centred_PG, has_variance(rewards_PG, known_PG)[:, None], known_PG)


def group_norm_advantages(rewards_PG: Tensor, known_PG: Tensor | None = None) -> Tensor:
    """(r - mean) / std over each group (P, G): GRPO (arXiv:2402.03300, section 4.1.2).

    The papers leave the kind of std open; this is the population's, so that binary rewards with a share p right give
    exactly sqrt((1 - p) / p) and -sqrt(p / (1 - p)). Equality is detected on the rewards, before dividing: in float32
    the std of sixteen equal 0.1s is not 0.
    """
    std_P1 = _std(rewards_PG, known_PG)
    centred_PG = group_mean_advantages(rewards_PG, known_PG)
    return _kept(centred_PG / std_P1, has_variance(rewards_PG, known_PG)[:, None], known_PG)


def rloo_advantages(rewards_PG: Tensor, known_PG: Tensor | None = None) -> Tensor:
    """r - the mean of its siblings' rewards, itself left out (P, G): RLOO (arXiv:2402.14740).

    The same as n / (n - 1) (r - mean) over the group's n known rewards; the only one of a group gets 0.
    """
    num_P1 = torch.full_like(rewards_PG, 1.0) if known_PG is None else known_PG.to(rewards_PG.dtype)
    num_P1 = num_P1.sum(-1, keepdim=True)
    return group_mean_advantages(rewards_PG, known_PG) * (num_P1 / (num_P1 - 1).clamp_min(1))


def reinforce_plus_plus_advantages(rewards_PG: Tensor, known_PG: Tensor | None = None) -> Tensor:
    """(r - mean) / std over all completions of the iteration (P, G): REINFORCE++ (arXiv:2501.03262).

    Groups of equal rewards have an advantage here, unless all rewards of the iteration are equal. The std is the
    population's, and every completion counts once; peers weigh each by its length.
    """
    return group_norm_advantages(*_as_one_group(rewards_PG, known_PG)).view_as(rewards_PG)


def reinforce_plus_plus_baseline_advantages(rewards_PG: Tensor, known_PG: Tensor | None = None) -> Tensor:
    """(r - mean over the group) / std over the iteration of those differences (P, G): REINFORCE++-baseline.

    arXiv:2501.03262, its variant for several completions a problem. Groups of equal rewards get exactly 0, and
    count in the std, as all completions do.
    """
    centred_PG = group_mean_advantages(rewards_PG, known_PG)
    num = rewards_PG.numel() if known_PG is None else known_PG.sum().clamp_min(1)
    std = ((centred_PG**2).sum() / num).sqrt()
    return torch.where(centred_PG != 0, centred_PG / std, 0.0)


def has_variance(rewards_PG: Tensor, known_PG: Tensor | None = None) -> Tensor:
    """True (P,) for groups in which at least two known rewards differ."""
    known_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if known_PG is None else known_PG
    highest_P = rewards_PG.masked_fill(~known_PG, -torch.inf).amax(-1)
    return known_PG.any(-1) & (highest_P != rewards_PG.masked_fill(~known_PG, torch.inf).amin(-1))


def _as_one_group(rewards_PG: Tensor, known_PG: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return rewards_PG.reshape(1, -1), None if known_PG is None else known_PG.reshape(1, -1)


def _mean(rewards_PG: Tensor, known_PG: Tensor | None) -> Tensor:
    """The mean of each row (P, 1); 0 where nothing is known."""
    if known_PG is None:
        return rewards_PG.mean(-1, keepdim=True)
    return rewards_PG.where(known_PG, 0.0).sum(-1, keepdim=True) / known_PG.sum(-1, keepdim=True).clamp_min(1)


def _std(rewards_PG: Tensor, known_PG: Tensor | None) -> Tensor:
    """The population's standard deviation of each row (P, 1)."""
    if known_PG is None:
        return rewards_PG.std(-1, keepdim=True, correction=0)
    return _mean((rewards_PG - _mean(rewards_PG, known_PG)) ** 2, known_PG).sqrt()


def _kept(advantages_PG: Tensor, where_P1: Tensor, known_PG: Tensor | None) -> Tensor:
    return torch.where(where_P1 if known_PG is None else where_P1 & known_PG, advantages_PG, 0.0)
