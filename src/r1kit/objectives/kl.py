"""How far the policy has gone from the reference, estimated from the tokens that it sampled.

B: completions   T: token positions
"""

from torch import Tensor

# exp() of more overflows float32 once squared in a gradient; verl and OpenRLHF clamp at the same place.
MAX_LOG_RATIO = 20.0


def kl_k3(logprobs_BT: Tensor, reference_logprobs_BT: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = log reference - log policy (B, T): never negative, its mean is KL(policy || reference).

    arXiv:2402.03300, equation 4. The estimate is unbiased; its gradient is not that of the KL (see docs/paper_map.md).
    """
    log_ratio_BT = (reference_logprobs_BT - logprobs_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return log_ratio_BT.exp() - log_ratio_BT - 1
