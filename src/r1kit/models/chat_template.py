"""The only place where questions become tokens."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from transformers import PreTrainedTokenizerBase

from r1kit.config.rollouts import TemplateSettings
from r1kit.errors import DataError, ModelError, R1Error
from r1kit.models.conversation import CLOSE, OPEN, Messages, after_opening, as_messages, split_turn, squeezed, written
from r1kit.models.template_shape import JinjaTemplate, Option, control_tokens
from r1kit.models.trainable import Trainable
from r1kit.types import SamplingSpec

# arXiv:2501.12948v1, table 1, word for word; `{question}` stands where the paper prints "prompt".
R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
    "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
    "User: {question}. Assistant:"
)
NANO = "User: {question}\nAssistant:"
# A control token in somebody's message is text: it is carried through the template under these marks.
MARKED = "\ue000{}\ue001"
MARK = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A conversation, or as much of it as is one sequence of tokens, with what trains of it."""

    token_ids: tuple[int, ...]
    trainable: tuple[bool, ...]
    """True for what the assistant says, the token that ends its turn included; as long as `token_ids`."""

    @classmethod
    def of(cls, prompt: Sequence[int], completion: Sequence[int]) -> "TrainingRow":
        """A prompt, masked, and the completion that trains."""
        return cls((*prompt, *completion), (False,) * len(prompt) + (True,) * len(completion))


