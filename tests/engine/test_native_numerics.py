"""The embedded engine draws what the policy would: against transformers, the policy's own logprobs, and itself."""

import random

import pytest
import torch

from r1kit.engine.engine import Request, generate
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.native.sampler import uniforms
from r1kit.training.batch import collate_tokens
from r1kit.types import SamplingSpec

FAST = ["llama", "qwen2", "qwen3", "llama_wide", "qwen2_wide", "qwen3_wide"]
ALL_ARCHITECTURES = pytest.mark.parametrize("architecture", [*FAST, "gemma", "deepseek_v3"])
ROUNDING = 1e-4


def requests_of(lengths=(3, 17, 1, 9, 30, 5), *, max_new_tokens=19, **sampling):
    """Prompts of unequal lengths, completions of unequal limits."""
    rng = random.Random(0)
    return [
        Request(
            prompt_token_ids=tuple(rng.randrange(2, 400) for _ in range(length)),
            sampling=SamplingSpec(max_new_tokens=max_new_tokens - 3 * (number % 4), **sampling),
            seed=1000 + number,
        )
        for number, length in enumerate(lengths)
    ]


def generated_by_transformers(policy, request):
    """Greedy tokens of one prompt alone, without padding."""
    output = policy.model.generate(
        torch.tensor([request.prompt_token_ids]),
        max_new_tokens=request.sampling.max_new_tokens,
        do_sample=False,
        eos_token_id=policy.tokenizer.eos_token_id,
        pad_token_id=0,
    )
    return tuple(output[0, len(request.prompt_token_ids) :].tolist())


def policys_logprobs(policy, requests, completions):
    """What the policy says of the completions' tokens, one after the other."""
    batch = collate_tokens([r.prompt_token_ids for r in requests], [c.token_ids for c in completions])
    temperature = requests[0].sampling.logprob_temperature
    with torch.no_grad():
        stats = policy.token_stats(batch.token_ids_BT, batch.completion_mask_BT, temperature=temperature)
    return stats.logprobs_BT[batch.completion_mask_BT]


def reported_logprobs(completions):
    """What the engine said of them."""
    reported = torch.tensor([logprob for completion in completions for logprob in completion.logprobs])
    assert len(reported) > 50 and float(reported.std()) > 0.5
    return reported


def largest_logprob_gap(policy, requests, completions):
    """Between what the engine reported and what the policy says of the same tokens."""
    return float((policys_logprobs(policy, requests, completions) - reported_logprobs(completions)).abs().max())


@torch.no_grad()
def assert_same_draws(policy, request, found, expected):
    """Equal tokens and logprobs; where a token differs, the uniform number lay at the very border of the two."""
    pairs = enumerate(zip(found.token_ids, expected.token_ids, strict=False))
    place = next((place for place, (one, other) in pairs if one != other), None)
    if place is None:
        assert found.token_ids == expected.token_ids and found.finish_reason is expected.finish_reason
        assert found.logprobs == pytest.approx(expected.logprobs, abs=ROUNDING)
        return
    prefix = torch.tensor([request.prompt_token_ids + found.token_ids[:place]])
    logits_V = policy.model(input_ids=prefix).logits[0, -1] / request.sampling.temperature
    low, high = sorted([found.token_ids[place], expected.token_ids[place]])
    cumulative = logits_V.double().softmax(-1).cumsum(-1)
    uniform = float(uniforms(torch.tensor([request.seed]), torch.tensor([place])))
    assert abs(float(cumulative[low]) - uniform) < ROUNDING and abs(float(cumulative[high - 1]) - uniform) < ROUNDING


@ALL_ARCHITECTURES
def test_greedy_completions_are_those_of_transformers_token_for_token(make_policy, architecture):
    policy = make_policy(architecture)
    requests = requests_of(temperature=0.0)
    engine = NativeEngine(policy, max_sequences=3)  # six requests: slots are given on, and grow

    completions = generate(engine, requests)

    expected = [generated_by_transformers(policy, request) for request in requests]
    assert [completion.token_ids for completion in completions] == expected
    assert len({token for tokens in expected for token in tokens}) > 30
    # What earlier completions left in the slots is never seen.
    assert [completion.token_ids for completion in generate(engine, requests[::-1])] == expected[::-1]


def test_greedy_completions_are_those_of_transformers_with_eager_attention_too(make_policy):
    policy = make_policy("llama")
    policy.model.set_attn_implementation("eager")
    requests = requests_of(temperature=0.0)

    completions = generate(NativeEngine(policy, max_sequences=3), requests)

    expected = [generated_by_transformers(policy, request) for request in requests]
    assert [completion.token_ids for completion in completions] == expected


@pytest.mark.parametrize(
    ("architecture", "temperature"),
    [("llama", 0.0), *((architecture, 0.7) for architecture in [*FAST, "gemma", "deepseek_v3"])],
)
def test_the_engines_logprobs_are_the_policys(make_policy, architecture, temperature):
    policy = make_policy(architecture)
    requests = requests_of(temperature=temperature)

    completions = generate(NativeEngine(policy, max_sequences=3), requests)

    assert largest_logprob_gap(policy, requests, completions) <= 2e-5


