"""Whole runs: from a recipe to a trained model in a folder. R1 itself, from the base to its students, is `plan_r1`."""

from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from r1kit.claims.session import run_claims
from r1kit.config.claims import ClaimsRecipe
from r1kit.config.general_data import GeneralDataRecipe
from r1kit.config.preferences import PreferencesRecipe
from r1kit.config.rejection import RejectionRecipe
from r1kit.config.reward_model import RewardModelRecipe
from r1kit.evaluation.checkpoints import measure_checkpoints
from r1kit.insight.pipeline_report import write_pipeline_report
from r1kit.insight.stage_table import show_stage_table
from r1kit.recipe import DistillRecipe, PretrainRecipe, R1Recipe, Recipe, SFTRecipe, ZeroRecipe
from r1kit.stage_plan import Plan, Product
from r1kit.stage_runner import EVALUATION, WHOLE, Cut, PipelineRun
from r1kit.stages.general_data import run_general_data
from r1kit.stages.preferences import run_preferences
from r1kit.stages.rejection import run_rejection
from r1kit.stages.reward_model import run_reward_model
from r1kit.stages.single_run import run_pretrain, run_sft, train_zero


def plan_r1(recipe: R1Recipe, folder: Path) -> Plan:
    """DeepSeek-R1 from end to end (arXiv:2501.12948v2, section 3): every stage, and what it is made from."""
    plan, base, cold = Plan(folder), Product(recipe.model.path), recipe.cold_start
    plan.compare("base", base, recipe.model, recipe.base_template)
    zero = plan.add("0-zero", recipe.zero_training, "Zero", given=recipe.zero_given)
    traces = plan.add("1-cold-start/traces", cold.traces, "readable traces", model=zero, given=cold.data)
    dev1 = plan.add("1-cold-start/sft", cold.sft, "Dev1", data=traces)
    latest = dev2 = plan.add("2-reasoning-rl", recipe.reasoning_rl, "Dev2", model=dev1)
    made = plan.add("general-data", recipe.general, "general examples and preferences")
    if sft := recipe.sft:  # from the base again (section 2.3.3 of v1): Dev2 only writes what it learns from
        general = made.file("examples.jsonl")
        lessons = plan.add("3-sft/traces", sft.traces, "traces", model=dev2, general__path=general, given=sft.data)
        latest = plan.add("3-sft/sft", sft.sft, "Dev3", data=lessons)
    if last := recipe.all_scenarios_rl:
        pairs, marked, dev3 = made.file("pairs.jsonl"), made.file("safety.jsonl"), latest
        helpful = plan.add("4-all-scenarios-rl/helpfulness", last.helpfulness, "a reward", model=dev3, data=pairs)
        safe = plan.add("4-all-scenarios-rl/safety", last.safety, "a reward", model=dev3, data=marked)
        rewards = {"preference__helpfulness": helpful, "preference__safety": safe}
        latest = plan.add("4-all-scenarios-rl/rl", last.rl, "R1", model=dev3, **rewards)
    if recipe.distill:
        plan_distillation(recipe.distill, plan, teacher=latest)
    return plan


def plan_distillation(recipe: DistillRecipe, plan: Plan, teacher: Product) -> None:
    """Students, taught by fine-tuning alone, and what they are compared with (arXiv:2501.12948v2, section F.1)."""
    traces = plan.add("distill-traces", recipe.traces, "traces of the teacher", model=teacher, given=recipe.data)
    for student in recipe.students:
        base, name = Product(student.model.path), student.name
        plan.compare(name, base, student.model, student.sft.template)
        distilled = plan.add(f"distill-{name}", student.sft, f"{name}, distilled", data=traces)
        plan.add(f"rl-{name}", student.rl, f"{name}, RL alone", rollouts__equal_compute_to=distilled)
        plan.add(f"distill-{name}-then-rl", student.then_rl, f"{name}, distilled, then RL", model=distilled)


def plan_of(recipe: R1Recipe | DistillRecipe, folder: Path) -> Plan:
    """The plan of a recipe that has several stages, in a folder."""
    if isinstance(recipe, R1Recipe):
        return plan_r1(recipe, folder.absolute())
    plan = Plan(folder.absolute())
    plan_distillation(recipe, plan, Product(recipe.traces.model.path if recipe.traces else ""))
    return plan


def train(recipe: Recipe, folder: Path, *, resume: bool, explain: bool, console: Console, cut: Cut = WHOLE) -> None:
    """Run a recipe in a folder, from the start or where it stopped, to its end; of several stages, what `cut` says.

    Raises RecipeError where a recipe of a single stage is to be cut.
    """
    if recipe.run.num_threads:
        torch.set_num_threads(recipe.run.num_threads)
    if isinstance(recipe, R1Recipe | DistillRecipe):
        return run_pipeline(recipe, folder, cut=cut, resume=resume, explain=explain, console=console)
    cut.refuse_for(recipe)
    if isinstance(recipe, ClaimsRecipe):
        stage = partial(train_stage, explain=explain, console=console)
        run_claims(recipe, folder, make_plan=plan_r1, train=stage, resume=resume, console=console)
    elif isinstance(recipe, ZeroRecipe):
        train_zero(recipe, folder, resume=resume, explain=explain, console=console)
    elif isinstance(recipe, RewardModelRecipe):
        run_reward_model(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, PretrainRecipe):
        run_pretrain(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, GeneralDataRecipe):
        run_general_data(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, PreferencesRecipe):
        run_preferences(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, RejectionRecipe):
        run_rejection(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, SFTRecipe):
        run_sft(recipe, folder, resume=resume, console=console)


def run_pipeline(
    recipe: R1Recipe | DistillRecipe, folder: Path, *, cut: Cut, resume: bool, explain: bool, console: Console
) -> None:
    """Every stage that is not finished, then the evaluation of every checkpoint, then one report."""
    plan = plan_of(recipe, folder)
    with PipelineRun(plan, recipe, cut=cut, resume=resume) as run:
        run.run_stages(lambda *stage: train_stage(*stage, explain=explain, console=console), console)
        if not run.is_cut:
            run.timed(EVALUATION, lambda: measure_plan(recipe, plan, console))
            show_stage_table(run.folder, console)
        write_pipeline_report(run.folder)
        console.print(f"report: {run.folder / 'report.html'}", highlight=False)


def measure_plan(recipe: R1Recipe | DistillRecipe, plan: Plan, console: Console) -> None:
    """Every checkpoint of a plan on the same held-out problems."""
    folder, settings = plan.folder / EVALUATION, recipe.evaluation
    measure_checkpoints(settings, recipe.tasks, plan.checkpoints, folder, seed=recipe.seed, console=console)


def train_stage(recipe: Recipe, folder: Path, resume: bool, *, explain: bool, console: Console) -> None:
    """One stage of a pipeline."""
    train(recipe, folder, resume=resume, explain=explain, console=console)
