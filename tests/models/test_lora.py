"""Adapters against `peft`'s own and plain autograd: logprobs, gradients, merging, what trains and what does not.

B: rows   T: token positions
"""

import json

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from r1kit.config.objective import OptimizerSettings
from r1kit.config.peft import PeftSettings
from r1kit.engine.engine import Request, generate
from r1kit.engine.native.engine import NativeEngine
from r1kit.errors import ModelError, RecipeError
from r1kit.models import layer
from r1kit.models.adapter_files import adapter_files
from r1kit.models.compiled import compiled_arithmetic
from r1kit.models.loading import load_model, num_parameters_of, resolve_folder
from r1kit.models.lora import make_adapters
from r1kit.models.policy import Policy
from r1kit.training.batch import collate_tokens
from r1kit.training.checkpoint import save_model
from r1kit.training.optimizer import Optimizer
from r1kit.types import SamplingSpec

SETTINGS = PeftSettings(rank=4, alpha=12.0)
FAST = OptimizerSettings(lr=0.02)
ALL_ARCHITECTURES = pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma", "deepseek_v3"])


@pytest.fixture
def adapted(make_policy):
    """A function from an architecture's name to a policy with adapters."""

    def make(architecture="llama", settings=SETTINGS, *, dtype=None, trained=False, **other):
        model, tokenizer = (policy := make_policy(architecture, **other)).model, policy.tokenizer
        if dtype is not None:
            for parameter in model.parameters():
                parameter.data *= 0.3 if parameter.ndim > 1 else 1.0  # as sharp as real ones, not sharper
        adapters = make_adapters(model, settings, seed=0)
        if trained:
            generator = torch.Generator().manual_seed(7)
            for adapter in adapters.adapters:
                adapter.up_OR.data.copy_(0.1 * torch.randn(adapter.up_OR.shape, generator=generator))
        return Policy(model, tokenizer, compute_dtype=dtype, adapters=adapters)

    return make


def rows_of(vocab_size):
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(3, vocab_size, (6,), generator=generator).tolist() for _ in range(3)]
    completions = [torch.randint(3, vocab_size, (n,), generator=generator).tolist() for n in (20, 14, 31, 8, 25, 17)]
    batch = collate_tokens([prompts[row // 2] for row in range(6)], completions)
    return batch.token_ids_BT, batch.completion_mask_BT


def loss_of(logprobs_BT):
    weights_BT = torch.randn(logprobs_BT.shape, generator=torch.Generator().manual_seed(1))
    return (logprobs_BT * weights_BT).sum()


def logprobs_of(policy):
    with torch.no_grad():
        return policy.token_stats(*rows_of(policy.vocab_size), temperature=1.0).logprobs_BT


def gradients_of(policy, *, parts=1, recomputes_layers=False):
    """The gradients of all adapters, under `peft`'s names, of a loss whose rows are taken in so many parts."""
    for parameter in policy.trained_parameters():
        parameter.grad = None
    token_ids_BT, mask_BT = rows_of(policy.vocab_size)
    weights_BT = torch.randn(mask_BT.shape, generator=torch.Generator().manual_seed(1))
    for rows in torch.arange(len(mask_BT)).chunk(parts):
        stats = policy.token_stats(
            token_ids_BT[rows], mask_BT[rows], temperature=1.0, recomputes_layers=recomputes_layers
        )
        (stats.logprobs_BT * weights_BT[rows]).sum().backward()
    names = policy.adapters.state_tensors()
    return {name: p.grad.clone() for name, p in zip(names, policy.trained_parameters(), strict=True)}


def train(policy, num_steps=3):
    optimizer = Optimizer(policy, FAST, total_steps=num_steps)
    for _ in range(num_steps):
        gradients_of(policy)
        optimizer.step()
    return optimizer


def plain_logprobs(model, token_ids_BT, mask_BT):
    """The same by the network's own forward pass on padded rows."""
    logprobs_BTV = model(input_ids=token_ids_BT).logits[:, :-1].log_softmax(-1)
    chosen_BT = logprobs_BTV.gather(-1, token_ids_BT[:, 1:, None])[..., 0]
    return torch.nn.functional.pad(chosen_BT, (1, 0)) * mask_BT


def flat(tensors):
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()])


def cosine(one, other):
    one, other = flat(one), flat(other)
    return float(one @ other / (one.norm() * other.norm()))


@ALL_ARCHITECTURES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_adapters_change_nothing_at_all(make_policy, adapted, architecture, dtype):
    policy = adapted(architecture, dtype=dtype)
    expected = logprobs_of(Policy(policy.model, policy.tokenizer, compute_dtype=dtype))
    assert torch.equal(logprobs_of(policy), expected)
    assert float(expected.abs().max()) > 1


@ALL_ARCHITECTURES
@pytest.mark.parametrize("recomputes_layers", [False, True])
def test_logprobs_and_gradients_are_those_of_peft(adapted, architecture, recomputes_layers, tmp_path):
    peft = pytest.importorskip("peft")
    # `peft` takes the MLP's names for those of the experts, which are one tensor.
    attention = SETTINGS.model_copy(update={"target_modules": ("q_a_proj", "q_b_proj", "kv_b_proj", "o_proj")})
    policy = adapted(architecture, attention if architecture == "deepseek_v3" else SETTINGS, trained=True)
    policy.model.save_pretrained(tmp_path / "base")
    for name, content in adapter_files(policy.adapters).items():
        (tmp_path / name).write_bytes(content)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    other = peft.PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    rows = rows_of(policy.vocab_size)
    expected_BT = plain_logprobs(other, *rows)
    loss_of(expected_BT).backward()
    expected = {
        name.replace(".default", ""): parameter.grad
        for name, parameter in other.named_parameters()
        if parameter.requires_grad
    }

    found = gradients_of(policy, recomputes_layers=recomputes_layers)

    assert_close(logprobs_of(policy), expected_BT.detach(), rtol=1e-5, atol=1e-5)
    assert found.keys() == expected.keys()
    assert float((flat(found) - flat(expected := {name: expected[name] for name in found})).norm()) <= 1e-5 * float(
        flat(expected).norm()
    )
    assert all(float(gradient.norm()) > 0 for gradient in expected.values())
    assert not any(parameter.grad is not None for parameter in policy.model.parameters())


@pytest.mark.parametrize("settings", [{"use_rslora": True}, {"target_modules": ("q_proj", "mlp.down_proj")}])
def test_peft_reads_the_settings_that_differ(adapted, settings, tmp_path):
    peft = pytest.importorskip("peft")
    policy = adapted("llama", SETTINGS.model_copy(update=settings), trained=True)
    base = AutoModelForCausalLM.from_config(policy.model.config)
    base.load_state_dict(policy.model.state_dict())
    for name, content in adapter_files(policy.adapters).items():
        (tmp_path / name).write_bytes(content)
    other = peft.PeftModel.from_pretrained(base, tmp_path)
    with torch.no_grad():
        expected_BT = plain_logprobs(other, *rows_of(policy.vocab_size))
    assert_close(logprobs_of(policy), expected_BT, rtol=1e-5, atol=1e-5)
    assert len(policy.adapters.adapters) == (4 if "target_modules" in settings else 14)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "deepseek_v3"])
