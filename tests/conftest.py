"""What many tests share: tiny networks of each architecture, a tokenizer, and a model folder made of them."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GemmaConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from r1kit.config.model import ArchitectureSettings
from r1kit.models import nano
from r1kit.models.policy import Policy
from r1kit.tasks.nano_corpus import documents

torch.set_num_threads(2)

# initializer_range is far above the usual 0.02, so that greedy choices are clear and errors show.
_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
_LATENT = {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "first_k_dense_replace": 1,
}
ARCHITECTURES: dict[str, tuple[type[PretrainedConfig], dict]] = {
    "llama": (LlamaConfig, _SHAPE),
    "qwen2": (Qwen2Config, _SHAPE),
    "qwen3": (Qwen3Config, _SHAPE | {"head_dim": 16}),
    "gemma": (GemmaConfig, _SHAPE | {"head_dim": 16}),
    "deepseek_v3": (DeepseekV3Config, _SHAPE | _LATENT),
    # Heads wide enough for the engine's compiled kernels.
    "llama_wide": (LlamaConfig, _SHAPE | {"head_dim": 32}),
    "qwen2_wide": (Qwen2Config, _SHAPE | {"num_attention_heads": 2, "num_key_value_heads": 1}),
    "qwen3_wide": (Qwen3Config, _SHAPE | {"head_dim": 64, "num_attention_heads": 6}),
}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The nano tokenizer, made from a few documents."""
    stream = documents("tests")
    texts = [nano.NANO_DOCUMENT.format(question=q, completion=c) for q, c in (next(stream) for _ in range(400))]
    return nano.make_tokenizer(texts, 420)


@pytest.fixture
def make_policy(tokenizer):
    """A function from an architecture's name to a policy with random float32 weights, the same each time."""

    def make(architecture: str = "llama", *, seed: int = 0, **other: Any) -> Policy:
        kind, shape = ARCHITECTURES[architecture]
        vocabulary = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
        config = kind(**(shape | vocabulary | other))
        torch.manual_seed(seed)
        return Policy(AutoModelForCausalLM.from_config(config, dtype=torch.float32), tokenizer)

    return make


@pytest.fixture(scope="session")
def model_folder(tokenizer, tmp_path_factory) -> Path:
    """A model folder that a recipe's `model.path` can name: an untrained nano network of 60 thousand parameters."""
    folder = tmp_path_factory.mktemp("model")
    shape = ArchitectureSettings(hidden_size=48, num_layers=2, num_heads=4, intermediate_size=96)
    model = nano.make_model(shape, tokenizer, seed=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def serve():
    """A function from a script to a running server of tests/chat_server.py."""
    servers = []
    chat_server = runpy.run_path(str(Path(__file__).with_name("chat_server.py")))["ChatServer"]

    def start(script):
        servers.append(chat_server(script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
