"""Tokens that end a completion: any that its request names, each row its own; text is without those that only steer."""

from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerFast

from r1kit.engine.engine import Request, generate
from r1kit.engine.native.engine import NativeEngine
from r1kit.models.policy import Policy
from r1kit.types import FinishReason, SamplingSpec

PROMPT = (5, 6, 7)
# Without the tokenizer's own end (0), nothing ends but by what a request names.
GREEDY = SamplingSpec(max_new_tokens=24, temperature=0.0, banned_token_ids=(0,))


def request(*stop_token_ids, prompt=PROMPT):
    return Request(prompt_token_ids=prompt, sampling=replace(GREEDY, stop_token_ids=stop_token_ids), seed=0)


@pytest.fixture
def steered(make_policy):
    """A policy, its greedy completion, and a token of that which the tokenizer calls special."""
    policy = make_policy("llama")
    (free,) = generate(NativeEngine(policy), [request()])
    place = next(place for place in range(4, 20) if free.token_ids[place] not in free.token_ids[:place])
    token_id = free.token_ids[place]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=policy.tokenizer.backend_tokenizer.from_str(policy.tokenizer.backend_tokenizer.to_str()),
        eos_token=policy.tokenizer.eos_token,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [tokenizer.convert_ids_to_tokens(token_id)]})
    assert tokenizer.added_tokens_decoder[token_id].special
    return Policy(policy.model, tokenizer), free, place


def test_a_completion_ends_at_the_first_token_that_its_request_names(make_policy):
    policy = make_policy("llama")
    engine = NativeEngine(policy, max_sequences=3)
    prompts = [(5, 6, 7), (8, 9), (11, 12, 13, 14), (15,)]
    free = [completion.token_ids for completion in generate(engine, [request(prompt=prompt) for prompt in prompts])]
    # Each row ends at tokens of its own, the last at none; the same token in another row ends nothing.
    stops = [(free[0][4], free[0][9]), (free[1][6],), (free[2][0],), ()]
    requests = [request(*ids, prompt=prompt) for ids, prompt in zip(stops, prompts, strict=True)]

    ended = generate(engine, requests)

    for ids, mine, whole in zip(stops, ended, free, strict=True):
        length = min((whole.index(token_id) + 1 for token_id in ids), default=len(whole))
        assert mine.token_ids == whole[:length]
        assert mine.finish_reason is (FinishReason.STOP if ids else FinishReason.LENGTH)


def test_the_token_that_ended_a_turn_is_no_part_of_the_text_but_of_the_tokens(steered):
    policy, free, place = steered
    (ended,) = generate(NativeEngine(policy), [request(free.token_ids[place])])
    assert ended.token_ids == free.token_ids[: place + 1]
    assert len(ended.logprobs) == place + 1
    assert ended.text == policy.tokenizer.decode(free.token_ids[:place])


def test_a_token_that_steers_stays_in_the_text_where_it_ended_nothing(steered):
    policy, free, place = steered
    (whole,) = generate(NativeEngine(policy), [request()])
    assert whole.text == policy.tokenizer.decode(free.token_ids)
    spec = replace(GREEDY, max_new_tokens=place + 1)
    (cut,) = generate(NativeEngine(policy), [Request(prompt_token_ids=PROMPT, sampling=spec, seed=0)])
    assert cut.finish_reason is FinishReason.LENGTH
    assert cut.text == policy.tokenizer.decode(free.token_ids[: place + 1])


def test_a_stop_that_is_text_stays_in_the_text(make_policy):
    policy = make_policy("llama")
    (free,) = generate(NativeEngine(policy), [request()])
    (ended,) = generate(NativeEngine(policy), [request(free.token_ids[5])])
    assert ended.text == policy.tokenizer.decode(ended.token_ids) != ""
