"""A reward model: texts in, scores out. It reads them with its own tokenizer and its own chat template.

Whoever wrote the text may have another tokenizer: no token id ever goes from one model to the other.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from r1kit.config.model import ModelSettings
from r1kit.config.rollouts import TemplateSettings
from r1kit.errors import ModelError
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.conversation import Messages
from r1kit.models.scalar import ScalarModel, load_scalar
from r1kit.rewards.format import split_thinking

CARD = "r1kit_reward_model"
"""Where config.json says what kind of reward model this is."""
MAX_TOKENS_PER_FORWARD = 8192

Exchange = tuple[str | Messages, str]
"""A question or a conversation, and the whole completion, thinking included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardCard:
    """What has to be known of a reward model beside its weights; it stands in its config.json."""

    loss: Literal["pairwise", "pointwise"]
    sees: Literal["summary", "all"]
    """`summary`: what follows the thinking."""
    template: dict[str, Any]
    """How it reads a prompt."""
    tokenizer: str
    """A digest of the tokenizer that it was trained with."""
    centre: float = 0.0
    """Mean score of its held-out completions: a score is worth sigmoid(score - centre). 0 for point-wise models, whose
    sigmoid is a probability by itself."""


class RewardModel:
    """A scalar network with the template that it reads by."""

    def __init__(self, scalar: ScalarModel, card: RewardCard) -> None:
        """Take both as they are."""
        self.scalar, self.card = scalar, card
        self.template = ChatTemplate.of(scalar, TemplateSettings(**card.template))

    @property
    def max_tokens(self) -> int:
        """The most that the network has positions for."""
        return getattr(self.scalar.model.config, "max_position_embeddings", None) or 2**30

    def seen(self, completion: str) -> str | None:
        """What this model sees of a completion; None where it is only to see the summary and there is none."""
        if self.card.sees == "all":
            return completion
        return split_thinking(completion)[1].strip() or None

    def token_ids(self, exchange: Exchange) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Prompt and reply as this model reads them; the score is read at the reply's last token."""
        source, reply = exchange
        return self.template.prompt_token_ids(source), self.template.reply_token_ids(reply)

    @torch.no_grad()
    def scores(self, exchanges: Sequence[Exchange]) -> list[float]:
        """The score of each exchange whose second part is what this model sees; higher is better, of any size.

        What is longer than the network has positions loses the end of its reply. The texts decide how they are
        batched, so the same ones get the same scores to the last bit.
        """
        rows = [self._fitting(*self.token_ids(exchange)) for exchange in exchanges]
        scores = [0.0] * len(rows)
        for places in _by_length([len(prompt) + len(reply) for prompt, reply in rows]):
            found_B = read_scores(self.scalar, *score_rows([rows[place] for place in places]))
            for place, score in zip(places, found_B.tolist(), strict=True):
                scores[place] = score
        return scores

    def _fitting(self, prompt: tuple[int, ...], reply: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        room = max(1, self.max_tokens - len(prompt))
        return (prompt, reply) if len(reply) <= room else (prompt, (*reply[: room - 1], reply[-1]))


def load_reward_model(path: str, *, device: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> RewardModel:
    """A trained reward model; raise ModelError, in one line, for a folder that is none or has another tokenizer."""
    scalar = load_scalar(ModelSettings(path=path, device=device))
    described: Any = getattr(scalar.model.config, CARD, None)
    try:
        card = RewardCard(**described)
        RewardModel(scalar, card).token_ids(("?", "!"))
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: its config.json has no {CARD!r}, so nobody knows how it reads a text; train it with a recipe of "
            "kind = 'reward_model'"
        ) from error
    if card.tokenizer != tokenizer_digest(scalar.tokenizer):
        raise ModelError(
            f"{path}: the tokenizer in it is not the one that this reward model was trained with; put that one back"
        )
    return RewardModel(scalar, card)


def describe(scalar: ScalarModel, card: RewardCard) -> None:
    """Write the card into the config that is saved with the weights."""
    setattr(scalar.model.config, CARD, asdict(card))


def use_own_padding(scalar: ScalarModel, end_id: int) -> None:
    """Let `transformers` find the last token of a padded row: no token that ends a reply may be taken for padding.

    Where the tokenizer has no other padding token, its BOS takes the part, since no reply ends in it; without either,
    `transformers` refuses batches of more than one row.
    """
    tokenizer = scalar.tokenizer
    candidates = [token_id for token_id in (tokenizer.pad_token_id, tokenizer.bos_token_id) if token_id is not None]
    scalar.model.config.pad_token_id = next((token_id for token_id in candidates if token_id != end_id), None)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of which token has which id; equal where ids can be passed from one model to the other."""
    entries = sorted(tokenizer.get_vocab().items(), key=lambda entry: (entry[1], entry[0]))
    return hashlib.blake2b(json.dumps(entries).encode(), digest_size=12).hexdigest()


def refuse_other_tokenizer(own: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, *, what: str) -> None:
    """Raise ModelError where `what` reads the token ids of a policy whose tokenizer is another one."""
    if tokenizer_digest(own) != tokenizer_digest(other):
        raise ModelError(
            f"{what} has another tokenizer ({len(other)} entries) than the policy ({len(own)}), whose token ids it "
            "would read; take one that was made from the same base"
        )


def score_rows(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """Prompts and replies as tensors (B, T): one position more than tokens, so that a score can stand after the last.

    The mask is over the replies shifted by one: values stand at each of their tokens, the score at the last.
    """
    lengths = [len(prompt) + len(reply) + 1 for prompt, reply in rows]
    token_ids_BT = torch.zeros(len(rows), max(lengths), dtype=torch.long)
    mask_BT = torch.zeros(token_ids_BT.shape, dtype=torch.bool)
    for row, ((prompt, reply), length) in enumerate(zip(rows, lengths, strict=True)):
        token_ids_BT[row, : length - 1] = torch.tensor([*prompt, *reply])
        mask_BT[row, len(prompt) + 1 : length] = True
    return token_ids_BT, mask_BT


def last_values(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The value at the last position under the mask of each row (B,)."""
    positions_T = torch.arange(mask_BT.shape[1], device=values_BT.device)
    last_B = (mask_BT.to(values_BT.device) * positions_T).amax(-1)
    return values_BT.gather(1, last_B[:, None])[:, 0]


def read_scores(scalar: ScalarModel, token_ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The score of each row of `score_rows` (B,), with a gradient where one is wanted."""
    return last_values(scalar.values(token_ids_BT, mask_BT), mask_BT)


def _by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places, the longest rows first, in groups of bounded size."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if group and sum(lengths[other] for other in group) + lengths[place] > MAX_TOKENS_PER_FORWARD:
            yield group
            group = []
        group.append(place)
    if group:
        yield group
