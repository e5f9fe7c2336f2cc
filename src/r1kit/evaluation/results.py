"""Results on disk, and two of them side by side."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from r1kit.errors import DataError, RunError
from r1kit.evaluation.comparison import compare
from r1kit.run import plain
from r1kit.types import Verdict


def results_file(name: str) -> Path | None:
    """The samples.jsonl that a name means, a file or a folder of results; None where it is neither."""
    path = Path(name).expanduser()
    if path.suffix == ".jsonl" and path.is_file():
        return path
    return path / "samples.jsonl" if (path / "samples.jsonl").is_file() else None


def shares_of(path: Path) -> dict[str, dict[str, float]]:
    """For each task of a samples.jsonl, each problem's share of right completions among those with a verdict.

    A problem is named by its id and its gold, so that problems which only share an id are never paired.
    """
    counts: dict[str, dict[str, list[int]]] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                verdict, task, key = Verdict(row["verdict"]), row["task"], json.dumps([row["id"], row["gold"]])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}, line {number}: not a row of results: {error}") from error
            count = counts.setdefault(task, {}).setdefault(key, [0, 0])
            count[0] += verdict is Verdict.RIGHT
            count[1] += verdict is not Verdict.UNKNOWN
    return {
        task: {key: right / known for key, (right, known) in found.items() if known} for task, found in counts.items()
    }


def compare_files(this: Path, other: Path) -> dict[str, dict[str, Any]]:
    """The paired comparison of each task that two files of results share; raise DataError where they share none."""
    ours, theirs = shares_of(this), shares_of(other)
    shared = [task for task in ours if ours[task].keys() & theirs.get(task, {}).keys()]
    if not shared:
        raise DataError(
            f"{other}: no problem of it is in {this}; it has the tasks {', '.join(theirs) or 'none'}, "
            f"this has {', '.join(ours)}"
        )
    return {task: asdict(compare(ours[task], theirs[task])) for task in shared}


def refuse_missing_folder(destination: str | None) -> None:
    """Raise RunError where figures could not be written, before hours are spent on them."""
    if destination not in (None, "-") and not Path(destination).absolute().parent.is_dir():
        raise RunError(f"--json {destination}: there is no folder {Path(destination).parent}")


def write_figures(figures: Mapping[str, Any], destination: str | None) -> None:
    """One JSON object in a file, or on standard output for `-`."""
    if destination == "-":
        print(json.dumps(plain(figures), ensure_ascii=False))
    elif destination:
        Path(destination).write_text(json.dumps(plain(figures), indent=2, ensure_ascii=False) + "\n", "utf-8")
