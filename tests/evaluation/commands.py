"""Command lines, each in a fork of its own that is killed, interrupted, or left alone, at one point.

python commands.py JOBS.json: a list of {"words": [...], "point": name, "out": path}; prints the statuses as JSON,
negative where a signal ended the fork. One process for all, because importing torch takes longer than a command.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch

from r1kit.cli import main as r1
from r1kit.config.model import ModelSettings
from r1kit.engine.native.engine import NativeEngine
from r1kit.evaluation import sampling, session  # noqa: F401
from r1kit.evaluation.journal import Journal
from r1kit.models.loading import load_policy


def at_call(owner: Any, name: str, call: int, then: Callable[[], None]) -> None:
    """Before the `call`-th call of a function, do `then`."""
    original, calls = getattr(owner, name), count(1)

    def wrapped(*args, **options):
        if next(calls) == call:
            then()
        return original(*args, **options)

    setattr(owner, name, wrapped)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def tear_a_row() -> None:
    """The seventh rows to be appended reach the disk but for their last half, and then the process dies."""
    original, calls = Journal.append, count(1)

    def torn(self, rows):
        if next(calls) < 7:
            return original(self, rows)
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        os.write(self._file.fileno(), data[: len(data) // 2])
        return kill()

    Journal.append = torn


POINTS: dict[str, Callable[[], None]] = {
    "never": lambda: None,
    "before the first token": lambda: at_call(NativeEngine, "step", 1, kill),
    "in the second window": lambda: at_call(NativeEngine, "step", 60, kill),
    "before a row is written": lambda: at_call(Journal, "append", 6, kill),
    "in the middle of rows": tear_a_row,
    "interrupted while drawing": lambda: at_call(NativeEngine, "step", 60, interrupt),
    "interrupted before a row is written": lambda: at_call(Journal, "append", 9, interrupt),
}


def run_job(words: list[str], point: str, said: Path) -> int:
    """What `r1` exits with; its output and errors go to files beside `said`."""
    for number, ending in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(said.with_suffix(ending), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    torch.set_num_threads(1)
    POINTS[point]()
    sys.argv = ["r1", *words]
    try:
        r1()
    except SystemExit as stop:
        sys.stdout.flush()
        return int(stop.code or 0)
    return 0


def main() -> None:
    load_policy(ModelSettings(path="nano"))  # what it imports on the way, every fork then has
    statuses = []
    for job in json.loads(Path(sys.argv[1]).read_text()):
        pid = os.fork()
        if pid == 0:
            os._exit(run_job(job["words"], job["point"], Path(job["said"])))
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
