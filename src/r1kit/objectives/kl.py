"""How far the policy has gone from the reference, estimated from the tokens that it sampled.

Each estimator is a value and, in a loss, a gradient; the two are different questions. d = log reference - log policy.

    name              value            its mean under the policy   mean of its gradient under the policy
    k1                -d               the KL                      0: in a loss it does nothing but shake
    k2                d² / 2           near the KL for small d     the KL's
    k3                exp(d) - d - 1   the KL, never negative      not the KL's; that of KL(reference || policy)
    k3_corrected      ratio · k3       the KL, off-policy too      the KL's, off-policy too
    k3_straight       that of k3       the KL, never negative      the KL's: that of k2

B: completions   T: token positions
"""

from torch import Tensor

# exp() of more overflows float32 once squared in a gradient; verl and OpenRLHF clamp at the same place.
MAX_LOG_RATIO = 20.0


def kl_k1(logprobs_BT: Tensor, reference_logprobs_BT: Tensor) -> Tensor:
    """log policy - log reference (B, T). Its place is the reward, where its sum over a completion has no gradient."""
    return logprobs_BT - reference_logprobs_BT


def kl_k2(logprobs_BT: Tensor, reference_logprobs_BT: Tensor) -> Tensor:
    """(log policy - log reference)² / 2 (B, T): biased as a value, but its gradient is that of the KL, on-policy."""
    return (logprobs_BT - reference_logprobs_BT) ** 2 / 2


def kl_k3(logprobs_BT: Tensor, reference_logprobs_BT: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = log reference - log policy (B, T): never negative, its mean is KL(policy || reference).

    arXiv:2402.03300, equation 4. The estimate is unbiased; its gradient is not that of the KL (see docs/objectives.md).
    """
    log_ratio_BT = (reference_logprobs_BT - logprobs_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return log_ratio_BT.exp() - log_ratio_BT - 1


def kl_k3_corrected(logprobs_BT: Tensor, reference_logprobs_BT: Tensor, *, log_ratio_BT: Tensor) -> Tensor:
    """k3 times policy / old policy of each token (B, T): DeepSeek-V3.2 (arXiv:2512.02556, section 3.1).

    With the ratio's own gradient this is unbiased in value and gradient, also where an older policy sampled.
    """
    return log_ratio_BT.exp() * kl_k3(logprobs_BT, reference_logprobs_BT)


def kl_k3_straight(logprobs_BT: Tensor, reference_logprobs_BT: Tensor) -> Tensor:
    """The value of k3 with the gradient of k2 (B, T): "k3+" in verl."""
    k2_BT = kl_k2(logprobs_BT, reference_logprobs_BT)
    return kl_k3(logprobs_BT, reference_logprobs_BT).detach() + (k2_BT - k2_BT.detach())
