"""Run jobs, each in a fork of its own that dies by SIGKILL, or whose disk fills up, at one point.

python die.py JOBS.json: a list of {"recipe": table, "folder": path, "point": name}; prints {folder: status} as JSON,
negative where a signal ended the fork. One process for all, because importing torch takes longer than a run.
"""

import errno
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.engine.native.engine import NativeEngine
from r1kit.errors import R1Error
from r1kit.pipeline import train
from r1kit.recipe import parse_recipe
from r1kit.run import Run
from r1kit.stages import grpo
from r1kit.training import checkpoint


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(owner: Any, name: str, call: int = 1, *, when: Callable[..., bool] = lambda *args: True, then=die) -> None:
    """Before the `call`-th call of a function for which `when` is true, do `then`."""
    original, calls = getattr(owner, name), itertools.count(1)

    def wrapped(*args, **options):
        if when(*args) and next(calls) == call:
            then()
        return original(*args, **options)

    setattr(owner, name, wrapped)


def tear_a_line() -> None:
    """The fourth row of metrics is half written when the process dies."""
    original, rows = Run._write, itertools.count(1)

    def torn(self, name, text):
        if name != "metrics.jsonl" or next(rows) < 4:
            return original(self, name, text)
        original(self, name, text[: len(text) // 2])
        return die()

    Run._write = torn


def remove_half_a_checkpoint() -> None:
    def half(path, *args, **options):
        if Path(path).name == "step-2":
            (Path(path) / "model.safetensors").unlink()
            die()
        return original(path, *args, **options)

    original, shutil.rmtree = shutil.rmtree, half


def fill_the_disk() -> None:
    """From the second checkpoint on, no file can grow beyond 100 kB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    at(grpo, "save_checkpoint", 2, then=limit)


def fill_the_disk_for_metrics() -> None:
    """From the fourth row of metrics on, no file can grow at all."""

    def fail(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    def full() -> None:
        Path.open = fail

    at(Run, "log_metrics", 4, then=full)


def is_named(name: str) -> Callable[..., bool]:
    return lambda path, *rest: Path(path).name == name


POINTS: dict[str, Callable[[], None]] = {
    "while the first iteration samples": lambda: at(NativeEngine, "step", 9),
    "while the fourth iteration samples": lambda: at(NativeEngine, "submit", 6),
    "before the fourth update": lambda: at(grpo, "update", 4),
    "before the sampler has the fifth weights": lambda: at(NativeEngine, "load_weights", 6),
    "in the middle of a row of metrics": tear_a_line,
    "between metrics and rollouts": lambda: at(Run, "log_rollouts", 2),
    "before the trainer's state is written": lambda: at(checkpoint, "save_file", 2),
    "before the checkpoint has its name": lambda: at(Path, "rename", when=is_named(".step-4.tmp")),
    "before `latest` names the checkpoint": lambda: at(checkpoint, "_write_text", 2),
    "before `latest` is replaced": lambda: at(Path, "replace", 2, when=is_named(".latest.tmp")),
    "while an old checkpoint is removed": remove_half_a_checkpoint,
    "before the last test": lambda: at(grpo, "held_out_figures", 4),
    "before `final` is written": lambda: at(grpo, "save_model", 1),
    "before `final` has its name": lambda: at(Path, "rename", when=is_named(".final.tmp")),
    "after the end": lambda: None,
    "the disk is full": fill_the_disk,
    "the disk is full for metrics": fill_the_disk_for_metrics,
}


def run_job(recipe: dict, folder: Path, point: str) -> int:
    """The exit status of one fork: what `r1` would return, or 99 where anything else was raised."""
    folder.mkdir(parents=True)
    os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT), 2)
    POINTS[point]()
    try:
        train(parse_recipe(recipe, source="job"), folder, resume=False, explain=False, console=Console(quiet=True))
    except R1Error as error:
        os.write(2, f"error: {error}\n".encode())
        return error.exit_status
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        return 99
    return 0


def main() -> None:
    statuses = {}
    for job in json.loads(Path(sys.argv[1]).read_text()):
        pid = os.fork()
        if pid == 0:
            os._exit(run_job(job["recipe"], Path(job["folder"]), job["point"]))
        statuses[job["folder"]] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
