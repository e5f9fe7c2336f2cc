"""Which problems a run trains or is tested on: one frozen settings class a family, chosen by `kind`."""

from typing import Annotated, Literal

from pydantic import Field

from r1kit.config.settings import Settings


class TaskSettings(Settings):
    """What every generated family has in common."""

    weight: float = Field(default=1.0, gt=0)
    """Its share of the problems, beside the other tasks of the recipe."""
    languages: tuple[Literal["en", "zh"], ...] = Field(default=("en", "zh"), min_length=1)
    """Languages in which the question is asked, drawn evenly."""


class ChainsTask(TaskSettings):
    """A chain of sums and differences: 'Compute 7+5-3+8'."""

    kind: Literal["chains"] = "chains"
    terms: int = Field(default=6, ge=2, le=16)
    """How many numbers: the difficulty dial."""


class SumsTask(TaskSettings):
    """One sum of two long numbers: 'Sum 47+38'."""

    kind: Literal["sums"] = "sums"
    digits: int = Field(default=2, ge=1, le=6)
    """Digits of each number: the difficulty dial."""


class PairsTask(TaskSettings):
    """Which two of these numbers have this sum? Solved by guess and check."""

    kind: Literal["pairs"] = "pairs"
    numbers: int = Field(default=5, ge=3, le=12)
    """How many numbers to choose from: the difficulty dial."""
    largest: int = Field(default=19, ge=12, le=99)
    """The largest number that can appear."""


class CountdownTask(TaskSettings):
    """Put +, - or * between three numbers so that the target comes out. Solved by guess and check."""

    kind: Literal["countdown"] = "countdown"
    largest: int = Field(default=5, ge=3, le=9)
    """The largest number that can appear: the difficulty dial."""


class OrderingTask(TaskSettings):
    """Put numbers in ascending order."""

    kind: Literal["ordering"] = "ordering"
    numbers: int = Field(default=4, ge=2, le=10)
    """How many numbers: the difficulty dial."""


class LogicTask(TaskSettings):
    """Who is the tallest, given who is taller than whom?"""

    kind: Literal["logic"] = "logic"
    people: int = Field(default=4, ge=2, le=8)
    """How many people: the difficulty dial."""


TaskConfig = Annotated[
    ChainsTask | SumsTask | PairsTask | CountdownTask | OrderingTask | LogicTask, Field(discriminator="kind")
]
