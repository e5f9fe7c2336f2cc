"""What the engine needs of a network: read prompts, go on by a token, let go of rows.

P: prompts   M: new rows   N: running rows   V: vocabulary
"""

import warnings
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from r1kit.engine.native.anatomy import read_anatomy
from r1kit.engine.native.compiled import kernels_for
from r1kit.engine.native.fused import FusedForward
from r1kit.engine.native.plain import PlainForward
from r1kit.models.policy import Policy


class Forward(Protocol):
    """A network with the keys and values of all running rows, which are numbered from 0 without a gap."""

    def load_weights(self, policy: Policy) -> bool:
        """Take the weights of this policy from now on; False where that needs another forward pass.

        Nothing may be running; the cache is given back.
        """
        ...

    def sleep(self) -> None:
        """Let go of what memory it can until weights are loaded."""
        ...

    def admit(self, prompts: Sequence[tuple[int, ...]], prompts_M: Tensor, running: int, limits_M: Tensor) -> Tensor:
        """The logits (P, V) after each prompt; the new rows, each with its prompt, go behind those running.

        A row will hold up to `limits_M` tokens more than its prompt.
        """
        ...

    def advance(self, tokens_N: Tensor, positions_N: Tensor) -> Tensor:
        """The logits (N, V) after each running row's last token, which stands at `positions_N`."""
        ...

    def keep(self, kept_N: Tensor, lengths_N: Tensor) -> None:
        """Row n becomes what row `kept_N[n]` of `lengths_N[n]` positions was; rows after that are gone."""
        ...


def forward_of(policy: Policy, before: Forward | None = None) -> Forward:
    """The fast forward pass where the network is one that it knows and computes alike; else the plain one.

    The one before is used again where it can be.
    """
    if before is not None and before.load_weights(policy):
        return before
    anatomy = read_anatomy(policy)
    if anatomy is None:
        return PlainForward(policy)
    fused = FusedForward(policy, anatomy, kernels_for(anatomy.shape, anatomy.embedding.shape[1], policy.compute_dtype))
    gap = fused.gap_to(policy)
    if gap is None:
        return fused
    warnings.warn(f"{policy.model.config.model_type}: sampling takes the plain forward pass: {gap}", stacklevel=2)
    return PlainForward(policy)
