"""The fast forward pass, compiled or by torch's operators, computes the model; where it would not, it is not taken."""

import shutil

import pytest
import torch
from torch.testing import assert_close

from r1kit.engine.engine import Request, generate
from r1kit.engine.native.compiled import CompiledKernels, kernels_for
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.native.fused import FusedForward
from r1kit.engine.native.kernels import TorchKernels
from r1kit.engine.native.plain import PlainForward
from r1kit.engine.native.sampler import RowSampling, draw, draw_by_torch, uniforms
from r1kit.models import compiling
from r1kit.types import SamplingSpec

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture
def without_compiler(monkeypatch):
    """Nothing is compiled, and nothing compiled before is used."""
    monkeypatch.setenv("R1KIT_COMPILE", "0")
    compiling.compiled_library.cache_clear()
    yield
    compiling.compiled_library.cache_clear()


def groups_of(num_groups=5, group_size=3, *, seed=0, temperature=1.0):
    """Requests in groups that share a prompt, of unequal lengths and limits."""
    draws = torch.Generator().manual_seed(seed)
    prompts = [
        tuple(torch.randint(2, 400, (3 + 9 * number,), generator=draws).tolist()) for number in range(num_groups)
    ]
    return [
        Request(
            prompt_token_ids=prompt,
            sampling=SamplingSpec(max_new_tokens=4 + 5 * number + row, temperature=temperature),
            seed=100 * number + row,
        )
        for number, prompt in enumerate(prompts)
        for row in range(group_size)
    ]


def forward_logits(policy, prompts, tokens_TN):
    """What a forward pass says after prompts, then after each of some tokens for every row: (1 + T, N, V)."""
    network = NativeEngine(policy)._forward
    owners_N = torch.arange(len(prompts)).repeat_interleave(2)
    lengths_N = torch.tensor([len(prompt) for prompt in prompts])[owners_N]
    with torch.inference_mode():
        found = [network.admit(prompts, owners_N, 0, torch.full_like(owners_N, len(tokens_TN)))[owners_N]]
        found += [network.advance(tokens_N, lengths_N + t) for t, tokens_N in enumerate(tokens_TN)]
    return network, torch.stack(found).float()


