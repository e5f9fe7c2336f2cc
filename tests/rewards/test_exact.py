"""Exact answers: one text in many spellings is one answer, and no other text is."""

import pytest

from r1kit.errors import VerifierError
from r1kit.rewards.verifiers.exact import ExactVerifier
from r1kit.types import Problem, Verdict

VERIFIER = ExactVerifier()


def verdict_of(answer, gold, **meta):
    return VERIFIER.judge(answer, Problem(id="capital", prompt="?", gold=gold, verifier="exact", meta=meta)).verdict


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("Paris", "Paris"),
        ("paris", "PARIS"),
        (" Paris.\n", "Paris"),
        ("**Paris**", "Paris"),
        ("`Paris`", "Paris"),
        ("\\text{Paris}", "Paris"),
        ("“Paris”!", "Paris"),
        ("Ｐａｒｉｓ", "Paris"),
        ("Pa\u200bris", "Paris"),
        ("New\u00a0 York", "New York"),
        ("Zu\u0308rich", "Zürich"),
        ("STRASSE", "Straße"),
        ("北京。", "北京"),
        ("?", "?"),
        ("5!", "5!"),
        ("-5.", "-5"),
        (".5", ".5"),
        ("(1, 2)", "(1, 2)"),
    ],
)
def test_one_text_in_another_spelling_is_right(answer, gold):
    assert verdict_of(answer, gold) is Verdict.RIGHT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("Paris or Rome", "Paris"),
        ("not Paris", "Paris"),
        ("Paris Paris", "Paris"),
        ("Pari", "Paris"),
        ("Раris", "Paris"),  # a Cyrillic letter
        ("NewYork", "New York"),
        ("the Paris", "Paris"),
        ("5", "-5"),
        ("5", ".5"),
        ("5", "5!"),
        ("120", "5!"),
        ("5", "5%"),
        ("1.5", "15"),
        ("!", "?"),
        ("", "Paris"),
        ("\u200b", "Paris"),
        ("...", "Paris"),
        ("Paris" * 2000, "Paris"),
        ("x" * 5000, "x" * 5000),  # over the budget, whatever it is
    ],
)
def test_another_text_is_wrong(answer, gold):
    assert verdict_of(answer, gold) is Verdict.WRONG


@pytest.mark.parametrize(
    ("answer", "gold", "options"),
    [
        ("the Eiffel Tower", "Eiffel tower", {"ignore_articles": True}),
        ("NewYork", "New York", {"ignore_spaces": True}),
        ("well known", "well-known", {"ignore_punctuation": "all"}),
        ("Yes, it is", "yes it is!", {"ignore_punctuation": "all"}),
        ("Paris ", "Paris", {"verbatim": True}),
    ],
)
def test_an_option_lets_more_pass(answer, gold, options):
    assert verdict_of(answer, gold, verifier_options=options) is Verdict.RIGHT
    others = ("New Yorker", "Eiffel", "15", "Paris!") if gold != "Paris" else ("paris", "Paris.")
    assert {verdict_of(other, gold, verifier_options=options) for other in others} == {Verdict.WRONG}


def test_signs_of_numbers_count_even_where_no_punctuation_does():
    loose = {"ignore_punctuation": "all"}
    pairs = [("5", "-5"), ("15", "1.5"), ("5", ".5"), ("50", "50%"), ("12", "1/2")]
    assert {verdict_of(answer, gold, verifier_options=loose) for answer, gold in pairs} == {Verdict.WRONG}


def test_case_can_count():
    assert verdict_of("PARIS", "Paris", verifier_options={"ignore_case": False}) is Verdict.WRONG


@pytest.mark.parametrize("field", ["golds", "answers", "aliases"])
def test_any_of_several_golds_is_right(field):
    verdicts = [
        verdict_of(answer, "UK", **{field: ["Britain", "United Kingdom"]}) for answer in ("uk", "britain", "EU")
    ]
    assert verdicts == [Verdict.RIGHT, Verdict.RIGHT, Verdict.WRONG]


def test_an_empty_gold_is_unknown_and_never_right():
    assert {verdict_of(answer, " \u200b") for answer in ("", " ", "\u200b", "x")} == {Verdict.UNKNOWN}


@pytest.mark.parametrize("meta", [{"golds": "Paris"}, {"golds": [1]}, {"verifier_options": {"ignore_cases": True}}])
def test_fields_that_cannot_be_used_are_refused(meta):
    with pytest.raises(VerifierError, match="capital: "):
        verdict_of("x", "Paris", **meta)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer> Paris </answer>", "Paris"),
        ("<answer>\\boxed{Paris}</answer>", "Paris"),
        ("<answer>Rome</answer><answer>Paris</answer>", "Paris"),
        ("So \\boxed{\\text{Paris}}.", "\\text{Paris}"),
        ("The answer is Paris.", "Paris"),
        ("Paris", "Paris"),
        ("First line.\nParis", None),
        ("<think>Paris</think>", None),
        ("<think>Paris", None),
        ("<answer></answer>", ""),
    ],
)
def test_the_answer_is_found_where_it_is_marked(text, answer):
    assert VERIFIER.extract(text, Problem(id="x", prompt="", gold="Paris", verifier="exact")) == answer
