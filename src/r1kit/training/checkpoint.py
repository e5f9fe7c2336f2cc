"""The only writer of weights: checkpoints that `transformers` loads as they are, and all that a resumed run needs.

A checkpoint is written into a temporary folder, synced to disk, renamed, and only then named in `latest`: whenever the
process or the machine dies, `latest` names a whole one.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from r1kit.errors import ModelError, RunError
from r1kit.models.adapter_files import ADAPTER, adapter_files, read_adapter
from r1kit.models.loading import load_network
from r1kit.models.trainable import Trainable
from r1kit.training.critic import Critic
from r1kit.training.optimizer import Optimizer

TRAINER_STATE = "trainer_state.safetensors"
TRAINER_PROGRESS = "trainer.json"
LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run had come when its checkpoint was written."""

    iterations_done: int
    steps_done: int
    source: Mapping[str, Any] = field(default_factory=dict)
    """The state of where problems come from: what a curriculum has learnt of them."""


def save_model(policy: Trainable, folder: Path) -> None:
    """Write weights, config and tokenizer to a new folder, all or nothing.

    Adapters are merged into the weights, and stand by themselves in `adapter/`.
    """

    def write(temporary: Path) -> None:
        policy.model.save_pretrained(temporary, state_dict=policy.merged_state())
        _write_files(policy.tokenizer_files, temporary)
        if policy.adapters is not None:
            (temporary / ADAPTER).mkdir()
            _write_files(adapter_files(policy.adapters), temporary / ADAPTER)

    with _disk_errors(folder):
        _replace_folder(folder, write)


def save_checkpoint(
    folder: Path,
    policy: Trainable,
    optimizer: Optimizer,
    reference: Trainable | None,
    progress: Progress,
    *,
    keep: int,
    critic: Critic | None = None,
) -> Path:
    """Write `step-N` under `folder`, name it in `latest`, and remove all but the last `keep`; returns its path."""

    def write(temporary: Path) -> None:
        if policy.adapters is None:
            policy.model.save_pretrained(temporary)
        else:  # what a base that is there already lacks
            policy.model.config.save_pretrained(temporary)
            _write_files(adapter_files(policy.adapters), temporary)
        _write_files(policy.tokenizer_files, temporary)
        tensors = {f"optimizer.{name}": tensor for name, tensor in optimizer.state_tensors().items()}
        if reference is not None:
            tensors |= {f"reference.{name}": tensor for name, tensor in reference.trained_state().items()}
        if critic is not None:
            tensors |= {f"critic.{name}": tensor for name, tensor in critic.state_tensors().items()}
        save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, temporary / TRAINER_STATE)
        (temporary / TRAINER_PROGRESS).write_text(json.dumps(asdict(progress)))

    checkpoint = folder / f"step-{progress.steps_done}"
    with _disk_errors(checkpoint):
        if latest_checkpoint(folder) == checkpoint:
            # Iterations in which nothing could be learnt take no step: the weights on disk are these.
            _write_text(checkpoint / TRAINER_PROGRESS, json.dumps(asdict(progress)))
            return checkpoint
        _replace_folder(checkpoint, write)
        _write_text(folder / LATEST, checkpoint.name)
        numbers = (path.name.removeprefix("step-") for path in folder.glob("step-*"))
        steps = sorted((int(number) for number in numbers if number.isdigit()), reverse=True)
        for step in [step for step in steps if step != progress.steps_done][keep - 1 :]:
            shutil.rmtree(folder / f"step-{step}")
    return checkpoint


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that `latest` names; None where none was ever finished."""
    pointer = folder / LATEST
    if not pointer.is_file():
        return None
    checkpoint = folder / pointer.read_text().strip()
    if not (checkpoint / TRAINER_PROGRESS).is_file():
        raise RunError(
            f"{pointer} names {checkpoint.name}, which is not there whole; remove the run folder or restore it"
        )
    return checkpoint


def load_checkpoint(
    checkpoint: Path,
    policy: Trainable,
    optimizer: Optimizer,
    reference: Trainable | None,
    critic: Critic | None = None,
) -> Progress:
    """Set all that trains to where the checkpoint was written; raise RunError where it is damaged."""
    try:
        counts = json.loads((checkpoint / TRAINER_PROGRESS).read_text())
        load_weights(checkpoint, policy)
        tensors = load_file(checkpoint / TRAINER_STATE)
        optimizer.load_state(_under("optimizer.", tensors), steps_done=counts["steps_done"])
        if reference is not None:
            reference.load_trained_state(_under("reference.", tensors))
        if critic is not None:
            critic.load_state(_under("critic.", tensors))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"{checkpoint}: cannot be read: {error}; name an older one in {LATEST}") from error
    return Progress(
        iterations_done=counts["iterations_done"], steps_done=counts["steps_done"], source=counts.get("source", {})
    )


def load_weights(checkpoint: Path, policy: Trainable) -> None:
    """Set the weights to those of a model folder of the same shape; raise RunError where they are not.

    Of a network with adapters, its adapters, to those that were saved in the folder.
    """
    try:
        if policy.adapters is not None:
            policy.adapters.load_state(read_adapter(checkpoint))
            return
        # Not the raw tensors: transformers stores some architectures' weights (fused experts) under other names.
        policy.model.load_state_dict(load_network(policy.auto_class, checkpoint, policy.model.dtype).state_dict())
    except (ModelError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{checkpoint}: its weights are not those of this model, or damaged: {reason}") from error


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    for path in temporary.rglob("*"):
        _sync(path)
    _sync(temporary)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    _sync(folder.parent)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Say in one line what could not be written; what was half written is removed by the next attempt."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder.with_name(f".{folder.name}.tmp"), ignore_errors=True)
        raise RunError(
            f"{folder}: cannot be written: {error}; the checkpoint before is whole: make room, then go on with --resume"
        ) from error


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
