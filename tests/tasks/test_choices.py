"""A question with options becomes a prompt: letters in order, what to answer with at the end."""

import pytest

from r1kit.errors import DataError
from r1kit.tasks.choices import LETTERS, choice_prompt


def test_options_get_their_letters_in_order():
    assert choice_prompt("Which is a noble gas?\n", ["oxygen ", "argon"]) == (
        "Which is a noble gas?\n\nA. oxygen\nB. argon\n\nAnswer with the letter of the right option."
    )


def test_the_instruction_can_be_another_or_none():
    assert choice_prompt("哪个是质数？", ["4", "7"], instruction="请写出选项的字母。").endswith(
        "\nB. 7\n\n请写出选项的字母。"
    )
    assert choice_prompt("Q", ["4", "7"], instruction="") == "Q\n\nA. 4\nB. 7"


def test_up_to_26_options_have_letters():
    prompt = choice_prompt("Q", [str(number) for number in range(26)])
    assert [line[0] for line in prompt.splitlines()[2:28]] == list(LETTERS)


@pytest.mark.parametrize("choices", [[], ["one"], ["x"] * 27, ["one", " "]])
def test_what_cannot_be_lettered_is_refused(choices):
    with pytest.raises(DataError, match="choice"):
        choice_prompt("Q", choices)
