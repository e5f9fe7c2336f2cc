"""The stage table: every checkpoint of a pipeline on the same problems, under the same settings and seeds.

evaluation/NAME.json   the figures of one checkpoint, and some of its completions; written when it is measured
evaluation/table.json  all of them in order

A checkpoint is measured again only where its weights, its template or the settings are others than in its file.
"""

import hashlib
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.config.checkpoints import Checkpoint, CheckpointEvaluation
from r1kit.config.rollouts import RewardSettings
from r1kit.config.tasks import TaskConfig
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.rollouts import Sampler
from r1kit.errors import RecipeError
from r1kit.evaluation.breakdown import by_task, rollout_row, task_name
from r1kit.evaluation.evaluate import drawn_by, summarise
from r1kit.evaluation.metrics import clustered_stderr, mean
from r1kit.evaluation.subject import fingerprint
from r1kit.models.chat_template import ChatTemplate, end_at
from r1kit.models.loading import load_policy
from r1kit.models.policy import Policy
from r1kit.run import disk_errors, plain, write_whole
from r1kit.tasks import sample_problems
from r1kit.tasks.general_truth import refuses, truth
from r1kit.types import FinishReason, Group, Problem, Rollout

Figures = dict[str, Any]
TABLE = "table.json"
KEPT_PROBLEMS = 24
"""Of each set, so many problems with one completion each stand in a checkpoint's file, to be read side by side."""
NOT_IN_TABLE = ("key", "samples", "seconds")
"""What stands in a checkpoint's file alone."""
MIN_LANGUAGE_SHARE, MAX_REPEATED_SHARE = 0.9, 0.2
"""Thinking reads well with so many of its words in the question's language, and no more of its tokens said before."""
WATCHED = RewardSettings(think_format=0.0, language=0.0, repetition=0.0)
"""Parts that are measured; nothing is paid for."""
FORM = {
    "strict_share": "format",
    "think_share": "think_format",
    "language_consistency": "language",
    "repeated_share": "repetition",
}


def measure_checkpoints(
    settings: CheckpointEvaluation,
    tasks: Sequence[TaskConfig],
    checkpoints: Sequence[Checkpoint],
    folder: Path,
    *,
    seed: int,
    console: Console,
) -> Figures:
    """Measure every checkpoint that is not measured yet, and write the table; returns it.

    `tasks` are those of training, for settings that name none. Raises RecipeError where there is nothing to measure.
    """
    sets = problem_sets(settings, tasks, seed=seed)
    rows = []
    for number, checkpoint in enumerate(checkpoints, 1):
        row, is_new = measured(checkpoint, settings, sets, folder, seed=seed)
        if is_new:
            console.print(
                f"checkpoint {number} of {len(checkpoints)}: {checkpoint.name} measured in {row['seconds']:.0f} s",
                highlight=False,
            )
        rows.append(row)
    table = {"checkpoints": [{k: v for k, v in row.items() if k not in NOT_IN_TABLE} for row in rows]}
    with disk_errors(folder):
        write_whole(folder / TABLE, json.dumps(plain(table), indent=2, ensure_ascii=False) + "\n")
    return table


def measured(
    checkpoint: Checkpoint, settings: CheckpointEvaluation, sets: dict[str, list[Problem]], folder: Path, *, seed: int
) -> tuple[Figures, bool]:
    """The figures of one checkpoint, from its file in the folder or drawn now, and whether they were drawn now."""
    digest = hashlib.sha256(f"{settings.model_dump_json(exclude={'max_sequences'})}{sets}".encode()).hexdigest()[:16]
    policy = load_policy(checkpoint.model)
    key = f"{digest}/{fingerprint(policy)}/{checkpoint.template.model_dump_json()}"
    path = folder / f"{file_name(checkpoint.name)}.json"
    if (found := _read(path, key)) is not None:
        return found, False
    started = time.perf_counter()
    row: Figures = {"name": checkpoint.name, "key": key}
    row |= measure(policy, checkpoint, settings, sets, seed=seed)
    row["seconds"] = time.perf_counter() - started
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(plain(row), ensure_ascii=False) + "\n")
    return row, True


def problem_sets(settings: CheckpointEvaluation, tasks: Sequence[TaskConfig], *, seed: int) -> dict[str, list[Problem]]:
    """The held-out problems of each set that has tasks: `reasoning`, `harder`, `general`."""
    named = {"reasoning": settings.tasks or tuple(tasks), "harder": settings.harder, "general": settings.general}
    sets = {}
    for name, chosen in named.items():
        num = settings.num_general if name == "general" else settings.num_problems
        if chosen:
            sets[name] = sample_problems(chosen, num, seed=f"{seed}/checkpoints/{name}", split="held_out")
    if not sets:
        raise RecipeError("evaluation: there is nothing to measure; name evaluation.tasks, or tasks for all stages")
    return sets


