"""held_out.jsonl: the same problems at every test, and the same file whether or not the run was stopped on the way."""

import json
import signal

import pytest

from r1kit.errors import Interrupted
from r1kit.stages import grpo


def rows_of(folder):
    return [json.loads(line) for line in (folder / "held_out.jsonl").open(encoding="utf-8")]


def test_each_test_keeps_the_same_problems(tiny, run_to_the_end, tmp_path):
    folder = run_to_the_end(tiny(rollouts={"num_iterations": 3}), tmp_path / "run")
    asked: dict[int, list[str]] = {}
    for row in rows_of(folder):
        asked.setdefault(row["iteration"], []).append(row["problem_id"])
    assert sorted(asked) == [0, 2, 3]  # before, on the way, after
    assert asked[0] == asked[2] == asked[3] and len(set(asked[0])) == 8


def test_a_stopped_run_ends_with_the_same_file(tiny, run_to_the_end, tmp_path, monkeypatch):
    recipe, original, calls = tiny(rollouts={"num_iterations": 5}), grpo.update, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return original(*args)

    with monkeypatch.context() as patched:
        patched.setattr(grpo, "update", interrupted)
        with pytest.raises(Interrupted):
            run_to_the_end(recipe, tmp_path / "run")
    run_to_the_end(recipe, tmp_path / "run", resume=True)
    alone = run_to_the_end(recipe, tmp_path / "alone")
    assert rows_of(tmp_path / "run") == rows_of(alone)
