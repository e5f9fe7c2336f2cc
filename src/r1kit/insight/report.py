"""A run as one self-contained page: its curves, its figures, and the same problems at the start and at the end."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

from r1kit.run import read_rows

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .3rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8884; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: 13px; }
.right { color: #2a9d5c; } .wrong { color: #d1495b; }
"""
ROLLOUTS_SHOWN = 24


def write_report(path: Path, folder: Path, curves_svg: str, figures: Mapping[str, object]) -> None:
    """Write the page of the run in `folder`; needs no network and no script."""
    rows = read_rows(folder / "rollouts.jsonl")
    first, last = (
        [row for row in rows if row["iteration"] == edge]
        for edge in (min(row["iteration"] for row in rows), max(row["iteration"] for row in rows))
    )
    body = (
        f"<h1>R1-Zero: {escape(folder.parent.name)}</h1>{curves_svg}"
        f"<h2>Figures</h2><pre>{escape(json.dumps(figures, indent=2))}</pre>"
        f"<h2>Rollouts</h2><table><tr><th>iteration {first[0]['iteration']}</th>"
        f"<th>iteration {last[0]['iteration']}</th></tr>{_side_by_side(first, last)}</table>"
    )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>r1kit</title>'
    path.write_text(
        f"<!doctype html><html><head>{head}<style>{STYLE}</style></head><body>{body}</body></html>\n", "utf-8"
    )


def _side_by_side(first: list[dict], last: list[dict]) -> str:
    pairs = zip(_one_a_problem(first), _one_a_problem(last), strict=False)
    return "".join(f"<tr><td>{_cell(left)}</td><td>{_cell(right)}</td></tr>" for left, right in pairs)


def _one_a_problem(rows: list[dict]) -> list[dict]:
    """The first rollout of each problem, families in turn."""
    chosen = {row["problem_id"]: row for row in reversed(rows)}
    return sorted(chosen.values(), key=lambda row: row["problem_id"].partition("/")[0])[:ROLLOUTS_SHOWN]


def _cell(row: dict) -> str:
    verdict = "right" if row["parts"]["accuracy"] else "wrong"
    return (
        f"<b>{escape(row['prompt'])}</b> <span class={verdict}>{verdict}</span><pre>{escape(row['completion'])}</pre>"
    )
