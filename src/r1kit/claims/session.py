"""Runs claims: for each seed its stages once, then claim after claim; what is done with the same settings is kept.

RUN/seed-N/…               a pipeline's folder, with the claims' further stages under `claims/`
RUN/seed-N/evaluation/…    each model on each test set
RUN/seed-N/claims/a.json   a claim's figures, written when it is judged

Processes may share the folder, each with seeds of its own.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.claims.claim import Claim, Evidence, shown
from r1kit.claims.gathering import Gathering
from r1kit.claims.results import collect, read_claim, show_results, without_seeds
from r1kit.claims.stages import MakePlan, SeedPlan, plan_seed
from r1kit.claims.statements import chosen
from r1kit.config.claims import ClaimsRecipe
from r1kit.errors import Interrupted, R1Error, RunError
from r1kit.insight.overview import duration
from r1kit.run import differences, disk_errors, plain, write_whole
from r1kit.stage_plan import State
from r1kit.stage_runner import WHOLE, PipelineRun, Train


def run_claims(
    recipe: ClaimsRecipe, folder: Path, *, make_plan: MakePlan, train: Train, resume: bool, console: Console
) -> None:
    """Every chosen claim for every seed that is not judged yet under these settings, then all results.

    A claim whose stages fail stops no other; when all else is done, RunError names it. Raises RecipeError before
    anything begins for settings that make no stage, and RunError for a folder that holds such a run where `resume` is
    off, or none where it is on.
    """
    plans = [plan_seed(recipe, seed, folder, make_plan) for seed in recipe.seeds]
    begun = [has_begun(seed_plan) for seed_plan in plans]
    if not resume and any(begun):
        raise RunError(f"{plans[begun.index(True)].folder} already holds a run; go on with --resume")
    if resume and not any(folder.glob("seed-*")):
        raise RunError(f"{folder} holds no run to resume")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    for seed_plan, is_begun in zip(plans, begun, strict=True):
        try:
            failed += run_seed(seed_plan, train=train, resume=is_begun, console=console)
        except Interrupted as error:
            raise Interrupted(
                f"interrupted in seed {seed_plan.seed}; everything is saved, go on with --run {folder} --resume"
            ) from error
    show_results(collect(recipe, folder, expected_settings(plans[0], console), console), console)
    console.print(f"results: {folder / 'results.json'}, {folder / 'results.md'}", highlight=False, soft_wrap=True)
    if failed:
        raise RunError(f"{len(failed)} not judged: {'; '.join(failed)}; try again with --run {folder} --resume")


def has_begun(seed_plan: SeedPlan) -> bool:
    """True where something of a seed lies in its folder."""
    is_known = (seed_plan.folder / "pipeline.json").is_file()
    return is_known or any(stage.state is not State.MISSING for stage in seed_plan.plan.stages)


def run_seed(seed_plan: SeedPlan, *, train: Train, resume: bool, console: Console) -> list[str]:
    """All chosen claims of one seed, in a folder that no other process works in; returns what failed, and why."""
    failed: list[str] = []
    with PipelineRun(
        seed_plan.plan, seed_plan.pipeline, cut=WHOLE, resume=resume, replaces_stale=console
    ) as pipeline_run:
        session = SeedSession(seed_plan, pipeline_run, train, console)
        expected = expected_settings(seed_plan, console)
        for claim in chosen(seed_plan.recipe):
            try:
                session.judge(claim)
            except Interrupted:
                raise
            except R1Error as error:
                failed.append(f"claim {claim.name}, seed {seed_plan.seed}: {error}")
                console.print(f"{failed[-1]}; it is not judged", highlight=False, soft_wrap=True)
            collect(seed_plan.recipe, seed_plan.folder.parent, expected, Console(quiet=True))
    return failed


def expected_settings(seed_plan: SeedPlan, console: Console) -> dict[str, Any]:
    """The settings that all seeds of each claim should have been judged by, seeds apart."""
    gathering = Gathering(seed_plan, console)
    return {claim.name: without_seeds(gathering.settings_of(claim)) for claim in seed_plan.possible_claims()}


@dataclass(frozen=True, slots=True)
class SeedSession:
    """One seed while its claims are judged."""

    seed_plan: SeedPlan
    pipeline_run: PipelineRun
    train: Train
    console: Console

    def judge(self, claim: Claim) -> None:
        """Make what a claim needs, measure it, and write its file; say so where that is done already."""
        path = self.seed_plan.folder / "claims" / f"{claim.name}.json"
        gathering = Gathering(self.seed_plan, self.console)
        settings = gathering.settings_of(claim)
        row = read_claim(path, self.console)
        if row is not None and (changed := differences(row["settings"], settings)):
            told = f"claim {claim.name}, seed {self.seed_plan.seed}: {changed[0]} has changed; it is judged again"
            self.console.print(told, highlight=False, soft_wrap=True)
            row = None
        if row is None or not self._is_made(claim):
            self.pipeline_run.run_stages(self.train, self.console, self.seed_plan.stages_for(claim))
            evidence, seconds = gathering.evidence_for(claim)
            row = self._judged(claim, evidence, seconds) | {"settings": settings}
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, json.dumps(plain(row), indent=1, ensure_ascii=False) + "\n")
        self.console.print(line_of(row), highlight=False, soft_wrap=True)

    def _is_made(self, claim: Claim) -> bool:
        """True where every stage that a claim is made from is finished."""
        names = self.seed_plan.stages_for(claim)
        return all(stage.state is State.DONE for stage in self.seed_plan.plan.stages if stage.name in names)

    def _judged(self, claim: Claim, evidence: Evidence, seconds: float) -> dict[str, Any]:
        figures = claim.figures(evidence)
        own = own_stages(self.seed_plan, claim)
        spent = self.pipeline_run.seconds
        names = self.seed_plan.stages_for(claim)
        return {
            "claim": claim.name,
            "seed": self.seed_plan.seed,
            "figures": figures,
            "holds": bool(claim.holds(figures)),
            "seconds": {
                "own": {name: spent[name] for name in names if name in own and name in spent},
                "shared": {name: spent[name] for name in names if name not in own and name in spent},
                "measuring": seconds,
            },
            "tests": {
                test: {"n": next(iter(found.values()))["n"], "k": next(iter(found.values()))["k"]}
                for test, found in evidence.models.items()
            },
        }


def own_stages(seed_plan: SeedPlan, claim: Claim) -> Sequence[str]:
    """The stages that only this claim is made from, whichever are chosen."""
    uses = Counter(name for one in seed_plan.possible_claims() for name in seed_plan.stages_for(one))
    return [name for name in seed_plan.stages_for(claim) if uses[name] == 1]


def line_of(row: dict[str, Any]) -> str:
    """A judged claim of one seed in one line."""
    figures = ", ".join(f"{name.replace('_', ' ')} {shown(name, value)}" for name, value in row["figures"].items())
    verdict = "holds" if row["holds"] else "does not hold"
    own = duration(sum(row["seconds"]["own"].values()) + row["seconds"]["measuring"])
    return f"claim {row['claim']}, seed {row['seed']}: {verdict}: {figures} ({own} of its own)"
