"""Does the optimisation hold: entropy, gradients, clipping, distance from the reference, finite numbers."""

import statistics

from r1kit.insight.doctor.course import Course, figure
from r1kit.insight.doctor.finding import Check, Finding, Severity

NO_ENTROPY = 0.01
"""Nats a token."""
LOST_ENTROPY = 0.1
EXPLODED_ENTROPY = 2.0
SPIKE = 10.0
"""Times the median of the gradient norms before it."""
SPIKE_MEMORY = 20
MANY_CLIPPED = 0.2
FAR = 1.0
"""Nats a token from the reference."""


def broken_numbers(course: Course) -> Finding | None:
    """A loss or a gradient that is no number: what JSON can't say is logged as null."""
    broken = [
        (row["iteration"], name)
        for row in course.trained
        for name in ("loss", "grad_norm")
        if name in row and figure(row, name) is None
    ]
    if not broken:
        return None
    at, name = broken[0]
    return Finding(
        name="broken numbers",
        severity=Severity.PROBLEM,
        sentence=f"{name} is not a finite number from iteration {at} on",
        evidence=f"{len(broken)} times, up to iteration {broken[-1][0]}",
        knob='lower optimizer.lr, add optimizer.warmup_steps, or set model.dtype = "float32"',
        iteration=at,
        chart=name,
    )


def entropy_collapse(course: Course) -> Finding | None:
    """The policy has stopped exploring before it is right."""
    now, right = course.recently("entropy"), course.recently("pass_at_1") or 0.0
    whole = course.over_the_run("entropy")
    if now is None:
        return None
    passes = course.over_the_run("pass_at_1")
    is_gone = now < NO_ENTROPY and right < 0.5
    is_lost = whole is not None and whole.fell and whole.factor < LOST_ENTROPY and right < 0.85
    if not is_gone and not (is_lost and not (passes and passes.rose)):
        return None
    evidence = f"entropy is {now:.4f} nats a token over the last {len(course.recent)} iterations"
    if whole is not None:
        evidence += f", {whole.before:.3f} over the first {course.width}"
    return Finding(
        name="entropy collapse",
        severity=Severity.PROBLEM,
        sentence=f"the policy has stopped exploring at pass@1 {right:.2f}",
        evidence=evidence,
        knob="lower optimizer.lr, or raise objective.clip_eps_high above objective.clip_eps",
        chart="entropy",
    )


def entropy_explosion(course: Course) -> Finding | None:
    """The policy becomes ever less decided, and it does not help."""
    whole, passes = course.over_the_run("entropy"), course.over_the_run("pass_at_1")
    if whole is None or passes is None or passes.rose or not whole.rose:
        return None
    if whole.factor < EXPLODED_ENTROPY or whole.after - whole.before < 0.3:
        return None
    return Finding(
        name="entropy explosion",
        severity=Severity.PROBLEM if passes.fell else Severity.WARNING,
        sentence=f"the policy dissolves: entropy {whole.before:.2f} -> {whole.after:.2f} nats a token, pass@1 "
        f"{passes.before:.2f} -> {passes.after:.2f}",
        evidence=f"means over the first and the last {course.width} iterations",
        knob="lower optimizer.lr, or raise objective.kl_coef",
        chart="entropy",
    )


def gradient_spikes(course: Course) -> Finding | None:
    """Gradients far above what came before them."""
    found = spikes(course.series("grad_norm"), least=float(course.setting("optimizer.max_grad_norm", 0.0) or 0.0))
    if not found:
        return None
    at, norm, usual = max(found, key=lambda spike: spike[1] / spike[2])
    places = ", ".join(str(spike[0]) for spike in found[:5]) + (", …" if len(found) > 5 else "")
    return Finding(
        name="gradient spikes",
        severity=Severity.WARNING,
        sentence=f"the gradient norm jumps to {norm:.3g} at iteration {at}, {norm / usual:.0f} times the usual",
        evidence=f"{len(found)} spike{'s' * (len(found) > 1)} (iteration {places}); the median before was {usual:.3g}",
        knob="lower optimizer.max_grad_norm to about the median, or optimizer.lr",
        iteration=at,
        chart="grad_norm",
    )


def spikes(norms: list[tuple[int, float]], *, least: float) -> list[tuple[int, float, float]]:
    """(iteration, norm, median before it) of every norm that is far above those before it, and above `least`."""
    found = []
    for place, (iteration, norm) in enumerate(norms):
        before = [earlier for _, earlier in norms[max(0, place - SPIKE_MEMORY) : place] if earlier > 0]
        if len(before) < 5 or norm <= max(least, SPIKE * min(before)):
            continue
        usual = statistics.median(before)
        if norm > SPIKE * usual:
            found.append((iteration, norm, usual))
    return found


def clipping(course: Course) -> Finding | None:
    """Much of the gradient is clipped away: the rollouts are too old for these steps."""
    clipped = course.recently("clip_share") or 0.0
    if clipped <= MANY_CLIPPED:
        return None
    return Finding(
        name="clipping",
        severity=Severity.WARNING,
        sentence=f"the clip takes the gradient of {clipped:.0%} of the tokens away",
        evidence=f"the mean over the last {len(course.recent)} iterations; "
        f"{course.setting('rollouts.steps_per_iteration', 'several')} steps an iteration",
        knob="lower rollouts.steps_per_iteration or optimizer.lr",
        chart="clip_share",
    )


def far_from_reference(course: Course) -> Finding | None:
    """The KL term no longer holds the policy."""
    distance = course.recently("kl") or 0.0
    if distance <= FAR:
        return None
    return Finding(
        name="far from the reference",
        severity=Severity.WARNING,
        sentence=f"the policy is {distance:.2f} nats a token away from the reference",
        evidence=f"the mean over the last {len(course.recent)} iterations; objective.kl_coef is "
        f"{course.setting('objective.kl_coef', 'not known')}",
        knob="raise objective.kl_coef, lower optimizer.lr, or refresh the reference more often",
        chart="kl",
    )


BROKEN_NUMBERS = Check("broken numbers", "every loss and gradient is finite", ("loss",), broken_numbers)
ENTROPY_COLLAPSE = Check("entropy collapse", "the policy explores, or is right", ("entropy",), entropy_collapse)
ENTROPY_EXPLOSION = Check(
    "entropy explosion", "the policy keeps its shape", ("entropy", "pass_at_1"), entropy_explosion
)
GRADIENT_SPIKES = Check("gradient spikes", "gradients keep their size", ("grad_norm",), gradient_spikes)
CLIPPING = Check("clipping", "little of the gradient is clipped away", ("clip_share",), clipping)
FAR_FROM_REFERENCE = Check("far from the reference", "the policy stays near the reference", ("kl",), far_from_reference)
