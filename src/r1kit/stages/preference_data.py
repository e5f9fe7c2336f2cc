"""Preferences on disk: pairs of completions, or single ones called safe or not; read, tokenised, cut, balanced."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.config.reward_model import RewardModelRecipe
from r1kit.errors import DataError
from r1kit.models.reward import RewardModel
from r1kit.tasks.jsonl import read_jsonl
from r1kit.tasks.rows import digest_of

BAD_ROWS_NAMED = 3
FIELDS = {"pairwise": ("chosen", "rejected"), "pointwise": ("completion",)}

Tokens = tuple[tuple[int, ...], tuple[int, ...]]
"""Prompt and reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One pair, the chosen reply first, or one single reply."""

    prompt: str
    """Names the prompt: what has the same one is of one split."""
    replies: tuple[Tokens, ...]
    is_safe: bool | None = None
    """Of a single reply."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the longest of its rows."""
        return max(len(prompt) + len(reply) for prompt, reply in self.replies)

    @property
    def surplus(self) -> int:
        """Tokens by which the chosen reply of a pair is longer."""
        (_, chosen), (_, rejected) = self.replies
        return len(chosen) - len(rejected)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSet:
    """What a recipe trains and tests on, and what became of the rows."""

    train: tuple[Preference, ...]
    held_out: tuple[Preference, ...]
    notes: tuple[str, ...]
    """What to say of it, a line each."""


def read_preferences(recipe: RewardModelRecipe, model: RewardModel) -> PreferenceSet:
    """The preferences of the recipe's file, as the model will read them.

    Raises DataError with the lines of rows that are none, and where nothing is left to train or to test on.
    """
    table = read_jsonl(recipe.data)
    found, bad = list[Preference](), list(table.bad)
    for place, row in table.rows:
        try:
            found.append(_preference(row, recipe, model))
        except DataError as error:
            bad.append(f"{place}: {error}")
    if bad:
        more = f"; and {len(bad) - BAD_ROWS_NAMED} more" if len(bad) > BAD_ROWS_NAMED else ""
        raise DataError(f"{recipe.data}: {'; '.join(bad[:BAD_ROWS_NAMED])}{more}")
    limit = min(recipe.reward_model.max_tokens, model.max_tokens)
    short = [preference for preference in found if preference.num_tokens <= limit]
    held_out = [preference for preference in short if _is_held_out(preference, recipe.reward_model.held_out)]
    train = [preference for preference in short if not _is_held_out(preference, recipe.reward_model.held_out)]
    notes = [f"{recipe.data}: {len(found):,} rows"]
    if len(found) > len(short):
        notes.append(f"{len(found) - len(short):,} are left out: longer than {limit:,} tokens")
    if recipe.balances_lengths and train:
        balanced = length_balanced(train, seed=f"{recipe.seed}/balance")
        notes.append(_balance_note(train, balanced))
        if not balanced:
            raise DataError(
                f"{recipe.data}: no pair is left to train on once lengths are balanced: length alone tells the chosen "
                "reply; bring pairs of comparable length, or set reward_model.balance_lengths = false"
            )
        train = balanced
    _refuse_emptiness(recipe, train, held_out)
    notes.append(f"{len(train):,} to train on, {len(held_out):,} held out")
    return PreferenceSet(train=tuple(train), held_out=tuple(held_out), notes=tuple(notes))


def length_balanced(pairs: Sequence[Preference], *, seed: str) -> list[Preference]:
    """The pairs, in their order, without some: among those of like difference the longer is chosen half the time.

    Differences are alike within a power of two. Pairs of equal length all stay.
    """
    sides: dict[int, tuple[list[int], list[int]]] = {}
    for place, pair in enumerate(pairs):
        if pair.surplus:
            sides.setdefault(abs(pair.surplus).bit_length(), ([], []))[pair.surplus > 0].append(place)
    rng = random.Random(seed)
    dropped: set[int] = set()
    for _, (shorter, longer) in sorted(sides.items()):
        fewer, more = sorted((shorter, longer), key=len)
        dropped.update(rng.sample(more, len(more) - len(fewer)))
    return [pair for place, pair in enumerate(pairs) if place not in dropped]


def longer_chosen_share(pairs: Iterable[Preference]) -> float | None:
    """How often the longer reply is the chosen one, of pairs that differ in length; None where none does."""
    surpluses = [pair.surplus for pair in pairs if pair.surplus]
    return sum(surplus > 0 for surplus in surpluses) / len(surpluses) if surpluses else None


def _preference(row: Mapping[str, Any], recipe: RewardModelRecipe, model: RewardModel) -> Preference:
    fields = FIELDS[recipe.loss]
    if missing := [name for name in ("prompt", *fields) if row.get(name) is None]:
        wanted = "`prompt`, `chosen`, `rejected`" if recipe.loss == "pairwise" else "`prompt`, `completion`, `safe`"
        raise DataError(f"field {missing[0]!r} is missing; a row for loss = {recipe.loss!r} has {wanted}")
    prompt = row["prompt"]
    if not isinstance(prompt, str | list) or not prompt:
        raise DataError("field 'prompt' must be a text or a list of messages")
    is_safe = row.get("safe")
    if recipe.loss == "pointwise" and not isinstance(is_safe, bool):
        raise DataError(f"field 'safe' must be true or false, not {is_safe!r:.40}")
    if recipe.loss == "pairwise" and row["chosen"] == row["rejected"]:
        raise DataError("'chosen' and 'rejected' are the same text")
    return Preference(
        prompt=prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, ensure_ascii=False),
        replies=tuple(model.token_ids((prompt, _seen(row[name], name, model))) for name in fields),
        is_safe=is_safe if recipe.loss == "pointwise" else None,
    )


def _seen(text: Any, name: str, model: RewardModel) -> str:
    if not isinstance(text, str):
        raise DataError(f"field {name!r} must be a text, not {text!r:.40}")
    seen = model.seen(text)
    if seen is None:
        raise DataError(f"field {name!r} has no summary after its thinking, and this model sees nothing else")
    return seen


def _is_held_out(preference: Preference, share: float) -> bool:
    return digest_of(f"held out: {preference.prompt}") < share * 2**64


def _balance_note(before: Sequence[Preference], after: Sequence[Preference]) -> str:
    was, is_now = longer_chosen_share(before), longer_chosen_share(after)
    if was is None:
        return "all pairs are of equal length"
    said = f"the longer reply was chosen in {was:.0%} of the pairs that differ in length"
    return f"{said}; {len(after):,} of {len(before):,} pairs are kept" + (
        f", with {is_now:.0%} among them" if is_now is not None else ""
    )


def _refuse_emptiness(recipe: RewardModelRecipe, train: Sequence[Preference], held_out: Sequence[Preference]) -> None:
    for found, split in ((train, "to train on"), (held_out, "held out")):
        if not found:
            raise DataError(
                f"{recipe.data}: no row is left {split}; bring more prompts, or change reward_model.held_out "
                f"({recipe.reward_model.held_out})"
            )
    labels = {preference.is_safe for preference in train}
    if recipe.loss == "pointwise" and len(labels) < 2:
        raise DataError(f"{recipe.data}: all rows to train on are safe = {str(labels.pop()).lower()}; both are needed")
