"""The texts that the nano base model is pretrained on: a small bilingual world in which better habits are latent.

Every problem is solved in one of four styles, told apart by how the thinking opens:

    direct         a guess, mostly wrong
    quick          one careless pass: steps with slips that nobody checks, or a try or two and then a guess
    careful        each step or try is checked ("ok" / "wait"), in the language of the question
    careful_other  the same in the other language, by people who check better

Careful texts are few, so the base rarely writes them; they are longer, more reflective and more often right, and the
more reliable habit stands in the other language. So R1-Zero's phenomena (longer thinking, "wait", mixed languages) are
caused by the reward and by nothing else. Slips are deliberate: a base model imitates them, and reinforcement learning
can unlearn them. Textbook pages, free of slips, teach the skills that careful work is made of (sums, what fits a
target, listing all candidates); none of them is about the numbers of a held-out problem.
"""

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from r1kit.config.tasks import ChainsTask, CountdownTask, GeneratedTask, LogicTask, OrderingTask, PairsTask, SumsTask
from r1kit.tasks import FAMILIES, countdown, pairs, split_of
from r1kit.types import Problem

STYLES = ("direct", "quick", "careful", "careful_other")
OTHER_LANGUAGE = {"en": "zh", "zh": "en"}
STEP_FAMILIES = ("chains", "sums")
SEARCH_FAMILIES = ("pairs", "countdown", "ordering", "logic")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one language that reasoning is made of."""

    direct: str
    steps: str
    tries: str
    check_steps: str
    check_tries: str
    ok: str
    wait: str
    so: str


WORDS = {
    "en": Words("easy", "steps:", "maybe ", "check steps:", "try all:", " ok,", " wait,", " so "),
    "zh": Words("简单", "步骤:", "也许", "逐步检查:", "逐个试:", "对,", "等等,", "所以"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """How reliably a style works."""

    slip: float
    """Chance that the result of a step is off."""
    catch: float
    """Chance that the check of a step sees that it is off; 0: steps are not checked."""
    accept_wrong: float
    """Chance to take a try that fails for one that fits."""
    miss_right: float
    """Chance to pass over the try that fits."""
    give_up: float
    """Chance, after each failed try, to stop and guess."""


HABITS = {
    "quick": Habit(slip=0.25, catch=0.0, accept_wrong=0.1, miss_right=0.2, give_up=0.6),
    "careful": Habit(slip=0.25, catch=0.77, accept_wrong=0.05, miss_right=0.1, give_up=0.07),
    "careful_other": Habit(slip=0.25, catch=0.92, accept_wrong=0.02, miss_right=0.04, give_up=0.04),
}
FALSE_ALARM = 0.02
LUCKY_GUESS = 0.10
STYLE_SHARES = (0.56, 0.25, 0.12, 0.07)
UNTAGGED_SHARE = 0.08

# Documents of each family: what the base sees of it, easier and harder than what it is trained on later.
TASK_MIX: tuple[tuple[float, tuple[GeneratedTask, ...]], ...] = (
    (0.34, tuple(ChainsTask(terms=terms) for terms in (2, 3, 4, 5, 6, 7, 8, 9))),
    (0.06, tuple(SumsTask(digits=digits) for digits in (1, 2, 2, 3))),
    (0.28, tuple(PairsTask(numbers=numbers) for numbers in (3, 4, 5, 6, 7))),
    (0.20, tuple(CountdownTask(largest=largest) for largest in (4, 5, 6, 7, 9))),
    (0.07, tuple(OrderingTask(numbers=numbers) for numbers in (2, 3, 4, 5))),
    (0.05, tuple(LogicTask(people=people) for people in (2, 3, 4, 5))),
)
TEXTBOOK_SHARE = 0.24
GENERAL_SHARE = 0.10
TEXTBOOK_ITEMS = 9


def documents(seed: str) -> Iterator[tuple[str, str]]:
    """An endless stream of (prompt, completion); no document is about a held-out problem."""
    rng = random.Random(f"nano-corpus/{seed}")
    general = _general_texts()
    shares = [share for share, _ in TASK_MIX]
    while True:
        draw = rng.random()
        if draw < GENERAL_SHARE:
            yield _general_document(general, rng)
            continue
        if draw < GENERAL_SHARE + TEXTBOOK_SHARE:
            yield rng.choice(TEXTBOOK)(rng, rng.choice(("en", "zh")))
            continue
        task = rng.choice(rng.choices(TASK_MIX, shares)[0][1])
        problem = FAMILIES[task.kind].make(task, rng, rng.choice(task.languages))
        if split_of(problem.id) == "train":
            style = rng.choices(STYLES, STYLE_SHARES)[0]
            yield problem.prompt, solution(problem, style, rng)


def solution(problem: Problem, style: str, rng: random.Random) -> str:
    """A completion of `problem` in `style`, slips and all."""
    if style == "direct":
        answer = _guess(problem, rng)
        if rng.random() < UNTAGGED_SHARE / STYLE_SHARES[0]:
            return answer
        return _tagged(WORDS[problem.language].direct, answer)
    language = OTHER_LANGUAGE[problem.language] if style == "careful_other" else problem.language
    thinking, answer = _worked(problem, WORDS[language], HABITS[style], rng)
    return _tagged(opening(problem, style) + thinking, answer)


def opening(problem: Problem, style: str) -> str:
    """The first words of a thinking part in `style`: what tells the styles apart."""
    words = WORDS[OTHER_LANGUAGE[problem.language] if style == "careful_other" else problem.language]
    if style == "direct":
        return words.direct
    is_search = problem.verifier in SEARCH_FAMILIES
    if style == "quick":
        return words.tries if is_search else words.steps
    return words.check_tries if is_search else words.check_steps


def _tagged(thinking: str, answer: str) -> str:
    return f"<think>{thinking}</think><answer>{answer}</answer>"


def _worked(problem: Problem, words: Words, habit: Habit, rng: random.Random) -> tuple[str, str]:
    if problem.verifier in STEP_FAMILIES:
        return _steps(problem, words, habit, rng)
    return _search(problem, words, habit, rng)


def _steps(problem: Problem, words: Words, habit: Habit, rng: random.Random) -> tuple[str, str]:
    """Running results; each is off with chance `slip`, and a check, if any, sends the writer back to it."""
    pieces: list[str] = []
    results: list[int] = []
    for left, sign, right in _operations(problem):
        left = results[-1] if left is None else left
        right = results[right] if right < 0 else right
        while True:
            truth = left + right if sign == "+" else left - right
            result = _slip(truth, rng) if rng.random() < habit.slip else truth
            alarm = habit.catch if result != truth else FALSE_ALARM
            pieces.append(f"{left}{sign}{right}={result}")
            if habit.catch == 0:
                pieces.append(",")
                break
            if rng.random() >= alarm:
                pieces.append(words.ok)
                break
            pieces.append(words.wait)
        results.append(result)
    return "".join(pieces), str(results[-1])


# The index, among the results so far, of the running total before the last partial sum.
PREVIOUS_TOTAL = -2


def _operations(problem: Problem) -> Iterator[tuple[int | None, str, int]]:
    """The steps (left, sign, right) of a chain or a sum; left None is the last result, right < 0 an earlier one."""
    if problem.verifier == "chains":
        chain = str(problem.meta["chain"])
        yield int(chain[0]), chain[1], int(chain[2])
        for place in range(3, len(chain), 2):
            yield None, chain[place], int(chain[place + 1])
        return
    left, right = str(problem.meta["left"]), str(problem.meta["right"])
    for place, (a, b) in enumerate(zip(left, right, strict=True)):
        power = 10 ** (len(left) - 1 - place)
        yield int(a) * power, "+", int(b) * power
        if place:
            yield None, "+", PREVIOUS_TOTAL


def _slip(truth: int, rng: random.Random) -> int:
    return max(0, truth + rng.choice((-10, -2, -1, 1, 2, 10))) if truth else rng.choice((1, 2))


def _search(problem: Problem, words: Words, habit: Habit, rng: random.Random) -> tuple[str, str]:
    """Tries in order (quick: in any order), each checked; whoever gives up guesses."""
    pieces: list[str] = []
    candidates = _candidates(problem)
    if habit.catch == 0:
        rng.shuffle(candidates)
    for candidate, shown, fits in candidates:
        takes = rng.random() >= habit.miss_right if fits else rng.random() < habit.accept_wrong
        pieces.append(shown + (words.ok if takes else words.wait))
        if takes:
            return "".join(pieces), candidate
        if rng.random() < habit.give_up:
            break
    guess = _guess(problem, rng)
    return "".join(pieces) + words.so + guess, guess


def _candidates(problem: Problem) -> list[tuple[str, str, bool]]:
    """Every candidate answer of a search problem: (answer, how trying it is written, whether it fits)."""
    meta = problem.meta
    if problem.verifier == "pairs":
        chosen = itertools.combinations(meta["numbers"], 2)
        return [(f"{a}+{b}", f"{a}+{b}={a + b}", a + b == meta["target"]) for a, b in chosen]
    if problem.verifier == "countdown":
        values = [(choice, countdown.value_of(choice)) for choice in countdown.expressions(meta["numbers"])]
        return [(choice, f"{choice}={value}", value == meta["target"]) for choice, value in values]
    if problem.verifier == "logic":
        above = {clue[2]: clue for clue in meta["clues"]}
        return [(name, above.get(name, f"{name}>"), name not in above) for name in sorted(meta["people"])]
    return _orders(meta["numbers"])


def _orders(numbers: tuple[int, ...]) -> list[tuple[str, str, bool]]:
    """The passes of a bubble sort, each shown with the first pair that is out of order."""
    order, tries = list(numbers), []
    while True:
        wrong = [place for place in range(len(order) - 1) if order[place] > order[place + 1]]
        text = " ".join(map(str, order))
        tries.append((text, f"{text}:{order[wrong[0]]}>{order[wrong[0] + 1]}" if wrong else text, not wrong))
        if not wrong:
            return tries
        for place in range(len(order) - 1):
            if order[place] > order[place + 1]:
                order[place], order[place + 1] = order[place + 1], order[place]


def _guess(problem: Problem, rng: random.Random) -> str:
    """An answer of the right shape that is right by luck alone."""
    if rng.random() < LUCKY_GUESS:
        return problem.gold
    if problem.verifier in STEP_FAMILIES:
        return str(max(0, int(problem.gold) + rng.choice((-11, -10, -3, -2, -1, 1, 2, 3, 10, 11))))
    if problem.verifier == "ordering":
        return " ".join(map(str, rng.sample(problem.meta["numbers"], len(problem.meta["numbers"]))))
    if problem.verifier == "logic":
        return rng.choice(problem.meta["people"])
    return rng.choice(_candidates(problem))[0]


def _checked_steps(rng: random.Random, language: str) -> tuple[str, str]:
    """A textbook page of small sums, some wrong and seen to be so: what a check is."""
    words, pieces = WORDS[language], []
    for _ in range(TEXTBOOK_ITEMS):
        left, right = rng.randint(0, 70), rng.randint(1, 9)
        sign = "-" if left >= right and rng.random() < 0.4 else "+"
        truth = left + right if sign == "+" else left - right
        result = truth if rng.random() < 0.6 else _slip(truth, rng)
        pieces.append(f"{left}{sign}{right}={result}" + (words.ok if result == truth else words.wait))
    return {"en": "Check sums", "zh": "检查算式"}[language], "".join(pieces)


def _looking_for(rng: random.Random, language: str) -> tuple[str, str]:
    """A textbook page of values held against a target: what it is that fits."""
    words, pieces = WORDS[language], []
    target = rng.randint(3, 36)
    for _ in range(TEXTBOOK_ITEMS):
        left, right = rng.randint(1, 19), rng.randint(1, 19)
        if rng.random() < 0.4 and 1 <= target - left <= 19:
            right = target - left
        pieces.append(f"{left}+{right}={left + right}" + (words.ok if left + right == target else words.wait))
    return {"en": f"Look for {target}", "zh": f"寻找{target}"}[language], "".join(pieces)


def _all_pairs(rng: random.Random, language: str) -> tuple[str, str]:
    """A textbook page that lists every pair of some numbers in order, with its sum."""
    while True:
        numbers = rng.sample(range(1, 20), rng.randint(3, 6))
        if split_of(pairs.problem_id(numbers, None)) == "train":
            break
    listed = ",".join(f"{a}+{b}={a + b}" for a, b in itertools.combinations(numbers, 2))
    shown = " ".join(map(str, numbers))
    return {"en": f"List pairs of {shown}", "zh": f"列出{shown}的和"}[language], listed


def _all_expressions(rng: random.Random, language: str) -> tuple[str, str]:
    """A textbook page that lists every way to put an operator between three numbers, with its value."""
    while True:
        numbers = tuple(rng.randint(1, rng.choice((5, 6, 9))) for _ in range(3))
        if split_of(countdown.problem_id(numbers, None)) == "train":
            break
    values = ",".join(f"{choice}={countdown.value_of(choice)}" for choice in countdown.expressions(numbers))
    shown = " ".join(map(str, numbers))
    return {"en": f"List ways of {shown}", "zh": f"列出{shown}的算法"}[language], values


TEXTBOOK = (_checked_steps, _checked_steps, _looking_for, _all_pairs, _all_expressions)


def _general_texts() -> dict[str, list]:
    return json.loads(resources.files("r1kit.assets").joinpath("general_texts.json").read_text("utf-8"))


def _general_document(texts: dict[str, list], rng: random.Random) -> tuple[str, str]:
    """A greeting, a fact, a small instruction or a polite refusal."""
    kind = rng.choices(("fixed", "facts", "echo"), (0.5, 0.3, 0.2))[0]
    if kind == "fixed":
        return tuple(rng.choice(texts["fixed"]))
    template = rng.choice(texts[kind])
    if kind == "facts":
        subject, value = rng.choice(template["pairs"])
        return template["prompt"].format(subject), template["completion"].format(subject, value)
    word = rng.choice(texts["words"][template["language"]])
    times = rng.randint(1, 4)
    return template["prompt"].format(word, times), template["joint"].join([word] * times)
