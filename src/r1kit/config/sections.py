"""How one recipe holds several: a section says only what differs, and what all share is laid under it."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

Table = dict[str, Any]


def composed(section: object, *, kind: type[BaseModel], shared: Sequence[object], given: Mapping[str, object]) -> Any:
    """The table of a whole recipe of class `kind`: `section` over what is `given` over the `shared` tables, in order.

    Of a shared table only what such a recipe has is taken: a rejection recipe has no `run.keep_checkpoints`. What is
    no table is returned as it is, for the recipe's own check to name.
    """
    if not isinstance(section, Mapping):
        return section
    found: Table = {"kind": _kind_of(kind)}
    for table in shared:
        if isinstance(table, Mapping):
            found = overlaid(found, _known(table, kind))
    return overlaid(overlaid(found, given), section)


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> Table:
    """Two tables as one, sections merged; where `above` names another `kind`, it replaces the section whole."""
    found = dict(below)
    for key, value in above.items():
        beneath = found.get(key)
        if isinstance(value, Mapping) and isinstance(beneath, Mapping) and not _is_other_kind(beneath, value):
            found[key] = overlaid(beneath, value)
        else:
            found[key] = value
    return found


def _is_other_kind(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    return "kind" in above and above["kind"] != below.get("kind")


def _known(table: Mapping[str, Any], kind: type[BaseModel]) -> Table:
    """What a recipe class has of a table, and of its sections."""
    found: Table = {}
    for key, value in table.items():
        if key in kind.model_fields:
            inner = _class_of(kind.model_fields[key].annotation)
            found[key] = _known(value, inner) if inner and isinstance(value, Mapping) else value
    return found


def _class_of(annotation: object) -> type[BaseModel] | None:
    """The settings class of a section; None for unions by kind and for all that is no section."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _kind_of(kind: type[BaseModel]) -> str:
    return str(get_args(kind.model_fields["kind"].annotation)[0])
