"""The `expression` verifier: arithmetic with given numbers that must reach a target, as in Countdown and the 24 game.

A parser of our own, with exact fractions and bounds on everything: text that a model wrote is never evaluated.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from r1kit.config.answers import ExpressionSettings
from r1kit.errors import VerifierError
from r1kit.rewards.verifiers.mathematics.extraction import last_block, last_box, stated_answer, visible_text
from r1kit.rewards.verifiers.plain_text import without_markup
from r1kit.rewards.verifiers.problem_options import options_for
from r1kit.rewards.verifiers.protocol import Judgement
from r1kit.types import Problem, Verdict

_SIGNS = str.maketrans("×·∙•÷∕⁄−–[]", "****///--()")
_COMMANDS = {r"\times": "*", r"\cdot": "*", r"\div": "/", r"\left": "", r"\right": ""}
_COMMAND = re.compile(r"\\(?:times|cdot|div|left|right)(?![a-zA-Z])")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]{1,60})\}\s*\{([^{}]{1,60})\}")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|([-+*/()]))")
_NUMBER = re.compile(r"[-+]?\d{1,100}(?:\.\d{1,100})?(?:/\d{1,100})?")


class UnreadableExpressionError(ValueError):
    """The text is no expression, or exceeds a bound."""


@dataclass(frozen=True, slots=True)
class ExpressionVerifier:
    """Judges by value and by the numbers used.

    `problem.meta` holds the `numbers` (or `nums`) and the `target`; without a target the gold is the target, or an
    expression that reaches it. `= target` may stand after the answer.
    """

    settings: ExpressionSettings = field(default_factory=ExpressionSettings)

    def extract(self, text: str, problem: Problem) -> str | None:
        """The last answer block, else the last box, else what is stated, else the last line."""
        visible = visible_text(text)
        place = last_block(visible)
        if place is not None:
            box = last_box(place)
            return box if box is not None else place.strip()
        for place in (last_box(visible), stated_answer(visible), visible.rstrip().rpartition("\n")[2].strip()):
            if place is not None:
                return place or None
        return None

    def judge(self, answer: str, problem: Problem) -> Judgement:
        """RIGHT where the expression has the target's value and uses the numbers as it must."""
        options = options_for(problem, self.settings)
        numbers = given_numbers(problem)
        target = target_of(problem, options)
        if target is None:
            return Judgement(verdict=Verdict.UNKNOWN, reason="the target cannot be read")
        try:
            value, used = read_expression(answer, options)
        except UnreadableExpressionError as error:
            return Judgement(verdict=Verdict.WRONG, reason=str(error), is_readable=False)
        fault = _fault(value, used, numbers, target, every_number=options.every_number)
        detail = {"value": str(value)} if value is not None and value.denominator < 10**30 else {}
        return Judgement(verdict=Verdict.WRONG if fault else Verdict.RIGHT, reason=fault, detail=detail)


def given_numbers(problem: Problem) -> list[Fraction]:
    """The numbers to use; raises VerifierError where the problem has none that can be read."""
    given = problem.meta.get("numbers", problem.meta.get("nums"))
    if not isinstance(given, list | tuple) or not given:
        raise VerifierError(f"{problem.id}: `numbers` (or `nums`) must be a list of numbers")
    numbers = [plain_value(number) for number in given]
    if any(number is None for number in numbers):
        raise VerifierError(f"{problem.id}: `numbers` must be a list of numbers, not {list(given)!r}")
    return [number for number in numbers if number is not None]


def target_of(problem: Problem, options: ExpressionSettings) -> Fraction | None:
    """The value to reach: `meta["target"]`, else the gold's; None where neither can be read."""
    if "target" in problem.meta:
        return plain_value(problem.meta["target"])
    try:
        return read_expression(problem.gold, options)[0]
    except UnreadableExpressionError:
        return plain_value(problem.gold)


def plain_value(number: object) -> Fraction | None:
    """The exact value of a number in a data file: 3, 0.5, "3", "1/2"; None for all else."""
    text = str(number).strip() if isinstance(number, int | float | str) and not isinstance(number, bool) else ""
    if not _NUMBER.fullmatch(text):
        return None
    top, _, bottom = text.partition("/")
    return Fraction(top) / Fraction(bottom) if bottom and Fraction(bottom) else None if bottom else Fraction(top)