def measure(
    policy: Policy,
    checkpoint: Checkpoint,
    settings: CheckpointEvaluation,
    sets: dict[str, list[Problem]],
    *,
    seed: int,
) -> Figures:
    """The figures of one checkpoint on each set, and its first completions under `samples`."""
    template = ChatTemplate.of(policy, checkpoint.template)
    end_at(policy, template)
    sampler = Sampler(
        engine=NativeEngine(policy, max_sequences=settings.max_sequences),
        template=template,
        sampling=template.with_stops(settings.sampling.spec()),
        rewards=WATCHED,
    )
    found: Figures = {"parameters": policy.num_parameters()}
    samples = []
    for name, problems in sets.items():
        groups = sampler.groups(problems, settings.samples_per_problem, seed=f"{seed}/checkpoints")
        found[name] = figures_of(groups, prompt_ends_with_think=template.ends_with_think) | drawn_by(sampler)
        found[name]["thinking"] = thinking_by_task(groups, template)
        if name == "general":
            found[name] |= general_figures(groups)
        samples += [{"test": name} | rollout_row(0, group.rollouts[0]) for group in groups[:KEPT_PROBLEMS]]
    return found | {"samples": samples}


def figures_of(groups: Sequence[Group], *, prompt_ends_with_think: bool) -> Figures:
    """Accuracy by family and difficulty, form, language, length and repetition."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    form = {name: mean([rollout.score.parts[part] for rollout in rollouts]) for name, part in FORM.items()}
    form["repeated_share"] = 0.0 - form["repeated_share"]
    form["readable_share"] = mean([float(reads_well(rollout)) for rollout in rollouts])
    summary = summarise(groups, prompt_ends_with_think=prompt_ends_with_think)
    return summary | form | {"by_task": by_task(groups)}


def reads_well(rollout: Rollout) -> bool:
    """True for R1's form, ended by itself, in the language of the question, and without much repetition."""
    parts = rollout.score.parts
    is_whole = parts["think_format"] == 1 and rollout.completion.finish_reason is FinishReason.STOP
    return is_whole and parts["language"] >= MIN_LANGUAGE_SHARE and -parts["repetition"] <= MAX_REPEATED_SHARE


def thinking_by_task(groups: Sequence[Group], template: ChatTemplate) -> dict[str, dict[str, float]]:
    """The mean number of tokens before the end of the thinking, with its clustered standard error, by task.

    A completion that never ends its thinking counts whole.
    """
    lengths: dict[str, list[list[float]]] = {}
    for group in groups:
        texts = [rollout.completion.text.partition("</think>")[0].removeprefix("<think>") for rollout in group.rollouts]
        token_ids = template.tokenizer(texts, add_special_tokens=False)["input_ids"]
        lengths.setdefault(task_name(group.problem), []).append([float(len(ids)) for ids in token_ids])
    return {
        name: {
            "tokens": mean([mean(each) for each in found]),
            "tokens_stderr": clustered_stderr(found),
            "n": len(found),
        }
        for name, found in sorted(lengths.items())
    }


def general_figures(groups: Sequence[Group]) -> Figures:
    """How good answers to general prompts are by rule, and what is refused: harm, and what does none."""
    found: Figures = {}
    ruled = [group for group in groups if "accepts" in group.problem.meta]
    if ruled:
        truths = [[truth(r.completion.text, group.problem) for r in group.rollouts] for group in ruled]
        found |= {"truth": mean([mean(values) for values in truths]), "truth_stderr": clustered_stderr(truths)}
    for name, model in (("refused_harmful_share", "safety"), ("refused_harmless_share", "helpfulness")):
        asked = [group for group in ruled if group.problem.meta.get("reward_model") == model]
        said = [[float(refuses(r.completion.text, group.problem)) for r in group.rollouts] for group in asked]
        if said:
            found |= {name: mean([mean(values) for values in said]), f"{name}_stderr": clustered_stderr(said)}
    return found


def file_name(name: str) -> str:
    """A checkpoint's name as that of a file."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def _read(path: Path, key: str) -> Figures | None:
    """What was measured before; None where it was measured otherwise, or not at all."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("key") == key else None
