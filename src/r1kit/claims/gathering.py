"""What is known of a seed's models and stages: each model measured once for all claims, and what runs have logged."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from r1kit.claims.claim import Claim, Evidence, Row
from r1kit.claims.stages import SeedPlan
from r1kit.config.checkpoints import CheckpointEvaluation
from r1kit.evaluation.checkpoints import measured, problem_sets
from r1kit.recipe import dump_recipe
from r1kit.run import read_rows
from r1kit.stages.candidates import SAMPLES
from r1kit.stages.compute import fine_tuning_tokens
from r1kit.types import Problem

MEASURED = "evaluation"


@dataclass(slots=True)
class Gathering:
    """What is known of one seed; measures what is not."""

    seed_plan: SeedPlan
    console: Console
    _problems: dict[str, dict[str, list[Problem]]] = field(default_factory=dict)

    def evidence_for(self, claim: Claim) -> tuple[Evidence, float]:
        """All that a claim wants, and the seconds that measuring took, when it was done."""
        wanted = claim.wanted(self.seed_plan.recipe)
        models: dict[str, dict[str, Row]] = {}
        seconds = 0.0
        for test, names in wanted.models.items():
            for name in names:
                row = self._row(test, name)
                models.setdefault(test, {})[name] = row["general" if test == "general" else "reasoning"]
                seconds += row["seconds"]
        courses = {stage: self._rows(stage) for stage in wanted.courses}
        spent = {stage: self._tokens(stage) for stage in wanted.spent}
        return Evidence(models=models, courses=courses, spent=spent), seconds

    def settings_of(self, claim: Claim) -> dict[str, Any]:
        """All that a claim's figures depend on, as plain values: its stages' recipes, and how models are measured.

        Paths inside the seed's folder are written from there, so that the folder may be moved.
        """
        wanted = claim.wanted(self.seed_plan.recipe)
        stages = {stage.name: stage.recipe for stage in self.seed_plan.plan.stages}
        recipes = {name: dump_recipe(stages[name]) for name in self.seed_plan.stages_for(claim)}
        for table in recipes.values():
            table.pop("run", None)
        models = {one.name: one.model.path for one in self.seed_plan.plan.checkpoints}
        found = {
            "rule": claim.rule,
            "stages": recipes,
            "tests": {test: json.loads(self._evaluation(test).model_dump_json()) for test in wanted.models},
            "models": {test: {name: models[name] for name in names} for test, names in wanted.models.items()},
        }
        inside = json.dumps(str(self.seed_plan.folder))[1:-1]
        return json.loads(json.dumps(found, sort_keys=True).replace(inside, "."))

    def _row(self, test: str, name: str) -> dict[str, Any]:
        checkpoint = next(one for one in self.seed_plan.plan.checkpoints if one.name == name)
        folder = self.seed_plan.folder / MEASURED / test
        evaluation, seed = self._evaluation(test), self.seed_plan.pipeline.seed
        if test not in self._problems:
            self._problems[test] = problem_sets(evaluation, (), seed=seed)
        row, is_new = measured(checkpoint, evaluation, self._problems[test], folder, seed=seed)
        if is_new:
            self.console.print(f"{name} measured on {test} problems in {row['seconds']:.0f} s", highlight=False)
        return row

    def _evaluation(self, test: str) -> CheckpointEvaluation:
        """How models are measured on a test set, by the pipeline's own sampling."""
        recipe = self.seed_plan.recipe
        own, sizes = recipe.pipeline.evaluation, recipe.sizes
        trained = own.tasks or recipe.pipeline.tasks
        changes: dict[str, Any] = {
            "trained": _reasoning(trained, sizes.num_problems, sizes.samples_per_problem),
            "general": {
                "tasks": (),
                "general": own.general,
                "num_general": sizes.num_general,
                "samples_per_problem": sizes.general_samples,
            },
            "harder": _reasoning(own.harder, sizes.num_harder, sizes.votes),
            "ladder": _reasoning(recipe.ladder or (*trained, *own.harder), sizes.num_ladder, sizes.ladder_samples),
        }[test]
        return own.model_copy(update={"harder": (), "general": (), **changes})

    def _rows(self, stage: str) -> list[dict[str, Any]]:
        return read_rows(self.seed_plan.folder / stage / "metrics.jsonl")

    def _tokens(self, stage: str) -> int:
        """Tokens that a stage spent: generated and trained in RL, trained in fine-tuning, generated for traces."""
        kind = next(one.recipe.kind for one in self.seed_plan.plan.stages if one.name == stage)
        folder = self.seed_plan.folder / stage
        if kind == "sft":
            return fine_tuning_tokens(folder)
        if kind == "zero":
            return sum(row.get("completion_tokens", 0) + row.get("trained_tokens", 0) for row in self._rows(stage))
        rows = read_rows(folder / SAMPLES)
        return sum(int(completion["num_tokens"]) for row in rows for completion in row["completions"])


def _reasoning(tasks: Sequence[Any], num_problems: int, samples: int) -> dict[str, Any]:
    return {"tasks": tuple(tasks), "num_problems": num_problems, "samples_per_problem": samples}
