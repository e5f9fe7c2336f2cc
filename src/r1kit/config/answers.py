"""What the verifiers of texts, expressions, JSON and instructions let pass; a problem changes it for itself."""

from typing import Literal

from pydantic import Field

from r1kit.config.settings import Settings


class ExactSettings(Settings):
    """Conventions of the `exact` verifier. A problem changes them in `meta["verifier_options"]`."""

    verbatim: bool = False
    """Character for character, but for white space around the answer; then nothing below is ignored."""
    ignore_case: bool = True
    """Is `Paris` the same as `paris`?"""
    ignore_spaces: bool = False
    """Is `New York` the same as `NewYork`? If not, any white space is one space."""
    ignore_punctuation: Literal["ends", "all", "none"] = "ends"
    """Marks that don't count: those around the answer, all of them, or none. Marks of numbers always count: `-5`,
    `.5`, `1,5`, `5!`, `5%`."""
    ignore_articles: bool = False
    """May the English words a, an and the be there or not?"""
    max_answer_chars: int = Field(default=4000, ge=1, le=20_000)
    """A longer answer is wrong."""


class ExpressionSettings(Settings):
    """Rules of the `expression` verifier. A problem changes them in `meta["verifier_options"]`."""

    every_number: bool = True
    """Must each number be used, as in Countdown tasks for models? False: at most once each."""
    unary_minus: bool = True
    """May an expression, or a bracket in it, begin with a minus sign?"""
    max_answer_chars: int = Field(default=400, ge=1, le=2000)
    """A longer answer is wrong."""
    max_digits: int = Field(default=12, ge=1, le=100)
    """Digits of a written number."""
    max_depth: int = Field(default=30, ge=1, le=100)
    """How deep brackets may nest."""


class JSONSettings(Settings):
    """Conventions and budgets of the `json` verifier. A problem changes them in `meta["verifier_options"]`."""

    typed_numbers: bool = False
    """Is 1.0 another value than 1?"""
    ordered_lists: bool = True
    """Must lists come in the gold's order? The order of keys never matters."""
    max_answer_chars: int = Field(default=100_000, ge=1, le=10_000_000)
    """A longer answer is wrong."""
    max_depth: int = Field(default=64, ge=1, le=200)
    """How deep it may nest."""
    max_values: int = Field(default=5000, ge=1, le=100_000)
    """Values it may hold: objects, lists, texts, numbers, …"""


class InstructionSettings(Settings):
    """How the `instruction` verifier judges. A problem changes it in `meta["verifier_options"]`."""

    loose: bool = False
    """May the first line, the last line and asterisks be left out before judging (arXiv:2311.07911, section 2.2)?"""
    max_answer_chars: int = Field(default=100_000, ge=1, le=1_000_000)
    """A longer answer is wrong."""
