"""The network in the compute precision: copies that follow their masters, gradients that reach them.

B: rows   T: token positions
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, LlamaConfig

from r1kit.config.objective import OptimizerSettings
from r1kit.models.policy import Policy
from r1kit.training.batch import collate_tokens
from r1kit.training.optimizer import Optimizer


def rows_of(vocab_size):
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(3, vocab_size, (6,), generator=generator).tolist() for _ in range(3)]
    completions = [torch.randint(3, vocab_size, (n,), generator=generator).tolist() for n in (20, 14, 31, 8, 25, 17)]
    batch = collate_tokens([prompts[row // 2] for row in range(6)], completions)
    return batch.token_ids_BT, batch.completion_mask_BT


def gradients_of(policy, *, parts=1):
    """The gradients of a loss, its rows taken in so many parts."""
    policy.model.zero_grad()
    token_ids_BT, mask_BT = rows_of(policy.vocab_size)
    weights_BT = torch.randn(mask_BT.shape, generator=torch.Generator().manual_seed(1))
    for rows in torch.arange(len(mask_BT)).chunk(parts):
        stats = policy.token_stats(token_ids_BT[rows], mask_BT[rows], temperature=1.0)
        (stats.logprobs_BT * weights_BT[rows]).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in policy.model.named_parameters()}


def cosine(one, other):
    one, other = one.double().flatten(), other.double().flatten()
    return float(one @ other / (one.norm() * other.norm()))


@pytest.fixture
def in_bfloat16(make_policy):
    """A function from an architecture's name to a policy with float32 weights that multiplies in bfloat16."""

    def make(architecture):
        model = make_policy(architecture).model
        for parameter in model.parameters():
            parameter.data *= 0.3 if parameter.ndim > 1 else 1.0  # as sharp as real ones, not sharper
        return Policy(model, None, compute_dtype=torch.bfloat16)

    return make


@pytest.fixture(autouse=True)
def _without_tokenizer(monkeypatch):
    monkeypatch.setattr("r1kit.models.trainable._files_of", lambda tokenizer: {})


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("parts", [1, 3])
def test_gradients_in_bfloat16_point_where_those_in_float32_do(in_bfloat16, architecture, parts):
    low = in_bfloat16(architecture)
    exact = gradients_of(Policy(low.model, None, compute_dtype=torch.float32))
    found = gradients_of(low, parts=parts)

    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    everything = [torch.cat([g.flatten() for g in gradients.values()]) for gradients in (found, exact)]
    assert cosine(*everything) >= 0.999
    assert everything[0].norm() == pytest.approx(float(everything[1].norm()), rel=0.01)
    for name, gradient in exact.items():
        if "k_proj.bias" not in name:  # it has no effect: both are rounding
            assert cosine(found[name], gradient) > 0.99, name


def test_copies_follow_their_masters_after_steps_and_loads(in_bfloat16):
    policy, other = in_bfloat16("llama"), in_bfloat16("llama")
    rows = rows_of(policy.vocab_size)
    before_BT = policy.token_stats(*rows, temperature=1.0).logprobs_BT.detach()

    gradients_of(policy)
    # A fused step changes weights without counting their versions up.
    Optimizer(policy, OptimizerSettings(lr=1e-2, warmup_steps=0), total_steps=10).step()
    after_BT = policy.token_stats(*rows, temperature=1.0).logprobs_BT.detach()
    fresh_BT = Policy(policy.model, None, compute_dtype=torch.bfloat16).token_stats(*rows, temperature=1.0).logprobs_BT
    policy.load_weights(other)
    again_BT = policy.token_stats(*rows, temperature=1.0).logprobs_BT.detach()

    assert float((after_BT - before_BT).abs().max()) > 0.1
    assert torch.equal(after_BT, fresh_BT)
    assert torch.equal(again_BT, before_BT)


def test_copies_hold_no_gradient_and_masters_stay_what_the_optimizer_sees(in_bfloat16):
    policy = in_bfloat16("llama")
    gradients_of(policy)
    copies = [p for p in policy.network.backbone.parameters() if p.dtype == torch.bfloat16]
    assert len(copies) > 10 and all(copy.grad is None for copy in copies)
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}


def test_frozen_weights_get_no_gradient(in_bfloat16):
    policy = in_bfloat16("llama")
    trained = [p for name, p in policy.model.named_parameters() if "q_proj" in name]
    for parameter in policy.model.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    token_ids_BT, mask_BT = rows_of(policy.vocab_size)
    policy.token_stats(token_ids_BT, mask_BT, temperature=1.0).logprobs_BT.sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in trained)
    assert sum(parameter.grad is not None for parameter in policy.model.parameters()) == len(trained)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tensor_of_positions_times_vocabulary_is_made_forward_or_backward(dtype):
    shape = {"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(**shape, num_key_value_heads=1, vocab_size=100_000, tie_word_embeddings=True)
    policy = Policy(AutoModelForCausalLM.from_config(config), None, compute_dtype=dtype)
    token_ids_BT = torch.randint(100_000, (2, 150), generator=torch.Generator().manual_seed(0))
    mask_BT = (torch.arange(150) > 0).expand(2, 150).contiguous()

    with Largest() as largest:
        stats = policy.token_stats(token_ids_BT, mask_BT, temperature=1.0)
        (stats.logprobs_BT + stats.live_entropy_BT).sum().backward()

    assert 4 * 100_000 <= largest.elements < 298 * 100_000 / 40  # the weights, and tiles; not a fortieth of the logits
    assert float(stats.logprobs_BT.detach()[mask_BT].mean()) == pytest.approx(-11.5, abs=0.2)
