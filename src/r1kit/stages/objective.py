"""From a recipe's settings to the functions of `objectives/`: which advantage, which loss, which token weights.

P: problems   G: completions a problem   B: completions   T: token positions
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from r1kit.config.objective import (
    CISPOObjective,
    ClippedObjective,
    GMPOObjective,
    GRPOObjective,
    MaskedCorrection,
    ReinforceObjective,
    SAPOObjective,
    TruncatedCorrection,
)
from r1kit.models.policy import TokenStats
from r1kit.objectives import advantages, importance, kl, policy_loss, ratios, token_weights
from r1kit.recipe import ZeroRecipe
from r1kit.training.batch import Batch

Surrogate = tuple[Tensor, Tensor]
"""What each token adds to the objective, and 1 for tokens whose gradient or weight was clipped; both (B, T)."""

ADVANTAGES: dict[str, Callable[..., Tensor]] = {
    "group_norm": advantages.group_norm_advantages,
    "group_mean": advantages.group_mean_advantages,
    "rloo": advantages.rloo_advantages,
    "reinforce_plus_plus": advantages.reinforce_plus_plus_advantages,
    "reinforce_plus_plus_baseline": advantages.reinforce_plus_plus_baseline_advantages,
}
RATIOS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "token": lambda log_ratio_BT, _: log_ratio_BT.clamp(-kl.MAX_LOG_RATIO, kl.MAX_LOG_RATIO),
    "sequence": ratios.sequence_log_ratio,
    "sequence_mean": ratios.sequence_mean_log_ratio,
}
KL_ESTIMATORS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "k1": lambda new_BT, reference_BT, _: kl.kl_k1(new_BT, reference_BT),
    "k2": lambda new_BT, reference_BT, _: kl.kl_k2(new_BT, reference_BT),
    "k3": lambda new_BT, reference_BT, _: kl.kl_k3(new_BT, reference_BT),
    "k3_corrected": lambda new_BT, reference_BT, old_BT: kl.kl_k3_corrected(
        new_BT, reference_BT, log_ratio_BT=ratios.token_log_ratio(new_BT, old_BT)
    ),
    "k3_straight": lambda new_BT, reference_BT, _: kl.kl_k3_straight(new_BT, reference_BT),
}
WEIGHINGS: dict[str, Callable[..., Tensor]] = {
    "sequence_mean": lambda mask_BT, _: token_weights.sequence_mean(mask_BT),
    "token_mean": lambda mask_BT, _: token_weights.token_mean(mask_BT),
    "constant_length": lambda mask_BT, limit: token_weights.constant_length(mask_BT, max_new_tokens=limit),
}


def objective_loss(recipe: ZeroRecipe, stats: TokenStats, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Minus the recipe's objective on one microbatch, as a weighted sum over tokens, and what to watch (B, T)."""
    objective, logprobs_BT = recipe.objective, stats.logprobs_BT
    # With one update an iteration the old policy is this one: its ratio is exactly 1, and has a gradient.
    old_BT = logprobs_BT.detach() if batch.old_logprobs_BT is None else batch.old_logprobs_BT
    surrogate_BT, clipped_BT = SURROGATES[objective.kind](objective, logprobs_BT, old_BT, batch)
    watched = {"clip_share": clipped_BT}
    if recipe.correction.kind != "none":
        weights_BT, cut_BT = sampler_weights(recipe, old_BT, batch)
        surrogate_BT = surrogate_BT * weights_BT
        watched |= {"importance": weights_BT, "importance_squared": weights_BT**2, "importance_cut_share": cut_BT}
    if objective.off_policy_delta is not None:
        kept_BT = _kept_on_policy(objective.off_policy_delta, logprobs_BT, batch)
        surrogate_BT = surrogate_BT * kept_BT
        watched["off_policy_share"] = 1 - kept_BT
    kl_BT = None
    if batch.reference_logprobs_BT is not None:
        kl_BT = KL_ESTIMATORS[objective.kl_estimator](logprobs_BT, batch.reference_logprobs_BT, old_BT)
        watched["kl"] = kl_BT.detach()
    loss = policy_loss.weighted_loss(
        surrogate_BT,
        token_weights_BT=batch.token_weights_BT,
        kl_BT=kl_BT,
        kl_coef=objective.kl_coef,
        entropy_BT=stats.live_entropy_BT if objective.entropy_coef > 0 else None,
        entropy_coef=objective.entropy_coef,
    )
    return loss, watched


