"""The only place where questions become tokens."""

from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from r1kit.errors import ModelError

# arXiv:2501.12948v1, table 1, word for word; `{question}` stands where the paper prints "prompt".
R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
    "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
    "User: {question}. Assistant:"
)
NANO = "User: {question}\nAssistant:"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """How a question becomes a prompt for one tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    kind: Literal["nano", "r1_zero", "chat"]

    def prompt_text(self, question: str) -> str:
        """The prompt as text, up to where the model goes on; raise ModelError where the tokenizer has no template."""
        if self.kind == "chat":
            if not self.tokenizer.chat_template:
                raise ModelError("template.kind is 'chat', but the model's tokenizer has no chat template")
            messages = [{"role": "user", "content": question}]
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        # Not str.format: a question may hold braces.
        return (R1_ZERO if self.kind == "r1_zero" else NANO).replace("{question}", question)

    def prompt_token_ids(self, question: str) -> tuple[int, ...]:
        """The prompt as tokens: a chat template writes its own BOS; to plain text the tokenizer adds it, if any."""
        ids = self.tokenizer.encode(self.prompt_text(question), add_special_tokens=self.kind != "chat")
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # some tokenizers close every text; a prompt must stay open
        return tuple(ids)

    def example_token_ids(self, question: str, completion: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Prompt and completion of a training example; the completion ends in the end-of-sequence token."""
        completion_ids = self.tokenizer.encode(completion, add_special_tokens=False)
        return self.prompt_token_ids(question), (*completion_ids, self.tokenizer.eos_token_id)

    def lint(self, question: str) -> None:
        """Raise ModelError for a prompt on which sampling would be silently wrong."""
        ids, bos = self.prompt_token_ids(question), self.tokenizer.bos_token_id
        if bos is not None and ids[:2] == (bos, bos):
            raise ModelError("the prompt begins with two BOS tokens: the chat template and the tokenizer both add one")
        if self.tokenizer.eos_token_id in ids and self.kind != "chat":
            raise ModelError("the prompt holds the end-of-sequence token: completions would begin after the end")

    @property
    def ends_with_think(self) -> bool:
        """True where the prompt already opens the thinking part, so that the completion can't."""
        return self.prompt_text("").rstrip().endswith("<think>")
