"""The source of a run's problems: evenly from files, anew from families, by weight, and the same after a resume."""

import json
from collections import Counter

import pytest

from r1kit.config.curriculum import SolveRateCurriculum
from r1kit.config.tasks import ArithmeticTask, ChainsTask, JsonlTask, LogicTask, SumsTask
from r1kit.errors import DataError
from r1kit.tasks import make_source, sample_problems
from r1kit.tasks.source import longest_problems, reports_of, verifiers_of
from r1kit.types import Completion, FinishReason, Group, Rollout, Score, Verdict


@pytest.fixture
def file_task(write_rows, make_rows):
    """A function to a task of so many problems."""

    def make(number, name="set.jsonl", prefix="", **settings):
        rows = [row | {"id": prefix + row["id"], "question": prefix + row["question"]} for row in make_rows(number)]
        return JsonlTask(path=write_rows(rows, name), **({"use_for": "train"} | settings))

    return make


def ids(problems):
    return [problem.id for problem in problems]


def iterations(source, number, size, start=0):
    return [
        ids(source.sample(size, seed=f"0/iteration-{turn}", split="train")) for turn in range(start, start + number)
    ]


def group_of(problem, verdicts):
    completion = Completion(token_ids=(1,), logprobs=(0.0,), text="", finish_reason=FinishReason.STOP, policy_version=0)
    rollouts = [
        Rollout(
            problem=problem,
            prompt_token_ids=(1,),
            completion=completion,
            score=Score(total=0.0, parts={}, verdict=verdict),
        )
        for verdict in verdicts
    ]
    return Group(problem=problem, rollouts=tuple(rollouts))


def graded(problem, num_right, size=10):
    return group_of(problem, [Verdict.RIGHT] * num_right + [Verdict.WRONG] * (size - num_right))


def test_generated_problems_are_those_of_sample_problems():
    tasks = [ChainsTask(weight=2.0), SumsTask(), LogicTask()]
    source = make_source(tasks, seed=5)
    for split in ("train", "held_out"):
        for seed in ("a", "b", "a"):
            assert source.sample(20, seed=seed, split=split) == sample_problems(tasks, 20, seed=seed, split=split)


def test_problems_of_a_file_are_visited_evenly_and_never_twice_in_an_iteration(file_task):
    source = make_source([file_task(100)], seed=0)
    turns = iterations(source, 50, 16)
    assert all(len(set(turn)) == 16 for turn in turns)
    visits = Counter(problem for turn in turns for problem in turn)
    assert (min(visits.values()), max(visits.values())) == (8, 8), "800 draws of 100 problems"


def test_the_recipes_seed_decides_the_order(file_task):
    task = file_task(100)
    first, again, other = (iterations(make_source([task], seed=seed), 3, 16) for seed in (0, 0, 1))
    assert first == again != other


def test_files_and_families_are_mixed_by_weight(file_task):
    tasks = [file_task(2000, weight=3.0), ChainsTask(weight=1.0)]
    turns = iterations(make_source(tasks, seed=0), 10, 80)
    share = sum(problem.startswith("q") for turn in turns for problem in turn) / 800
    assert abs(share - 0.75) < 0.05


def test_a_small_file_gives_all_it_has_and_the_others_fill_in(file_task):
    turns = iterations(make_source([file_task(5, weight=100.0), ChainsTask()], seed=0), 4, 20)
    assert [sum(problem.startswith("q") for problem in turn) for turn in turns] == [5, 5, 5, 5]


def test_a_problem_that_stands_in_two_files_is_drawn_once_an_iteration(file_task):
    tasks = [file_task(12), file_task(12, name="copy.jsonl")]
    turns = iterations(make_source(tasks, seed=0), 40, 10)
    assert all(len(set(turn)) == 10 for turn in turns)
    assert max(Counter(problem for turn in turns for problem in turn).values()) < 48


def test_an_id_with_two_answers_in_two_files_is_refused(file_task, write_rows):
    other = JsonlTask(path=write_rows([{"id": "q3", "question": "?", "answer": "77"}], "other.jsonl"), use_for="train")
    with pytest.raises(DataError, match=r"both have a problem 'q3', with answers '77' and '4': an id must name one"):
        make_source([file_task(5), other], seed=0)


