"""What a person sees while a run goes on: a live panel on a terminal, one line an iteration elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from r1kit.insight.doctor.course import Course
from r1kit.insight.doctor.preference import hacked
from r1kit.insight.verdict import MEANINGS, verdict
from r1kit.run import Run

VERDICT_INTERVAL_ITERATIONS = 10


def unknown_notes(row: Mapping[str, Any]) -> list[str]:
    """One line a problem whose completions could not be judged, for the first of them."""
    return [
        f"      {named['completions']} completions of problem {named['problem']!r} could not be judged by "
        f"{named['verifier']!r}: {named['reason']}"
        for named in row.get("unknown_named") or ()
    ]


class TrainingConsole:
    """Shows each row of metrics as it is logged, and writes the same line to the run's log.txt."""

    def __init__(self, run: Run, *, num_iterations: int, max_new_tokens: int, explain: bool, console: Console) -> None:
        """`explain` adds a line of meaning to each figure."""
        self._run, self._console = run, console
        self._num_iterations, self._max_new_tokens, self._explain = num_iterations, max_new_tokens, explain
        self._rows: list[Mapping[str, Any]] = [*run.read("metrics.jsonl")]
        self._started = time.perf_counter()
        self._done_before = self._trained()
        self._progress = Progress(
            TextColumn("iteration"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
        )
        self._task = self._progress.add_task("", total=num_iterations, completed=self._done_before, eta="")
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "TrainingConsole":
        """Take the screen, where there is one."""
        if self._live:
            self._live.start()
            self._live.update(self._panel(), refresh=True)
        elif self._explain:
            for name, meaning in MEANINGS.items():
                self._console.print(f"{name}: {meaning}", highlight=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the screen back."""
        if self._live:
            self._live.stop()

    def report(self, row: Mapping[str, Any]) -> None:
        """Show one row of metrics."""
        self._rows.append(row)
        line = self._line(row)
        self._run.log_text(line)
        if "general" in row:
            self._warn_of_hacking()
        for note in unknown_notes(row):
            self._run.log_text(note)
            self._console.print(note, style="yellow", highlight=False, soft_wrap=True)
        if self._live:
            self._live.update(self._panel(), refresh=True)
            return
        self._console.print(line, highlight=False, soft_wrap=True)
        if "reward" in row and self._trained() % VERDICT_INTERVAL_ITERATIONS == 0:
            self._console.print(self.verdict, highlight=False)

    def _warn_of_hacking(self) -> None:
        """Say so, at once, where reward models are pleased and the truth is not."""
        found = hacked(Course(self._rows, self._run.recipe()))
        if found is not None:
            warning = f"warning: {found.line}"
            self._run.log_text(warning)
            self._console.print(warning, style="bold red", highlight=False, soft_wrap=True)

    @property
    def verdict(self) -> str:
        """The verdict on all rows so far."""
        return verdict(self._rows, settings={"sampling": {"max_new_tokens": self._max_new_tokens}})

    def _trained(self) -> int:
        """Iterations so far; the last row of a run is a test alone."""
        return sum("reward" in row for row in self._rows)

    def _eta(self) -> str:
        done = self._trained() - self._done_before
        left = (time.perf_counter() - self._started) / max(1, done) * (self._num_iterations - self._trained())
        return f"about {max(0, left):.0f} s left"

    def _line(self, row: Mapping[str, Any]) -> str:
        tests = "".join(
            f"  {label} {row[name]['pass_at_1']:.1%} ±{row[name]['pass_at_1_stderr']:.1%}"
            for name, label in (("held_out", "held-out"), ("harder", "harder"))
            if name in row
        )
        if "reward" not in row:
            return f"end        {tests}"
        watched = "".join(
            f"  {label} {row[name]:{form}}"
            for name, label, form in (("entropy", "entropy", ".2f"), ("kl", "kl", ".4f"), ("logprob_gap", "gap", ".0e"))
            if row.get(name) is not None
        )
        if row.get("groups_missing"):
            watched += f"  {row['groups_missing']} live groups short after {row['num_rounds']} rounds"
        if row.get("unknown_share"):
            watched += f"  unknown {row['unknown_share']:.0%}"
        return (
            f"{int(row['iteration']) + 1:>4}/{self._num_iterations}  reward {row['reward']:.3f}"
            f"  pass@1 {row['pass_at_1']:.1%}  length {row['mean_completion_tokens']:.0f}"
            f"  cut {row['truncated_share']:.0%}  dead {row['dead_group_share']:.0%}{watched}"
            f"  {row['sampling_seconds']:.1f}+{row['training_seconds']:.1f} s  {row['tokens_per_second']:.0f} tok/s"
            f"{tests}  {self._eta()}"
        )

    def _panel(self) -> RenderableType:
        latest: Mapping[str, Any] = next((row for row in reversed(self._rows) if "reward" in row), {})
        tested = next((row["held_out"] for row in reversed(self._rows) if "held_out" in row), None)
        table = Table(box=None, show_header=False, padding=(0, 2))
        figures = dict(latest) | ({"held_out": tested["pass_at_1"]} if tested else {})
        for name, meaning in MEANINGS.items():
            if figures.get(name) is not None:
                row = [name, f"{float(figures[name]):.4g}"]
                table.add_row(*row, *([meaning] if self._explain else []))
        phases = "  ".join(
            f"{name.removesuffix('_seconds')} {value:.1f} s"
            for name, value in latest.items()
            if name.endswith("_seconds")
        )
        self._progress.update(self._task, completed=self._trained(), eta=self._eta())
        return Group(self._progress, table, phases, Text(self.verdict, style="bold"))
