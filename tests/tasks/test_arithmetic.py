"""Arithmetic in plain words: the gold is what Python says, quotients are whole, and the dials do what they say."""

import random
import re

import pytest

from r1kit.config.tasks import ArithmeticTask
from r1kit.rewards.verifiers import judge
from r1kit.tasks import FAMILIES, mutilations, sample_problems, split_of, validate
from r1kit.tasks.arithmetic import parse
from r1kit.types import Verdict

TASKS = [
    ArithmeticTask(),
    ArithmeticTask(operations=("+",), digits=6, terms=8),
    ArithmeticTask(operations=("*", "/"), digits=1, terms=6),
    ArithmeticTask(operations=("/",), digits=3, terms=4),
    ArithmeticTask(operations=("+", "-", "*", "/"), digits=2, terms=5),
]


@pytest.fixture(params=TASKS, ids=lambda task: f"{''.join(task.operations)}{task.digits}x{task.terms}")
def problems(request):
    rng = random.Random("arithmetic")
    made = [FAMILIES["arithmetic"].make(request.param, rng, ("en", "zh")[n % 2]) for n in range(200)]
    return request.param, made


def test_the_gold_is_pythons_own_value_and_every_quotient_is_whole(problems):
    task, made = problems
    for problem in made:
        expression = re.search(r"[0-9][0-9 +*/-]*[0-9]", problem.prompt)[0]
        assert re.fullmatch(r"[0-9]+( [-+*/] [0-9]+)*", expression)
        assert problem.gold == str(eval(expression.replace("/", "//")))
        assert eval(expression) == pytest.approx(int(problem.gold), abs=1e-6, rel=1e-12)
        assert set(re.findall("[-+*/]", expression)) <= set(task.operations)
        numbers = expression.split(" ")[::2]
        assert len(numbers) == task.terms
        assert all(len(number) == task.digits for number in numbers) or "/" in expression


def test_a_problem_has_one_id_in_both_languages(problems):
    task, _ = problems
    for seed in range(30):
        english, chinese = (FAMILIES["arithmetic"].make(task, random.Random(seed), lang) for lang in ("en", "zh"))
        assert (english.id, english.gold, english.meta) == (chinese.id, chinese.gold, chinese.meta)
        assert english.prompt.isascii() and re.search("[一-鿿]", chinese.prompt)


def test_the_math_verifier_judges_it_and_validation_passes_it_over(problems):
    _, made = problems
    validate(made, seed="arithmetic")
    for problem in made[:50]:
        assert problem.verifier == "math"
        assert judge(problem.gold, problem).verdict is Verdict.RIGHT
        assert judge(str(int(problem.gold) + 1), problem).verdict is Verdict.WRONG


def test_the_familys_own_rule_takes_the_gold_and_none_of_its_mutilations(problems):
    _, made = problems
    rng, is_right = random.Random("mutilations"), FAMILIES["arithmetic"].is_right
    assert all(is_right(problem.gold, problem) and is_right(f" {problem.gold}\n", problem) for problem in made)
    assert [a for problem in made for a in mutilations(problem.gold, rng) if is_right(a, problem)] == []
    assert (parse("-0"), parse("9" * 61), parse("1.0"), parse("４")) == (0, None, None, None)


def test_splits_do_not_overlap_and_phrases_vary():
    task = ArithmeticTask(digits=1, terms=2, languages=("en",))
    train, held_out = (sample_problems([task], 20, seed="s", split=split) for split in ("train", "held_out"))
    assert {split_of(problem.id) for problem in train} == {"train"}
    assert {split_of(problem.id) for problem in held_out} == {"held_out"}
    assert len({re.sub("[0-9]|[-+]", "", problem.prompt) for problem in train}) == 3
