"""Long lists of problems through the engine: order, windows, seeds, and what is left behind."""

from copy import copy
from dataclasses import replace
from itertools import islice

import pytest

from r1kit.config.rollouts import RewardSettings
from r1kit.config.tasks import ChainsTask
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.rollouts import Pace, Sampler
from r1kit.errors import DataError
from r1kit.models.chat_template import ChatTemplate
from r1kit.tasks import sample_problems
from r1kit.types import Problem, SamplingSpec

PROBLEMS = sample_problems([ChainsTask(terms=4)], 9, seed="drawn", split="train")


@pytest.fixture
def make_sampler(make_policy):
    def make(slots: int = 8) -> Sampler:
        policy = make_policy("llama")
        return Sampler(
            engine=NativeEngine(policy, max_sequences=slots),
            template=ChatTemplate(policy.tokenizer, "nano"),
            sampling=SamplingSpec(max_new_tokens=12, temperature=1.0, top_p=0.95),
            rewards=RewardSettings(),
        )

    return make


def tokens(drawn):
    return [[completion.token_ids for completion in found.completions] for found in drawn]


@pytest.mark.parametrize(("slots", "window"), [(1, 1), (3, 2), (8, 4), (64, 9)])
def test_the_same_completions_come_in_order_whatever_the_windows_and_slots(make_sampler, slots, window):
    whole = [group.rollouts for group in make_sampler(64).groups(PROBLEMS, 3, seed="a")]

    pace = Pace(slots=slots, problems_per_window=window)
    drawn = list(make_sampler(slots).drawn(iter(PROBLEMS), 3, seed="a", pace=pace))

    assert [found.problem.id for found in drawn] == [problem.id for problem in PROBLEMS]
    assert tokens(drawn) == [[rollout.completion.token_ids for rollout in rollouts] for rollouts in whole]
    scored = make_sampler().scored(drawn[4], seed="a")
    assert [r.score for r in scored.rollouts] == [r.score for r in whole[4]]


def test_a_window_drawn_again_is_the_same_to_the_last_bit_of_its_logprobs(make_sampler):
    pace = Pace(slots=4, problems_per_window=3)
    whole = list(make_sampler(4).drawn(PROBLEMS, 2, seed="a", pace=pace))
    again = list(make_sampler(4).drawn(PROBLEMS[3:], 2, seed="a", pace=pace))
    assert [found.completions for found in again] == [found.completions for found in whole[3:]]


def test_no_more_than_a_window_is_read_ahead_and_no_more_than_the_slots_are_in_flight(make_sampler):
    read, running = [], []
    problems = (read.append(problem.id) or problem for problem in PROBLEMS)
    drawn = make_sampler(4).drawn(
        problems,
        3,
        seed="a",
        pace=Pace(slots=4, problems_per_window=2),
        watch=lambda now, finished: running.append(now + finished),
    )
    for count, _ in enumerate(drawn, start=1):
        assert len(read) <= count + 1
    assert max(running) == 4


def test_whoever_stops_listening_leaves_an_idle_engine(make_sampler):
    sampler = make_sampler(4)
    drawn = sampler.drawn(PROBLEMS, 3, seed="a", pace=Pace(slots=4, problems_per_window=9))
    list(islice(drawn, 1))
    drawn.close()
    assert sampler.engine.step() == []


def test_a_window_holds_at_least_one_problem_and_four_times_the_slots():
    assert Pace.of(64, 4).problems_per_window == 64
    assert Pace.of(8, 64).problems_per_window == 1


CHAT = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_a_conversation_is_read_whole_and_refused_where_there_is_no_room_for_it(make_sampler, tokenizer):
    turns = tuple({"role": role, "content": "Compute 1+1"} for role in ("user", "assistant", "user"))
    problem = Problem(id="x", prompt="Compute 1+1", gold="2", verifier="chains", messages=turns)
    sampler = make_sampler()
    with pytest.raises(DataError, match="room for one question"):
        sampler.groups([problem], 1, seed="a")
    chat = copy(tokenizer)
    chat.chat_template = CHAT
    (group,) = replace(sampler, template=ChatTemplate(chat, "chat")).groups([problem], 1, seed="a")
    said = tokenizer.decode(group.rollouts[0].prompt_token_ids)
    assert said.count("Compute 1+1") == 3 and said.endswith("[assistant]")
