"""Recipes of several stages: sections become whole recipes, and a plan knows what is done, stale or missing."""

import json
import re
from pathlib import Path

import pytest

from r1kit.errors import RecipeError, RunError
from r1kit.pipeline import plan_of
from r1kit.recipe import dump_recipe, load_recipe, parse_recipe
from r1kit.stage_plan import State, refuse_missing, refuse_stale

ROOT = Path(__file__).parents[1]
CHAINS = {"kind": "chains", "terms": 3}


def r1(**sections):
    table = {
        "kind": "r1",
        "seed": 7,
        "tasks": [CHAINS],
        "run": {"max_sequences": 64, "keep_checkpoints": 5},
        "rl": {"rollouts": {"num_iterations": 9, "group_size": 8}, "optimizer": {"lr": 1e-5}},
        "fine_tuning": {"sft": {"num_epochs": 3}},
        "zero": {"rollouts": {"num_iterations": 20}},
        "cold_start": {"traces": {"num_problems": 10}},
        "reasoning_rl": {"rewards": {"language": 1.0}},
        "sft": {"traces": {"num_problems": 10}},
        "distill": {"traces": {"num_problems": 10}, "rl": {}},
        "students": [{"name": "half", "model": {"path": "some/student"}, "lr": 2e-3}],
    }
    return parse_recipe(table | sections, source="test")


