"""The `exact` verifier: the answer is the gold, or one of several golds, character for character once normalised."""

import re
from dataclasses import dataclass, field

from r1kit.config.answers import ExactSettings
from r1kit.errors import VerifierError
from r1kit.rewards.verifiers.mathematics.extraction import last_block, last_box, stated_answer, visible_text
from r1kit.rewards.verifiers.plain_text import unicode_plain, without_markup
from r1kit.rewards.verifiers.problem_options import options_for
from r1kit.rewards.verifiers.protocol import Judgement
from r1kit.types import Problem, Verdict

_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
_MARK = re.compile(r"[^\w\s%^=+<>|~$€£¥°/*](?!\d)(?<!\d!)")
_ENDS = " \t.,;:!?。，；：！？、\"'“”‘’«»„()"
_GOLD_LISTS = ("golds", "answers", "aliases")
"""Fields of a problem under which data sets list further right answers."""


@dataclass(frozen=True, slots=True)
class ExactVerifier:
    """Judges by the text. Right answers are the gold and those in `meta["golds"]`, `["answers"]` or `["aliases"]`."""

    settings: ExactSettings = field(default_factory=ExactSettings)

    def extract(self, text: str, problem: Problem) -> str | None:
        """The last answer block, else the last box, else what is stated, else all of it if it is one line."""
        visible = visible_text(text)
        place = last_block(visible)
        if place is not None:
            box = last_box(place)
            return box if box is not None else place.strip()
        box = last_box(visible)
        if box is not None:
            return box
        stated = stated_answer(visible)
        line = visible.strip()
        return stated if stated is not None else line if line and "\n" not in line else None

    def judge(self, answer: str, problem: Problem) -> Judgement:
        """RIGHT where the normalised answer is a normalised gold; UNKNOWN where every gold is empty."""
        options = options_for(problem, self.settings)
        golds = {plain for gold in golds_of(problem) if (plain := normalise(gold, options))}
        if not golds:
            return Judgement(verdict=Verdict.UNKNOWN, reason="the gold is empty")
        if len(answer) > options.max_answer_chars:
            return Judgement(verdict=Verdict.WRONG, reason="too long", is_readable=False)
        given = normalise(answer, options)
        if not given:
            return Judgement(verdict=Verdict.WRONG, reason="no answer", is_readable=False)
        is_right = given in golds
        return Judgement(verdict=Verdict.RIGHT if is_right else Verdict.WRONG, reason="" if is_right else "differs")


def golds_of(problem: Problem) -> list[str]:
    """Every accepted answer; raises VerifierError where a list of them isn't one of texts."""
    golds = [problem.gold]
    for name in _GOLD_LISTS:
        more = problem.meta.get(name, [])
        if not isinstance(more, list | tuple) or not all(isinstance(gold, str) for gold in more):
            raise VerifierError(f"{problem.id}: `{name}` must be a list of texts")
        golds += more
    return golds


def normalise(text: str, options: ExactSettings) -> str:
    """The text as it is compared: NFKC without invisible characters, without what LaTeX and Markdown dress it in.

    A text that would be empty so, such as `?`, keeps its punctuation.
    """
    if options.verbatim:
        return text.strip()
    plain = without_markup(text) or unicode_plain(text)
    kept = _ARTICLES.sub(" ", plain) if options.ignore_articles else plain
    if options.ignore_punctuation == "all":
        kept = _MARK.sub(" ", kept)
    elif options.ignore_punctuation == "ends":
        kept = _without_end_marks(kept)
    words = kept.split() or plain.split()
    joined = ("" if options.ignore_spaces else " ").join(words)
    return joined.casefold() if options.ignore_case else joined


def _without_end_marks(text: str) -> str:
    """A full stop before a digit and an exclamation mark after one are of a number, and stay."""
    begun = text.lstrip(_ENDS)
    if begun[:1].isdigit() and text.endswith("." + begun):
        begun = "." + begun
    ended = begun.rstrip(_ENDS)
    return ended + "!" if ended[-1:].isdigit() and begun.startswith(ended + "!") else ended
