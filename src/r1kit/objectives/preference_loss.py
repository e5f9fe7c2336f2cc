"""What a reward model minimises: Bradley-Terry on pairs, or cross-entropy on single completions; and how good it is.

N: pairs or completions   Scores are logits; weights are shares of the whole minibatch and add up to 1.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid


def pairwise_loss(chosen_N: Tensor, rejected_N: Tensor, weights_N: Tensor) -> Tensor:
    """-Σ w log sigmoid(chosen - rejected): Bradley-Terry (arXiv:2203.02155, equation 1).

    R1's helpfulness model (arXiv:2501.12948v2, section 3.1). Equal scores cost log 2, and the gradient of a score is
    ∓w sigmoid(rejected - chosen). A constant added to all scores changes nothing.
    """
    return -(logsigmoid(chosen_N - rejected_N) * weights_N).sum()


def pointwise_loss(scores_N: Tensor, labels_N: Tensor, weights_N: Tensor) -> Tensor:
    """-Σ w (y log sigmoid(s) + (1 - y) log sigmoid(-s)), labels y in {0, 1}: binary cross-entropy.

    R1's safety model (arXiv:2501.12948v2, section 3.1), whose sigmoid is the probability of being safe.
    """
    return (binary_cross_entropy_with_logits(scores_N, labels_N, reduction="none") * weights_N).sum()


def expected_calibration_error(probabilities_N: Tensor, outcomes_N: Tensor, *, num_bins: int = 10) -> float:
    """Σ over bins of (share of N) |mean probability - share that came true| (arXiv:1706.04599, equation 3).

    Bins are of equal width; a probability of exactly 1 belongs to the last. 0 where there is nothing.
    """
    if not len(probabilities_N):
        return 0.0
    bins_N = (probabilities_N.double() * num_bins).long().clamp(0, num_bins - 1)
    gaps = torch.zeros(num_bins, dtype=torch.float64)
    gaps.index_add_(0, bins_N, probabilities_N.double() - outcomes_N.double())
    return float(gaps.abs().sum()) / len(probabilities_N)


def correlation(left_N: Tensor, right_N: Tensor) -> float:
    """Pearson's r; 0 where one of the two does not vary."""
    left_N, right_N = left_N.double() - left_N.double().mean(), right_N.double() - right_N.double().mean()
    norm = float(left_N.norm() * right_N.norm())
    return float((left_N * right_N).sum()) / norm if norm > 0 else 0.0
