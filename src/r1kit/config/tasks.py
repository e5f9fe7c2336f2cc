"""Which problems a run trains or is tested on: one frozen settings class a family, file or data set, by `kind`."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

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


class ArithmeticTask(TaskSettings):
    """Arithmetic in plain words, for real language models: 'What is 47 + 38?' Judged by the `math` verifier."""

    kind: Literal["arithmetic"] = "arithmetic"
    operations: tuple[Literal["+", "-", "*", "/"], ...] = Field(default=("+", "-"), min_length=1)
    """Signs between the numbers, drawn evenly; every quotient is an integer."""
    digits: int = Field(default=2, ge=1, le=6)
    """Digits of each number; a number that is divided has more."""
    largest: int | None = Field(default=None, ge=2, le=999_999)
    """Numbers from 1 to this, instead of `digits`."""
    question: str | None = Field(default=None, pattern=r"\{expression\}")
    """What is asked, with `{expression}` in it. Unset: one of three ways in the language of the question."""
    verifier_options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the `math` verifier: a chat model that marks no answer needs `last_expression`."""
    terms: int = Field(default=2, ge=2, le=8)
    """How many numbers."""


GeneralSubject = Literal["greeting", "fact", "echo", "writing", "howto", "harmful"]


class GeneralTask(TaskSettings):
    """Small talk, facts, small instructions, advice, and asks that do harm: 'What is the capital of France?'"""

    kind: Literal["general"] = "general"
    subjects: tuple[GeneralSubject, ...] = Field(default=get_args(GeneralSubject), min_length=1)
    """What is asked for: `harmful` alone is what a safety model is trained on, all others are for helpfulness."""


class FieldNames(Settings):
    """What the fields of a file are called. Unset: the usual name, where the file has it."""

    question: str | None = None
    """A text, or a list of messages (`role`, `content`) that ends with the user. Usual: `question`, `problem`,
    `prompt`, `messages`, `text`, `instruction`: the first of these that a row has."""
    answer: str | None = None
    """The gold: a text or a number; for `choice` a letter, or the option's number from 0. Usual: `answer`."""
    id: str | None = None
    """Usual: `id`, `task_id`, `unique_id`, `key`. A row without one is named by a digest of its question."""
    verifier: str | None = None
    """Usual: `verifier`."""
    language: str | None = None
    """ISO 639-1 code. Usual: `language`, `lang`."""
    difficulty: str | None = None
    """Any number or word that reports may group by. Usual: `difficulty`."""
    solve_rate: str | None = None
    """The share of right answers that some model gave, 0 to 1, as `r1 sample` writes it. Usual: `solve_rate`."""
    content: str | None = None
    """What the held-out split hangs on, instead of the id: rows of the same content (translations, paraphrases) stay in
    one split."""


