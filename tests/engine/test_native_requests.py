"""The embedded engine's manners: how completions end, streaming, cancelling, slots, and what it refuses."""

import copy
import random

import pytest
from transformers import AutoModelForCausalLM, MistralConfig, Phi3Config

from r1kit.engine.engine import Request, generate
from r1kit.engine.native.engine import NativeEngine
from r1kit.errors import ModelError, RecipeError
from r1kit.models.policy import Policy
from r1kit.types import FinishReason, SamplingSpec

TINY = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}


def request_of(*, seed=0, length=5, stream=False, max_new_tokens=12, **sampling):
    rng = random.Random(seed)
    return Request(
        prompt_token_ids=tuple(rng.randrange(2, 400) for _ in range(length)),
        sampling=SamplingSpec(max_new_tokens=max_new_tokens, **sampling),
        seed=seed,
        stream=stream,
    )


def pieces_until_idle(engine, num_steps=60):
    return [piece for _ in range(num_steps) for piece in engine.step()]


def finished(pieces):
    return {piece.request_id: piece.completion for piece in pieces if piece.completion is not None}


def token_ids_outside(tokenizer, allowed):
    """To ban: every token whose text has any other character, and those without text."""
    texts = {token: tokenizer.decode([token]) for token in range(len(tokenizer))}
    return tuple(token for token, text in texts.items() if not text or set(text) - set(allowed))


def forward_shapes(engine):
    """A list that grows by the rows and the positions of every forward pass."""
    shapes = []
    network = engine._forward
    admit, advance = network.admit, network.advance

    def admitted(prompts, *others):
        shapes.append((len(prompts), max(map(len, prompts))))
        return admit(prompts, *others)

    def advanced(tokens_N, positions_N):
        shapes.append((len(tokens_N), 1))
        return advance(tokens_N, positions_N)

    network.admit, network.advance = admitted, advanced
    return shapes


