"""The general world of nano: greetings, facts, small instructions, small writing, advice, and asks that do harm.

What a good answer is can be told by rule (`truth`), so that helpfulness, refusals and the over-optimisation of a reward
model are measured against something that no model has learnt. Prompts are composed of words in both languages. The
held-out split hangs on the content (this word so many times, this harm), whatever the language and the phrasing; for
greetings, facts and writing on the phrasing too, since a fact that nobody was taught can't be known.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from r1kit.config.tasks import GeneralTask
from r1kit.tasks.general_truth import parse, rightly_answered, truth
from r1kit.tasks.general_world import World, courtesies_for, joined, world_of
from r1kit.types import Problem

__all__ = ["SUBJECT_SHARES", "example", "is_right", "make", "parse", "truth"]

SUBJECT_SHARES = {"greeting": 0.15, "fact": 0.2, "echo": 0.2, "writing": 0.15, "howto": 0.15, "harmful": 0.15}
"""How often each subject is drawn; a task that names some of them keeps their proportions."""
NAMED_SHARE = 0.75
"""Of greetings, those in which users say their name."""
LIST_SHARE = 0.5
"""Of echoes, those of two words, once each."""
COURTESY_SHARE = 0.3
"""Of good answers, those that end with a polite sentence."""
BY_PHRASING = frozenset({"greeting", "fact", "writing"})
"""Subjects whose contents are taught in some phrasings and held out in others."""
TRIVIAL = frozenset({"greeting", "fact", "echo"})
"""Subjects without a thought: as in the paper (arXiv:2501.12948, section 2.3.3), "hello" gets no chain of thought.
Their thinking block is empty, and stands there all the same, so that every completion has one form."""

is_right = rightly_answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A content, how it can be asked for, and what is a good answer."""

    content: str
    """Names it, whatever the language and the phrasing."""
    prompts: Sequence[str]
    accepts: Sequence[Sequence[str]]
    """Good answers to each of the prompts, a sentence each."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What else there is to say: `curt` answers, polite `asides`, the `object`, what is `unsafe`."""


def make(task: GeneralTask, rng: random.Random, language: str) -> Problem:
    """A prompt of one of the task's subjects. There is no gold: `meta` says what is accepted."""
    shares = [SUBJECT_SHARES[subject] for subject in task.subjects]
    subject = rng.choices(task.subjects, shares)[0]
    asked = MAKERS[subject](world_of(language), rng)
    phrasing = rng.randrange(len(asked.prompts))
    return Problem(
        # What stands after `=` does not count for the split.
        id=f"general/{subject}/{asked.content}{'/' if subject in BY_PHRASING else '='}{language}{phrasing}",
        prompt=asked.prompts[phrasing],
        gold="",
        verifier="general",
        language=language,
        meta={
            "reward_model": "safety" if subject == "harmful" else "helpfulness",
            "family": f"general/{subject}",
            "subject": subject,
            "accepts": tuple(asked.accepts[phrasing]),
            **asked.meta,
        },
    )


def example(problem: Problem, rng: random.Random, *, courtesies: int | None = None) -> str:
    """A good completion in readable form; its truth is 1 with at most one polite sentence (`courtesies`) at the end."""
    num = int(rng.random() < COURTESY_SHARE) if courtesies is None else courtesies
    said = [rng.choice(problem.meta["accepts"]), *polite_sentences(problem, num, rng)]
    return f"<think>{thinking_for(problem)}</think>{joined(said, problem.language)}"


def polite_sentences(problem: Problem, num: int, rng: random.Random) -> list[str]:
    """So many polite sentences that suit the problem, different ones as long as there are any."""
    known = courtesies_for(problem)
    return [sentence for _ in range(0, num, len(known)) for sentence in rng.sample(known, len(known))][:num]


def thinking_for(problem: Problem) -> str:
    """What is thought before a good answer: nothing where the question is trivial."""
    subject = problem.meta["subject"]
    return "" if subject in TRIVIAL else world_of(problem.language)["thinking"][subject].format(problem.meta["object"])


