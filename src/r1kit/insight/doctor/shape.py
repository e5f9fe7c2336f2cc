"""How completions change besides being right: their length, their end, their format, their language."""

from collections.abc import Sequence
from typing import Any

from r1kit.insight.doctor.course import WINDOW, Change, Course, Row, change
from r1kit.insight.doctor.finding import Check, Finding, Severity

MANY_CUT = 0.25
SOME_CUT = 0.10
MIN_CUT = 0.05
BIASED_GROWTH = 1.4
"""Growth of wrong answers, over that of right ones, and their length over the right ones', that are a bias."""
SHRUNK = 0.5
FORMAT_LOSS = 0.2
MIXING_RISE = 0.15
MAX_PERIOD = 60
"""Signs in the longest repetition that counts as a loop."""


def truncation(course: Course) -> Finding | None:
    """Completions are cut before they can answer."""
    cut = course.recently("truncated_share") or 0.0
    if cut <= SOME_CUT:
        return None
    limit = course.setting("sampling.max_new_tokens")
    at, worst = max(course.series("truncated_share"), key=lambda pair: pair[1])
    return Finding(
        name="truncation",
        severity=Severity.PROBLEM if cut > MANY_CUT else Severity.NOTE,
        sentence=f"{cut:.0%} are cut at {limit} tokens" if limit else f"{cut:.0%} are cut at the limit",
        evidence=f"the mean over the last {len(course.recent)} iterations; {worst:.0%} at iteration {at}, the most",
        knob="raise sampling.max_new_tokens",
        iteration=at,
        chart="truncated_share",
    )


def looping(course: Course) -> Finding | None:
    """What is cut goes round in circles: more room would not help."""
    looped, kept = loops(course.rollouts)
    cut = course.recently("truncated_share") or 0.0
    if kept < 10 or looped <= kept / 2 or cut <= MIN_CUT:
        return None
    return Finding(
        name="loops",
        severity=Severity.WARNING if cut > MANY_CUT else Severity.NOTE,
        sentence=f"{looped / kept:.0%} of the completions that are cut end in a loop",
        evidence=f"{looped} of the latest {kept} cut completions that were kept repeat their last words three times or "
        f"more; {cut:.0%} of all are cut",
        knob="a higher limit will not help these; if they become more, lower optimizer.lr",
        chart="truncated_share",
    )


def loops(rollouts: Sequence[Row]) -> tuple[int, int]:
    """How many of the latest cut completions that were kept end in a loop, and how many those are."""
    cut = [row for row in rollouts if row.get("finish_reason") == "length"][-200:]
    return sum(ends_in_a_loop(str(row.get("completion", ""))) for row in cut), len(cut)


def ends_in_a_loop(text: str) -> bool:
    """True where the end repeats itself: at least three times, and over at least 24 signs."""
    for period in range(1, MAX_PERIOD + 1):
        span = max(24, 3 * period)
        if len(text) >= span and text[-span:-period] == text[-span + period :]:
            return True
    return False