def read_expression(text: str, options: ExpressionSettings) -> tuple[Fraction | None, list[Fraction]]:
    """The value of an expression and the numbers in it; no value where it divides by zero or denies its own result.

    Raises UnreadableExpressionError for anything but numbers, + - * / and brackets, and beyond the bounds.
    """
    if len(text) > options.max_answer_chars:
        raise UnreadableExpressionError("too long")
    left, equals, right = _plain(text).partition("=")
    if equals and plain_value(left.strip()) is not None and plain_value(right.strip()) is None:
        left, right = right, left
    reader = _Reader(_tokens(left, options), options)
    value = reader.whole()
    if equals:
        claimed = plain_value(right.strip())
        if claimed is None:
            raise UnreadableExpressionError("what follows = is no number")
        value = value if value == claimed else None
    return value, reader.used


def _plain(text: str) -> str:
    text = text.strip().removeprefix("**").removesuffix("**")
    if "**" in text or "//" in text:
        raise UnreadableExpressionError("only + - * / are allowed")
    text = text.translate(_SIGNS)
    while (flat := _FRACTION.sub(r"((\1)/(\2))", text)) != text:  # from the inside out
        text = flat
    return without_markup(_COMMAND.sub(lambda match: _COMMANDS[match.group()], text)).rstrip(" .,;")


def _tokens(text: str, options: ExpressionSettings) -> list[str]:
    text, tokens, place = text.strip(), [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or len(match[1] or "") > options.max_digits or not match.group().isascii():
            raise UnreadableExpressionError("cannot be read")
        tokens.append(match[1] or match[2])
        place = match.end()
    return tokens


def _fault(
    value: Fraction | None,
    used: Sequence[Fraction],
    numbers: Sequence[Fraction],
    target: Fraction,
    *,
    every_number: bool,
) -> str:
    """Why an expression is not right; empty where it is."""
    spent, given = Counter(used), Counter(numbers)
    if spent - given:
        return "uses a number that is not there, or too often"
    if every_number and spent != given:
        return "does not use every number"
    if value is None:
        return "divides by zero, or is not what it says"
    return "" if value == target else "another value"


@dataclass(slots=True)
class _Reader:
    """A recursive descent over tokens: sum := [-] product {(+|-) product}, product := factor {(*|/) factor}."""

    tokens: list[str]
    options: ExpressionSettings
    place: int = 0
    used: list[Fraction] = field(default_factory=list)

    def whole(self) -> Fraction | None:
        value = self.sum(0)
        if self.place < len(self.tokens):
            raise UnreadableExpressionError("cannot be read")
        return value

    def sum(self, depth: int) -> Fraction | None:
        negative = self.options.unary_minus and self.next_is("-")
        total = self.product(depth)
        total = -total if negative and total is not None else total
        while sign := self.next_is("+", "-"):
            term = self.product(depth)
            total = None if total is None or term is None else total + term if sign == "+" else total - term
        return total

    def product(self, depth: int) -> Fraction | None:
        total = self.factor(depth)
        while sign := self.next_is("*", "/"):
            factor = self.factor(depth)
            if total is None or factor is None:
                total = None
            elif sign == "*":
                total *= factor
            else:
                total = total / factor if factor else None
        return total

    def factor(self, depth: int) -> Fraction | None:
        if self.next_is("("):
            if depth == self.options.max_depth:
                raise UnreadableExpressionError("too deep")
            value = self.sum(depth + 1)
            if not self.next_is(")"):
                raise UnreadableExpressionError("a bracket does not close")
            return value
        if self.place == len(self.tokens) or not self.tokens[self.place][0].isdigit():
            raise UnreadableExpressionError("cannot be read")
        number = Fraction(self.tokens[self.place])
        self.place += 1
        self.used.append(number)
        return number

    def next_is(self, *signs: str) -> str:
        """The next token, taken, if it is one of the signs; else nothing."""
        if self.place < len(self.tokens) and self.tokens[self.place] in signs:
            self.place += 1
            return self.tokens[self.place - 1]
        return ""
