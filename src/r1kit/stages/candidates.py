"""Completions that may become traces: drawn by every route, judged, and written down problem by problem.

samples.jsonl            a row a route and problem, with all completions of it
samples.settings.json    what must be the same for a later run to go on

A killed run goes on where it stopped: the window that was begun is drawn again, and what comes out is the same to the
last byte.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.config.rejection import RejectionRecipe
from r1kit.engine.rollouts import Pace, Sampler
from r1kit.errors import RecipeError, RunError
from r1kit.evaluation.journal import Journal
from r1kit.evaluation.progress import ProblemProgress
from r1kit.evaluation.subject import fingerprint
from r1kit.models.policy import Policy
from r1kit.rewards.judging import in_order, is_judged_elsewhere
from r1kit.rewards.repetition import repeated_share
from r1kit.run import Run
from r1kit.stages.prompting import on_route, route_names
from r1kit.types import FinishReason, Group, Problem, Rollout, Verdict

SAMPLES = "samples.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One completion that was drawn and judged."""

    problem: Problem
    route: str
    number: int
    """Among the completions of its problem and route, from 0."""
    text: str
    """What the model wrote; with the opening tag where the prompt holds it."""
    answer: str | None
    verdict: Verdict
    finish_reason: FinishReason
    num_tokens: int
    repeated_share: float
    """Tokens in runs that stood before, over all tokens."""
    by_judge: bool = False
    """True where a judge gave the verdict, since rules could not."""

    @property
    def id(self) -> str:
        """Names problem, route and number."""
        return f"{self.problem.id}#{self.route}-{self.number}"


@dataclass(frozen=True)
class Draw:
    """What is drawn: which problems, how often, by which routes, from which weights."""

    recipe: RejectionRecipe
    policy: Policy
    sampler: Sampler
    problems: Sequence[Problem]

    @property
    def names(self) -> list[str]:
        """The routes' names, in their order."""
        return route_names(self.recipe.routes)

    def refuse_long_prompts(self) -> None:
        """Raise RecipeError where a prompt and a completion don't fit into the model's positions."""
        positions = getattr(self.policy.model.config, "max_position_embeddings", None)
        if positions is None:
            return
        limit = self.sampler.sampling.max_new_tokens
        for route, name in zip(self.recipe.routes, self.names, strict=True):
            asking = on_route(self.sampler, route)
            longest = max(len(asking.prompt_token_ids(problem)) for problem in self.problems)
            if longest + limit > positions:
                raise RecipeError(
                    f"sampling.max_new_tokens is {limit} and prompts of the route {name!r} have up to {longest} "
                    f"tokens, but the model has {positions} positions; lower max_new_tokens, or leave long prompts "
                    "out with the task's max_prompt_chars"
                )

    def described(self) -> dict[str, Any]:
        """What must be the same for a half-finished draw to go on."""
        recipe = self.recipe.model_dump(mode="json", include={"seed", "template", "sampling", "routes"})
        contents = [[problem.id, problem.prompt, problem.gold, problem.verifier] for problem in self.problems]
        return recipe | {
            "weights": fingerprint(self.policy),
            "dtype": str(self.policy.compute_dtype).removeprefix("torch."),
            "problems": len(self.problems),
            "problems_digest": hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16],
            "repetition_ngram": self.recipe.filters.repetition_ngram,
        }


def draw_candidates(draw: Draw, run: Run, console: Console) -> None:
    """Draw and judge whatever is missing in the run's samples.jsonl; returns early where the run is asked to stop."""
    slots = draw.recipe.run.max_sequences
    settings_path = run.folder / "samples.settings.json"
    with Journal(run.folder / SAMPLES, settings_path, settings=draw.described(), notes={"slots": slots}) as journal:
        done = _checked_places(journal, draw)
        for place, (route, name) in enumerate(zip(draw.recipe.routes, draw.names, strict=True)):
            begun = min(len(draw.problems), max(0, done - place * len(draw.problems)))
            if begun == len(draw.problems):
                continue
            pace = replace(Pace.of(int(journal.notes["slots"]), route.samples), slots=slots)
            asking = on_route(draw.sampler, route)
            with ProblemProgress(f"drawing, {name}", total=len(draw.problems), done=begun, console=console) as progress:
                seed = f"{draw.recipe.seed}/{name}"
                for group in _groups(asking, draw.problems, route.samples, seed, pace, begun, progress):
                    journal.append([_row(group, name, draw)])
                    progress.advance()
                    if run.stop_requested:
                        return


def read_candidates(folder: Path, draw: Draw) -> Iterator[Candidate]:
    """What stands in samples.jsonl, in its order."""
    problems = {problem.id: problem for problem in draw.problems}
    opening = "<think>" if draw.sampler.template.ends_with_think else ""
    with (folder / SAMPLES).open("rb") as file:
        for line in file:
            row = json.loads(line)
            for number, found in enumerate(row["completions"]):
                yield Candidate(
                    problem=problems[row["id"]],
                    route=row["route"],
                    number=number,
                    text=opening + found["text"],
                    answer=found["answer"],
                    verdict=Verdict(found["verdict"]),
                    finish_reason=FinishReason(found["finish_reason"]),
                    num_tokens=found["num_tokens"],
                    repeated_share=found["repeated_share"],
                )


def _groups(
    sampler: Sampler,
    problems: Sequence[Problem],
    samples: int,
    seed: str,
    pace: Pace,
    done: int,
    progress: ProblemProgress,
) -> Iterator[Group]:
    """The groups that are missing. The window that was begun is drawn again from its first problem on."""
    first = done - done % pace.problems_per_window
    drawn = map(
        progress.counted,
        sampler.drawn(problems[first:], samples, seed=seed, pace=pace, watch=progress.watch),
    )
    return in_order(
        islice(drawn, done - first, None),
        partial(sampler.scored, seed=seed),
        is_slow=lambda found: is_judged_elsewhere(found.problem),
        late=partial(sampler.given_up, seed=seed),
    )


def _checked_places(journal: Journal, draw: Draw) -> int:
    """How many rows are there already; raises RunError where one is not what it should be."""
    expected = ((name, problem.id) for name in draw.names for problem in draw.problems)
    done = 0
    for (row, _), place in zip(journal.rows(), expected, strict=False):
        if (row.get("route"), row.get("id")) != place:
            raise RunError(f"{journal.path}, line {done + 1}: expected problem {place[1]} by route {place[0]}; damaged")
        done += 1
    return done


def _row(group: Group, route: str, draw: Draw) -> dict[str, Any]:
    return {
        "route": route,
        "id": group.problem.id,
        "prompt": group.problem.prompt,
        "gold": group.problem.gold,
        "completions": [_completion(rollout, draw.recipe.filters.repetition_ngram) for rollout in group.rollouts],
    }


def _completion(rollout: Rollout, ngram: int) -> dict[str, Any]:
    return {
        "text": rollout.completion.text,
        "answer": rollout.score.answer,
        "verdict": rollout.score.verdict.value,
        "finish_reason": rollout.completion.finish_reason.value,
        "num_tokens": len(rollout.completion.token_ids),
        "repeated_share": repeated_share(rollout.completion.token_ids, ngram),
    }