def length_bias(course: Course) -> Finding | None:
    """Wrong answers get longer, right ones don't, and it does not help (arXiv:2503.20783, section 3).

    While pass@1 rises, wrong answers get longer for a good reason: short guesses turn into searches, and only the
    hardest of these stay wrong. So only stretches over which it has not risen count, the longest first.
    """
    if len(course.trained) < 4 * WINDOW:
        return None
    for start in range(0, len(course.trained) - 3 * WINDOW + 1, WINDOW // 2):
        wrong, right = course.since(start, "mean_wrong_tokens"), course.since(start, "mean_right_tokens")
        passes = course.since(start, "pass_at_1")
        if wrong and right and passes and not passes.rose and _is_biased(wrong, right):
            return _length_bias(wrong, right, passes, since=course.trained[start]["iteration"])
    return None


def _is_biased(wrong: Change, right: Change) -> bool:
    is_long = wrong.after >= BIASED_GROWTH * right.after
    return wrong.rose and is_long and wrong.factor >= BIASED_GROWTH * max(1.0, right.factor)


def _length_bias(wrong: Change, right: Change, passes: Change, *, since: int) -> Finding:
    return Finding(
        name="length bias",
        severity=Severity.PROBLEM,
        sentence=f"wrong answers get longer ({wrong.before:.0f} -> {wrong.after:.0f} tokens), right ones do not "
        f"({right.before:.0f} -> {right.after:.0f})",
        evidence=f"{WINDOW} iterations from {since} on against the last {WINDOW}; pass@1 {passes.before:.1%} -> "
        f"{passes.after:.1%}; under a mean over each sequence, a long wrong answer is punished less a token",
        knob='token_weights.kind = "constant_length" (or "token_mean"), advantage.kind = "group_mean"',
        iteration=since,
        chart="mean_completion_tokens",
    )


def length_collapse(course: Course) -> Finding | None:
    """Completions get short, and it does not pay: the policy stops thinking."""
    tokens, passes = course.over_the_run("mean_completion_tokens"), course.over_the_run("pass_at_1")
    if tokens is None or passes is None or passes.rose or not tokens.fell or tokens.factor > SHRUNK:
        return None
    return Finding(
        name="length collapse",
        severity=Severity.WARNING,
        sentence=f"completions shrink from {tokens.before:.0f} to {tokens.after:.0f} tokens, and pass@1 does not rise",
        evidence=f"means over the first and the last {course.width} iterations; pass@1 {passes.before:.1%} -> "
        f"{passes.after:.1%}",
        knob="lower optimizer.lr, or lower the weight of a format or length reward",
        chart="mean_completion_tokens",
    )


def lost_format(course: Course) -> Finding | None:
    """Fewer completions can be read at all, and not because they were cut."""
    named = [row["reward_parts"] for row in course.trained if isinstance(row.get("reward_parts"), dict)]
    parts = change(named[: course.width], named[len(named) - course.width :], "format")
    cut = course.over_the_run("truncated_share")
    if parts is None or not parts.fell:
        return None
    if parts.before - parts.after - (max(0.0, cut.after - cut.before) if cut else 0.0) < FORMAT_LOSS:
        return None
    return Finding(
        name="lost format",
        severity=Severity.WARNING,
        sentence=f"the share of completions in the format falls from {parts.before:.0%} to {parts.after:.0%}",
        evidence=f"means over the first and the last {course.width} iterations, and truncation does not explain it",
        knob="give rewards.format some weight",
        chart="reward_parts",
    )


def language_mixing(course: Course) -> Finding | None:
    """More completions reason in another language than the question's, as the paper saw."""
    mixed = course.over_the_run("mixed_language_share")
    if mixed is None or not mixed.rose or mixed.after - mixed.before < MIXING_RISE:
        return None
    return Finding(
        name="language mixing",
        severity=Severity.NOTE,
        sentence=f"{mixed.after:.0%} of completions reason in another language than the question's, "
        f"{mixed.before:.0%} at the start",
        evidence=f"means over the first and the last {course.width} iterations; R1-Zero did so too (section 2.3)",
        knob=_language_knob(course.setting("rewards", {})),
        chart="mixed_language_share",
    )


def _language_knob(rewards: Any) -> str:
    """R1 answers it with a reward for the question's language, where this recipe has one."""
    names = [name for name in rewards if "language" in name] if isinstance(rewards, dict) else []
    return f"where it matters, give rewards.{names[0]} some weight" if names else ""


TRUNCATION = Check("truncation", "completions end by themselves", ("truncated_share",), truncation)
LOOPS = Check("loops", "what is cut does not go round in circles", ("rollouts", "truncated_share"), looping)
LENGTH_BIAS = Check(
    "length bias", "wrong answers do not outgrow right ones", ("mean_wrong_tokens", "pass_at_1"), length_bias
)
LENGTH_COLLAPSE = Check("length collapse", "the policy goes on thinking", ("mean_completion_tokens",), length_collapse)
LOST_FORMAT = Check("lost format", "completions keep their format", ("reward_parts",), lost_format)
LANGUAGE_MIXING = Check(
    "language mixing", "completions stay in the question's language", ("mixed_language_share",), language_mixing
)
