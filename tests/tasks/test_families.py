"""The families of problems: each gold is the one right answer, and each verifier believes nothing else."""

import itertools
import random
import re
import time

import pytest

from r1kit.config.tasks import ChainsTask, CountdownTask, LogicTask, OrderingTask, PairsTask, SumsTask
from r1kit.errors import VerifierError
from r1kit.tasks import FAMILIES, Family, countdown, mutilations, split_of, validate
from r1kit.types import Problem

TASKS = [
    *(ChainsTask(terms=terms) for terms in (2, 6, 16)),
    *(SumsTask(digits=digits) for digits in (1, 3, 6)),
    *(PairsTask(numbers=numbers, largest=largest) for numbers, largest in ((3, 12), (5, 19), (12, 99))),
    *(CountdownTask(largest=largest) for largest in (3, 6, 9)),
    *(OrderingTask(numbers=numbers) for numbers in (2, 4, 10)),
    *(LogicTask(people=people) for people in (2, 4, 8)),
]


def name_of(task):
    return "-".join(str(value) for value in task.model_dump(exclude={"weight", "languages"}).values())


def problems_of(task, number, seed="families"):
    rng = random.Random(f"{seed}/{name_of(task)}")
    return [FAMILIES[task.kind].make(task, rng, ("en", "zh")[place % 2]) for place in range(number)]


def is_right(answer, problem):
    return FAMILIES[problem.verifier].is_right(answer, problem)


@pytest.mark.parametrize("task", TASKS, ids=name_of)
def test_a_verifier_takes_the_gold_and_none_of_its_mutilations(task):
    rng = random.Random("mutilations")
    problems = problems_of(task, 300)
    assert [p.gold for p in problems if not is_right(p.gold, p) or not is_right(f" {p.gold} ", p)] == []
    wrong = [(p.prompt, answer) for p in problems for answer in mutilations(p.gold, rng) if is_right(answer, p)]
    assert wrong == []
    validate(problems, seed="validate")


@pytest.mark.parametrize("task", TASKS, ids=name_of)
def test_a_problem_has_one_id_in_both_languages(task):
    make = FAMILIES[task.kind].make
    for seed in range(50):
        english, chinese = (make(task, random.Random(seed), language) for language in ("en", "zh"))
        assert (english.id, english.gold, english.meta) == (chinese.id, chinese.gold, chinese.meta)
        assert (english.language, chinese.language) == ("en", "zh")
        assert english.prompt.isascii()
        assert re.search("[一-鿿]", chinese.prompt)


@pytest.mark.parametrize("task", [task for task in TASKS if task.kind == "chains"], ids=name_of)
def test_the_gold_of_a_chain_is_its_value_and_no_step_leaves_two_digits(task):
    for problem in problems_of(task, 200):
        terms = re.findall("[+-]?[0-9]", problem.prompt.lstrip("Compute计算 "))
        steps = list(itertools.accumulate(map(int, terms)))
        assert len(terms) == task.terms
        assert str(steps[-1]) == problem.gold
        assert min(steps) >= 0 and max(steps) <= 99


@pytest.mark.parametrize("task", [task for task in TASKS if task.kind == "sums"], ids=name_of)
def test_the_gold_of_a_sum_is_the_sum_of_the_numbers_asked_for(task):
    for problem in problems_of(task, 200):
        left, right = re.findall("[0-9]+", problem.prompt)
        assert int(problem.gold) == int(left) + int(right)
        assert len(left) == len(right) == task.digits


@pytest.mark.parametrize("task", [task for task in TASKS if task.kind == "pairs"], ids=name_of)
def test_exactly_one_pair_has_the_sum_asked_for(task):
    for problem in problems_of(task, 200):
        *numbers, target = map(int, re.findall("[0-9]+", problem.prompt))
        fitting = [pair for pair in itertools.combinations(numbers, 2) if sum(pair) == target]
        assert [f"{left}+{right}" for left, right in fitting] == [problem.gold]
        assert len(set(numbers)) == task.numbers and max(numbers) <= task.largest


