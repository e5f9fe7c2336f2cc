"""The architecture: imports only point down this list, and within a line only to the right."""

import ast
import re
from importlib.util import resolve_name
from pathlib import Path

import pytest

LAYERS = """
    cli · options · demo · forecast · paper · pipeline · claims · stage_runner · stage_plan · serving
    bench · diagnostics
    stages
    insight · evaluation
    run · training
    engine
    models
    rewards · tasks
    languages
    sandbox
    objectives
    recipe · config · types · errors
    assets · __init__
"""
RANK = {name: rank for rank, name in enumerate(re.findall(r"\w+", LAYERS))}


def top_level_name(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imported_names(path: Path, tree: ast.Module) -> list[str]:
    """The full dotted name of everything that a file imports, relative imports resolved."""
    package = ".".join(["r1kit", *path.parent.parts])
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def upward_arrows(path: Path, tree: ast.Module) -> list[str]:
    """Every import of `path` that points up the list, or to the left."""
    own = top_level_name(path)
    arrows = []
    for name in imported_names(path, tree):
        package, top = [*name.split("."), "__init__"][:2]
        rank = RANK.get(top, RANK["__init__"])  # what is no module is a name in r1kit/__init__.py
        if package == "r1kit" and top != own and rank <= RANK[own]:
            arrows.append(f"{path} imports {name}")
    return arrows


def test_every_module_has_its_place_in_the_layers(sources):
    unknown = {top_level_name(source.path) for source in sources} - RANK.keys()
    assert not unknown, f"give these modules a place in LAYERS (and in the README's map): {sorted(unknown)}"


def test_imports_only_point_down(sources):
    known = [source for source in sources if top_level_name(source.path) in RANK]
    assert [arrow for source in known for arrow in upward_arrows(source.path, source.tree)] == []


@pytest.mark.parametrize(
    ("path", "line", "is_upward"),
    [
        ("engine/native/scheduler.py", "from r1kit.stages import grpo", True),
        ("engine/native/scheduler.py", "from ...stages.grpo import train_grpo", True),
        ("engine/native/scheduler.py", "from . import sampling", False),
        ("engine/native/scheduler.py", "import r1kit.models.policy", False),
        ("tasks/sums.py", "def f():\n    from r1kit import rewards", True),
        ("rewards/combine.py", "from r1kit import tasks", False),
        ("errors.py", "from r1kit.types import Problem", True),
        ("errors.py", "from r1kit import __version__", False),
        ("__init__.py", "import r1kit.cli", True),
    ],
)
def test_an_upward_import_is_seen_in_every_spelling(path, line, is_upward):
    assert bool(upward_arrows(Path(path), ast.parse(line))) == is_upward
