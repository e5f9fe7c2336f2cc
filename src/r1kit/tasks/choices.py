"""How a multiple-choice question becomes a prompt, and which letter each option has."""

from collections.abc import Sequence

from r1kit.errors import DataError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The letter of each option, in order."""
INSTRUCTION = "Answer with the letter of the right option."


def choice_prompt(question: str, choices: Sequence[str], *, instruction: str = INSTRUCTION) -> str:
    """The question, its options one a line with their letters (`A. …`), and what to answer with.

    An empty `instruction` is left out. Raises DataError for fewer than 2 or more than 26 options, or an empty one.
    """
    if not 2 <= len(choices) <= len(LETTERS):
        raise DataError(f"a question with {len(choices)} choices; expected 2 to {len(LETTERS)}: {question[:60]!r}")
    empty = [letter for letter, choice in zip(LETTERS, choices, strict=False) if not str(choice).strip()]
    if empty:
        raise DataError(f"choice {empty[0]} is empty: {question[:60]!r}")
    options = "\n".join(f"{letter}. {str(choice).strip()}" for letter, choice in zip(LETTERS, choices, strict=False))
    return "\n\n".join(part for part in (question.strip(), options, instruction) if part)
