"""Preference pairs for a helpfulness model: drawn twice, judged in both orders, kept where the verdict is clear.

samples.jsonl   everything that was drawn (see stages.candidates)
answers.jsonl   what the judge said (see stages.asking)
pairs.jsonl     {"prompt", "chosen", "rejected", "id", "language", "delta"}: the input of a pairwise reward model
funnel.json     what became of the pairs
done.json       stands there when all of it is done
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.config.preferences import PreferencesRecipe
from r1kit.errors import DataError, Interrupted
from r1kit.languages.invisible import is_blank
from r1kit.rewards.format import split_thinking
from r1kit.run import Run, write_whole
from r1kit.stages.asking import Asking, Endpoint
from r1kit.stages.candidates import Candidate, draw_candidates, read_candidates
from r1kit.stages.filters import is_finished
from r1kit.stages.funnel import Funnel
from r1kit.stages.judge import pair_prompts, preference_of
from r1kit.stages.rejection import DONE, FUNNEL, digest, is_done, make_draw

PAIRS = "pairs.jsonl"
AFTERWARDS = ("judge.", "calls.", "min_delta.", "length_balance.")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two completions of one prompt, and how much better the first is, from -2 to 2."""

    first: Candidate
    second: Candidate
    delta: float = 0.0

    @property
    def id(self) -> str:
        """Names prompt and completions."""
        return f"{self.first.problem.id}#{self.first.number}-{self.second.number}"

    @property
    def ordered(self) -> tuple[Candidate, Candidate]:
        """Chosen and rejected."""
        return (self.first, self.second) if self.delta > 0 else (self.second, self.first)

    @property
    def chosen_is_longer(self) -> bool | None:
        """By the text that the user sees; None where both are as long."""
        chosen, rejected = (len(summary_of(candidate)) for candidate in self.ordered)
        return None if chosen == rejected else chosen > rejected

    def row(self) -> dict[str, Any]:
        """As it is written down."""
        chosen, rejected = self.ordered
        problem = chosen.problem
        return {
            "prompt": [dict(message) for message in problem.messages] or problem.prompt,
            "chosen": chosen.text,
            "rejected": rejected.text,
            "id": self.id,
            "language": problem.language,
            "delta": abs(self.delta),
        }


def run_preferences(recipe: PreferencesRecipe, folder: Path, *, resume: bool, console: Console) -> None:
    """Draw, judge and choose in a folder, from the start or from where it stopped.

    Raises DataError where no pair is left; what was drawn and judged stays. Raises Interrupted, with everything saved,
    where asked to stop.
    """
    draw = make_draw(recipe.drawing())
    with Run(folder, recipe, resume=resume, changeable=AFTERWARDS) as run:
        if is_done(run.folder, recipe):
            console.print(f"these pairs are complete: {run.folder / PAIRS}", highlight=False)
            return
        draw_candidates(draw, run, console)
        if run.stop_requested:
            raise Interrupted(f"interrupted; everything is saved, go on with --run {run.folder} --resume")
        funnel = Funnel()
        drawn = comparable(list(read_candidates(run.folder, draw)), funnel)
        clear = judged(drawn, recipe, Asking(run, console), funnel)
        pairs = even_in_length(clear, funnel, seed=f"{recipe.seed}/length") if recipe.length_balance else clear
        if not pairs:
            worst = funnel.worst
            raise DataError(
                f"no pair is left of {funnel.drawn:,}: {worst!r} dropped {funnel.dropped[worst]:,} (its setting: "
                f"{funnel.knobs[worst]}); what was drawn and judged stays in {run.folder}"
            )
        write_whole(run.folder / PAIRS, "".join(json.dumps(p.row(), ensure_ascii=False) + "\n" for p in pairs))
        write_whole(run.folder / FUNNEL, json.dumps({"drawn": funnel.drawn, "filters": funnel.rows()}, indent=2) + "\n")
        write_whole(run.folder / DONE, json.dumps({"pairs": len(pairs), "recipe": digest(recipe)}) + "\n")
        console.print(funnel.table("pairs"))
        console.print(f"{len(pairs):,} pairs: {run.folder / PAIRS}", highlight=False, soft_wrap=True)


def comparable(candidates: Sequence[Candidate], funnel: Funnel) -> list[Pair]:
    """The completions of each problem two by two, where both ended, say something, and not the same."""
    funnel.announce("both finished", "sampling.max_new_tokens")
    funnel.announce("two answers", "sampling.temperature")
    kept = []
    for _, group in groupby(candidates, key=lambda candidate: candidate.problem.id):
        completions = list(group)
        for first, second in zip(completions[::2], completions[1::2], strict=True):
            is_whole = is_finished(first) and is_finished(second)
            funnel.count("both finished", is_kept=is_whole)
            if not is_whole:
                continue
            said = [summary_of(first), summary_of(second)]
            differ = not any(map(is_blank, said)) and said[0] != said[1]
            funnel.count("two answers", is_kept=differ)
            kept += [Pair(first, second)] if differ else []
    return kept


def judged(pairs: Sequence[Pair], recipe: PreferencesRecipe, asking: Asking, funnel: Funnel) -> list[Pair]:
    """The pairs of which the judge clearly likes one better; it sees what the user would see, and no thinking."""
    prompts = [
        (f"{pair.id}/{call}", prompt)
        for pair in pairs
        for call, prompt in enumerate(
            pair_prompts(_question(pair), summary_of(pair.first), summary_of(pair.second), recipe.calls)
        )
    ]
    endpoint = Endpoint(recipe.judge, seed=f"{recipe.seed}/judge")
    replies = asking.asked(prompts, endpoint, recipe.judge, "comparing") if prompts else []
    funnel.announce("readable verdict", "judge.max_tokens, or another judge.model")
    funnel.announce("clear verdict", "min_delta")
    kept = []
    for place, pair in enumerate(pairs):
        delta = preference_of(replies[place * recipe.calls : (place + 1) * recipe.calls])
        funnel.count("readable verdict", is_kept=delta is not None)
        if delta is None:
            continue
        is_clear = abs(delta) > recipe.min_delta
        funnel.count("clear verdict", is_kept=is_clear)
        kept += [Pair(pair.first, pair.second, delta)] if is_clear else []
    return kept


def even_in_length(pairs: Sequence[Pair], funnel: Funnel, *, seed: str) -> list[Pair]:
    """As many pairs whose chosen is longer as pairs whose chosen is shorter; the others go by lot.

    Or a model would learn that long is good (V2 3.1: chosen and rejected are of comparable length overall).
    """
    funnel.announce("even in length", "length_balance")
    longer = [place for place, pair in enumerate(pairs) if pair.chosen_is_longer]
    shorter = [place for place, pair in enumerate(pairs) if pair.chosen_is_longer is False]
    more, fewer = (longer, shorter) if len(longer) > len(shorter) else (shorter, longer)
    dropped = set(random.Random(seed).sample(more, len(more) - len(fewer)))
    for place in range(len(pairs)):
        funnel.count("even in length", is_kept=place not in dropped)
    return [pair for place, pair in enumerate(pairs) if place not in dropped]


def summary_of(candidate: Candidate) -> str:
    """What the user sees: the text after the thinking."""
    return split_thinking(candidate.text)[1].strip()


def _question(pair: Pair) -> str:
    messages = pair.first.problem.messages
    if not messages:
        return pair.first.problem.prompt
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)
