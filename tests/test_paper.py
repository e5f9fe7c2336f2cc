"""The paper's recipe: every setting has a source, its numbers fit together, and a recipe's departures are all named."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from r1kit import paper
from r1kit.errors import RecipeError
from r1kit.recipe import ZeroRecipe, load_recipe, parse_recipe

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "paper" / "r1_zero.toml"


def leaves(table, path=""):
    """Every dotted path of a table to a plain value, or to a list that is written on one line."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        elif name == "tasks":
            for number, task in enumerate(value):
                yield from leaves(task, f"{path}{name}.{number}.")
        else:
            yield f"{path}{name}"


def test_every_setting_of_the_papers_recipe_has_a_source_or_says_that_it_was_not_published():
    sources = paper.sources()
    assert list(sources) == list(leaves(tomllib.loads(RECIPE.read_text("utf-8"))))
    assert all(source.startswith(("V1 ", "V2 ", "DSM ", "not published")) for source in sources.values()), sources


def test_what_is_not_published_is_marked_and_not_compared():
    published = dict(paper.published())
    assert "optimizer.lr" in published and "objective.kl_coef" in published
    for setting in ("objective.clip_eps", "objective.ratio", "optimizer.beta2", "sampling.top_p", "tasks.0.path"):
        assert setting not in published and setting in paper.sources()


def test_its_numbers_are_those_of_the_paper_and_fit_together():
    recipe = load_recipe(RECIPE)
    assert isinstance(recipe, ZeroRecipe)
    rollouts = recipe.rollouts
    assert rollouts.num_iterations * rollouts.steps_per_iteration == 10_400
    assert rollouts.problems_per_iteration * rollouts.group_size == 8_192
    assert rollouts.problems_per_iteration // rollouts.steps_per_iteration == 32
    assert 8_192 // rollouts.steps_per_iteration == 512
    assert recipe.objective.reference_refresh_steps // rollouts.steps_per_iteration == 25
    assert (recipe.optimizer.lr, recipe.objective.kl_coef, recipe.sampling.temperature) == (3e-6, 0.001, 1.0)
    limits = [recipe.sampling.max_new_tokens_at(step) for step in (0, 8_199, 8_200, 10_400)]
    assert limits == [32_768, 32_768, 65_536, 65_536]


def test_it_says_that_it_was_not_run():
    assert "Not run here" in RECIPE.read_text("utf-8").splitlines()[1]


def test_the_papers_recipe_departs_from_itself_in_nothing():
    assert paper.deviations(load_recipe(RECIPE)) == []


def test_every_departure_is_named_with_both_values_and_the_source():
    recipe = load_recipe(
        RECIPE, ["optimizer.lr=1e-6", "objective.kl_coef=0.0", "sampling.stages=[]", "optimizer.beta2=0.99"]
    )
    assert paper.deviations(recipe) == [
        paper.Deviation("sampling.stages", [], [{"from_step": 8200, "max_new_tokens": 65536}], "V2 2.1"),
        paper.Deviation("objective.kl_coef", 0.0, 0.001, "V2 2.1"),
        paper.Deviation("optimizer.lr", 1e-6, 3e-6, "V2 2.1"),
    ]


def test_another_objective_is_one_departure_and_settings_that_it_lacks_are_not_invented():
    recipe = load_recipe(RECIPE, ["objective={kind = 'cispo', kl_coef = 0.001}"])
    assert [one.setting for one in paper.deviations(recipe)] == ["objective.kind"]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "nano").glob("zero*.toml")), ids=lambda path: path.stem)
def test_the_miniatures_name_what_made_them_small(path):
    settings = {one.setting for one in paper.deviations(load_recipe(path))}
    assert {"model.path", "optimizer.lr", "rollouts.num_iterations", "sampling.max_new_tokens"} <= settings
    assert "advantage.kind" not in settings and "rollouts.group_size" not in settings


def test_a_recipe_of_another_kind_is_refused():
    with pytest.raises(RecipeError, match="'pretrain'"):
        paper.deviations(parse_recipe({"kind": "pretrain"}, source="test"))


def test_a_value_is_found_at_its_path_or_is_none():
    tree = {"a": [{"b": 1}], "c": {"d": None}}
    assert paper.value_at(tree, "a.0.b") == 1
    assert [paper.value_at(tree, path) for path in ("a.1.b", "a.x", "c.d.e", "z")] == [None] * 4


def test_r1_train_paper_prints_the_departures_beside_a_dry_run(model_folder):
    command = [sys.executable, "-m", "r1kit.cli", "train", str(ROOT / "recipes" / "nano" / "zero_kl.toml")]
    changed = [f"model.path={model_folder}", "run.num_threads=1", "sampling.max_new_tokens=8", "rollouts.group_size=2"]
    done = subprocess.run([*command, *changed, "--paper", "--dry-run"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    before, _, rest = done.stdout.partition("published settings of R1-Zero are set otherwise")
    rows = {line.split()[0]: line.split()[1:] for line in before.splitlines() if "." in line.split()[0]}
    assert rows["rollouts.group_size"] == ["2", "16", "V2", "2.1"], rows
    assert rows["objective.reference_refresh_steps"] == ["10", "400", "V2", "2.1"]
    assert "objective.kl_coef" not in rows
    assert '"kind": "zero"' in rest and "memory: about" in rest
