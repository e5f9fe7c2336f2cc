"""The field's methods as whole runs: each trains the shipped nano model, and resumes as if it had never been killed."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from r1kit.recipe import dump_recipe, parse_recipe
from r1kit.training.checkpoint import latest_checkpoint

DIE = Path(__file__).with_name("die.py")
METHODS: dict[str, dict] = {
    "DAPO": {
        "objective": {"kind": "grpo", "clip_eps": 0.2, "clip_eps_high": 0.28},
        "token_weights": {"kind": "token_mean"},
        "rewards": {"accuracy": 2.0, "overlong": 1.0},
        "rollouts": {"max_rounds": 4, "oversampling": 1.5, "variance_of": "verdict", "mask_truncated": True},
    },
    "Dr. GRPO": {
        "advantage": {"kind": "group_mean"},
        "token_weights": {"kind": "constant_length"},
        "rewards": {"zero_truncated": True},
    },
    "GSPO": {"objective": {"kind": "gspo"}, "rollouts": {"steps_per_iteration": 4}},
    "CISPO": {
        "objective": {"kind": "cispo"},
        "token_weights": {"kind": "token_mean"},
        "rollouts": {"steps_per_iteration": 2, "max_rounds": 3},
    },
    "RLOO": {
        "advantage": {"kind": "rloo"},
        "objective": {"kind": "reinforce", "kl_coef": 0.05, "kl_estimator": "k1", "kl_place": "reward"},
    },
    "REINFORCE++": {
        "advantage": {"kind": "reinforce_plus_plus"},
        "objective": {"kl_coef": 0.05, "kl_estimator": "k1", "kl_place": "reward"},
        "rollouts": {"steps_per_iteration": 2},
    },
    "REINFORCE++-baseline": {
        "advantage": {"kind": "reinforce_plus_plus_baseline"},
        "objective": {"kl_coef": 0.01, "kl_estimator": "k2"},
    },
    "DeepSeek-V3.2": {
        "objective": {"kl_coef": 0.01, "kl_estimator": "k3_corrected", "off_policy_delta": 0.5},
        "rollouts": {"steps_per_iteration": 2},
    },
    "GMPO": {"objective": {"kind": "gmpo"}, "rollouts": {"steps_per_iteration": 2}},
    "SAPO, masked importance": {
        "objective": {"kind": "sapo", "entropy_coef": 0.001},
        "correction": {"kind": "masked"},
        "rollouts": {"steps_per_iteration": 2},
    },
    "R1 as printed": {
        "objective": {"kind": "grpo", "ratio": "sequence", "clip_eps": 10, "kl_coef": 0.001},
        "rollouts": {"steps_per_iteration": 2},
        "correction": {"kind": "truncated", "level": "sequence"},
    },
}


def nano(**sections):
    """Two iterations on easy problems: some are solved, some are not."""
    table = {
        "kind": "zero",
        "tasks": [{"kind": "chains", "terms": 3}, {"kind": "pairs", "numbers": 4}],
        "sampling": {"max_new_tokens": 64},
        "rollouts": {"num_iterations": 2, "problems_per_iteration": 4, "group_size": 4},
        "evaluation": {"num_problems": 4, "interval_iterations": 0},
        "run": {"num_threads": 1, "rollouts_interval_iterations": 1},
    }
    return parse_recipe(table | {n: table.get(n, {}) | section for n, section in sections.items()}, source="nano")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_the_nano_model(name, run_to_the_end, tmp_path):
    recipe = nano(**METHODS[name])
    folder = run_to_the_end(recipe, tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()][:2]
    kept = [json.loads(line) for line in (folder / "rollouts.jsonl").open()]
    for row in rows:
        drawn = [found for found in kept if found["iteration"] == row["iteration"]]
        assert len(drawn) == 4 * row["problems_drawn"]
        assert sum(found["trained"] for found in drawn) == 4 * row["groups_trained"]
        assert row["problems_drawn"] == row["groups_trained"] + row["surplus_groups"] + sum(
            row[f"dropped_{what}"] for what in ("all_right", "all_wrong", "other")
        )
        assert math.isfinite(row["loss"]) and 0 < row["grad_norm"] < 1e3
        assert 1 <= row["num_updates"] <= recipe.rollouts.steps_per_iteration
        assert ("kl" in row) is (recipe.objective.kl_coef > 0)
        if recipe.correction.kind != "none":
            assert row["effective_sample_share"] == pytest.approx(1, abs=1e-3)
    if recipe.rollouts.is_dynamic:
        assert all(row["groups_trained"] <= 4 for row in rows)
        assert sum(row["problems_drawn"] - row["groups_trained"] for row in rows) > 0
    else:
        assert all((row["problems_drawn"], row["num_rounds"]) == (4, 1) for row in rows)


STOPS = {
    "dynamic, with a curriculum": [
        "while the fourth iteration samples",
        "before the fourth update",
        "before the sampler has the fifth weights",
        "before `latest` names the checkpoint",
    ],
    "growing, KL in the reward": ["before the fourth update", "before the sampler has the fifth weights"],
}


@pytest.fixture(scope="module")
def variants(tiny, tmp_path_factory):
    """Recipes with all that an iteration can carry over to the next: decks, solve rates, a reference, a limit."""
    path = tmp_path_factory.mktemp("data") / "problems.jsonl"
    rows = [{"id": f"sum-{n}", "question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = [{"kind": "jsonl", "path": str(path), "use_for": "train"}, {"kind": "chains", "terms": 3}]
    return {
        "dynamic, with a curriculum": tiny(
            tasks=tasks,
            curriculum={"kind": "solve_rate"},
            rollouts={"max_rounds": 4, "oversampling": 1.5, "group_size": 2},
        ),
        "growing, KL in the reward": tiny(
            sampling={"max_new_tokens": 8, "stages": [{"from_step": 4, "max_new_tokens": 14}]},
            advantage={"kind": "rloo"},
            objective={
                "kl_coef": 0.1, "kl_estimator": "k1", "kl_place": "reward", "reference_refresh_steps": 3,
                "entropy_coef": 0.01,
            },
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def killed(variants, tmp_path_factory):
    """For each variant and point: the folder of a run that died there, and its exit status."""
    place = tmp_path_factory.mktemp("killed")
    keys = [(name, point) for name, points in STOPS.items() for point in points]
    jobs = [
        {"recipe": dump_recipe(variants[name]), "folder": str(place / f"{number}"), "point": point}
        for number, (name, point) in enumerate(keys)
    ]
    (place / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, str(DIE), str(place / "jobs.json")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout)
    return {key: (Path(job["folder"]), statuses[job["folder"]]) for key, job in zip(keys, jobs, strict=True)}


@pytest.fixture(scope="module")
def alone(variants, run_to_the_end, outcome, tmp_path_factory):
    return {name: outcome(run_to_the_end(recipe, tmp_path_factory.mktemp("alone") / "run"))
            for name, recipe in variants.items()}  # fmt: skip


def test_the_runs_that_are_killed_are_no_idle_ones(alone):
    dynamic = alone["dynamic, with a curriculum"]["metrics"][:6]
    assert max(row["num_rounds"] for row in dynamic) > 1
    assert sum(row["dropped_all_wrong"] for row in dynamic) > 3
    assert sum(row["surplus_groups"] for row in dynamic) > 0
    growing = alone["growing, KL in the reward"]["metrics"][:6]
    assert [round(row["mean_completion_tokens"]) for row in growing] == [8, 8, 8, 8, 14, 14]
    assert [row["kl"] != 0 for row in growing] == [False, True, True] * 2  # the reference follows every three steps


@pytest.mark.parametrize(("name", "point"), [(name, point) for name, points in STOPS.items() for point in points])
def test_a_killed_run_resumes_to_the_same_bits(killed, variants, run_to_the_end, outcome, alone, name, point):
    folder, status = killed[name, point]
    assert status == -signal.SIGKILL, (folder / "stderr").read_text()
    assert latest_checkpoint(folder / "checkpoints") is not None
    state = json.loads((latest_checkpoint(folder / "checkpoints") / "trainer.json").read_text())["source"]
    if name == "dynamic, with a curriculum":
        assert state["decks"] and state["solve_rates"]
    run_to_the_end(variants[name], folder, resume=True)
    assert outcome(folder) == alone[name]
