"""`r1 eval`: draw k completions a problem, judge them, write each down, and sum up.

samples.jsonl    one row a completion, in the order of tasks and problems
settings.json    what must be the same for a later run to go on
results.json     the figures
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.config.evaluation import EvalSettings
from r1kit.engine.rollouts import Pace, Sampler
from r1kit.errors import Interrupted, RecipeError, RunError
from r1kit.evaluation.benchmarks import Task
from r1kit.evaluation.decoding import Scorer, scores_of
from r1kit.evaluation.journal import Journal
from r1kit.evaluation.outcomes import (
    Outcome,
    Sample,
    by_stratum,
    decoded_curve,
    figures,
    outcome_of,
    pass_curve,
    sample_of,
)
from r1kit.evaluation.progress import ProblemProgress
from r1kit.evaluation.subject import Subject, choose_slots, longest, make_sampler, token_limit
from r1kit.rewards.judging import in_order, is_judged_elsewhere
from r1kit.run import plain, write_whole
from r1kit.training.memory import peak_memory_bytes
from r1kit.types import FinishReason, Group, Problem, Verdict

SCORED = ("best_of_k", "weighted_cons_at_k")
"""Figures that are there where a reward model scores the samples."""
VERSIONED = ("r1kit", "torch", "transformers")
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One task, and how many completions of what length it takes."""

    task: Task
    k: int
    max_new_tokens: int
    tokens_per_slot: int
    """The longest prompt with the longest completion."""


def plan_task(task: Task, subject: Subject, settings: EvalSettings) -> Plan:
    """How a task is measured; raise RecipeError for what can't be drawn."""
    if settings.temperature == 0 and (settings.k or 1) > 1:
        raise RecipeError(f"--k {settings.k} at temperature 0 would draw the same completion {settings.k} times")
    longest_prompt = longest([subject.prompt_token_ids(problem) for problem in task.problems])
    limit = token_limit(subject, settings, usual=task.max_new_tokens, longest_prompt=longest_prompt)
    k = 1 if settings.temperature == 0 else settings.k or task.k
    return Plan(task=task, k=k, max_new_tokens=limit, tokens_per_slot=longest_prompt + limit)


def measure(
    subject: Subject,
    tasks: Sequence[Task],
    settings: EvalSettings,
    *,
    folder: Path | None,
    console: Console,
    scorer: Scorer | None = None,
) -> tuple[Figures, Path]:
    """The figures of all tasks, and the folder that they and every completion are in.

    A scorer adds what its scores choose among the samples; they are drawn all the same. Without a folder, one under
    runs/ that is named after the model and the settings. Goes on where a run of the same settings stopped, and raises
    RunError where the folder holds another. Raises Interrupted with everything saved.
    """
    plans = [plan_task(task, subject, settings) for task in tasks]
    described = describe(subject, plans, settings)
    folder = folder or Path("runs") / f"eval-{Path(subject.name).stem}-{_digest(described)[:8]}"
    slots = choose_slots(subject, settings, tokens_per_slot=max(plan.tokens_per_slot for plan in plans))
    notes = {
        "model": str(subject.folder),
        "slots": slots,
        "versions": {name: metadata.version(name) for name in VERSIONED},
    }
    console.print(f"model:   {subject}\nresults: {folder}", highlight=False, soft_wrap=True)
    with Journal(folder / "samples.jsonl", folder / "settings.json", settings=described, notes=notes) as journal:
        # Windows are those of whoever began, so that what is drawn again is drawn as it was.
        evaluation = Evaluation(subject, settings, plans, journal, slots=slots, console=console, scorer=scorer)
        try:
            results = evaluation.run(window_slots=int(journal.notes["slots"]))
        except Interrupted as error:
            raise Interrupted(f"interrupted; all is saved in {folder}, and the same command goes on") from error
        write_whole(folder / "results.json", json.dumps(plain(results), indent=2, ensure_ascii=False) + "\n")
    return results, folder


