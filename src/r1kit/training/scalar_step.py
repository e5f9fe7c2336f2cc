"""One optimizer step of a network that says numbers: reward models and value models differ in the loss alone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from r1kit.models.scalar import ScalarModel
from r1kit.training.memory import recomputes_layers
from r1kit.training.optimizer import Optimizer
from r1kit.training.step import Update, add_gradient


@dataclass(frozen=True, slots=True)
class ScalarRows:
    """Rows that go through the network together: one microbatch."""

    token_ids_BT: Tensor
    mask_BT: Tensor
    """Where a value is asked for: what the network says before that token."""
    loss: Callable[[Tensor], Tensor]
    """From the values (B, T) to a weighted sum; the weights are shares of the whole minibatch."""


def scalar_step(scalar: ScalarModel, optimizer: Optimizer, microbatches: Iterable[ScalarRows]) -> Update:
    """Add up the losses of one minibatch's microbatches, then step once."""
    total = 0.0
    for rows in microbatches:
        values_BT = scalar.values(
            rows.token_ids_BT, rows.mask_BT, recomputes_layers=recomputes_layers(scalar, rows.token_ids_BT.shape[1])
        )
        total += add_gradient(rows.loss(values_BT))
    return Update(loss=total, grad_norm=optimizer.step(), watched={})


@torch.no_grad()
def values_of(
    scalar: ScalarModel, token_ids_BT: Tensor, mask_BT: Tensor, row_groups: Sequence[Sequence[int]]
) -> Tensor:
    """The values (B, T) of rows that go through the network in these groups, without gradient."""
    values_BT = torch.zeros(token_ids_BT.shape)
    for rows in row_groups:
        index_B = torch.tensor(rows, dtype=torch.long)
        values_BT[index_B] = scalar.values(token_ids_BT[index_B], mask_BT[index_B]).cpu().float()
    return values_BT
