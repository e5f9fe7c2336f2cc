"""What a completion does besides being right: reflective words, whole ones only, and languages that mix."""

import time

import pytest

from r1kit.evaluation.behaviours import count_behaviours


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("the button was checked mistakenly", 0),  # 'button' is no 'but', 'checked' no 'check'
        ("waiting, errors, butter, rewrong", 0),
        ("but", 1),
        ("Wait. WAIT! wait,", 3),
        ("wait mistake however but retry error verify wrong evaluate check", 10),
        ("<think>wait</think><answer>check</answer>", 2),
        ("2+2=5 wait,2+2=4 ok,", 1),
        ("等等,不对", 2),
        ("等一下 错误 然而 但是 重试 验证 评估 检查", 8),
        ("等 一下", 0),
        ("wait, 等等", 2),
        ("5等等,6检查7", 2),
    ],
)
def test_reflective_words_are_counted(text, number):
    assert count_behaviours(text, language="en").reflections == number


def test_a_word_that_touches_another_script_is_whole():
    assert count_behaviours("让我check一下", language="zh").reflections == 1


@pytest.mark.parametrize(
    ("text", "language", "mixes"),
    [
        ("", "en", False),
        ("", "zh", False),
        ("2+2=4", "en", False),
        ("2+2=4", "zh", False),
        ("check steps: 2+2=4 ok,", "en", False),
        ("check steps: 2+2=4 ok,", "zh", True),
        ("逐步检查:2+2=4对,", "zh", False),
        ("逐步检查:2+2=4对,", "en", True),
        ("A>B B>C 所以A", "zh", False),  # single letters are names, not words
        ("one two three four five six seven eight nine ten 十", "en", False),  # one in eleven
        ("one two three four five six seven eight nine 十", "en", True),  # one in ten
        ("<think></think><answer></answer>四", "zh", False),  # tags are no English
    ],
)
def test_a_completion_mixes_languages_from_a_tenth_of_its_words_on(text, language, mixes):
    assert count_behaviours(text, language=language).mixes_languages is mixes


def test_two_chinese_signs_weigh_as_much_as_one_word():
    words = "word " * 19
    assert not count_behaviours(words + "二字", language="en").mixes_languages  # 1 of 20
    assert count_behaviours(words + "二字四字", language="en").mixes_languages is False  # 2 of 21
    assert count_behaviours("word " * 18 + "二字四字", language="en").mixes_languages  # 2 of 20


def test_a_megabyte_is_counted_in_linear_time():
    started = time.perf_counter()
    assert count_behaviours("等等wait, <think" * 80_000, language="en").reflections >= 80_000
    assert time.perf_counter() - started < 5