@dataclass(frozen=True)
class ChatTemplate:
    """How questions and conversations become prompts and training rows for one tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    kind: Literal["nano", "r1_zero", "chat"]
    system: str | None = None
    instruction: str = ""
    prefill: str = ""
    bos: bool | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    model_end_ids: tuple[int, ...] = ()
    """Tokens that the model's generation_config calls ends of a text; nothing else is taken from it."""

    @classmethod
    def of(cls, policy: Trainable, settings: TemplateSettings) -> "ChatTemplate":
        """The template that a recipe names, for a loaded model."""
        return cls(policy.tokenizer, **settings.model_dump(), model_end_ids=end_ids_of(policy))

    def prompt_text(self, source: str | Messages) -> str:
        """The prompt as text, up to where the model goes on, what is prefilled included."""
        return MARK.sub(lambda mark: self._controls[int(mark[1])], self._prompt(self._marked(source)))

    def prompt_token_ids(self, source: str | Messages) -> tuple[int, ...]:
        """The prompt of a question or a conversation as tokens.

        A chat template writes its own BOS; to plain text the tokenizer adds it, if any. Control tokens in a message
        are read as text. Raises ModelError where the tokenizer has no template, DataError for a conversation that the
        template has no room for.
        """
        return self._prompt_ids(self._prompt(self._marked(source)))

    def example_token_ids(self, source: str | Messages, completion: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Prompt and completion of a training example; the completion ends in the token that ends a turn."""
        turn = {"role": "assistant", "content": completion}
        return self._turn_ids(self._marked(source), self._marked([*as_messages(source), turn])[-1])

    def reply_token_ids(self, text: str) -> tuple[int, ...]:
        """Somebody else's reply as tokens to be read, ended; control tokens in it are text, and nothing is refused."""
        asked, reply = {"role": "user", "content": "?"}, {"role": "assistant", "content": text}
        return (*self._encode(self._marked([asked, reply])[-1]["content"]), self.end_id)

    def training_rows(self, messages: Messages) -> list[TrainingRow]:
        """A conversation as tokens: each turn of the assistant trains once, after the prompt that it is sampled from.

        One row where each prompt goes on from the turn before, as it is. Templates that take the thinking out of
        earlier turns make a row a turn: that is what sampling sees. Raises DataError for what can't be told whole.
        """
        turns = self._marked(messages)
        rows: list[TrainingRow] = []
        for place, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            prompt, completion = self._turn_ids(turns[:place], turn)
            known = rows.pop() if rows and prompt[: len(rows[-1].token_ids)] == rows[-1].token_ids else None
            trainable = known.trainable if known else ()
            masked = (False,) * (len(prompt) - len(trainable))
            rows.append(TrainingRow(prompt + completion, trainable + masked + (True,) * len(completion)))
        if not rows:
            raise DataError("nothing of the conversation trains: it has no turn of the assistant")
        return rows

    def lint(self, source: str | Messages, *, wants_thinking: bool = False) -> None:
        """Raise ModelError for a prompt on which sampling or training would be silently wrong."""
        from r1kit.models.template_lint import lint_prompt  # it knows templates, so it can't be imported above

        lint_prompt(self, source, wants_thinking=wants_thinking)

    def reads_on(self, source: str | Messages, word: str) -> bool:
        """True where the prompt's tokens stay the same when a word follows it."""
        prompt = self._prompt(self._marked(source))
        ids = self._prompt_ids(prompt)
        return self._prompt_ids(prompt + word)[: len(ids)] == ids

    @cached_property
    def ends_with_think(self) -> bool:
        """True where the prompt already opens the thinking part, so that the completion can't."""
        return self.prompt_text("?").rstrip().endswith(OPEN)

    @cached_property
    def end_id(self) -> int:
        """The token that a trained turn ends in: the chat template's own, else the tokenizer's end of sequence."""
        return self.jinja.shape.end_id if self.kind == "chat" else self.tokenizer.eos_token_id

    @cached_property
    def stop_token_ids(self) -> tuple[int, ...]:
        """All tokens that end a completion: the tokenizer's, the chat template's and the model's."""
        found = {self.tokenizer.eos_token_id, *self.model_end_ids}
        if self.kind == "chat":
            with suppress(R1Error):  # a template without an end: `lint` refuses it where that matters
                found.add(self.end_id)
        return tuple(sorted(found))

    def meaning(self, token_id: int) -> str:
        """What a token is besides text; often one is several of these."""
        names = {
            "BOS": {self.tokenizer.bos_token_id},
            "EOS": {self.tokenizer.eos_token_id},
            "ends a completion": set(self.stop_token_ids),
            "padding": {self.tokenizer.pad_token_id},
        }
        return ", ".join(name for name, ids in names.items() if token_id in ids)

    def with_stops(self, spec: SamplingSpec) -> SamplingSpec:
        """The spec, ending at this template's tokens too; the tokenizer's end of sequence ends everything anyway."""
        ends = {*spec.stop_token_ids, *self.stop_token_ids} - {self.tokenizer.eos_token_id}
        return replace(spec, stop_token_ids=tuple(sorted(ends)))

    @cached_property
    def jinja(self) -> JinjaTemplate:
        """The tokenizer's own template."""
        return JinjaTemplate(self.tokenizer, self.options)

    @cached_property
    def _controls(self) -> list[str]:
        """Longest first, so that a token is found before one that it begins with."""
        found = control_tokens(self.tokenizer).keys() | (self.jinja.markers if self.kind == "chat" else set())
        return sorted(found, key=lambda token: (-len(token), token))

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._controls)) or "(?!)")

    def _marked(self, source: str | Messages) -> list[dict[str, str]]:
        """The messages with the recipe's system prompt and instruction, control tokens marked."""
        messages = as_messages(source)
        if self.system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system}, *messages]
        if self.instruction:
            messages = [
                turn | {"content": f"{turn['content']}\n{self.instruction}"} if turn["role"] == "user" else turn
                for turn in messages
            ]
        number = {token: place for place, token in enumerate(self._controls)}

        def marked(text: str) -> str:
            return self._control_pattern.sub(lambda found: MARKED.format(number[found[0]]), text)

        return [{name: text if name == "role" else marked(text) for name, text in turn.items()} for turn in messages]

    def _prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        if messages[-1]["role"] != "user":
            raise DataError("a prompt must end with a message of the user")
        if self.kind == "chat":
            return self.jinja.render(messages, opens_turn=True) + self.prefill
        if len(messages) > 1:
            raise DataError(
                f"template.kind is {self.kind!r}, which has room for one question; conversations need 'chat'"
            )
        # Not str.format: a question may hold braces.
        template = R1_ZERO if self.kind == "r1_zero" else NANO
        return template.replace("{question}", messages[0]["content"]) + self.prefill

    def _turn_ids(
        self, history: Sequence[Mapping[str, str]], turn: Mapping[str, str]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The prompt after `history`, and the turn after that, ended."""
        prompt = self._prompt(history)
        text = self._chat_turn(history, turn, prompt) if self.kind == "chat" else self._plain_turn(turn)
        prompt_ids = self._prompt_ids(prompt)
        return prompt_ids, (*self._completion_ids(prompt, prompt_ids, text), self.end_id)

    def _plain_turn(self, turn: Mapping[str, str]) -> str:
        return after_opening(written(turn), self.prefill, reasoning=split_turn(turn)[0])

    def _chat_turn(self, history: Sequence[Mapping[str, str]], turn: Mapping[str, str], prompt: str) -> str:
        """What follows the prompt up to the end of the turn: as the template writes it, if it tells the turn whole.

        Many templates take the thinking out of every turn; then the turn is put together here, and the template gives
        its beginning and its end. Whatever else a template changes is refused.
        """
        shape = self.jinja.shape
        reasoning, answer = split_turn(turn)
        text = written(turn)
        rest = after_opening(text, shape.opening + self.prefill, reasoning=reasoning)
        rendered = self.jinja.render([*history, turn], opens_turn=False)
        start = prompt.removesuffix(self.prefill).removesuffix(shape.opening).rstrip()
        end = shape.end.lstrip()
        told, found, _ = rendered[len(start) :].partition(end)
        if not rendered.startswith(start) or not found:
            raise DataError(
                "the chat template writes the messages before an answer otherwise than those of a prompt: "
                f"{start[-40:]!r} is not what the conversation begins with"
            )
        without, whole = squeezed(answer), squeezed(text)
        if squeezed(told) not in (whole, without, OPEN + CLOSE + without):
            raise DataError(f"the chat template does not write a turn as it is: {text[:40]!r} became {told[:60]!r}")
        own = rendered[len(prompt) :].partition(end)[0]
        is_whole = squeezed(own) == squeezed(rest) or (not reasoning and squeezed(own) == OPEN + CLOSE + squeezed(rest))
        return own if rendered.startswith(prompt) and is_whole else rest + shape.end.removesuffix(end)

    def _prompt_ids(self, prompt: str) -> tuple[int, ...]:
        ids = self._encode(prompt, add_special_tokens=self.kind != "chat")
        bos = self.tokenizer.bos_token_id
        if self.bos is None:
            return ids
        if bos is None:
            raise ModelError("template.bos is set, but the model's tokenizer has no BOS token")
        while ids[:1] == (bos,):
            ids = ids[1:]
        return (bos, *ids) if self.bos else ids

    def _completion_ids(self, prompt: str, prompt_ids: tuple[int, ...], text: str) -> tuple[int, ...]:
        """The text as tokens that go on from the prompt's, which sampling has fixed; read apart or together, it must
        read back as the text, or DataError is raised.
        """
        apart = self._encode(text)
        if self._reads_back(prompt_ids, apart, text):
            return apart
        # Some tokenizers put a space before whatever they are given alone.
        together = self._prompt_ids(prompt + text)
        rest = together[len(prompt_ids) :]
        if together[: len(prompt_ids)] == prompt_ids and self._reads_back(prompt_ids, rest, text):
            return rest
        raise DataError(
            f"the tokenizer does not give the completion back: {text[:40]!r} becomes "
            f"{self._decode(prompt_ids + apart)[len(self._decode(prompt_ids)) :][:40]!r}"
        )

    def _reads_back(self, prompt_ids: tuple[int, ...], completion_ids: tuple[int, ...], text: str) -> bool:
        before, whole = self._decode(prompt_ids), self._decode(prompt_ids + completion_ids)
        plain = MARK.sub(lambda mark: self._controls[int(mark[1])], text)
        return whole == before + plain or self._normalised(whole) == self._normalised(before + plain)

    def _normalised(self, text: str) -> str:
        """Some tokenizers compose accents before they read."""
        normaliser = self.tokenizer.backend_tokenizer.normalizer
        return normaliser.normalize_str(text) if normaliser else text

    def _decode(self, ids: tuple[int, ...]) -> str:
        return self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)

    def _encode(self, text: str, *, add_special_tokens: bool = False) -> tuple[int, ...]:
        """The text as tokens, marked control tokens as what they look like."""
        first, *rest = MARK.split(text)
        ids = list(self.tokenizer.encode(first, add_special_tokens=add_special_tokens))
        if add_special_tokens and ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()  # some tokenizers close every text; a prompt must stay open
        for number, piece in zip(rest[::2], rest[1::2], strict=True):
            token = self._controls[int(number)]  # without its first sign it is no token any more
            for part in (token[:1], token[1:], piece):
                ids += self.tokenizer.encode(part, add_special_tokens=False)
        return tuple(ids)


def end_ids_of(policy: Trainable) -> tuple[int, ...]:
    """The end-of-text tokens of a model's generation_config."""
    ids = getattr(getattr(policy.model, "generation_config", None), "eos_token_id", None)
    return tuple(ids) if isinstance(ids, list | tuple) else (ids,) if ids is not None else ()


def end_at(policy: Trainable, template: ChatTemplate) -> None:
    """Let the model that is saved end where it was trained to: other programs read that in its generation_config."""
    if set(template.stop_token_ids) - set(end_ids_of(policy)):
        policy.model.generation_config.eos_token_id = list(template.stop_token_ids)
