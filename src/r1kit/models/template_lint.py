"""Traps between templates, tokenizers and training, each refused before it can cost a run (every one has cost many).

A refusal says what is wrong and which setting, or which row, mends it.
"""

from typing import TYPE_CHECKING

from r1kit.errors import DataError, ModelError
from r1kit.models.conversation import CLOSE, OPEN, Messages

if TYPE_CHECKING:
    from r1kit.models.chat_template import ChatTemplate, TrainingRow


def lint_prompt(template: "ChatTemplate", source: str | Messages, *, wants_thinking: bool) -> None:
    """Raise ModelError for a prompt on which sampling or training would be silently wrong.

    With `wants_thinking` a think block is rewarded, so the prompt must leave room for one.
    """
    ids, text = template.prompt_token_ids(source), template.prompt_text(source)
    _refuse_bos_faults(template, ids)
    if not ids:
        raise ModelError("the prompt has no tokens")
    if template.kind == "chat":
        template.jinja.shape  # noqa: B018  raises where a turn has no end, or no beginning
    elif template.tokenizer.eos_token_id in ids:
        raise ModelError("the prompt holds the end-of-sequence token: completions would begin after the end")
    if ids[-1] in template.stop_token_ids:
        raise ModelError("the prompt ends in a token that ends a completion: there would be nothing left to say")
    _refuse_thinking_faults(template, text, wants_thinking=wants_thinking)
    if text.endswith((" ", "\t")) and not template.reads_on(source, "The"):
        raise ModelError(
            "the prompt ends in a space, which the tokenizer would read as part of the next word: completions would "
            "begin in a way that the model has never seen; take it from the end of template.prefill"
        )


def lint_row(template: "ChatTemplate", row: "TrainingRow") -> None:
    """Raise DataError for a training row that would teach something else than it seems to."""
    stops = set(template.stop_token_ids)
    bos = template.tokenizer.bos_token_id
    spans = trained_spans(row)
    if not spans or row.trainable[0]:
        raise DataError("a training row needs a prompt that is masked, and after it something that trains")
    for span in spans:
        if span[-1] != template.end_id:
            raise DataError(
                "what trains does not end in the token that ends a turn: the model would never learn to stop"
            )
        if stops & set(span[:-1]):
            raise DataError("what trains holds the token that ends a turn in its midst: sampling would stop there")
        if bos is not None and bos not in stops and bos in span:
            raise DataError("what trains holds the BOS token: the tokenizer adds one to each piece of text")
    _refuse_bos_faults(template, row.token_ids)


def trained_spans(row: "TrainingRow") -> list[tuple[int, ...]]:
    """The runs of trained tokens, in order."""
    spans: list[list[int]] = []
    was_trained = False
    for token_id, trains in zip(row.token_ids, row.trainable, strict=True):
        if trains and not was_trained:
            spans.append([])
        if trains:
            spans[-1].append(token_id)
        was_trained = trains
    return [tuple(span) for span in spans]


def _refuse_bos_faults(template: "ChatTemplate", ids: tuple[int, ...]) -> None:
    bos = template.tokenizer.bos_token_id
    if bos is None:
        return
    if ids[:2] == (bos, bos):
        raise ModelError(
            "the prompt begins with two BOS tokens: the chat template and the tokenizer both add one; "
            "set template.bos = true for exactly one"
        )
    adds_one = template.tokenizer.encode("a")[:1] == [bos]
    if template.bos is None and adds_one and ids[:1] != (bos,):
        raise ModelError(
            f"the tokenizer begins every text with BOS ({template.tokenizer.bos_token}), but the chat template writes "
            "none; set template.bos = true to add it, or false if the model was trained without"
        )


def _refuse_thinking_faults(template: "ChatTemplate", text: str, *, wants_thinking: bool) -> None:
    before = text.removesuffix(template.prefill).rstrip()
    if template.prefill.lstrip().startswith(OPEN) and before.endswith((OPEN, CLOSE)):
        did = "opens" if before.endswith(OPEN) else "closes"
        raise ModelError(
            f"template.prefill begins with {OPEN}, but the chat template already {did} the thinking; leave it out"
        )
    if wants_thinking and text.rstrip().endswith(CLOSE):
        raise ModelError(
            "a think block is rewarded, but the prompt closes it before the model can write one; "
            "see template.options (enable_thinking = true) and template.prefill"
        )
