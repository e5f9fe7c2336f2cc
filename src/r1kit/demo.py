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
from r1kit.config.recipes import SFTSettings
from r1kit.engine.rollouts import Sampler
from r1kit.errors import Interrupted, RunError
from r1kit.evaluation.evaluate import drawn_by, evaluate, summarise
from r1kit.insight.curves import learning_curves
from r1kit.insight.report import write_report
from r1kit.models.loading import load_policy
from r1kit.models.policy import Policy
from r1kit.recipe import ZeroRecipe, dump_recipe, load_recipe
from r1kit.run import disk_errors, plain, write_whole
from r1kit.stages import sft
from r1kit.stages.preparation import make_sampler
from r1kit.stages.single_run import train_zero
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
        groups["search"] = [group for group in groups["trained"] if group.problem.verifier in SEARCH_FAMILIES]
        return {name: summarise(found) | drawn_by(sampler) for name, found in groups.items()}


def run_demo(
    folder: Path, *, seed: int, resume: bool, explain: bool, json_path: str | None, console: Console
) -> Figures:
    """Run every part, print the table, write `report.html` and the figures; returns them."""
    if json_path not in (None, "-") and not Path(json_path).absolute().parent.is_dir():
        raise RunError(f"--json {json_path}: there is no folder {Path(json_path).parent}")
    recipe = demo_recipe(seed)
    bench = Bench(recipe)
    parts = Parts(folder, recipe, console, resume=resume)
    try:
        figures = measure_all(parts, bench, folder, explain=explain, console=console)
    except Interrupted as error:
        raise Interrupted(
            f"interrupted; all is saved, go on with: r1 demo --seed {seed} --run {folder} --resume"
        ) from error
    with disk_errors(folder):
        (folder / "learning_curve.svg").write_text(learning_curves(folder / "zero"), "utf-8")
        write_report([folder], folder / "report.html")
        write_figures(figures, json_path)
    show(figures, console)
    console.print(f"report: {folder / 'report.html'}\nmodel:  {folder / 'zero' / 'final'}", highlight=False)
    return figures


def measure_all(parts: "Parts", bench: Bench, folder: Path, *, explain: bool, console: Console) -> Figures:
    """The figures of all parts; those that are done are taken as they are."""
    recipe = bench.recipe
    base = load_policy(recipe.model)
    before = parts.once("before", lambda: bench.measure(bench.sampler(base)))
    styles = parts.once("best_style", lambda: measure_styles(bench, base))
    at_16 = parts.once("pass_at_16", lambda: measure_pass_at_16(bench, base))
    training = folder / "zero"
    parts.once("training", lambda: run_training(recipe, training, explain=explain, console=console))
    filtered = parts.once("filtered_sft", lambda: measure_filtered_sft(bench, base))
    trained = load_policy(ModelSettings(path=str(training / "final")))
    after = parts.once("after", lambda: bench.measure(bench.sampler(trained)))
    unchecked = parts.once("without_checking", lambda: measure_without_checking(bench, trained))
    figures = demo_figures(before, after, {"best_style": styles, "filtered_sft": filtered, "pass_at_16": at_16})
    return figures | {
        "without_checking": unchecked,
        "seed": recipe.seed,
        "seconds": parts.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }


class Parts:
    """Parts of the demo that are done, on disk."""

    def __init__(self, folder: Path, recipe: ZeroRecipe, console: Console, *, resume: bool) -> None:
        """Start in a new folder, or take up what an earlier run of the same recipe in it has finished.

        Raises RunError where the folder holds a demo and `resume` is off, holds none and it is on, or another recipe's.
        """
        self._path, self._console = folder / "demo.json", console
        described = dump_recipe(recipe)
        if self._path.is_file() != resume:
            what = (
                "already holds a demo; go on with --resume, or name another"
                if not resume
                else "holds no demo to resume"
            )
            raise RunError(f"{folder} {what}")
        content: Figures = json.loads(self._path.read_text()) if resume else {"recipe": described, "parts": {}}
        if content["recipe"] != described:
            raise RunError(f"{folder} was made with another recipe or seed ({content['recipe']['seed']})")
        self._content = content
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(content))

    def once(self, name: str, measure: Callable[[], Figures]) -> Figures:
        """The part's figures: from disk, or measured now and written down."""
        done = self._content["parts"]
        if name not in done:
            started = time.perf_counter()
            figures = measure()
            done[name] = {"figures": figures, "seconds": time.perf_counter() - started}
            with disk_errors(self._path):
                write_whole(self._path, json.dumps(plain(self._content)))
            self._console.print(f"{name}: done in {done[name]['seconds']:.1f} s", highlight=False)
        return done[name]["figures"]

    @property
    def seconds(self) -> float:
        """Seconds that all parts took; of a part that was interrupted, only what came after."""
        return sum(part["seconds"] for part in self._content["parts"].values())


def run_training(recipe: ZeroRecipe, folder: Path, *, explain: bool, console: Console) -> Figures:
    """R1-Zero in `folder`, from its last checkpoint where it was interrupted; its figures are in its own files."""
    train_zero(recipe, folder, resume=(folder / "recipe.json").is_file(), explain=explain, console=console)
    return {}


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
    best = {name: max(STYLES, key=lambda style: table[style][name]["pass_at_1"]) for name in DIFFICULTIES}
    return {"styles": table, "best": best} | {name: table[best[name]][name] for name in DIFFICULTIES}


def _forced(sampler: Sampler, problems: Sequence[Problem], style: str) -> Figures:
    """The figures over all problems when every completion begins as `style` does."""
    by_opening: dict[str, list[Problem]] = {}
    for problem in problems:
        by_opening.setdefault("<think>" + opening(problem, style), []).append(problem)
    groups: list[Group] = []
    for text, chosen in by_opening.items():
        groups += sampler.groups(chosen, 1, seed="demo", opening=text)
    return summarise(groups) | drawn_by(sampler)


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
    student = load_policy(recipe.model, trains=True)
    sft.fit(
        student,
        right,
        sft=SFTSettings(num_epochs=2, examples_per_step=64),
        optimizer=OptimizerSettings(lr=recipe.optimizer.lr, schedule="cosine"),
        seed=recipe.seed,
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
    table = Table(
        "", "trained difficulty", "harder", title=f"held-out pass@1 (n = {figures['before']['n']}), temperature 1"
    )
    harder, rivals = figures["harder"], figures["rivals"]
    table.add_row("base", _percent(figures["before"]), _percent(harder["before"]))
    best, filtered, at_16 = rivals["best_style"], rivals["filtered_sft"], rivals["pass_at_16"]
    table.add_row("base, best style", _percent(best["trained"]), _percent(best["harder"]))
    table.add_row("base, SFT on own right samples", _percent(filtered["trained"]), _percent(filtered["harder"]))
    table.add_row("R1-Zero", _percent(figures["after"]), _percent(harder["after"]), style="bold")
    unchecked = figures["without_checking"]
    table.add_row("R1-Zero, may not say 'wait'", _percent(unchecked["trained"]), _percent(unchecked["harder"]))
    table.add_row(
        f"base, pass@16 (n = {at_16['trained']['n']})", *(f"{at_16[name]['pass_at_k']:.1%}" for name in DIFFICULTIES)
    )
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
