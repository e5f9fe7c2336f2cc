"""The shipped base model: what it must be for the demo to mean something, and what a run makes of it."""

import json
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1kit.config.model import ModelSettings
from r1kit.demo import Bench, demo_recipe, measure_styles
from r1kit.evaluation.evaluate import evaluate
from r1kit.models import nano
from r1kit.models.loading import load_policy
from r1kit.pipeline import train
from r1kit.recipe import ZeroRecipe, load_recipe
from r1kit.tasks import FAMILIES
from r1kit.types import Problem

ROOT = Path(__file__).parents[1]
QUIET = Console(quiet=True)


def zero(name: str, *overrides: str) -> ZeroRecipe:
    recipe = load_recipe(ROOT / "recipes" / "nano" / name, overrides)
    assert isinstance(recipe, ZeroRecipe)
    return recipe


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def is_right(problem: Problem, text: str) -> bool:
    """Scored with nothing of ours but the family's own answer check."""
    answer = re.search("<answer>(.*?)</answer>", text)
    return answer is not None and FAMILIES[problem.verifier].is_right(answer[1], problem)


def test_the_shipped_base_is_small_and_plain():
    folder = nano.shipped_folder()
    model = AutoModelForCausalLM.from_pretrained(folder)

    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_000_000
    assert 1_500_000 <= model.num_parameters() <= 2_500_000
    assert model.dtype == torch.bfloat16
    assert 512 <= len(AutoTokenizer.from_pretrained(folder)) <= 1024


def test_the_base_has_the_measured_properties():
    bench = Bench(demo_recipe(0))
    base = load_policy(ModelSettings())

    total = evaluate(bench.sampler(base), bench.problems("trained"), 1, seed="properties")["pass_at_1"]
    styles = {name: figures["trained"]["pass_at_1"] for name, figures in measure_styles(bench, base)["styles"].items()}

    assert 0.10 <= total <= 0.30
    assert styles["direct"] <= 0.20
    assert max(styles.values()) >= 0.60


def test_a_run_learns_and_its_final_folder_says_the_same_in_plain_transformers(tmp_path):
    recipe = zero("zero.toml", "rollouts.num_iterations=12", "evaluation.num_problems=96", "sampling.max_new_tokens=96")
    train(recipe, tmp_path / "run", resume=False, explain=False, console=QUIET)
    trained = [row["pass_at_1"] for row in rows(tmp_path / "run") if "reward" in row]
    assert sum(trained[-4:]) / 4 > sum(trained[:4]) / 4 + 0.08
    final = tmp_path / "run" / "final"
    bench = Bench(recipe)
    problems = bench.problems("trained")[:48]

    model, tokenizer = AutoModelForCausalLM.from_pretrained(final), AutoTokenizer.from_pretrained(final)
    greedy = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"temperature": 0.0})})
    ours = Bench(greedy).sampler(load_policy(ModelSettings(path=str(final)))).groups(problems, 1, seed="-")
    answers = []
    for problem, group in zip(problems, ours, strict=True):
        prompt = tokenizer(f"User: {problem.prompt}\nAssistant:", return_tensors="pt").input_ids
        with torch.no_grad():
            output = model.generate(prompt, max_new_tokens=96, do_sample=False, temperature=None, top_p=None)
        assert tuple(output[0, prompt.shape[1] :].tolist()) == group.rollouts[0].completion.token_ids
        answers.append(is_right(problem, tokenizer.decode(output[0, prompt.shape[1] :])))
    assert answers == [group.rollouts[0].score.verdict == "right" for group in ours]

    reported = rows(tmp_path / "run")[-1]["held_out"]
    drawn = []
    for problem in bench.problems("trained"):
        prompt = tokenizer(f"User: {problem.prompt}\nAssistant:", return_tensors="pt").input_ids.repeat(4, 1)
        torch.manual_seed(0)
        with torch.no_grad():
            output = model.generate(prompt, max_new_tokens=96, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
        texts = tokenizer.batch_decode(output[:, prompt.shape[1] :])
        drawn.append(sum(is_right(problem, text) for text in texts) / 4)
    assert abs(sum(drawn) / len(drawn) - reported["pass_at_1"]) < 4 * reported["pass_at_1_stderr"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_random_rewards_never_rise_above_the_base(tmp_path):
    train(zero("zero_random.toml"), tmp_path, resume=False, explain=False, console=QUIET)
    tests = [row["held_out"] for row in rows(tmp_path) if "held_out" in row]

    bound = tests[0]["pass_at_1"] + 2 * tests[0]["pass_at_1_stderr"]
    assert all(test["pass_at_1"] <= bound for test in tests)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_learns_with_the_papers_kl_term_too(tmp_path):
    train(zero("zero_kl.toml"), tmp_path, resume=False, explain=False, console=QUIET)
    tests = [row["held_out"] for row in rows(tmp_path) if "held_out" in row]

    assert tests[-1]["pass_at_1"] >= 0.8
    assert all(row["kl"] >= 0 for row in rows(tmp_path) if "kl" in row)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_keeps_its_promises(tmp_path, seed):
    from r1kit.demo import run_demo

    figures = run_demo(tmp_path, seed=seed, resume=False, explain=False, json_path=None, console=QUIET)
    before, after, harder, rivals = (figures[name] for name in ("before", "after", "harder", "rivals"))

    assert before["pass_at_1"] <= 0.30
    assert after["pass_at_1"] >= 0.85
    assert harder["after"]["pass_at_1"] >= harder["before"]["pass_at_1"] + 0.15
    assert harder["after"]["pass_at_1"] >= rivals["best_style"]["harder"]["pass_at_1"] + 0.10
    assert harder["after"]["pass_at_1"] >= rivals["filtered_sft"]["harder"]["pass_at_1"] + 0.10
    search = figures["search"]
    assert search["after"]["mean_completion_tokens"] >= 1.5 * search["before"]["mean_completion_tokens"]
    assert search["after"]["reflections_per_completion"] >= 2 * search["before"]["reflections_per_completion"]
    assert figures["without_checking"]["trained"]["pass_at_1"] < after["pass_at_1"]
