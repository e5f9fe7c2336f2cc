"""From problems to scored groups: the same path for training, evaluation and rejection sampling."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from r1kit.config.rollouts import RewardSettings
from r1kit.engine.engine import Engine, Request, generate
from r1kit.models.chat_template import ChatTemplate
from r1kit.rewards import score_completion
from r1kit.types import Group, Problem, Rollout, SamplingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Everything that turns problems into groups, but for the problems, their number and the seed."""

    engine: Engine
    template: ChatTemplate
    sampling: SamplingSpec
    rewards: RewardSettings

    def groups(self, problems: Sequence[Problem], group_size: int, *, seed: str, opening: str = "") -> list[Group]:
        """One group of `group_size` scored completions a problem; each is a function of seed, problem and number.

        With an `opening`, every completion begins with that text, and is judged with it.
        """
        opening_ids = tuple(self.template.tokenizer.encode(opening, add_special_tokens=False)) if opening else ()
        prompts = [self.template.prompt_token_ids(problem.prompt) for problem in problems]
        requests = [
            Request(
                prompt_token_ids=prompt + opening_ids,
                sampling=self.sampling,
                seed=completion_seed(seed, problem.id, number),
            )
            for problem, prompt in zip(problems, prompts, strict=True)
            for number in range(group_size)
        ]
        completions = iter(generate(self.engine, requests))
        ends_with_think = self.template.ends_with_think
        groups = []
        for problem, prompt in zip(problems, prompts, strict=True):
            rollouts = []
            for number in range(group_size):
                completion = next(completions)
                score = score_completion(
                    problem,
                    replace(completion, text=opening + completion.text),
                    rewards=self.rewards,
                    prompt_ends_with_think=ends_with_think,
                    seed=f"{seed}/{problem.id}/{number}",
                    max_new_tokens=self.sampling.max_new_tokens,
                )
                rollouts.append(
                    Rollout(problem=problem, prompt_token_ids=prompt + opening_ids, completion=completion, score=score)
                )
            groups.append(Group(problem=problem, rollouts=tuple(rollouts)))
        return groups


def completion_seed(seed: str, problem_id: str, number: int) -> int:
    """63 random bits for one completion."""
    digest = hashlib.sha256(f"{seed}/{problem_id}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
