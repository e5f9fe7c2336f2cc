"""Preferences over completions of the general world, as people give them: mostly right, with a weakness for length.

Unbalanced pairs hold a flaw on purpose: in a quarter of them both completions are good, and the politer and longer one
was preferred. A reward model learns that, a policy that is trained against it for too long finds it, and the truth of
the general world (`r1kit.tasks.general.truth`) shows it. `length_balanced` makes pairs without it (the paper keeps
chosen and rejected responses of comparable length, arXiv:2501.12948v2, section 3.1).
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from r1kit.config.tasks import GeneralTask
from r1kit.tasks.families import FAMILIES, Split, split_of
from r1kit.tasks.general import example
from r1kit.tasks.general_flaws import HELPLESS, OTHERS, worse
from r1kit.types import Problem

HARMFUL_SHARE = 0.6
"""Of safety rows, those about prompts that ask for harm."""
UNSAFE_FLAWS = ("compliance", "half_refusal", "hidden_compliance", "rude")
SHORT_FLAWS = tuple(name for name in HELPLESS if name not in ("endless", "repetition"))
"""What is rejected in unbalanced pairs: nobody was shown an endless answer, so nobody has rejected one."""
BALANCING_CHOICES = 6
"""Rejected completions of which a balanced pair takes the one whose length keeps the sums together."""
FILES = ("pairs", "safety")


def preference_pairs(
    num_pairs: int, seed: int | str, *, split: Split = "train", length_balanced: bool = False, length_bias: float = 0.25
) -> list[dict[str, str]]:
    """Rows `{"id", "prompt", "chosen", "rejected", "language", "family"}` over harmless prompts of one split.

    `length_bias` is the share of unbalanced pairs in which the longer of two good completions was chosen.
    """
    rng = random.Random(f"{seed}/pairs/{split}")
    rows, lead = [], 0
    for number, problem in enumerate(islice(_problems(OTHERS, split, rng), num_pairs)):
        if length_balanced:
            chosen, rejected = _balanced(problem, lead, rng)
        else:
            chosen, rejected = _unbalanced(problem, length_bias, rng)
        lead += len(chosen) - len(rejected)
        rows.append(_row("pair", number, problem) | {"chosen": chosen, "rejected": rejected})
    return rows


def safety_rows(num_rows: int, seed: int | str, *, split: Split = "train") -> list[dict[str, str | bool]]:
    """Rows `{"id", "prompt", "completion", "safe", "language", "family"}`, half of them safe.

    Safe is whatever does no harm: refusals, good answers, and useless ones. Unsafe is helping with harm, in the answer
    or in the thinking alone, and being rude.
    """
    rng = random.Random(f"{seed}/safety/{split}")
    harmful, harmless = (_problems(task, split, rng) for task in (GeneralTask(subjects=("harmful",)), OTHERS))
    rows: list[dict[str, str | bool]] = []
    for number in range(num_rows):
        problem = next(harmful if rng.random() < HARMFUL_SHARE else harmless)
        is_safe = rng.random() < 0.5
        completion = _safe(problem, rng) if is_safe else worse(problem, rng, kinds=UNSAFE_FLAWS)
        rows.append({**_row("safety", number, problem), "completion": completion, "safe": is_safe})
    return rows


def write_preferences(
    folder: Path, seed: int | str, num_pairs: int, num_safety: int, *, length_balanced: bool = False
) -> tuple[Path, Path]:
    """Write `pairs.jsonl` and `safety.jsonl` into a folder, and return their paths.

    `pairs_held_out.jsonl` and `safety_held_out.jsonl` beside them hold an eighth as many rows, about contents of the
    held-out split, which the others never meet. The same arguments give the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits: tuple[tuple[Split, str, int], ...] = (("train", "", 1), ("held_out", "_held_out", 8))
    for split, suffix, fewer in splits:
        pairs = preference_pairs(num_pairs // fewer, seed, split=split, length_balanced=length_balanced)
        _write(folder / f"{FILES[0]}{suffix}.jsonl", pairs)
        _write(folder / f"{FILES[1]}{suffix}.jsonl", safety_rows(num_safety // fewer, seed, split=split))
    return folder / f"{FILES[0]}.jsonl", folder / f"{FILES[1]}.jsonl"


def _problems(task: GeneralTask, split: Split, rng: random.Random) -> Iterator[Problem]:
    while True:
        problem = FAMILIES["general"].make(task, rng, rng.choice(task.languages))
        if split_of(problem.id) == split:
            yield problem


def _unbalanced(problem: Problem, length_bias: float, rng: random.Random) -> tuple[str, str]:
    courtesies = rng.choice((0, 1))
    if rng.random() < length_bias:
        longer = example(problem, rng, courtesies=courtesies + rng.randint(1, 3))
        return longer, example(problem, rng, courtesies=courtesies)
    return example(problem, rng, courtesies=courtesies), worse(problem, rng, kinds=SHORT_FLAWS)


def _balanced(problem: Problem, lead: int, rng: random.Random) -> tuple[str, str]:
    """`lead`: how many characters longer all that was chosen so far is than all that was rejected."""
    chosen = example(problem, rng)
    candidates = [worse(problem, rng) for _ in range(BALANCING_CHOICES)]
    return chosen, min(candidates, key=lambda rejected: abs(lead + len(chosen) - len(rejected)))


def _safe(problem: Problem, rng: random.Random) -> str:
    if rng.random() < 0.8:
        return example(problem, rng)
    return worse(problem, rng, kinds=("off_topic", "refusal"))


def _row(kind: str, number: int, problem: Problem) -> dict[str, str]:
    return {
        "id": f"{kind}/{number}",
        "prompt": problem.prompt,
        "language": problem.language,
        "family": problem.meta["family"],
    }


def _write(path: Path, rows: Sequence[Mapping[str, str | bool]]) -> None:
    """The rows as JSON Lines, all of them or none."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    unfinished.replace(path)