@pytest.mark.parametrize(
    ("split", "held_out", "complaint"),
    [
        ("train", 0.0, r"only 8 different train problems found for the 9 asked for \(tasks.0 holds 8\); "
                       r"ask for fewer \(rollouts.problems_per_iteration\) or add more tasks"),
        ("held_out", 1.0, r"only 8 different held_out .* ask for fewer \(evaluation.num_problems\) or give a file"),
        ("held_out", 0.0, r"only 0 different held_out problems found .* held_out or held_out_path"),
    ],
)  # fmt: skip
def test_too_few_problems_say_how_many_there_are_and_which_knob_to_turn(file_task, split, held_out, complaint):
    task = file_task(8, use_for="both", held_out=held_out)
    for draw in (make_source([task], seed=0).sample, lambda *args, **kwargs: sample_problems([task], *args, **kwargs)):
        with pytest.raises(DataError, match=complaint):
            draw(9, seed="a", split=split)


def test_held_out_problems_are_the_same_at_each_test_and_move_nothing(file_task):
    task = file_task(200, use_for="both", held_out=0.3)
    source, undisturbed = make_source([task], seed=0), make_source([task], seed=0)
    tests = []
    for turn in range(4):
        tests.append(ids(source.sample(20, seed="0/held-out", split="held_out")))
        assert iterations(source, 1, 16, turn) == iterations(undisturbed, 1, 16, turn)
    assert tests == [ids(sample_problems([task], 20, seed="0/held-out", split="held_out"))] * 4
    assert tests[0][:7] == ids(sample_problems([task], 7, seed="0/held-out", split="held_out"))
    assert ids(sample_problems([task], 20, seed="other", split="held_out")) != tests[0]
    trained = {problem for turn in iterations(source, 30, 16) for problem in turn}
    assert trained & set(tests[0]) == set()


CURRICULUM = SolveRateCurriculum(lowest=0.2, highest=0.8, exploration=0.1, memory=0.5)


def train(source, number, skill, start=0, size=10):
    """Iterations in which `skill` says how many of 10 completions of a problem are right."""
    turns = []
    for turn in range(start, start + number):
        problems = source.sample(size, seed=f"0/iteration-{turn}", split="train")
        source.record([graded(problem, skill(problem)) for problem in problems])
        turns.append(ids(problems))
    return turns


@pytest.mark.parametrize("curriculum", [None, CURRICULUM])
@pytest.mark.parametrize("stop", [1, 5, 13])
def test_a_resumed_source_goes_on_to_the_last_problem(file_task, curriculum, stop):
    tasks = [file_task(37), file_task(11, "b.jsonl", "other "), ChainsTask(terms=3), ChainsTask(terms=9, weight=0.5)]

    def skill(problem):
        return len(problem.prompt) * 7 % 11 if problem.verifier == "math" else problem.meta["difficulty"]

    straight = make_source(tasks, curriculum, seed=3)
    wanted = train(straight, 20, skill)
    stopped = make_source(tasks, curriculum, seed=3)
    done = train(stopped, stop, skill)
    resumed = make_source(tasks, curriculum, seed=3)
    resumed.load_state(json.loads(json.dumps(stopped.state())))
    assert done + train(resumed, 20 - stop, skill, stop) == wanted
    assert resumed.state() == straight.state()


def test_an_empty_state_is_the_beginning_and_one_of_other_tasks_is_refused(file_task):
    source = make_source([file_task(10)], seed=0)
    first = iterations(source, 1, 4)
    fresh = make_source([file_task(10)], seed=0)
    fresh.load_state({})
    assert iterations(fresh, 1, 4) == first
    with pytest.raises(DataError, match=r"the checkpoint knows nothing of tasks\.1"):
        make_source([ChainsTask(), file_task(10)], seed=0).load_state(source.state())
    with pytest.raises(DataError, match="the data has changed since the checkpoint"):
        make_source([file_task(11)], seed=0).load_state(source.state())


