"""The engine protocol: what samples, for reinforcement learning, evaluation and serving alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from r1kit.models.policy import Policy
from r1kit.types import Completion, SamplingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion to be drawn."""

    prompt_token_ids: tuple[int, ...]
    sampling: SamplingSpec
    seed: int
    """All randomness of this completion: it is the same whatever else is being sampled."""
    stream: bool = False
    """Report each token as it comes, not only the finished completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one step has to say of one request: a streamed token, or the finished completion."""

    request_id: int
    token_id: int | None = None
    completion: Completion | None = None


class Engine(Protocol):
    """Anything that draws completions: our own sampler, vLLM, or a server."""

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """Queue requests; returns their ids. Raises RecipeError for a request that can never fit."""
        ...

    def step(self) -> list[Piece]:
        """Advance everything by one token; returns finished completions and streamed tokens."""
        ...

    def cancel(self, request_ids: Sequence[int]) -> None:
        """Forget requests; those not yet finished are never reported."""
        ...

    def load_weights(self, policy: Policy, version: int) -> None:
        """Sample from these weights from now on."""
        ...

    def sleep(self) -> None:
        """Let go of memory until `load_weights`: the trainer needs it."""
        ...


def generate(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    """The completions of all requests, in their order.

    The engine must be idle: what it finishes meanwhile for others is lost to them.
    """
    finished = dict(as_they_finish(engine, requests))
    return [finished[place] for place in range(len(requests))]


def as_they_finish(engine: Engine, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
    """The completions of all requests with their places in the list, each in the step in which it ends.

    The engine must be idle: what it finishes meanwhile for others is lost to them. Whoever stops early leaves it idle.
    """
    running = {request_id: place for place, request_id in enumerate(engine.submit(requests))}
    try:
        while running:
            for piece in engine.step():
                if piece.completion is not None and piece.request_id in running:
                    yield running.pop(piece.request_id), piece.completion
    finally:
        if running:
            engine.cancel(list(running))
