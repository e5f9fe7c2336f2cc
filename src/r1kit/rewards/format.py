"""The form of a completion, `<think>…</think><answer>…</answer>`, read in linear time without regular expressions."""

from dataclasses import dataclass

from r1kit.languages.invisible import is_blank


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatCheck:
    """What the form of a completion is."""

    strict: bool
    """A think block, then an answer block, each once, neither empty, and nothing else (R1-Zero's template)."""
    think_only: bool
    """One think block at the beginning, not empty, and something after it (R1's chat template)."""
    think_block: bool
    """The same, but for the thinking, which may be empty: a greeting needs none."""
    thinking: str | None
    """What stands inside the think block; None where there is none."""
    answer: str | None
    """What stands inside the answer block after the thinking; None where there is no single complete one."""


def check_format(completion: str, *, prompt_ends_with_think: bool = False) -> FormatCheck:
    """The form of a completion; where the prompt already opens the thinking, the tag counts as written."""
    text = f"<think>{completion}" if prompt_ends_with_think else completion
    thinking, after = split_thinking(text)
    answer = answer_block(after)
    outside = after.partition("<answer>")[0] + after.rpartition("</answer>")[2]
    has_block = text.lstrip().startswith("<think>") and text.count("<think>") == text.count("</think>") == 1
    has_thinking = has_block and not is_blank(thinking or "")
    has_answer = text.count("<answer>") == text.count("</answer>") == 1 and not is_blank(answer or "")
    strict = has_thinking and has_answer and is_blank(outside)
    says_something = not is_blank(after.replace("<answer>", "").replace("</answer>", ""))
    return FormatCheck(
        strict=strict,
        think_only=has_thinking and says_something,
        think_block=has_block and says_something,
        thinking=thinking,
        answer=answer,
    )


def split_thinking(text: str) -> tuple[str | None, str]:
    """The thinking, and what comes after the last `</think>`; an opened think block that never closes swallows all."""
    before, closing, after = text.rpartition("</think>")
    if closing:
        return before.partition("<think>")[2] if "<think>" in before else before, after
    head, opening, thinking = text.partition("<think>")
    return (thinking, "") if opening else (None, head)


def answer_block(text: str) -> str | None:
    """What stands between the answer tags; None unless each stands there exactly once, in order."""
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return None
    inner, found, _ = text.partition("<answer>")[2].partition("</answer>")
    return inner if found else None
