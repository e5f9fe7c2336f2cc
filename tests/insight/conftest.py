"""Synthetic runs: healthy rows of metrics to change, and folders that hold them; and a browser, where there is one."""

import json
import random
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
HEALTHY = {
    "dead_group_share": 0.2,
    "truncated_share": 0.02,
    "mean_completion_tokens": 50.0,
    "mean_right_tokens": 45.0,
    "mean_wrong_tokens": 55.0,
    "mixed_language_share": 0.05,
    "reflections_per_completion": 1.5,
    "entropy": 0.5,
    "kl": 0.01,
    "clip_share": 0.01,
    "logprob_gap": 1e-6,
    "grad_norm": 0.3,
    "loss": 0.0,
}


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., list[dict[str, Any]]]:
    """A function to rows of a run that learns from 30 to 60 %, and stays there; each figure may be a function of i."""

    def make(num: int = 48, **changed: Any) -> list[dict[str, Any]]:
        rng = random.Random(0)
        rows = []
        for i in range(num):
            right = 0.3 + 0.3 * min(1.0, 2 * i / num)
            given = {name: value(i) if callable(value) else value for name, value in changed.items()}
            right = given.get("pass_at_1", right)
            row = {"iteration": i, "step": i + 1, "pass_at_1": right, "pass_at_1_stderr": 0.02, **HEALTHY}
            # Without any scatter, every difference would be beyond the noise.
            row |= {name: value * rng.uniform(0.97, 1.03) for name, value in HEALTHY.items()}
            row |= {"reward": right, "reward_parts": {"accuracy": right, "format": 0.9 * rng.uniform(0.97, 1.03)}}
            row |= {"advantage_shares": {"accuracy": 1.0, "format": 0.0}}
            rows.append(row | given)
        return rows

    return make


@pytest.fixture(scope="session")
def a_test() -> Callable[..., dict[str, Any]]:
    """A function to the figures of one held-out test."""

    def make(right: float, **changed: Any) -> dict[str, Any]:
        figures = {"pass_at_1": right, "pass_at_1_stderr": 0.02, "n": 256, "k": 1, "temperature": 1.0}
        return figures | {"max_new_tokens": 96, "truncated_share": 0.0, "mean_completion_tokens": 50.0} | changed

    return make


@pytest.fixture(scope="session")
def a_rollout() -> Callable[..., dict[str, Any]]:
    """A function to one row of rollouts.jsonl."""

    def make(iteration: int = 0, **changed: Any) -> dict[str, Any]:
        row = {"iteration": iteration, "problem_id": "sums/1+1", "task": "sums 1", "prompt": "Sum 1+1", "gold": "2"}
        row |= {"language": "en", "completion": "<think>wait, check</think><answer>2</answer>", "finish_reason": "stop"}
        row |= {"num_tokens": 9, "verdict": "right", "reward": 1.0, "parts": {"accuracy": 1.0, "format": 1.0}}
        return row | {"advantage": 0.5} | changed

    return make


@pytest.fixture
def a_run(tmp_path: Path) -> Callable[..., Path]:
    """A function from rows to a folder that holds them; rows that are text are written as they are."""

    def lines(rows: list[Any]) -> str:
        return "".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def make(
        name: str = "run",
        *,
        metrics: list[Any] | None = None,
        rollouts: list[Any] | None = None,
        held_out: list[Any] | None = None,
        recipe: dict[str, Any] | None = None,
        is_complete: bool = True,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        recipe = {"kind": "zero", "tasks": [{"kind": "sums"}], "seed": 0} | (recipe or {})
        (folder / "recipe.json").write_text(json.dumps({"recipe": recipe, "versions": {"r1kit": "0"}}), "utf-8")
        files = {"metrics": metrics, "rollouts": rollouts, "held_out": held_out}
        for file, rows in files.items():
            if rows is not None:
                (folder / f"{file}.jsonl").write_text(lines(rows), "utf-8", newline="")
        if is_complete:
            (folder / "final").mkdir()
        return folder

    return make


@pytest.fixture(scope="session")
def nano_demo() -> list[dict[str, Any]]:
    """The metrics of `r1 demo` with seed 0, as they were, rounded."""
    return [json.loads(line) for line in (HERE / "nano_demo_metrics.jsonl").open(encoding="utf-8")]


@pytest.fixture
def browser() -> Iterator[Any]:
    """A page of Chromium without a window; the test is skipped where there is no such program."""
    driver = runpy.run_path(str(HERE / "chromium.py"))
    if driver["PROGRAM"] is None:
        pytest.skip("no chromium on this machine")
    with driver["chromium"]() as page:
        yield page
