"""Asking a model many questions, by name: whatever was answered once is written down and never asked again.

answers.jsonl   {"key", "text"}, a row an answer; the key holds a digest of the question and of who was asked
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console

from r1kit.config.endpoint import EndpointSettings
from r1kit.config.rejection import ModelRewriting
from r1kit.config.rollouts import RewardSettings
from r1kit.config.settings import Settings
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.openai import ChatClient, Question
from r1kit.engine.rollouts import Pace, Sampler
from r1kit.errors import Interrupted, RecipeError
from r1kit.evaluation.journal import Journal
from r1kit.evaluation.progress import ProblemProgress
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.loading import load_policy
from r1kit.rewards.format import split_thinking
from r1kit.run import Run
from r1kit.types import Problem

ANSWERS = "answers.jsonl"


class Answerer(Protocol):
    """Whoever is asked."""

    def answers(self, questions: Sequence[Question], known: Collection[str]) -> Iterator[tuple[str, str]]:
        """The keys of the questions that are not known yet, each with its answer; "" where it was cut."""
        ...


class Endpoint:
    """A model behind an address."""

    def __init__(self, settings: EndpointSettings, *, seed: str) -> None:
        """Nothing is sent yet; raises RecipeError where the key is missing."""
        self._client = ChatClient(settings, seed=seed)

    def answers(self, questions: Sequence[Question], known: Collection[str]) -> Iterator[tuple[str, str]]:
        """In the order in which they come."""
        return self._client.answers([question for question in questions if question.key not in known])


class LocalModel:
    """A model in this process, loaded when it is first asked."""

    def __init__(self, settings: ModelRewriting, *, max_sequences: int, seed: str) -> None:
        """Nothing is loaded yet."""
        self._settings, self._slots, self._seed = settings, max_sequences, seed
        self._sampler: Sampler | None = None

    def answers(self, questions: Sequence[Question], known: Collection[str]) -> Iterator[tuple[str, str]]:
        """In order, window by window; a window that was begun is drawn again, so that its answers are the same."""
        pace = Pace.of(self._slots, 1)
        for start in range(0, len(questions), pace.problems_per_window):
            window = questions[start : start + pace.problems_per_window]
            if all(question.key in known for question in window):
                continue
            problems = [
                Problem(id=question.key, prompt=question.prompt, gold="", verifier="exact") for question in window
            ]
            for drawn in self._loaded(problems).drawn(problems, 1, seed=self._seed, pace=pace):
                completion = drawn.completions[0]
                if drawn.problem.id not in known:
                    yield drawn.problem.id, "" if completion.is_truncated else completion.text

    def _loaded(self, problems: Sequence[Problem]) -> Sampler:
        if self._sampler is None:
            policy = load_policy(self._settings.model)
            template = ChatTemplate.of(policy, self._settings.template)
            self._sampler = Sampler(
                engine=NativeEngine(policy, max_sequences=self._slots),
                template=template,
                sampling=template.with_stops(self._settings.sampling.spec()),
                rewards=RewardSettings(),
            )
            self._positions = getattr(policy.model.config, "max_position_embeddings", None)
        limit = self._settings.sampling.max_new_tokens
        longest = max(len(self._sampler.prompt_token_ids(problem)) for problem in problems)
        if self._positions is not None and longest + limit > self._positions:
            raise RecipeError(
                f"rewriting.sampling.max_new_tokens is {limit} and questions to {self._settings.model.path} have up to "
                f"{longest} tokens, but it has {self._positions} positions; lower max_new_tokens, or "
                "sampling.max_new_tokens so that what is rewritten is shorter (a new folder), or name another model"
            )
        return self._sampler


@dataclass(frozen=True)
class Asking:
    """A run's notebook of answers."""

    run: Run
    console: Console

    def asked(self, prompts: Sequence[tuple[str, str]], answerer: Answerer, who: Settings, label: str) -> list[str]:
        """The answers to named prompts, in their order, without thinking; what was answered before is not asked again.

        Raises Interrupted, with everything saved, where the run is asked to stop.
        """
        maker = hashlib.sha256(json.dumps(who.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
        questions = [Question(_key(label, name, prompt, maker), prompt) for name, prompt in prompts]
        path = self.run.folder / ANSWERS
        with Journal(path, _beside(path), settings={}, notes={}) as journal:
            known = {row["key"]: row["text"] for row, _ in journal.rows()}
            done = sum(question.key in known for question in questions)
            with ProblemProgress(label, total=len(questions), done=done, console=self.console) as progress:
                for key, text in answerer.answers(questions, frozenset(known)):
                    journal.append([{"key": key, "text": text}])
                    known[key] = text
                    progress.advance()
                    if self.run.stop_requested:
                        raise Interrupted(
                            f"interrupted; everything is saved, go on with --run {self.run.folder} --resume"
                        )
        return [split_thinking(known[question.key])[1].strip() for question in questions]


def filled(template: str, **parts: str) -> str:
    """The template with its parts, each only once: a part may hold the name of another in braces."""
    return re.sub(rf"\{{({'|'.join(parts)})\}}", lambda match: parts[match[1]], template)


def _key(label: str, name: str, prompt: str, maker: str) -> str:
    digest = hashlib.sha256(f"{maker}/{prompt}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{label}/{name}/{digest}"


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.settings.json")
