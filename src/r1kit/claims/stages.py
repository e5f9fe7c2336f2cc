"""What a seed's claims are made from: the pipeline's own stages, and a few more with changed settings."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1kit.claims.claim import Claim, Wanted
from r1kit.claims.statements import CLAIMS, GRPO, TOO_LONG, WITH, WITHOUT, chosen, ppo
from r1kit.config.claims import Changes, ClaimsRecipe
from r1kit.config.distill import MADE_BEFORE
from r1kit.config.r1 import R1Recipe
from r1kit.config.sections import overlaid
from r1kit.errors import RecipeError
from r1kit.recipe import StageRecipe, ZeroRecipe, dump_recipe, parse_recipe
from r1kit.stage_plan import Plan, Product

MakePlan = Callable[[R1Recipe, Path], Plan]
LAST = "4-all-scenarios-rl"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPlan:
    """One seed's pipeline with the further stages of all claims, in a folder of its own."""

    seed: int
    recipe: ClaimsRecipe
    pipeline: R1Recipe
    plan: Plan

    @property
    def folder(self) -> Path:
        """Where all of the seed lies."""
        return self.plan.folder

    def stages_for(self, claim: Claim) -> list[str]:
        """The stages that a claim is made from, however indirectly, in order.

        Raises RecipeError where the pipeline has no such model or stage, or nothing to measure models on.
        """
        wanted = claim.wanted(self.recipe)
        for test in ("harder", "general"):
            if test in wanted.models and not getattr(self.pipeline.evaluation, test):
                raise RecipeError(f"claim {claim.name!r} needs {test} problems: name pipeline.evaluation.{test}")
        names = {*wanted.courses, *wanted.spent, *self._makers_of(claim, wanted)}
        if unknown := names - {stage.name for stage in self.plan.stages}:
            raise RecipeError(f"claim {claim.name!r} needs the stage {min(unknown)}, which the pipeline does not have")
        for stage in reversed(self.plan.stages):
            if stage.name in names:
                names |= set(stage.needs)
        return [stage.name for stage in self.plan.stages if stage.name in names]

    def possible_claims(self) -> list[Claim]:
        """The claims that the pipeline allows, chosen or not."""
        return [claim for claim in CLAIMS.values() if self._allows(claim)]

    def _allows(self, claim: Claim) -> bool:
        try:
            self.stages_for(claim)
        except RecipeError:
            return False
        return True

    def _makers_of(self, claim: Claim, wanted: Wanted) -> Iterable[str]:
        """The stages that make the models; nothing for a model that is given."""
        models = {checkpoint.name: checkpoint.model.path for checkpoint in self.plan.checkpoints}
        for name in (name for names in wanted.models.values() for name in names):
            if name not in models:
                raise RecipeError(
                    f"claim {claim.name!r} needs the model {name!r}, which the pipeline does not make; it has "
                    f"{', '.join(models)}"
                )
            yield from (stage.name for stage in self.plan.stages if stage.product == models[name])


def plan_seed(recipe: ClaimsRecipe, seed: int, folder: Path, make_plan: MakePlan) -> SeedPlan:
    """A seed's plan: the pipeline's stages, then those of every claim that the pipeline allows.

    Stages of claims that are not chosen are planned too, so that one that lies there is known to be out of date.
    Raises RecipeError for changes that make no recipe, and for chosen claims that the pipeline can't bear out.
    """
    pipeline = recipe.at_seed(seed)
    plan = make_plan(pipeline, (folder / f"seed-{seed}").absolute())
    _add_language(recipe, pipeline, plan)
    _add_ablation(recipe, pipeline, plan)
    _add_hacking(recipe, pipeline, plan)
    found = SeedPlan(seed=seed, recipe=recipe, pipeline=pipeline, plan=plan)
    for claim in chosen(recipe):
        found.stages_for(claim)
    return found


def _add_language(recipe: ClaimsRecipe, pipeline: R1Recipe, plan: Plan) -> None:
    start = _model(plan, recipe.language.start)
    if start is None:
        return
    rl = overlaid(dump_recipe(pipeline.reasoning_rl), recipe.language.rl)
    for folder, name, changes in (("with", WITH, {}), ("without", WITHOUT, {"rewards": {"language": 0.0}})):
        where = f"claims/b/{folder}"
        stage = _changed(_from_before(rl), changes, f"language.rl ({where})")
        if isinstance(stage, ZeroRecipe) and folder == "with" and not stage.rewards.language:
            raise RecipeError("claim 'b' compares with and without: reasoning_rl pays no language reward")
        plan.add(where, stage, name, model=start)


def _add_ablation(recipe: ClaimsRecipe, pipeline: R1Recipe, plan: Plan) -> None:
    if pipeline.zero_training is None:
        return
    table = overlaid(dump_recipe(pipeline.zero_training), recipe.ablation.rl)
    if recipe.ablation.rl:
        plan.add("claims/g/grpo", _changed(table, {}, "ablation.rl"), GRPO)
    for lam in sorted(recipe.ablation.lambdas):
        advantage = {"advantage": {**recipe.ablation.gae, "kind": "gae", "lambda": lam}}
        plan.add(f"claims/g/ppo-{lam}", _changed(table, advantage, "ablation"), ppo(lam))


def _add_hacking(recipe: ClaimsRecipe, pipeline: R1Recipe, plan: Plan) -> None:
    last, changes, start = pipeline.all_scenarios_rl, recipe.hacking, _model(plan, recipe.hacking.start)
    if last is None or start is None:
        return
    rewards = {"preference__helpfulness": f"{LAST}/helpfulness", "preference__safety": f"{LAST}/safety"}
    products = {place: _made_by(plan, stage) for place, stage in rewards.items()}
    if changes.general or changes.helpfulness:
        made = _made_by(plan, "general-data")
        if changes.general:
            if pipeline.general is None:
                raise RecipeError("hacking.general changes the pipeline's [general], and it has none")
            data = _changed(dump_recipe(pipeline.general), changes.general, "hacking.general")
            made = plan.add("claims/h/general-data", data, "other preferences")
        table = overlaid(dump_recipe(last.helpfulness), changes.helpfulness)
        model = _changed(table, {}, "hacking.helpfulness")
        products["preference__helpfulness"] = plan.add(
            "claims/h/helpfulness", model, "another reward", model=start, data=made.file("pairs.jsonl")
        )
    rl = _changed(_from_before(overlaid(dump_recipe(last.rl), changes.rl)), {}, "hacking.rl")
    plan.add("claims/h/rl", rl, TOO_LONG, model=start, **products)


def _from_before(table: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's table whose model is the one that the plan puts there."""
    return overlaid(table, {"model": {"path": MADE_BEFORE}})


def _changed(table: Mapping[str, Any], changes: Changes, source: str) -> StageRecipe:
    """A recipe with changes; raise RecipeError, named by the section of the claims' recipe, where it is none."""
    found = parse_recipe(overlaid(table, changes), source=source)
    assert isinstance(found, StageRecipe)
    return found


def _model(plan: Plan, name: str) -> Product | None:
    """A model of the stage table, and the stage that makes it; None where there is none of the name."""
    found = next((one.model.path for one in plan.checkpoints if one.name == name), None)
    if found is None:
        return None
    return Product(found, next((stage.name for stage in plan.stages if stage.product == found), ""))


def _made_by(plan: Plan, name: str) -> Product:
    """What a stage of the plan makes; an empty path where it is not planned, and the recipe names something else."""
    found = next((stage.product for stage in plan.stages if stage.name == name), "")
    return Product(found, name if found else "")