def test_a_cut_into_microbatches_changes_no_gradient(adapted, architecture):
    policy = adapted(architecture, trained=True)
    whole, cut = gradients_of(policy), gradients_of(policy, parts=3)
    assert float((flat(whole) - flat(cut)).norm()) <= 1e-5 * float(flat(whole).norm())


@pytest.mark.parametrize("architecture", ["llama_wide", "qwen2_wide", "qwen3_wide"])
@pytest.mark.parametrize("is_compiled", [True, False])
def test_gradients_in_bfloat16_point_where_those_in_float32_do(adapted, architecture, is_compiled, monkeypatch):
    if is_compiled and compiled_arithmetic() is None:
        pytest.skip("no compiler, or no matrix unit for bfloat16")
    low = adapted(architecture, dtype=torch.bfloat16, trained=True)
    exact = gradients_of(Policy(low.model, low.tokenizer, adapters=low.adapters))
    calls = []
    taken = layer.CompiledLayer.apply
    monkeypatch.setattr(layer.CompiledLayer, "apply", lambda *args: calls.append(1) or taken(*args))
    if not is_compiled:
        monkeypatch.setattr(layer, "arithmetic_of", lambda *_: None)

    found = gradients_of(low)

    assert bool(calls) == is_compiled
    assert cosine(found, exact) >= 0.999
    assert float(flat(found).norm()) == pytest.approx(float(flat(exact).norm()), rel=0.01)


def test_only_adapters_are_trained_and_have_moments(adapted):
    policy = adapted()
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    adapters = [parameter.detach().clone() for parameter in policy.trained_parameters()]

    optimizer = train(policy)

    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.model.state_dict().items())
    changed = [not torch.equal(p, old) for p, old in zip(policy.trained_parameters(), adapters, strict=True)]
    assert all(changed) and len(changed) == 2 * 2 * 7
    moments = {name: t for name, t in optimizer.state_tensors().items() if not name.endswith("step")}
    assert sum(tensor.numel() for tensor in moments.values()) == 2 * policy.adapters.num_parameters()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_reference_stays_the_base_until_it_takes_the_policy(adapted, dtype):
    policy = adapted("llama_wide", dtype=dtype)
    base_BT = logprobs_of(policy)
    reference = policy.without_adapters()
    train(policy)
    trained_BT = logprobs_of(policy)

    assert torch.equal(logprobs_of(reference), base_BT)
    assert torch.equal(logprobs_of(policy), trained_BT) and float((trained_BT - base_BT).abs().max()) > 0.1
    assert reference.model is policy.model and reference.network is policy.network
    reference.load_weights(policy)
    train(policy)
    assert torch.equal(logprobs_of(reference), trained_BT)
    assert not torch.equal(logprobs_of(policy), trained_BT)


