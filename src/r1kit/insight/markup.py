"""HTML made of elements: text is escaped wherever it enters, so that nothing a model wrote can become markup."""

import json
from collections.abc import Iterable
from html import escape

from r1kit.run import plain

VOID = ("meta", "input", "br")


class Html(str):
    """Text that is markup already; made by `element`, `joined` and `script_data` alone."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: str | bool | None) -> Html:
    """One element: strings among its children are text, None is nothing, lists are laid end to end.

    Attributes are given with `_` for `-` and `class_` for `class`; True stands alone, None and False are left out.
    """
    given = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{tag}{given}>" if tag in VOID else f"<{tag}{given}>{joined(children)}</{tag}>")


def joined(children: Iterable[object]) -> Html:
    """Children one after the other."""
    return Html("".join(map(_markup, children)))


def _markup(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, list | tuple):
        return joined(child)
    return escape(str(child))


def script_data(identifier: str, value: object) -> Html:
    """A value as JSON inside a script element that never runs.

    `<` is written as an escape of JSON: otherwise `</script>` or `<!--` in a name would end or open what they like.
    """
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Html(f'<script type="application/json" id="{escape(identifier)}">{text}</script>')
