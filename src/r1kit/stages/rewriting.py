"""From a right completion to one that reads well: thinking, then a summary that answers the user (V2 B.3.2)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from r1kit.config.rejection import (
    EndpointRewriting,
    ModelRewriting,
    NoRewriting,
    RejectionRecipe,
    TemplateRewriting,
)
from r1kit.rewards.format import check_format, split_thinking
from r1kit.rewards.judging import judge_text
from r1kit.rewards.verifiers import find_verifier
from r1kit.stages.asking import Answerer, Asking, Endpoint, LocalModel, filled
from r1kit.stages.candidates import Candidate
from r1kit.stages.filters import is_of_one_language, thinking_of
from r1kit.stages.funnel import Funnel
from r1kit.stages.grading import grades_of_texts
from r1kit.tasks.nano_corpus import WORDS
from r1kit.types import Verdict

ANSWER_FORMS = {"tags": "<answer>{answer}</answer>", "boxed": "\\boxed{{{answer}}}", "plain": "{answer}"}
ASKED_FORMS = {
    "tags": "between <answer> and </answer>",
    "boxed": "in \\boxed{}",
    "plain": "in a last sentence of its own",
}
LANGUAGES = {
    **{"ar": "Arabic", "bn": "Bengali", "de": "German", "en": "English", "es": "Spanish", "fr": "French"},
    **{"hi": "Hindi", "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "pl": "Polish"},
    **{"pt": "Portuguese", "ru": "Russian", "th": "Thai", "tr": "Turkish", "vi": "Vietnamese", "zh": "Chinese"},
}
SUMMARY_PROMPT = """\
Question:
{question}

Notes of someone who has solved it:
{thinking}

---
From these notes alone, write the solution that the one who asked will read, in {language}.
- Give the steps that matter and the final result, and nothing that the notes do not hold. Do not solve the question
  yourself, not even where the notes seem wrong to you.
- Begin with the solution at once. Do not mention notes or thinking, and do not talk to yourself.
- Be short, clear and in good order; write formulas in LaTeX, and put the final result {form}.
"""
TRANSLATION_PROMPT = """\
Translate the text below into {language}, sentence by sentence, so that all of it is in this one language. Keep
formulas, numbers, code and names as they are. Leave nothing out, add nothing, correct nothing. Reply with the
translation alone.

