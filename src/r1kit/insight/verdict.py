"""What a run's figures mean, in plain words: is it learning, and if not, which knob to turn."""

from collections.abc import Mapping, Sequence
from typing import Any

from r1kit.insight.doctor.diagnosis import diagnose

MEANINGS = {
    "reward": "mean total reward of the iteration's completions; what training pushes up",
    "pass_at_1": "share of sampled training completions whose answer is right",
    "held_out": "the same on problems that are never trained on; the figure to believe",
    "mean_completion_tokens": "mean length of a completion; R1-Zero's grows by itself where thinking pays",
    "truncated_share": "completions cut at max_new_tokens; above a few percent, raise the limit",
    "dead_group_share": "groups whose completions all earned the same: nothing to learn from them",
    "entropy": "how undecided the policy is, in nats a token that trains; near 0 it has stopped exploring",
    "kl": "how far the policy is from the reference, in nats a token that trains",
    "logprob_gap": "sampler against trainer, mean difference of logprobs; in float32 it must be rounding (below 1e-4)",
    "reflections_per_completion": "reflective words ('wait', 'check', …) a completion",
    "mixed_language_share": "completions that reason in another language than the question's",
    "tokens_per_second": "completion tokens sampled a second",
    "peak_memory_bytes": "the most memory that the process has held",
}


def verdict(rows: Sequence[Mapping[str, Any]], *, settings: Mapping[str, Any] | None = None) -> str:
    """One line on a run: what is wrong first, else whether it learns. The report's run doctor says the same.

    `settings` is the recipe as plain values, as far as it is known.
    """
    found = diagnose(rows, settings=settings).verdict
    return found.line if found else "nothing sampled yet"
