"""`r1 demo`: R1-Zero on the nano base model, measured beside its cheap rivals, with nothing to prepare.

Parts, in order; a finished part is kept in the run's `demo.json` and not done again on `--resume`:

    before        the base on held-out problems, at the trained difficulty and at a harder one
    best_style    the base with each of its habits forced upon it: is it enough to pick the best one?
    pass_at_16    the base with sixteen tries: what it could do if somebody picked the right one
    training      R1-Zero itself: recipes/nano/zero.toml
    filtered_sft  one round of fine-tuning on the base's own right samples, at as many rollouts
    after         the trained model on the same problems, and once more without its words for checking
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from r1kit.config.model import ModelSettings
from r1kit.config.objective import OptimizerSettings
from r1kit.engine.rollouts import Sampler
from r1kit.errors import Interrupted, RunError
from r1kit.evaluation.evaluate import evaluate, summarise
from r1kit.insight.curves import learning_curves
from r1kit.insight.report import write_report
from r1kit.models.loading import load_policy
from r1kit.models.policy import Policy
from r1kit.pipeline import make_sampler, train_zero
from r1kit.recipe import SFTRecipe, SFTSettings, ZeroRecipe, load_recipe
from r1kit.run import plain, read_rows
from r1kit.stages import sft
from r1kit.tasks import sample_problems
from r1kit.tasks.nano_corpus import SEARCH_FAMILIES, STYLES, WORDS, opening
from r1kit.training.memory import peak_memory_bytes
from r1kit.types import Group, Problem

Figures = dict[str, Any]
DIFFICULTIES = ("trained", "harder")
NUM_PROBLEMS_AT_16 = 64


@dataclass(frozen=True, slots=True)
class Bench:
    """The held-out problems that everything in the demo is measured on."""

    recipe: ZeroRecipe

    def problems(self, difficulty: str) -> list[Problem]:
        """The problems of one difficulty; the same for every model."""
        tasks = self.recipe.tasks if difficulty == "trained" else self.recipe.evaluation.harder
        num = self.recipe.evaluation.num_problems
        return sample_problems(tasks, num, seed=f"{self.recipe.seed}/held-out", split="held_out")

    def sampler(self, policy: Policy) -> Sampler:
        """The engine over a policy, as the recipe samples."""
        recipe = self.recipe
        return make_sampler(
            policy,
            recipe.sampling,
            template=recipe.template,
            rewards=recipe.rewards,
            max_sequences=recipe.run.max_sequences,
        )

    def measure(self, sampler: Sampler) -> Figures:
        """Figures at both difficulties, and those of the search families alone at the trained one."""
        groups = {name: sampler.groups(self.problems(name), 1, seed="demo") for name in DIFFICULTIES}
        search = [group for group in groups["trained"] if group.problem.verifier in SEARCH_FAMILIES]
        return {name: summarise(found) for name, found in groups.items()} | {"search": summarise(search)}


def run_demo(
    folder: Path, *, seed: int, resume: bool, explain: bool, json_path: str | None, console: Console
) -> Figures:
    """Run every part, print the table, write `report.html` and the figures; returns them."""
    recipe = demo_recipe(seed)
    bench = Bench(recipe)
    parts = Parts(folder, console, resume=resume)
    base = load_policy(recipe.model)
    before = parts.once("before", lambda: bench.measure(bench.sampler(base)))
    styles = parts.once("best_style", lambda: measure_styles(bench, base))
    at_16 = parts.once("pass_at_16", lambda: measure_pass_at_16(bench, base))
    training = folder / "zero"
    run_training(recipe, training, explain=explain, console=console)
    filtered = parts.once("filtered_sft", lambda: measure_filtered_sft(bench, base))
    trained = load_policy(ModelSettings(path=str(training / "final")))
    after = parts.once("after", lambda: bench.measure(bench.sampler(trained)))
    unchecked = parts.once("without_checking", lambda: measure_without_checking(bench, trained))
    figures = demo_figures(before, after, {"best_style": styles, "filtered_sft": filtered, "pass_at_16": at_16})
    figures |= {"without_checking": unchecked, "seed": seed, "seconds": parts.seconds(training)}
    figures["peak_memory_bytes"] = peak_memory_bytes()
    show(figures, console)
    curves = learning_curves(training)
    (folder / "learning_curve.svg").write_text(curves, "utf-8")
    write_report(folder / "report.html", training, curves, figures)
    console.print(f"report: {folder / 'report.html'}\nmodel:  {training / 'final'}", highlight=False)
    write_figures(figures, json_path)
    return figures


class Parts:
    """Parts of the demo that are done, on disk."""

    def __init__(self, folder: Path, console: Console, *, resume: bool) -> None:
        """Start in a new folder, or take up what an earlier run of the same folder has finished."""
        self._path = folder / "demo.json"
        if self._path.is_file() and not resume:
            raise RunError(f"{folder} already holds a demo; go on with --resume, or name another folder with --run")
        folder.mkdir(parents=True, exist_ok=True)
        self._console = console
        self._done: dict[str, Figures] = json.loads(self._path.read_text()) if self._path.is_file() else {}

    def once(self, name: str, measure: Callable[[], Figures]) -> Figures:
        """The part's figures: from disk, or measured now and written down."""
        if name not in self._done:
            started = time.perf_counter()
            figures = measure()
            self._done[name] = {"figures": figures, "seconds": time.perf_counter() - started}
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(self._done))
            temporary.replace(self._path)
            self._console.print(f"{name}: done in {self._done[name]['seconds']:.1f} s", highlight=False)
        return self._done[name]["figures"]

    def seconds(self, training: Path) -> float:
        """Seconds that all parts took, interruptions apart."""
        rows = read_rows(training / "metrics.jsonl")
        trained = sum(value for row in rows for name, value in row.items() if name.endswith("_seconds"))
        return trained + sum(part["seconds"] for part in self._done.values())


