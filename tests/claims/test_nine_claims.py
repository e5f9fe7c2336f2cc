"""All nine claims with real stages, as small as they go: killed on the way, and all judged in the end."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

NANO = Path(__file__).parents[2] / "recipes" / "nano"
SMALL = f"""
run = {{ num_threads = 1, audit = "off", checkpoint_interval_iterations = 1 }}
rl = {{ sampling.max_new_tokens = 32, rollouts.problems_per_iteration = 2, rollouts.group_size = 4 }}
fine_tuning.sft = {{ num_epochs = 1, examples_per_step = 8 }}
zero.rollouts.num_iterations = 2
cold_start.traces = {{ num_problems = 48, sampling.max_new_tokens = 64 }}
reasoning_rl.rollouts.num_iterations = 2
general = {{ num_examples = 40, num_pairs = 60, num_safety = 60 }}
sft.traces = {{ num_problems = 48, sampling.max_new_tokens = 64 }}
all_scenarios_rl.rl = {{ rollouts.num_iterations = 2, preference = {{ from_step = 1, num_test_problems = 4 }} }}
distill.rl.rollouts.num_iterations = 60
evaluation.sampling.max_new_tokens = 48
"""
TRACES = {"num_problems": 64, "sampling.max_new_tokens": 64, "filters.min_language_share": 0.0}
OVERRIDES = [
    "seeds=[3]",
    *(f"pipeline.{line.replace(' = ', '=', 1)}" for line in SMALL.strip().splitlines()),
    *(f"pipeline.distill.traces.{name}={value}" for name, value in TRACES.items()),
    "pipeline.rl.evaluation.interval_iterations=1",
    "pipeline.rl.evaluation.num_problems=4",
    *(f"sizes.{name}={size}" for name, size in {"num_problems": 12, "samples_per_problem": 2, "votes": 4}.items()),
    *(f"sizes.{name}={size}" for name, size in {"num_general": 12, "num_harder": 6, "num_ladder": 36}.items()),
    "language.rl.rollouts.num_iterations=2",
    "ablation.rl.rollouts.num_iterations=2",
    "hacking.general.num_pairs=60",
    "hacking.rl.rollouts.num_iterations=4",
    "hacking.rl.evaluation.interval_iterations=1",
    "hacking.rl.preference.num_test_problems=4",
]


@pytest.mark.slow
def test_nine_claims_killed_and_resumed_are_all_judged(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "r1kit.cli", "train", str(NANO / "claims.toml"), *OVERRIDES, "--run", str(folder)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while first.poll() is None and not (folder / "seed-3" / "claims" / "a.json").is_file():
        time.sleep(0.05)
    first.kill()
    assert first.wait() == -9
    judged = (folder / "seed-3" / "claims" / "a.json").read_bytes()

    second = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr[-2000:] + second.stdout[-2000:]
    assert (folder / "seed-3" / "claims" / "a.json").read_bytes() == judged
    claims = json.loads((folder / "results.json").read_text())["claims"]
    assert list(claims) == list("abcdefghi")
    for name, found in claims.items():
        assert f"## {name}. " in (folder / "results.md").read_text()
        assert all(math.isfinite(value) for value in found["mean"].values()), name
        assert found["num_seeds"] == 1
    students = claims["e"]["mean"]
    assert students["llama_rl_tokens"] >= students["llama_distilled_tokens"] > 0 and students["teacher_tokens"] > 0
