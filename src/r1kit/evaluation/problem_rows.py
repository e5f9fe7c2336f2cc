"""Problems from JSON Lines files whose every row counts: none is drawn, split off or left out."""

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from r1kit.config.tasks import JsonlTask
from r1kit.errors import DataError
from r1kit.tasks.jsonl import FOREIGN, parse_row, read_jsonl
from r1kit.tasks.rows import NEED_NO_GOLD, USUAL_NAMES, BadRow, RowReader, verifier_for
from r1kit.types import Problem


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that hold something, with their numbers from 1, one at a time.

    Raises DataError where it can't be read, or is plainly something else than JSON Lines.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                    refuse_foreign(path, line)
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def refuse_foreign(path: Path, beginning: bytes) -> None:
    """Raise DataError for a file that begins as another format does."""
    for mark, complaint in FOREIGN.items():
        if beginning.lstrip().startswith(mark):
            raise DataError(f"{path} {complaint}")


def read_row(line: bytes) -> dict[str, Any]:
    """The object that a line is; raise DataError where it is none."""
    try:
        return parse_row(line)
    except ValueError as error:
        raise DataError(str(error)) from None


def row_reader(task: JsonlTask) -> RowReader:
    """What makes problems of the rows of a file, by the usual names of their fields."""
    return RowReader(task, USUAL_NAMES, task.path.stem)


def read_problems(task: JsonlTask, *, only: Mapping[str, str] | None = None) -> list[Problem]:
    """All problems of a file, or those of the rows with `only` these values.

    Raises DataError for the first row that is no problem, and where none is left.
    """
    reader, table, problems = row_reader(task), read_jsonl(task.path), []
    if table.bad:
        raise DataError(f"{task.path}, {table.bad[0]}")
    for place, row in table.rows:
        if any(row.get(name) != value for name, value in (only or {}).items()):
            continue
        try:
            problems.append(reader.problem(row))
        except BadRow as error:
            raise DataError(f"{task.path}, {place}: {error}") from None
    if not problems:
        raise DataError(f"{task.path}: holds no problem")
    return problems


def problem_to_sample(row: Mapping[str, Any], reader: RowReader) -> Problem:
    """The problem that a row is, its gold empty where it has none; raise DataError for a row that can't be asked."""
    named = row.get("verifier") or reader.task.verifier or verifier_for(row)
    has_gold = row.get("answer") not in (None, "") or named in NEED_NO_GOLD
    try:
        return reader.problem(row) if has_gold else replace(reader.problem({**row, "answer": "none"}), gold="")
    except BadRow as error:
        raise DataError(str(error)) from None


def is_judged(problem: Problem) -> bool:
    """True where there is something to judge an answer by."""
    return bool(problem.gold) or problem.verifier in NEED_NO_GOLD
