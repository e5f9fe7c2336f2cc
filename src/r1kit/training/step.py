"""One optimizer step: the only `.backward()` in the repository. What differs between stages is the loss function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from r1kit.models.policy import Policy, TokenStats
from r1kit.training.batch import Batch
from r1kit.training.memory import recomputes_layers, return_free_memory, tokens_within_budget
from r1kit.training.optimizer import Optimizer

LossFn = Callable[[TokenStats, Batch], tuple[Tensor, Mapping[str, Tensor]]]
"""A weighted sum over the microbatch's tokens, and per-token figures (B, T) to watch."""


@dataclass(frozen=True, slots=True)
class Update:
    """What one optimizer step did."""

    loss: float
    grad_norm: float
    """Before the clip."""
    watched: Mapping[str, float]
    """Means over the tokens that trained."""


def optimizer_step(
    policy: Policy,
    optimizer: Optimizer,
    minibatch: Batch,
    loss_fn: LossFn,
    *,
    temperature: float,
    max_tokens_per_microbatch: int,
) -> Update:
    """Add up `loss_fn` over the microbatches of one minibatch, then step once.

    The loss is a weighted sum over tokens, and the weights were fixed for the whole minibatch, so the cut into
    microbatches can't change it.
    """
    total_loss, sums, num_tokens = 0.0, dict[str, float](), 0
    for microbatch in minibatch.microbatches(tokens_within_budget(policy, max_tokens_per_microbatch)):
        microbatch = microbatch.to(policy.device)
        num_recomputed = recomputes_layers(policy, microbatch.token_ids_BT.shape[1])
        if num_recomputed:
            return_free_memory()  # blocks of other sizes, left by the microbatch before, are of no use to a long row
        stats = policy.token_stats(
            microbatch.token_ids_BT,
            microbatch.completion_mask_BT,
            temperature=temperature,
            recomputes_layers=num_recomputed,
        )
        loss, watched = loss_fn(stats, microbatch)
        total_loss += add_gradient(loss)
        num_tokens += int(microbatch.completion_mask_BT.sum())
        gap_BT = sampler_gap(stats, microbatch)
        for name, figure_BT in {**watched, "entropy": stats.entropy_BT, "logprob_gap": gap_BT}.items():
            total = figure_BT[microbatch.completion_mask_BT].sum()
            sums[name] = sums.get(name, 0.0) + float(total)
        sums["logprob_gap_max"] = max(sums.get("logprob_gap_max", 0.0), float(gap_BT.max()))
    grad_norm = optimizer.step()
    means = {name: total / max(1, num_tokens) for name, total in sums.items() if name != "logprob_gap_max"}
    return Update(loss=total_loss, grad_norm=grad_norm, watched=means | {"logprob_gap_max": sums["logprob_gap_max"]})


def add_gradient(loss: Tensor) -> float:
    """Add the gradient of a loss to those of all weights that it hangs on; returns the loss."""
    loss.backward()
    return float(loss.detach())


def sampler_gap(stats: TokenStats, batch: Batch) -> Tensor:
    """|trainer - sampler| of each token's logprob (B, T), both at the weights that sampled.

    After the first of several steps the policy has moved, so its old logprobs are compared; where those were taken from
    the sampler itself, only the first step's figure tells anything.
    """
    old_BT, sampler_BT = batch.old_logprobs_BT, batch.sampler_logprobs_BT
    is_own = old_BT is not None and not torch.equal(old_BT, sampler_BT)
    trainer_BT = old_BT if old_BT is not None and is_own else stats.logprobs_BT.detach()
    return (trainer_BT - sampler_BT).abs() * batch.completion_mask_BT


@torch.no_grad()
def batch_logprobs(policy: Policy, batch: Batch, *, temperature: float, max_tokens_per_microbatch: int) -> Tensor:
    """The policy's logprobs (B, T) of a whole batch, without gradient."""
    logprobs_BT = torch.zeros(batch.token_ids_BT.shape)
    for rows in batch.row_groups(max_tokens_per_microbatch):
        part = batch.select(rows)
        stats = policy.token_stats(part.token_ids_BT, part.completion_mask_BT, temperature=temperature)
        logprobs_BT[rows, : stats.logprobs_BT.shape[1]] = stats.logprobs_BT.cpu()
    return logprobs_BT
