"""What is run: short arithmetic questions, the same for every model and every machine."""

import random
from dataclasses import dataclass

import torch

from r1kit.config.model import ModelSettings
from r1kit.config.rollouts import TemplateSettings
from r1kit.engine.engine import Request
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.loading import load_policy
from r1kit.models.nano import SHIPPED
from r1kit.models.policy import Policy
from r1kit.types import SamplingSpec

INSTRUCTION = "\nThink step by step inside <think></think>, then write only the final number inside <answer></answer>."


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """One workload."""

    model: str = "nano"
    num_problems: int = 8
    group_size: int = 8
    max_new_tokens: int = 96
    repeats: int = 3
    """Measured runs, after one that warms up; figures are their median."""
    num_threads: int = 0
    """0: as many as there are cores."""
    dtype: str = "auto"
    device: str = "auto"
    max_tokens_per_microbatch: int = 2048

    @property
    def num_rows(self) -> int:
        """Completions that are drawn, and trained on."""
        return self.num_problems * self.group_size


def questions(count: int, *, seed: int = 0) -> list[str]:
    """Sums and differences of two or three numbers below 100, in words that fit any model."""
    rng = random.Random(seed)
    asked = []
    for _ in range(count):
        numbers = [rng.randint(1, 99) for _ in range(rng.choice([2, 3]))]
        signs = [rng.choice("+-") for _ in numbers[1:]]
        text = str(numbers[0]) + "".join(f" {sign} {number}" for sign, number in zip(signs, numbers[1:], strict=True))
        asked.append(f"State the final answer to the following arithmetic problem: {text} ={INSTRUCTION}")
    return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A policy, and the prompts that it is asked."""

    settings: BenchSettings
    policy: Policy
    prompts: list[tuple[int, ...]]

    @classmethod
    def of(cls, settings: BenchSettings, *, trains: bool) -> "Bench":
        """Load the model; raise ModelError where it can't be had."""
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        model = ModelSettings.model_validate(
            {"path": settings.model, "dtype": settings.dtype, "device": settings.device}
        )
        policy = load_policy(model, trains=trains)
        kind = "nano" if settings.model in SHIPPED else "chat" if policy.tokenizer.chat_template else "r1_zero"
        template = ChatTemplate.of(policy, TemplateSettings.model_validate({"kind": kind}))
        asked = questions(settings.num_problems)
        return cls(settings=settings, policy=policy, prompts=[template.prompt_token_ids(text) for text in asked])

    def requests(self, run: int, *, ignore_end: bool) -> list[Request]:
        """All completions of one run, a group a prompt; with `ignore_end` the end token can't be drawn."""
        banned = (self.policy.tokenizer.eos_token_id,) if ignore_end else ()
        sampling = SamplingSpec(max_new_tokens=self.settings.max_new_tokens, banned_token_ids=banned)
        size = self.settings.group_size
        return [
            Request(prompt_token_ids=prompt, sampling=sampling, seed=run * 1_000_003 + place * size + number)
            for place, prompt in enumerate(self.prompts)
            for number in range(size)
        ]
