"""What `r1 report` says on the console, and as JSON: the story, the verdict and the faults of each run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.errors import RunError

MEGABYTE = 1e6


def show_report(figures: Mapping[str, Any], page: Path, *, to_stderr: bool) -> None:
    """Print two lines a run, what could not be read of it, and where the page is."""
    console = Console(stderr=to_stderr, markup=False, highlight=False, soft_wrap=True)
    for run in figures["runs"]:
        console.print(f"{run['name']} ({run['status']}): {run['story']}")
        if run["verdict"]:
            console.print(f"  run doctor: {run['verdict']}")
        for fault in run["faults"]:
            console.print(f"  {fault}")
    console.print(f"report: {page} ({page.stat().st_size / MEGABYTE:.1f} MB)")


def write_json(figures: Mapping[str, Any], path: str | None) -> None:
    """Write the figures to a file, or to standard output for `-`; raises RunError where the file can't be written."""
    if path == "-":
        print(json.dumps(figures))
    elif path:
        try:
            Path(path).write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise RunError(f"--json {path}: cannot be written: {error.strerror}") from error
