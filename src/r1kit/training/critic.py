"""A value model and its optimizer, which train beside a policy: PPO's critic."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from r1kit.models.scalar import ScalarModel
from r1kit.training.optimizer import Optimizer

WEIGHTS, MOMENTS, STEPS = "weights.", "optimizer.", "steps"


@dataclass(frozen=True, slots=True)
class Critic:
    """What a checkpoint holds of it besides is in the trainer's state: it is no model that anybody else would load."""

    scalar: ScalarModel
    optimizer: Optimizer

    def state_tensors(self) -> dict[str, Tensor]:
        """Weights, moments and the number of steps."""
        weights = {f"{WEIGHTS}{name}": tensor for name, tensor in self.scalar.model.state_dict().items()}
        moments = {f"{MOMENTS}{name}": tensor for name, tensor in self.optimizer.state_tensors().items()}
        return weights | moments | {STEPS: torch.tensor(self.optimizer.steps_done)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `state_tensors`; raises KeyError or RuntimeError where they are not those of this network."""
        parts = {
            start: {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
            for start in (WEIGHTS, MOMENTS)
        }
        self.scalar.model.load_state_dict(parts[WEIGHTS])
        self.optimizer.load_state(parts[MOMENTS], steps_done=int(tensors[STEPS]))