class FileTaskSettings(Settings):
    """What files and data sets of problems have in common: which rows are taken, and what is made of them."""

    weight: float = Field(default=1.0, gt=0)
    """Its share of the problems, beside the other tasks of the recipe."""
    fields: FieldNames = FieldNames()
    answer_after: str | None = Field(default=None, min_length=1)
    """The gold is what follows the last of these in the answer; GSM8K as published has `####`."""
    verifier: str | None = None
    """Of rows that name none. Unset: `code` for rows with tests, `instruction` for rows with `instruction_id_list`,
    `general` for rows with `reward_model`, `choice` for rows with `choices`, else `math`."""
    verifier_options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the verifier, for every row."""
    language: str | None = Field(default=None, pattern="^[a-z]{2,3}$")
    """ISO 639-1 code of rows that name none. Unset: told from the script of the question, English for Latin letters."""
    instruction: str | None = None
    """What is asked: a text with `{question}` in it, and where wanted `{choices}` (lettered, a line each) and
    `{test_list}`. Unset: the question alone, followed by its choices where the verifier is `choice`."""
    use_for: Literal["both", "train", "held_out"] = "both"
    """`both`: rows are cut into training and held-out ones; `train`, `held_out`: all of them are of one split."""
    held_out: float = Field(default=0.1, ge=0, le=1)
    """The share of contents that is held out, by a digest of the id."""
    max_prompt_chars: int = Field(default=0, ge=0)
    """Longer prompts are left out; 0: none."""
    min_solve_rate: float = Field(default=0.0, ge=0, le=1)
    """Rows that were solved less often are left out."""
    max_solve_rate: float = Field(default=1.0, ge=0, le=1)
    """Rows that were solved more often are left out."""
    drop_if: tuple[str, ...] = ()
    """Rows in which one of these fields is not empty (nor false, nor 0) are left out: `near_eval`."""
    drop_ids: Path | None = None
    """A text file with an id a line: these rows are left out."""
    deduplicate: bool = True
    """Of questions that are equal but for whitespace and case, keep the first."""
    limit: int = Field(default=0, ge=0)
    """Keep the first so many rows of what is left; 0: all."""
    bad_rows: Literal["refuse", "skip"] = "refuse"
    """What to do about rows that can't be used: stop and list them, or pass over them and say so."""

    @field_validator("drop_if", mode="before")
    @classmethod
    def _one_name_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("instruction")
    @classmethod
    def _asks_the_question(cls, value: str | None) -> str | None:
        if value is not None and value.count("{question}") != 1:
            raise ValueError("the instruction must hold {question} once, where the question goes")
        return value

    @model_validator(mode="after")
    def _rates_are_in_order(self) -> "FileTaskSettings":
        if self.min_solve_rate > self.max_solve_rate:
            raise ValueError(
                f"min_solve_rate is {self.min_solve_rate}, above max_solve_rate {self.max_solve_rate}: no row is left"
            )
        return self

    @property
    def filters_by_solve_rate(self) -> bool:
        """True where rows need a solve rate."""
        return (self.min_solve_rate, self.max_solve_rate) != (0.0, 1.0)


class JsonlTask(FileTaskSettings):
    """Problems of a JSON Lines file: one object a line, UTF-8."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path
    """The file; a relative path starts at the current folder."""
    held_out_path: Path | None = None
    """A file of its own for the held-out problems; all of `path` is then trained on."""

    @model_validator(mode="after")
    def _has_one_held_out_set(self) -> "JsonlTask":
        if self.held_out_path is not None and self.use_for != "both":
            raise ValueError(f"held_out_path is set, but use_for = {self.use_for!r} leaves one split alone; unset one")
        return self


class HubTask(FileTaskSettings):
    """Problems of a Hugging Face data set, from the hub or a local folder (jsonl, parquet, csv, or saved to disk)."""

    kind: Literal["hub"] = "hub"
    dataset: str = Field(min_length=1)
    """An id such as `openai/gsm8k`, or a folder."""
    name: str | None = None
    """Which configuration of it, where it has several: `main`."""
    split: str = "train"
    """Its own name of the rows that are read; a slice such as `train[:5000]` will do."""
    held_out_split: str | None = None
    """Its own name of the held-out rows; all of `split` is then trained on."""
    revision: str | None = None
    """Branch, tag or commit: name one, and the data can't change under a run."""

    @model_validator(mode="after")
    def _has_one_held_out_set(self) -> "HubTask":
        if self.held_out_split is not None and self.use_for != "both":
            raise ValueError(f"held_out_split is set, but use_for = {self.use_for!r} leaves one split alone; unset one")
        return self


GeneratedTask = (
    ChainsTask | SumsTask | PairsTask | CountdownTask | OrderingTask | LogicTask | ArithmeticTask | GeneralTask
)
"""Tasks that never run out, within the limits of their dials."""
FileTask = JsonlTask | HubTask
"""Tasks with a finite set of problems."""
TaskConfig = Annotated[GeneratedTask | FileTask, Field(discriminator="kind")]
