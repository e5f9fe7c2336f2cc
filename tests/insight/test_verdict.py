"""The verdict on a run: the worst that is wrong comes first, with the knob to turn."""

import random

import pytest

from r1kit.insight.doctor.course import WINDOW
from r1kit.insight.verdict import MEANINGS, verdict

HEALTHY = {"dead_group_share": 0.2, "truncated_share": 0.02, "entropy": 0.5, "logprob_gap": 1e-6}


def rows(rewards, **figures):
    return [
        {"iteration": place, "reward": reward, "pass_at_1": reward, "pass_at_1_stderr": 0.03, **HEALTHY, **figures}
        for place, reward in enumerate(rewards)
    ]


def said_of(found):
    return verdict(found, settings={"sampling": {"max_new_tokens": 96}})


def test_nothing_is_said_of_nothing():
    assert said_of([]) == "nothing sampled yet"
    assert said_of([{"iteration": 3, "held_out": {"pass_at_1": 1.0}}]) == "nothing sampled yet"


@pytest.mark.parametrize(
    ("rewards", "figures", "expected"),
    [
        ([0.3] * 8, {"logprob_gap": 0.2}, ["mismatch", "0.2", "dtype"]),
        ([0.0] * 8, {"dead_group_share": 0.95}, ["no signal", "95%", "easier problems"]),
        ([1.0] * 8, {"dead_group_share": 0.95}, ["no signal", "95%", "harder problems"]),
        ([0.3] * 8, {"truncated_share": 0.4}, ["truncation", "40%", "96 tokens", "sampling.max_new_tokens"]),
        ([0.2] * 8, {"entropy": 0.001}, ["entropy collapse", "0.20", "optimizer.lr"]),
        ([0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5], {}, ["learning", "0.10 -> 0.50"]),
        ([0.5, 0.5, 0.5, 0.5, 0.2, 0.2, 0.2, 0.2], {}, ["getting worse", "0.50 -> 0.20", "optimizer.lr"]),
        ([0.98] * 8, {}, ["solved", "0.98"]),
        ([0.4] * 8, {}, ["level", "0.40"]),
        ([0.4] * 3, {}, ["too early"]),
    ],
)
def test_each_state_has_its_words(rewards, figures, expected):
    said = said_of(rows(rewards, **figures))
    assert "\n" not in said
    assert all(word in said for word in expected), said


def test_the_worst_comes_first():
    bad = {"logprob_gap": 0.2, "dead_group_share": 0.95, "truncated_share": 0.5, "entropy": 0.001}
    order = ["mismatch", "no signal", "truncation", "entropy collapse", "level"]
    for healthy_from, name in enumerate(order):
        figures = dict(list(bad.items())[healthy_from:])
        assert said_of(rows([0.1] * 8, **figures)).startswith(name)


def test_only_the_last_iterations_count():
    ill = rows([0.1] * 5, truncated_share=0.9)
    assert said_of(ill + rows([0.4] * WINDOW)).startswith("level")
    assert said_of(rows([0.4] * 5) + rows([0.4] * WINDOW, truncated_share=0.9)).startswith("truncation")


def test_one_bad_mismatch_among_good_ones_is_not_averaged_away():
    assert said_of([*rows([0.4] * 7), *rows([0.4], logprob_gap=0.3)]).startswith("mismatch")


def test_a_policy_that_is_sure_and_right_has_not_collapsed():
    assert said_of(rows([0.9] * 8, entropy=0.001)).startswith("level")


def test_iterations_without_an_update_have_no_entropy_and_no_gap():
    bare = [{"reward": 0.0, "pass_at_1": 0.0, "dead_group_share": 1.0, "truncated_share": 0.0} for _ in range(8)]
    assert said_of(bare).startswith("no signal")


def test_a_coin_toss_is_called_learning_about_as_often_as_two_standard_errors_allow():
    rng = random.Random(0)
    tossed = ([sum(rng.random() < 0.5 for _ in range(256)) / 256 for _ in range(WINDOW)] for _ in range(400))
    said = [said_of(rows(rewards, pass_at_1_stderr=0.03125)) for rewards in tossed]
    assert sum(word.startswith("learning") for word in said) < 0.05 * len(said)


def test_every_figure_has_a_meaning():
    assert {"reward", "held_out", "truncated_share", "dead_group_share", "entropy", "logprob_gap"} <= set(MEANINGS)
    assert all(meaning and "\n" not in meaning for meaning in MEANINGS.values())