class Evaluation:
    """The measurement of one model on several tasks, in one journal."""

    def __init__(
        self,
        subject: Subject,
        settings: EvalSettings,
        plans: Sequence[Plan],
        journal: Journal,
        *,
        slots: int,
        console: Console,
        scorer: Scorer | None = None,
    ) -> None:
        """Nothing is drawn yet."""
        self._scorer = scorer
        self._subject, self._settings, self._plans, self._journal = subject, settings, plans, journal
        self._slots, self._console = slots, console
        self._outcomes: list[list[Outcome]] = [[] for _ in plans]
        self._sampler: Sampler | None = None

    def run(self, *, window_slots: int) -> Figures:
        """The figures of all tasks, after all that is missing has been drawn."""
        self._read_back()
        parts = [
            self._measured(plan, outcomes, window_slots)
            for plan, outcomes in zip(self._plans, self._outcomes, strict=True)
        ]
        named = {plan.task.name: part for plan, part in zip(self._plans, parts, strict=True)}
        about = {"model": self._subject.name, "folder": str(self._subject.folder)} | self._how()
        return about | (parts[0] if len(parts) == 1 else overall(parts)) | {"tasks": named}

    def _read_back(self) -> None:
        """The outcomes of the problems that are in the journal whole; what is left of a torn one is forgotten."""
        rows, end = self._journal.rows(), 0
        for plan, outcomes in zip(self._plans, self._outcomes, strict=True):
            for problem in plan.task.problems:
                samples: list[Sample] = []
                for row, row_end in rows:
                    if (row.get("task"), row.get("id"), row.get("sample")) != (
                        plan.task.name,
                        problem.id,
                        len(samples),
                    ):
                        raise RunError(f"{self._journal.path} is damaged: it lacks a sample of {problem.id}")
                    samples.append(sample_of_row(row))
                    if len(samples) == plan.k:
                        end = row_end
                        break
                if len(samples) < plan.k:
                    self._journal.cut_back(end)
                    return
                outcomes.append(self._outcome(problem, samples))
        self._journal.cut_back(end)

    def _measured(self, plan: Plan, outcomes: list[Outcome], window_slots: int) -> Figures:
        done, total = len(outcomes), len(plan.task.problems)
        if done:
            self._console.print(f"{plan.task.name}: {done:,} of {total:,} problems are there already", highlight=False)
        with ProblemProgress(plan.task.name, total=total, done=done, console=self._console) as progress:
            if done < total:
                for group in self._groups(plan, done, window_slots, progress):
                    self._journal.append(sample_rows(plan.task.name, group))
                    outcomes.append(self._outcome(group.problem, [sample_of(rollout) for rollout in group.rollouts]))
                    progress.advance()
            seconds, tokens = progress.seconds, progress.num_tokens
        return (
            figures(outcomes)
            | {
                "pass_at": pass_curve(outcomes),
                "decoded_at": decoded_curve(outcomes),
                "by": by_stratum(outcomes),
                "problems": plan.task.origin,
                "instruction": dict(plan.task.instruction),
                "max_new_tokens": plan.max_new_tokens,
            }
            | self._how()
            | {
                "seconds": seconds,
                "tokens_per_second": tokens / seconds if tokens else None,
                "peak_memory_bytes": peak_memory_bytes(),
            }
        )

    def _groups(self, plan: Plan, done: int, window_slots: int, progress: ProblemProgress) -> Iterator[Group]:
        """The groups that are missing. The window that was begun is drawn again from its first problem on."""
        if self._sampler is None:
            limit = max(plan.max_new_tokens for plan in self._plans)
            self._sampler = make_sampler(self._subject, self._settings, max_new_tokens=limit, slots=self._slots)
        sampler = replace(self._sampler, sampling=replace(self._sampler.sampling, max_new_tokens=plan.max_new_tokens))
        pace = replace(Pace.of(window_slots, plan.k), slots=self._slots)
        first = done - done % pace.problems_per_window
        seed = f"{self._settings.seed}/{plan.task.name}"
        drawn = sampler.drawn(plan.task.problems[first:], plan.k, seed=seed, pace=pace, watch=progress.watch)
        counted = map(progress.counted, drawn)
        return in_order(
            islice(counted, done - first, None),
            partial(sampler.scored, seed=seed),
            is_slow=lambda found: is_judged_elsewhere(found.problem),
            late=partial(sampler.given_up, seed=seed),
        )

    def _outcome(self, problem: Problem, samples: Sequence[Sample]) -> Outcome:
        opens = self._subject.template.ends_with_think
        if self._scorer is not None:
            texts = [f"<think>{sample.text}" if opens else sample.text for sample in samples]
            scores = scores_of(self._scorer, problem, texts)
            samples = [replace(sample, score=score) for sample, score in zip(samples, scores, strict=True)]
        return outcome_of(problem, samples, prompt_ends_with_think=opens, by_value=True)

    def _how(self) -> Figures:
        settings = self._settings
        return {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "seed": settings.seed,
            "template": self._subject.template.kind,
        }


