"""What a completion is worth: a weighted sum of parts, each of them logged, those of weight 0 watched only."""

import random

from r1kit.config.rollouts import RewardSettings
from r1kit.rewards.format import check_format, split_thinking
from r1kit.rewards.length import overlong_penalty
from r1kit.rewards.verifiers import find_verifier, judge
from r1kit.types import Completion, Problem, Score, Verdict


def score_completion(
    problem: Problem,
    completion: Completion,
    *,
    rewards: RewardSettings,
    prompt_ends_with_think: bool,
    seed: str,
    max_new_tokens: int | None = None,
) -> Score:
    """Accuracy and format (arXiv:2501.12948, section 2.2.2), and the random control; `seed` drives the latter alone.

    Format counts only where the answer inside it can be read: a policy can't earn it by wrapping nonsense. Length
    counts only where the limit that it was drawn with is given.
    """
    check = check_format(completion.text, prompt_ends_with_think=prompt_ends_with_think)
    _, visible = split_thinking(f"<think>{completion.text}" if prompt_ends_with_think else completion.text)
    answer = find_verifier(problem.verifier).extract(visible, problem)
    judgement = judge(answer, problem)
    parts = {
        "accuracy": float(judgement.verdict is Verdict.RIGHT),
        "format": float(check.strict and judgement.is_readable),
        "random": float(random.Random(seed).random() < 0.5),
        "overlong": 0.0
        if max_new_tokens is None
        else overlong_penalty(
            len(completion.token_ids), max_new_tokens=max_new_tokens, cache_tokens=rewards.overlong_cache_tokens
        ),
    }
    earned = sum(getattr(rewards, name) * value for name, value in parts.items())
    total = 0.0 if rewards.zero_truncated and completion.is_truncated else earned
    return Score(total=total, parts=parts, verdict=judgement.verdict, answer=answer)
