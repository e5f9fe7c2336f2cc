"""Which rows of a file become problems, and how many do not and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from r1kit.config.tasks import FileTask
from r1kit.errors import DataError
from r1kit.tasks.jsonl import Table
from r1kit.tasks.rows import BadRow, Row, RowReader, normalised
from r1kit.types import Problem

SHOWN_BAD_ROWS = 3


@dataclass(slots=True)
class Sieve:
    """Lets problems through as a task's filters say, and counts why others are kept out."""

    task: FileTask
    denied_ids: frozenset[str]
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> rows."""
    num_conflicts: int = 0
    """Duplicates whose answer is another than that of the question that was kept."""
    _golds: dict[str, str] = field(default_factory=dict)
    """Each question that was let through, normalised, with its answer."""

    def lets_through(self, problem: Problem, row: Row, reader: RowReader) -> bool:
        """True where no filter objects; raise BadRow where the row lacks what a filter needs."""
        reason = self._objection(problem, row, reader)
        if reason:
            self.dropped[reason] += 1
        return not reason

    def _objection(self, problem: Problem, row: Row, reader: RowReader) -> str:
        task = reader.task
        if problem.id in self.denied_ids:
            return "named in drop_ids"
        for name in task.drop_if:
            if row.get(name):
                return f"with {name}"
        if task.filters_by_solve_rate:
            rate = reader.solve_rate(row)
            if rate is None or not task.min_solve_rate <= rate <= task.max_solve_rate:
                return "without a solve rate" if rate is None else "by solve rate"
        if task.max_prompt_chars and len(problem.prompt) > task.max_prompt_chars:
            return "too long"
        return self._repetition(problem) if task.deduplicate else ""

    def _repetition(self, problem: Problem) -> str:
        said = [message["content"] for message in problem.messages] or [problem.prompt]
        question = normalised("\n".join(said))
        if question not in self._golds:
            self._golds[question] = problem.gold
            return ""
        self.num_conflicts += normalised(self._golds[question]) != normalised(problem.gold)
        return "duplicates"


def take_problems(table: Table, reader: RowReader, sieve: Sieve) -> tuple[list[tuple[str, Problem]], list[str]]:
    """The problems that pass, each after what its split hangs on, and what is wrong with bad rows."""
    taken, places, bad = [], dict[str, str](), list(table.bad)
    for place, row in table.rows:
        try:
            problem = reader.problem(row)
            if not sieve.lets_through(problem, row, reader):
                continue
            if problem.id in places:
                raise BadRow(f"id {problem.id!r} stands in {places[problem.id]} too, with another question")
            content = reader.content(row, problem)
        except BadRow as error:
            bad.append(f"{place}: {error}")
            continue
        places[problem.id] = place
        taken.append((content, problem))
    limit = reader.task.limit or len(taken)
    sieve.dropped["over the limit"] += len(taken[limit:])
    return taken[:limit], bad


def refuse_bad_rows(table: Table, bad: list[str], total: int) -> None:
    """Raise DataError that lists the first of them."""
    more = f" and {len(bad) - SHOWN_BAD_ROWS:,} more" if len(bad) > SHOWN_BAD_ROWS else ""
    raise DataError(
        f"{table.where}: {len(bad):,} of {total:,} rows can't be used: {'; '.join(bad[:SHOWN_BAD_ROWS])}{more}. "
        'Mend them, or pass over them with bad_rows = "skip"'
    )


def read_denied_ids(path: Path | None) -> frozenset[str]:
    """The ids of a text file, one a line; raise DataError where it can't be read."""
    if path is None:
        return frozenset()
    try:
        lines = path.expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of ids: {error}") from None
    return frozenset(line.strip() for line in lines if line.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReport:
    """What became of the rows of one task."""

    where: str
    num_rows: int
    num_train: int
    num_held_out: int
    dropped: Mapping[str, int]
    """Reason -> rows, only where there are any."""
    num_conflicts: int
    bad: tuple[str, ...]
    """Rows that were passed over since they can't be used, with the reason."""

    def __str__(self) -> str:
        """One line."""
        reasons = [f"{count:,} {reason}" for reason, count in self.dropped.items()]
        if self.num_conflicts:
            reasons.append(f"{self.num_conflicts:,} of the duplicates had another answer than the one kept")
        if self.bad:
            reasons.append(f"{len(self.bad):,} bad rows (the first: {self.bad[0]})")
        left_out = f"; left out: {', '.join(reasons)}" if reasons else ""
        return (
            f"{self.where}: {self.num_rows:,} rows, {self.num_train:,} to train on, "
            f"{self.num_held_out:,} held out{left_out}"
        )
