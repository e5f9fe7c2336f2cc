"""Checkpoints: all that training needs comes back to the last bit, and `latest` names a whole one at any time."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1kit.config.objective import OptimizerSettings
from r1kit.errors import RunError
from r1kit.training import checkpoint
from r1kit.training.checkpoint import (
    Progress,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_model,
)
from r1kit.training.optimizer import Optimizer

ADAMW = OptimizerSettings(lr=1e-2, warmup_steps=5, schedule="cosine", weight_decay=0.1)
MUON = OptimizerSettings(kind="muon", lr=1e-2)


@pytest.fixture(autouse=True)
def _one_thread():
    """Matrices this small are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(policy, optimizer, steps):
    """A few steps whose gradients are random, but the same for the same step."""
    for _ in range(steps):
        generator = torch.Generator().manual_seed(optimizer.steps_done)
        for weights in optimizer.parameters:
            weights.grad = torch.randn(weights.shape, generator=generator)
        optimizer.step()


def fingerprint(policy):
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def progress(steps):
    return Progress(iterations_done=2 * steps, steps_done=steps)


@pytest.fixture
def trainee(make_policy):
    """A policy after three steps, and its optimizer."""
    policy = make_policy()
    optimizer = Optimizer(policy, ADAMW, total_steps=10)
    train(policy, optimizer, 3)
    return policy, optimizer


@pytest.mark.parametrize("settings", [ADAMW, MUON], ids=["adamw", "muon"])
@pytest.mark.parametrize("architecture", ["llama", "deepseek_v3"])
def test_save_load_continue_is_never_having_stopped(make_policy, tmp_path, architecture, settings):
    policy = make_policy(architecture)
    optimizer = Optimizer(policy, settings, total_steps=10)
    train(policy, optimizer, 3)
    saved = save_checkpoint(tmp_path, policy, optimizer, None, progress(3), keep=2)
    train(policy, optimizer, 4)

    other = make_policy(architecture, seed=9)
    taken_up = Optimizer(other, settings, total_steps=10)
    assert fingerprint(other) != fingerprint(policy)
    assert load_checkpoint(saved, other, taken_up, None) == progress(3)
    assert taken_up.steps_done == 3
    train(other, taken_up, 4)
    assert fingerprint(other) == fingerprint(policy)
    assert taken_up.learning_rate == optimizer.learning_rate


def test_the_reference_is_kept_apart_from_the_policy(make_policy, tmp_path, trainee):
    policy, optimizer = trainee
    reference = make_policy(seed=4)
    saved = save_checkpoint(tmp_path, policy, optimizer, reference, progress(3), keep=2)
    others = make_policy(seed=5), make_policy(seed=6)
    load_checkpoint(saved, others[0], Optimizer(others[0], ADAMW, total_steps=10), others[1])
    assert fingerprint(others[0]) == fingerprint(policy)
    assert fingerprint(others[1]) == fingerprint(reference)


def test_a_checkpoint_loads_in_plain_transformers(tmp_path, trainee):
    policy, optimizer = trainee
    saved = save_checkpoint(tmp_path, policy, optimizer, None, progress(3), keep=2)
    save_model(policy, tmp_path / "final")
    for folder in (saved, tmp_path / "final"):
        loaded = AutoModelForCausalLM.from_pretrained(folder).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in policy.model.state_dict().items())
        assert AutoTokenizer.from_pretrained(folder).encode("User: 12") == policy.tokenizer.encode("User: 12")


def test_only_the_last_checkpoints_are_kept(tmp_path, trainee):
    policy, optimizer = trainee
    for steps in (2, 4, 10, 11):
        save_checkpoint(tmp_path, policy, optimizer, None, progress(steps), keep=2)
        assert latest_checkpoint(tmp_path) == tmp_path / f"step-{steps}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-10", "step-11"]


