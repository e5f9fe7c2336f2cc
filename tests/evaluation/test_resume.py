"""`r1 eval` and `r1 sample` killed or interrupted anywhere, and gone on with, end as if nothing had happened."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from r1kit.config.tasks import ChainsTask, PairsTask
from r1kit.tasks import sample_problems

POINTS = {
    "before the first token": -9,
    "in the second window": -9,
    "before a row is written": -9,
    "in the middle of rows": -9,
    "interrupted while drawing": 130,
    "interrupted before a row is written": 130,
}
SAMPLED = ("in the second window", "in the middle of rows", "interrupted before a row is written")
"""Points at which `r1 sample` is stopped too: it writes through the same journal."""
VARYING = ("seconds", "tokens_per_second", "peak_memory_bytes")
# Eight slots and three completions a problem: windows of ten problems.
DRAWN = ("--k", "3", "--batch-size", "8", "--max-new-tokens", "40", "--temperature", "1")


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(inner) for name, inner in value.items() if name not in VARYING}
    return value


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with every command run to its end, and killed at each point and gone on with; and all statuses."""
    folder = tmp_path_factory.mktemp("commands")
    write_problems(folder / "in.jsonl")
    jobs = []

    def add(name, point, say):
        evaluate = ["eval", "nano", "--task", "chains", "--task", "pairs:numbers=5", "--limit", "14", *DRAWN]
        evaluate += ["--out", str(folder / name / "eval"), "--json", str(folder / f"{name}.json")]
        draw = ["sample", "nano", str(folder / "in.jsonl"), str(folder / name / "out.jsonl"), *DRAWN]
        for words in (evaluate, draw) if name in ("whole", *SAMPLED) else (evaluate,):
            jobs.append({"words": words, "point": point, "said": str(folder / f"{name} {words[0]} {say}.out")})

    add("whole", "never", "once")
    for point in POINTS:
        add(point, point, "first")
        add(point, "never", "again")
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("commands.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder / "jobs.json")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    statuses = dict(zip([Path(job["said"]).stem for job in jobs], json.loads(done.stdout), strict=True))
    return folder, statuses


def write_problems(path):
    problems = sample_problems([ChainsTask(terms=4), PairsTask()], 24, seed="input", split="held_out")
    rows = [json.dumps({"question": p.prompt, "answer": p.gold, "id": p.id, "note": 3}) for p in problems]
    rows[1:1] = ["not json"]
    rows[12:12] = ['{"question": "", "answer": 3}']
    path.write_text("\n".join(rows) + "\n")


def test_the_commands_end_as_they_should(ran):
    _, statuses = ran
    for point, expected in POINTS.items():
        for command in ("eval", "sample") if point in SAMPLED else ("eval",):
            assert (statuses[f"{point} {command} first"], statuses[f"{point} {command} again"]) == (expected, 0)


@pytest.mark.parametrize("point", POINTS)
def test_a_stopped_evaluation_ends_in_the_same_samples_and_figures(ran, point):
    folder, _ = ran
    whole, resumed = folder / "whole" / "eval", folder / point / "eval"
    assert (resumed / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    figures = [json.loads(path.read_text()) for path in (whole / "results.json", resumed / "results.json")]
    assert without_times(figures[0]) == without_times(figures[1])
    assert figures[1] == json.loads((folder / f"{point}.json").read_text())
    assert 0 < figures[0]["pass_at_1"] < 1  # there is something to be wrong about


@pytest.mark.parametrize("point", SAMPLED)
def test_stopped_sampling_ends_in_the_same_file(ran, point):
    folder, _ = ran
    whole = (folder / "whole" / "out.jsonl").read_bytes()
    assert (folder / point / "out.jsonl").read_bytes() == whole
    assert len(whole.splitlines()) == 26


def test_who_interrupts_is_told_what_is_saved(ran):
    folder, _ = ran
    said = (folder / "interrupted while drawing eval first.err").read_text()
    assert "the same command goes on" in said and "Traceback" not in said
    said = (folder / "interrupted before a row is written sample first.err").read_text()
    assert "8 of 26 rows are in" in said and "Traceback" not in said
    assert "already" in (folder / "interrupted while drawing eval again.out").read_text()
