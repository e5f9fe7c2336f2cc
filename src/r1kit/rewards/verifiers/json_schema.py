"""The `json` verifier: an answer that must be a JSON value, equal to the gold, or valid under a schema, or both."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1kit.config.answers import JSONSettings
from r1kit.errors import VerifierError
from r1kit.rewards.verifiers.mathematics.extraction import last_block, visible_text
from r1kit.rewards.verifiers.problem_options import options_for
from r1kit.rewards.verifiers.protocol import Judgement
from r1kit.rewards.verifiers.schema_check import Schema, SchemaFault, comparable, first_fault
from r1kit.types import Problem, Verdict

_FENCE = re.compile(r"^[ \t]{0,3}(```+|~~~+)[ \t]*([^\n`]*)$", re.MULTILINE)
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]|,', re.DOTALL)
_JSON_FENCES = frozenset(["", "json", "json5", "jsonc", "jsonl"])


class UnreadableJSONError(ValueError):
    """The text is no JSON value, or exceeds a bound."""


@dataclass(frozen=True, slots=True)
class JSONVerifier:
    """Judges by value. The gold is JSON text, or empty; `meta["schema"]` is a JSON schema (an object, or its text).

    NaN, infinities and a key that stands twice in an object are no JSON. A schema needs the extra `[json]`.
    """

    settings: JSONSettings = field(default_factory=JSONSettings)

    def extract(self, text: str, problem: Problem) -> str | None:
        """What stands in the last answer block, else in the last fenced block, else all where it begins like JSON."""
        visible = visible_text(text)
        place = last_block(visible)
        if place is not None:
            fenced = last_fenced(place)
            return place.strip() if fenced is None else fenced
        fenced = last_fenced(visible)
        whole = visible.strip()
        return whole if fenced is None and whole[:1] in ("{", "[") else fenced

    def judge(self, answer: str, problem: Problem) -> Judgement:
        """RIGHT where the value is the gold's and valid; UNKNOWN where the gold or the schema can't be read."""
        options = options_for(problem, self.settings)
        schema = schema_of(problem)
        if schema is None and not problem.gold.strip():
            raise VerifierError(f"{problem.id}: the json verifier needs a gold or a `schema`")
        try:
            gold = read_json(problem.gold, JSONSettings()) if problem.gold.strip() else None
        except UnreadableJSONError as error:
            return Judgement(verdict=Verdict.UNKNOWN, reason=f"the gold {error}")
        try:
            value = read_json(answer, options)
        except UnreadableJSONError as error:
            return Judgement(verdict=Verdict.WRONG, reason=str(error), is_readable=False)
        if problem.gold.strip() and not _same(value, gold, options):
            return Judgement(verdict=Verdict.WRONG, reason="another value")
        return _judge_by_schema(value, schema) if schema is not None else Judgement(verdict=Verdict.RIGHT)


def _same(value: object, gold: object, options: JSONSettings) -> bool:
    one, other = (
        comparable(side, typed_numbers=options.typed_numbers, ordered_lists=options.ordered_lists)
        for side in (value, gold)
    )
    return one == other


def _judge_by_schema(value: object, schema: Schema) -> Judgement:
    try:
        fault = first_fault(value, schema)
    except SchemaFault as error:
        return Judgement(verdict=Verdict.UNKNOWN, reason=f"the schema {error}")
    return Judgement(verdict=Verdict.WRONG if fault else Verdict.RIGHT, reason=fault)


def schema_of(problem: Problem) -> Schema | None:
    """The schema of a problem, None where it has none; raises VerifierError for what can be no schema."""
    schema = problem.meta.get("schema")
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise VerifierError(f"{problem.id}: `schema` is not valid JSON: {error}") from None
    if schema is not None and not isinstance(schema, Mapping | bool):
        raise VerifierError(f"{problem.id}: `schema` must be a JSON schema: an object, or its text")
    return schema


def last_fenced(text: str) -> str | None:
    """The inside of the last complete fenced block that says nothing of its language, or JSON; None without one."""
    found, opened = None, None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2].strip():
            if opened[2].strip().lower() in _JSON_FENCES:
                found = text[opened.end() : fence.start()].strip()
            opened = None
    return found


def read_json(text: str, options: JSONSettings) -> Any:
    """The value of a JSON text; raises UnreadableJSONError for anything else, and beyond the bounds."""
    if len(text) > options.max_answer_chars:
        raise UnreadableJSONError("is too long")
    depth = deepest = num_values = 1
    for piece in _STRUCTURE.finditer(text):
        sign = piece.group()[0]
        depth += (sign in "[{") - (sign in "]}")
        num_values += sign in ",[{"
        deepest = max(deepest, depth)
    if deepest - 1 > options.max_depth or num_values > options.max_values:
        raise UnreadableJSONError("is too deep" if deepest - 1 > options.max_depth else "holds too much")
    try:
        return json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_object_without_doubles
        )
    except (ValueError, RecursionError) as error:
        raise UnreadableJSONError(f"is not valid JSON: {error}") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _object_without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found
