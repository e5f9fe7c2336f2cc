"""What must start fast: verifier workers, recipe errors and `r1 --help` never wait for torch."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    importlib.import_module(module.name)
print("heavy:", *sorted({"torch", "transformers"} & sys.modules.keys()))
"""

HELP = """
import sys
from r1kit.cli import main
sys.argv = ["r1", "--help"]
try:
    status = main()
except SystemExit as stop:
    status = stop.code
print("status:", status or 0)
print("heavy:", *sorted({"torch", "transformers"} & sys.modules.keys()))
"""


def printed_by(program: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["types", "errors", "config", "recipe", "rewards", "tasks", "sandbox"])
def test_a_light_module_imports_without_torch(module):
    if find_spec(f"r1kit.{module}") is None:
        pytest.skip(f"r1kit.{module} does not exist yet")
    assert printed_by(IMPORT_ALL, f"r1kit.{module}").splitlines()[-1] == "heavy:"


def test_the_help_answers_without_torch():
    if find_spec("r1kit.cli") is None:
        pytest.skip("r1kit.cli does not exist yet")
    lines = printed_by(HELP).splitlines()
    assert any("demo" in line for line in lines)
    assert lines[-2:] == ["status: 0", "heavy:"]
