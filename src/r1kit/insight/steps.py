"""A bar for stages that count optimizer steps: on a terminal, how far they are and about how long it will take."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class StepProgress:
    """The last line of a terminal; elsewhere nothing."""

    def __init__(self, label: str, *, total: int, done: int, console: Console) -> None:
        """Of `total` steps, `done` are there already."""
        self._console, self._total, self._done, self._new = console, total, done, 0
        self._started = time.perf_counter()
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Progress(TextColumn(label), *columns, console=console, transient=True)
        self._task = self._bar.add_task("", total=total, completed=done, note="")

    def __enter__(self) -> "StepProgress":
        """Take the line."""
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        if self._console.is_terminal:
            self._bar.stop()

    def advance(self, note: str) -> None:
        """One more step."""
        self._done, self._new = self._done + 1, self._new + 1
        left = (time.perf_counter() - self._started) / self._new * (self._total - self._done)
        self._bar.update(self._task, completed=self._done, note=f"{note}, about {left:,.0f} s left")
