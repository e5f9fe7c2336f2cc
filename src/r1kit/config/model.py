"""Which network a run starts from: an existing checkpoint, or the shape of a new one."""

from typing import Literal

from pydantic import Field

from r1kit.config.settings import Settings


class ModelSettings(Settings):
    """A checkpoint to start from."""

    path: str = "nano"
    """A folder that `transformers` loads, a run's folder, a GGUF file, a Hugging Face hub id, or one that ships with
    r1kit: `nano`, the base, and `nano-student-llama` and `nano-student-qwen2`, to be taught."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; unset: its main branch."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the matrix products, in training and sampling; weights that train are kept in float32 whatever it
    is. `auto`: bfloat16 for networks above 20 million parameters where the processor or GPU multiplies it natively,
    else float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network lives; `auto`: the first CUDA GPU, else Apple's, for networks above 20 million parameters, else
    the processor."""


class ArchitectureSettings(Settings):
    """The shape of a network that is trained from nothing."""

    kind: Literal["llama", "qwen2"] = "llama"
    """Which `transformers` architecture."""
    hidden_size: int = Field(default=192, ge=16)
    num_layers: int = Field(default=4, ge=1)
    num_heads: int = Field(default=6, ge=1)
    num_key_value_heads: int = Field(default=2, ge=1)
    intermediate_size: int = Field(default=512, ge=16)
    max_position_embeddings: int = Field(default=1024, ge=64)
    vocab_size: int = Field(default=640, ge=300, le=1024)
    """Entries of the tokenizer that is made for it: bytes, digits, merges and the tags."""
