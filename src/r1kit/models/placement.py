"""Where a network lives and in which precision it multiplies: detected, and said."""

import platform
from dataclasses import dataclass

import torch

from r1kit.config.model import ModelSettings
from r1kit.errors import ModelError

SMALL_NETWORK = 20_000_000
"""Parameters below which `auto` stays with float32 on the processor: there is nothing to gain, and runs repeat to the
last bit."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and the precision of its matrix products."""

    device: torch.device
    dtype: torch.dtype
    reason: str
    """Why this precision, in a few words for the console."""

    def __str__(self) -> str:
        """One line for the console."""
        return f"{str(self.dtype).removeprefix('torch.')} on {self.device} ({self.reason})"


def place(settings: ModelSettings, num_parameters: int) -> Placement:
    """Where a network of so many parameters goes; raise ModelError for a device that is not there."""
    device = _device(settings.device, num_parameters)
    if settings.dtype != "auto":
        return Placement(device, DTYPES[settings.dtype], "as the recipe says")
    if num_parameters < SMALL_NETWORK:
        return Placement(device, torch.float32, "a small network")
    native, reason = native_bfloat16(device)
    return Placement(device, torch.bfloat16 if native else torch.float32, reason)


def native_bfloat16(device: torch.device) -> tuple[bool, str]:
    """Whether a device multiplies bfloat16 natively, and by what.

    A processor without such instructions emulates them, several times slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False), torch.cuda.get_device_name(device)
    if device.type == "mps":
        return False, "Apple GPU"
    if platform.machine() in ("x86_64", "AMD64"):
        capabilities = torch.backends.cpu.get_cpu_capability()
        if torch.cpu._is_amx_tile_supported():
            return True, "the processor has AMX"
        if torch.cpu._is_avx512_bf16_supported():
            return True, "the processor has AVX512-BF16"
        return False, f"the processor has {capabilities}, which only emulates bfloat16"
    return False, f"{platform.machine()} processor"


def _device(name: str, num_parameters: int) -> torch.device:
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        is_small = num_parameters < SMALL_NETWORK
        return torch.device("cpu" if is_small else "cuda" if has_cuda else "mps" if has_mps else "cpu")
    if (name == "cuda" and not has_cuda) or (name == "mps" and not has_mps):
        raise ModelError(f"model.device is {name!r}, but torch {torch.__version__} finds no such device; use 'cpu'")
    return torch.device(name)
