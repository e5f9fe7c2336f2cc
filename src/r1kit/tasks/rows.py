"""From a row of a file to a problem: which field is what, and what is wrong with a row that is none."""

import difflib
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.config.tasks import FieldNames, FileTask
from r1kit.errors import DataError
from r1kit.languages.detection import language_of
from r1kit.tasks.choices import LETTERS, choice_prompt
from r1kit.tasks.families import FAMILIES
from r1kit.types import Problem

USUAL_NAMES = {
    "question": ("question", "problem", "prompt", "messages", "text", "instruction"),
    "answer": ("answer",),
    "id": ("id", "task_id", "unique_id", "key"),
    "verifier": ("verifier",),
    "language": ("language", "lang"),
    "difficulty": ("difficulty",),
    "solve_rate": ("solve_rate",),
    "content": (),
}
"""What fields are mostly called, the likeliest first."""
NEED_NO_GOLD = frozenset({"code", "instruction", "json", "general"})
"""Verifiers that judge by other fields (tests, instructions, a schema), or leave it to a reward model."""

REWARD_MODELS = ("helpfulness", "safety")
"""Who grades prompts of the verifier `general`."""

Row = Mapping[str, Any]


class BadRow(ValueError):
    """A row that is no problem; the message says why."""


@dataclass(frozen=True, slots=True)
class RowReader:
    """Makes problems of rows as a task describes them."""

    task: FileTask
    names: Mapping[str, tuple[str, ...]]
    """The names under which each part of a problem is looked for, in this order."""
    stem: str
    """Goes before ids that are bare numbers."""

    def problem(self, row: Row) -> Problem:
        """The problem that a row is; raise BadRow where it is none. Fields with a null are as good as absent."""
        messages, question = self._question(row)
        verifier = self._text(row, "verifier") or self.task.verifier or verifier_for(row)
        gold = self._gold(row, verifier)
        prompt = self._prompt(question, row, verifier)
        if messages:
            messages = (*messages[:-1], {**messages[-1], "content": prompt})
        told = self._text(row, "language") or self.task.language
        problem = Problem(
            id=self._id(row, question, messages),
            prompt=prompt,
            gold=gold,
            verifier=verifier,
            messages=messages,
            language=_language(told or language_of(question)),
            meta=self._meta(row) | ({} if told else {"language_told_by": "script"}),
        )
        _refuse_unjudgeable(problem)
        return problem

    def content(self, row: Row, problem: Problem) -> str:
        """What the held-out split hangs on."""
        value = self._find(row, "content")
        if self.names["content"] and value is None:
            raise BadRow(f"field {self.names['content'][0]!r} is missing")
        return problem.id if value is None else f"{self.stem}/{value}"

    def solve_rate(self, row: Row) -> float | None:
        """The share of right answers, 0 to 1; None where the row has none (no verdict was known)."""
        rate = self._find(row, "solve_rate")
        if rate is None:
            return None
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise BadRow(f"field {self.names['solve_rate'][0]!r} must be a number from 0 to 1, {_shown(rate)}")
        return float(rate)

    def _question(self, row: Row) -> tuple[tuple[Mapping[str, str], ...], str]:
        name = self._name(row, "question")
        if name is None:
            raise BadRow(f"no question: field {' or '.join(map(repr, self.names['question']))} is missing")
        value = row[name]
        messages = _messages(value, name) if isinstance(value, list) else ()
        question = messages[-1]["content"] if messages else value
        if not isinstance(question, str) or not question.strip():
            raise BadRow(f"field {name!r} must be a text or a list of messages, {_shown(value)}")
        return messages, question

    def _gold(self, row: Row, verifier: str) -> str:
        value, mark = self._find(row, "answer"), self.task.answer_after
        if value is None and verifier in NEED_NO_GOLD:
            return ""
        if verifier == "choice" and type(value) is int and 0 <= value < len(LETTERS):
            return LETTERS[value]
        if isinstance(value, float) and math.isfinite(value):
            value = int(value) if value.is_integer() else value
        text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        if not text:
            raise BadRow(f"field {self.names['answer'][0]!r} must be a text or a number, {_shown(value)}")
        _, found, after = text.rpartition(mark) if mark else ("", "", text)
        if (mark and not found) or not after.strip():
            raise BadRow(f"field {self.names['answer'][0]!r} must hold the answer after {mark!r}, {_shown(value)}")
        return after.strip()

    def _prompt(self, question: str, row: Row, verifier: str) -> str:
        choices = row.get("choices")
        if self.task.instruction is None:
            shows_choices = verifier == "choice" and choices is not None
            return _choice_prompt(question, choices) if shows_choices else question
        parts: dict[str, Callable[[], str]] = {
            "{question}": lambda: question,
            # Without a question and an instruction, what is left of the prompt is the lettered lines.
            "{choices}": lambda: _choice_prompt("", choices, instruction=""),
            "{test_list}": lambda: _test_lines(row.get("test_list")),
        }
        return re.sub(r"\{(question|choices|test_list)\}", lambda match: parts[match[0]](), self.task.instruction)

    def _id(self, row: Row, question: str, messages: Sequence[Mapping[str, str]]) -> str:
        value = self._find(row, "id")
        if value is None:
            said = "\n".join([*(message["content"] for message in messages[:-1]), question, repr(row.get("choices"))])
            return f"question/{digest_of(normalised(said)):016x}"
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise BadRow(f"field {self.names['id'][0]!r} must be a text or an integer, {_shown(value)}")
        return f"{self.stem}/{value}" if str(value).isdecimal() else str(value)

    def _meta(self, row: Row) -> dict[str, Any]:
        used = {self._name(row, part) for part in ("answer", "id", "verifier", "language")} | {"messages"}
        meta = {name: value for name, value in row.items() if name not in used and value is not None}
        for part in ("difficulty", "solve_rate"):
            if (value := self._find(row, part)) is not None:
                meta[part] = value
        if self.task.verifier_options:
            meta["verifier_options"] = {**self.task.verifier_options, **(meta.get("verifier_options") or {})}
        return meta

    def _text(self, row: Row, part: str) -> str | None:
        value = self._find(row, part)
        if value is not None and not isinstance(value, str):
            raise BadRow(f"field {self._name(row, part)!r} must be a text, {_shown(value)}")
        return value

    def _name(self, row: Row, part: str) -> str | None:
        return next((name for name in self.names[part] if row.get(name) is not None), None)

    def _find(self, row: Row, part: str) -> Any:
        name = self._name(row, part)
        return None if name is None else row[name]


