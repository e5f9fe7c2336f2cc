"""JSON answers: compared by value, checked against a schema, bounded whatever they hold."""

import json
import sys
import time

import pytest

from r1kit.errors import VerifierError
from r1kit.rewards.verifiers.json_schema import JSONVerifier
from r1kit.types import Problem, Verdict

VERIFIER = JSONVerifier()
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def problem(gold="", **meta):
    return Problem(id="row", prompt="?", gold=gold, verifier="json", meta=meta)


def verdict_of(answer, gold="", **meta):
    return VERIFIER.judge(answer, problem(gold, **meta)).verdict


@pytest.mark.parametrize(
    ("answer", "gold", "is_right"),
    [
        ('{"b": [1, 2], "a": null}', '{"a":null,"b":[1,2]}', True),
        ("1.0", "1", True),
        ("1e2", "100", True),
        ('"caf\\u00e9"', '"café"', True),
        (" true\n", "true", True),
        ("1", "true", False),
        ("true", "1", False),
        ("0", "false", False),
        ('"1"', "1", False),
        ("[2, 1]", "[1, 2]", False),
        ("[1, 2, 2]", "[1, 2]", False),
        ('{"a": 1}', '{"a": 1, "b": 2}', False),
        ('{"a": 1, "b": 2}', '{"a": 1}', False),
        ('{"a": 2, "a": 1}', '{"a": 1}', False),  # a key twice
        ("null", '""', False),
        ("[]", "{}", False),
        ("NaN", "1", False),
        ("1e999", "1", False),
        ("{a: 1}", '{"a": 1}', False),
        ("{'a': 1}", '{"a": 1}', False),
        ('{"a": 1} {"a": 1}', '{"a": 1}', False),
        ("", "1", False),
    ],
)
def test_a_value_is_the_gold_or_it_is_not(answer, gold, is_right):
    assert verdict_of(answer, gold) is (Verdict.RIGHT if is_right else Verdict.WRONG)


def test_order_and_types_count_as_the_options_say():
    assert verdict_of("[2, [1, 3]]", "[[3, 1], 2]", verifier_options={"ordered_lists": False}) is Verdict.RIGHT
    assert verdict_of("[2, 2, 1]", "[1, 1, 2]", verifier_options={"ordered_lists": False}) is Verdict.WRONG
    pair = ('[{"a": 1}, {"b": {"c": 2}}]', '[{"b": {"c": 2}}, {"a": 1}]')
    assert verdict_of(*pair, verifier_options={"ordered_lists": False}) is Verdict.RIGHT
    assert verdict_of("1.0", "1", verifier_options={"typed_numbers": True}) is Verdict.WRONG


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [
        ('{"name": "Ada", "age": 36}', True),
        ('{"name": "Ada"}', True),
        ('{"name": "ada"}', False),
        ('{"age": 36}', False),
        ('{"name": "Ada", "age": -1}', False),
        ('{"name": "Ada", "age": 1.5}', False),
        ('{"name": "Ada", "age": true}', False),
        ('{"name": "Ada", "sex": "f"}', False),
        ('["Ada"]', False),
    ],
)
@pytest.mark.parametrize(
    "schema", [PERSON, json.dumps(PERSON), PERSON | {"$schema": "http://json-schema.org/draft-07/schema#"}]
)
def test_a_value_is_valid_or_it_is_not(answer, is_right, schema):
    assert verdict_of(answer, schema=schema) is (Verdict.RIGHT if is_right else Verdict.WRONG)