def finish(stage):
    """A stage's folder as if it had been run."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    (stage.folder / "recipe.json").write_text(json.dumps({"recipe": dump_recipe(stage.recipe)}))
    (stage.folder / "final").mkdir(exist_ok=True)
    (stage.folder / "done.json").write_text("{}")


def test_a_section_says_only_what_differs_and_becomes_a_whole_recipe():
    recipe = r1()
    assert (recipe.zero.rollouts.num_iterations, recipe.zero.rollouts.group_size) == (20, 8)
    assert (recipe.reasoning_rl.rollouts.num_iterations, recipe.reasoning_rl.rewards.language) == (9, 1.0)
    assert recipe.reasoning_rl.seed == recipe.cold_start.traces.seed == 7
    assert recipe.cold_start.sft.sft.num_epochs == 3
    assert recipe.cold_start.traces.run.max_sequences == 64  # and keep_checkpoints, which it does not have, is left out
    student = recipe.distill.students[0]
    assert (student.sft.optimizer.lr, student.sft.model.path, student.rl.optimizer.lr) == (2e-3, "some/student", 1e-5)
    assert student.then_rl is None


def test_a_resolved_recipe_resolves_to_itself():
    resolved = dump_recipe(r1())
    assert dump_recipe(parse_recipe(resolved, source="resolved")) == resolved


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"rl": {"rolouts": {}}}, "unknown key 'zero.rolouts'; did you mean 'rollouts'?"),
        ({"fine_tuning": {"epochs": 2}}, "unknown key 'cold_start.sft.epochs'"),
        ({"reasoning_rl": {"rollouts": {"group_size": 1}}}, "reasoning_rl.rollouts.group_size"),
        ({"zero": None}, "the cold start is drawn from R1-Zero: add \\[zero\\]"),
        ({"cold_start": {"data": "a.jsonl", "traces": {}}}, "`data`, or are drawn as `traces` says: both are set"),
        ({"students": [{"name": "a b", "model": {}}]}, "students.0.name"),
    ],
)
def test_what_is_wrong_in_a_section_is_named_by_its_place(sections, said):
    with pytest.raises(RecipeError, match=said):
        r1(**sections)


def test_a_section_of_another_kind_replaces_the_shared_one():
    recipe = r1(rl={"objective": {"kind": "grpo", "clip_eps": 0.3}}, reasoning_rl={"objective": {"kind": "reinforce"}})
    assert recipe.reasoning_rl.objective.kind == "reinforce"
    assert recipe.zero.objective.clip_eps == 0.3


def test_the_plan_of_r1_trains_both_fine_tunings_from_the_base(tmp_path):
    plan = plan_of(r1(), tmp_path)
    stages = {stage.name: stage for stage in plan.stages}
    assert list(stages) == [
        "0-zero",
        "1-cold-start/traces",
        "1-cold-start/sft",
        "2-reasoning-rl",
        "3-sft/traces",
        "3-sft/sft",
        "distill-traces",
        "distill-half",
        "rl-half",
    ]
    assert stages["1-cold-start/sft"].recipe.model.path == stages["3-sft/sft"].recipe.model.path == "nano"
    assert stages["2-reasoning-rl"].recipe.model.path == str(tmp_path / "1-cold-start" / "sft" / "final")
    assert stages["3-sft/traces"].recipe.model.path == str(tmp_path / "2-reasoning-rl" / "final")
    assert str(stages["3-sft/sft"].recipe.data) == str(tmp_path / "3-sft" / "traces" / "traces.jsonl")
    names = [checkpoint.name for checkpoint in plan.checkpoints]
    assert names == ["base", "Zero", "Dev1", "Dev2", "Dev3", "half", "half, distilled", "half, RL alone"]


def test_a_given_zero_and_given_traces_are_not_made_again(tmp_path):
    plan = plan_of(r1(zero={"checkpoint": "runs/zero"}, cold_start={"data": "mine.jsonl"}), tmp_path)
    assert [stage.name for stage in plan.stages][:2] == ["1-cold-start/sft", "2-reasoning-rl"]
    assert str(plan.stages[0].recipe.data) == "mine.jsonl"
    assert [c.model.path for c in plan.checkpoints][:2] == ["nano", "runs/zero"]


def test_a_changed_setting_names_itself_and_every_stage_that_is_out_of_date(tmp_path):
    for stage in plan_of(r1(), tmp_path).stages:
        finish(stage)
    changed = plan_of(r1(reasoning_rl={"rewards": {"language": 0.5}}), tmp_path)
    with pytest.raises(RunError) as error:
        refuse_stale(changed, before=len(changed.stages))
    assert str(error.value) == (
        "2-reasoning-rl was made by another recipe (rewards.language was 1.0, now 0.5), so it is out of date, and with "
        "it 3-sft/traces, 3-sft/sft, distill-traces, distill-half, rl-half; make them again with --from 2-reasoning-rl"
        ", or take the old setting back"
    )
    refuse_stale(changed, before=changed.place_of("2-reasoning-rl", "--from").start)


def test_resources_may_change_and_a_moved_folder_is_the_same(tmp_path):
    there = tmp_path / "old"
    for stage in plan_of(r1(), there).stages:
        finish(stage)
    there.rename(tmp_path / "new")
    moved = plan_of(r1(run={"max_sequences": 8}), tmp_path / "new")
    refuse_stale(moved, before=len(moved.stages), moved_from=[str(there)])
    with pytest.raises(RunError, match="1-cold-start/traces was made by another recipe"):
        refuse_stale(moved, before=len(moved.stages))


def test_a_stage_whose_source_is_gone_is_refused(tmp_path):
    plan = plan_of(r1(), tmp_path)
    finish(plan.stages[2])
    with pytest.raises(RunError, match="1-cold-start/sft is there, but 1-cold-start/traces, which it was made from"):
        refuse_stale(plan, before=len(plan.stages))


def test_from_needs_what_stands_before(tmp_path):
    plan = plan_of(r1(), tmp_path)
    finish(plan.stages[0])
    assert [stage.state for stage in plan.stages[:2]] == [State.DONE, State.MISSING]
    with pytest.raises(RunError, match="1-cold-start/traces comes before it and is not there"):
        refuse_missing(plan, before=plan.place_of("2-reasoning-rl", "--from").start)
    with pytest.raises(RecipeError, match="--until 5-more: no such stage; this recipe has 0-zero, 1-cold-start"):
        plan.place_of("5-more", "--until")
    assert list(plan.place_of("1-cold-start", "--until")) == [1, 2]


@pytest.mark.parametrize("name", ["r1", "distill"])
def test_every_setting_of_the_published_recipes_has_its_source_behind_it(name, tmp_path):
    path = ROOT / "recipes" / "paper" / f"{name}.toml"
    lines = [line for line in path.read_text().splitlines() if re.match(r"\w+ = ", line)]
    named = [line for line in lines if line.startswith("name = ")]
    assert len(lines) > 20
    sourced = [line for line in lines if re.search(r"# (V1|V2|not published|all of it)", line)]
    assert [line for line in lines if line not in named and line not in sourced] == []
    plan = plan_of(load_recipe(path), tmp_path)
    assert len(plan.stages) == {"r1": 9, "distill": 6}[name]


def test_the_recipe_of_nano_has_every_stage_of_the_paper(tmp_path):
    plan = plan_of(load_recipe(ROOT / "recipes" / "nano" / "r1.toml"), tmp_path)
    tops = list(dict.fromkeys(stage.name.partition("/")[0] for stage in plan.stages))
    assert tops[:6] == ["0-zero", "1-cold-start", "2-reasoning-rl", "general-data", "3-sft", "4-all-scenarios-rl"]
    last = next(stage for stage in plan.stages if stage.name == "4-all-scenarios-rl/rl").recipe
    assert last.preference.helpfulness == str(tmp_path / "4-all-scenarios-rl" / "helpfulness" / "final")
    assert last.preference.safety == str(tmp_path / "4-all-scenarios-rl" / "safety" / "final")
    assert str(next(s for s in plan.stages if s.name == "rl-llama").recipe.rollouts.equal_compute_to) == str(
        tmp_path / "distill-llama" / "final"
    )
