"""AdamW or Muon with a warm-up, a schedule and a clipped gradient."""

import math

import torch

from r1kit.config.objective import OptimizerSettings
from r1kit.errors import RunError
from r1kit.models.trainable import Trainable


class Optimizer:
    """An optimizer over all that trains of a network; `steps_done` is part of its state."""

    def __init__(self, policy: Trainable, settings: OptimizerSettings, *, total_steps: int) -> None:
        """`total_steps` is where a cosine schedule ends."""
        self._settings = settings
        self._total_steps = total_steps
        self.steps_done = 0
        self.parameters = policy.trained_parameters()
        self._optimizers = _make_optimizers(policy, settings)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        settings = self._settings
        warmup = min(1.0, (self.steps_done + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        if settings.schedule == "constant":
            return settings.lr * warmup
        progress = min(1.0, self.steps_done / max(1, self._total_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return settings.lr * warmup * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * cosine)

    def step(self) -> float:
        """Clip the gradient, update the weights, forget the gradient; returns the gradient's norm before the clip.

        Raises RunError, before any weight is touched, where the norm is not finite.
        """
        grad_norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if not torch.isfinite(grad_norm):
            raise RunError(
                f"step {self.steps_done + 1}: the gradient's norm is {float(grad_norm)}; the last checkpoint is whole: "
                "lower optimizer.lr, or use model.dtype float32"
            )
        # Torch would multiply all gradients by 1 where the clip doesn't bind, and so read and write them once more.
        if self._settings.max_grad_norm / (grad_norm + 1e-6) < 1:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self._settings.max_grad_norm, grad_norm)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        return float(grad_norm)

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """All of the optimizer's state, by part, parameter number and name."""
        return {
            f"{part}.{number}.{name}": tensor
            for part, optimizer in enumerate(self._optimizers)
            for number, entry in optimizer.state_dict()["state"].items()
            for name, tensor in entry.items()
        }

    def load_state(self, tensors: dict[str, torch.Tensor], *, steps_done: int) -> None:
        """Go on from `state_tensors` after so many steps."""
        states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in self._optimizers]
        for key, tensor in tensors.items():
            part, number, name = key.split(".")
            states[int(part)].setdefault(int(number), {})[name] = tensor.clone()
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.steps_done = steps_done


def _make_optimizers(policy: Trainable, settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    trained = policy.trained_parameters()
    embeddings = {id(policy.model.get_input_embeddings().weight), id(policy.head.weight)}
    is_muon = settings.kind == "muon"
    matrices = [w for w in trained if is_muon and w.ndim == 2 and id(w) not in embeddings]
    taken = {id(weights) for weights in matrices}
    adamw = torch.optim.AdamW(
        [weights for weights in trained if id(weights) not in taken],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    if not is_muon:
        return [adamw]
    # match_rms_adamw scales Muon's steps so that one learning rate suits both (arXiv:2502.16982).
    muon = torch.optim.Muon(
        matrices, lr=settings.lr, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, adamw]
