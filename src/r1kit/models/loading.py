"""Models and tokenizers from disk, checked before anything is built on them."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
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


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The network of a folder, every weight from its files; raise ModelError where one is missing or does not fit."""
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded: {_first_line(error)}") from error
    # transformers fills what is missing with random numbers and only says so.
    for key in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if found[key]:
            raise ModelError(
                f"{folder}: its weights do not fit its config.json: {key} {sorted(map(str, found[key]))[0]}"
            )
    return model


def load_policy(settings: ModelSettings) -> Policy:
    """The model and tokenizer of a folder, in the precision asked for."""
    folder = resolve_folder(settings.path)
    model = load_model(folder, DTYPES[settings.dtype])
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {_first_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{folder}: its tokenizer has no end-of-sequence token, so completions could never end")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} entries, "
            f"but the model only {model.get_input_embeddings().num_embeddings} embeddings"
        )
    return Policy(model, tokenizer)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