{thinking}
"""
_SPACES = re.compile(r"[ \t]{2,}")
_LOOSE_END = re.compile(r"[\s,;:，、；：]+$")


@dataclass(frozen=True)
class Rewriter:
    """What writes completions anew, as a recipe says."""

    recipe: RejectionRecipe
    asking: Asking

    def rewritten(self, candidates: Sequence[Candidate], funnel: Funnel) -> list[tuple[Candidate, str]]:
        """The candidates with their new texts, where those still have the form, one language, and the right answer."""
        funnel.announce("well rewritten", "rewriting")
        texts = self._texts(candidates)
        kept = set(self._faithful(candidates, texts))
        for place in range(len(candidates)):
            funnel.count("well rewritten", is_kept=place in kept)
        pairs = enumerate(zip(candidates, texts, strict=True))
        return [(candidate, text) for place, (candidate, text) in pairs if place in kept and text is not None]

    def _texts(self, candidates: Sequence[Candidate]) -> list[str | None]:
        settings = self.recipe.rewriting
        if isinstance(settings, NoRewriting):
            return [candidate.text for candidate in candidates]
        if isinstance(settings, TemplateRewriting):
            return [self._by_template(candidate, settings) for candidate in candidates]
        return self._by_model(candidates, settings)

    def _by_template(self, candidate: Candidate, settings: TemplateRewriting) -> str | None:
        """The tidy thinking, then the sentence of the question's language; None where the settings have none."""
        language = candidate.problem.language
        sentence = settings.summary.get(language)
        if sentence is None or candidate.answer is None:
            return None
        thinking = thinking_of(candidate)
        if not is_of_one_language(thinking, language, self.recipe.filters):
            thinking = in_language(thinking, language)
        thinking = tidied(thinking)
        opening = settings.opening.get(language, "")
        if not thinking.startswith(opening):
            thinking = opening + thinking
        answer = ANSWER_FORMS[settings.answer].format(answer=candidate.answer.strip())
        return f"<think>{thinking}</think>{sentence.replace('{answer}', answer)}"

    def _by_model(
        self, candidates: Sequence[Candidate], settings: ModelRewriting | EndpointRewriting
    ) -> list[str | None]:
        """Mixed thinking translated, then a summary of each thinking; a cut reply leaves none."""
        answerer: Answerer
        seed = f"{self.recipe.seed}/rewriting"
        if isinstance(settings, ModelRewriting):
            answerer = LocalModel(settings, max_sequences=self.recipe.run.max_sequences, seed=seed)
        else:
            answerer = Endpoint(settings.endpoint, seed=seed)
        thoughts = {candidate.id: tidied(thinking_of(candidate)) for candidate in candidates}
        mixed = [
            (candidate.id, filled(TRANSLATION_PROMPT, language=_named(candidate), thinking=thoughts[candidate.id]))
            for candidate in candidates
            if not is_of_one_language(thoughts[candidate.id], candidate.problem.language, self.recipe.filters)
        ]
        translations = self.asking.asked(mixed, answerer, settings, "translating")
        thoughts |= {name: text for (name, _), text in zip(mixed, translations, strict=True)}
        ask = partial(filled, SUMMARY_PROMPT, form=ASKED_FORMS[settings.answer])
        wanted = [
            (c.id, ask(question=c.problem.prompt, thinking=thoughts[c.id], language=_named(c))) for c in candidates
        ]
        summaries = self.asking.asked(wanted, answerer, settings, "summarising")
        return [
            f"<think>\n{thoughts[candidate.id]}\n</think>\n\n{summary}" if summary else None
            for candidate, summary in zip(candidates, summaries, strict=True)
        ]

    def _faithful(self, candidates: Sequence[Candidate], texts: Sequence[str | None]) -> list[int]:
        """The places of texts that kept what the completions were chosen for."""
        pairs = enumerate(zip(candidates, texts, strict=True))
        readable = [(place, c, text) for place, (c, text) in pairs if text is not None and self._reads_well(c, text)]
        judge = self.recipe.judge
        changed = [(c, text) for _, c, text in readable if judge and c.by_judge and text != c.text]
        grades = grades_of_texts(changed, judge, self.asking, seed=f"{self.recipe.seed}/again") if judge else {}
        return [
            place
            for place, c, text in readable
            if grades.get(c.id, Verdict.RIGHT) is Verdict.RIGHT and is_right(c, text)
        ]

    def _reads_well(self, candidate: Candidate, text: str) -> bool:
        thinking = split_thinking(text)[0] or ""
        is_one = is_of_one_language(thinking, candidate.problem.language, self.recipe.filters)
        return text == candidate.text or (check_format(text).think_only and is_one)


def is_right(candidate: Candidate, text: str) -> bool:
    """True where a new text has the answer that was found right, or another that its verifier calls right."""
    if text == candidate.text or candidate.by_judge:
        return True
    answer = find_verifier(candidate.problem.verifier).extract(split_thinking(text)[1], candidate.problem)
    is_same = answer is not None and answer == candidate.answer
    return is_same or judge_text(text, candidate.problem).judgement.verdict is Verdict.RIGHT


def tidied(thinking: str) -> str:
    """Thinking without spaces in a row, and without what hangs loose at its end."""
    return _LOOSE_END.sub("", _SPACES.sub(" ", thinking.strip()))


def in_language(thinking: str, language: str) -> str:
    """Thinking of the nano world with its words put into a language, one by one; other words stay as they are."""
    own = WORDS.get(language)
    if own is None:
        return thinking
    pairs = {
        getattr(words, name): getattr(own, name)
        for code, words in WORDS.items()
        if code != language
        for name in own.__slots__
    }
    # Longest first, all in one go: what was put in is not looked at again.
    pattern = re.compile("|".join(map(re.escape, sorted(pairs, key=len, reverse=True))))
    return pattern.sub(lambda match: pairs[match[0]], thinking)


def _named(candidate: Candidate) -> str:
    code = candidate.problem.language
    return LANGUAGES.get(code, f"the language with the ISO 639-1 code {code!r}")
