"""Whole runs: from a recipe to a trained model in a folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from r1kit.config.rejection import RejectionRecipe
from r1kit.config.reward_model import RewardModelRecipe
from r1kit.config.rollouts import RewardSettings, SamplingSettings, TemplateSettings
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.rollouts import Sampler
from r1kit.errors import DataError, Interrupted, RecipeError, VerifierError
from r1kit.insight.console import TrainingConsole
from r1kit.insight.report import write_report
from r1kit.insight.token_view import token_text
from r1kit.models.chat_template import ChatTemplate, end_at
from r1kit.models.loading import load_policy
from r1kit.models.policy import Policy
from r1kit.recipe import PretrainRecipe, Recipe, SFTRecipe, ZeroRecipe
from r1kit.rewards.audit import refuse_bad_rewards
from r1kit.rewards.combine import language_notes
from r1kit.rewards.judging import judge_answer
from r1kit.rewards.verifiers import find_verifier
from r1kit.run import Run
from r1kit.stages import grpo
from r1kit.stages.pretrain import train_base
from r1kit.stages.rejection import run_rejection
from r1kit.stages.reward_model import run_reward_model
from r1kit.stages.sft import read_examples, train_sft
from r1kit.stages.verdicts import VerdictJournal
from r1kit.tasks import FAMILIES, sample_problems, validate
from r1kit.tasks.rows import NEED_NO_GOLD
from r1kit.tasks.source import longest_problems, reports_of, verifiers_of
from r1kit.training.checkpoint import Progress, latest_checkpoint, load_checkpoint
from r1kit.training.optimizer import Optimizer
from r1kit.types import Problem, Verdict

LONGEST_CHECKED = 32
"""Of files, so many of the longest prompts are tokenised before a run begins."""


def train(recipe: Recipe, folder: Path, *, resume: bool, explain: bool, console: Console) -> None:
    """Run a recipe in a folder, from the start or from its last checkpoint, to `final/`."""
    if recipe.run.num_threads:
        torch.set_num_threads(recipe.run.num_threads)
    if isinstance(recipe, ZeroRecipe):
        train_zero(recipe, folder, resume=resume, explain=explain, console=console)
    elif isinstance(recipe, RewardModelRecipe):
        run_reward_model(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, PretrainRecipe):
        with Run(folder, recipe, resume=resume) as run:
            if not _is_complete(run, console):
                train_base(recipe, run, console)
                _stop_if_asked(run)
                _write_report(run, console)
    elif isinstance(recipe, RejectionRecipe):
        run_rejection(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, SFTRecipe):
        policy = load_policy(recipe.model, trains=True)
        template = ChatTemplate.of(policy, recipe.template)
        end_at(policy, template)
        examples = read_examples(recipe.data, template)
        with Run(folder, recipe, resume=resume) as run:
            if not _is_complete(run, console):
                if not resume:
                    run.log_text(f"the first example:\n{token_text(template, examples[0].row)}")
                train_sft(recipe, policy, examples, run, console)
                _stop_if_asked(run)
                _write_report(run, console)


def train_zero(recipe: ZeroRecipe, folder: Path, *, resume: bool, explain: bool, console: Console) -> None:
    """R1-Zero: GRPO on a base model, rewarded by rules alone (arXiv:2501.12948, section 2.2)."""
    trainee = make_trainee(recipe)
    check_before_start(recipe, trainee)
    audited = refuse_bad_rewards(recipe, console, show=not resume)
    with Run(folder, recipe, resume=resume) as run:
        if _is_complete(run, console):
            return
        progress = resume_from(run, trainee) if resume else Progress(iterations_done=0, steps_done=0)
        run.cut_back(progress.iterations_done)
        tasks = (*recipe.tasks, *recipe.evaluation.harder)
        journal = VerdictJournal(run, verifiers_of(tasks), since=progress.iterations_done)
        trainee = replace(trainee, sampler=replace(trainee.sampler, judging=journal.at(progress.iterations_done)))
        for note in (*map(str, reports_of(tasks)), *language_notes(recipe.rewards), *journal.notes, audited):
            if note:
                run.log_text(note)
                console.print(note, highlight=False)
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
    end_at(policy, ChatTemplate.of(policy, recipe.template))
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
    chat_template = ChatTemplate.of(policy, template)
    return Sampler(
        engine=NativeEngine(policy, max_sequences=max_sequences),
        template=chat_template,
        sampling=chat_template.with_stops(sampling.spec()),
        rewards=rewards,
    )


def check_before_start(recipe: ZeroRecipe, trainee: grpo.Trainee) -> None:
    """Refuse, before anything is written, a verifier that is wrong about its own golds and prompts that can't fit."""
    all_tasks = (*recipe.tasks, *recipe.evaluation.harder)
    for verifier, where in verifiers_of(all_tasks).items():
        check_verifier(verifier, where=where)
    language_notes(recipe.rewards)
    problems = sample_problems(recipe.tasks, recipe.rollouts.problems_per_round, seed="check", split="train")
    for tasks in (recipe.tasks, recipe.evaluation.harder):
        if tasks:
            problems += sample_problems(tasks, recipe.evaluation.num_problems, seed="check", split="held_out")
    validate(problems, seed="check")
    check_golds(problems)
    trainee.sampler.template.lint(problems[0].prompt, wants_thinking=recipe.rewards.format > 0)
    problems += longest_problems(all_tasks, LONGEST_CHECKED)
    limit = getattr(trainee.policy.model.config, "max_position_embeddings", None)
    longest = max(len(trainee.sampler.prompt_token_ids(problem)) for problem in problems)
    if limit is not None and longest >= limit:
        raise RecipeError(
            f"prompts have up to {longest} tokens, but the model has {limit} positions; "
            "leave long ones out with the task's max_prompt_chars"
        )
    if limit is not None and longest + recipe.sampling.longest_completion > limit:
        raise RecipeError(
            f"sampling.max_new_tokens is {recipe.sampling.longest_completion} and prompts have up to {longest} tokens, "
            f"but the model has {limit} positions; lower max_new_tokens to {limit - longest} or less, "
            "or leave long prompts out with the task's max_prompt_chars"
        )


def check_verifier(name: str, *, where: str) -> None:
    """Raise DataError, with the nearest known name, where there is no such verifier."""
    try:
        find_verifier(name)
    except VerifierError as error:
        raise DataError(f"{where}: {error}") from None


def check_golds(problems: Sequence[Problem]) -> None:
    """Raise VerifierError where golds of files are wrong in their verifier's eyes, or too many can't be read.

    Golds of code are programs, if there are any: they are not run here.
    """
    golds = [p for p in problems if p.gold and p.verifier not in FAMILIES.keys() | NEED_NO_GOLD]
    judged = [(problem, judge_answer(problem.gold, problem).judgement) for problem in golds]
    for verdict, most in ((Verdict.WRONG, 0), (Verdict.UNKNOWN, len(golds) // 10)):
        found = [(problem, judgement) for problem, judgement in judged if judgement.verdict is verdict]
        if len(found) > most:
            problem, judgement = found[0]
            raise VerifierError(
                f"verifier {problem.verifier!r} calls {len(found)} of {len(golds)} golds {verdict.value}: "
                f"{problem.gold[:60]!r} of problem {problem.id!r} ({judgement.reason})"
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
