"""cons@k: the answers of one problem are put together by what they mean, and the heaviest heap is the vote."""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace

from r1kit.rewards.verifiers import judge
from r1kit.types import Problem, Verdict

SameAnswer = Callable[[str, str], bool]

BY_VALUE = frozenset({"math", "chains", "sums", "ordering", "logic", "choice", "exact"})
"""Verifiers that say of any two answers whether they are the same: they judge one with the other as its gold."""
WITHOUT_VOTE = frozenset({"code", "instruction", "json", "general"})
"""What is asked for has no one answer that two samples could agree on: cons@k is not defined."""
MAX_COMPARED = 24
"""Different wrong spellings of one problem that are compared by value, the first that were given; a vote is then at
most some 300 comparisons. Later spellings count as they are written."""


def majority(answers: Sequence[str | None], verdicts: Sequence[Verdict], same: SameAnswer | None = None) -> Verdict:
    """The verdict of the answer given most often; on a tie, of the one that was given first.

    Nobody answered: wrong.
    """
    return winner(heaps_of(answers, verdicts, same), verdicts)


def heaps_of(
    answers: Sequence[str | None], verdicts: Sequence[Verdict], same: SameAnswer | None = None
) -> list[list[int]]:
    """The places of the samples whose answers are the same, in the order in which they first appear.

    Without `same`, answers are the same where they are spelled alike but for white space. With it, all right ones are
    one answer, since each equals the gold, and others are put together where `same` holds. Who does not answer is in
    no heap.
    """
    heaps = _heaps_by_spelling(answers)
    return heaps if same is None else _merged(heaps, verdicts, same, [answer or "" for answer in answers])


def winner(
    heaps: Sequence[Sequence[int]],
    verdicts: Sequence[Verdict],
    *,
    weights: Mapping[int, float] | None = None,
    places: Container[int] | None = None,
) -> Verdict:
    """The verdict of the heaviest heap among the samples at `places` (all), each weighing the same unless told.

    On a tie the heap that was begun first wins; where there is none, it is wrong.
    """
    kept = [found for heap in heaps if (found := [at for at in heap if places is None or at in places])]
    if not kept:
        return Verdict.WRONG

    def weight(heap: Sequence[int]) -> float:
        return len(heap) if weights is None else math.fsum(weights[at] for at in heap)

    return verdicts[max(sorted(kept), key=weight)[0]]


def same_answer(problem: Problem) -> SameAnswer | None:
    """How the problem's verifier compares two answers; None where it can't."""
    if problem.verifier not in BY_VALUE:
        return None
    meta = problem.meta
    if problem.verifier == "math":
        # Votes are many, and a computer algebra system is slow: exact arithmetic alone decides.
        meta = {**meta, "verifier_options": {**(meta.get("verifier_options") or {}), "symbolic": False}}

    def same(left: str, right: str) -> bool:
        as_gold = replace(problem, gold=left, meta=meta)
        return judge(left, problem).is_readable and judge(right, as_gold).verdict is Verdict.RIGHT

    return same


def _heaps_by_spelling(answers: Sequence[str | None]) -> list[list[int]]:
    """The places of the samples that spell their answers alike, in the order in which they first appear."""
    heaps: dict[str, list[int]] = {}
    for place, answer in enumerate(answers):
        if answer is not None:
            heaps.setdefault(" ".join(answer.split()), []).append(place)
    return list(heaps.values())


def _merged(
    heaps: list[list[int]], verdicts: Sequence[Verdict], same: SameAnswer, spelled: Sequence[str]
) -> list[list[int]]:
    """The heaps of right answers as one, and those of other answers that are the same."""
    right = [place for heap in heaps for place in heap if verdicts[heap[0]] is Verdict.RIGHT]
    others = [heap for heap in heaps if verdicts[heap[0]] is not Verdict.RIGHT]
    merged: list[list[int]] = []
    for heap in others[:MAX_COMPARED]:
        found = next((kept for kept in merged if same(spelled[kept[0]], spelled[heap[0]])), None)
        if found is None:
            merged.append(list(heap))
        else:
            found += heap
    return sorted([*([sorted(right)] if right else []), *merged, *others[MAX_COMPARED:]], key=min)
