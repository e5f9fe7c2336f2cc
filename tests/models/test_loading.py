"""Model folders: what is one loads as it is, and what is none is refused in one line that says what is amiss."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from r1kit.config.model import ModelSettings
from r1kit.errors import ModelError
from r1kit.models.loading import load_policy


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of the model folder, free to be broken."""
    return shutil.copytree(model_folder, tmp_path / "model")


def refusal(path):
    with pytest.raises(ModelError) as caught:
        load_policy(ModelSettings(path=str(path)))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_weights_load_as_they_were_saved_in_the_precision_asked_for(folder):
    saved = load_file(folder / "model.safetensors")
    for dtype in ("float32", "bfloat16"):
        policy = load_policy(ModelSettings(path=str(folder), dtype=dtype))
        loaded = policy.model.state_dict()
        assert all(torch.equal(loaded[name], tensor.to(getattr(torch, dtype))) for name, tensor in saved.items())
        assert not policy.model.training
    assert policy.tokenizer.decode(policy.tokenizer.encode("<think>对</think>")) == "<think>对</think>"


def test_a_folder_that_is_none_is_refused(tmp_path):
    assert "no such folder" in refusal(tmp_path / "none")
    assert "config.json" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert name.replace("model.", "*.") in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]"])
def test_a_broken_file_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    refusal(folder)


def test_weights_cut_short_are_refused(folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refusal(folder)


def test_an_unknown_architecture_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no_such_thing", "architectures": None}))
    refusal(folder)


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    refusal(folder)


def test_a_missing_weight_is_refused_and_never_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "up_proj" in refusal(folder)


def test_a_tokenizer_without_an_end_of_sequence_token_is_refused(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert "end-of-sequence" in refusal(folder)


def test_a_tokenizer_larger_than_the_embeddings_is_refused(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before = len(tokenizer)
    tokenizer.add_tokens(["<new>", "<newer>"])
    tokenizer.save_pretrained(folder)
    message = refusal(folder)
    assert f"{before + 2} entries" in message and f"{before} embeddings" in message
