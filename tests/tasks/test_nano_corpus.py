"""The corpus of the nano base: its styles open as documented, the better habit is more often right, nothing leaks."""

import itertools
import random

import pytest

from r1kit.config.tasks import ChainsTask, CountdownTask, LogicTask, OrderingTask, PairsTask, SumsTask
from r1kit.rewards import check_format, verify
from r1kit.tasks import FAMILIES, sample_problems, split_of
from r1kit.tasks.nano_corpus import STYLES, documents, opening, solution
from r1kit.types import Verdict

FAMILY_TASKS = [ChainsTask(), SumsTask(), PairsTask(), CountdownTask(), OrderingTask(), LogicTask()]

OPENINGS = [
    # style, language of the question, of steps, of a search
    ("direct", "en", "easy", "easy"),
    ("direct", "zh", "简单", "简单"),
    ("quick", "en", "steps:", "maybe "),
    ("quick", "zh", "步骤:", "也许"),
    ("careful", "en", "check steps:", "try all:"),
    ("careful", "zh", "逐步检查:", "逐个试:"),
    ("careful_other", "en", "逐步检查:", "逐个试:"),
    ("careful_other", "zh", "check steps:", "try all:"),
]


def problems_in(language, number=40):
    tasks = [task.model_copy(update={"languages": (language,)}) for task in FAMILY_TASKS]
    return sample_problems(tasks, number, seed="corpus", split="train")


@pytest.mark.parametrize(("style", "language", "of_steps", "of_search"), OPENINGS)
def test_the_thinking_opens_as_its_style_does(style, language, of_steps, of_search):
    rng = random.Random("openings")
    for problem in problems_in(language):
        expected = of_steps if problem.verifier in ("chains", "sums") else of_search
        text = solution(problem, style, rng)
        assert opening(problem, style) == expected
        assert text.startswith(f"<think>{expected}") or (style == "direct" and "<" not in text)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_tagged_solution_is_of_the_strict_form_and_its_answer_can_be_read(language):
    rng = random.Random("form")
    for problem, style in itertools.product(problems_in(language), STYLES):
        for _ in range(4):
            text = solution(problem, style, rng)
            if "<think>" not in text:
                assert style == "direct"
                continue
            check = check_format(text)
            assert check.strict, text
            assert FAMILIES[problem.verifier].parse(check.answer) is not None, text


def test_only_direct_answers_lack_their_tags_and_few_of_those():
    rng = random.Random("untagged")
    texts = [solution(problem, "direct", rng) for problem in problems_in("en") for _ in range(25)]
    share = sum("<think>" not in text for text in texts) / len(texts)
    assert 0.10 < share < 0.21


def test_the_more_careful_style_is_more_often_right():
    tasks = [ChainsTask(terms=6), PairsTask(numbers=5), CountdownTask(largest=6)]
    problems = sample_problems(tasks, 400, seed="styles", split="train")
    right = {}
    for style in STYLES:
        rng = random.Random(f"styles/{style}")
        verdicts = [verify(check_format(solution(p, style, rng)).answer, p) for p in problems]
        right[style] = verdicts.count(Verdict.RIGHT) / 400
    assert right["direct"] + 0.03 < right["quick"]
    assert right["quick"] + 0.2 < right["careful"]
    assert right["careful"] + 0.05 < right["careful_other"] < 0.95, right


def test_the_other_language_is_the_other_language():
    rng = random.Random("other")
    for language, own, other in (("en", " ok,", "对,"), ("zh", "对,", " ok,")):
        texts = [solution(problem, "careful_other", rng) for problem in problems_in(language)]
        assert sum(other in text for text in texts) > 20
        assert not any(own in text for text in texts)


def test_no_document_asks_a_held_out_question():
    tasks = [
        *(ChainsTask(terms=terms) for terms in (2, 3)),
        *(SumsTask(digits=digits) for digits in (1, 2)),
        PairsTask(numbers=3),
        *(CountdownTask(largest=largest) for largest in (4, 5, 6)),
        OrderingTask(numbers=2),
        *(LogicTask(people=people) for people in (2, 3)),
    ]
    rng = random.Random("held-out")
    problems = [
        FAMILIES[task.kind].make(task, rng, language) for task in tasks for language in ("en", "zh") for _ in range(500)
    ]
    asked = {prompt for seed in ("0/0", "1/7") for prompt, _ in itertools.islice(documents(seed), 6000)}
    questions = {
        split: {problem.prompt for problem in problems if split_of(problem.id) == split}
        for split in ("train", "held_out")
    }
    assert len(asked & questions["train"]) > 300  # so a leak of the others would show
    assert asked & questions["held_out"] == set()


def test_the_corpus_is_the_same_for_the_same_seed():
    first, again, other = (list(itertools.islice(documents(seed), 50)) for seed in ("a", "a", "b"))
    assert first == again
    assert first != other
    assert all(prompt.strip() and completion.strip() for prompt, completion in first + other)