def overall(parts: Sequence[Figures]) -> Figures:
    """Several tasks as one line: the mean of their scores, each task counting the same; all else over all completions.

    Scores at k stand there only where every task has the same k.
    """
    weights = [part["n"] * part["k"] for part in parts]
    same_k = len({part["k"] for part in parts}) == 1

    def average(name: str) -> float:
        return sum(part[name] for part in parts) / len(parts)

    def pooled(name: str) -> float:
        return sum(part[name] * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)

    seconds = sum(part["seconds"] for part in parts)
    drawn = sum((part["tokens_per_second"] or 0) * part["seconds"] for part in parts)
    return {
        "pass_at_1": average("pass_at_1"),
        "pass_at_1_stderr": sum(part["pass_at_1_stderr"] ** 2 for part in parts) ** 0.5 / len(parts),
        "pass_at_k": average("pass_at_k") if same_k else None,
        "cons_at_k": average("cons_at_k") if same_k else None,
        **{name: average(name) for name in SCORED if same_k and all(name in part for part in parts)},
        "k": parts[0]["k"] if same_k else None,
        "n": sum(part["n"] for part in parts),
        "truncated_share": pooled("truncated_share"),
        "mean_completion_tokens": pooled("mean_completion_tokens"),
        "seconds": seconds,
        "tokens_per_second": drawn / seconds if drawn else None,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def sample_rows(task: str, group: Group) -> Iterator[dict[str, Any]]:
    """What samples.jsonl keeps of a problem."""
    for number, rollout in enumerate(group.rollouts):
        sample = sample_of(rollout)
        yield {
            "task": task,
            "id": group.problem.id,
            "sample": number,
            "prompt": group.problem.prompt,
            "gold": group.problem.gold,
            "completion": sample.text,
            "answer": sample.answer,
            "verdict": sample.verdict.value,
            "finish_reason": sample.finish_reason.value,
            "num_tokens": sample.num_tokens,
        }


def sample_of_row(row: dict[str, Any]) -> Sample:
    """What counts of a completion that is on the disk."""
    return Sample(
        text=row["completion"],
        answer=row["answer"],
        verdict=Verdict(row["verdict"]),
        finish_reason=FinishReason(row["finish_reason"]),
        num_tokens=row["num_tokens"],
    )


def describe(subject: Subject, plans: Sequence[Plan], settings: EvalSettings) -> dict[str, Any]:
    """Everything that a figure depends on, as plain values."""
    drawn = settings.model_dump(include={"temperature", "top_p", "top_k", "seed"})
    return {
        "model": subject.described(),
        "sampling": drawn | {"stop": list(subject.stop(settings))},
        "tasks": [
            {
                "name": plan.task.name,
                "num_problems": len(plan.task.problems),
                "problems_digest": _digest([_content(problem) for problem in plan.task.problems]),
                "k": plan.k,
                "max_new_tokens": plan.max_new_tokens,
            }
            for plan in plans
        ],
    }


def _content(problem: Problem) -> list[Any]:
    messages = [dict(message) for message in problem.messages]
    options = problem.meta.get("verifier_options")
    return [problem.id, problem.prompt, messages, problem.gold, problem.verifier, problem.language, options]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
