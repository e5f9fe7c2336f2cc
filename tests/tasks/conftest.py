"""What the tests of files share: JSON Lines files, and problems of them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from r1kit.config.tasks import JsonlTask
from r1kit.tasks.problem_sets import ProblemSet, load_problems


@pytest.fixture
def write_rows(tmp_path) -> Callable[..., Path]:
    """A function that writes rows (objects, or lines as they are) to a file, and returns its path."""

    def write(rows: list, name: str = "set.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def load_rows(write_rows) -> Callable[..., ProblemSet]:
    """A function from rows and settings to the set of problems, all to train on unless the settings say otherwise."""

    def load(rows: list, **settings: object) -> ProblemSet:
        split = {} if settings.keys() & {"use_for", "held_out", "held_out_path"} else {"use_for": "train"}
        return load_problems(JsonlTask(path=write_rows(rows), **split, **settings))

    return load


def numbered(number: int, **fields: object) -> list[dict]:
    """So many different rows with ids."""
    return [{"id": f"q{place}", "question": f"What is {place} + 1?", "answer": str(place + 1), **fields}
            for place in range(number)]  # fmt: skip


@pytest.fixture
def make_rows() -> Callable[..., list[dict]]:
    """`numbered` for tests."""
    return numbered
