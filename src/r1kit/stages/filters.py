"""What a completion must be to be kept as a trace: one filter after the other, each counted (V2 B.3.2, B.3.3)."""

import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from r1kit.config.rejection import FilterSettings
from r1kit.languages.invisible import is_blank
from r1kit.rewards.format import check_format, split_thinking
from r1kit.rewards.language import language_share
from r1kit.stages.candidates import Candidate
from r1kit.stages.funnel import Funnel
from r1kit.types import FinishReason, Verdict

_FENCE = re.compile(r"^[ \t]{0,3}(?:```|~~~)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Filter:
    """A question about one completion, and the setting that decides it."""

    name: str
    knob: str
    keeps: Callable[[Candidate], bool]


def filters_of(settings: FilterSettings) -> list[Filter]:
    """The filters that look at one completion, in their order: the cheap ones that take the most come first."""
    drops_mixed = settings.mixed_languages == "drop"
    return [
        Filter("right", "num_problems, or samples of a route", is_right),
        Filter("finished", "sampling.max_new_tokens", is_finished),
        Filter("readable form", "filters.form", lambda found: has_form(found, settings.form)),
        Filter(
            "some thinking",
            "filters.min_thinking_chars",
            lambda found: len(thinking_of(found)) >= settings.min_thinking_chars,
        ),
        Filter(
            "one language",
            "filters.min_language_share, or mixed_languages = 'translate'",
            lambda found: not drops_mixed or is_of_one_language(thinking_of(found), found.problem.language, settings),
        ),
        Filter(
            "no repetition",
            "filters.max_repeated_share",
            lambda found: found.repeated_share <= settings.max_repeated_share,
        ),
        Filter(
            "no long paragraph",
            "filters.max_paragraph_chars",
            lambda found: longest_paragraph(thinking_of(found)) <= (settings.max_paragraph_chars or math.inf),
        ),
        Filter(
            "no code block",
            "filters.code_blocks",
            lambda found: settings.code_blocks == "keep" or not _FENCE.search(thinking_of(found)),
        ),
    ]


def sift(candidates: Iterable[Candidate], filters: Sequence[Filter], funnel: Funnel) -> Iterator[Candidate]:
    """The candidates that pass all filters; each is counted at the first that it does not pass."""
    for filter_ in filters:
        funnel.announce(filter_.name, filter_.knob)
    for candidate in candidates:
        for filter_ in filters:
            is_kept = filter_.keeps(candidate)
            funnel.count(filter_.name, is_kept=is_kept)
            if not is_kept:
                break
        else:
            yield candidate


def is_right(candidate: Candidate) -> bool:
    """True where the verifier, or the judge in its place, says so."""
    return candidate.verdict is Verdict.RIGHT


def is_finished(candidate: Candidate) -> bool:
    """True where it ended by itself."""
    return candidate.finish_reason is FinishReason.STOP


def has_form(candidate: Candidate, form: str) -> bool:
    """True for thinking with something after it; with the form `any`, for a text without tags too."""
    is_plain = form == "any" and "think>" not in candidate.text and not is_blank(candidate.text)
    return is_plain or check_format(candidate.text).think_only


def is_of_one_language(text: str, language: str, settings: FilterSettings) -> bool:
    """True where the words of a text are of that language, all but a few."""
    return language_share(text, language, method=settings.language_by).share >= settings.min_language_share


def thinking_of(candidate: Candidate) -> str:
    """The thinking; a text without tags is all thinking."""
    thinking, after = split_thinking(candidate.text)
    return after if thinking is None else thinking


def longest_paragraph(text: str) -> int:
    """Characters of the longest line."""
    return max(map(len, text.splitlines()), default=0)


def without_duplicates(candidates: Iterable[Candidate], funnel: Funnel) -> list[Candidate]:
    """The first of those that say the same of the same question, white space apart."""
    funnel.announce("no duplicate", "sampling.temperature")
    seen: set[tuple[str, str]] = set()
    kept = []
    for candidate in candidates:
        key = candidate.problem.prompt, "".join(candidate.text.split())
        funnel.count("no duplicate", is_kept=key not in seen)
        if key not in seen:
            kept.append(candidate)
        seen.add(key)
    return kept


def few_per_problem(candidates: Sequence[Candidate], most: int, *, seed: str, funnel: Funnel) -> list[Candidate]:
    """At most so many completions of each problem, chosen by lot."""
    funnel.announce("few of a problem", "filters.max_per_problem")
    by_problem: dict[str, list[int]] = defaultdict(list)
    for place, candidate in enumerate(candidates):
        by_problem[candidate.problem.id].append(place)
    chosen = {place for id_, places in by_problem.items() for place in _some(places, most, f"{seed}/{id_}")}
    return _counted(candidates, chosen, "few of a problem", funnel)


def balanced(
    candidates: Sequence[Candidate],
    factor: float,
    solve_rates: Mapping[str, float],
    *,
    seed: str,
    funnel: Funnel,
) -> list[Candidate]:
    """No difficulty of a family holds more than `factor` times the mean of all of them; the rest is left out by lot."""
    funnel.announce("balanced", "filters.balance")
    bins: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, candidate in enumerate(candidates):
        bins[candidate.problem.verifier, difficulty_of(candidate, solve_rates)].append(place)
    most = math.ceil(factor * len(candidates) / len(bins)) if factor and bins else len(candidates)
    chosen = {place for name, places in bins.items() for place in _some(places, most, f"{seed}/{name}")}
    return _counted(candidates, chosen, "balanced", funnel)


def difficulty_of(candidate: Candidate, solve_rates: Mapping[str, float]) -> str:
    """What the problem says of its difficulty, else the quarter that its solve rate lies in."""
    for name in ("difficulty", "level"):
        if candidate.problem.meta.get(name) is not None:
            return str(candidate.problem.meta[name])
    return f"solved {min(3, int(4 * solve_rates.get(candidate.problem.id, 0.0))) / 4:.0%}"


def solve_rates(candidates: Iterable[Candidate]) -> dict[str, float]:
    """Of each problem, right completions over those with a verdict; problems without any are left out."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for candidate in candidates:
        if candidate.verdict is not Verdict.UNKNOWN:
            counts[candidate.problem.id][0] += is_right(candidate)
            counts[candidate.problem.id][1] += 1
    return {name: right / known for name, (right, known) in counts.items()}


def _some(places: list[int], most: int, seed: str) -> list[int]:
    return places if len(places) <= most else random.Random(seed).sample(places, most)


def _counted(candidates: Sequence[Candidate], chosen: set[int], name: str, funnel: Funnel) -> list[Candidate]:
    for place in range(len(candidates)):
        funnel.count(name, is_kept=place in chosen)
    return [candidate for place, candidate in enumerate(candidates) if place in chosen]
