"""Drawing tokens: the random numbers, the distribution, and what can never be drawn.

N: rows   V: vocabulary
"""

import math

import pytest
import torch
from torch.testing import assert_close

from r1kit.engine.native.sampler import RowSampling, draw, uniforms
from r1kit.types import SamplingSpec

ALMOST_1 = 1 - 2.0**-53  # the largest number that `uniforms` can give


def spec_of(**settings):
    return SamplingSpec(max_new_tokens=1, **settings)


def random_logits(num_rows=1, vocab_size=40, seed=0):
    return 2 * torch.randn(num_rows, vocab_size, generator=torch.Generator().manual_seed(seed))


def tokens_drawn(logits_V, spec, num_draws=20_000):
    """Tokens drawn from one distribution, a seed each."""
    seeds_N = torch.arange(num_draws) * 7919
    sampling = RowSampling.of([spec], len(logits_V))
    tokens_N, _ = draw(
        logits_V.expand(num_draws, -1),
        uniforms(seeds_N, torch.zeros_like(seeds_N)),
        sampling.select(torch.zeros(num_draws, dtype=torch.long)),
    )
    return tokens_N


def splitmix64(seed, counter):
    """Output number `counter` of SplitMix64, in Python's integers."""
    state = (seed + (counter + 1) * 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def assert_follows(tokens_N, probs_V):
    """Chi-squared within four standard deviations, over tokens expected 5 times or more; the impossible never seen."""
    counts_V = torch.bincount(tokens_N, minlength=len(probs_V)).double()
    expected_V = probs_V.double() * len(tokens_N)
    is_common_V = expected_V >= 5
    chi_squared = ((counts_V - expected_V) ** 2 / expected_V)[is_common_V].sum()
    freedom = int(is_common_V.sum()) - 1
    assert float(chi_squared) < freedom + 4 * math.sqrt(2 * max(1, freedom))
    assert float(counts_V[probs_V == 0].sum()) == 0


def test_uniforms_are_those_of_splitmix64():
    assert splitmix64(1234567, 0) == 6457827717110365317  # the published test vector
    assert splitmix64(1234567, 1) == 3203168211198807973
    seeds = [0, 1, 1234567, 2**63 - 1, 2**62 + 12345, -1]
    for counter in [0, 1, 31, 10**6]:
        expected = [(splitmix64(seed, counter) >> 11) * 2.0**-53 for seed in seeds]
        assert uniforms(torch.tensor(seeds), torch.full((len(seeds),), counter)).tolist() == expected


def test_uniforms_are_spread_evenly_over_0_to_1_along_seeds_and_along_counters():
    ramp_N, fixed_N = torch.arange(20_000), torch.full((20_000,), 5)

    for uniforms_N in (uniforms(ramp_N, fixed_N), uniforms(fixed_N, ramp_N)):
        assert 0 <= float(uniforms_N.min()) < 1e-3 and 1 - 1e-3 < float(uniforms_N.max()) < 1
        assert_follows((uniforms_N * 50).long(), torch.full((50,), 1 / 50))
        assert len(uniforms_N.unique()) == 20_000
        neighbours = torch.corrcoef(torch.stack([uniforms_N[1:], uniforms_N[:-1]]))[0, 1]
        assert abs(float(neighbours)) < 4 / math.sqrt(20_000)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax_at_the_temperature(temperature):
    logits_V = random_logits()[0]

    tokens_N = tokens_drawn(logits_V, spec_of(temperature=temperature))

    assert_follows(tokens_N, (logits_V / temperature).softmax(-1))


def test_a_draw_takes_the_token_at_which_the_cumulative_probability_passes_the_uniform():
    logits_1V = torch.tensor([[0.5, 0.0, 0.25, 0.25]]).log()
    sampling = RowSampling.of([spec_of()], 4)

    drawn = {u: int(draw(logits_1V, torch.tensor([u]).double(), sampling)[0]) for u in [0, 0.49, 0.5, 0.74, 0.75, 0.99]}

    assert drawn == {0: 0, 0.49: 0, 0.5: 2, 0.74: 2, 0.75: 3, 0.99: 3}


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_top_k_draws_from_the_k_likeliest_in_their_own_proportions(top_k):
    logits_V = random_logits()[0]
    kept = sorted(range(40), key=lambda token: -float(logits_V[token]))[:top_k]
    probs_V = torch.zeros(40)
    probs_V[kept] = logits_V.softmax(-1)[kept]

    assert_follows(tokens_drawn(logits_V, spec_of(top_k=top_k)), probs_V / probs_V.sum())


@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9])
def test_top_p_draws_from_the_smallest_set_of_that_probability_in_its_own_proportions(top_p):
    logits_V = random_logits()[0]
    probs = logits_V.double().softmax(-1).tolist()
    kept, total = [], 0.0
    for token in sorted(range(40), key=lambda token: -probs[token]):
        if total < top_p:
            kept.append(token)
            total += probs[token]
    probs_V = torch.tensor([probs[token] if token in kept else 0.0 for token in range(40)])

    assert {0.01: 1}.get(top_p, 2) <= len(kept) < 30
    assert_follows(tokens_drawn(logits_V, spec_of(top_p=top_p)), probs_V / probs_V.sum())


