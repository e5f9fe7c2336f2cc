"""From a right completion to one that reads well: thinking, then a summary that answers the user (V2 B.3.2)."""

import re
from collections.abc import Callable, Sequence

from r1kit.config.rejection import FilterSettings, NoRewriting, RewritingConfig, TemplateRewriting
from r1kit.rewards.format import check_format, split_thinking
from r1kit.rewards.verifiers import find_verifier
from r1kit.stages.candidates import Candidate
from r1kit.stages.filters import is_of_one_language, thinking_of
from r1kit.stages.funnel import Funnel
from r1kit.tasks.nano_corpus import WORDS

Rewrite = Callable[[Candidate], str | None]
"""A completion's new text; None where there is no way to write it."""

ANSWER_FORMS = {"tags": "<answer>{answer}</answer>", "boxed": "\\boxed{{{answer}}}", "plain": "{answer}"}
_SPACES = re.compile(r"[ \t]{2,}")
_LOOSE_END = re.compile(r"[\s,;:，、；：]+$")


def rewriter(settings: RewritingConfig, filters: FilterSettings) -> Rewrite:
    """What writes a completion anew, as the settings say."""
    if isinstance(settings, NoRewriting):
        return lambda candidate: candidate.text
    return lambda candidate: by_template(candidate, settings, filters)


def by_template(candidate: Candidate, settings: TemplateRewriting, filters: FilterSettings) -> str | None:
    """The thinking without loose ends, put into the question's language word by word where it is in another, then the
    sentence of that language with the answer; None for a language that the settings have no sentence for.
    """
    language = candidate.problem.language
    sentence = settings.summary.get(language)
    if sentence is None or candidate.answer is None:
        return None
    thinking = _LOOSE_END.sub("", _SPACES.sub(" ", thinking_of(candidate).strip()))
    if not is_of_one_language(thinking, language, filters):
        thinking = in_language(thinking, language)
    opening = settings.opening.get(language, "")
    if not thinking.startswith(opening):
        thinking = opening + thinking
    answer = ANSWER_FORMS[settings.answer].format(answer=candidate.answer.strip())
    return f"<think>{thinking}</think>{sentence.replace('{answer}', answer)}"


def in_language(thinking: str, language: str) -> str:
    """Thinking of the nano world with its words put into a language, one by one; other words stay as they are."""
    own = WORDS.get(language)
    if own is None:
        return thinking
    pairs = [(getattr(words, name), getattr(own, name)) for words in WORDS.values() for name in own.__slots__]
    foreign = sorted((pair for pair in pairs if pair[0] != pair[1]), key=lambda pair: -len(pair[0]))
    for word, translation in foreign:
        thinking = thinking.replace(word, translation)
    return thinking


def rewritten(
    candidates: Sequence[Candidate], rewrite: Rewrite, *, filters: FilterSettings, funnel: Funnel
) -> list[tuple[Candidate, str]]:
    """The candidates with their new texts, where those still have the form, the language and the answer."""
    funnel.announce("well rewritten", "rewriting")
    kept = []
    for candidate in candidates:
        text = rewrite(candidate)
        is_kept = text is not None and is_faithful(candidate, text, filters)
        funnel.count("well rewritten", is_kept=is_kept)
        if text is not None and is_kept:
            kept.append((candidate, text))
    return kept


def is_faithful(candidate: Candidate, text: str, filters: FilterSettings) -> bool:
    """True where a new text has the form, one language, and the very answer that was found right."""
    if text == candidate.text:
        return True
    thinking, summary = split_thinking(text)
    problem = candidate.problem
    return (
        check_format(text).think_only
        and find_verifier(problem.verifier).extract(summary, problem) == candidate.answer
        and is_of_one_language(thinking or "", problem.language, filters)
    )
