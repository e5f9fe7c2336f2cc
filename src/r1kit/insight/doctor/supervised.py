"""Runs that learn from given texts: pretraining and fine-tuning, whose only figure is a loss."""

from r1kit.insight.doctor.course import Change, Course, change
from r1kit.insight.doctor.finding import Check, Finding, Severity

DIVERGED = 1.2
MEMORISED = 0.02
"""Nats a token: nothing but the order of the examples is left to learn."""
STRETCH = 20
"""Steps whose mean is compared: single losses depend on what the step read."""


def diverging(course: Course) -> Finding | None:
    """The loss has risen well above what it was."""
    rows = [row for row in course.trained if "loss" in row]
    if len(rows) < 4 * STRETCH:
        return None
    stretches = [rows[start : start + STRETCH] for start in range(0, len(rows) - STRETCH + 1, STRETCH)]
    means = [(mean_loss(stretch), stretch) for stretch in stretches]
    best, at_best = min(means, key=lambda pair: pair[0])
    last = rows[-STRETCH:]
    moved = change(at_best, last, "loss")
    if moved is None or not moved.rose or moved.factor < DIVERGED:
        return None
    at = at_best[-1]["iteration"]
    return Finding(
        name="diverging",
        severity=Severity.PROBLEM,
        sentence=f"the loss rose from {best:.3f} to {moved.after:.3f}",
        evidence=f"means over {STRETCH} steps, the best of them up to step {at}",
        knob="lower optimizer.lr, add optimizer.warmup_steps",
        iteration=at,
        chart="loss",
    )


def memorising(course: Course) -> Finding | None:
    """The examples are known by heart."""
    loss = course.recently("loss")
    epochs = course.setting("sft.num_epochs", 1)
    if loss is None or loss > MEMORISED or epochs < 2:
        return None
    return Finding(
        name="memorising",
        severity=Severity.WARNING,
        sentence=f"the loss is {loss:.4f} nats a token: the examples are known by heart",
        evidence=f"the mean over the last {len(course.recent)} steps, after {epochs} epochs",
        knob="fewer sft.num_epochs, or more examples",
        chart="loss",
    )


def loss_trend(course: Course) -> Finding | None:
    """The first steps against the last ones."""
    rows = [row for row in course.trained if "loss" in row]
    if len(rows) < 8:
        return Finding(name="too early to tell", severity=Severity.NOTE, sentence=f"{len(rows)} steps so far")
    width = min(STRETCH, len(rows) // 2)
    moved = loss_change(course)
    if moved is None:
        return None
    words = f"loss {moved.before:.3f} -> {moved.after:.3f} over {len(rows)} steps"
    evidence = f"means over the first and the last {width} steps"
    if moved.fell:
        return Finding(name="learning", severity=Severity.GOOD, sentence=words, evidence=evidence, chart="loss")
    if moved.rose:
        return Finding(
            name="getting worse",
            severity=Severity.PROBLEM,
            sentence=words,
            evidence=evidence,
            knob="lower optimizer.lr",
            chart="loss",
        )
    return Finding(name="level", severity=Severity.NOTE, sentence=words, evidence=evidence, chart="loss")


def loss_change(course: Course) -> Change | None:
    """The loss of the first steps against that of the last."""
    rows = [row for row in course.trained if "loss" in row]
    width = min(STRETCH, len(rows) // 2)
    return change(rows[:width], rows[len(rows) - width :], "loss") if len(rows) >= 8 else None


def mean_loss(rows: list) -> float:
    """The mean loss of some steps."""
    found = [float(row["loss"]) for row in rows if row.get("loss") is not None]
    return sum(found) / len(found) if found else float("inf")


DIVERGING = Check("diverging", "the loss stays where training brought it", ("loss",), diverging)
MEMORISING = Check("memorising", "the examples are not known by heart", ("loss",), memorising)
LOSS_TREND = Check("trend", "", ("loss",), loss_trend)