def test_top_p_is_a_share_of_what_top_k_left():
    logits_V = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    both = spec_of(top_k=2, top_p=0.6)

    # Of 0.4 and 0.3, the first has 4/7 < 0.6, so both stay; with top_p 0.5 it would be alone.
    assert_follows(tokens_drawn(logits_V, both), torch.tensor([4 / 7, 3 / 7, 0.0, 0.0]))
    assert set(tokens_drawn(logits_V, spec_of(top_k=2, top_p=0.5)).tolist()) == {0}


def test_banned_tokens_are_gone_before_the_softmax():
    logits_V = random_logits()[0]
    banned = tuple(logits_V.topk(5).indices.tolist())
    probs_V = logits_V.clone().index_fill(0, torch.tensor(banned), -torch.inf).softmax(-1)

    assert_follows(tokens_drawn(logits_V, spec_of(banned_token_ids=banned)), probs_V)
    for temperature in [0.0, 1.0]:
        sampling = RowSampling.of([spec_of(banned_token_ids=banned, temperature=temperature)], 40)
        token_1, logprob_1 = draw(logits_V[None], torch.tensor([0.3], dtype=torch.float64), sampling)
        assert int(token_1) not in banned
        assert_close(logprob_1, probs_V[token_1].log())


@pytest.mark.parametrize(
    "spec",
    [spec_of(banned_token_ids=(38, 39)), spec_of(top_k=3), spec_of(top_p=0.2), spec_of(top_k=5, top_p=0.9)],
    ids=["banned", "top_k", "top_p", "both"],
)
@pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-24, 1 - 2.0**-26, ALMOST_1])
def test_the_first_and_last_uniforms_there_are_draw_nothing_impossible(spec, uniform):
    logits_NV = random_logits(200)
    logits_NV[:, 38:] = -2.0  # outside every cut
    sampling = RowSampling.of([spec] * 200, 40)

    tokens_N, logprobs_N = draw(logits_NV, torch.full((200,), uniform, dtype=torch.float64), sampling)

    assert int((tokens_N >= 38).sum()) == 0
    assert int(logprobs_N.isinf().sum()) == 0


def test_the_last_uniform_draws_no_token_of_probability_0():
    logits_1V = torch.tensor([[0.0, 0.0, -1e4]])

    token_1, _ = draw(logits_1V, torch.tensor([ALMOST_1], dtype=torch.float64), RowSampling.of([spec_of()], 3))

    assert int(token_1) == 1


def test_logprobs_are_those_of_the_whole_distribution_at_the_temperature_cut_or_not():
    logits_NV = random_logits(4)
    specs = [spec_of(temperature=0.5), spec_of(top_k=3), spec_of(top_p=0.5, temperature=2.0), spec_of(temperature=0.0)]

    tokens_N, logprobs_N = draw(logits_NV, torch.full((4,), 0.4, dtype=torch.float64), RowSampling.of(specs, 40))

    temperatures_N1 = torch.tensor([[0.5], [1.0], [2.0], [1.0]])  # greedy: those of temperature 1
    expected_NV = (logits_NV / temperatures_N1).log_softmax(-1)
    assert_close(logprobs_N, expected_NV[torch.arange(4), tokens_N])
    assert int(tokens_N[3]) == int(logits_NV[3].argmax())


def test_a_row_is_drawn_the_same_alone_and_among_rows_sampled_in_every_other_way():
    specs = [
        spec_of(),
        spec_of(temperature=0.0),
        spec_of(top_p=0.7),
        spec_of(top_k=4, temperature=1.5),
        spec_of(banned_token_ids=(1, 2, 3)),
        spec_of(temperature=0.0, banned_token_ids=(0, 5)),
        spec_of(top_p=0.9, top_k=9, banned_token_ids=(7,)),
    ]
    for seed in range(30):
        logits_NV = random_logits(7, seed=seed)
        uniforms_N = uniforms(torch.arange(7), torch.full((7,), seed))
        together = RowSampling.of(specs[:3], 40).joined(RowSampling.of(specs[3:], 40))

        tokens_N, logprobs_N = draw(logits_NV, uniforms_N, together)

        for row, spec in enumerate(specs):
            one = slice(row, row + 1)
            alone = draw(logits_NV[one], uniforms_N[one], RowSampling.of([spec], 40))
            assert int(alone[0]) == int(tokens_N[row])
            assert_close(alone[1], logprobs_N[one])
            selected = draw(logits_NV[one], uniforms_N[one], together.select(torch.tensor([row])))
            assert int(selected[0]) == int(tokens_N[row])
