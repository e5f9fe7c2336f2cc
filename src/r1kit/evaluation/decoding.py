"""One answer out of k samples: the majority's, the best in a reward model's eyes, or the majority weighed by it.

The paper's cons@64 is the majority (arXiv:2501.12948, table 2). A size k' below k is measured on the k // k' disjoint
blocks of the k samples, which are as independent as problems' own samples are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r1kit.errors import VerifierError
from r1kit.evaluation.metrics import mean, powers_up_to
from r1kit.evaluation.voting import winner
from r1kit.models.reward import load_reward_model
from r1kit.types import Problem, Verdict

Scorer = Callable[[Sequence[tuple[Problem, str]]], Sequence[float]]
"""Problems with whole completions to scores, the higher the better, of any size; -inf: never to be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What one way to choose makes of a problem's samples."""

    verdict: Verdict
    """Of the answer that is chosen among all k."""
    shares: tuple[float, ...]
    """For each size 1, 2, 4, … and k, the share of blocks of that size whose choice is right; nan where none is known.
    """


def decoded_by_vote(
    heaps: Sequence[Sequence[int]], verdicts: Sequence[Verdict], scores: Sequence[float] | None = None
) -> Decoded:
    """The majority among `voting.heaps_of`; with scores each vote weighs exp(score), so that only differences count.

    Equal scores are the plain majority, and scores far apart the best of k.
    """

    def chosen(places: range) -> Verdict:
        weights = None if scores is None else dict(zip(places, _softmax(scores, places), strict=True))
        return winner(heaps, verdicts, weights=weights, places=places)

    return _decoded(chosen, len(verdicts))


def decoded_by_score(scores: Sequence[float], verdicts: Sequence[Verdict]) -> Decoded:
    """The sample with the highest score, the first of them on a tie."""
    return _decoded(lambda places: verdicts[max(places, key=lambda at: scores[at])], len(verdicts))


def load_scorer(path: str) -> Scorer:
    """The scores of a trained reward model, each of what it is made to see: the summary, or everything.

    A completion in which there is nothing of that (a thinking that never ends) is never chosen. Raises ModelError, in
    one line, for a folder that holds no reward model.
    """
    model = load_reward_model(path)

    def scored(pairs: Sequence[tuple[Problem, str]]) -> list[float]:
        seen = [(problem.messages or problem.prompt, model.seen(text)) for problem, text in pairs]
        found = iter(model.scores([(source, text) for source, text in seen if text is not None]))
        return [-math.inf if text is None else next(found) for _, text in seen]

    return scored


def scores_of(scorer: Scorer, problem: Problem, texts: Sequence[str]) -> list[float]:
    """The scores of a problem's completions; raise VerifierError where they are not one number each."""
    scores = [float(score) for score in scorer([(problem, text) for text in texts])]
    if len(scores) != len(texts) or any(math.isnan(score) or score == math.inf for score in scores):
        raise VerifierError(
            f"problem {problem.id!r}: the reward model gave {scores!r:.120} for {len(texts)} completions; expected one "
            "number each"
        )
    return scores


def _decoded(chosen: Callable[[range], Verdict], k: int) -> Decoded:
    shares = tuple(_share_right(chosen, k, size) for size in powers_up_to(k))
    return Decoded(verdict=chosen(range(k)), shares=shares)


def _share_right(chosen: Callable[[range], Verdict], k: int, size: int) -> float:
    blocks = [chosen(range(start, start + size)) for start in range(0, k - size + 1, size)]
    return mean([float(verdict is Verdict.RIGHT) for verdict in blocks if verdict is not Verdict.UNKNOWN])


def _softmax(scores: Sequence[float], places: range) -> list[float]:
    """Weights exp(score), the largest being 1; all the same where nothing may be chosen."""
    largest = max(scores[at] for at in places)
    return [1.0 if largest == -math.inf else math.exp(scores[at] - largest) for at in places]
