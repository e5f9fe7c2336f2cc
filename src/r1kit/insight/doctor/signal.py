"""Does the reward tell the policy anything, and do sampler and trainer speak of the same policy?"""

from r1kit.insight.doctor.course import Course, mean, values
from r1kit.insight.doctor.finding import Check, Finding, Severity

MAX_GAP = 0.05
"""Nats a token between sampler and trainer above which the ratio is no longer that of the paper's objective."""
MAX_FLOAT32_GAP = 1e-3
"""Two float32 forwards of the same weights differ by rounding, about 1e-6: this is not rounding."""
DEAD_SHARE = 0.9
MANY_DEAD = 0.5
MAX_UNKNOWN = 0.02


def mismatch(course: Course) -> Finding | None:
    """Sampler and trainer give the same tokens different probabilities."""
    gaps = course.series("logprob_gap")
    if not gaps:
        return None
    recent = max(values(course.recent, "logprob_gap"), default=0.0)
    worst_at, worst = max(gaps, key=lambda pair: pair[1])
    if recent > MAX_GAP:
        severity, sentence = Severity.PROBLEM, f"sampler and trainer differ by {recent:.2g} nats a token"
    elif worst > MAX_GAP:
        severity, sentence = Severity.WARNING, f"sampler and trainer differed by {worst:.2g} nats a token for a while"
    elif recent > MAX_FLOAT32_GAP and course.setting("model.dtype") == "float32":
        severity = Severity.WARNING
        sentence = f"sampler and trainer differ by {recent:.2g} nats a token, more than float32 rounding"
    else:
        return None
    return Finding(
        name="mismatch",
        severity=severity,
        sentence=sentence,
        evidence=f"the worst mean gap of {len(gaps)} iterations was {worst:.2g} nats a token, at iteration {worst_at}",
        knob="check model.dtype and the engine",
        iteration=worst_at,
        chart="logprob_gap",
    )


def no_signal(course: Course) -> Finding | None:
    """Hardly a group has variance: there is nothing to learn from."""
    dead = course.recently("dead_group_share") or 0.0
    right = course.recently("pass_at_1") or 0.0
    rewards = values(course.trained, "reward")
    if dead <= DEAD_SHARE or course.has("value_loss"):  # with a value model, equal rewards teach too
        return None
    evidence = f"the mean over the last {len(course.recent)} iterations; pass@1 is {right:.1%} there"
    if len(rewards) >= 4 and max(rewards) == min(rewards):
        evidence += f"; the reward was exactly {rewards[0]:.3g} in all {len(rewards)} iterations"
    knob = "easier problems or larger groups" if right < 0.5 else "harder problems: these are solved"
    if len(rewards) >= 4 and max(rewards) == 0:
        knob += "; try the verifier on a right answer by hand"
    return Finding(
        name="no signal",
        severity=Severity.PROBLEM,
        sentence=f"{dead:.0%} of groups have no variance",
        evidence=evidence,
        knob=knob,
        chart="dead_group_share",
    )


def dead_groups(course: Course) -> Finding | None:
    """Many groups teach nothing, and were paid for."""
    dead = course.recently("dead_group_share") or 0.0
    right = course.recently("pass_at_1") or 0.0
    if not MANY_DEAD < dead <= DEAD_SHARE or course.has("value_loss"):
        return None
    wrong, solved = course.recently("all_wrong_share"), course.recently("all_right_share")
    parts = f": {solved:.0%} all right, {wrong:.0%} all wrong" if wrong is not None and solved is not None else ""
    return Finding(
        name="dead groups",
        severity=Severity.WARNING if right < 0.5 else Severity.NOTE,
        sentence=f"{dead:.0%} of groups teach nothing, since all their completions earn the same",
        evidence=f"the mean over the last {len(course.recent)} iterations{parts}; pass@1 is {right:.1%} there",
        knob="easier problems or larger groups" if right < 0.5 else "harder problems would teach more",
        chart="dead_group_share",
    )


def unknown_verdicts(course: Course) -> Finding | None:
    """The verifier cannot tell: golds that it cannot read, or failures of its own."""
    unknown = [row for row in course.rollouts if row.get("verdict") == "unknown"]
    share = len(unknown) / len(course.rollouts)
    if share <= MAX_UNKNOWN:
        return None
    first = unknown[0]
    return Finding(
        name="unknown verdicts",
        severity=Severity.WARNING,
        sentence=f"the verifier could not judge {share:.1%} of the completions that were kept",
        evidence=f"{len(unknown)} of {len(course.rollouts)}; the first is problem {first.get('problem_id')!r} at "
        f"iteration {first.get('iteration')}",
        knob="try the golds with r1 verify",
        iteration=first.get("iteration"),
    )


def control(course: Course) -> Finding | None:
    """The reward is (partly) a coin toss, on purpose."""
    weight = course.setting("rewards.random", 0.0)
    if not weight:
        return None
    right = mean(course.recent, "pass_at_1") or 0.0
    return Finding(
        name="control",
        severity=Severity.NOTE,
        sentence="a coin toss is part of this reward: the run is a control, and must not learn",
        evidence=f"rewards.random is {weight:g}; pass@1 is {right:.1%} over the last {len(course.recent)} iterations",
    )


MISMATCH = Check("mismatch", "sampler and trainer agree on every token's probability", ("logprob_gap",), mismatch)
NO_SIGNAL = Check("no signal", "groups have variance to learn from", ("dead_group_share",), no_signal)
DEAD_GROUPS = Check("dead groups", "most groups teach something", ("dead_group_share",), dead_groups)
UNKNOWN_VERDICTS = Check(
    "unknown verdicts", "the verifier could judge what was written", ("rollouts",), unknown_verdicts
)
CONTROL = Check("control", "no coin toss is in the reward", ("reward",), control)
