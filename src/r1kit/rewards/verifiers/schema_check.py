"""Is a JSON value valid under a JSON schema? By the jsonschema library, with what could run away or reach out fenced.

Schemas come from data files, values from models. A `$ref` to another document is never fetched; a pattern is matched
within a budget, since some take exponential time on a text made for them; recursion is counted.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from r1kit.errors import VerifierError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

Schema = Mapping[str, Any] | bool

MAX_PATTERN_CHARS = 4000
"""A longer text matches no pattern."""
MAX_REFERENCES = 10_000
"""`$ref`s followed for one value."""
MAX_PATTERN_SECONDS = 0.2
"""Wall clock of all patterns of one value: the last fence, which only patterns and texts made for it reach."""


class SchemaFault(ValueError):
    """The schema itself cannot be used; the message follows 'the schema'."""


class _TooMuchWork(ValueError):
    """The value took more than its budget."""


@dataclass(slots=True)
class _Budget:
    references: int = MAX_REFERENCES
    seconds: float = MAX_PATTERN_SECONDS


_budget: ContextVar[_Budget] = ContextVar("budget of one validation")


def first_fault(value: object, schema: Schema) -> str:
    """What is wrong with the value, in one line; empty where it is valid.

    Raises SchemaFault for a schema that can't be used, and VerifierError where the library is not installed.
    """
    try:
        from jsonschema.exceptions import SchemaError
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError:
        raise VerifierError("a JSON schema needs the jsonschema library: pip install 'r1kit[json]'") from None
    dialect = schema.get("$schema") if isinstance(schema, Mapping) else None
    validator_class = _fenced_class(dialect if isinstance(dialect, str) else "")
    plain = _without_dialect(schema)
    try:
        validator_class.check_schema(plain)
        _budget.set(_Budget())
        error = next(iter(validator_class(plain, registry=Registry()).iter_errors(value)), None)
    except SchemaError as error:
        raise SchemaFault(f"is not valid: {error.message[:120]}") from None
    except Unresolvable as error:
        raise SchemaFault(f"refers to what is not there: {str(error)[:120]}") from None
    except RecursionError:
        raise SchemaFault("refers to itself without end") from None
    except _TooMuchWork as error:
        return str(error)
    return "" if error is None else f"{error.json_path}: {error.message[:150]}"


@lru_cache(maxsize=16)
def _fenced_class(dialect: str) -> "type[Validator]":
    """The validator of a draft (2020-12 by default) with the fenced keywords in place of its own."""
    from jsonschema.validators import Draft202012Validator, extend, validator_for

    own = validator_for({"$schema": dialect}, default=Draft202012Validator) if dialect else Draft202012Validator
    keywords = {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique_items}
    counted = {name: _counted(own.VALIDATORS[name]) for name in ("$ref", "$dynamicRef") if name in own.VALIDATORS}
    return extend(own, {**keywords, **counted, "additionalProperties": _additional_properties})


def _without_dialect(schema: Any) -> Any:
    """The schema without `$schema`: where the library meets it again, it would go on with its own keywords."""
    if isinstance(schema, Mapping):
        if "patternProperties" in schema and "unevaluatedProperties" in schema:
            raise SchemaFault("has patternProperties beside unevaluatedProperties, which is not supported")
        kept = {name: inner for name, inner in schema.items() if name != "$schema" or not isinstance(inner, str)}
        return {name: _without_dialect(inner) for name, inner in kept.items()}
    return [_without_dialect(inner) for inner in schema] if isinstance(schema, list) else schema


def _matches(pattern: str, text: str) -> bool:
    import regex

    budget = _budget.get()
    if len(text) > MAX_PATTERN_CHARS:
        return False
    started = time.perf_counter()
    try:
        return regex.search(pattern, text, timeout=max(budget.seconds, 0.001)) is not None
    except TimeoutError:
        raise _TooMuchWork(f"takes too long to match {pattern[:60]!r}") from None
    except regex.error as error:
        raise SchemaFault(f"has a pattern that cannot be read: {error}") from None
    finally:
        budget.seconds -= time.perf_counter() - started


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not _matches(pattern, value):
        yield ValidationError(f"{value[:60]!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], value: Any, schema: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for pattern, inner_schema in patterns.items():
            for key, inner in value.items():
                if _matches(pattern, key):
                    yield from validator.descend(inner, inner_schema, path=key, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not isinstance(value, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key in value:
        if key not in known and not any(_matches(pattern, key) for pattern in patterns):
            if allowed is False:
                yield ValidationError(f"the property {key[:60]!r} is not allowed")
            else:
                yield from validator.descend(value[key], allowed, path=key)


def _unique_items(validator: Any, is_wanted: bool, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if is_wanted and isinstance(value, list) and len({comparable(item) for item in value}) < len(value):
        yield ValidationError("an item stands twice")


def _counted(keyword: Any) -> Any:
    """The library's own keyword, counted: a schema that refers to itself twice doubles its work at every level."""

    def follow(validator: Any, reference: Any, value: Any, schema: Any) -> Iterator[Any]:
        budget = _budget.get()
        budget.references -= 1
        if budget.references < 0:
            raise _TooMuchWork("takes too many steps")
        yield from keyword(validator, reference, value, schema) or ()

    return follow


def comparable(value: Any, *, typed_numbers: bool = False, ordered_lists: bool = True) -> tuple[str, Any]:
    """What two JSON values have in common just if they are the same. True is not 1, though Python says so."""
    same = partial(comparable, typed_numbers=typed_numbers, ordered_lists=ordered_lists)
    if isinstance(value, dict):
        return ("object", frozenset((key, same(inner)) for key, inner in value.items()))
    if isinstance(value, list):
        items = [same(inner) for inner in value]
        return ("list", tuple(items) if ordered_lists else frozenset(Counter(items).items()))
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and not typed_numbers
    return ("number" if is_number else type(value).__name__, value)