@pytest.mark.parametrize("task", [task for task in TASKS if task.kind == "countdown"], ids=name_of)
def test_exactly_one_choice_of_operators_reaches_the_target(task):
    for problem in problems_of(task, 200):
        numbers = re.findall("[0-9]", re.search("[0-9] [0-9] [0-9]", problem.prompt)[0])
        signs = re.findall("[0-9]+", problem.prompt)
        target = int(signs[0 if problem.language == "en" else -1])
        reaching = [
            text
            for operators in itertools.product("+-*", repeat=2)
            if eval(text := "".join(a + b for a, b in zip(numbers, (*operators, ""), strict=True))) == target
        ]
        assert reaching == [problem.gold]
        assert target >= 0 and max(map(int, numbers)) <= task.largest


@pytest.mark.parametrize("task", [task for task in TASKS if task.kind == "ordering"], ids=name_of)
def test_the_gold_of_an_ordering_is_the_numbers_sorted(task):
    for problem in problems_of(task, 200):
        numbers = [int(number) for number in re.findall("[0-9]+", problem.prompt)]
        assert problem.gold.split() == [str(number) for number in sorted(numbers)]
        assert len(set(numbers)) == task.numbers


@pytest.mark.parametrize("task", [LogicTask(people=people) for people in (2, 3, 5)], ids=name_of)
def test_only_one_person_can_be_the_tallest(task):
    for problem in problems_of(task, 60):
        clues = re.findall("([A-H])>([A-H])", problem.prompt)
        people = sorted({person for clue in clues for person in clue})
        orders = [
            order
            for order in itertools.permutations(people)
            if all(order.index(taller) < order.index(smaller) for taller, smaller in clues)
        ]
        assert len(people) == task.people
        assert {order[0] for order in orders} == {problem.gold}


PAIRS = Problem(id="p", prompt="", gold="3+7", verifier="pairs", meta={"numbers": (5, 3, 7, 1), "target": 10})
COUNTDOWN = Problem(id="c", prompt="", gold="2+3*4", verifier="countdown", meta={"numbers": (2, 3, 4), "target": 14})
CHAIN = Problem(id="s", prompt="", gold="5", verifier="chains", meta={})
ZERO = Problem(id="z", prompt="", gold="0", verifier="sums", meta={})
ORDER = Problem(id="o", prompt="", gold="3 8 17", verifier="ordering", meta={"numbers": (8, 17, 3)})
LOGIC = Problem(id="l", prompt="", gold="B", verifier="logic", meta={"people": ("B", "A")})


@pytest.mark.parametrize(
    ("problem", "answer", "expected"),
    [
        (PAIRS, "3+7", True),
        (PAIRS, "7+3", True),
        (PAIRS, " 7 + 3\n", True),
        (PAIRS, "03+7", True),
        (PAIRS, "5+5", False),  # the same number twice
        (PAIRS, "4+6", False),  # the right sum of numbers that are not there
        (PAIRS, "9+1", False),
        (PAIRS, "3+5", False),
        (PAIRS, "3+7=10", False),
        (PAIRS, "3+7+0", False),
        (PAIRS, "10", False),
        (PAIRS, "3 7", False),
        (PAIRS, "３+７", False),
        (PAIRS, "-3+13", False),
        (COUNTDOWN, "2+3*4", True),
        (COUNTDOWN, " 2 + 3 * 4 ", True),
        (COUNTDOWN, "2*3+4", False),
        (COUNTDOWN, "3*4+2", False),  # the right value, the numbers in another order
        (COUNTDOWN, "4*3+2", False),
        (COUNTDOWN, "7*2", False),
        (COUNTDOWN, "14", False),
        (COUNTDOWN, "(2+3)*4", False),
        (COUNTDOWN, "2+3*4=14", False),
        (COUNTDOWN, "2+3**4", False),
        (COUNTDOWN, "２+３*４", False),
        (COUNTDOWN, "2+3x4", False),
        (COUNTDOWN, "2+3*4+0", False),
        (COUNTDOWN, "2+34", False),
        (CHAIN, "5", True),
        (CHAIN, "  5 ", True),
        (CHAIN, "05", True),
        (CHAIN, "5\n", True),
        (CHAIN, "+5", False),
        (CHAIN, "-5", False),
        (CHAIN, "５", False),
        (CHAIN, "五", False),
        (CHAIN, "5.0", False),
        (CHAIN, "5 5", False),
        (CHAIN, "=5", False),
        (CHAIN, "2+3", False),
        (CHAIN, "1_0", False),
        (CHAIN, "", False),
        (ZERO, "-0", True),
        (ZERO, "", False),
        (ORDER, "3 8 17", True),
        (ORDER, "3,8,17", True),
        (ORDER, "3, 8, 17", True),
        (ORDER, " 3 8 17\n", True),
        (ORDER, "3 17 8", False),
        (ORDER, "3 8", False),
        (ORDER, "3 8 8 17", False),
        (ORDER, "3 8 17 18", False),
        (ORDER, "3<8<17", False),
        (ORDER, "3 8 17.", False),
        (ORDER, "17 8 3", False),
        (LOGIC, "B", True),
        (LOGIC, " B\n", True),
        (LOGIC, "b", False),
        (LOGIC, "A", False),
        (LOGIC, "B>A", False),
        (LOGIC, "BA", False),
        (LOGIC, "", False),
        (LOGIC, "Ｂ", False),
    ],
)
def test_an_answer_is_read_as_written(problem, answer, expected):
    assert is_right(answer, problem) is expected