def test_schema_and_gold_must_both_hold():
    assert verdict_of('{"name": "Ada"}', '{"name": "Ada"}', schema=PERSON) is Verdict.RIGHT
    assert verdict_of('{"name": "Bob"}', '{"name": "Ada"}', schema=PERSON) is Verdict.WRONG
    assert verdict_of('{"name": "ada"}', '{"name": "ada"}', schema=PERSON) is Verdict.WRONG


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "array", "uniqueItems": True}, "[1, true, [1], [true]]", "[1, 1.0]"),
        ({"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False}, '{"x1": 1}', '{"y": 1}'),
        ({"patternProperties": {"^x": {"type": "integer"}}}, '{"y": "a"}', '{"x": "a"}'),
        ({"additionalProperties": {"type": "string"}}, '{"a": "b"}', '{"a": 1}'),
        ({"$defs": {"n": {"type": "null"}}, "items": {"$ref": "#/$defs/n"}}, "[null]", "[0]"),
        ({"anyOf": [{"const": 1}, {"enum": ["a"]}]}, '"a"', "2"),
        (False, None, "1"),
        (True, "1", None),
    ],
)
def test_keywords_do_what_the_standard_says(schema, right, wrong):
    assert right is None or verdict_of(right, schema=schema) is Verdict.RIGHT
    assert wrong is None or verdict_of(wrong, schema=schema) is Verdict.WRONG


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "persn"},
        {"$ref": "https://example.org/person.json"},  # never fetched
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"pattern": "("},
        {"patternProperties": {"a": True}, "unevaluatedProperties": False},
    ],
)
def test_a_schema_that_cannot_be_used_is_unknown(schema):
    judgement = VERIFIER.judge('"a"', problem(schema=schema))
    assert judgement.verdict is Verdict.UNKNOWN
    assert judgement.reason.startswith("the schema ")


def test_a_gold_that_is_no_json_is_unknown():
    assert verdict_of("1", "{a}") is Verdict.UNKNOWN


@pytest.mark.parametrize("meta", [{}, {"schema": "{"}, {"schema": ["object"]}, {"schema": 1}])
def test_without_gold_or_schema_there_is_nothing_to_judge_by(meta):
    with pytest.raises(VerifierError, match="row: "):
        verdict_of("1", **meta)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    monkeypatch.setitem(sys.modules, "jsonschema.exceptions", None)
    with pytest.raises(VerifierError, match=r"pip install 'r1kit\[json\]'"):
        verdict_of("1", schema={"type": "integer"})
    assert verdict_of("1", "1") is Verdict.RIGHT


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('<answer>{"a": 1}</answer>', '{"a": 1}'),
        ('<answer>\n```json\n{"a": 1}\n```\n</answer>', '{"a": 1}'),
        ("First ```x``` then\n```json\n[1]\n```\nno,\n```\n[2]\n```\nDone.", "[2]"),
        ("```json\n[1]\n```\n```python\nprint(2)\n```", "[1]"),
        ('````json\n["```"]\n````', '["```"]'),
        ('{"a": 1}\n', '{"a": 1}'),
        ("It is 1.", None),
        ("```json\n[1]", None),
        ("<think>```json\n[1]\n```</think>", None),
        ("<think>{}", None),
    ],
)
def test_the_value_is_found_where_it_is_marked(text, answer):
    assert VERIFIER.extract(text, problem("1")) == answer


TREE = {"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["x"]}, {"properties": {"a": {"$ref": "#"}}}]}


@pytest.mark.parametrize(
    ("answer", "meta"),
    [
        ("[" * 100_000, {"gold": "1"}),
        ("[" * 65 + "]" * 65, {"gold": "1"}),
        ("[" + "1," * 6000 + "1]", {"gold": "1"}),
        ("9" * 50_000, {"gold": "1"}),
        ('"' + "\\" * 99_999, {"gold": "1"}),
        ('"' * 100_000, {"gold": "1"}),
        ("x" * 10**6, {"gold": "1"}),
        ('"' + "a" * 50 + '!"', {"schema": {"pattern": "^(a+)+$"}}),
        ('"' + "a" * 5000 + '"', {"schema": {"pattern": "^a+$"}}),
        ('{"a":' * 60 + "1" + "}" * 60, {"schema": TREE | {"type": "object"}}),
        ("[" + ",".join(["1", '"a"'] * 2000) + "]", {"schema": {"uniqueItems": True}}),
    ],
)
def test_hostile_values_are_wrong_in_time(answer, meta):
    started = time.perf_counter()
    judgement = VERIFIER.judge(answer, problem(**meta))
    assert time.perf_counter() - started < 2
    assert judgement.verdict is Verdict.WRONG


def test_a_value_at_the_bounds_is_read():
    deep = "[" * 64 + "]" * 64
    assert verdict_of(deep, deep) is Verdict.RIGHT