def sampler_weights(recipe: ZeroRecipe, old_logprobs_BT: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The correction's weight of each token, and 1 where it was cut (B, T): old policy against sampler."""
    correction = recipe.correction
    if isinstance(correction, TruncatedCorrection):
        weigh = partial(importance.truncated_weights, cap=correction.cap)
    elif isinstance(correction, MaskedCorrection):
        weigh = partial(importance.masked_weights, low=correction.low, high=correction.high)
    else:
        ones_BT = torch.ones_like(old_logprobs_BT)
        return ones_BT, torch.zeros_like(ones_BT)
    log_ratio_BT = old_logprobs_BT.detach() - batch.sampler_logprobs_BT
    return weigh(RATIOS[correction.level](log_ratio_BT, batch.completion_mask_BT))


def token_weigher(recipe: ZeroRecipe, *, max_new_tokens: int) -> Callable[[Tensor], Tensor]:
    """From the completion mask of a whole minibatch to token weights; the limit is the one in force."""
    return lambda mask_BT: WEIGHINGS[recipe.token_weights.kind](mask_BT, max_new_tokens)


def _kept_on_policy(delta: float, logprobs_BT: Tensor, batch: Batch) -> Tensor:
    kept_B1 = importance.off_policy_mask(
        logprobs_BT, batch.sampler_logprobs_BT, batch.advantages_B, batch.completion_mask_BT, delta=delta
    )
    return kept_B1.expand_as(logprobs_BT)


def _clipped(objective: ClippedObjective, logprobs_BT: Tensor, old_BT: Tensor, batch: Batch) -> Surrogate:
    level = objective.ratio if isinstance(objective, GRPOObjective) else "sequence_mean"
    log_ratio_BT = RATIOS[level](logprobs_BT - old_BT, batch.completion_mask_BT)
    low, high, dual = objective.clip_eps, objective.clip_high, objective.dual_clip
    clipped = partial(policy_loss.clipped_surrogate, clip_low=low, clip_high=high, dual_clip=dual)
    counted = partial(policy_loss.clipped_tokens, clip_low=low, clip_high=high, dual_clip=dual)
    advantages = batch.advantages_B if batch.advantages_BT is None else batch.advantages_BT
    return clipped(log_ratio_BT, advantages), counted(log_ratio_BT.detach(), advantages)


def _cispo(objective: CISPOObjective, logprobs_BT: Tensor, old_BT: Tensor, batch: Batch) -> Surrogate:
    log_ratio_BT = ratios.token_log_ratio(logprobs_BT, old_BT)
    ratio_BT = log_ratio_BT.detach().exp()
    surrogate_BT = policy_loss.cispo_surrogate(
        logprobs_BT, log_ratio_BT, batch.advantages_B, cap=objective.cap, floor=objective.floor
    )
    return surrogate_BT, ((ratio_BT > objective.cap) | (ratio_BT < objective.floor)).to(ratio_BT.dtype)


def _reinforce(objective: ReinforceObjective, logprobs_BT: Tensor, old_BT: Tensor, batch: Batch) -> Surrogate:
    return policy_loss.reinforce_surrogate(logprobs_BT, batch.advantages_B), torch.zeros_like(old_BT)


def _gmpo(objective: GMPOObjective, logprobs_BT: Tensor, old_BT: Tensor, batch: Batch) -> Surrogate:
    log_ratio_BT, advantages_B1 = logprobs_BT - old_BT, batch.advantages_B[:, None]
    clip = {"log_clip_low": objective.log_clip_low, "log_clip_high": objective.log_clip_high}
    surrogate_BT = policy_loss.gmpo_surrogate(log_ratio_BT, batch.advantages_B, batch.completion_mask_BT, **clip)
    too_high_BT = (log_ratio_BT > objective.log_clip_high) & (advantages_B1 > 0)
    too_low_BT = (log_ratio_BT < -objective.log_clip_low) & (advantages_B1 < 0)
    return surrogate_BT, (too_high_BT | too_low_BT).to(logprobs_BT.dtype)


def _sapo(objective: SAPOObjective, logprobs_BT: Tensor, old_BT: Tensor, batch: Batch) -> Surrogate:
    temperatures = {
        "temperature_positive": objective.temperature_positive,
        "temperature_negative": objective.temperature_negative,
    }
    log_ratio_BT = ratios.token_log_ratio(logprobs_BT, old_BT)
    surrogate_BT = policy_loss.sapo_surrogate(log_ratio_BT, batch.advantages_B, **temperatures)
    return surrogate_BT, torch.zeros_like(old_BT)


SURROGATES: dict[str, Callable[..., Surrogate]] = {
    "grpo": _clipped,
    "gspo": _clipped,
    "cispo": _cispo,
    "reinforce": _reinforce,
    "gmpo": _gmpo,
    "sapo": _sapo,
}
