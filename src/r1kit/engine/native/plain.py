"""The forward pass through the modules of `transformers`: every architecture with plain keys and values, every device.

P: prompts   M: new rows   N: running rows   V: vocabulary
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig

from r1kit.engine.native.cache import SlotCache
from r1kit.errors import ModelError
from r1kit.models.policy import Policy


class PlainForward:
    """The network as it is, on one slot a row."""

    def __init__(self, policy: Policy) -> None:
        """Share the policy's weights, unless it multiplies in another precision than it keeps them in.

        Then hold a copy in that precision: converting them at each token would cost more than the token. The same where
        adapters are to be merged. Raises ModelError for networks whose cache is not plain keys and values.
        """
        _refuse_unusual_attention(policy)
        self._source = policy
        is_shared = policy.compute_dtype == policy.model.dtype and policy.adapters is None
        self._policy = policy if is_shared else policy.converted(policy.compute_dtype)
        self._cache = SlotCache(policy.model.config.num_hidden_layers)

    def load_weights(self, policy: Policy) -> bool:
        """Take the weights of this policy from now on; False where it is another network."""
        if policy.model is not self._source.model or policy.compute_dtype != self._source.compute_dtype:
            return False
        if self._policy is not self._source:
            self._policy.load_weights(policy)
        self._cache = SlotCache(policy.model.config.num_hidden_layers)
        return True

    def sleep(self) -> None:
        """The weights are the policy's own, or needed to compare with: nothing to let go of."""

    def admit(self, prompts: Sequence[tuple[int, ...]], prompts_M: Tensor, running: int, limits_M: Tensor) -> Tensor:
        """The logits (P, V) after each prompt; the new rows, each with its prompt, go behind those running.

        A row will hold up to `limits_M` tokens more than its prompt.
        """
        logits_PV, prompt_cache = self._prefill(prompts)
        lengths_P = torch.tensor([len(prompt) for prompt in prompts])
        slot_length = int((lengths_P[prompts_M] + limits_M).max())
        slots_M = torch.arange(running, running + len(prompts_M))
        self._cache.store_prompts(prompt_cache, slots_M, prompts_M, slot_length)
        return logits_PV

    def advance(self, tokens_N: Tensor, positions_N: Tensor) -> Tensor:
        """The logits (N, V) after each running row's last token, whose key and value go to `positions_N`."""
        self._cache.set_positions(positions_N)
        seen_NS = torch.arange(int(positions_N.max()) + 1)[None, :] <= positions_N[:, None]
        # Additive, not boolean: plain ("eager") attention adds its mask to the scores.
        dtype = self._policy.model.dtype
        mask_NS = torch.zeros(seen_NS.shape, dtype=dtype).masked_fill(~seen_NS, torch.finfo(dtype).min)
        hidden = self._policy.backbone(
            input_ids=tokens_N[:, None].to(self._policy.device),
            position_ids=positions_N[:, None].to(self._policy.device),
            # The two empty axes are heads and queries; a mask of four axes is taken as it is by every architecture.
            attention_mask=mask_NS[:, None, None, :].to(self._policy.device),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return self._logits(hidden[:, 0])

    def keep(self, kept_N: Tensor, lengths_N: Tensor) -> None:
        """Row n becomes what row `kept_N[n]` of `lengths_N[n]` positions was; rows after that are gone."""
        moved_M = torch.nonzero(kept_N != torch.arange(len(kept_N)))[:, 0]
        if len(moved_M):
            self._cache.move_slots(moved_M, kept_N[moved_M], int(lengths_N[moved_M].max()))

    def _prefill(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, DynamicCache]:
        """The logits (P, V) after each prompt, and the keys and values of all, right-padded."""
        longest = max(map(len, prompts))
        padding = prompts[0][0]  # any token will do: it comes after all that counts
        token_ids = torch.tensor([[*prompt, *[padding] * (longest - len(prompt))] for prompt in prompts])
        cache = DynamicCache()
        hidden = self._policy.backbone(
            input_ids=token_ids.to(self._policy.device), past_key_values=cache, use_cache=True
        ).last_hidden_state
        last = torch.tensor([len(prompt) - 1 for prompt in prompts])
        return self._logits(hidden[torch.arange(len(prompts)), last]), cache

    def _logits(self, hidden_ND: Tensor) -> Tensor:
        """Drawing, and all that is written down of a row, happens on the processor."""
        return self._policy.head(hidden_ND).cpu()


def _refuse_unusual_attention(policy: Policy) -> None:
    """Raise ModelError for networks on which plain slots would be silently wrong."""
    config = policy.model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds == {"full_attention"} and not getattr(config, "layer_types", None) and _has_window(config):
        kinds = {"sliding_attention"}
    if kinds != {"full_attention"}:
        raise ModelError(f"{config.model_type}: layers of kind {', '.join(sorted(kinds))} are not supported yet")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("longrope", "dynamic"):
        # Its angles depend on the longest row of a batch, so a completion would depend on its neighbours.
        raise ModelError(f"{config.model_type}: rotary embedding of type {rope['rope_type']} is not supported yet")


def _has_window(config: PretrainedConfig) -> bool:
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
