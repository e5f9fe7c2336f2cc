"""The benchmarks of a network: sampling alone, the update alone, and both as one iteration of RL."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from r1kit.bench.machine import MachineLimits, timed
from r1kit.bench.measurement import Measurement
from r1kit.bench.work import NetworkShape
from r1kit.bench.workload import Bench
from r1kit.config.objective import GRPOObjective, OptimizerSettings
from r1kit.config.tasks import ArithmeticTask
from r1kit.engine.engine import generate
from r1kit.engine.native.engine import NativeEngine
from r1kit.objectives.advantages import group_norm_advantages
from r1kit.objectives.token_weights import sequence_mean
from r1kit.recipe import ZeroRecipe
from r1kit.stages.objective import objective_loss
from r1kit.training.batch import Batch, collate_rollouts
from r1kit.training.memory import return_free_memory
from r1kit.training.optimizer import Optimizer
from r1kit.training.step import Update, optimizer_step
from r1kit.types import Completion, Problem, Rollout, Score, Verdict

Tick = Callable[[], None]
"""Told after each run, warm-up included."""


def bench_rollouts(bench: Bench, limits: MachineLimits, tick: Tick) -> Measurement:
    """Sampling with logprobs, every completion to its full length."""
    engine = NativeEngine(bench.policy, max_sequences=bench.settings.num_rows)
    seconds, amounts, floors = [], [], []
    for run in range(bench.settings.repeats + 1):
        requests = bench.requests(run, ignore_end=True)
        took, drawn = timed(partial(generate, engine, requests), bench.policy.device)
        lengths = [len(completion.token_ids) for completion in drawn]
        seconds.append(took)
        amounts.append(float(sum(lengths)))
        floors.append(rollouts_floor(bench, limits, lengths))
        tick()
    return _measurement("rollouts", seconds, amounts, floors, {"sequences": bench.settings.num_rows})


def bench_training(bench: Bench, limits: MachineLimits, tick: Tick) -> Measurement:
    """One optimizer step on the same completions, drawn once; the tokens are those of prompts and completions."""
    engine = NativeEngine(bench.policy, max_sequences=bench.settings.num_rows)
    completions = generate(engine, bench.requests(0, ignore_end=True))
    lengths = [len(completion.token_ids) for completion in completions]
    tokens = float(sum(lengths) + sum(map(len, bench.prompts)) * bench.settings.group_size)
    trainer, seconds = _Trainer(bench), []
    for _ in range(bench.settings.repeats + 1):
        seconds.append(timed(partial(trainer.step, completions), bench.policy.device)[0])
        tick()
    amounts, floors = [tokens] * len(seconds), [training_floor(bench, limits, lengths)] * len(seconds)
    return _measurement("train", seconds, amounts, floors, {"rows": bench.settings.num_rows})


def bench_iteration(bench: Bench, limits: MachineLimits, tick: Tick) -> Measurement:
    """Sampling, rewards by the parity of a completion's length, one update, and the weights back to the engine."""
    engine = NativeEngine(bench.policy, max_sequences=bench.settings.num_rows)
    trainer = _Trainer(bench)
    sampling, training, amounts, floors, gaps = [], [], [], [], []
    for run in range(bench.settings.repeats + 1):
        requests = bench.requests(run, ignore_end=False)
        took_sampling, drawn = timed(partial(generate, engine, requests), bench.policy.device)
        engine.sleep()
        took_training, update = timed(partial(trainer.step, drawn), bench.policy.device)
        return_free_memory()
        engine.load_weights(bench.policy, version=run + 1)
        sampling.append(took_sampling)
        training.append(took_training)
        lengths = [len(completion.token_ids) for completion in drawn]
        amounts.append(float(sum(lengths)))
        floors.append(rollouts_floor(bench, limits, lengths) + training_floor(bench, limits, lengths))
        gaps.append(update.watched["logprob_gap"])
        tick()
    seconds = [one + other for one, other in zip(sampling, training, strict=True)]
    details = {
        "sampling_seconds": sorted(sampling[1:])[len(sampling[1:]) // 2],
        "training_seconds": sorted(training[1:])[len(training[1:]) // 2],
        "mean_completion_tokens": sum(amounts[1:]) / bench.settings.num_rows / max(1, len(amounts) - 1),
        "logprob_gap": max(gaps),
    }
    return _measurement("iteration", seconds, amounts, floors, details)


def rollouts_floor(bench: Bench, limits: MachineLimits, lengths: list[int]) -> float:
    """The least time for completions of these lengths: each prompt read once, then step by step the rows that run."""
    shape, prompts = NetworkShape.of(bench.policy), [len(prompt) for prompt in bench.prompts]
    mean_prompt = sum(prompts) / len(prompts)
    prefill = shape.forward_flops(prompts, [0] * len(lengths), len(lengths) // len(prompts))
    seconds = limits.floor_seconds(flops=prefill, moved_bytes=0.0)
    for step in range(1, max(lengths)):
        num_rows = sum(length > step for length in lengths)
        seconds += limits.floor_seconds(
            flops=shape.step_flops(num_rows, mean_prompt + step),
            moved_bytes=shape.step_bytes(num_rows, len(prompts), mean_prompt, step),
        )
    return seconds


def training_floor(bench: Bench, limits: MachineLimits, lengths: list[int]) -> float:
    """The least time for forward and backward over prompts, once a group, and completions of these lengths."""
    prompts = [len(prompt) for prompt in bench.prompts]
    flops = NetworkShape.of(bench.policy).training_flops(prompts, lengths, len(lengths) // len(prompts))
    return limits.floor_seconds(flops=flops, moved_bytes=0.0)


@dataclass
class _Trainer:
    """A policy's updates by GRPO without a KL term, as a recipe would make them."""

    bench: Bench

    def __post_init__(self) -> None:
        self.optimizer = Optimizer(self.bench.policy, OptimizerSettings(lr=1e-6), total_steps=1_000_000)
        self.recipe = ZeroRecipe(kind="zero", tasks=(ArithmeticTask(),), objective=GRPOObjective())

    def prompt(self, place: int) -> tuple[int, ...]:
        """The prompt of the completion at this place."""
        return self.bench.prompts[place // self.bench.settings.group_size]

    def step(self, completions: list[Completion]) -> Update:
        """One update on all completions; a completion of an even number of characters earns 1."""
        rollouts = list(self._rollouts(completions))
        rewards_PG = torch.tensor([rollout.score.total for rollout in rollouts]).view(len(self.bench.prompts), -1)
        batch = collate_rollouts(rollouts, group_norm_advantages(rewards_PG).flatten())
        return optimizer_step(
            self.bench.policy,
            self.optimizer,
            _weighed(batch),
            lambda stats, microbatch: objective_loss(self.recipe, stats, microbatch),
            temperature=1.0,
            max_tokens_per_microbatch=self.bench.settings.max_tokens_per_microbatch,
        )

    def _rollouts(self, completions: list[Completion]) -> Iterator[Rollout]:
        for place, completion in enumerate(completions):
            reward = float(len(completion.text) % 2 == 0)
            yield Rollout(
                problem=Problem(id=str(place), prompt="", gold="", verifier="exact"),
                prompt_token_ids=self.prompt(place),
                completion=completion,
                score=Score(total=reward, parts={}, verdict=Verdict.WRONG, answer=None),
            )


def _weighed(batch: Batch) -> Batch:
    return replace(batch, token_weights_BT=sequence_mean(batch.completion_mask_BT))


def _measurement(
    name: str, seconds: list[float], amounts: list[float], floors: list[float], details: dict[str, float]
) -> Measurement:
    """All runs but the first, which warms up."""
    return Measurement(
        name=name,
        unit="tokens",
        amounts=tuple(amounts[1:]),
        seconds_each=tuple(seconds[1:]),
        floors=tuple(floors[1:]),
        details=details,
    )