def make_reader(task: FileTask, rows: Iterable[Row], *, where: str, stem: str) -> RowReader:
    """A reader for rows with these fields; raise DataError where no row has a field that the task names."""
    known = list(dict.fromkeys(name for row in rows for name in row))
    names = {part: _names_of(part, task.fields) for part in USUAL_NAMES}
    named = [(f"fields.{part}", name) for part, name in task.fields.model_dump().items() if name is not None]
    for key, name in [*named, *(("drop_if", name) for name in task.drop_if)]:
        if name not in known:
            raise DataError(f"{where}: no row has a field {name!r}, which {key} names; {_fields_that_are(known, name)}")
    for part, is_needed in (("question", True), ("solve_rate", task.filters_by_solve_rate)):
        if is_needed and not set(names[part]) & set(known):
            raise DataError(
                f"{where}: no row has a field {' or '.join(map(repr, names[part]))}; say with fields.{part} "
                f"which one is the {part.replace('_', ' ')}; {_fields_that_are(known, names[part][0])}"
            )
    return RowReader(task, names, stem)


def explain_missing_answer(reader: RowReader, rows: Sequence[Row], *, where: str) -> None:
    """Raise DataError where no row at all has an answer, nor can do without: this is one wrong name, not many bad
    rows.
    """
    if any({str(row.get("verifier")), verifier_for(row)} & NEED_NO_GOLD for row in rows):
        return
    known = list(dict.fromkeys(name for row in rows for name in row))
    if not set(reader.names["answer"]) & set(known):
        raise DataError(
            f"{where}: no row has a field 'answer'; say with fields.answer which one is the gold, or name a verifier "
            f"that needs none ({', '.join(sorted(NEED_NO_GOLD))}); {_fields_that_are(known, 'answer')}"
        )


