"""What a run has left behind, read as far as it can be read: a run that goes on, was killed or never began included."""

import fcntl
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from r1kit.errors import RunError

MAX_ROLLOUTS = 25_000
MAX_TEXT_BYTES = 24_000_000
"""Of the rollouts in a report: deflated and in base64, they and all else stay below 15 MB."""


class Status(StrEnum):
    """How far a run is."""

    COMPLETE = "complete"
    GOING = "still going"
    STOPPED = "stopped"
    EMPTY = "nothing logged yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run's folder, as it is now."""

    name: str
    folder: Path
    status: Status
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The resolved recipe as plain values; empty where it could not be read."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Versions, git commit, machine."""
    metrics: Sequence[Mapping[str, Any]] = ()
    rollouts: Sequence[Mapping[str, Any]] = ()
    """Training completions, and those of tests (these have `test`), as many as are kept for the page."""
    num_rollouts: int = 0
    """As many as the files hold."""
    demo: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the demo's parts by name, where the run is part of one."""
    faults: Sequence[str] = ()
    """What could not be read, in sentences."""

    @property
    def kind(self) -> str:
        """What was trained: zero, sft, pretrain, …"""
        return str(self.recipe.get("kind", "run"))


def read_records(paths: Sequence[Path]) -> list[RunRecord]:
    """The runs in these folders: runs, demos, or folders of stages, each stage a run of its own.

    Raises RunError for a folder that holds none.
    """
    found = [place for path in paths for place in _places(path)]
    names = _names([shown for _, shown in found])
    share = max(1, len(found))
    return [
        read_record(folder, name=name, max_rollouts=MAX_ROLLOUTS // share, max_bytes=MAX_TEXT_BYTES // share)
        for (folder, _), name in zip(found, names, strict=True)
    ]


def _places(path: Path) -> list[tuple[Path, Path]]:
    """The runs at a path: (folder of the run, folder that names it)."""
    if not path.is_dir():
        raise RunError(f"{path}: no such folder; name a run's folder, as in: r1 report runs/zero")
    if (path / "recipe.json").is_file() or (path / "metrics.jsonl").is_file():
        return [(path, path)]
    if (path / "demo.json").is_file():
        return [(path / "zero", path)]
    stages = sorted(inner for inner in path.iterdir() if (inner / "recipe.json").is_file())
    if (path / "pipeline.json").is_file():  # stages lie in folders of stages, and some write no metrics
        found = (metrics.parent for metrics in path.glob("**/metrics.jsonl"))
        stages = sorted(inner for inner in found if inner.relative_to(path).parts[0] != "replaced")
    if not stages:
        raise RunError(f"{path} holds no run: no recipe.json, metrics.jsonl or demo.json in it, nor in its folders")
    return [(stage, stage) for stage in stages]


def _names(folders: Sequence[Path]) -> list[str]:
    """Short names that differ: as many of the last parts of each path as that takes."""
    paths = [folder.absolute() for folder in folders]
    for depth in range(1, 4):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def read_record(folder: Path, *, name: str, max_rollouts: int, max_bytes: int) -> RunRecord:
    """Everything a report needs of one run."""
    faults: list[str] = []
    described = _read_object(folder / "recipe.json", faults)
    metrics = [row for row in read_lines(folder / "metrics.jsonl", faults) if _is_whole(row)]
    rollouts, num_rollouts = read_rollouts(folder, faults, max_rollouts=max_rollouts, max_bytes=max_bytes)
    demo = _read_object(folder.parent / "demo.json", faults) if folder.name == "zero" else {}
    parts = demo.get("parts", {})
    recipe = described.get("recipe") or demo.get("recipe") or {}
    return RunRecord(
        name=name,
        folder=folder,
        status=_status(folder, has_rows=bool(metrics)),
        recipe=recipe if isinstance(recipe, dict) else {},
        origin={key: value for key, value in described.items() if key != "recipe"},
        metrics=metrics,
        rollouts=rollouts,
        num_rollouts=num_rollouts,
        demo={key: part.get("figures", {}) for key, part in parts.items() if isinstance(part, dict)},
        faults=faults,
    )


def read_lines(path: Path, faults: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file; lines that are none are passed over, and reported in `faults`."""
    if not path.is_file():
        return
    bad: list[int] = []
    number, is_ended = 0, True
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            is_ended = line.endswith(b"\n")
            row = _parsed(line)
            if row is None:
                bad.append(number)
            else:
                yield row
    if bad:
        last = " (the last one: it was being written)" if bad == [number] and not is_ended else ""
        shown = ", ".join(map(str, bad[:3])) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        faults.append(f"{path.name}: line {shown} cannot be read and was passed over{last}")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _is_whole(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("iteration"), int)


def _is_rollout(row: Mapping[str, Any]) -> bool:
    return _is_whole(row) and all(isinstance(row.get(name), str) for name in ("completion", "prompt"))


def _read_object(path: Path, faults: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = _parsed(path.read_bytes())
    if found is None:
        faults.append(f"{path.name} cannot be read")
    return found or {}


def read_rollouts(
    folder: Path, faults: list[str], *, max_rollouts: int, max_bytes: int
) -> tuple[list[dict[str, Any]], int]:
    """Rollouts of training and tests, and how many there are.

    Where there are more than the limits allow, whole groups are kept, spread evenly, and tests before training.
    """
    kept: list[dict[str, Any]] = []
    total, bytes_left = 0, max_bytes
    for name in ("held_out.jsonl", "rollouts.jsonl"):
        path = folder / name
        size = max(1, path.stat().st_size) if path.is_file() else 1
        # Thinned while it is read, a file of any size fits into memory.
        thinned = min(1.0, 4 * bytes_left / size)
        rows = []
        for row in read_lines(path, faults):
            if _is_rollout(row):
                total += 1
                if thinned == 1 or _lot(row) < thinned:
                    rows.append(row)
        room = (max_rollouts - len(kept)) // (2 if name == "held_out.jsonl" else 1)
        share = thinned * min(1.0, room / max(1, len(rows)), bytes_left / (size * thinned))
        chosen = rows if share == 1 else [row for row in rows if _lot(row) < share]
        kept += chosen
        bytes_left -= int(size * min(1.0, share))
    return kept, total


def _lot(row: Mapping[str, Any]) -> float:
    """A number in [0, 1) that the rows of one group share; for tests, those of one problem over the whole run."""
    when = "" if "test" in row else row["iteration"]
    return zlib.crc32(f"{when}/{row.get('problem_id', row.get('prompt'))}".encode()) / 2**32


def _status(folder: Path, *, has_rows: bool) -> Status:
    if (folder / "final").is_dir():
        return Status.COMPLETE
    if _is_locked(folder / ".lock"):
        return Status.GOING
    return Status.STOPPED if has_rows else Status.EMPTY


def _is_locked(lock: Path) -> bool:
    """True while another process trains in the folder."""
    if not lock.is_file():
        return False
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
