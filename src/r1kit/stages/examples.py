"""The examples that fine-tuning reads: rows of JSON Lines files, each checked, as tokens."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from r1kit.errors import DataError
from r1kit.models.chat_template import ChatTemplate, TrainingRow
from r1kit.models.template_lint import lint_row
from r1kit.stages.traces import example_of_row
from r1kit.training.batch import Batch, collate_tokens

NAMED = 3
"""Rows that are passed over are named, up to so many."""


@dataclass(frozen=True, slots=True)
class Example:
    """One SFT example, as tokens; nothing of the prompt trains."""

    prompt_token_ids: tuple[int, ...]
    completion_token_ids: tuple[int, ...]
    trainable: tuple[bool, ...] | None = None
    """Which completion tokens train, where a conversation goes on after the first answer; None: all."""

    @property
    def row(self) -> TrainingRow:
        """Prompt and completion in one, with what trains of them."""
        whole = TrainingRow.of(self.prompt_token_ids, self.completion_token_ids)
        if self.trainable is None:
            return whole
        return TrainingRow(whole.token_ids, (False,) * len(self.prompt_token_ids) + self.trainable)

    @property
    def num_tokens(self) -> int:
        """Of prompt and completion."""
        return len(self.prompt_token_ids) + len(self.completion_token_ids)

    @property
    def num_trained(self) -> int:
        """Tokens that train."""
        return len(self.completion_token_ids) if self.trainable is None else sum(self.trainable)

    @classmethod
    def of(cls, row: TrainingRow) -> "Example":
        """A row of tokens, its prompt being all before the first token that trains."""
        first = row.trainable.index(True)
        mask = row.trainable[first:]
        return cls(row.token_ids[:first], row.token_ids[first:], None if all(mask) else mask)


@dataclass(frozen=True, slots=True)
class ExampleFile:
    """What a file holds."""

    rows: list[list[Example]]
    """The examples of each row; a conversation may make several."""
    notes: list[str]
    """What to say of rows that were passed over."""

    @property
    def examples(self) -> list[Example]:
        """All examples, in order."""
        return [example for row in self.rows for example in row]


def read_examples(path: Path, template: ChatTemplate) -> list[Example]:
    """The examples of a file; raises DataError with the line of the first row that is bad (see `examples_of`)."""
    return read_example_file(path, template).examples


def read_example_file(
    path: Path,
    template: ChatTemplate,
    *,
    max_tokens: int | None = None,
    bad_rows: Literal["refuse", "skip"] = "refuse",
    limit: int = 0,
) -> ExampleFile:
    """The rows of a JSON Lines file as examples, the first `limit` good ones (0: all).

    A row that is no example, would train something else than it seems to, or has more than `max_tokens` tokens raises
    DataError with its line, or is passed over and counted.
    """
    rows: list[list[Example]] = []
    bad: list[str] = []
    for number, line in enumerate(_lines(path), 1):
        if limit and len(rows) == limit:
            break
        try:
            rows.append(_short_enough(examples_of(_object(line), template), max_tokens))
        except DataError as error:
            if bad_rows == "refuse":
                raise DataError(f"{path}:{number}: {error}") from None
            bad.append(f"{path}:{number}: {error}")
    if not rows:
        raise DataError(f"{path}: holds no examples{f'; the first row: {bad[0]}' if bad else ''}")
    more = [f"{len(bad):,} rows of {path} were passed over, {len(rows):,} are left"] if bad else []
    return ExampleFile(rows, [*more, *bad[:NAMED]])


def examples_of(row: object, template: ChatTemplate) -> list[Example]:
    """The examples of one row of data, each checked; a conversation makes several where its template asks for that.

    Of `messages` every turn of the assistant trains. Rows of all other forms (see `traces.example_of_row`) are a
    prompt, which does not train, and a completion.
    """
    rows = _training_rows(row, template)
    for made in rows:
        lint_row(template, made)
    return [Example.of(made) for made in rows]


def split_rows(rows: Sequence[Sequence[Example]], share: float, *, seed: int) -> tuple[list[Example], list[Example]]:
    """Examples to train on, and about that share of them to validate on.

    Rows that ask the same go to the same side, or the answer to a validation question would have been trained on.
    Raises DataError where one side would be empty.
    """
    by_prompt: dict[tuple[int, ...], list[Example]] = {}
    for row in rows:
        by_prompt.setdefault(row[0].prompt_token_ids, []).extend(row)
    prompts = list(by_prompt)
    random.Random(f"{seed}/validation").shuffle(prompts)
    held_out = max(1, round(share * len(prompts)))
    if held_out >= len(prompts):
        raise DataError(
            f"{len(prompts)} different prompts can't be split into training and validation; "
            "lower sft.validation_share, or name a file: validation_data"
        )
    chosen = set(prompts[:held_out])
    training = [example for prompt, found in by_prompt.items() if prompt not in chosen for example in found]
    return training, [example for prompt in prompts[:held_out] for example in by_prompt[prompt]]


def collate_examples(examples: Sequence[Example]) -> Batch:
    """The tensors of examples; only what trains of them is under the mask, whatever its token id is."""
    batch = collate_tokens([e.prompt_token_ids for e in examples], [e.completion_token_ids for e in examples])
    for row, example in enumerate(examples):
        if example.trainable is not None:
            first = len(example.prompt_token_ids)
            batch.completion_mask_BT[row, first : first + len(example.trainable)] = torch.tensor(example.trainable)
    return batch


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return lines if lines[-1] else lines[:-1]


def _object(line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise DataError("too deeply nested") from None


def _training_rows(row: object, template: ChatTemplate) -> list[TrainingRow]:
    if not isinstance(row, dict):
        raise DataError("not a JSON object with `messages`, or with `prompt` and `completion`")
    if "messages" in row:
        if not isinstance(row["messages"], list):
            raise DataError("`messages` must be a list")
        return template.training_rows(row["messages"])
    return [TrainingRow.of(*template.example_token_ids(*example_of_row(row)))]


def _short_enough(examples: list[Example], max_tokens: int | None) -> list[Example]:
    longest = max(example.num_tokens for example in examples)
    if max_tokens is not None and longest > max_tokens:
        raise DataError(f"{longest:,} tokens, above {max_tokens:,} (sft.max_tokens, or the model's positions)")
    return examples