@pytest.mark.parametrize(
    ("verifier", "answer", "parsed"),
    [
        ("chains", " 12 ", 12),
        ("chains", "-7", -7),
        ("chains", "1234567890", None),  # no number that long is ever asked for
        ("chains", "twelve", None),
        ("sums", "0012", 12),
        ("pairs", "3 + 7", (3, 7)),
        ("pairs", "3+-7", None),
        ("pairs", "a+b", None),
        ("countdown", "1 + 2 * 3", "1+2*3"),
        ("countdown", "1+", None),
        ("countdown", "9**9", None),
        ("ordering", "1, 2,3", [1, 2, 3]),
        ("ordering", "1 and 2", None),
        ("logic", " C ", "C"),
        ("logic", "Z", None),
        ("logic", "I think C", None),
    ],
)
def test_what_an_answer_says(verifier, answer, parsed):
    assert FAMILIES[verifier].parse(answer) == parsed


def test_a_value_is_pythons_own_value():
    rng = random.Random("value")
    for _ in range(2000):
        operators = rng.choices("+-*", k=rng.randint(0, 7))
        text = "".join(f"{rng.randint(0, 9)}{operator}" for operator in (*operators, ""))
        assert countdown.value_of(text) == eval(text), text


@pytest.mark.parametrize(
    "text",
    ["", " ", "+1", "-1", "1+", "1++2", "1--2", "9**9", "9**9**9**9", "1/2", "12", "10+2", "(1+2)", "1 + 2", "１+2",
     "1+2\n", "1e9", "0x1", "a", "1+2+3+4+5+6+7+8+9", "__import__('os')"],
)  # fmt: skip
def test_what_is_no_expression_has_no_value(text):
    assert countdown.value_of(text) is None


@pytest.mark.parametrize("verifier", list(FAMILIES))
def test_huge_answers_are_refused_at_once(verifier):
    million = 10**6
    answers = [piece * million for piece in ("9", "9*", "1 ", " ", "(", "B", "1+")]
    started = time.perf_counter()
    assert [FAMILIES[verifier].parse(answer) for answer in answers] == [None] * len(answers)
    assert time.perf_counter() - started < 1.0


def test_a_fifth_of_all_contents_is_held_out():
    ids = {problem.id for task in TASKS for problem in problems_of(task, 400, seed="share")}
    share = sum(split_of(problem_id) == "held_out" for problem_id in ids) / len(ids)
    assert len(ids) > 3000
    assert 0.17 < share < 0.23


@pytest.mark.parametrize(
    ("verdict", "complaint"), [(lambda answer, problem: True, "accepts"), (lambda answer, problem: False, "refuses")]
)
def test_a_verifier_that_is_wrong_about_its_golds_is_refused(monkeypatch, verdict, complaint):
    problems = problems_of(ChainsTask(terms=3), 5)
    monkeypatch.setitem(FAMILIES, "chains", Family(FAMILIES["chains"].make, FAMILIES["chains"].parse, verdict))
    with pytest.raises(VerifierError, match=f"'chains' {complaint}"):
        validate(problems, seed="broken")


def test_a_verifier_that_only_looks_whether_the_gold_is_in_the_answer_is_refused(monkeypatch):
    problems = problems_of(ChainsTask(terms=3), 5)
    lazy = Family(FAMILIES["chains"].make, FAMILIES["chains"].parse, lambda answer, problem: problem.gold in answer)
    monkeypatch.setitem(FAMILIES, "chains", lazy)
    with pytest.raises(VerifierError, match="accepts"):
        validate(problems, seed="broken")
