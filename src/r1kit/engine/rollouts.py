"""From problems to scored groups: the same path for training, evaluation and rejection sampling."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from r1kit.config.rollouts import RewardSettings
from r1kit.engine.engine import Engine, Request, as_they_finish
from r1kit.models.chat_template import ChatTemplate
from r1kit.rewards import score_completion
from r1kit.rewards.judging import DIRECTLY, Judge, Judging, in_order, is_judged_elsewhere
from r1kit.rewards.preference import PreferenceRewards
from r1kit.types import Completion, Group, Problem, Rollout, SamplingSpec

PromptOf = Callable[[ChatTemplate, Problem], tuple[int, ...]]
"""From a problem to the tokens that the model reads."""
Watch = Callable[[int, int], None]
"""Told after each step of the engine how many completions are running, and how many have finished in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a long list of problems is fed to the engine.

    Free slots are refilled while others run, but at the end of each window of problems the engine runs empty. What one
    window draws is then a function of its own problems alone, to the last bit: rows of a batch change one another's
    rounding, and in bfloat16 now and then a token. A killed run that begins its window again loses nothing by it.
    """

    slots: int
    """Completions that are drawn at once."""
    problems_per_window: int

    @classmethod
    def of(cls, slots: int, group_size: int) -> "Pace":
        """Windows of four times the slots: the last completions of a window, which run almost alone, are few."""
        return cls(slots=slots, problems_per_window=max(1, 4 * slots // group_size))


@dataclass(frozen=True, slots=True)
class Drawn:
    """The completions of one problem, not yet scored."""

    problem: Problem
    prompt_token_ids: tuple[int, ...]
    completions: tuple[Completion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Everything that turns problems into groups, but for the problems, their number and the seed."""

    engine: Engine
    template: ChatTemplate
    sampling: SamplingSpec
    rewards: RewardSettings
    judging: Judging = DIRECTLY
    prompt_of: PromptOf | None = None
    """How a problem is asked where that is not the template's own way: after worked examples, say."""
    preference: PreferenceRewards | None = None
    """Grades general problems, where the run has reward models."""

    def groups(self, problems: Sequence[Problem], group_size: int, *, seed: str, opening: str = "") -> list[Group]:
        """One group of `group_size` scored completions a problem; each is a function of seed, problem and number.

        With an `opening`, every completion begins with that text, and is judged with it. Completions are judged while
        others are still being drawn.
        """
        opening_ids = tuple(self.template.tokenizer.encode(opening, add_special_tokens=False)) if opening else ()
        prompts = [self.prompt_token_ids(problem) + opening_ids for problem in problems]
        requests = [
            request
            for problem, prompt in zip(problems, prompts, strict=True)
            for request in self._requests(problem, prompt, group_size, seed)
        ]

        def rollout(found: tuple[int, Completion], judge: Judge = self.judging.judge) -> tuple[int, Rollout]:
            place, number = divmod(found[0], group_size)
            drawn = Drawn(problems[place], prompts[place], (found[1],))
            return found[0], self._rollout(drawn, 0, f"{seed}/{drawn.problem.id}/{number}", judge, opening)

        rollouts = dict(
            in_order(
                as_they_finish(self.engine, requests),
                rollout,
                is_slow=lambda found: is_judged_elsewhere(problems[found[0] // group_size]),
                late=lambda found, deadline_s: rollout(found, self.judging.giving_up(deadline_s)),
                max_waiting=len(requests),  # all are held in any case
            )
        )
        ordered = iter([rollouts[place] for place in range(len(requests))])
        groups = [Group(problem=problem, rollouts=tuple(islice(ordered, group_size))) for problem in problems]
        return self.preference.graded(groups, opening=opening) if self.preference else groups

    def drawn(
        self, problems: Iterable[Problem], group_size: int, *, seed: str, pace: Pace, watch: Watch | None = None
    ) -> Iterator[Drawn]:
        """The completions of ever so many problems, in their order, each problem's as soon as those before it are done.

        Never more than a window of them is held. The same completions as in `groups`, to rounding.
        """
        remaining = iter(problems)
        while window := list(islice(remaining, pace.problems_per_window)):
            yield from self._window(window, group_size, seed=seed, slots=pace.slots, watch=watch)

    def scored(self, drawn: Drawn, *, seed: str) -> Group:
        """The completions with what they are worth."""
        return self._group(drawn, seed, self.judging.judge)

    def given_up(self, drawn: Drawn, deadline_s: float, *, seed: str) -> Group:
        """The completions with verdicts unknown: they were not judged in time."""
        return self._group(drawn, seed, self.judging.giving_up(deadline_s))

    def prompt_token_ids(self, problem: Problem) -> tuple[int, ...]:
        """What the model reads of a problem."""
        return (self.prompt_of or problem_prompt)(self.template, problem)

    def _group(self, drawn: Drawn, seed: str, judge: Judge) -> Group:
        places = [f"{seed}/{drawn.problem.id}/{number}" for number in range(len(drawn.completions))]
        rollouts = [self._rollout(drawn, number, place, judge) for number, place in enumerate(places)]
        return Group(problem=drawn.problem, rollouts=tuple(rollouts))

    def _rollout(self, drawn: Drawn, number: int, place: str, judge: Judge, opening: str = "") -> Rollout:
        """One of the completions with what it is worth."""
        completion = drawn.completions[number]
        score = score_completion(
            drawn.problem,
            replace(completion, text=opening + completion.text),
            rewards=self.rewards,
            prompt_ends_with_think=self.template.ends_with_think,
            seed=place,
            max_new_tokens=self.sampling.max_new_tokens,
            judge=judge,
        )
        return Rollout(
            problem=drawn.problem, prompt_token_ids=drawn.prompt_token_ids, completion=completion, score=score
        )

    def _window(
        self, problems: Sequence[Problem], group_size: int, *, seed: str, slots: int, watch: Watch | None
    ) -> Iterator[Drawn]:
        prompts = [self.prompt_token_ids(problem) for problem in problems]
        waiting = deque(
            ((place, number), request)
            for place, (problem, prompt) in enumerate(zip(problems, prompts, strict=True))
            for number, request in enumerate(self._requests(problem, prompt, group_size, seed))
        )
        running: dict[int, tuple[int, int]] = {}
        finished: list[dict[int, Completion]] = [{} for _ in problems]
        place = 0
        try:
            while place < len(problems):
                # Prompts are read together, and the samples of one problem share the reading: that is cheaper for a
                # quarter of the slots at once than for each slot as it becomes free.
                if waiting and slots - len(running) >= max(1, slots // 4):
                    new = [waiting.popleft() for _ in range(min(len(waiting), slots - len(running)))]
                    request_ids = self.engine.submit([request for _, request in new])
                    running.update(zip(request_ids, (key for key, _ in new), strict=True))
                num_finished = 0
                for piece in self.engine.step():
                    if piece.completion is not None and piece.request_id in running:
                        owner, number = running.pop(piece.request_id)
                        finished[owner][number] = piece.completion
                        num_finished += 1
                if watch is not None:
                    watch(len(running), num_finished)
                while place < len(problems) and len(finished[place]) == group_size:
                    completions = tuple(finished[place][number] for number in range(group_size))
                    finished[place] = {}
                    yield Drawn(problems[place], prompts[place], completions)
                    place += 1
        finally:
            self.engine.cancel(list(running))

    def _requests(self, problem: Problem, prompt: tuple[int, ...], group_size: int, seed: str) -> list[Request]:
        return [
            Request(prompt_token_ids=prompt, sampling=self.sampling, seed=completion_seed(seed, problem.id, number))
            for number in range(group_size)
        ]


def problem_prompt(template: ChatTemplate, problem: Problem) -> tuple[int, ...]:
    """The problem's question, or its whole conversation, under a template."""
    return template.prompt_token_ids(problem.messages or problem.prompt)


def completion_seed(seed: str, problem_id: str, number: int) -> int:
    """63 random bits for one completion."""
    digest = hashlib.sha256(f"{seed}/{problem_id}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
