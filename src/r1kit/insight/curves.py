"""The learning curve of a run as a picture that stands alone: plain SVG, readable in light and dark pages."""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from r1kit.run import read_rows

WIDTH, HEIGHT, GAP, MARGIN = 300, 190, 44, 34
Series = Sequence[tuple[float, float]]


def learning_curves(folder: Path) -> str:
    """pass@1 (sampled and held-out), length, and reflection over the iterations of a run's metrics.jsonl, as SVG."""
    rows = read_rows(folder / "metrics.jsonl")
    sampled = [row for row in rows if "reward" in row]
    held_out = [(row["iteration"], 100 * row["held_out"]["pass_at_1"]) for row in rows if "held_out" in row]
    panels = [
        _panel("pass@1, %", {"sampled": _series(sampled, "pass_at_1", 100), "held out": held_out}, 100),
        _panel("tokens a completion", {"sampled": _series(sampled, "mean_completion_tokens")}),
        _panel("reflective words a completion", {"sampled": _series(sampled, "reflections_per_completion")}),
    ]
    total = len(panels) * (WIDTH + GAP) + MARGIN
    placed = "".join(f'<g transform="translate({MARGIN + n * (WIDTH + GAP)},28)">{p}</g>' for n, p in enumerate(panels))
    style = (
        "text{font:12px system-ui,sans-serif;fill:#888}.t{font-weight:600}path{fill:none;stroke-width:2}"
        ".s0{stroke:#4c8dd6;fill:#4c8dd6}.s1{stroke:#e0883a;fill:#e0883a}path.s0,path.s1{fill:none}"
        "text.s0,text.s1{stroke:none}.a{stroke:#8886;stroke-width:1}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {HEIGHT + 60}" width="{total}">'
        f"<style>{style}</style>{placed}</svg>\n"
    )


def _series(rows: Sequence[dict], name: str, scale: float = 1.0) -> Series:
    return [(row["iteration"], scale * row[name]) for row in rows]


def _round_up(value: float) -> float:
    """The next number of the kind 1, 2, 4, 6, 8 times a power of ten: what a scale can end at."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value)


def _panel(title: str, lines: dict[str, Series], top: float | None = None) -> str:
    """One set of axes with its lines; `top` fixes the upper end of the scale."""
    points = [point for series in lines.values() for point in series]
    right = max((x for x, _ in points), default=1) or 1
    top = top or _round_up(max((y for _, y in points), default=1))
    parts = [f'<text class="t" y="-10">{escape(title)}</text>']
    for share in (0, 0.5, 1):
        y = HEIGHT * (1 - share)
        parts.append(
            f'<path class="a" d="M0 {y}H{WIDTH}"/><text x="-6" y="{y + 4}" text-anchor="end">{top * share:.3g}</text>'
        )
    parts.append(f'<text x="{WIDTH}" y="{HEIGHT + 18}" text-anchor="end">iteration {right:.0f}</text>')
    for number, (name, series) in enumerate(lines.items()):
        places = [(WIDTH * x / right, HEIGHT * (1 - y / top)) for x, y in series]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        if path:
            parts.append(f'<path class="s{number}" d="M{path}"/>')
        if len(lines) > 1:
            parts.append(f'<text class="s{number}" x="{80 * number}" y="{HEIGHT + 18}">{escape(name)}</text>')
    return "".join(parts)
