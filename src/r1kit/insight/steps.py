"""A bar for stages that count optimizer steps: on a terminal, how far they are and about how long it will take."""

import time

from rich.console import Console

from r1kit.evaluation.progress import ScreenLine


class StepProgress(ScreenLine):
    """The last line of a terminal; elsewhere nothing."""

    def __init__(self, label: str, *, total: int, done: int, console: Console) -> None:
        """Of `total` steps, `done` are there already."""
        super().__init__(label, total=total, done=done, console=console)
        self._new, self._started = 0, time.perf_counter()

    def advance(self, note: str) -> None:
        """One more step."""
        self._done, self._new = self._done + 1, self._new + 1
        left = (time.perf_counter() - self._started) / self._new * (self._total - self._done)
        self._bar.update(self._task, completed=self._done, note=f"{note}, about {left:,.0f} s left")
