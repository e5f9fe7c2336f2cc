"""What a completion is worth: the truth is paid, the form only around an answer, a coin toss ignores both."""

import pytest

from r1kit.config.rollouts import RewardSettings
from r1kit.errors import VerifierError
from r1kit.rewards import VERIFIERS, score_completion, verify
from r1kit.rewards.combine import language_notes
from r1kit.tasks import FAMILIES
from r1kit.types import Completion, FinishReason, Problem, Verdict

PROBLEM = Problem(id="chains/2+2", prompt="Compute 2+2", gold="4", verifier="chains")
RIGHT = "<think>easy</think><answer>4</answer>"


def score(text, *, seed="0", ends_with_think=False, problem=PROBLEM, token_ids=(1,), **weights):
    completion = Completion(
        token_ids=token_ids, logprobs=(0.0,) * len(token_ids), text=text, finish_reason=FinishReason.STOP,
        policy_version=0,
    )  # fmt: skip
    rewards = RewardSettings(**weights)
    return score_completion(problem, completion, rewards=rewards, prompt_ends_with_think=ends_with_think, seed=seed)


@pytest.mark.parametrize(
    ("text", "accuracy", "form"),
    [
        (RIGHT, 1.0, 1.0),
        ("<think>easy</think><answer>5</answer>", 0.0, 1.0),
        ("<think>easy</think><answer>four</answer>", 0.0, 0.0),  # wrapped nonsense earns nothing
        ("<think>easy</think><answer>?</answer>", 0.0, 0.0),
        ("<think>easy</think><answer></answer>", 0.0, 0.0),
        ("<think></think><answer>4</answer>", 1.0, 0.0),
        ("<answer>4</answer>", 1.0, 0.0),
        (f"So: {RIGHT}", 1.0, 0.0),
        ("4", 0.0, 0.0),
        ("<think>easy<answer>4</answer>", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_the_form_is_paid_only_around_an_answer_that_can_be_read(text, accuracy, form):
    found = score(text, format=0.5)
    assert (found.parts["accuracy"], found.parts["format"]) == (accuracy, form)
    assert found.total == accuracy + 0.5 * form
    assert found.verdict is (Verdict.RIGHT if accuracy else Verdict.WRONG)


def test_a_part_of_weight_zero_is_watched_and_moves_nothing():
    found = score(RIGHT, accuracy=0.0)
    assert found.total == 0.0
    assert found.parts["accuracy"] == found.parts["format"] == 1.0
    assert set(found.parts) <= set(RewardSettings.model_fields)


def test_a_negative_weight_punishes():
    assert score(RIGHT, accuracy=-2.0, format=0.25).total == -1.75


def test_a_prompt_that_opens_the_thinking_is_judged_with_it():
    rest = RIGHT.removeprefix("<think>")
    assert score(rest, format=1.0, ends_with_think=True).total == 2.0
    assert score(rest, format=1.0).total == 1.0


def test_the_random_part_ignores_the_completion():
    seeds = [str(seed) for seed in range(50)]
    parts = [[score(text, seed=seed, random=1.0).parts["random"] for seed in seeds] for text in (RIGHT, "", "abc")]
    assert parts[0] == parts[1] == parts[2]
    assert {0.0, 1.0} == set(parts[0])


def test_the_random_part_is_fair():
    tosses = [score("", seed=f"0/iteration-{toss // 64}/{toss % 64}", random=1.0).total for toss in range(4000)]
    assert abs(sum(tosses) / 4000 - 0.5) < 0.03


def test_an_unknown_verifier_is_named_with_the_nearest_one():
    for judge in (lambda problem: verify("4", problem), lambda problem: score(RIGHT, problem=problem)):
        with pytest.raises(VerifierError, match=r"unknown verifier 'chain'; did you mean 'chains'\?"):
            judge(Problem(id="x", prompt="", gold="4", verifier="chain"))
    with pytest.raises(VerifierError, match=r"'qqq'.*known: .*chains"):
        verify("4", Problem(id="x", prompt="", gold="4", verifier="qqq"))


def test_every_family_has_a_verifier():
    assert set(VERIFIERS) >= set(FAMILIES)


def test_a_missing_answer_is_wrong():
    assert verify(None, PROBLEM) is Verdict.WRONG
    assert verify("4", PROBLEM) is Verdict.RIGHT


def test_parts_that_no_setting_asks_for_are_not_measured():
    assert set(score(RIGHT).parts) == {"accuracy", "format", "random", "overlong"}
    asked = {"language": 0.0, "repetition": 0.0, "think_format": 0.0, "cosine_length": 0.0}
    found = score(RIGHT, **asked)
    assert set(found.parts) == {"accuracy", "format", "random", "overlong", *asked}
    assert found.total == 1.0
    assert set(found.parts) <= set(RewardSettings.model_fields)


@pytest.mark.parametrize(
    ("text", "ends_with_think", "form"),
    [
        ("<think>easy</think>The answer is \\boxed{4}.", False, 1.0),
        ("easy</think>The answer is \\boxed{5}.", True, 1.0),
        ("easy</think>I do not know.", True, 0.0),  # no answer that could be read
        ("easy</think>", True, 0.0),
        ("The answer is \\boxed{4}.", False, 0.0),
        ("<think>easy</think><answer>4</answer>", False, 1.0),
    ],
)
def test_the_form_of_a_chat_model_needs_no_answer_tags(text, ends_with_think, form):
    problem = Problem(id="x", prompt="Compute 2+2", gold="4", verifier="math")
    found = score(text, problem=problem, ends_with_think=ends_with_think, accuracy=0.0, think_format=0.5)
    assert (found.parts["think_format"], found.total) == (form, 0.5 * form)


MIXED = "<think>First we add 然后我们相加 and then</think><answer>4</answer>"
"""Five English words and six Chinese characters, which are four words."""


@pytest.mark.parametrize(("language", "share"), [("en", 5 / 9), ("zh", 4 / 9), ("ja", 0.0)])
def test_the_thinking_is_measured_in_the_language_of_the_question(language, share):
    problem = Problem(id="chains/2+2", prompt="Compute 2+2", gold="4", verifier="chains", language=language)
    found = score(MIXED, problem=problem, language=2.0, language_by="script")
    assert found.parts["language"] == pytest.approx(share)
    assert found.total == pytest.approx(1.0 + 2.0 * share)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("<think>so it is</think><answer>所以是四</answer>", 1.0),  # the answer is not thinking
        ("so it is 所以是", 0.6),  # without tags all of it is
        ("<think>so it is 所以是", 0.6),  # and so is thinking that was cut
        ("<think></think><answer>4</answer>", 0.0),
        ("<think> \u200b\n</think><answer>4</answer>", 0.0),
        ("", 0.0),
        ("<think>2+2=4</think><answer>4</answer>", 1.0),  # no word of another language
    ],
)
def test_thinking_is_what_counts_and_silence_is_no_language(text, share):
    assert score(text, language=1.0, language_by="script").parts["language"] == pytest.approx(share)


def test_the_language_to_think_in_can_be_given():
    assert score(MIXED, language=1.0, target_language="zh").parts["language"] == pytest.approx(4 / 9)


def test_a_question_told_by_script_alone_is_asked_again_of_the_identifier():
    pytest.importorskip("py3langid")
    german = "Anna hat zwölf Äpfel und gibt ihrem Bruder ein Drittel davon. Wie viele bleiben übrig?"
    thinking = "<think>Zuerst teilen wir die zwölf Äpfel durch drei, also bekommt der Bruder vier.</think>8"
    told = Problem(id="x", prompt=german, gold="8", verifier="math", meta={"language_told_by": "script"})
    given = Problem(id="x", prompt=german, gold="8", verifier="math", language="en")
    assert score(thinking, problem=told, language=1.0).parts["language"] == 1.0
    assert score(thinking, problem=given, language=1.0).parts["language"] == 0.0
    assert score(thinking, problem=told, language=1.0, language_by="script").parts["language"] == 1.0


def test_an_unknown_language_is_named_with_its_problem():
    problem = Problem(id="odd/7", prompt="?", gold="4", verifier="chains", language="qqq")
    with pytest.raises(VerifierError, match=r"odd/7: language 'qqq' is not known; known: af, am, ar"):
        score(RIGHT, problem=problem, language=1.0)


def test_repetition_is_taken_off():
    tokens = (1, 2, 3, 4, 1, 2, 3, 4)
    found = score(RIGHT, token_ids=tokens, repetition=0.5, repetition_ngram=4)
    assert found.parts["repetition"] == -0.5
    assert found.total == 0.75


def test_what_the_language_reward_lumps_together_is_said_before_a_run():
    assert language_notes(RewardSettings(language_by="script")) == []  # not asked for
    (note,) = language_notes(RewardSettings(language=0.0, language_by="script"))
    assert "English and German, count as one" in note
    with pytest.raises(VerifierError, match="language 'qqq' is not known"):
        language_notes(RewardSettings(language=1.0, target_language="qqq"))


def test_small_talk_may_go_without_a_thought():
    problem = Problem(
        id="g", prompt="Hello!", gold="", verifier="general", meta={"accepts": ("Hello!",), "subject": "greeting"}
    )
    weights = {"think_format": 1.0, "language": 1.0, "language_by": "script"}
    texts = ("<think></think>Hello!", "<think></think>你好!", "Hello!", "<think></think>...")
    found = [score(text, problem=problem, **weights).parts for text in texts]
    parts = [(part["accuracy"], part["think_format"], part["language"]) for part in found]
    assert parts == [(1.0, 1.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 0.0, 1.0)]
