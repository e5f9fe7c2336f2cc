"""What a run's figures mean, in plain words: is it learning, and if not, which knob to turn."""

from collections.abc import Mapping, Sequence
from typing import Any

MEANINGS = {
    "reward": "mean total reward of the iteration's completions; what training pushes up",
    "pass_at_1": "share of sampled training completions whose answer is right",
    "held_out": "the same on problems that are never trained on; the figure to believe",
    "mean_completion_tokens": "mean length of a completion; R1-Zero's grows by itself where thinking pays",
    "truncated_share": "completions cut at max_new_tokens; above a few percent, raise the limit",
    "dead_group_share": "groups whose completions all earned the same: nothing to learn from them",
    "entropy": "how undecided the policy is, in nats a token; near 0 it has stopped exploring",
    "kl": "how far the policy is from the reference, in nats a token",
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
    dead, truncated, entropy = (_mean(recent, name) for name in ("dead_group_share", "truncated_share", "entropy"))
    reward = _mean(recent, "reward")
    gap = max((float(row.get("logprob_gap", 0.0)) for row in recent), default=0.0)
    if gap > 0.05:
        return f"mismatch: sampler and trainer differ by {gap:.2g} nats a token: check model.dtype and the engine"
    if dead > 0.9:
        side = "easier problems or larger groups" if reward < 0.5 else "harder problems: these are solved"
        return f"no signal: {dead:.0%} of groups have no variance: {side}"
    if truncated > 0.25:
        return f"truncation: {truncated:.0%} are cut at {max_new_tokens} tokens: raise sampling.max_new_tokens"
    if entropy < 0.01 and reward < 0.5:
        return f"entropy collapse: {entropy:.3f} nats a token at reward {reward:.2f}: lower optimizer.lr"
    return _trend([float(row["reward"]) for row in recent])


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [float(row[name]) for row in rows if name in row]
    return sum(values) / len(values) if values else float("inf") if name == "entropy" else 0.0


def _trend(rewards: Sequence[float]) -> str:
    if len(rewards) < 4:
        return "too early to tell"
    half = len(rewards) // 2
    before, after = sum(rewards[:half]) / half, sum(rewards[half:]) / (len(rewards) - half)
    if after > before + 0.01:
        return f"learning: reward {before:.2f} -> {after:.2f} over the last {len(rewards)} iterations"
    if after > 0.95:
        return f"solved: reward {after:.2f}; harder problems would teach more"
    if after < before - 0.05:
        return f"getting worse: reward {before:.2f} -> {after:.2f}: lower optimizer.lr"
    return f"level: reward {after:.2f} over the last {len(rewards)} iterations"