def verifier_for(row: Row) -> str:
    """The verifier that the fields of a row call for."""
    if any(row.get(name) for name in ("tests", "test_list", "test")):
        return "code"
    if row.get("instruction_id_list"):
        return "instruction"
    if row.get("reward_model"):
        return "general"
    return "choice" if row.get("choices") else "math"


def normalised(text: str) -> str:
    """The text without differences of case and whitespace."""
    return " ".join(text.casefold().split())


def digest_of(text: str) -> int:
    """64 bits that depend on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _language(language: str) -> str:
    if re.fullmatch("[a-z]{2,3}", language) is None:
        raise BadRow(f"language {language!r} is no ISO 639-1 code such as 'en'")
    return language


def _names_of(part: str, fields: FieldNames) -> tuple[str, ...]:
    named = getattr(fields, part)
    return USUAL_NAMES[part] if named is None else (named,)


def _fields_that_are(known: Sequence[str], wanted: str) -> str:
    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"there are: {', '.join(known)}{hint}"


def _refuse_unjudgeable(problem: Problem) -> None:
    """Raise BadRow where the verifier of a generated family lacks a field, or refuses the gold."""
    if problem.verifier == "general":
        return _refuse_ungradable(problem.meta.get("reward_model"))
    if problem.verifier not in FAMILIES:
        return
    try:
        is_right = FAMILIES[problem.verifier].is_right(problem.gold, problem)
    except KeyError as error:
        raise BadRow(f"field {error.args[0]!r} is missing, which verifier {problem.verifier!r} needs") from None
    except (TypeError, ValueError):
        is_right = False
    if not is_right:
        raise BadRow(f"verifier {problem.verifier!r} refuses the answer {problem.gold[:40]!r}")


def _refuse_ungradable(reward_model: Any) -> None:
    """Raise BadRow where no reward model is named for a prompt that no rule judges."""
    if reward_model not in REWARD_MODELS:
        raise BadRow(f"field 'reward_model' must be one of {', '.join(REWARD_MODELS)}, {_shown(reward_model)}")


def _messages(value: list[Any], name: str) -> tuple[Mapping[str, str], ...]:
    for message in value:
        is_message = isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        if not is_message:
            raise BadRow(f"field {name!r}: each message needs a text under 'role' and 'content', {_shown(message)}")
    if not value or value[-1]["role"] != "user":
        raise BadRow(f"field {name!r}: the last message must be the user's, so that there is something to answer")
    return tuple({"role": message["role"], "content": message["content"]} for message in value)


def _choice_prompt(question: str, choices: Any, **instruction: str) -> str:
    if not isinstance(choices, list) or not all(isinstance(choice, str | int | float) for choice in choices):
        raise BadRow(f"field 'choices' must be a list of texts, {_shown(choices)}")
    try:
        return choice_prompt(question, [str(choice) for choice in choices], **instruction)
    except DataError as error:
        raise BadRow(str(error)) from None


def _test_lines(tests: Any) -> str:
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        raise BadRow(f"field 'test_list' must be a list of texts, {_shown(tests)}")
    return "\n".join(tests)


def _shown(value: Any) -> str:
    """What stands there instead, cut to a length that fits a line."""
    if value is None:
        return "but is missing"
    text = repr(value)
    return f"not {text if len(text) <= 60 else text[:57] + '…'}"
