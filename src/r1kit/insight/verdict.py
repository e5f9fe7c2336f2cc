"""What a run's figures mean, in plain words: is it learning, and if not, which knob to turn."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

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

WINDOW = 8
"""Iterations that a verdict looks back."""


def verdict(rows: Sequence[Mapping[str, Any]], *, max_new_tokens: int) -> str:
    """One line on the last iterations of a run: what is wrong first, else whether it learns."""
    recent = [row for row in rows if "reward" in row][-WINDOW:]
    if not recent:
        return "nothing sampled yet"
    dead, truncated, right = (_mean(recent, name) for name in ("dead_group_share", "truncated_share", "pass_at_1"))
    entropies = [float(row["entropy"]) for row in recent if row.get("entropy") is not None]
    gap = max((float(row["logprob_gap"]) for row in recent if row.get("logprob_gap") is not None), default=0.0)
    if gap > 0.05:
        return f"mismatch: sampler and trainer differ by {gap:.2g} nats a token: check model.dtype and the engine"
    if dead > 0.9:
        side = "easier problems or larger groups" if right < 0.5 else "harder problems: these are solved"
        return f"no signal: {dead:.0%} of groups have no variance: {side}"
    if truncated > 0.25:
        return f"truncation: {truncated:.0%} are cut at {max_new_tokens} tokens: raise sampling.max_new_tokens"
    if entropies and sum(entropies) / len(entropies) < 0.01 and right < 0.5:
        return f"entropy collapse: the policy has stopped exploring at pass@1 {right:.2f}: lower optimizer.lr"
    return _trend(recent)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(float(row[name]) for row in rows) / len(rows)


def _trend(rows: Sequence[Mapping[str, Any]]) -> str:
    """Later iterations against earlier ones; a difference within two standard errors is none."""
    if len(rows) < 4:
        return "too early to tell"
    half = len(rows) // 2
    before, after = _mean(rows[:half], "pass_at_1"), _mean(rows[half:], "pass_at_1")
    errors = [float(row["pass_at_1_stderr"] or 0.0) for row in rows]
    noise = 2 * math.hypot(_error_of_mean(errors[:half]), _error_of_mean(errors[half:]))
    if after > before + noise:
        return f"learning: pass@1 {before:.2f} -> {after:.2f} over the last {len(rows)} iterations"
    if after > 0.95:
        return f"solved: pass@1 {after:.2f}; harder problems would teach more"
    if after < before - noise:
        return f"getting worse: pass@1 {before:.2f} -> {after:.2f}: lower optimizer.lr"
    return f"level: pass@1 {after:.2f} over the last {len(rows)} iterations, changes are within the noise"


def _error_of_mean(errors: Sequence[float]) -> float:
    return math.sqrt(sum(error**2 for error in errors)) / len(errors)