def test_keeping_one_keeps_the_one_just_written(tmp_path, trainee):
    policy, optimizer = trainee
    for steps in (2, 4):
        save_checkpoint(tmp_path, policy, optimizer, None, progress(steps), keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-4"]


def test_iterations_without_a_step_are_remembered(make_policy, tmp_path, trainee):
    policy, optimizer = trainee
    for iterations in (3, 7):
        done = Progress(iterations_done=iterations, steps_done=3)
        saved = save_checkpoint(tmp_path, policy, optimizer, None, done, keep=2)
    other = make_policy(seed=9)
    assert load_checkpoint(saved, other, Optimizer(other, ADAMW, total_steps=10), None) == done
    assert fingerprint(other) == fingerprint(policy)


def test_there_is_no_latest_checkpoint_before_the_first(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "none") is None


def test_a_pointer_to_nothing_is_an_error_that_names_both(tmp_path):
    (tmp_path / "latest").write_text("step-7")
    with pytest.raises(RunError, match=r"latest names step-7"):
        latest_checkpoint(tmp_path)


class Died(BaseException):
    """What kill -9 is to a test in one process: nothing catches it, nothing is cleaned up."""


@pytest.mark.parametrize(
    ("place", "name"),
    [(checkpoint, "save_file"), (os, "fsync"), (Path, "rename"), (Path, "replace"), (checkpoint, "_write_text")],
)
@pytest.mark.parametrize("after", [False, True])
def test_a_death_at_any_point_leaves_a_whole_checkpoint(
    make_policy, tmp_path, trainee, monkeypatch, place, name, after
):
    policy, optimizer = trainee
    save_checkpoint(tmp_path, policy, optimizer, None, progress(3), keep=1)
    before = fingerprint(policy)
    train(policy, optimizer, 1)
    original = getattr(place, name)

    def dying(*args, **options):
        if after:
            original(*args, **options)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(place, name, dying)
        with pytest.raises(Died):
            save_checkpoint(tmp_path, policy, optimizer, None, progress(4), keep=1)
    other = make_policy(seed=9)
    taken_up = Optimizer(other, ADAMW, total_steps=10)
    found = load_checkpoint(latest_checkpoint(tmp_path), other, taken_up, None)
    assert fingerprint(other) == (before if found == progress(3) else fingerprint(policy))
    assert found in (progress(3), progress(4))

    for steps in (4, 5):
        train(other, taken_up, steps - taken_up.steps_done)
        save_checkpoint(tmp_path, other, taken_up, None, progress(steps), keep=1)
    train(policy, optimizer, 1)
    assert fingerprint(other) == fingerprint(policy)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-5"]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (checkpoint, "save_file"),
        (checkpoint, "_write_text"),
        (os, "fsync"),
        (Path, "write_text"),
        (Path, "rename"),
    ],
)
def test_a_full_disk_is_said_and_spares_the_checkpoint_before(make_policy, tmp_path, trainee, monkeypatch, place, name):
    policy, optimizer = trainee
    saved = save_checkpoint(tmp_path, policy, optimizer, None, progress(3), keep=1)

    def fail(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(place, name, fail)
        with pytest.raises(RunError, match="No space left on device") as caught:
            save_checkpoint(tmp_path, policy, optimizer, None, progress(4), keep=1)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert latest_checkpoint(tmp_path) == saved
    other = make_policy(seed=9)
    assert load_checkpoint(saved, other, Optimizer(other, ADAMW, total_steps=10), None) == progress(3)


def test_a_disk_that_is_full_when_the_tokenizer_is_written_is_said_too(tmp_path, trainee, monkeypatch):
    policy, optimizer = trainee

    def fail(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(RunError, match="No space left on device"):
        save_checkpoint(tmp_path, policy, optimizer, None, progress(4), keep=1)


def test_weights_of_another_model_are_refused(make_policy, tmp_path, trainee):
    save_model(trainee[0], tmp_path / "model")
    with pytest.raises(RunError, match="not those of this model"):
        load_weights(tmp_path / "model", make_policy("deepseek_v3"))


def test_a_missing_weight_is_refused(make_policy, tmp_path, trainee):
    save_model(trainee[0], tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors")
    with pytest.raises(RunError, match="up_proj"):
        load_weights(tmp_path / "model", make_policy(seed=9))


def test_a_damaged_checkpoint_is_refused(make_policy, tmp_path, trainee):
    policy, optimizer = trainee
    saved = save_checkpoint(tmp_path, policy, optimizer, None, progress(3), keep=1)
    for name in ("trainer_state.safetensors", "model.safetensors", "trainer.json"):
        whole = (saved / name).read_bytes()
        (saved / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunError, match=saved.name):
            load_checkpoint(saved, policy, optimizer, None)
        (saved / name).write_bytes(whole)
