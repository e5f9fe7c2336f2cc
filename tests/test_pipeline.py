"""Several stages in one folder: each once, cut at will, killed at will, and the same table in the end."""

import json
import random
import re
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from r1kit import pipeline
from r1kit.errors import Interrupted, RecipeError, RunError
from r1kit.forecast import show_dry_run
from r1kit.insight.report import write_report
from r1kit.recipe import dump_recipe, load_recipe, parse_recipe
from r1kit.stage_runner import Cut
from r1kit.stages.compute import fine_tuning_tokens

QUIET = Console(quiet=True)
PROGRAM = """
import json, sys
from pathlib import Path
from rich.console import Console
from r1kit import pipeline
from r1kit.recipe import parse_recipe

recipe = parse_recipe(json.loads(Path(sys.argv[1]).read_text()), source="killed")
folder = Path(sys.argv[2])
resume = (folder / "pipeline.json").is_file()
pipeline.train(recipe, folder, resume=resume, explain=False, console=Console(quiet=True))
"""


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recipe(model_folder, tmp_path_factory):
    """A function from changed sections to a pipeline of four stages that runs in seconds."""
    data = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    rows = [
        {"prompt": f"Compute {n}+1", "completion": f"<think>{n}+1={n + 1}</think>It is <answer>{n + 1}</answer>."}
        for n in range(16)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(**sections):
        table = {
            "kind": "r1",
            "model": {"path": str(model_folder)},
            "tasks": [{"kind": "chains", "terms": 3}],
            "run": {"num_threads": 1, "audit": "off", "checkpoint_interval_iterations": 1},
            "rl": {
                "sampling": {"max_new_tokens": 8},
                "rewards": {"accuracy": 0.0, "random": 1.0},
                "rollouts": {"num_iterations": 2, "problems_per_iteration": 2, "group_size": 4},
                "evaluation": {"num_problems": 4},
            },
            "fine_tuning": {"sft": {"num_epochs": 1, "examples_per_step": 8}},
            "cold_start": {"data": str(data)},
            "reasoning_rl": {},
            "distill": {"data": str(data), "then_rl": {}},
            "students": [{"name": "small", "model": {"path": str(model_folder)}}],
            "evaluation": {"num_problems": 4, "samples_per_problem": 2, "sampling": {"max_new_tokens": 8}},
        }
        return parse_recipe(table | sections, source="test")

    return make


def run(recipe, folder, *, resume=False, cut=pipeline.WHOLE, console=QUIET):
    pipeline.train(recipe, folder, resume=resume, explain=False, console=console, cut=cut)
    return folder


def table(folder):
    return (folder / "evaluation" / "table.json").read_bytes()


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    return run(recipe(), tmp_path_factory.mktemp("whole") / "run")


def test_a_pipeline_leaves_a_model_a_stage_a_table_and_a_report(whole):
    models = ["1-cold-start/sft", "2-reasoning-rl", "distill-small", "distill-small-then-rl"]
    assert all((whole / name / "final" / "model.safetensors").is_file() for name in models)
    rows = json.loads(table(whole))["checkpoints"]
    names = ["base", "Dev1", "Dev2", "small", "small, distilled", "small, distilled, then RL"]
    assert [row["name"] for row in rows] == names
    assert rows[0]["reasoning"]["n"] == 4 and rows[0]["reasoning"]["k"] == 2
    assert rows[0]["reasoning"]["pass_at_1"] == rows[3]["reasoning"]["pass_at_1"]  # the same model twice
    page = (whole / "report.html").read_text()
    assert all(f"<td>{name}</td>" in page for name in names)
    assert set(json.loads((whole / "pipeline.json").read_text())["seconds"]) == {*models, "evaluation"}


def test_a_stage_is_what_its_recipe_makes_alone(whole, tmp_path):
    resolved = json.loads((whole / "2-reasoning-rl" / "recipe.json").read_text())["recipe"]
    alone = run(parse_recipe(resolved, source="resolved"), tmp_path / "alone")
    weights = [(folder / "final" / "model.safetensors").read_bytes() for folder in (alone, whole / "2-reasoning-rl")]
    assert weights[0] == weights[1]


def test_until_and_from_and_resume_end_in_the_same_table(recipe, whole, tmp_path):
    folder = run(recipe(), tmp_path / "run", cut=Cut(until="1-cold-start"))
    assert not (folder / "2-reasoning-rl").exists() and not (folder / "evaluation").exists()
    with pytest.raises(RunError, match="already holds a run; go on with --resume"):
        run(recipe(), folder)
    run(recipe(), folder, cut=Cut(from_="2-reasoning-rl", until="2-reasoning-rl"))
    stamp = (folder / "2-reasoning-rl" / "final" / "model.safetensors").stat().st_mtime_ns
    run(recipe(), folder, resume=True)
    assert (folder / "2-reasoning-rl" / "final" / "model.safetensors").stat().st_mtime_ns == stamp
    assert table(folder) == table(whole)


def test_from_puts_aside_what_it_makes_again(recipe, whole, tmp_path):
    folder = run(recipe(), tmp_path / "run")
    longer = recipe(reasoning_rl={"rollouts": {"num_iterations": 3}})
    with pytest.raises(RunError, match=re.escape("rollouts.num_iterations was 2, now 3")):
        run(longer, folder, resume=True)
    run(longer, folder, cut=Cut(from_="2-reasoning-rl"))
    assert (folder / "replaced" / "1" / "2-reasoning-rl" / "final").is_dir()
    assert (folder / "replaced" / "1" / "evaluation" / "table.json").read_bytes() == table(whole)
    assert table(folder) != table(whole)


@pytest.mark.parametrize("stage", ["1-cold-start/sft", "distill-small-then-rl", "evaluation"])
def test_interrupted_anywhere_a_pipeline_goes_on_to_the_same_table(recipe, whole, tmp_path, monkeypatch, stage):
    folder = tmp_path / "run"
    original = pipeline.train_stage

    def interrupted(stage_recipe, place, *options, **more):
        if place == folder / stage:
            raise Interrupted("stopped")
        original(stage_recipe, place, *options, **more)

    def stopped(*options):
        raise Interrupted("stopped")

    monkeypatch.setattr(pipeline, "train_stage", interrupted)
    if stage == "evaluation":
        monkeypatch.setattr(pipeline, "measure_plan", stopped)
    with pytest.raises(Interrupted, match=f"interrupted in {stage}; everything is saved, go on with --run {folder}"):
        run(recipe(), folder)
    monkeypatch.undo()
    assert table(run(recipe(), folder, resume=True)) == table(whole)


def test_a_single_stage_is_not_cut(recipe, tmp_path):
    with pytest.raises(
        RecipeError, match="--from and --until name stages, and a recipe of kind 'zero' is a single one"
    ):
        run(recipe().reasoning_rl, tmp_path / "run", cut=Cut(until="2-reasoning-rl"))


def test_a_pipeline_that_is_not_there_is_not_resumed(recipe, tmp_path):
    with pytest.raises(RunError, match="holds no run to resume"):
        run(recipe(), tmp_path / "run", resume=True)


@pytest.mark.slow
def test_killed_at_five_random_moments_it_ends_in_the_same_table(recipe, whole, tmp_path):
    """As a user would: the command line, `kill -9`, and --resume."""
    path, folder = tmp_path / "recipe.json", tmp_path / "run"
    path.write_text(json.dumps(dump_recipe(recipe())))
    command = [sys.executable, "-c", PROGRAM, str(path), str(folder)]
    rng, killed = random.Random(0), 0
    while killed < 5:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        watched = folder / "evaluation" / "table.json"
        deadline = time.monotonic() + 120
        # Imports take most of a run this small: wait until something is written, then for a moment of its own.
        before = sum(1 for _ in folder.rglob("*"))
        while process.poll() is None and sum(1 for _ in folder.rglob("*")) <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        process.kill()
        process.wait()
        killed += 1
        if watched.is_file():
            break
    assert subprocess.run(command, check=False, timeout=300).returncode == 0
    assert table(folder) == table(whole)


def test_the_report_command_finds_stages_inside_stages(whole, tmp_path):
    names = [run["name"] for run in write_report([whole], tmp_path / "page.html")["runs"]]
    assert names == ["sft", "2-reasoning-rl", "distill-small", "distill-small-then-rl"]


def test_distillation_alone_ends_in_a_table_with_rl_at_equal_compute(recipe, tmp_path):
    shared = recipe().model_dump(mode="json")
    table = {
        "kind": "distill",
        "tasks": shared["tasks"],
        "run": shared["run"],
        "data": shared["distill"]["data"],
        "sft": shared["fine_tuning"],
        "rl": dict(shared["rl"]) | {"rollouts": {"num_iterations": 50, "problems_per_iteration": 2, "group_size": 4}},
        "students": [{"name": "small", "model": shared["model"]}],
        "evaluation": {"num_problems": 4, "samples_per_problem": 2, "sampling": {"max_new_tokens": 8}},
    }
    folder = run(parse_recipe(table, source="distill"), tmp_path / "run")
    rows = json.loads((folder / "evaluation" / "table.json").read_text())["checkpoints"]
    assert [row["name"] for row in rows] == ["small", "small, distilled", "small, RL alone"]
    trained = [json.loads(line) for line in (folder / "rl-small" / "metrics.jsonl").read_text().splitlines()]
    spent = [row["completion_tokens"] + row["trained_tokens"] for row in trained if "reward" in row]
    limit = fine_tuning_tokens(folder / "distill-small")
    assert sum(spent[:-1]) < limit <= sum(spent)


def test_a_dry_run_shows_the_part_that_would_be_run(tmp_path):
    recipe = load_recipe(Path(__file__).parents[1] / "recipes" / "nano" / "r1.toml")
    text = StringIO()
    show_dry_run(recipe, Console(file=text, width=200), tmp_path, Cut(from_="3-sft", until="3-sft"))
    listed = [line for line in text.getvalue().splitlines() if line.lstrip()[:1].isdigit()]
    assert [line.split()[1] for line in listed] == ["3-sft/traces", "3-sft/sft"]
    assert "every checkpoint is measured" not in text.getvalue()

    text = StringIO()
    with pytest.raises(RecipeError, match="--until 9-none: no such stage"):
        show_dry_run(recipe, Console(file=text), tmp_path, Cut(until="9-none"))
    assert text.getvalue() == ""
