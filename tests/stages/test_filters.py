"""Each filter alone: what it keeps and what it drops."""

import pytest

from r1kit.config.rejection import FilterSettings
from r1kit.stages.candidates import Candidate
from r1kit.stages.filters import balanced, few_per_problem, filters_of, sift, solve_rates, without_duplicates
from r1kit.stages.funnel import Funnel
from r1kit.types import FinishReason, Problem, Verdict

GOOD = "<think>I add 3 and 4, which makes 7, and I check that again.</think>The answer is 7."


def problem(number=0, **fields):
    known = {"id": f"sum/{number}", "prompt": f"What is {number} + 7?", "gold": "7", "verifier": "math"}
    return Problem(**known | fields)


def candidate(text=GOOD, **fields):
    known = {
        "problem": problem(),
        "route": "plain",
        "number": 0,
        "answer": "7",
        "verdict": Verdict.RIGHT,
        "finish_reason": FinishReason.STOP,
        "num_tokens": 20,
        "repeated_share": 0.0,
    }
    return Candidate(text=text, **known | fields)


def dropped_by(found, **settings):
    """The name of the filter that drops a candidate; None where it is kept."""
    funnel = Funnel()
    kept = list(sift([found], filters_of(FilterSettings(**settings)), funnel))
    dropping = [name for name, count in funnel.dropped.items() if count]
    assert len(kept) + len(dropping) == 1
    return dropping[0] if dropping else None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (candidate(), None),
        (candidate(verdict=Verdict.WRONG), "right"),
        (candidate(verdict=Verdict.UNKNOWN), "right"),
        (candidate(finish_reason=FinishReason.LENGTH), "finished"),
        (candidate("The answer is 7."), "readable form"),
        (candidate("<think>I add.</think>"), "readable form"),
        (candidate("<think>I add.</think><think>Again.</think>It is 7."), "readable form"),
        (candidate("<think>I add 3 and 4, 这样就得到七了对吧没错。</think>The answer is 7."), "one language"),
        (candidate("<think>三加四等于七，再检查一遍。</think>The answer is 7."), "one language"),
        (candidate("<think>$3+4=7$</think>The answer is 7."), None),
        (candidate(repeated_share=0.3), "no repetition"),
        (candidate(f"<think>{'I add 3 and 4. ' * 200}</think>It is 7."), "no long paragraph"),
        (candidate("<think>" + "I add 3 and 4.\n" * 200 + "</think>It is 7."), None),
        (candidate("<think>I run this:\n```python\nprint(3 + 4)\n```\n</think>It is 7."), "no code block"),
        (candidate("<think>I add them.</think>```\n7\n```"), None),
    ],
)
def test_each_filter_drops_its_own(found, expected):
    assert dropped_by(found) == expected


def test_settings_decide_what_is_dropped():
    code = candidate("<think>I run this:\n~~~\n3 + 4\n~~~\n</think>It is 7.")
    assert dropped_by(code, code_blocks="keep") is None
    assert dropped_by(candidate("It is 7, since 3 + 4 is."), form="any") is None
    assert dropped_by(candidate("   "), form="any") == "readable form"
    assert dropped_by(candidate(), min_thinking_chars=100) == "some thinking"
    mixed = candidate("<think>三加四等于七，再检查一遍。</think>The answer is 7.")
    assert dropped_by(mixed, mixed_languages="translate") is None
    assert dropped_by(candidate(f"<think>{'I add 3 and 4. ' * 500}</think>It is 7."), max_paragraph_chars=0) is None


def test_chinese_thinking_is_of_the_language_of_a_chinese_question():
    text = "<think>三加四等于七，再检查一遍。</think>答案是7。"
    assert dropped_by(candidate(text, problem=problem(language="zh"))) is None


def test_equal_texts_of_one_question_are_kept_once():
    spaced = GOOD.replace(" ", "  ")
    found = [candidate(), candidate(spaced, number=1), candidate(problem=problem(1)), candidate(GOOD + "!", number=2)]
    kept = without_duplicates(found, Funnel())
    assert kept == [found[0], found[2], found[3]]


def test_at_most_so_many_of_a_problem_and_no_others_are_lost():
    found = [candidate(problem=problem(place), number=number) for place in (0, 1, 2) for number in range(place + 1)]
    kept = few_per_problem(found, 2, seed="s", funnel=Funnel())
    assert [c.problem.id for c in kept] == ["sum/0", "sum/1", "sum/1", "sum/2", "sum/2"]
    assert kept == few_per_problem(found, 2, seed="s", funnel=Funnel())


def test_no_difficulty_holds_more_than_its_share():
    counts = {"1": 60, "2": 30, "3": 10}
    found = [
        candidate(problem=problem(f"{level}-{number}", meta={"difficulty": level}))
        for level, count in counts.items()
        for number in range(count)
    ]

    def kept(factor):
        levels = [c.problem.meta["difficulty"] for c in balanced(found, factor, {}, seed="s", funnel=Funnel())]
        return {level: levels.count(level) for level in counts}

    assert kept(1.0) == {"1": 34, "2": 30, "3": 10}  # 100 in three bins: at most 34 in each
    assert kept(1.5) == {"1": 50, "2": 30, "3": 10}
    assert kept(0.0) == counts


def test_without_a_difficulty_the_solve_rate_is_one():
    found = [candidate(problem=problem(place), number=number) for place in (0, 1) for number in range(4)]
    rates = solve_rates([*found[:5], *(candidate(problem=problem(1), verdict=Verdict.WRONG) for _ in range(9))])
    assert rates == {"sum/0": 1.0, "sum/1": 0.1}
    kept = balanced(found, 1.0, {"sum/0": 1.0, "sum/1": 1.0}, seed="s", funnel=Funnel())
    assert len(kept) == 8
    assert len(balanced([*found, *found[:4]], 1.0, rates, seed="s", funnel=Funnel())) == 10
