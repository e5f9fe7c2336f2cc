"""All nine claims with real stages, as small as they go: killed on the way, and all judged in the end."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

NANO = Path(__file__).parents[2] / "recipes" / "nano"
SMALL = """
seeds = [3]
pipeline.run.num_threads = 1
pipeline.run.audit = off
pipeline.run.checkpoint_interval_iterations = 1
pipeline.rl.sampling.max_new_tokens = 32
pipeline.rl.rollouts.problems_per_iteration = 2
pipeline.rl.rollouts.group_size = 4
pipeline.rl.evaluation.interval_iterations = 1
pipeline.rl.evaluation.num_problems = 4
pipeline.fine_tuning.sft.num_epochs = 1
pipeline.fine_tuning.sft.examples_per_step = 8
pipeline.zero.rollouts.num_iterations = 2
pipeline.cold_start.traces.num_problems = 48
pipeline.cold_start.traces.sampling.max_new_tokens = 64
pipeline.reasoning_rl.rollouts.num_iterations = 2
pipeline.general.num_examples = 40
pipeline.general.num_pairs = 60
pipeline.general.num_safety = 60
pipeline.sft.traces.num_problems = 48
pipeline.sft.traces.sampling.max_new_tokens = 64
pipeline.all_scenarios_rl.rl.rollouts.num_iterations = 2
pipeline.all_scenarios_rl.rl.preference.from_step = 1
pipeline.all_scenarios_rl.rl.preference.num_test_problems = 4
pipeline.distill.traces.num_problems = 64
pipeline.distill.traces.sampling.max_new_tokens = 64
pipeline.distill.traces.filters.min_language_share = 0.0
pipeline.distill.rl.rollouts.num_iterations = 60
pipeline.evaluation.sampling.max_new_tokens = 48
sizes.num_problems = 12
sizes.samples_per_problem = 2
sizes.num_general = 12
sizes.num_harder = 6
sizes.votes = 4
sizes.num_ladder = 36
language.rl.rollouts.num_iterations = 2
ablation.rl.rollouts.num_iterations = 2
hacking.general.num_pairs = 60
hacking.rl.rollouts.num_iterations = 4
hacking.rl.evaluation.interval_iterations = 1
hacking.rl.preference.num_test_problems = 4
"""
OVERRIDES = [line.replace(" = ", "=") for line in SMALL.strip().splitlines()]


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