def with_end_token(policy, token_id):
    """The same policy, but its completions end at this token."""
    tokenizer = copy.deepcopy(policy.tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(token_id)
    assert tokenizer.eos_token_id == token_id
    return Policy(policy.model, tokenizer)


def test_a_stop_string_ends_a_completion_at_once_wherever_tokens_cut_it_and_stays_in_it(make_policy, tokenizer):
    policy = make_policy("llama")
    banned = token_ids_outside(tokenizer, "abcdefghijklmnopqrstuvwxyz =+0123456789")
    (whole,) = generate(NativeEngine(policy), [request_of(max_new_tokens=40, banned_token_ids=banned)])
    stops = [whole.text[start : start + length] for start in range(0, 36, 4) for length in (1, 3, 8)]
    requests = [request_of(max_new_tokens=40, banned_token_ids=banned, stop=("no such text", stop)) for stop in stops]

    completions = generate(NativeEngine(policy, max_sequences=10), requests)

    assert whole.finish_reason is FinishReason.LENGTH and len(set(stops)) > 15
    for stop, completion in zip(stops, completions, strict=True):
        lengths = range(1, len(whole.token_ids) + 1)
        expected = next(n for n in lengths if stop in tokenizer.decode(whole.token_ids[:n]))
        assert completion.token_ids == whole.token_ids[:expected]
        assert completion.text == tokenizer.decode(whole.token_ids[:expected])
        assert completion.finish_reason is FinishReason.STOP and not completion.is_truncated


def test_a_stop_string_is_seen_where_one_character_takes_several_tokens(make_policy, tokenizer):
    policy = make_policy("llama")
    parts = tokenizer.encode("é") + tokenizer.encode("a")
    banned = tuple(set(range(len(tokenizer))) - set(parts))
    sampling = {"max_new_tokens": 60, "banned_token_ids": banned, "temperature": 100.0}

    completions = generate(NativeEngine(policy), [request_of(seed=s, stop=("é",), **sampling) for s in range(8)])

    assert len(parts) == 3
    for completion in completions:
        assert completion.finish_reason is FinishReason.STOP
        assert completion.text.endswith("é") and completion.text.count("é") == 1


def test_without_its_stop_string_a_completion_is_what_it_would_be_without_any(make_policy):
    policy = make_policy("llama")

    (one,) = generate(NativeEngine(policy), [request_of(stop=("never to be written",))])

    assert [one] == generate(NativeEngine(policy), [request_of()])
    assert one.finish_reason is FinishReason.LENGTH and len(one.token_ids) == len(one.logprobs) == 12


@pytest.mark.parametrize("max_new_tokens", [3, 4, 12])
def test_the_end_token_is_among_the_ids_but_not_in_the_text(make_policy, max_new_tokens):
    policy = make_policy("llama")
    (whole,) = generate(NativeEngine(policy), [request_of()])
    assert whole.token_ids[3] not in whole.token_ids[:3]

    ending = with_end_token(policy, whole.token_ids[3])
    (one,) = generate(NativeEngine(ending), [request_of(max_new_tokens=max_new_tokens)])

    assert one.token_ids == whole.token_ids[: min(4, max_new_tokens)]
    assert one.text == policy.tokenizer.decode(whole.token_ids[:3])
    assert one.finish_reason is (FinishReason.LENGTH if max_new_tokens == 3 else FinishReason.STOP)


def test_a_completion_may_be_one_token_long(make_policy):
    policy = make_policy("llama")
    requests = [request_of(seed=seed, max_new_tokens=1 + 11 * (seed % 2)) for seed in range(6)]

    completions = generate(NativeEngine(policy, max_sequences=2), requests)

    assert [len(completion.token_ids) for completion in completions] == [1, 12] * 3
    alone = [generate(NativeEngine(policy), [request])[0].token_ids for request in requests]
    assert [completion.token_ids for completion in completions] == alone


def test_streamed_pieces_are_the_completions_tokens_in_order_then_the_completion(make_policy):
    policy = make_policy("llama")
    requests = [request_of(seed=seed, stream=seed % 2 == 0, max_new_tokens=5 + seed) for seed in range(5)]
    engine = NativeEngine(policy, max_sequences=2)
    request_ids = engine.submit(requests)

    pieces = pieces_until_idle(engine)

    completions = finished(pieces)
    assert sorted(completions) == request_ids
    for request_id, request in zip(request_ids, requests, strict=True):
        own = [piece for piece in pieces if piece.request_id == request_id]
        tokens = tuple(piece.token_id for piece in own[:-1])
        assert own[-1].completion is completions[request_id] and own[-1].token_id is None
        assert tokens == (completions[request_id].token_ids if request.stream else ())


def test_streaming_changes_no_completion_and_comes_a_token_a_step(make_policy):
    policy = make_policy("llama")
    engine = NativeEngine(policy)
    (request_id,) = engine.submit([request_of(stream=True)])

    steps = [[piece for piece in engine.step() if piece.token_id is not None] for _ in range(13)]

    # The first step prefills and decodes, so it has two tokens to tell.
    assert [len(pieces) for pieces in steps] == [2] + [1] * 10 + [0] * 2
    assert {piece.request_id for pieces in steps for piece in pieces} == {request_id}
    (quiet,) = generate(NativeEngine(policy), [request_of()])
    assert tuple(piece.token_id for pieces in steps for piece in pieces) == quiet.token_ids


@pytest.mark.parametrize("cancelled", [[0], [1], [2], [0, 1], [0, 1, 2], [1, 4], [0, 1, 2, 3, 4, 5]])
def test_cancelled_requests_are_never_reported_and_the_others_are_as_if_they_had_not_been(make_policy, cancelled):
    policy = make_policy("llama")
    requests = [request_of(seed=seed, length=3 + 4 * seed, max_new_tokens=8 + seed) for seed in range(6)]
    expected = generate(NativeEngine(policy), requests)
    engine = NativeEngine(policy, max_sequences=3)  # 0, 1 and 2 run; 3, 4 and 5 wait
    request_ids = engine.submit(requests)

    pieces = [piece for _ in range(3) for piece in engine.step()]
    engine.cancel([request_ids[i] for i in cancelled])
    pieces += pieces_until_idle(engine)

    kept = {request_ids[i]: expected[i].token_ids for i in range(6) if i not in cancelled}
    assert {id_: completion.token_ids for id_, completion in finished(pieces).items()} == kept
    assert engine.step() == []


def test_cancelling_what_has_ended_or_never_was_does_nothing(make_policy):
    engine = NativeEngine(make_policy("llama"))
    first = engine.submit([request_of(max_new_tokens=1)])
    pieces_until_idle(engine, 2)
    engine.cancel([*first, 999])
    second = engine.submit([request_of()])
    engine.step()
    engine.cancel([*first, 999])

    assert list(finished(pieces_until_idle(engine))) == second


def test_requests_join_while_others_run(make_policy):
    policy = make_policy("llama")
    requests = [request_of(seed=seed, length=2 + 7 * seed, max_new_tokens=6 + 5 * seed) for seed in range(5)]
    engine = NativeEngine(policy, max_sequences=3)
    request_ids, pieces = [], []

    for request in requests:
        request_ids += engine.submit([request])
        pieces += engine.step()
    pieces += pieces_until_idle(engine)

    expected = [completion.token_ids for completion in generate(NativeEngine(policy), requests)]
    assert [finished(pieces)[request_id].token_ids for request_id in request_ids] == expected


def test_equal_prompts_are_prefilled_once_and_no_more_rows_run_than_there_are_slots(make_policy):
    policy = make_policy("llama")
    engine = NativeEngine(policy, max_sequences=12)
    shapes = forward_shapes(engine)
    groups = [request_of(length=length, max_new_tokens=4) for length in (4, 9)]
    requests = [
        Request(prompt_token_ids=group.prompt_token_ids, sampling=group.sampling, seed=seed)
        for group in groups
        for seed in range(8)
    ]

    completions = generate(engine, requests)

    assert shapes == [(2, 9), (12, 1), (12, 1), (12, 1), (1, 9), (4, 1), (4, 1), (4, 1)]
    alone = [generate(NativeEngine(policy), [request])[0].token_ids for request in requests]
    assert [completion.token_ids for completion in completions] == alone


def test_a_request_longer_than_the_models_positions_is_refused_and_the_longest_that_fits_is_not(make_policy):
    engine = NativeEngine(make_policy("llama"))  # 512 positions

    with pytest.raises(RecipeError, match="500 tokens and max_new_tokens 13 make 513, but the model has 512"):
        engine.submit([request_of(), request_of(length=500, max_new_tokens=13)])
    assert engine.step() == []  # the request that would have fitted was not taken either
    (longest,) = generate(engine, [request_of(length=500, max_new_tokens=12)])

    assert len(longest.token_ids) == 12


def test_an_empty_prompt_is_refused(make_policy):
    with pytest.raises(RecipeError, match="a prompt of at least one token"):
        NativeEngine(make_policy("llama")).submit([request_of(length=0)])


def test_a_sleeping_engine_draws_the_same_again_once_it_has_weights(make_policy):
    policy = make_policy("llama")
    engine = NativeEngine(policy)
    before = generate(engine, [request_of()])
    engine.sleep()
    engine.sleep()

    with pytest.raises(RuntimeError, match="the engine sleeps"):
        engine.submit([request_of()])
    engine.load_weights(policy, 0)

    assert generate(engine, [request_of()]) == before


def test_weights_are_not_changed_under_running_or_waiting_completions(make_policy):
    policy = make_policy("llama")
    engine = NativeEngine(policy)
    request_ids = engine.submit([request_of()])

    with pytest.raises(RuntimeError, match="running completions"):
        engine.load_weights(policy, 1)
    engine.step()
    with pytest.raises(RuntimeError, match="running completions"):
        engine.load_weights(policy, 1)
    engine.cancel(request_ids)
    engine.load_weights(policy, 1)

    assert generate(engine, [request_of()])[0].policy_version == 1


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**TINY, sliding_window=8),
        Phi3Config(**TINY, original_max_position_embeddings=16, rope_scaling=LONG_ROPE),
    ],
    ids=["sliding_window", "positions_that_depend_on_the_longest_row"],
)
def test_a_network_that_the_engine_would_get_wrong_is_refused(tokenizer, config):
    policy = Policy(AutoModelForCausalLM.from_config(config), tokenizer)

    with pytest.raises(ModelError):
        NativeEngine(policy)


def test_a_network_that_could_slide_its_window_but_does_not_is_taken(tokenizer):
    config = MistralConfig(**TINY | {"vocab_size": len(tokenizer)}, sliding_window=None)
    policy = Policy(AutoModelForCausalLM.from_config(config), tokenizer)
    requests = [request_of(seed=seed, length=3 + seed) for seed in range(3)]

    together = generate(NativeEngine(policy), requests)

    alone = [generate(NativeEngine(policy), [request])[0].token_ids for request in requests]
    assert [completion.token_ids for completion in together] == alone
