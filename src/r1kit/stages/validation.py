"""The loss on examples that fine-tuning does not see, and when it is time to stop."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.config.recipes import SFTSettings
from r1kit.models.policy import Policy
from r1kit.stages.examples import Example, collate_examples
from r1kit.training.step import batch_logprobs


@dataclass(slots=True)
class Validation:
    """When examples are validated on, and what came of it so far. All of it follows from the rows of metrics."""

    examples: Sequence[Example]
    settings: SFTSettings
    steps_per_epoch: int
    best: float = math.inf
    num_worse: int = 0
    """Validations in a row without a new best."""

    def is_due(self, steps_done: int) -> bool:
        """True after every interval, or every epoch, and at the end."""
        interval = self.settings.validation_interval_steps or self.steps_per_epoch
        is_last = steps_done == self.steps_per_epoch * self.settings.num_epochs
        return bool(self.examples) and (is_last or steps_done % interval == 0)

    def note(self, loss: float) -> bool:
        """Take a loss in; True where it is the best so far."""
        is_best = loss < self.best
        self.best = min(self.best, loss)
        self.num_worse = 0 if is_best else self.num_worse + 1
        return is_best

    def recall(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in what a run had found before it was stopped."""
        for row in rows:
            if row.get("validation_loss") is not None:
                self.note(row["validation_loss"])

    @property
    def is_over(self) -> bool:
        """True where patience is at its end."""
        return 0 < self.settings.patience <= self.num_worse

    def loss(self, policy: Policy, *, max_tokens_per_microbatch: int) -> float:
        """Mean nats a token that would train."""
        total, count, size = 0.0, 0, self.settings.examples_per_step
        for start in range(0, len(self.examples), size):
            batch = collate_examples(self.examples[start : start + size])
            logprobs_BT = batch_logprobs(
                policy, batch, temperature=1.0, max_tokens_per_microbatch=max_tokens_per_microbatch
            )
            total -= float(logprobs_BT.double().sum())
            count += int(batch.completion_mask_BT.sum())
        return total / count
