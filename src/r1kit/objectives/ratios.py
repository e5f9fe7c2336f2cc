"""How much likelier a completion has become since it was sampled: three ratios, with three names.

    token          of each token (arXiv:2402.03300, equation 3): the default
    sequence       of the whole completion, the product over its tokens, as R1 prints it (arXiv:2501.12948, equation 1)
    sequence_mean  the geometric mean over its tokens: GSPO (arXiv:2507.18071, equation 7)

All are logarithms, clamped to ±20: beyond that exp() says nothing more, and no gradient passes.

B: completions   T: token positions   mask: True where a token was sampled
"""

import torch
from torch import Tensor

from r1kit.objectives.kl import MAX_LOG_RATIO


def token_log_ratio(logprobs_BT: Tensor, old_logprobs_BT: Tensor) -> Tensor:
    """log (policy / old policy) of each token (B, T): the importance ratio of arXiv:2402.03300."""
    return (logprobs_BT - old_logprobs_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def sequence_log_ratio(log_ratio_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The sum of unclamped token log-ratios over the mask (B, T), the same at every token of a completion.

    Not normalised by length, so it leaves every clip and the ±20 soon: a few hundred tokens are enough.
    """
    total_B1 = torch.where(mask_BT, log_ratio_BT, 0.0).sum(-1, keepdim=True)
    return total_B1.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).expand_as(log_ratio_BT)


def sequence_mean_log_ratio(log_ratio_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean of unclamped token log-ratios over the mask (B, T), with the gradient of each token's own ratio.

    GSPO-token (arXiv:2507.18071, section 4.3): sg[s] · policy / sg[policy]. With sequence-mean weights the gradient is
    GSPO's; with others, or an advantage a token, each token's share is still its own. An empty completion has ratio 1.
    """
    counts_B1 = mask_BT.sum(-1, keepdim=True).clamp_min(1)
    mean_B1 = torch.where(mask_BT, log_ratio_BT.detach(), 0.0).sum(-1, keepdim=True) / counts_B1
    own_BT = (log_ratio_BT - log_ratio_BT.detach()).where(mean_B1.abs() <= MAX_LOG_RATIO, 0.0)
    return mean_B1.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO) + own_BT
