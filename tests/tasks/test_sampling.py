"""Which problems are drawn: the same for the same seed, all different, by weight, and never one that is held out."""

import itertools

import pytest

from r1kit.config.tasks import ChainsTask, CountdownTask, LogicTask, OrderingTask, PairsTask, SumsTask
from r1kit.errors import DataError
from r1kit.tasks import sample_problems, split_of

# The smallest of each family: most of their contents are drawn, so that a leak would show.
SMALL = [
    ChainsTask(terms=2),
    SumsTask(digits=1),
    PairsTask(numbers=3, largest=12),
    CountdownTask(largest=4),
    OrderingTask(numbers=2),
    LogicTask(people=3),
]


def many(task, split):
    """Problems of one split, from several seeds and either language alone."""
    tasks = [task.model_copy(update={"languages": (language,)}) for language in ("en", "zh")]
    draws = [sample_problems([only], 8, seed=str(seed), split=split) for only in tasks for seed in range(40)]
    return list(itertools.chain(*draws))


@pytest.mark.parametrize("task", SMALL, ids=lambda task: task.kind)
def test_training_and_held_out_problems_never_overlap(task):
    train, held_out = many(task, "train"), many(task, "held_out")
    assert {problem.id for problem in train} & {problem.id for problem in held_out} == set()
    assert {problem.prompt for problem in train} & {problem.prompt for problem in held_out} == set()
    assert {split_of(problem.id) for problem in train} == {"train"}
    assert {split_of(problem.id) for problem in held_out} == {"held_out"}


def test_the_same_clues_in_another_order_are_the_same_problem():
    train, held_out = (
        {frozenset(problem.meta["clues"]) for problem in many(LogicTask(people=3), split)}
        for split in ("train", "held_out")
    )
    assert train & held_out == set()


def test_the_same_seed_draws_the_same_problems():
    first, again, other = (sample_problems(SMALL, 40, seed=seed, split="train") for seed in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_a_smaller_draw_is_the_start_of_a_larger_one():
    assert sample_problems(SMALL, 40, seed="a", split="held_out")[:15] == sample_problems(
        SMALL, 15, seed="a", split="held_out"
    )


def test_no_problem_is_drawn_twice():
    problems = sample_problems(SMALL, 80, seed="a", split="train")
    assert len({problem.id for problem in problems}) == len(problems) == 80


def test_weights_are_shares():
    tasks = [ChainsTask(weight=3.0), OrderingTask(weight=1.0)]
    problems = sample_problems(tasks, 800, seed="weights", split="train")
    assert abs(sum(problem.verifier == "chains" for problem in problems) / 800 - 0.75) < 0.06


def test_languages_are_drawn_evenly_or_as_told():
    both = sample_problems([ChainsTask()], 400, seed="languages", split="train")
    only = sample_problems([ChainsTask(languages=("zh",))], 50, seed="languages", split="train")
    assert abs(sum(problem.language == "zh" for problem in both) / 400 - 0.5) < 0.08
    assert {problem.language for problem in only} == {"zh"}


def test_too_few_problems_are_an_error_that_says_how_many_there_are():
    with pytest.raises(DataError, match=r"only \d+ different held_out problems found for the 60 asked for"):
        sample_problems([SumsTask(digits=1)], 60, seed="few", split="held_out")


def test_the_last_draw_counts(monkeypatch):
    monkeypatch.setattr("r1kit.tasks.source.MAX_FRUITLESS_DRAWS", 1)
    found = []
    for seed in range(10):
        try:
            found += sample_problems([ChainsTask()], 1, seed=str(seed), split="train")
        except DataError as error:
            assert "only 0 different" in str(error)
    assert len(found) > 4