def run_training(recipe: ZeroRecipe, folder: Path, *, explain: bool, console: Console) -> None:
    """R1-Zero in `folder`, unless it is done; from its last checkpoint where it was interrupted."""
    if (folder / "final").is_dir():
        return
    try:
        train_zero(recipe, folder, resume=(folder / "recipe.json").is_file(), explain=explain, console=console)
    except Interrupted as error:
        raise Interrupted(f"interrupted; all is saved, go on with: r1 demo --run {folder.parent} --resume") from error


def demo_recipe(seed: int) -> ZeroRecipe:
    """recipes/nano/zero.toml with another seed."""
    path = Path(str(resources.files("r1kit"))) / "recipes" / "nano" / "zero.toml"
    recipe = load_recipe(path, [f"seed={seed}"])
    assert isinstance(recipe, ZeroRecipe)
    return recipe


def measure_styles(bench: Bench, base: Policy) -> Figures:
    """The base's accuracy in each style, forced by its opening words, at both difficulties; and the best of them."""
    sampler = bench.sampler(base)
    table = {style: {name: _forced(sampler, bench.problems(name), style) for name in DIFFICULTIES} for style in STYLES}
    best = max(STYLES, key=lambda style: table[style]["trained"]["pass_at_1"])
    return {"styles": table, "best": best, **table[best]}


def _forced(sampler: Sampler, problems: Sequence[Problem], style: str) -> Figures:
    """The figures over all problems when every completion begins as `style` does."""
    by_opening: dict[str, list[Problem]] = {}
    for problem in problems:
        by_opening.setdefault("<think>" + opening(problem, style), []).append(problem)
    groups: list[Group] = []
    for text, chosen in by_opening.items():
        groups += sampler.groups(chosen, 1, seed="demo", opening=text)
    return summarise(groups)


def measure_pass_at_16(bench: Bench, base: Policy) -> Figures:
    """The chance that one of sixteen samples of the base is right, at both difficulties."""
    sampler = bench.sampler(base)
    return {
        name: evaluate(sampler, bench.problems(name)[:NUM_PROBLEMS_AT_16], 16, seed="demo") for name in DIFFICULTIES
    }


