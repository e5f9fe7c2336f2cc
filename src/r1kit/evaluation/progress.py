"""How far a long command is: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from r1kit.engine.rollouts import Drawn

SECONDS_BETWEEN_LINES = 15.0


class ScreenLine:
    """A bar on the last line of a terminal while it is entered; elsewhere nothing."""

    def __init__(self, label: str, *, total: int, done: int, console: Console) -> None:
        """Of `total`, `done` are there already."""
        self._label, self._total, self._done, self._console = label, total, done, console
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)
        self._task = self._bar.add_task(label, total=total, completed=done, note="")

    def __enter__(self) -> Self:
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


class ProblemProgress(ScreenLine):
    """Problems done of all, tokens a second, and about how long it will take."""

    def __init__(self, label: str, *, total: int, done: int, console: Console) -> None:
        """Of `total` problems, `done` are there already."""
        super().__init__(label, total=total, done=done, console=console)
        self._done_before = done
        self._started = self._said = time.perf_counter()
        self.num_tokens = 0
        """Tokens of the completions that have been drawn since the start."""
        self._advanced = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._started

    def watch(self, running: int, finished: int) -> None:
        """The engine has advanced some completions by a token, and finished some of them."""
        self._advanced += running + finished
        self._show()

    def counted(self, drawn: Drawn) -> Drawn:
        """The completions of one more problem, their tokens counted."""
        self.num_tokens += sum(len(completion.token_ids) for completion in drawn.completions)
        return drawn

    def advance(self) -> None:
        """One more problem is on the disk."""
        self._done += 1
        self._show()

    def _show(self) -> None:
        now = time.perf_counter()
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._done, note=self._note())
        elif now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            self._console.print(
                f"{self._label}: {self._done:,} of {self._total:,} problems, {self._note()}", highlight=False
            )

    def _note(self) -> str:
        seconds = max(self.seconds, 1e-6)
        rate = f"{self._advanced / seconds:,.0f} tok/s"
        new = self._done - self._done_before
        return f"{rate}, about {seconds / new * (self._total - self._done):,.0f} s left" if new else rate
