"""Rejection sampling: a model's own completions, kept where they are right and read well, as data for fine-tuning.

The cold start from R1-Zero's samples (arXiv:2501.12948v2, B.3.2) and the data of R1's third stage (B.3.3).

samples.jsonl   everything that was drawn (see stages.candidates)
answers.jsonl   what judges and rewriting models said (see stages.asking)
traces.jsonl    what is left, rewritten and mixed with general examples: the input of fine-tuning
funnel.json     what each filter kept and dropped, and the paper's table 5
done.json       stands there when all of it is done
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.config.rejection import RejectionRecipe
from r1kit.config.rollouts import RewardSettings
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.rollouts import Sampler
from r1kit.errors import DataError, Interrupted
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.loading import load_policy
from r1kit.recipe import Recipe, dump_recipe
from r1kit.rewards.verifiers import find_verifier
from r1kit.run import Run, write_whole
from r1kit.stages.asking import Asking
from r1kit.stages.candidates import Candidate, Draw, draw_candidates, read_candidates
from r1kit.stages.filters import balanced, few_per_problem, filters_of, sift, solve_rates, without_duplicates
from r1kit.stages.funnel import Funnel, domain_rows, domain_table
from r1kit.stages.grading import graded, grades_of
from r1kit.stages.rewriting import Rewriter
from r1kit.stages.traces import Trace, mixed, read_general, trace_of
from r1kit.tasks import sample_problems
from r1kit.tasks.source import verifiers_of

TRACES, FUNNEL, DONE = "traces.jsonl", "funnel.json", "done.json"
AFTERWARDS = ("filters.", "rewriting.", "general.", "judge.")
"""Sections that say what becomes of completions once they are drawn: they may change between runs of one folder."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """What is left of the completions, and what became of the others."""

    traces: list[Trace]
    funnel: Funnel


def run_rejection(recipe: RejectionRecipe, folder: Path, *, resume: bool, console: Console) -> None:
    """Draw, filter, rewrite and mix in a folder, from the start or from where it stopped.

    Raises DataError where nothing is left, with the filter that took the most and its setting; the completions stay,
    and a changed setting is tried on them with `resume`. Raises Interrupted, with everything saved, where asked to
    stop.
    """
    for verifier in verifiers_of(recipe.tasks):
        find_verifier(verifier)
    general = read_general(recipe.general.path) if recipe.general else []
    draw = make_draw(recipe)
    with Run(folder, recipe, resume=resume, changeable=AFTERWARDS) as run:
        if is_done(run.folder, recipe):
            console.print(f"these traces are complete: {run.folder / TRACES}", highlight=False)
            return
        draw_candidates(draw, run, console)
        if run.stop_requested:
            raise Interrupted(f"interrupted; everything is saved, go on with --run {run.folder} --resume")
        found = sifted(recipe, draw, Asking(run, console))
        refuse_nothing(found, run)
        traces = mixed(
            found.traces, general, recipe.general.ratio if recipe.general else 0.0, seed=_seed(recipe, "mix")
        )
        write_traces(recipe, traces, found.funnel, draw, run, console)


def make_draw(recipe: RejectionRecipe) -> Draw:
    """The model, what asks it, and the problems that it is asked."""
    policy = load_policy(recipe.model)
    template = ChatTemplate.of(policy, recipe.template)
    problems = sample_problems(recipe.tasks, recipe.num_problems, seed=_seed(recipe, "problems"), split="train")
    template.lint(problems[0].messages or problems[0].prompt)
    sampler = Sampler(
        engine=NativeEngine(policy, max_sequences=recipe.run.max_sequences),
        template=template,
        sampling=template.with_stops(recipe.sampling.spec()),
        rewards=RewardSettings(),
    )
    draw = Draw(recipe, policy, sampler, problems)
    draw.refuse_long_prompts()
    return draw


def sifted(recipe: RejectionRecipe, draw: Draw, asking: Asking) -> Sifted:
    """What the filters leave of the completions in a run's folder, rewritten."""
    settings, funnel, folder = recipe.filters, Funnel(), asking.run.folder
    grades = grades_of(read_candidates(folder, draw), recipe.judge, asking, seed=_seed(recipe, "judge"))

    def judged() -> Iterator[Candidate]:
        return (graded(candidate, grades) for candidate in read_candidates(folder, draw))

    rates = solve_rates(judged())
    passed = sift(judged(), filters_of(settings), funnel)
    unique = without_duplicates(list(passed), funnel)
    few = few_per_problem(unique, settings.max_per_problem, seed=_seed(recipe, "few"), funnel=funnel)
    even = balanced(few, settings.balance, rates, seed=_seed(recipe, "balance"), funnel=funnel)
    texts = Rewriter(recipe, asking).rewritten(even, funnel)
    return Sifted([trace_of(c.problem, text, id_=c.id, source=f"rejection/{c.route}") for c, text in texts], funnel)


def refuse_nothing(found: Sifted, run: Run) -> None:
    """Raise DataError where no completion is left."""
    if not found.traces:
        worst = found.funnel.worst
        raise DataError(
            f"nothing is left of {found.funnel.drawn:,} completions: {worst!r} dropped {found.funnel.dropped[worst]:,} "
            f"(its setting: {found.funnel.knobs[worst]}); they stay in {run.folder}, and settings of filters and "
            "rewriting can be changed with --resume"
        )


def write_traces(
    recipe: RejectionRecipe, traces: Sequence[Trace], funnel: Funnel, draw: Draw, run: Run, console: Console
) -> None:
    """Write the traces and their figures, and show the figures."""
    tokens = [len(draw.policy.tokenizer.encode(trace.completion, add_special_tokens=False)) for trace in traces]
    domains = domain_rows(traces, tokens)
    figures = {"drawn": funnel.drawn, "filters": funnel.rows(), "domains": domains}
    write_whole(run.folder / TRACES, "".join(_line(trace.row()) for trace in traces))
    write_whole(run.folder / FUNNEL, json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    write_whole(run.folder / DONE, json.dumps({"traces": len(traces), "recipe": digest(recipe)}) + "\n")
    console.print(funnel.table())
    console.print(domain_table(domains))
    num_general = sum(trace.domain == "general" for trace in traces)
    if recipe.general and num_general * recipe.general.ratio < (len(traces) - num_general) - recipe.general.ratio:
        console.print(f"only {num_general:,} general examples were there; general.ratio asks for more", highlight=False)
    console.print(f"{len(traces):,} traces: {run.folder / TRACES}", highlight=False, soft_wrap=True)


def is_done(folder: Path, recipe: Recipe) -> bool:
    """True where the folder holds what this very recipe makes."""
    path = folder / DONE
    return path.is_file() and json.loads(path.read_text("utf-8"))["recipe"] == digest(recipe)


def digest(recipe: Recipe) -> str:
    """Names all settings that what a recipe makes depends on."""
    settings = {name: value for name, value in dump_recipe(recipe).items() if name != "run"}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _seed(recipe: RejectionRecipe, what: str) -> str:
    return f"{recipe.seed}/rejection/{what}"


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