def measure_filtered_sft(bench: Bench, base: Policy) -> Figures:
    """The base fine-tuned once on its own right samples, drawn from the problems that the training drew, as many."""
    recipe, sampler = bench.recipe, bench.sampler(base)
    groups: list[Group] = []
    for iteration in range(recipe.rollouts.num_iterations):
        seed = f"{recipe.seed}/iteration-{iteration}"
        problems = sample_problems(recipe.tasks, recipe.rollouts.problems_per_iteration, seed=seed, split="train")
        groups += sampler.groups(problems, recipe.rollouts.group_size, seed=seed)
    right = [
        sft.Example(rollout.prompt_token_ids, rollout.completion.token_ids)
        for group in groups
        for rollout in group.rollouts
        if rollout.score.parts["accuracy"] == 1 and not rollout.completion.is_truncated
    ]
    student = load_policy(recipe.model)
    sft.fit(
        SFTRecipe(
            kind="sft",
            seed=recipe.seed,
            data=Path("-"),
            sft=SFTSettings(num_epochs=2, examples_per_step=64),
            optimizer=OptimizerSettings(lr=recipe.optimizer.lr, schedule="cosine"),
        ),
        student,
        right,
    )
    measured = bench.measure(bench.sampler(student))
    return {"num_examples": len(right)} | {name: measured[name] for name in DIFFICULTIES}


def measure_without_checking(bench: Bench, policy: Policy) -> Figures:
    """The figures when the words that send the writer back can't be drawn: does the checking do the work?"""
    sampler = bench.sampler(policy)
    banned = {sampler.template.tokenizer.encode(words.wait, add_special_tokens=False)[0] for words in WORDS.values()}
    spec = replace(sampler.sampling, banned_token_ids=tuple(sorted(banned)))
    return bench.measure(replace(sampler, sampling=spec))


def demo_figures(before: Figures, after: Figures, rivals: Figures) -> Figures:
    """Everything as `--json` reports it."""
    return {
        "before": before["trained"],
        "after": after["trained"],
        "harder": {"before": before["harder"], "after": after["harder"]},
        "search": {"before": before["search"], "after": after["search"]},
        "rivals": rivals,
    }


def show(figures: Figures, console: Console) -> None:
    """Print the before/after table, the rivals beside it."""
    table = Table("", "trained difficulty", "harder", title="held-out pass@1, temperature 1")
    harder, rivals = figures["harder"], figures["rivals"]
    table.add_row("base", _percent(figures["before"]), _percent(harder["before"]))
    best, filtered, at_16 = rivals["best_style"], rivals["filtered_sft"], rivals["pass_at_16"]
    table.add_row(f"base, best style ({best['best']})", _percent(best["trained"]), _percent(best["harder"]))
    table.add_row("base, SFT on own right samples", _percent(filtered["trained"]), _percent(filtered["harder"]))
    table.add_row("R1-Zero", _percent(figures["after"]), _percent(harder["after"]), style="bold")
    unchecked = figures["without_checking"]
    table.add_row("R1-Zero, may not say 'wait'", _percent(unchecked["trained"]), _percent(unchecked["harder"]))
    table.add_row("base, pass@16", *(f"{at_16[name]['pass_at_k']:.1%}" for name in DIFFICULTIES))
    console.print(table)
    before, after = figures["search"]["before"], figures["search"]["after"]
    for name, label in (("mean_completion_tokens", "tokens"), ("reflections_per_completion", "reflective words")):
        console.print(
            f"search problems, {label} a completion: {before[name]:.1f} -> {after[name]:.1f}", highlight=False
        )
    mixed = figures["before"]["mixed_language_share"], figures["after"]["mixed_language_share"]
    console.print(f"reasons in the other language: {mixed[0]:.0%} -> {mixed[1]:.0%}", highlight=False)


def _percent(figures: Figures) -> str:
    return f"{figures['pass_at_1']:.1%} ±{figures['pass_at_1_stderr']:.1%}"


def write_figures(figures: Figures, json_path: str | None) -> None:
    """Write one JSON object to a file, or to standard output for `-`."""
    if json_path == "-":
        print(json.dumps(plain(figures)))
    elif json_path:
        Path(json_path).write_text(json.dumps(plain(figures), indent=2) + "\n")
