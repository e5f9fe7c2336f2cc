"""What the house tests look at: every Python file of the package, parsed once."""

import ast
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "r1kit"


@dataclass(frozen=True)
class Source:
    path: Path
    """Relative to src/r1kit."""
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    files = [(path.relative_to(PACKAGE), path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]
    return [Source(path, text, ast.parse(text, str(path))) for path, text in files]
