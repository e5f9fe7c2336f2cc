"""Conversations as data has them: which roles and keys a message has, and where the thinking of a turn stands."""

from collections.abc import Mapping, Sequence

from r1kit.errors import DataError

Messages = Sequence[Mapping[str, str]]
ROLES = ("system", "user", "assistant")
KEYS = {"role", "content", "reasoning_content"}
OPEN, CLOSE = "<think>", "</think>"


def as_messages(source: str | Messages) -> list[dict[str, str]]:
    """The messages of a conversation; a bare question is one of the user's.

    Raises DataError for a key or role that no template could be given faithfully, and for what is no text.
    """
    if isinstance(source, str):
        source = [{"role": "user", "content": source}]
    messages = [_checked(message, number) for number, message in enumerate(source, 1)]
    if any(message["role"] == "system" for message in messages[1:]):
        raise DataError("a system message may only stand first")
    if not any(message["role"] == "user" for message in messages):
        raise DataError("a conversation needs a message of the user")
    return messages


def _checked(message: Mapping[str, str], number: int) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise DataError(f"message {number} is not an object with `role` and `content`")
    if unknown := sorted(map(str, message.keys() - KEYS)):
        raise DataError(f"message {number} has {unknown[0]!r}; known: {', '.join(sorted(KEYS))}")
    kept = {name: value for name, value in message.items() if value is not None}
    if kept.get("role") not in ROLES:
        raise DataError(f"message {number} has the role {kept.get('role')!r}; known: {', '.join(ROLES)}")
    if "content" not in kept or not all(isinstance(value, str) for value in kept.values()):
        raise DataError(f"message {number}: `content`, and `reasoning_content` if there is one, must be strings")
    if "reasoning_content" in kept and kept["role"] != "assistant":
        raise DataError(f"message {number} has `reasoning_content`, but only the assistant thinks")
    if any(_has_lone_surrogate(value) for value in kept.values()):
        raise DataError(f"message {number} holds half of a surrogate pair, which no tokenizer can read")
    return kept


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in text)


def split_turn(turn: Mapping[str, str]) -> tuple[str | None, str]:
    """Thinking and answer of an assistant's message; None where it says nothing of thinking, "" where it has none.

    The thinking stands in `reasoning_content`, or at the start of `content` between `<think>` and `</think>`.
    """
    content = turn["content"]
    reasoning = turn.get("reasoning_content")
    if reasoning is not None:
        if OPEN in content or CLOSE in content or OPEN in reasoning or CLOSE in reasoning:
            raise DataError("a turn with `reasoning_content` holds think tags besides")
        return reasoning.strip(), content
    if content.lstrip().startswith(OPEN) and CLOSE in content:
        thinking, _, answer = content.partition(OPEN)[2].partition(CLOSE)
        return thinking.strip(), answer
    return None, content


def written(turn: Mapping[str, str]) -> str:
    """An assistant's turn as a model writes it: thinking in tags, then the answer."""
    reasoning, answer = split_turn(turn)
    if "reasoning_content" not in turn:
        return turn["content"]
    return f"{OPEN}\n{reasoning}\n{CLOSE}\n\n{answer.strip()}" if reasoning else answer


def after_opening(text: str, opening: str, *, reasoning: str | None) -> str:
    """What is left to write of a turn whose first words, `opening`, the prompt already holds.

    Raises DataError where the turn does not begin with them.
    """
    head = opening.rstrip()
    if not head:
        return text
    if text.startswith(head):
        rest = text[len(head) :]
        return rest.lstrip() if opening != head else rest
    if head.endswith(CLOSE):
        if reasoning or OPEN in text:
            raise DataError("the prompt closes the thinking, but the turn has some")
        return text
    if not head.endswith(OPEN):
        raise DataError(f"the turn does not begin with what the prompt prefills: {opening!r}")
    if CLOSE in text and OPEN not in text:
        return text
    if reasoning == "":
        return f"{CLOSE}\n\n{text}"
    raise DataError(
        f"the prompt opens {OPEN}, but the turn never closes it: give it `reasoning_content` ('' for none), or {CLOSE}"
    )


def squeezed(text: str) -> str:
    """The text without white space: templates differ in nothing else when they tell the same."""
    return "".join(text.split())
