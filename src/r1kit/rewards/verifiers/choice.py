"""The `choice` verifier: which option does a completion settle on? A letter, or the option's own words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from r1kit.errors import VerifierError
from r1kit.rewards.verifiers.mathematics.extraction import last_block, last_box, visible_text
from r1kit.rewards.verifiers.options import named_option, option_of_text, same_option
from r1kit.rewards.verifiers.plain_text import narrow
from r1kit.rewards.verifiers.protocol import Judgement
from r1kit.tasks.choices import LETTERS
from r1kit.types import Problem, Verdict

_ANNOUNCEMENT = re.compile(
    r"\b(?:answer|choice|option)\b[*_\"'’`\s]{0,4}(?:(?:to|for|of)\s(?:\w+\s){0,4})?"
    r"(?:(?:would|should|must|will|has\sto|can\sonly)\sbe\b|is\b|was\b|[:=])"
    r"|\b(?:choose|select|pick|go\swith)\b(?=\s+(?:option|choice|answer|letter|\W{0,3}(?-i:[A-Z])\b))"
    r"|####"
    r"|答案(?:应该|应当|应|就|選|选)?(?:是|为|為|[:：])?|(?:故|应该|应|因此|所以|本题)?选(?:择)?(?!项)|选项(?:应该|应)?(?:是|为|:)"
    r"|\bantwort\b(?:\s(?:ist|lautet)|\s?:)|\brespuesta\b(?:\s\w+){0,1}(?:\ses|\s?:)|\bréponse\b(?:\s\w+){0,1}(?:\sest|\s?:)"
    r"|\bответ\b\s?[—:-]|答えは|答え\s?:|정답(?:은|\s?:)|답(?:은|\s?:)",
    re.IGNORECASE,
)
_CLAUSE_START = re.compile(r"[.!?,;:\n。！？，；：]")
_DOUBT = re.compile(
    r"\b(?:not|never|cannot|can't|n't|neither|if|whether|suppose|supposing|assum\w+|unless|why)\b|n't\b|n’t\b|不|并非|非|如果|假如|若",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？]")
_TAIL_CHARS = 600
"""Of what follows an announcement, so much is read."""


@dataclass(frozen=True, slots=True)
class ChoiceVerifier:
    """Judges by the option: two ways to name the same one are the same answer.

    `problem.meta["choices"]` lists the options (2 to 26); without it the gold must be a letter, and any letter may be
    answered. The gold is a letter, an option's text, or `problem.meta["answer_index"]` (from 0).
    """

    def extract(self, text: str, problem: Problem) -> str | None:
        """The letter that a completion settles on; where that can't be told, the words in which it should stand.

        The last answer block, else the last box, else the last announcement ("the answer is", "选"), else the last
        line where that is nothing but an option.
        """
        choices = choices_of(problem)
        visible = narrow(visible_text(text))
        place = last_block(visible)
        if place is None:
            place = last_box(visible)
        if place is None:
            stated = stated_option(visible, choices)
            index = _last_line(visible, choices) if stated is None else named_option(stated, choices)
            return LETTERS[index] if index is not None else stated
        index = option_in(place, choices)
        return LETTERS[index] if index is not None else place.strip()

    def judge(self, answer: str, problem: Problem) -> Judgement:
        """RIGHT where the answer names the gold's option, and no other; UNKNOWN where the gold names none."""
        choices = choices_of(problem)
        gold = gold_option(problem, choices)
        if gold is None:
            return Judgement(verdict=Verdict.UNKNOWN, reason=f"the gold {problem.gold[:40]!r} is none of the choices")
        index = option_in(narrow(answer), choices)
        if index is None:
            return Judgement(verdict=Verdict.WRONG, reason="names no single option", is_readable=False)
        is_right = same_option(index, gold, choices)
        verdict, reason = (Verdict.RIGHT, "") if is_right else (Verdict.WRONG, "another option")
        return Judgement(verdict=verdict, reason=reason, detail={"letter": LETTERS[index]})


def choices_of(problem: Problem) -> Sequence[str]:
    """The options of a problem; none where only the question lists them. Raises VerifierError where they're no list."""
    choices = problem.meta.get("choices", ())
    is_list = isinstance(choices, list | tuple) and all(isinstance(choice, str | int | float) for choice in choices)
    if not is_list or len(choices) == 1 or len(choices) > len(LETTERS):
        raise VerifierError(f"{problem.id}: `choices` must be a list of 2 to {len(LETTERS)} texts")
    return [str(choice) for choice in choices]


def gold_option(problem: Problem, choices: Sequence[str]) -> int | None:
    """The index of the right option; None where the problem names none, or two."""
    by_gold = named_option(problem.gold, choices) if problem.gold.strip() else None
    by_index = problem.meta.get("answer_index")
    if not isinstance(by_index, int) or isinstance(by_index, bool):
        return by_gold
    if not 0 <= by_index < (len(choices) or len(LETTERS)):
        return None
    return by_index if by_gold in (None, by_index) or problem.gold.strip() == choices[by_index].strip() else None


def option_in(place: str, choices: Sequence[str]) -> int | None:
    """The option that an answer block, a box or a bare answer names: in its last box, directly, or in a sentence."""
    box = last_box(place)
    if box is not None:
        return named_option(box, choices)
    index = named_option(place, choices)
    if index is not None:
        return index
    stated = stated_option(place, choices)
    return named_option(stated, choices) if stated is not None else None


def stated_option(text: str, choices: Sequence[str]) -> str | None:
    """The words after the last announcement that is neither denied nor conditional; None where there is none.

    They end with the line, or with the sentence where only that much names an option.
    """
    last = None
    for announcement in _ANNOUNCEMENT.finditer(text):
        before = text[max(0, announcement.start() - 80) : announcement.start()]
        clause = before[max((cut.end() for cut in _CLAUSE_START.finditer(before)), default=0) :]
        if not _DOUBT.search(clause):
            last = announcement
    if last is None:
        return None
    lines = text[last.end() : last.end() + _TAIL_CHARS].lstrip(" \t\r\n:：*_").splitlines()
    line = lines[0] if lines else ""
    sentences = [line[: end.start()] for end in _SENTENCE_END.finditer(line)]
    by_text = [part for part in (line, *sentences) if option_of_text(part, choices) is not None]
    return by_text[0] if by_text else line


def _last_line(text: str, choices: Sequence[str]) -> int | None:
    """The option that the last line is, and nothing more."""
    line = text.rstrip().rpartition("\n")[2]
    index = named_option(line, choices, needs_mark=True)
    is_question = index is not None and line.endswith("?") and not (choices and choices[index].rstrip().endswith("?"))
    return None if is_question else index
