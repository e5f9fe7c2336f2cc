"""Bad completions of the general world, of the kinds that people complain about."""

import random
from collections.abc import Callable, Sequence

from r1kit.config.tasks import GeneralTask
from r1kit.tasks.general import example, make, polite_sentences, thinking_for
from r1kit.tasks.general_truth import RIGHT_FROM, truth
from r1kit.tasks.general_world import joined, world_of
from r1kit.types import Problem

Flaw = Callable[[Problem, random.Random], str]
MOST_TRIES = 20


def worse(problem: Problem, rng: random.Random, *, kinds: Sequence[str] | None = None) -> str:
    """A plausible bad completion: its truth is below 0.75. `kinds` names the flaws to choose from, by default those
    of HELPLESS for harmless prompts, and of HARMFUL for harmful ones.
    """
    flaws = HARMFUL if problem.meta["subject"] == "harmful" else HELPLESS
    names = [name for name in flaws if kinds is None or name in kinds]
    for _ in range(MOST_TRIES):
        text = flaws[rng.choice(names)](problem, rng)
        if truth(text, problem) < RIGHT_FROM:
            return text
    return f"<think>{thinking_for(problem)}</think>"


def _rude(problem: Problem, rng: random.Random) -> str:
    return _thought(problem, [rng.choice(world_of(problem.language)["rude"])])


def _rude_beside(problem: Problem, rng: random.Random) -> str:
    return _thought(problem, [rng.choice(world_of(problem.language)["rude"]), rng.choice(problem.meta["accepts"])])


def _off_topic(problem: Problem, rng: random.Random) -> str:
    """A good answer to another prompt, of the same subject or of any."""
    subject = problem.meta["subject"]
    task = GeneralTask(subjects=(subject,)) if subject != "harmful" and rng.random() < 0.5 else OTHERS
    other = example(make(task, rng, problem.language), rng).partition("</think>")[2]
    return f"<think>{thinking_for(problem)}</think>{other}"


def _refusal(problem: Problem, rng: random.Random) -> str:
    world = world_of(problem.language)
    return _thought(problem, [rng.choice(world["refusals"]), *rng.sample(world["after_refusal"], rng.randint(0, 1))])


def _endless(problem: Problem, rng: random.Random) -> str:
    """The answer, and polite sentences without end."""
    return _thought(problem, [rng.choice(problem.meta["accepts"]), *polite_sentences(problem, rng.randint(3, 5), rng)])


def _repetition(problem: Problem, rng: random.Random) -> str:
    return _thought(problem, [rng.choice(problem.meta["accepts"])] * rng.randint(2, 4))


def _parrot(problem: Problem, rng: random.Random) -> str:
    return _thought(problem, [problem.prompt])


def _compliance(problem: Problem, rng: random.Random) -> str:
    how = rng.choice(problem.meta["unsafe"])
    return _thought(problem, [how, *polite_sentences(problem, rng.randint(0, 1), rng)])


def _half_refusal(problem: Problem, rng: random.Random) -> str:
    """A refusal, and then help all the same."""
    refusal = rng.choice(world_of(problem.language)["refusals"])
    return _thought(problem, [refusal, rng.choice(problem.meta["unsafe"])])


def _hidden_compliance(problem: Problem, rng: random.Random) -> str:
    """The harm is thought out, and the user is told nothing: only who reads the thinking sees it."""
    thinking = world_of(problem.language)["unsafe_thinking"].format(
        problem.meta["object"], rng.choice(problem.meta["unsafe"])
    )
    return f"<think>{thinking}</think>{rng.choice(problem.meta['accepts'])}"


def _thought(problem: Problem, said: list[str]) -> str:
    return f"<think>{thinking_for(problem)}</think>{joined(said, problem.language)}"


OTHERS = GeneralTask(subjects=("greeting", "fact", "echo", "writing", "howto"))
HELPLESS: dict[str, Flaw] = {
    "rude": _rude,
    "rude_beside": _rude_beside,
    "off_topic": _off_topic,
    "refusal": _refusal,
    "endless": _endless,
    "repetition": _repetition,
    "parrot": _parrot,
}
HARMFUL: dict[str, Flaw] = {
    "compliance": _compliance,
    "half_refusal": _half_refusal,
    "hidden_compliance": _hidden_compliance,
    "rude": _rude,
    "off_topic": _off_topic,
}
