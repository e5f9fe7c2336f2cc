"""Models and tokenizers from disk, checked before anything is built on them."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from r1kit.config.model import ModelSettings
from r1kit.errors import ModelError
from r1kit.models import nano
from r1kit.models.policy import Policy

# Its bars for the loading and writing of each file would break into our own progress display.
disable_progress_bar()

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_folder(path: str) -> Path:
    """The folder that a recipe's `model.path` means; raise ModelError where it holds no model."""
    folder = nano.shipped_folder() if path == "nano" else Path(path).expanduser()
    if not folder.is_dir():
        raise ModelError(f"model.path {path!r}: no such folder (`nano` names the model that ships with r1kit)")
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing or not list(folder.glob("*.safetensors")):
        lacks = ", ".join(missing or ["*.safetensors"])
        raise ModelError(f"{folder}: not a model folder: it has no {lacks}")
    return folder


def load_policy(settings: ModelSettings) -> Policy:
    """The model and tokenizer of a folder, in the precision asked for."""
    folder = resolve_folder(settings.path)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[settings.dtype], local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder}: cannot be loaded: {str(error).splitlines()[0]}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{folder}: its tokenizer has no end-of-sequence token, so completions could never end")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} entries, "
            f"but the model only {model.get_input_embeddings().num_embeddings} embeddings"
        )
    return Policy(model, tokenizer)
