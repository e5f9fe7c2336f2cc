"""Packages: what the code needs, what its extras need, what the tests ran with, and what is here.

Nothing but Python's own library is used: this has to speak where nothing else is installed.
"""

import operator
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import r1kit
from r1kit.diagnostics.item import Item, Status

PURPOSES = {
    "code": "programs that import sortedcontainers, as some solutions do",
    "gguf": "models in GGUF files",
    "hub": "data sets of the Hugging Face hub",
    "json": "the verifiers of JSON schemas and patterns",
    "language": "telling apart languages of one script",
    "peft": "adapters in peft's own classes (r1kit trains and writes them without)",
}
UNNAMED = "something that this version of the doctor does not know"
FOR_DEVELOPERS = {"dev"}
MOST_SHOWN = 6


COMPARED = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package and the versions that will do, as `pyproject.toml` says it: `math-verify>=0.9,<0.10`."""

    name: str
    bounds: tuple[tuple[str, str], ...] = ()
    """(comparison, version); all of them must hold."""
    extra: str = ""
    """The extra that needs it; empty where r1kit always does."""

    @classmethod
    def parsed(cls, line: str) -> "Requirement":
        """The requirement that a line says; of its marker only the extra counts."""
        wanted, _, marker = line.partition(";")
        name = re.match(r"\s*([\w.-]+)", wanted)
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)['"]""", marker)
        bounds = re.findall(r"(>=|<=|==|!=|>|<)\s*([\w.+-]+)", wanted)
        return cls(name[1] if name else line.strip(), tuple(bounds), extra[1] if extra else "")

    @property
    def specifier(self) -> str:
        """The versions that will do, as they are written."""
        return ",".join(f"{comparison}{version}" for comparison, version in self.bounds)

    def is_met_by(self, version: str | None) -> bool:
        """True where this version is here and will do."""
        return version is not None and all(
            COMPARED[comparison](*_alike(version, bound)) for comparison, bound in self.bounds
        )

    def __str__(self) -> str:
        """As pip takes it."""
        return self.name + self.specifier


@dataclass(frozen=True, slots=True)
class Declared:
    """What a package says that it needs."""

    core: tuple[Requirement, ...]
    extras: Mapping[str, tuple[Requirement, ...]]


def source_folder() -> Path | None:
    """The checkout that r1kit runs from; None where it was installed as a package."""
    folder = Path(r1kit.__file__).parents[2]
    return folder if (folder / "pyproject.toml").is_file() else None


def declared(folder: Path | None) -> Declared:
    """The requirements of r1kit: of the checkout, if it runs from one, since what is installed of it may be older."""
    if folder is not None:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        extras = {name: _parsed(lines) for name, lines in project.get("optional-dependencies", {}).items()}
        return Declared(_parsed(project["dependencies"]), extras)
    found = _parsed(metadata.requires("r1kit") or [])
    names = metadata.metadata("r1kit").get_all("Provides-Extra") or []
    return Declared(
        core=tuple(one for one in found if not one.extra),
        extras={name: tuple(one for one in found if one.extra == name) for name in names},
    )


def installed(name: str) -> str | None:
    """The version of a package that is here; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def package_items(needs: Declared, constraints: Mapping[str, str]) -> list[Item]:
    """Whether what r1kit always needs is here, and which versions differ from those that the tests ran with."""
    items = []
    for need in needs.core:
        version, tested = installed(need.name), constraints.get(_plain(need.name))
        if not need.is_met_by(version):
            found = f"{version or 'not installed'}, but r1kit needs {need.specifier}"
            items.append(Item(name=need.name, status=Status.PROBLEM, found=found, remedy=f"pip install '{need}'"))
        else:
            items.append(Item(name=need.name, status=Status.OK, found=_beside(str(version), tested)))
    return [*items, *_differing(constraints)]


def extra_items(needs: Declared) -> list[Item]:
    """Each extra: what it is for, and whether it is here."""
    items = []
    for extra, requirements in sorted(needs.extras.items()):
        if extra in FOR_DEVELOPERS:
            continue
        missing = [one.name for one in requirements if not one.is_met_by(installed(one.name))]
        purpose = PURPOSES.get(extra, UNNAMED)
        items.append(
            Item(
                name=f"[{extra}]",
                status=Status.MISSING if missing else Status.OK,
                found=purpose + (f": {', '.join(missing)} not here" if missing else ""),
                remedy=f"pip install 'r1kit[{extra}]'" if missing else "",
            )
        )
    return items


def read_constraints(folder: Path | None) -> dict[str, str]:
    """Versions that the tests ran with, by package; empty where only the package was installed."""
    path = folder / "constraints.txt" if folder else None
    if path is None or not path.is_file():
        return {}
    pairs = re.findall(r"^([\w.-]+)==(\S+)", path.read_text("utf-8"), re.MULTILINE)
    return {_plain(name): version for name, version in pairs}


def _differing(constraints: Mapping[str, str]) -> list[Item]:
    """One line for all packages whose version is not the one that was tested."""
    if not constraints:
        return []
    here = {name: found for name in constraints if (found := installed(name)) is not None}
    others = [
        f"{name} {here[name]} ({constraints[name]})" for name in here if not _is_same(here[name], constraints[name])
    ]
    if not others:
        return [Item(name="versions", status=Status.OK, found=f"all {len(here)} are those that the tests ran with")]
    shown = ", ".join(others[:MOST_SHOWN]) + (
        f" and {len(others) - MOST_SHOWN} more" if len(others) > MOST_SHOWN else ""
    )
    return [
        Item(
            name="versions",
            status=Status.NOTE,
            found=f"{len(others)} of {len(here)} differ from the tested ones: {shown}",
            remedy="pip install -c constraints.txt -e .",
        )
    ]


def _beside(version: str, tested: str | None) -> str:
    return version if tested is None or _is_same(version, tested) else f"{version} (tested with {tested})"


def _is_same(version: str, tested: str) -> bool:
    """Builds of one version, such as 2.13.0+cu130, are the same."""
    return version.partition("+")[0] == tested.partition("+")[0]


def _plain(name: str) -> str:
    """Names of packages differ in nothing but case and the kind of dash."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _parsed(lines: Sequence[str]) -> tuple[Requirement, ...]:
    return tuple(map(Requirement.parsed, lines))


def _alike(version: str, bound: str) -> tuple[list[int], list[int]]:
    """The numbers of two versions, as many of each, so that 2.8 is 2.8.0; what is no number does not count."""
    found, wanted = (
        [int(part) for part in re.findall(r"\d+", re.split(r"[+a-zA-Z]", one)[0])] for one in (version, bound)
    )
    length = max(len(found), len(wanted))
    return found + [0] * (length - len(found)), wanted + [0] * (length - len(wanted))
