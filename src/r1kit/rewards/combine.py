"""What a completion is worth: a weighted sum of parts, each of them logged, those of weight 0 watched only."""

import random
from functools import lru_cache

from r1kit.config.rollouts import RewardSettings
from r1kit.errors import VerifierError
from r1kit.languages.detection import language_of
from r1kit.languages.invisible import is_blank
from r1kit.rewards.format import check_format, split_thinking
from r1kit.rewards.judging import Judge, judge_text, refuse_no_numbers
from r1kit.rewards.language import known_language, language_consistency, method_note
from r1kit.rewards.length import cosine_length, overlong_penalty
from r1kit.rewards.repetition import repeated_share
from r1kit.types import Completion, Problem, Score, Verdict


def score_completion(
    problem: Problem,
    completion: Completion,
    *,
    rewards: RewardSettings,
    prompt_ends_with_think: bool,
    seed: str,
    max_new_tokens: int | None = None,
    judge: Judge = judge_text,
) -> Score:
    """Accuracy, format (arXiv:2501.12948, section 2.2.2), length, and what else the settings ask for.

    Format counts only where the answer inside it can be read: a policy can't earn it by wrapping nonsense. Length
    counts only where the limit that it was drawn with is given. `seed` drives the random control, and names the
    completion's place to `judge`, which is told the text, the problem and the place. Raises VerifierError, with the
    names of problem and verifier, where a verifier fails or a part is no finite number.
    """
    text = f"<think>{completion.text}" if prompt_ends_with_think else completion.text
    check = check_format(text)
    judged = judge(text, problem, seed)
    judgement = judged.judgement
    parts = {
        "accuracy": float(judgement.verdict is Verdict.RIGHT),
        "format": float(check.strict and judgement.is_readable),
        "random": float(random.Random(seed).random() < 0.5),
        **_length_parts(completion, judgement.verdict, rewards, max_new_tokens),
    }
    if rewards.think_format is not None:
        is_formed = check.think_block if problem.verifier == "general" else check.think_only
        parts["think_format"] = float(is_formed and judgement.is_readable)
    if rewards.language is not None:
        thinking = text if check.thinking is None or rewards.language_of == "all" else check.thinking
        if problem.verifier == "general" and is_blank(thinking):
            thinking = split_thinking(text)[1]  # small talk needs no thought: what is said is what is measured
        parts["language"] = _language_part(thinking, problem, rewards)
    if rewards.repetition is not None:
        parts["repetition"] = 0.0 - repeated_share(completion.token_ids, rewards.repetition_ngram)
    earned = sum(getattr(rewards, name) * value for name, value in parts.items())
    total = 0.0 if rewards.zero_truncated and completion.is_truncated else earned
    refuse_no_numbers({**parts, "total": total}, problem)
    return Score(total=total, parts=parts, verdict=judgement.verdict, answer=judged.answer, reason=judgement.reason)


def _length_parts(
    completion: Completion, verdict: Verdict, rewards: RewardSettings, max_new_tokens: int | None
) -> dict[str, float]:
    """What length is worth; nothing where the limit is not known, and no cosine for an unknown verdict."""
    if max_new_tokens is None:
        return {"overlong": 0.0} | ({"cosine_length": 0.0} if rewards.cosine_length is not None else {})
    num_tokens = len(completion.token_ids)
    parts = {
        "overlong": overlong_penalty(
            num_tokens, max_new_tokens=max_new_tokens, cache_tokens=rewards.overlong_cache_tokens
        )
    }
    if rewards.cosine_length is not None:
        parts["cosine_length"] = cosine_length(
            num_tokens,
            is_right=verdict is Verdict.RIGHT,
            is_cut=completion.is_truncated,
            max_new_tokens=max_new_tokens,
            values=rewards.cosine,
        )
        if verdict is Verdict.UNKNOWN:
            parts["cosine_length"] = 0.0
    return parts


def language_notes(rewards: RewardSettings) -> list[str]:
    """What to say of the language reward before a run; raises VerifierError where it can't be measured as asked."""
    if rewards.language is None:
        return []
    if rewards.target_language is not None:
        known_language(rewards.target_language)
    note = method_note(rewards.language_by)
    return [note] if note else []


def target_language(problem: Problem, rewards: RewardSettings) -> str:
    """The language to think in: the one that the settings name, else the problem's.

    Where the data names none, the reader of rows told it by script; then the identifier, if it is to be used, looks at
    the question again, since English and German are told apart by it alone.
    """
    if rewards.target_language is not None:
        return rewards.target_language
    if rewards.language_by != "script" and problem.meta.get("language_told_by") == "script":
        return _identified(problem.prompt, problem.language)
    return problem.language


@lru_cache(maxsize=4096)
def _identified(question: str, default: str) -> str:
    return language_of(question, identify=True, default=default)


def _language_part(thinking: str, problem: Problem, rewards: RewardSettings) -> float:
    """Language consistency of the thinking; 0 where nothing was thought, so that silence is not the best language."""
    if is_blank(thinking):
        return 0.0
    try:
        return language_consistency(thinking, target_language(problem, rewards), method=rewards.language_by)
    except VerifierError as error:
        raise VerifierError(f"{problem.id}: {error}") from None