def _greeting(world: World, rng: random.Random) -> Asked:
    topic = rng.choice(list(world["greeting"]))
    words = world["greeting"][topic]
    meta = {"topic": topic, "asides": (*world["aside"].get(topic, ()), *world["greetings_after"])}
    bare = [text.replace("{, name}", "") for text in words["full"]]
    if "named" not in words or rng.random() >= NAMED_SHARE:
        return Asked(content=topic, prompts=words["prompts"], accepts=[bare] * len(words["prompts"]), meta=meta)
    place = rng.randrange(len(world["names"]))
    name = world["names"][place]
    joints = (" ", ", ") if name.isascii() else (",", "")
    full = [text.replace("{, name}", f"{joint}{name}") for joint in joints for text in words["full"]]
    return Asked(
        content=f"{topic}-{place}",
        prompts=[prompt.format(name=name) for prompt in words["named"]],
        accepts=[full] * len(words["named"]),
        meta=meta | {"curt": tuple(bare)},
    )


def _fact(world: World, rng: random.Random) -> Asked:
    kind = rng.choice(list(world["fact"]))
    words = world["fact"][kind]
    content = rng.choice(list(words["pairs"]))
    return _filled(f"{kind}-{content}", words, words["pairs"][content])


def _echo(world: World, rng: random.Random) -> Asked:
    words, places = world["echo"]["words"], range(len(world["echo"]["words"]))
    if rng.random() < LIST_SHARE:
        first, second = rng.sample(places, 2)
        values: tuple[str, ...] = words[first], words[second]
        asks, answers = zip(*world["echo"]["list"], strict=True)
        content, accepts = f"{first}-{second}", [[answer.format(*values)] for answer in answers]
    else:
        place, times = rng.choice(places), rng.randint(2, 4)
        values = words[place], str(times)
        asks, joints = zip(*world["echo"]["repeat"], strict=True)
        content, accepts = f"{place}x{times}", [[joint.join([words[place]] * times)] for joint in joints]
    return Asked(content=content, prompts=[ask.format(*values) for ask in asks], accepts=accepts)


def _writing(world: World, rng: random.Random) -> Asked:
    kind = rng.choice(("sentence", "poem", "wish"))
    topic = rng.choice(list(world["writing"]["topics"]))
    return _filled(f"{kind}-{topic}", world["writing"][kind], world["writing"]["topics"][topic])


def _howto(world: World, rng: random.Random) -> Asked:
    verb = rng.choice(list(world["howto"]["actions"]))
    action = world["howto"]["actions"][verb]
    return _advice(verb, world["howto"], action["full"], rng)


def _harmful(world: World, rng: random.Random) -> Asked:
    verb = rng.choice(list(world["harmful"]["actions"]))
    asked = _advice(verb, world["harmful"], world["refusals"], rng)
    unsafe = tuple(world["harmful"]["actions"][verb]["unsafe"])
    return replace(asked, meta={**asked.meta, "unsafe": unsafe, "asides": tuple(world["after_refusal"])})


def _advice(verb: str, words: Mapping[str, Any], accepts: Sequence[str], rng: random.Random) -> Asked:
    """How to do something: `verb` with one of its objects."""
    objects = words["actions"][verb]["objects"]
    content = rng.choice(list(objects))
    prompts = [prompt.format(objects[content]) for prompt in words["prompts"]]
    meta = {"object": objects[content]}
    return Asked(content=f"{verb}-{content}", prompts=prompts, accepts=[accepts] * len(prompts), meta=meta)


def _filled(content: str, words: Mapping[str, Any], values: Sequence[str]) -> Asked:
    """Prompts and answers with these values in them; a sentence begins with a capital."""
    full, curt, prompts = (
        [_capital(text.format(*values)) for text in words.get(name, ())] for name in ("full", "bare", "prompts")
    )
    meta = {"object": values[0], "curt": tuple(curt)}
    return Asked(content=content, prompts=prompts, accepts=[full] * len(prompts), meta=meta)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


MAKERS: Mapping[str, Callable[[World, random.Random], Asked]] = {
    "greeting": _greeting, "fact": _fact, "echo": _echo, "writing": _writing, "howto": _howto, "harmful": _harmful
}  # fmt: skip
