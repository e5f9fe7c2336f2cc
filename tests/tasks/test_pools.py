"""The deck: every problem is dealt once before any is dealt again, whatever is taken, and going on is exact."""

import json
import random
from collections import Counter

import pytest

from r1kit.errors import DataError
from r1kit.tasks.pools import Deck
from r1kit.types import Problem


def problems_of(number):
    return [Problem(id=f"p{place}", prompt=f"{place}?", gold=str(place), verifier="math") for place in range(number)]


def deal(deck, size, rng=None):
    """Ids of one iteration: different problems."""
    taken = {}
    while len(taken) < size:
        problem = deck.draw(rng or random.Random(0), taken)
        taken[problem.id] = problem
    return list(taken)


@pytest.mark.parametrize(("number", "size"), [(20, 5), (20, 16), (20, 19), (20, 20), (7, 3), (100, 33)])
def test_every_problem_is_visited_about_as_often_as_any_other(number, size):
    deck, visits = Deck(problems_of(number), seed="s"), Counter()
    for _ in range(60):
        ids = deal(deck, size)
        assert len(set(ids)) == size
        visits.update(ids)
    assert len(visits) == number
    assert max(visits.values()) - min(visits.values()) <= 2


def test_an_epoch_deals_each_problem_once_in_an_order_of_its_own():
    deck = Deck(problems_of(50), seed="s")
    epochs = [[deal(deck, 1)[0] for _ in range(50)] for _ in range(3)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [deal(Deck(problems_of(50), seed="s"), 1) for _ in range(2)] == [[epochs[0][0]]] * 2
    assert [deal(deck, 1)[0] for deck in [Deck(problems_of(50), seed="t")] for _ in range(50)] != epochs[0]


def test_what_is_taken_elsewhere_waits_for_the_next_time():
    deck = Deck(problems_of(6), seed="s")
    taken = {"p1": None, "p4": None}
    first = []
    while not deck.is_spent(taken):
        first.append(deck.draw(random.Random(0), taken).id)
        taken[first[-1]] = None
    assert sorted(first) == ["p0", "p2", "p3", "p5"]
    assert {deal(deck, 2)[0] for _ in range(1)} <= {"p1", "p4"}


@pytest.mark.parametrize("size", [3, 7, 9])
@pytest.mark.parametrize("stop", [1, 4, 11])
def test_going_on_from_a_state_deals_the_same(size, stop):
    straight, stopped = Deck(problems_of(10), seed="s"), Deck(problems_of(10), seed="s")
    wanted = [deal(straight, size) for _ in range(16)]
    done = [deal(stopped, size) for _ in range(stop)]
    resumed = Deck(problems_of(10), seed="s")
    resumed.load_state(json.loads(json.dumps(stopped.state())))
    assert done + [deal(resumed, size) for _ in range(16 - stop)] == wanted
    assert resumed.state() == straight.state()


def test_a_state_of_other_problems_is_refused():
    state = Deck(problems_of(10), seed="s").state()
    changed = [*problems_of(9), Problem(id="p9", prompt="9?", gold="10", verifier="math")]
    for problems in (problems_of(11), problems_of(10)[::-1], changed, []):
        with pytest.raises(DataError, match="the data has changed since the checkpoint"):
            Deck(problems, seed="s").load_state(state)


def test_what_is_passed_over_is_not_lost_and_the_deck_never_hangs():
    deck = Deck(problems_of(10), seed="s", passes_over=lambda problem, rng: problem.id in {"p1", "p2"})
    assert {"p1", "p2"} & {problem for _ in range(20) for problem in deal(deck, 8)} == set()
    assert {"p1", "p2"} < set(deal(deck, 10)), "there are no others left"
    stubborn = Deck(problems_of(10), seed="s", passes_over=lambda problem, rng: True)
    assert sorted(deal(stubborn, 10)) == sorted(problem.id for problem in problems_of(10))
