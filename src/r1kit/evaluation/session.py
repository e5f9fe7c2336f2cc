"""`r1 eval` from names to figures: one model, or two on the same problems."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.config.evaluation import EvalSettings
from r1kit.evaluation.benchmarks import find_tasks
from r1kit.evaluation.decoding import load_scorer
from r1kit.evaluation.measure import measure
from r1kit.evaluation.results import compare_files, refuse_missing_folder, results_file, write_figures
from r1kit.evaluation.subject import load_subject
from r1kit.evaluation.tables import show_comparison, show_results


def evaluate_model(
    model: str,
    names: Sequence[str],
    settings: EvalSettings,
    *,
    data: Path | None,
    out: Path | None,
    other: str | None,
    destination: str | None,
    console: Console,
) -> dict[str, Any]:
    """Measure a model on the tasks of these names, compare it with another, show and write the figures.

    `other` is a folder of results, or a model that is then measured alike; `destination` is a file, or `-`.
    """
    refuse_missing_folder(destination)
    results, folder = _measured(model, names, settings, data=data, out=out, console=console)
    show_results(results, console)
    if other is not None:
        theirs = results_file(other)
        if theirs is None:
            beside = None if out is None else out / "compared"
            alike, other_folder = _measured(other, names, settings, data=data, out=beside, console=console)
            show_results(alike, console)
            theirs = other_folder / "samples.jsonl"
            results["compared"] = alike
        compared = compare_files(folder / "samples.jsonl", theirs)
        results["comparison"] = {"other": other, "tasks": compared}
        for task, comparison in compared.items():
            show_comparison(task, other, comparison, console)
    write_figures(results, destination)
    return results


def _measured(
    model: str, names: Sequence[str], settings: EvalSettings, *, data: Path | None, out: Path | None, console: Console
) -> tuple[dict[str, Any], Path]:
    with console.status(f"loading {model}"):
        subject = load_subject(model, settings)
    # A template that was trained with an instruction of its own gets no second one.
    wants_instruction = subject.template.kind == "chat" and not subject.template.instruction
    tasks = find_tasks(names, settings, data=data, chat=wants_instruction)
    for task in tasks:
        console.print(f"{task.name}: {task.origin}", highlight=False, soft_wrap=True)
    scorer = None if settings.reward_model is None else load_scorer(settings.reward_model)
    results, folder = measure(subject, tasks, settings, folder=out, console=console, scorer=scorer)
    return results | ({} if scorer is None else {"reward_model": settings.reward_model}), folder
