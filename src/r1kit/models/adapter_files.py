"""Adapters on disk, in the format of `peft`: adapter_config.json and adapter_model.safetensors.

Written here rather than by `peft`: two small files, for which training would need a package more. A test lets `peft`
read them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from r1kit.errors import ModelError
from r1kit.models.lora import Adapters

ADAPTER = "adapter"
"""Where a folder with merged weights keeps what was merged into them."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX, DOWN, UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
PLAIN = {
    "use_dora": False,
    "fan_in_fan_out": False,
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "target_parameters": None,
    "trainable_token_indices": None,
}
"""Settings of `peft` with which an adapter is W + s B A and nothing else."""


def is_adapter(folder: Path) -> bool:
    """True for a folder that holds adapters and no network."""
    return (folder / CONFIG).is_file() and not list(folder.glob("model*.safetensors"))


def adapter_files(adapters: Adapters) -> dict[str, bytes]:
    """What `peft.PeftModel.from_pretrained` loads, by file name."""
    settings = adapters.settings
    config = PLAIN | {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapters.base,
        "revision": adapters.revision,
        "inference_mode": True,
        "init_lora_weights": True,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
        "use_rslora": settings.use_rslora,
        "target_modules": adapters.target_names,
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in adapters.state_tensors().items()}
    return {CONFIG: json.dumps(config, indent=2).encode(), WEIGHTS: save(tensors, metadata={"format": "pt"})}


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder that holds adapters, or keeps them beside merged weights; raises ModelError."""
    place = folder if (folder / WEIGHTS).is_file() else folder / ADAPTER
    try:
        tensors = load_file(place / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{place / WEIGHTS}: cannot be read: {error}") from error
    if not tensors:
        raise ModelError(f"{place / WEIGHTS}: it holds no adapters")
    return tensors


@torch.no_grad()
def merge(model: nn.Module, folder: Path, config: Mapping[str, Any]) -> None:
    """Add the adapters of a folder to the weights of their base; raises ModelError for those of another kind."""
    unlike = next((name for name, value in PLAIN.items() if (config.get(name) or value) != value), None)
    if config.get("peft_type") != "LORA" or unlike is not None:
        found = f"{unlike} is {config[unlike]!r}" if unlike else f"peft_type is {config.get('peft_type')!r}"
        raise ModelError(f"{folder}: not a plain LoRA adapter ({found}); merge it with peft's merge_and_unload first")
    tensors = read_adapter(folder)
    try:
        scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
        for module in _modules(tensors):
            down_RI, up_OR = (tensors[f"{PREFIX}{module}{end}"].float() for end in (DOWN, UP))
            weight = model.get_submodule(module).weight
            assert isinstance(weight, Tensor)
            weight.copy_(torch.addmm(weight.float(), up_OR, down_RI, alpha=scale))
    except (KeyError, TypeError, ZeroDivisionError, AttributeError, RuntimeError) as error:
        raise ModelError(
            f"{folder}: its adapters do not fit {config.get('base_model_name_or_path')!r}: {error}"
        ) from error


def _modules(tensors: Mapping[str, Tensor]) -> list[str]:
    """The layers that have adapters; KeyError for a tensor that is none of theirs."""
    modules = {name.removeprefix(PREFIX).removesuffix(DOWN) for name in tensors if name.endswith(DOWN)}
    if others := tensors.keys() - {f"{PREFIX}{module}{end}" for module in modules for end in (DOWN, UP)}:
        raise KeyError(f"{min(others)} is no part of a linear layer's adapter")
    return sorted(modules)