@needs_compiler
@pytest.mark.parametrize("architecture", ["llama_wide", "qwen2_wide", "qwen3_wide"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_compiled_and_torchs_operators_agree(make_policy, monkeypatch, architecture, dtype):
    policy = make_policy(architecture).converted(dtype)
    prompts = [tuple(range(5, 9)), tuple(range(20, 90)), (7,)]
    tokens_TN = torch.randint(2, 400, (40, 6), generator=torch.Generator().manual_seed(0))

    compiled, by_c = forward_logits(policy, prompts, tokens_TN)
    monkeypatch.setenv("R1KIT_COMPILE", "0")
    compiling.compiled_library.cache_clear()
    plain, by_torch = forward_logits(policy, prompts, tokens_TN)
    compiling.compiled_library.cache_clear()

    assert isinstance(compiled._kernels, CompiledKernels) and isinstance(plain._kernels, TorchKernels)
    if dtype == torch.float32:
        assert_close(by_c, by_torch, atol=1e-5 * float(by_torch.abs().max()), rtol=0)
    else:
        exact = make_policy(architecture)
        rows = [torch.tensor([[*prompts[n // 2], *tokens_TN[:, n].tolist()]]) for n in range(6)]
        with torch.no_grad():
            expected = torch.stack([exact.model(input_ids=row).logits[0, -41:] for row in rows], dim=1)
        assert float((by_c - expected).abs().mean()) < 1.05 * float((by_torch - expected).abs().mean())


@pytest.mark.parametrize("architecture", ["llama_wide", "qwen3_wide"])
def test_without_a_compiler_completions_are_the_policys_too(make_policy, without_compiler, architecture):
    policy = make_policy(architecture)
    engine = NativeEngine(policy, max_sequences=4)
    assert isinstance(engine._forward._kernels, TorchKernels)

    for request, completion in zip(groups_of(), generate(engine, groups_of()), strict=True):
        ids = torch.tensor([request.prompt_token_ids + completion.token_ids])
        with torch.no_grad():
            logprobs_TV = policy.model(input_ids=ids).logits[0, len(request.prompt_token_ids) - 1 : -1].log_softmax(-1)
        expected = logprobs_TV.gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        assert_close(torch.tensor(completion.logprobs), expected, atol=2e-5, rtol=0)


def test_a_compiler_that_fails_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    compiling.compiled_library.cache_clear()

    assert compiling.compiled_library("engine/native/kernels.c", WIDTH=32) is None  # it needs more definitions
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiling.compiled_library("engine/native/drawing.c", BF16=0) is None
    compiling.compiled_library.cache_clear()


@needs_compiler
def test_a_library_is_compiled_once_and_left_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    compiling.compiled_library.cache_clear()
    assert compiling.compiled_library("engine/native/drawing.c", BF16=1) is not None
    compiling.compiled_library.cache_clear()
    monkeypatch.setattr(compiling, "_compile", None)

    assert compiling.compiled_library("engine/native/drawing.c", BF16=1) is not None
    assert len(list((tmp_path / ".cache" / "r1kit" / "kernels").iterdir())) == 1
    compiling.compiled_library.cache_clear()


def test_widths_that_the_compiled_kernels_do_not_take_are_computed_by_torch(make_policy):
    shape = NativeEngine(make_policy("llama"))._forward._shape
    assert shape.head_width == 16
    assert isinstance(kernels_for(shape, 64, torch.float32), TorchKernels)


@pytest.mark.parametrize(
    ("architecture", "kind"), [("llama", FusedForward), ("gemma", PlainForward), ("deepseek_v3", PlainForward)]
)
def test_only_known_families_take_the_fast_pass(make_policy, architecture, kind):
    assert type(NativeEngine(make_policy(architecture))._forward) is kind


def test_a_network_that_computes_something_else_than_its_family_takes_the_plain_pass_and_it_is_said(make_policy):
    policy = make_policy("llama")
    policy.backbone.norm.variance_epsilon = 3.0

    with pytest.warns(UserWarning, match="llama: sampling takes the plain forward pass: its logits differ by"):
        engine = NativeEngine(policy)

    assert isinstance(engine._forward, PlainForward)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_prompts_shared_over_several_admissions_are_told_apart(make_policy, monkeypatch, compiled, dtype):
    monkeypatch.setenv("R1KIT_COMPILE", "1" if compiled else "0")
    compiling.compiled_library.cache_clear()
    policy = make_policy("llama_wide").converted(dtype)
    requests = groups_of(temperature=0.0 if dtype == torch.float32 else 1.0)
    alone = [generate(NativeEngine(policy), [request])[0] for request in requests]

    together = generate(NativeEngine(policy, max_sequences=4), requests)
    compiling.compiled_library.cache_clear()

    if dtype == torch.float32:
        assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    else:  # neighbours change the rounding of products, and now and then a token
        first = [abs(one.logprobs[0] - other.logprobs[0]) for one, other in zip(together, alone, strict=True)]
        assert max(first) < 0.2 and sum(a.token_ids == b.token_ids for a, b in zip(together, alone, strict=True)) > 5


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("vocab_size", [3, 16, 255, 256, 257, 5000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_compiled_draw_is_torchs(dtype, vocab_size, temperature):
    logits_NV = (4 * torch.randn(200, vocab_size, generator=torch.Generator().manual_seed(0))).to(dtype)
    logits_NV[:, ::3] = -torch.inf
    sampling = RowSampling.of([SamplingSpec(max_new_tokens=1, temperature=temperature)] * 200, vocab_size)
    uniforms_N = uniforms(torch.arange(200), torch.zeros(200, dtype=torch.long))
    uniforms_N[:3] = torch.tensor([0.0, 1 - 2.0**-53, 0.5])

    tokens_N, logprobs_N = draw(logits_NV, uniforms_N, sampling)
    expected_N, expected_logprobs_N = draw_by_torch(logits_NV, uniforms_N, sampling)

    assert int((tokens_N != expected_N).sum()) <= 1  # where a uniform number lies at the border of two tokens
    assert bool((tokens_N % 3 != 0).all())
    same_N = tokens_N == expected_N
    assert_close(logprobs_N[same_N], expected_logprobs_N[same_N], atol=1e-5, rtol=1e-5)
    exact_NV = (logits_NV.double() / temperature).log_softmax(-1)
    assert_close(logprobs_N.double(), exact_NV.gather(-1, tokens_N[:, None])[:, 0], atol=1e-5, rtol=1e-5)
