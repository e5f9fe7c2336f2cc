"""Countdown: an expression is read by a parser of our own, exactly and within bounds, and never evaluated."""

import time
from fractions import Fraction

import pytest

from r1kit.config.answers import ExpressionSettings
from r1kit.errors import VerifierError
from r1kit.rewards.verifiers.expression import ExpressionVerifier, UnreadableExpressionError, read_expression
from r1kit.types import Problem, Verdict

VERIFIER = ExpressionVerifier()


def judge(answer, numbers=(1, 3, 4, 6), target=24, **meta):
    fields = {"numbers": list(numbers), "target": target, **meta}
    return VERIFIER.judge(answer, Problem(id="24", prompt="?", gold="", verifier="expression", meta=fields))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("8-3-2", 3),
        ("8/4/2", 1),
        ("6/(1-3/4)", 24),
        ("-3+5", 2),
        ("2*(-3)", -6),
        ("1/3+1/6", Fraction(1, 2)),
        ("0.1+0.2", Fraction(3, 10)),
        ("[1 + 2] × 3", 9),
        ("8 ÷ 4 − 1", 1),
        (r"\frac{6}{1-\frac{3}{4}}", 24),
        (r"\left(1+2\right)\times 3", 9),
        (r"$6 \div 3 \cdot 4$", 8),
        ("**(1+2)*3**", 9),
        ("1+2 = 3", 3),
        ("3 = 1+2", 3),
        ("1+2=4", None),
        ("1/0", None),
        ("1/(2-2)", None),
        ("(１+２)*３", 9),
        ("1+2.", 3),
    ],
)
def test_the_value_is_exact(text, value):
    assert read_expression(text, ExpressionSettings())[0] == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1+",
        "+1",
        "1 2",
        "1--2",
        "2**3",
        "2**-3",
        "7//2",
        "2^3",
        "2³",
        "5!",
        "5%2",
        "(1+2",
        "1+2)",
        "()",
        "(1)(2)",
        "2(3)",
        "1e3",
        "0x10",
        "1_000",
        "1,000",
        "sqrt(4)",
        "__import__('os').system('ls')",
        "1+2=3=3",
        "1+2=x",
        "1;2",
        "1+2 or 3",
        "1234567890123",
        "٣+١",
        "(" * 40 + "1" + ")" * 40,
        "1+" * 300 + "1",
    ],
)
def test_anything_else_is_no_expression(text):
    with pytest.raises(UnreadableExpressionError):
        read_expression(text, ExpressionSettings())
    judgement = judge(text)
    assert judgement.verdict is Verdict.WRONG and not judgement.is_readable


def test_every_number_once_and_the_target_is_right():
    assert judge("6/(1-3/4)").verdict is Verdict.RIGHT
    assert judge("6/(1-3/4) = 24").verdict is Verdict.RIGHT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("6*4", "does not use every number"),
        ("6*4*1*1", "uses a number that is not there, or too often"),
        ("24", "uses a number that is not there, or too often"),
        ("64/3+1", "uses a number that is not there, or too often"),  # no joining of digits
        ("6+4+3+1", "another value"),
        ("6*4*1/3", "another value"),
        ("6/(1-3/4) = 23", "divides by zero, or is not what it says"),
        ("6/(4-3-1)", "divides by zero, or is not what it says"),
    ],
)
def test_a_wrong_expression_says_why(answer, reason):
    judgement = judge(answer)
    assert (judgement.verdict, judgement.reason) == (Verdict.WRONG, reason)
    assert judgement.is_readable


def test_numbers_may_be_left_out_where_the_problem_says_so():
    loose = {"verifier_options": {"every_number": False}}
    assert judge("6*4", **loose).verdict is Verdict.RIGHT
    assert judge("6*4*1*1", **loose).verdict is Verdict.WRONG
    assert judge("-3+5", (3, 5), 2, verifier_options={"unary_minus": False}).verdict is Verdict.WRONG


def test_equal_numbers_are_counted():
    assert judge("3*3+3*5", (3, 3, 3, 5)).verdict is Verdict.RIGHT
    assert judge("3*3+3*5", (3, 3, 5, 5)).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("meta", "gold"),
    [
        ({"nums": [1, 2], "target": "3"}, ""),
        ({"numbers": ["1", 2.0], "target": 3.0}, ""),
        ({"numbers": [1, 2]}, "3"),
        ({"numbers": [1, 2]}, "2+1"),
    ],
)
def test_the_fields_of_data_files_are_read(meta, gold):
    problem = Problem(id="x", prompt="", gold=gold, verifier="expression", meta=meta)
    assert [VERIFIER.judge(answer, problem).verdict for answer in ("1+2", "2-1")] == [Verdict.RIGHT, Verdict.WRONG]


def test_an_unreadable_target_is_unknown_and_missing_numbers_are_refused():
    assert judge("1", (1,), "many").verdict is Verdict.UNKNOWN
    for numbers in ([], ["a"], "12", None):
        with pytest.raises(VerifierError, match="24: `numbers`"):
            judge("1", target=1, numbers=numbers or ()) if numbers != "12" else judge("1", ("1 2",))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer> 1+2 </answer>", "1+2"),
        ("so \\boxed{1+2}", "1+2"),
        ("The answer is 1+2.", "1+2"),
        ("Let me see.\n1+2 = 3", "1+2 = 3"),
        ("<think>1+2", None),
    ],
)
def test_the_expression_is_found_where_it_is_marked(text, answer):
    assert VERIFIER.extract(text, Problem(id="x", prompt="", gold="", verifier="expression")) == answer


def test_hostile_texts_are_read_in_time():
    texts = ["9**9**9**9", "(" * 10**6, "9" * 10**6, "1/3+" * 99 + "1", "1*" * 199 + "1", "\\frac{" * 10**5]
    started = time.perf_counter()
    assert all(judge(text).verdict is Verdict.WRONG for text in texts)
    assert time.perf_counter() - started < 1
