"""Recipes: every one that ships loads, and whatever is wrong with one is said in one line that names it."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from r1kit.config.tasks import ChainsTask, PairsTask
from r1kit.errors import RecipeError
from r1kit.recipe import ZeroRecipe, dump_recipe, load_recipe, parse_recipe

RECIPES = Path(__file__).parents[1] / "recipes"

ZERO = """
kind = "zero"
[[tasks]]
kind = "chains"
terms = 3
[[tasks]]
kind = "pairs"
"""


@pytest.fixture
def write(tmp_path):
    """A function from TOML text to the path of a recipe that holds it."""

    def write_recipe(text: str) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(text, "utf-8")
        return path

    return write_recipe


@pytest.fixture
def complaint(write):
    """A function from TOML text and overrides to the one line that refuses them."""

    def refuse(text: str, *overrides: str) -> str:
        with pytest.raises(RecipeError) as caught:
            load_recipe(write(text), overrides)
        message = str(caught.value)
        assert "\n" not in message
        assert caught.value.exit_status == 2
        return message

    return refuse


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: path.stem)
def test_a_recipe_that_ships_loads_and_survives_a_round_trip(path):
    recipe = load_recipe(path)
    assert parse_recipe(dump_recipe(recipe), source="dump") == recipe


def test_recipes_ship():
    assert (RECIPES / "nano" / "zero.toml").is_file()


def test_what_a_recipe_leaves_out_has_its_default(write):
    recipe = load_recipe(write(ZERO))
    assert recipe.tasks == (ChainsTask(terms=3), PairsTask())
    assert (recipe.sampling.temperature, recipe.rollouts.group_size, recipe.objective.clip_eps) == (1.0, 16, 0.2)
    assert recipe.advantage.kind == "group_norm"


@pytest.mark.parametrize(
    ("extra", "key", "nearest"),
    [
        ("[modle]\n", "modle", "model"),
        ("[rollouts]\ngroup_siz = 4", "rollouts.group_siz", "group_size"),
        ("[rollouts]\nnum_iteration = 4", "rollouts.num_iteration", "num_iterations"),
        ("[optimizer]\nlearning_rat = 1.0\nlr = 2.0", "optimizer.learning_rat", None),
        ("[objective]\nkl_ceof = 0.1", "objective.kl_ceof", "kl_coef"),
        ("[sampling]\ntemprature = 1.0", "sampling.temprature", "temperature"),
        ('[advantage]\nkind = "group_mean"\nsclae = true', "advantage.sclae", None),
        ("[[tasks]]\nkind = 'chains'\nterns = 3", "tasks.2.terns", "terms"),
        ("[[tasks]]\nkind = 'pairs'\nnumber = 3", "tasks.2.number", "numbers"),
        ("[evaluation]\nnum_problem = 3", "evaluation.num_problem", "num_problems"),
        ("[[evaluation.harder]]\nkind = 'chains'\nterns = 3", "evaluation.harder.0.terns", "terms"),
        ("[[evaluation.harder]]\nkind = 'logic'\n[[evaluation.harder]]\nkind = 'logic'\npeopel = 3",
         "evaluation.harder.1.peopel", "people"),
        ("[run]\nkeep_checkpoint = 3", "run.keep_checkpoint", "keep_checkpoints"),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_named_with_the_nearest_one(complaint, extra, key, nearest):
    message = complaint(f"{ZERO}\n{extra}")
    assert f"unknown key {key!r}" in message
    assert "recipe.toml" in message
    if nearest:
        assert f"did you mean {nearest!r}?" in message


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ('kind = "sft"\ndata = "x"\n[sft]\nnum_epoch = 1', "sft.num_epoch", "num_epochs"),
        ('kind = "pretrain"\n[pretrain]\nnum_step = 1', "pretrain.num_step", "num_steps"),
        ('kind = "pretrain"\n[architecture]\nhiden_size = 64', "architecture.hiden_size", "hidden_size"),
        ('kind = "sft"\ndta = "x"\ndata = "x"', "dta", "data"),
    ],
)
def test_a_misspelt_key_is_named_in_the_other_kinds_of_recipe_too(complaint, text, key, nearest):
    assert f"unknown key {key!r}; did you mean {nearest!r}?" in complaint(text)


@pytest.mark.parametrize(
    ("extra", "key", "expected"),
    [
        ("[rollouts]\ngroup_size = 1", "rollouts.group_size", "2"),
        ("[rollouts]\ngroup_size = 16.5", "rollouts.group_size", "integer"),
        ('[rollouts]\ngroup_size = "many"', "rollouts.group_size", "integer"),
        ("[rollouts]\nnum_iterations = true", "rollouts.num_iterations", "integer"),
        ('[rollouts]\nold_logprobs = "none"', "rollouts.old_logprobs", "'policy' or 'sampler'"),
        ("[rollouts]\nproblems_per_iteration = 2\ngroup_size = 2\nsteps_per_iteration = 5",
         "rollouts.steps_per_iteration", "4"),
        ("[sampling]\ntemperature = 0", "sampling.temperature", "0"),
        ("[sampling]\ntemperature = -0.5", "sampling.temperature", "-0.5"),
        ("[sampling]\ntop_p = 1.5", "sampling.top_p", "1.5"),
        ("[sampling]\nmax_new_tokens = 0", "sampling.max_new_tokens", "1"),
        ('[sampling]\nstop = "x"', "sampling.stop", "tuple"),
        ("[optimizer]\nlr = 0", "optimizer.lr", "0"),
        ("[optimizer]\nlr = nan", "optimizer.lr", "nan"),
        ("[optimizer]\nlr = inf", "optimizer.lr", "finite"),
        ("[rewards]\naccuracy = nan", "rewards.accuracy", "finite"),
        ('[optimizer]\nlr = "fast"', "optimizer.lr", "number"),
        ("[optimizer]\nbeta1 = 0.99", "optimizer", "0.95"),
        ("[objective]\nclip_eps = -1", "objective.clip_eps", "-1"),
        ('[objective]\nkind = "ppo"', "objective.kind", "grpo"),
        ('[advantage]\nkind = "group_norn"', "advantage.kind", "did you mean 'group_norm'?"),
        ('[token_weights]\nkind = "token"', "token_weights.kind", "token_mean"),
        ("[model]\ndtype = 'float16'", "model.dtype", "'bfloat16'"),
        ("[[tasks]]\nkind = 'chain'", "tasks.2.kind", "did you mean 'chains'?"),
        ("[[tasks]]\nterms = 3", "tasks.2", "`kind` is missing"),
        ("[[tasks]]\nkind = 'chains'\nterms = 99", "tasks.2.terms", "99"),
        ("[[tasks]]\nkind = 'chains'\nlanguages = ['fr']", "tasks.2.languages.0", "'fr'"),
        ("[[tasks]]\nkind = 'chains'\nlanguages = []", "tasks.2.languages", "1"),
        ("[[tasks]]\nkind = 'chains'\nweight = 0", "tasks.2.weight", "0"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_was_expected(complaint, extra, key, expected):
    message = complaint(f"{ZERO}\n{extra}").partition(": ")[2]
    assert message.startswith(key)
    assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "`kind` is missing"),
        ('kind = "zerro"', "kind is 'zerro'; known: zero, sft"),
        ('kind = "zero"', "tasks"),
        ('kind = "zero"\ntasks = []', "tasks"),
        ('kind = "zero"\ntasks = 3', "tasks"),
        ('kind = "sft"', "data"),
        ('kind = "zero', "not valid TOML"),
        ('kind = "zero"\nkind = "zero"', "not valid TOML"),
        ("[[tasks]\n", "not valid TOML"),
    ],
)
def test_a_recipe_that_is_none_is_refused(complaint, text, expected):
    assert expected in complaint(text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b'kind = "z\xe9ro"')
    for path, expected in [
        (tmp_path / "none.toml", "no such recipe"),
        (tmp_path, "cannot be read"),
        (tmp_path / "latin.toml", "cannot be read"),
    ]:
        with pytest.raises(RecipeError, match=expected) as caught:
            load_recipe(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_overrides_are_read_as_toml(write):
    recipe = load_recipe(
        write(ZERO),
        [
            "seed=7",
            "optimizer.lr=1e-5",
            "model.path=../a folder/x=y",
            "template.kind=r1_zero",
            'sampling.stop=["</answer>", "x"]',
            "tasks.1.numbers=7",
            "tasks.0.languages=['zh']",
            "objective.clip_eps_high=0.28",
            "evaluation.harder=[{kind = 'chains', terms = 9}]",
            " rollouts.group_size = 4",
        ],
    )
    assert (recipe.seed, recipe.optimizer.lr, recipe.model.path) == (7, 1e-5, "../a folder/x=y")
    assert (recipe.template.kind, recipe.sampling.stop) == ("r1_zero", ("</answer>", "x"))
    assert recipe.tasks == (ChainsTask(terms=3, languages=("zh",)), PairsTask(numbers=7))
    assert recipe.evaluation.harder == (ChainsTask(terms=9),)
    assert (recipe.objective.clip_high, recipe.rollouts.group_size) == (0.28, 4)


def test_the_last_override_wins(write):
    assert load_recipe(write(ZERO), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "'seed' is not of the form section.key=value"),
        ("=3", "'=3' is not of the form section.key=value"),
        ("", "'' is not of the form section.key=value"),
        ("sede=3", "unknown key 'sede'; did you mean 'seed'?"),
        ("rollouts.group_siz=3", "unknown key 'rollouts.group_siz'; did you mean 'group_size'?"),
        ("rolouts.group_size=3", "unknown key 'rolouts'; did you mean 'rollouts'?"),
        ("rollouts.group_size=many", "rollouts.group_size"),
        ("rollouts.group_size=", "rollouts.group_size"),
        ("rollouts=3", "rollouts"),
        ("tasks.terms=3", "tasks is a list; name an element by its number"),
        ("tasks.x.terms=3", "'x' is no element of a list of 2"),
        ("tasks.2.terms=3", "'2' is no element of a list of 2"),
        ("tasks.-1.terms=3", "'-1' is no element of a list of 2"),
        ("tasks.0.terns=3", "unknown key 'tasks.0.terns'; did you mean 'terms'?"),
        ("kind.x=3", "kind is not a section"),
        ("seed.x=3", "seed"),
    ],
)
def test_a_bad_override_is_refused_by_name(complaint, override, expected):
    assert expected in complaint(ZERO, override)


def test_a_resolved_recipe_survives_a_round_trip(write):
    overrides = [
        "advantage={kind = 'group_mean'}",
        "token_weights={kind = 'constant_length'}",
        "objective.kl_coef=0.001",
        "optimizer.lr=3.1e-7",
        "sampling.stop=['\"', '好']",
        "evaluation.harder=[{kind = 'logic', people = 6, weight = 0.25}]",
        "model.dtype=bfloat16",
    ]
    recipe = load_recipe(write(ZERO), overrides)
    dumped = dump_recipe(recipe)
    assert parse_recipe(dumped, source="dump") == recipe
    assert (dumped["optimizer"]["lr"], dumped["rollouts"]["group_size"]) == (3.1e-7, 16)
    assert recipe != load_recipe(write(ZERO))


def test_a_recipe_cannot_be_changed(write):
    recipe = load_recipe(write(ZERO))
    assert isinstance(recipe, ZeroRecipe)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3


def test_a_misspelt_key_on_the_command_line_fails_in_a_blink(write):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "r1kit.cli", "train", str(write(ZERO)), "rollouts.group_siz=3"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")},
        timeout=60,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "unknown key 'rollouts.group_siz'; did you mean 'group_size'?" in done.stderr
    assert seconds < 1, "processor time, which a busy machine does not stretch"


def test_data_takes_the_place_of_the_one_file_that_a_recipe_trains_on(write):
    loaded = load_recipe(RECIPES / "smollm2" / "gsm8k.toml", data=Path("my own=1.jsonl"))
    assert loaded.tasks[0].path == Path("my own=1.jsonl")
    tuning = write('kind = "sft"\n')
    assert load_recipe(tuning, data=Path("rows.jsonl")).data == Path("rows.jsonl")
    with pytest.raises(RecipeError, match="kind 'jsonl', and this one has 0"):
        load_recipe(RECIPES / "nano" / "zero.toml", data=Path("rows.jsonl"))