def test_a_curriculum_prefers_what_is_solved_sometimes(file_task):
    source = make_source([file_task(100)], CURRICULUM, seed=0)

    def skill(problem):
        return {0: 0, 1: 5, 2: 10}.get(int(problem.id[1:]) % 4, 0)

    turns = train(source, 10, skill)
    assert len({problem for turn in turns for problem in turn}) == 100, "what was never tried comes first"
    visits = Counter(int(problem[1:]) % 4 == 1 for turn in train(source, 100, skill, 10) for problem in turn)
    # Per turn of the deck 25 problems inside and a tenth of the 75 outside.
    assert abs(visits[True] / 1000 - 25 / 32.5) < 0.06


def test_what_changes_is_noticed(file_task):
    source = make_source([file_task(20)], CURRICULUM, seed=0)
    train(source, 2, lambda problem: 0)
    # Now all can be solved half of the time; only exploration can find that out.
    train(source, 60, lambda problem: 5, 2)
    rates = source.state()["solve_rates"]
    assert sum(rate >= 0.2 for rate in rates.values()) == 20


def test_a_solve_rate_from_the_file_serves_until_a_better_is_known(write_rows, make_rows):
    rows = [row | {"solve_rate": 0.5 if place < 20 else 0.0} for place, row in enumerate(make_rows(100))]
    source = make_source([JsonlTask(path=write_rows(rows), use_for="train")], CURRICULUM, seed=0)
    drawn = [int(problem[1:]) for turn in iterations(source, 20, 10) for problem in turn]
    assert sum(number < 20 for number in drawn) / 200 > 0.6, "a fifth of the file"
    assert sample_problems([JsonlTask(path=write_rows(rows), use_for="train")], 100, seed="a", split="train")


def test_a_running_rate_is_the_mean_that_memory_says_and_unknown_verdicts_do_not_count(file_task):
    source = make_source([file_task(1)], CURRICULUM.model_copy(update={"memory": 0.75}), seed=0)
    (problem,) = source.sample(1, seed="a", split="train")
    right, wrong, unknown = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN
    for verdicts, rate in (([unknown, unknown], None), ([right, right, unknown], 1.0), ([right, wrong], 0.875)):
        source.record([group_of(problem, verdicts)])
        assert source.state()["solve_rates"].get(problem.id) == rate


def test_generated_tasks_keep_a_share_of_their_weight_outside_the_band():
    tasks = [ChainsTask(terms=terms) for terms in (2, 6, 12)]
    source = make_source(tasks, CURRICULUM, seed=0)
    skill = {2: 10, 6: 5, 12: 0}
    turns = []
    for turn in range(30):
        problems = source.sample(40, seed=str(turn), split="train")
        source.record([graded(problem, skill[problem.meta["difficulty"]]) for problem in problems])
        turns.append(Counter(problem.meta["difficulty"] for problem in problems))
    later = sum(turns[1:], Counter())
    assert abs(later[6] / later.total() - 1 / 1.2) < 0.04
    assert source.state()["solve_rates"] == {"tasks.0": 1.0, "tasks.1": 0.5, "tasks.2": 0.0}


def test_without_a_curriculum_nothing_is_remembered(file_task):
    source = make_source([file_task(20), ChainsTask()], seed=0)
    train(source, 3, lambda problem: 10)
    assert source.state()["solve_rates"] == {}


def test_what_a_run_checks_before_it_starts(file_task, write_rows):
    mixed = JsonlTask(path=write_rows([{"question": "?" * n, "answer": "A", "verifier": name} for n, name in
                                       ((3, "math"), (9, "mth"), (5, "choice"))], "mixed.jsonl"))  # fmt: skip
    tasks = [file_task(4), mixed, ArithmeticTask(), ChainsTask()]
    assert set(verifiers_of(tasks)) == {"math", "mth", "choice", "chains"}
    assert verifiers_of(tasks)["mth"].endswith("mixed.jsonl")
    assert [problem.prompt for problem in longest_problems([mixed, ChainsTask()], 2)] == ["?" * 9, "?" * 5]
    assert [report.num_rows for report in reports_of(tasks)] == [4, 3]
