"""How much memory a run will need, counted before it starts."""

import ctypes
import math
import resource
import sys

import torch

from r1kit.models.trainable import Trainable

# What Python, torch and transformers take before any model is loaded, as seen on Linux.
PROCESS_BYTES = 500 * 2**20
# What a layer of transformers keeps of each token for its backward pass, in units of its width and of its MLP's width.
SAVED_WIDTHS, SAVED_MLP_WIDTHS = 16, 4
# Microbatches are no larger than fills this with what the backward pass needs; beyond it, they gain nothing.
ACTIVATION_BYTES = {"cpu": 3 * 2**27}
# A row that needs more than this by itself is trained with the insides of as many layers as needed made again in the
# backward pass.
LONG_ROW_BYTES = {"cpu": 2**30}
DEVICE_ACTIVATION_BYTES = 2**34
# Scratch of the head and of the attention, and one layer's gradients before they are added up.
SCRATCH_BYTES = 200 * 2**20


def forecast_bytes(
    policy: Trainable, *, max_sequences: int, positions: int, tokens_per_microbatch: int, has_reference: bool
) -> int:
    """Peak bytes of a reinforcement-learning run: weights, gradients, AdamW, the KV cache and activations.

    Under adapters, gradients and AdamW's moments are theirs alone, and the reference is the base.

    Counted, not measured: each by its shape, the process and its scratch as seen on Linux.
    """
    config, element = policy.model.config, torch.finfo(policy.compute_dtype).bits // 8
    if policy.adapters is not None:
        # Weights, the merged ones that compute, and the engine's copy; what trains, its gradient, two moments.
        kept = policy.num_parameters() * (policy.model.dtype.itemsize + 2 * element)
        kept += policy.adapters.num_parameters() * 4 * 4
    else:
        kept = policy.num_parameters() * (
            4 * 4 + element * has_reference
        )  # weights, gradient, two moments, a reference
        if policy.compute_dtype != policy.model.dtype:
            kept += policy.num_parameters() * element * 2  # the engine's copy, and the one that trains
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = max_sequences * positions * config.num_hidden_layers * heads * head_width * 2 * element
    tokens = max(positions, tokens_within_budget(policy, tokens_per_microbatch))
    needed = tokens * activations_per_token(policy)
    if recomputes_layers(policy, tokens):
        most = LONG_ROW_BYTES.get(policy.device.type, DEVICE_ACTIVATION_BYTES)
        needed = min(needed, max(most, tokens * inputs_per_token(policy)))
    return PROCESS_BYTES + SCRATCH_BYTES + kept + max(cache, needed)


def tokens_within_budget(policy: Trainable, max_tokens: int) -> int:
    """Tokens of a microbatch: as many as the recipe allows, if the memory for activations allows them too."""
    budget = ACTIVATION_BYTES.get(policy.device.type, DEVICE_ACTIVATION_BYTES)
    return max(1, min(max_tokens, budget // activations_per_token(policy)))


def recomputes_layers(policy: Trainable, num_tokens: int) -> int:
    """Of how many layers of so long a row only the input is kept."""
    budget = LONG_ROW_BYTES.get(policy.device.type, DEVICE_ACTIVATION_BYTES)
    whole, least = (num_tokens * kept(policy) for kept in (activations_per_token, inputs_per_token))
    if whole <= budget:
        return 0
    num_layers = policy.model.config.num_hidden_layers
    return min(num_layers, math.ceil(num_layers * (whole - budget) / max(1, whole - least)))


def activations_per_token(policy: Trainable) -> int:
    """Bytes that the backward pass needs of each token."""
    config, network = policy.model.config, policy.network
    mlp_width = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    by_rule = SAVED_WIDTHS * config.hidden_size + SAVED_MLP_WIDTHS * mlp_width
    # By hand: the input, queries, keys, values, what was attended to, the middle, gate and up.
    heads = config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = 2 * (getattr(config, "num_key_value_heads", None) or heads) * head_width
    by_hand = 2 * config.hidden_size + 2 * heads * head_width + keys + 2 * mlp_width
    num_by_hand = network.num_layers_by_hand
    saved = by_hand * num_by_hand + by_rule * (config.num_hidden_layers - num_by_hand)
    return saved * (torch.finfo(policy.compute_dtype).bits // 8)


def inputs_per_token(policy: Trainable) -> int:
    """Bytes of the layers' inputs alone."""
    config = policy.model.config
    return config.hidden_size * (config.num_hidden_layers + 4) * (torch.finfo(policy.compute_dtype).bits // 8)


def peak_memory_bytes() -> int:
    """The most memory that this process has ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def return_free_memory() -> None:
    """Give the system back what the allocator of the C library keeps of freed blocks; without effect elsewhere.

    Microbatches differ in size, so that blocks of one seldom fit the next: what glibc kept by itself grew by a fifth of
    the whole within thirty iterations. It takes milliseconds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
