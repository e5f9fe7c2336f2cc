"""One file of HTML that needs nothing else: style, scripts, plotly and data are inside; its policy allows no more."""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from r1kit import __version__
from r1kit.insight.markup import Html, element, joined, script_data
from r1kit.run import plain

SCRIPTS = ("shell.js", "charts.js", "rollout_text.js", "rollouts.js")
FOOTER = "Made by r1kit {version}. This file needs no network, and asks for none."


def asset(name: str) -> str:
    """A file of assets/report."""
    return (resources.files("r1kit") / "assets" / "report" / name).read_text("utf-8")


@cache
def packed_plotly() -> tuple[Html, str]:
    """The whole of plotly.js as the package brings it, packed, and its hash."""
    from plotly.offline import get_plotlyjs

    source = get_plotlyjs()
    return _packed("plotly-data", source), _allowed(source)


def page(title: str, sections: Sequence[tuple[str, Html]], *, charts: object, rollouts: object, runs: object) -> str:
    """The page: (name in the navigation, section) in order, and what its scripts draw.

    plotly and the rollouts are deflated and in base64, and unpacked when they are needed. Scripts are allowed by their
    hash alone: text that a model wrote can't run, whatever it holds, and nothing can be fetched.
    """
    code = "\n".join(asset(name) for name in SCRIPTS)
    plotly, plotly_hash = packed_plotly()
    policy = (
        f"default-src 'none'; script-src {_allowed(code)} {plotly_hash}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(asset("report.css"))),
    )
    body = element(
        "body",
        _top_bar([name for name, _ in sections]),
        element("main", [section for _, section in sections]),
        element("footer", FOOTER.format(version=__version__)),
        element("noscript", element("p", "Curves and rollouts need JavaScript.", class_="fault")),
        script_data("charts-data", charts),
        script_data("runs-data", runs),
        plotly,
        _packed("rollouts-data", json.dumps(plain(rollouts), ensure_ascii=False, separators=(",", ":"))),
        element("script", Html(code)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _top_bar(names: Sequence[str]) -> Html:
    links = [element("a", name, href=f"#{name.lower()}") for name in names]
    toggle = element("button", "◐", id="theme", type="button", title="light or dark", aria_label="light or dark")
    return element("header", element("b", "r1kit", class_="brand"), element("nav", links), toggle, class_="bar")


def _allowed(code: str) -> str:
    """A script's hash as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def _packed(identifier: str, text: str) -> Html:
    """Text as deflated base64 in an element that never runs; it holds no `<`."""
    packed = base64.b64encode(zlib.compress(text.encode("utf-8", errors="replace"), 9)).decode()
    return joined([Html(f'<script type="text/plain" id="{identifier}">'), Html(packed), Html("</script>")])
