"""Whole runs: from a recipe to a trained model in a folder."""

from pathlib import Path

import torch
from rich.console import Console

from r1kit.config.rollouts import RewardSettings, SamplingSettings, TemplateSettings
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.rollouts import Sampler
from r1kit.errors import Interrupted, RecipeError
from r1kit.insight.console import TrainingConsole
from r1kit.insight.report import write_report
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.loading import load_policy
from r1kit.models.policy import Policy
from r1kit.recipe import PretrainRecipe, Recipe, SFTRecipe, ZeroRecipe
from r1kit.run import Run
from r1kit.stages import grpo
from r1kit.stages.pretrain import train_base
from r1kit.stages.sft import read_examples, train_sft
from r1kit.tasks import sample_problems, validate
from r1kit.training.checkpoint import Progress, latest_checkpoint, load_checkpoint
from r1kit.training.optimizer import Optimizer


def train(recipe: Recipe, folder: Path, *, resume: bool, explain: bool, console: Console) -> None:
    """Run a recipe in a folder, from the start or from its last checkpoint, to `final/`."""
    if recipe.run.num_threads:
        torch.set_num_threads(recipe.run.num_threads)
    if isinstance(recipe, ZeroRecipe):
        train_zero(recipe, folder, resume=resume, explain=explain, console=console)
    elif isinstance(recipe, PretrainRecipe):
        with Run(folder, recipe, resume=resume) as run:
            if not _is_complete(run, console):
                train_base(recipe, run, console)
                _stop_if_asked(run)
                _write_report(run, console)
    elif isinstance(recipe, SFTRecipe):
        policy = load_policy(recipe.model, trains=True)
        examples = read_examples(recipe.data, ChatTemplate(policy.tokenizer, recipe.template.kind))
        with Run(folder, recipe, resume=resume) as run:
            if not _is_complete(run, console):
                train_sft(recipe, policy, examples, run, console)
                _stop_if_asked(run)
                _write_report(run, console)


def train_zero(recipe: ZeroRecipe, folder: Path, *, resume: bool, explain: bool, console: Console) -> None:
    """R1-Zero: GRPO on a base model, rewarded by rules alone (arXiv:2501.12948, section 2.2)."""
    trainee = make_trainee(recipe)
    check_before_start(recipe, trainee)
    with Run(folder, recipe, resume=resume) as run:
        if _is_complete(run, console):
            return
        progress = resume_from(run, trainee) if resume else Progress(iterations_done=0, steps_done=0)
        run.cut_back(progress.iterations_done)
        with TrainingConsole(
            run,
            num_iterations=recipe.rollouts.num_iterations,
            max_new_tokens=recipe.sampling.max_new_tokens,
            explain=explain,
            console=console,
        ) as live:
            progress = grpo.train_grpo(recipe, trainee, progress, run, live.report)
            if not run.stop_requested:
                grpo.finish(recipe, trainee, progress, run, live.report)
        run.log_text(live.verdict)
        console.print(live.verdict, highlight=False)
        _stop_if_asked(run)
        console.print(f"model:  {run.final}", highlight=False)
        _write_report(run, console)


def make_trainee(recipe: ZeroRecipe) -> grpo.Trainee:
    """Policy, reference, optimizer and sampler of a recipe, before the first step."""
    policy = load_policy(recipe.model, trains=True)
    total_steps = recipe.rollouts.num_iterations * recipe.rollouts.steps_per_iteration
    return grpo.Trainee(
        policy=policy,
        reference=load_policy(recipe.model) if recipe.objective.kl_coef > 0 else None,
        optimizer=Optimizer(policy, recipe.optimizer, total_steps=total_steps),
        sampler=make_sampler(
            policy,
            recipe.sampling,
            template=recipe.template,
            rewards=recipe.rewards,
            max_sequences=recipe.run.max_sequences,
        ),
    )


def make_sampler(
    policy: Policy,
    sampling: SamplingSettings,
    *,
    template: TemplateSettings,
    rewards: RewardSettings,
    max_sequences: int,
) -> Sampler:
    """The embedded engine over a policy, with what turns problems into prompts and completions into scores."""
    return Sampler(
        engine=NativeEngine(policy, max_sequences=max_sequences),
        template=ChatTemplate(policy.tokenizer, template.kind),
        sampling=sampling.spec(),
        rewards=rewards,
    )


def check_before_start(recipe: ZeroRecipe, trainee: grpo.Trainee) -> None:
    """Refuse, before anything is written, a verifier that is wrong about its own golds and prompts that can't fit."""
    problems = sample_problems(recipe.tasks, recipe.rollouts.problems_per_round, seed="check", split="train")
    for tasks in (recipe.tasks, recipe.evaluation.harder):
        if tasks:
            problems += sample_problems(tasks, recipe.evaluation.num_problems, seed="check", split="held_out")
    validate(problems, seed="check")
    trainee.sampler.template.lint(problems[0].prompt)
    limit = getattr(trainee.policy.model.config, "max_position_embeddings", None)
    longest = max(len(trainee.sampler.template.prompt_token_ids(problem.prompt)) for problem in problems)
    if limit is not None and longest >= limit:
        raise RecipeError(f"prompts have up to {longest} tokens, but the model has {limit} positions")
    if limit is not None and longest + recipe.sampling.longest_completion > limit:
        raise RecipeError(
            f"sampling.max_new_tokens is {recipe.sampling.longest_completion} and prompts have up to {longest} tokens, "
            f"but the model has {limit} positions; lower max_new_tokens to {limit - longest} or less"
        )


def resume_from(run: Run, trainee: grpo.Trainee) -> Progress:
    """Set the trainee to the run's last checkpoint; from the start where there is none yet."""
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        return Progress(iterations_done=0, steps_done=0)
    progress = load_checkpoint(checkpoint, trainee.policy, trainee.optimizer, trainee.reference)
    trainee.sampler.engine.load_weights(trainee.policy, version=progress.iterations_done)
    return progress


def _is_complete(run: Run, console: Console) -> bool:
    if run.final.is_dir():
        console.print(f"this run is complete; the model is in {run.final}", highlight=False)
    return run.final.is_dir()


def _write_report(run: Run, console: Console) -> None:
    write_report([run.folder], run.folder / "report.html")
    console.print(f"report: {run.folder / 'report.html'}", highlight=False)


def _stop_if_asked(run: Run) -> None:
    if run.stop_requested:
        raise Interrupted(f"interrupted; everything is saved, go on with --run {run.folder} --resume")
