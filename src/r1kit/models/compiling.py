"""Compiling our C sources for this processor, by the user's own compiler, at first use.

It takes a second once a machine and shape; the libraries lie in the user's cache afterwards. Nothing needs them: where
there is no compiler, or `R1KIT_COMPILE=0` stands in the environment, torch's operators do the same.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
SOURCES = resources.files("r1kit")


@lru_cache
def compiled_library(source: str, **definitions: int) -> ctypes.CDLL | None:
    """The library of one of our sources (its path inside the package), from the user's cache or compiled now.

    None where there can't be one.
    """
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.environ.get("R1KIT_COMPILE") == "0":
        return None
    code = SOURCES.joinpath(source).read_text("utf-8")
    for header in ("lanes.h", "attending.h"):
        code = code.replace(f'#include "{header}"', SOURCES.joinpath("models", header).read_text("utf-8"))
    defined = tuple(f"-D{name}={value}" for name, value in definitions.items())
    identity = "\n".join([compiler, *FLAGS, *defined, _processor(), code])
    try:
        folder = Path.home() / ".cache" / "r1kit" / "kernels"
        path = folder / f"{Path(source).stem}-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _compile(compiler, defined, code, path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: the user has no home
        return None


def _compile(compiler: str, defined: Sequence[str], code: str, path: Path) -> None:
    """Write the library; with threads where the compiler has OpenMP. It appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [compiler, *FLAGS, *defined, "-x", "c", "-", "-o", str(made), "-lm"]
        try:
            subprocess.run([*command, "-fopenmp"], input=code.encode(), check=True, capture_output=True, timeout=60)
        except subprocess.CalledProcessError:
            subprocess.run(command, input=code.encode(), check=True, capture_output=True, timeout=60)
        made.replace(path)


def _processor() -> str:
    """What `-march=native` means here: a home folder may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "") + platform.machine()