@ALL_ARCHITECTURES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_engine_samples_from_the_merged_weights(adapted, architecture, dtype):
    policy = adapted(architecture, dtype=dtype)
    engine = NativeEngine(policy)
    reference = policy.without_adapters()
    train(policy)
    logprobs_of(reference)  # what was computed last are the base's weights
    engine.load_weights(policy, version=1)
    prompts = [(5, 9, 12, 7), (3, 3, 8)]
    spec = SamplingSpec(max_new_tokens=12, temperature=1.0)

    drawn = generate(engine, [Request(prompt_token_ids=p, sampling=spec, seed=seed) for seed, p in enumerate(prompts)])

    batch = collate_tokens(prompts, [completion.token_ids for completion in drawn])
    with torch.no_grad():
        of_policy, of_base = (
            who.token_stats(batch.token_ids_BT, batch.completion_mask_BT, temperature=1.0).logprobs_BT
            for who in (policy, reference)
        )
    sampled = torch.tensor([logprob for completion in drawn for logprob in completion.logprobs])
    gap = (of_policy[batch.completion_mask_BT] - sampled).abs()
    assert float(gap.max()) < (1e-4 if dtype == torch.float32 else 0.3)
    assert float(gap.mean()) < 0.2 * float((of_base[batch.completion_mask_BT] - sampled).abs().mean())


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "deepseek_v3"])
def test_what_is_saved_is_a_plain_network_that_computes_as_the_policy(adapted, architecture, tmp_path):
    policy = adapted(architecture)
    train(policy)
    save_model(policy, tmp_path / "final")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    with torch.no_grad():
        expected_BT = plain_logprobs(loaded, *rows_of(policy.vocab_size))
    assert_close(logprobs_of(policy), expected_BT, rtol=1e-5, atol=1e-5)
    assert {path.name for path in (tmp_path / "final" / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@pytest.mark.parametrize("architecture", ["llama", "deepseek_v3"])
def test_adapters_alone_are_a_model_wherever_one_is_asked_for(adapted, architecture, tmp_path):
    policy = adapted(architecture)
    train(policy)
    policy.adapters.base = str(tmp_path / "base")
    policy.model.save_pretrained(tmp_path / "base")
    for name, content in policy.tokenizer_files.items():
        (tmp_path / "base" / name).write_bytes(content)
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, content in adapter_files(policy.adapters).items():
        (folder / name).write_bytes(content)

    model = load_model(resolve_folder(str(folder)), torch.float32)

    assert num_parameters_of(folder) == policy.num_parameters()
    with torch.no_grad():
        assert_close(logprobs_of(policy), plain_logprobs(model, *rows_of(policy.vocab_size)), rtol=1e-5, atol=1e-5)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(ModelError, match=r"not a plain LoRA adapter \(use_dora is True\); merge it with peft"):
        load_model(folder, torch.float32)
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="base_model_name_or_path names no model"):
        load_model(folder, torch.float32)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("q_proj", "qproj"), r"names 'qproj', but no layer here is called that; known: down_proj, gate_proj, k_proj"),
        (("embed_tokens",), r"names 'embed_tokens', but model.embed_tokens is a Embedding, not a linear layer"),
        (("mlp",), r"names 'mlp', but model.layers.0.mlp is a LlamaMLP, not a linear layer"),
        (("lm_head",), r"names the head, whose weights are also the embeddings of this llama"),
        ((), r"target_modules is empty"),
        (("",), r"names '', but no layer"),
    ],
)
def test_wrong_targets_are_named_in_one_line(make_policy, targets, message):
    model = make_policy("llama", tie_word_embeddings=True).model
    with pytest.raises(RecipeError, match=message) as caught:
        make_adapters(model, PeftSettings(target_modules=targets), seed=0)
    assert "\n" not in str(caught.value)


def test_a_head_of_its_own_may_have_an_adapter(adapted):
    policy = adapted("llama", PeftSettings(rank=4, target_modules=("lm_head",)), trained=True)
    exact = {name: tensor.clone() for name, tensor in gradients_of(policy).items()}
    (adapter,) = policy.adapters.adapters
    merged = adapter.merged().requires_grad_()
    model = Policy(policy.model, policy.tokenizer)
    token_ids_BT, mask_BT = rows_of(policy.vocab_size)
    hidden = model.backbone(input_ids=token_ids_BT).last_hidden_state
    logprobs = (hidden @ merged.T)[:, :-1].log_softmax(-1).gather(-1, token_ids_BT[:, 1:, None])[..., 0]
    loss_of(torch.nn.functional.pad(logprobs, (1, 0)) * mask_BT).backward()
    by_hand = [adapter.scale * adapter.up_OR.T @ merged.grad, adapter.scale * merged.grad @ adapter.down_RI.T]
    for found, expected in zip(exact.values(), by_hand, strict=True):
        assert_close(found, expected.detach(), rtol=1e-4, atol=1e-4)


def test_the_seed_makes_the_adapters(make_policy):
    first, again, other = (
        flat(make_adapters(make_policy().model, SETTINGS, seed=seed).state_tensors()) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
