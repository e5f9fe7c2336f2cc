"""Finite sets of problems: files and data sets, read once, filtered, cut into training and held-out problems."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from r1kit.config.tasks import FileTask, JsonlTask
from r1kit.errors import DataError
from r1kit.tasks.families import Split
from r1kit.tasks.filters import SetReport, Sieve, read_denied_ids, refuse_bad_rows, take_problems
from r1kit.tasks.hub import read_hub
from r1kit.tasks.jsonl import Table, read_jsonl
from r1kit.tasks.rows import NEED_NO_GOLD, digest_of, explain_missing_answer, make_reader
from r1kit.types import Problem

# What chooses among training rows says nothing about a held-out file.
TRAINING_FILTERS = {"drop_if": (), "min_solve_rate": 0.0, "max_solve_rate": 1.0, "limit": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemSet:
    """All problems of one task, in the order of its rows."""

    train: tuple[Problem, ...]
    held_out: tuple[Problem, ...]
    report: SetReport

    def of(self, split: Split) -> tuple[Problem, ...]:
        """The problems of one split."""
        return self.held_out if split == "held_out" else self.train


@dataclass(frozen=True, slots=True)
class _Key:
    """What a set of problems depends on: its settings, and which state the files are in."""

    settings: str
    stamps: tuple[tuple[int, int], ...]
    task: FileTask = field(compare=False)


def load_problems(task: FileTask) -> ProblemSet:
    """The problems of a task; a file that has not changed is read once in a process.

    Raises DataError for files that can't be read, fields that are not there, and bad rows unless they are skipped.
    """
    paths = [task.path, task.held_out_path, task.drop_ids] if isinstance(task, JsonlTask) else [task.drop_ids]
    stamps = tuple(_stamp(path) for path in paths if path is not None)
    return _load(_Key(task.model_dump_json(exclude={"weight"}), stamps, task))


def _stamp(path: Path) -> tuple[int, int]:
    path = path.expanduser()
    if not path.exists():
        return (0, 0)
    status = path.stat()
    return (status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _load(key: _Key) -> ProblemSet:
    task = key.task
    sieve = Sieve(task, read_denied_ids(task.drop_ids))
    main, test = _tables(task)
    num_rows = sum(len(table.rows) + len(table.bad) for table in (main, test) if table)
    # The held-out file first: a training row that repeats one of its questions is the one to go.
    held_out, bad = _problems(test, task.model_copy(update=TRAINING_FILTERS), sieve) if test else ([], [])
    taken, bad_main = _problems(main, task, sieve)
    bad += bad_main
    if not taken:
        raise DataError(f"{main.where}: no row is left of {num_rows:,}; left out: {_reasons(sieve, bad)}")
    is_held_out = [test is None and _is_held_out(content, task) for content, _ in taken]
    train = tuple(problem for (_, problem), out in zip(taken, is_held_out, strict=True) if not out)
    held = tuple(problem for (_, problem), out in zip(taken, is_held_out, strict=True) if out)
    held += tuple(problem for _, problem in held_out)
    report = SetReport(
        where=main.where if test is None else f"{main.where} and {test.where}",
        num_rows=num_rows,
        num_train=len(train),
        num_held_out=len(held),
        dropped={reason: count for reason, count in sieve.dropped.items() if count},
        num_conflicts=sieve.num_conflicts,
        bad=tuple(bad),
    )
    return ProblemSet(train=train, held_out=held, report=report)


def _tables(task: FileTask) -> tuple[Table, Table | None]:
    if isinstance(task, JsonlTask):
        return read_jsonl(task.path), read_jsonl(task.held_out_path) if task.held_out_path else None
    return read_hub(task, task.split), read_hub(task, task.held_out_split) if task.held_out_split else None


def _problems(table: Table, task: FileTask, sieve: Sieve) -> tuple[list[tuple[str, Problem]], list[str]]:
    """What passes of one table; raise DataError for bad rows unless they are to be skipped."""
    total = len(table.rows) + len(table.bad)
    if not total:
        raise DataError(f"{table.where}: holds no rows")
    rows = [row for _, row in table.rows]
    if not rows:
        refuse_bad_rows(table, list(table.bad), total)
    reader = make_reader(task, rows, where=table.where, stem=table.stem)
    taken, bad = take_problems(table, reader, sieve)
    if bad and (task.verifier or "math") not in NEED_NO_GOLD:
        explain_missing_answer(reader, rows, where=table.where)
    if bad and task.bad_rows == "refuse":
        refuse_bad_rows(table, bad, total)
    return taken, bad


def _is_held_out(content: str, task: FileTask) -> bool:
    if task.use_for == "both":
        return digest_of(f"held out: {content}") < task.held_out * 2**64
    return task.use_for == "held_out"


def _reasons(sieve: Sieve, bad: list[str]) -> str:
    reasons = [f"{count:,} {reason}" for reason, count in sieve.dropped.items() if count]
    return ", ".join([*reasons, f"{len(bad):,} bad rows (the first: {bad[0]})"] if bad else reasons)
