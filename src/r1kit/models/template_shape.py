"""What a tokenizer's own chat template does, found by rendering it: how a turn is opened, and which token ends it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from r1kit.errors import DataError, ModelError
from r1kit.models.conversation import CLOSE, OPEN, squeezed

Option = bool | int | float | str
QUESTION, ANSWER = "a question", "an answer"
# Some templates write today's date into the prompt, which would then differ from day to day; this is the date that
# Llama 3.1's falls back to by itself.
FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnShape:
    """How an assistant's turn begins and ends."""

    opening: str
    """What the generation prompt writes of the turn itself: nothing, `<think>`, or a closed think block."""
    end: str
    """What follows the answer, the token that ends the turn included."""
    end_id: int


@dataclass(frozen=True)
class JinjaTemplate:
    """A tokenizer's chat template with its options."""

    tokenizer: PreTrainedTokenizerBase
    options: Mapping[str, Option] = field(default_factory=dict)

    @cached_property
    def source(self) -> str:
        """The template; raise ModelError where there is none, or where it knows nothing of an option."""
        if not self.tokenizer.chat_template:
            raise ModelError(
                "template.kind is 'chat', but the model's tokenizer has no chat template: use 'r1_zero', or put a "
                "chat_template.jinja into the model's folder"
            )
        try:
            source = self.tokenizer.get_chat_template()
        except ValueError as error:
            raise ModelError(f"the tokenizer has several chat templates and no default: {error}") from error
        for name in self.options:
            if not re.search(rf"\b{re.escape(name)}\b", source):
                raise ModelError(f"template.options.{name}: the model's chat template knows nothing of it")
        return FIXED_DATE + source if "strftime_now" in source else source

    def render(self, messages: Sequence[Mapping[str, str]], *, opens_turn: bool) -> str:
        """The conversation as text, up to where the assistant goes on if `opens_turn`; DataError where it refuses."""
        try:
            return self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=opens_turn,
                **self.options,
            )
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            raise DataError(f"the model's chat template refuses the conversation: {error}") from error

    @cached_property
    def markers(self) -> set[str]:
        """Tokens that the template sets between messages; some tokenizers do not call all of these special."""
        added = (token.content for token in self.tokenizer.added_tokens_decoder.values())
        return {token for token in added if token in "".join(self._rendered) and token not in (OPEN, CLOSE)}

    @cached_property
    def _rendered(self) -> tuple[str, str]:
        """A prompt, and the same conversation with its answer."""
        asked = [{"role": "user", "content": QUESTION}]
        answered = [*asked, {"role": "assistant", "content": ANSWER}]
        return self.render(asked, opens_turn=True), self.render(answered, opens_turn=False)

    @cached_property
    def shape(self) -> TurnShape:
        """How a turn begins and ends; raise ModelError where the template has no end, or no place to go on from."""
        prompt, whole = self._rendered
        before, found, after = whole.rpartition(ANSWER)
        if not found or ANSWER in before:
            raise ModelError("the model's chat template does not write what the assistant said once, as it is")
        start = re.sub(rf"{OPEN}\s*{CLOSE}\s*$", "", before)
        if squeezed(prompt) == squeezed(start):
            opening = ""
        elif prompt.startswith(start) and squeezed(prompt[len(start) :]) in (OPEN, OPEN + CLOSE):
            opening = prompt[len(start) :]
        else:
            raise ModelError(
                "the model's chat template begins an assistant's turn otherwise than the prompt that it makes for one: "
                f"{before[-40:]!r} against {prompt[-40:]!r}"
            )
        end, end_id = _end(self.tokenizer, after)
        return TurnShape(opening=opening, end=end, end_id=end_id)


def _end(tokenizer: PreTrainedTokenizerBase, after: str) -> tuple[str, int]:
    """The text up to the end of the token that ends a turn, and that token's id."""
    controls = control_tokens(tokenizer)
    places = [(after.index(token), -len(token), token) for token in controls if token in after]
    place, _, token = min(places, default=(0, 0, ""))
    if not token or after[:place].strip():
        raise ModelError(
            "the model's chat template ends the assistant's turn with no token of its own, so completions could not "
            "learn to end: use a template that writes one"
        )
    return after[: place + len(token)], controls[token]


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Tokens that steer and are no text, like `<|im_end|>`, with their ids; `<think>`, as a rule, is text."""
    added = tokenizer.added_tokens_decoder.items()
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {token.content: token_id for token_id, token in added if token.special} | dict(named)
