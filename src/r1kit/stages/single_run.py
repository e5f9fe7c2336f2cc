"""One stage as a run of its own, from the start or from its last checkpoint to `final/` and a report."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from r1kit.errors import Interrupted
from r1kit.insight.console import TrainingConsole
from r1kit.insight.report import write_report
from r1kit.models.chat_template import ChatTemplate, end_at
from r1kit.models.loading import load_policy
from r1kit.recipe import PretrainRecipe, SFTRecipe, ZeroRecipe
from r1kit.rewards.audit import refuse_bad_rewards
from r1kit.rewards.combine import language_notes
from r1kit.run import Run
from r1kit.stages import grpo, ppo
from r1kit.stages.preparation import check_before_start, forecast_memory, make_trainee
from r1kit.stages.pretrain import train_base
from r1kit.stages.sft import read_corpus, show_first_batch, train_sft
from r1kit.stages.verdicts import VerdictJournal
from r1kit.tasks.source import reports_of, verifiers_of
from r1kit.training.checkpoint import Progress, latest_checkpoint, load_checkpoint
from r1kit.training.memory import peak_memory_bytes


def run_pretrain(recipe: PretrainRecipe, folder: Path, *, resume: bool, console: Console) -> None:
    """A base model from nothing."""
    with Run(folder, recipe, resume=resume) as run:
        if not is_complete(run, console):
            train_base(recipe, run, console)
            stop_if_asked(run)
            write_run_report(run, console)


def run_sft(recipe: SFTRecipe, folder: Path, *, resume: bool, console: Console) -> None:
    """Supervised fine-tuning on a file of examples."""
    policy = load_policy(recipe.model, trains=True, peft=recipe.peft, seed=recipe.seed)
    template = ChatTemplate.of(policy, recipe.template)
    end_at(policy, template)
    corpus = read_corpus(recipe, policy, template)
    with Run(folder, recipe, resume=resume) as run:
        if not is_complete(run, console):
            if not resume:
                show_first_batch(corpus, recipe, template, run, console)
            train_sft(recipe, policy, corpus, run, console)
            stop_if_asked(run)
            write_run_report(run, console)


def train_zero(recipe: ZeroRecipe, folder: Path, *, resume: bool, explain: bool, console: Console) -> None:
    """R1-Zero: GRPO on a base model, rewarded by rules alone (arXiv:2501.12948, section 2.2)."""
    trainee = make_trainee(recipe)
    check_before_start(recipe, trainee)
    audited = refuse_bad_rewards(recipe, console, show=not resume)
    with Run(folder, recipe, resume=resume) as run:
        if is_complete(run, console):
            return
        progress = resume_from(run, trainee) if resume else Progress(iterations_done=0, steps_done=0)
        run.cut_back(progress.iterations_done)
        forecast = forecast_memory(recipe, trainee)
        tasks = (*recipe.training_tasks, *recipe.evaluation.harder)
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
            learn = ppo.learn_by_values if trainee.critic else grpo.learn_by_groups
            progress = grpo.train_grpo(recipe, trainee, progress, run, live.report, learn)
            if not run.stop_requested:
                grpo.finish(recipe, trainee, progress, run, live.report)
        for line in (live.verdict, memory_line(forecast)):
            run.log_text(line)
            console.print(line, highlight=False)
        stop_if_asked(run)
        console.print(f"model:  {run.final}", highlight=False)
        write_run_report(run, console)


def resume_from(run: Run, trainee: grpo.Trainee) -> Progress:
    """Set the trainee to the run's last checkpoint; from the start where there is none yet."""
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        return Progress(iterations_done=0, steps_done=0)
    progress = load_checkpoint(checkpoint, trainee.policy, trainee.optimizer, trainee.reference, trainee.critic)
    trainee.sampler.engine.load_weights(trainee.policy, version=progress.iterations_done)
    return progress


def memory_line(forecast: int) -> str:
    """What the process has held at its peak, beside what was reckoned with."""
    peak = peak_memory_bytes()
    return f"memory: {peak / 2**30:.2f} GiB at the peak, {forecast / 2**30:.2f} GiB forecast ({forecast / peak:.0%})"


def is_complete(run: Run, console: Console) -> bool:
    """True, and said, where the run has its `final/`."""
    if run.final.is_dir():
        console.print(f"this run is complete; the model is in {run.final}", highlight=False)
    return run.final.is_dir()


def write_run_report(run: Run, console: Console) -> None:
    """Write `report.html` into the run's folder."""
    write_report([run.folder], run.folder / "report.html")
    console.print(f"report: {run.folder / 'report.html'}", highlight=False)


def stop_if_asked(run: Run) -> None:
    """Raise Interrupted where the user asked the run to stop."""
    if run.stop_requested:
        raise Interrupted(f"interrupted; everything is saved, go on with --run {run.folder} --resume")