@pytest.mark.parametrize("architecture", FAST)
def test_in_bfloat16_the_engine_is_no_farther_from_float32_than_the_policy_is(make_policy, architecture):
    exact = make_policy(architecture)
    policy = exact.converted(torch.bfloat16)
    requests = requests_of(10 * (3, 17, 1, 9, 30, 5), temperature=1.0)  # means of fewer differ by chance

    completions = generate(NativeEngine(policy, max_sequences=20), requests)

    expected = policys_logprobs(exact, requests, completions)
    engines = (reported_logprobs(completions) - expected).abs()
    policys = (policys_logprobs(policy, requests, completions) - expected).abs()
    # The engine's residual stream is float32.
    assert ROUNDING < float(engines.mean()) < 1.1 * float(policys.mean())
    assert float(engines.max()) < 2 * float(policys.max())


@ALL_ARCHITECTURES
@pytest.mark.parametrize("max_sequences", [1, 3, 64])
def test_a_completion_depends_neither_on_its_neighbours_nor_on_their_order(make_policy, architecture, max_sequences):
    policy = make_policy(architecture)
    requests = requests_of(temperature=1.0) + requests_of((4, 11), temperature=1.0, top_k=5)
    expected = generate(NativeEngine(policy), requests)
    order = random.Random(max_sequences).sample(range(8), 8)
    neighbours = requests_of((8, 2), temperature=0.0) if max_sequences > 1 else []

    completions = generate(NativeEngine(policy, max_sequences=max_sequences), neighbours + [requests[i] for i in order])

    for completion, i in zip(completions[len(neighbours) :], order, strict=True):
        assert_same_draws(policy, requests[i], completion, expected[i])


def test_a_completion_is_a_function_of_its_seed(make_policy):
    policy = make_policy("llama")
    prompt = requests_of((6,))[0].prompt_token_ids
    sampling = SamplingSpec(max_new_tokens=12)
    requests = [Request(prompt_token_ids=prompt, sampling=sampling, seed=seed % 20) for seed in range(40)]

    completions = [completion.token_ids for completion in generate(NativeEngine(policy), requests)]

    assert completions[:20] == completions[20:]
    assert len(set(completions)) == 20


def test_top_k_1_is_greedy(make_policy):
    policy = make_policy("llama")

    greedy, cut = (
        generate(NativeEngine(policy, max_sequences=3), requests)
        for requests in (requests_of(temperature=0.0), requests_of(top_k=1))
    )

    assert [completion.token_ids for completion in cut] == [completion.token_ids for completion in greedy]


@torch.no_grad()
def test_sampled_tokens_lie_in_the_set_that_top_k_and_top_p_allow(make_policy):
    policy = make_policy("llama")
    requests = requests_of(top_k=8, top_p=0.6, temperature=1.3)
    outside = 0

    for request, completion in zip(requests, generate(NativeEngine(policy), requests), strict=True):
        ids = torch.tensor([request.prompt_token_ids + completion.token_ids])
        probs_TV = (policy.model(input_ids=ids).logits[0, len(request.prompt_token_ids) - 1 : -1] / 1.3).softmax(-1)
        for token, probs_V in zip(completion.token_ids, probs_TV, strict=True):
            likelier = [p for p in probs_V.topk(8).values.tolist() if p > float(probs_V[token]) + 1e-6]
            outside += len(likelier) == 8 or sum(likelier) >= 0.6 * float(probs_V.topk(8).values.sum()) + 1e-5

    assert outside == 0


def test_banned_tokens_never_appear_and_the_rest_of_the_distribution_closes_the_gap(make_policy):
    policy = make_policy("llama")
    free = generate(NativeEngine(policy), requests_of())
    banned = tuple({token for completion in free for token in completion.token_ids})
    requests = requests_of(banned_token_ids=banned)

    completions = generate(NativeEngine(policy, max_sequences=3), requests)

    assert len(banned) > 50
    assert not {token for completion in completions for token in completion.token_ids} & set(banned)
    first = policy.model(input_ids=torch.tensor([requests[0].prompt_token_ids])).logits[0, -1].detach()
    first[list(banned)] = -torch.inf
    expected = float(first.log_softmax(-1)[completions[0].token_ids[0]])
    assert completions[0].logprobs[0] == pytest.approx(expected, abs=ROUNDING)


def test_after_a_change_of_the_policys_weights_the_engine_samples_from_the_new_ones(make_policy):
    policy, other = make_policy("llama", seed=0), make_policy("llama", seed=1)
    requests = requests_of()
    engine = NativeEngine(policy)
    before = generate(engine, requests)

    policy.load_weights(other)
    engine.load_weights(policy, version=7)
    after = generate(engine, requests)

    expected = generate(NativeEngine(other), requests)
    assert [completion.token_ids for completion in after] == [completion.token_ids for completion in expected]
    assert [completion.token_ids for completion in after] != [completion.token_ids for completion in before]
    assert {completion.policy_version for completion in before} == {0}
    assert {completion.policy_version for completion in after} == {7}
