"""A run's folder: what was asked for, what happened, and where it can go on. The only writer of its files.

recipe.json      the resolved recipe, with versions, git commit, seed and machine
metrics.jsonl    one object an iteration
rollouts.jsonl   prompts, completions and score parts, sampled
held_out.jsonl   the same of the held-out tests: some of their problems, the same ones each time
verdicts.jsonl   every verdict, as soon as it was given: see stages.verdicts
checkpoints/     see training.checkpoint
final/           the trained model
log.txt          what the console said
"""

import fcntl
import json
import math
import os
import platform
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO

from r1kit.errors import Interrupted, RunError
from r1kit.recipe import Recipe, dump_recipe

ROW_FILES = ("metrics.jsonl", "rollouts.jsonl", "held_out.jsonl")
VERSIONED = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


class Run:
    """One execution of a recipe, in a folder that nobody else writes to meanwhile."""

    def __init__(self, folder: Path, recipe: Recipe, *, resume: bool, changeable: Sequence[str] = ()) -> None:
        """Make the folder, or take it up again; settings that begin so may differ from those that it was made with.

        Raises RunError where it holds a run and `resume` is off, is in use, or belongs to another recipe.
        """
        self.folder = folder
        self.stop_requested = False
        made_by = folder / "recipe.json"
        if made_by.is_file() and not resume:
            raise RunError(f"{folder} already holds a run; go on with --resume, or name another folder with --run")
        if resume and not made_by.is_file():
            raise RunError(f"{folder} holds no run to resume (no recipe.json)")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(folder)
            if resume:
                self._refuse_other_recipe(recipe, ("run.", *changeable))
            if not resume or changeable:
                write_whole(made_by, json.dumps(described(recipe), indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise RunError(f"{folder}: cannot be written: {error.strerror}") from error

    def __enter__(self) -> "Run":
        """From here on, the first interrupt asks the loop to stop after its iteration; the second stops at once."""
        self._previous = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder and the interrupt back."""
        signal.signal(signal.SIGINT, self._previous)
        self._lock.close()

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.folder / "checkpoints"

    @property
    def final(self) -> Path:
        """Where the trained model lies when the run is done."""
        return self.folder / "final"

    def log_metrics(self, row: Mapping[str, object]) -> None:
        """Append one object to metrics.jsonl."""
        self._append("metrics.jsonl", [row])

    def log_rollouts(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append objects to rollouts.jsonl."""
        self._append("rollouts.jsonl", rows)

    def log_held_out(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append objects to held_out.jsonl."""
        self._append("held_out.jsonl", rows)

    def log_verdicts(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append objects to verdicts.jsonl, which is never cut back."""
        self._append("verdicts.jsonl", rows)

    def log_text(self, line: str) -> None:
        """Append one line to log.txt."""
        self._write("log.txt", line + "\n")

    def recipe(self) -> dict[str, object]:
        """The resolved recipe as plain values."""
        return json.loads((self.folder / "recipe.json").read_text("utf-8"))["recipe"]

    def read(self, name: str) -> list[dict]:
        """All whole rows of a JSON Lines file of this run."""
        path = self.folder / name
        return read_rows(path) if path.is_file() else []

    def cut_back(self, iterations_done: int) -> None:
        """Forget what the files of rows say of iterations after the checkpoint, and torn last lines."""
        for name in ROW_FILES:
            rows = [row for row in self.read(name) if row["iteration"] < iterations_done]
            with disk_errors(self.folder / name):
                write_whole(self.folder / name, "".join(map(_line, rows)))

    def sync(self) -> None:
        """Make sure that the rows written so far outlive a power cut: a checkpoint is about to rely on them."""
        for name in ROW_FILES:
            path = self.folder / name
            if path.is_file():
                with disk_errors(self.folder / name), path.open("rb") as file:
                    os.fsync(file.fileno())

    def _append(self, name: str, rows: Iterable[Mapping[str, object]]) -> None:
        self._write(name, "".join(map(_line, rows)))

    def _write(self, name: str, text: str) -> None:
        with disk_errors(self.folder / name), (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def _refuse_other_recipe(self, recipe: Recipe, changeable: tuple[str, ...]) -> None:
        try:
            before = json.loads((self.folder / "recipe.json").read_text("utf-8"))["recipe"]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.folder / 'recipe.json'} is damaged: {error}; start a new run") from error
        changed = [path for path in differences(before, dump_recipe(recipe)) if not f"{path}.".startswith(changeable)]
        if changed:
            raise RunError(
                f"{self.folder} was made by another recipe: it differs in {', '.join(changed[:3])}; "
                "resume with the same one, or start a new run"
            )

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested:
            raise Interrupted(
                f"stopped; all up to the last checkpoint is saved, go on with --run {self.folder} --resume"
            )
        self.stop_requested = True


def take_lock(folder: Path) -> IO[str]:
    """The folder's lock, held until the file is closed or the process dies; raise RunError where another has it."""
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(f"{folder} is in use by another r1 process") from None
    return lock


def new_folder(name: str) -> Path:
    """The first of runs/NAME, runs/NAME-2, … that does not exist."""
    candidates = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in range(1, 10_000))
    return next(path for path in candidates if not path.exists())


def described(recipe: Recipe) -> dict[str, object]:
    """The resolved recipe, with versions, git commit and machine."""
    return {
        "recipe": dump_recipe(recipe),
        "versions": {"r1kit": _version("r1kit"), "python": platform.python_version()}
        | {name: _version(name) for name in VERSIONED},
        "git_commit": _git_commit(),
        "machine": {"system": platform.platform(), "processor": _processor(), "num_cores": os.cpu_count()},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if (cpuinfo.is_file())
        else []
    )
    return names[0].strip() if names else platform.processor()


def read_rows(path: Path) -> list[dict]:
    """The rows of a JSON Lines file up to the first that is torn: it was being written when the run died."""
    rows = []
    # Not splitlines: it also splits at characters that JSON leaves as they are inside strings.
    for line in path.read_text("utf-8", errors="replace").split("\n")[:-1]:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def plain(value: object) -> object:
    """The value with what JSON can't say (nan, infinities) as None."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(row: Mapping[str, object]) -> str:
    return json.dumps(plain(row), ensure_ascii=False) + "\n"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say in one line what could not be written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}; make room, then go on with --resume") from error


def write_whole(path: Path, text: str) -> None:
    """Write a file so that whoever looks finds all of it or none."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def differences(left: object, right: object, path: str = "") -> list[str]:
    """The paths of all values in which two trees of plain values differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys: Sequence[str] = sorted(left.keys() | right.keys())
        return [
            found for key in keys for found in differences(left.get(key), right.get(key), f"{path}.{key}".strip("."))
        ]
    return [] if left == right else [path]
