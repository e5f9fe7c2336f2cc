"""The form of a completion: strict is R1-Zero's template and nothing else, and reading it takes linear time."""

import time

import pytest

from r1kit.rewards import check_format

WHOLE = "<think>2+2=4</think><answer>4</answer>"


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        "<think>2+2=4</think>\n<answer>4</answer>",
        "\n <think>\n2+2=4\n</think>\n\n<answer>\n4\n</answer>\n",
        "<think> a < b and c > d </think> <answer> <b> </answer>",
        "<think>思考</think><answer>四</answer>",
    ],
)
def test_a_think_block_then_an_answer_block_is_strict(text):
    check = check_format(text)
    assert check.strict and check.think_only
    assert check.thinking in text and check.answer in text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", None),
        ("4", None),
        ("<answer>4</answer>", "4"),
        ("<think>2+2=4</think>4", None),
        ("<think></think><answer>4</answer>", "4"),  # empty thinking
        ("<think> \n </think><answer>4</answer>", "4"),
        ("<think>2+2=4</think><answer></answer>", ""),  # empty answer
        ("<think>2+2=4</think><answer> \n</answer>", " \n"),
        (f"Sure! {WHOLE}", "4"),  # prose before, between, after
        ("<think>2+2=4</think>So it is<answer>4</answer>", "4"),
        (f"{WHOLE} I hope that helps.", "4"),
        (f"{WHOLE}{WHOLE}", "4"),  # twice
        ("<think>a</think><answer>4</answer><answer>5</answer>", None),
        ("<think>a</think><answer>4<answer>5</answer></answer>", None),  # nested
        ("<think>a<think>b</think></think><answer>4</answer>", "4"),
        ("<think>a</think></think><answer>4</answer>", "4"),
        ("<think>a<answer>5</answer></think><answer>4</answer>", "4"),  # tags quoted in the thinking
        ("<think>a<answer>4</answer></think>", None),  # an answer inside the thinking is none
        ("<answer>4</answer><think>a</think>", None),  # the wrong way round
        ("<think>a</think></answer>4<answer>", None),
        ("<think>2+2=4<answer>4</answer>", None),  # thinking that never closes swallows all
        ("<think>2+2=4</think><answer>4", None),
        ("<think>2+2=4</think>4</answer>", None),
        ("<THINK>a</THINK><ANSWER>4</ANSWER>", None),
        ("< think>a</think><answer>4</answer>", "4"),
    ],
)
def test_anything_else_is_not_strict(text, answer):
    check = check_format(text)
    assert not check.strict
    assert check.answer == answer


@pytest.mark.parametrize(
    ("text", "strict", "thinking", "answer"),
    [
        ("2+2=4</think><answer>4</answer>", True, "2+2=4", "4"),
        ("\n2+2=4\n</think>\n<answer>4</answer>", True, "\n2+2=4\n", "4"),
        (WHOLE, False, "<think>2+2=4", "4"),  # the tag a second time
        ("</think><answer>4</answer>", False, "", "4"),
        ("2+2=4<answer>4</answer>", False, "2+2=4<answer>4</answer>", None),
    ],
)
def test_a_tag_at_the_end_of_the_prompt_counts_as_written(text, strict, thinking, answer):
    check = check_format(text, prompt_ends_with_think=True)
    assert (check.strict, check.thinking, check.answer) == (strict, thinking, answer)


@pytest.mark.parametrize(
    ("text", "think_only", "thinking"),
    [
        ("<think>a</think>4", True, "a"),
        ("\n<think>\na\n</think>\n\nIt is 4.", True, "\na\n"),
        (WHOLE, True, "2+2=4"),
        ("<think>a</think>", False, "a"),  # nothing after it
        ("<think>a</think> \n\u200b", False, "a"),
        ("<think>a</think><answer></answer>", False, "a"),
        ("<think>a", False, "a"),
        ("<think> </think>4", False, " "),
        ("<think>\u200b</think>4", False, "\u200b"),  # nothing that can be seen
        ("a</think>4", False, "a"),  # never opened
        ("So: <think>a</think>4", False, "a"),
        ("<think>a</think>b</think>4", False, "a</think>b"),  # closed twice
        ("<think>a</think>4<think>b</think>5", False, "a</think>4<think>b"),
        ("4", False, None),
    ],
)
def test_think_only_is_one_block_first_and_something_after_it(text, think_only, thinking):
    check = check_format(text)
    assert (check.think_only, check.thinking) == (think_only, thinking)


@pytest.mark.parametrize(
    ("text", "think_only"),
    [("a</think>4", True), ("a</think>", False), ("</think>4", False), ("<think>a</think>4", False), ("a 4", False)],
)
def test_think_only_after_a_prompt_that_opens_the_thinking(text, think_only):
    check = check_format(text, prompt_ends_with_think=True)
    assert (check.think_only, check.strict) == (think_only, False)


def test_invisible_characters_are_no_thinking_and_no_answer():
    assert not check_format("<think>\u2060\ufeff</think><answer>4</answer>").strict
    assert not check_format("<think>a</think><answer>\u200b</answer>").strict


def test_megabytes_are_read_in_linear_time():
    million = 10**6
    pieces = ["<think>", "</think>", "<answer>", "</answer>", "<", "</", " ", "\n", "a", "<think></think><answer>"]
    texts = [piece * (4 * million // len(piece)) for piece in pieces]
    texts.append(f"<think>{'wait, ' * million}</think><answer>{'9' * million}</answer>")
    started = time.perf_counter()
    checks = [check_format(text) for text in texts]
    assert time.perf_counter() - started < 3
    assert [check.strict for check in checks] == [False] * (len(texts) - 1) + [True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think></think>Hello!", True),
        ("<think>\n\n</think>Hello!", True),
        ("<think>hm</think>Hello!", True),
        ("Hello!", False),
        ("<think></think>", False),
        ("<think></think><answer></answer>", False),
        ("So <think></think>Hello!", False),
        ("<think></think></think>Hello!", False),
    ],
)
def test_a_think_block_may_be_empty_where_something_is_said(text, expected):
    assert check_format(text).think_block is expected
