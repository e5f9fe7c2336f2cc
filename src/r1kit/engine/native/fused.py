"""The fast forward pass for networks of the Llama and Qwen families on the processor.

The same arithmetic as the model's own modules, from weights packed once, with fewer and larger operations: projections
of one input are one product, heads that share keys are never repeated, the residual stream is float32, and rows that
share a prompt read its keys once.

P: prompts   T: positions of the longest prompt   N: rows or positions   M: new rows   V: vocabulary
H: key-value heads   G: query heads that share one   W: head width   R: rows of a prompt
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from r1kit.engine.native.anatomy import Anatomy, read_anatomy
from r1kit.engine.native.grouped_cache import GroupedCache
from r1kit.engine.native.kernels import Kernels, rotated_heads
from r1kit.engine.native.packed import PackedLayer, PackedWeights
from r1kit.models.policy import Policy

MAX_PREFILL_POSITIONS = 8192
"""Prompts, padding included, that are read at once."""
# Largest difference of hidden states from the model's own, relative to the model's largest, that rounding may make.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15}


class FusedForward:
    """Packed weights and grouped cache."""

    def __init__(self, policy: Policy, anatomy: Anatomy, kernels: Kernels) -> None:
        """Copy the weights, in the precision that the policy multiplies in."""
        self._dtype = policy.compute_dtype
        self._kernels = kernels
        self._sleeps = True
        self._weights: PackedWeights
        self._cache: GroupedCache
        self._take(anatomy)

    def load_weights(self, policy: Policy) -> bool:
        """Take the weights of this policy from now on; False where it is of another shape."""
        anatomy = read_anatomy(policy)
        is_alike = anatomy is not None and anatomy.shape == self._shape and policy.compute_dtype == self._dtype
        if anatomy is None or not is_alike or len(anatomy.layers) != self._num_layers:
            return False
        self.sleep()  # before the new ones take as much again
        self._take(anatomy)
        return True

    def sleep(self) -> None:
        """Let go of weights and cache."""
        if not self._sleeps:
            del self._weights, self._cache
        self._sleeps = True

    def _take(self, anatomy: Anatomy) -> None:
        self._sleeps = False
        self._shape, self._num_layers = anatomy.shape, len(anatomy.layers)
        self._weights = PackedWeights(anatomy, self._dtype)
        self._cache = GroupedCache(len(anatomy.layers), self._shape, self._dtype)
        self._rotary = anatomy.rotary
        self._cos_SW, self._sin_SW = torch.empty(0, 0), torch.empty(0, 0)

    def admit(self, prompts: Sequence[tuple[int, ...]], prompts_M: Tensor, running: int, limits_M: Tensor) -> Tensor:
        """The logits (P, V) after each prompt; the new rows, each with its prompt, go behind those running.

        A row will hold up to `limits_M` tokens more than its prompt.
        """
        # Prompts of like length are read together.
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        rank_P = torch.tensor(order).argsort()
        entry = self._cache.admit([len(prompts[place]) for place in order], rank_P[prompts_M], limits_M)
        hidden = [self._read(part, entry + start) for start, part in _parts([prompts[place] for place in order])]
        return self._weights.head(torch.cat(hidden)[rank_P])

    def advance(self, tokens_N: Tensor, positions_N: Tensor) -> Tensor:
        """The logits (N, V) after each running row's last token, whose key and value go to `positions_N`."""
        cos_SW, sin_SW = self._rotation(int(positions_N.max()) + 1)
        step = self._kernels.step(self._cache, positions_N, cos_SW, sin_SW)
        residual_ND = functional.embedding(tokens_N, self._weights.embedding).float()
        delta_ND: Tensor | None = None
        for number, layer in enumerate(self._weights.layers):
            inputs_ND = self._kernels.add_and_norm(residual_ND, delta_ND, layer.attention_norm)
            mixed_NK = step.attend(number, layer, layer.query_key_value(inputs_ND))
            delta_ND = self._after_attention(layer, residual_ND, mixed_NK)
        return self._weights.head(self._kernels.add_and_norm(residual_ND, delta_ND, self._weights.norm))

    def keep(self, kept_N: Tensor, lengths_N: Tensor) -> None:
        """Row n becomes what row `kept_N[n]` of `lengths_N[n]` positions was; rows after that are gone."""
        self._cache.keep(kept_N, lengths_N)

    @torch.inference_mode()
    def gap_to(self, policy: Policy) -> str | None:
        """What differs from the model's own logits on a probe, read and then written; None where it is only rounding.

        Leaves the cache empty.
        """
        probe = [(7 * place + 3) % policy.vocab_size for place in range(24)]
        first = self.admit([tuple(probe[:20]), tuple(probe[:8])], torch.tensor([0, 1, 0]), 0, torch.tensor([8, 8, 8]))
        found = [first[0]]
        for place in range(20, 24):
            tokens_N = torch.tensor([probe[place], probe[place - 12], probe[place]])
            found.append(self.advance(tokens_N, torch.tensor([place, place - 12, place]))[2])
        self._cache = GroupedCache(len(self._weights.layers), self._shape, self._dtype)
        model = policy.model if policy.adapters is None else policy.converted(policy.compute_dtype).model
        with torch.autocast("cpu", dtype=policy.compute_dtype, enabled=policy.compute_dtype != model.dtype):
            expected = model(input_ids=torch.tensor([probe]), use_cache=False).logits[0, 19:].float()
        gap = float((torch.stack(found).float() - expected).abs().max() / expected.abs().max())
        return None if gap <= TOLERANCE[self._dtype] else f"its logits differ by {gap:.1e} of the largest"

    def _read(self, prompts: Sequence[tuple[int, ...]], entry: int) -> Tensor:
        """Normed hidden states (P, D) after each prompt; their keys and values go to the cache, right-padded."""
        longest = max(map(len, prompts))
        token_ids_PT = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
        cos_SW, sin_SW = self._rotation(longest)
        positions_N = torch.arange(longest).repeat(len(prompts))
        rotation = cos_SW[positions_N].unsqueeze(1), sin_SW[positions_N].unsqueeze(1)
        entries = slice(entry, entry + len(prompts))
        residual_ND = functional.embedding(token_ids_PT.flatten(), self._weights.embedding).float()
        delta_ND: Tensor | None = None
        for number, layer in enumerate(self._weights.layers):
            inputs_ND = self._kernels.add_and_norm(residual_ND, delta_ND, layer.attention_norm)
            queries, keys, values = (
                heads.unflatten(0, (len(prompts), longest)).transpose(1, 2)
                for heads in rotated_heads(layer, self._shape, layer.query_key_value(inputs_ND), rotation)
            )
            self._cache.store_prompts(number, entries, keys, values)
            mixed_PKTW = functional.scaled_dot_product_attention(
                queries, keys, values, is_causal=True, scale=self._shape.scale, enable_gqa=True
            )
            delta_ND = self._after_attention(layer, residual_ND, mixed_PKTW.transpose(1, 2).flatten(2).flatten(0, 1))
        last_P = torch.tensor([row * longest + len(prompt) - 1 for row, prompt in enumerate(prompts)])
        delta_PD = None if delta_ND is None else delta_ND[last_P]
        return self._kernels.add_and_norm(residual_ND[last_P], delta_PD, self._weights.norm)

    def _after_attention(self, layer: PackedLayer, residual_ND: Tensor, mixed_NK: Tensor) -> Tensor:
        """The rest of a layer: what is to be added to the residual stream."""
        inputs_ND = self._kernels.add_and_norm(residual_ND, layer.output(mixed_NK), layer.mlp_norm)
        return layer.down(self._kernels.gated(layer.gate_up(inputs_ND)))

    def _rotation(self, num_positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (S, W) of at least so many positions, the first half of the sines negated."""
        if num_positions > len(self._cos_SW):
            positions_1S = torch.arange(max(256, 2 * num_positions))[None]
            cos_1SW, sin_1SW = self._rotary(torch.zeros(1), positions_1S)
            sin_1SW[..., : self._shape.head_width // 2].neg_()
            self._cos_SW, self._sin_SW = cos_1SW[0].contiguous(), sin_1SW[0].contiguous()
        return self._cos_SW, self._sin_SW


def _parts(prompts: Sequence[tuple[int, ...]]) -> list[tuple[int, Sequence[tuple[int, ...]]]]:
    """Prompts, sorted by length, in parts of a bounded number of positions, each with its first prompt's number."""
    starts = [0]
    for place, prompt in enumerate(prompts):
        if place > starts[-1] and (place + 1 - starts[-1]) * len(prompt) > MAX_PREFILL_POSITIONS:
            starts.append(place)
    return [(start, prompts[start:end]) for start, end in zip(starts, [*starts[1:], len(prompts)], strict=True)]
