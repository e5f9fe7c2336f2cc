"""The report: one page that needs nothing else, and in which what a model wrote is text and never markup."""

import json
import re

import pytest

from r1kit.insight.report import write_report

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;"


def report(place, *, prompt="Compute 1+1", completion="2", figures=None):
    """The page of a run in which one problem was solved twice."""
    rows = [
        {
            "iteration": iteration,
            "problem_id": "chains/1+1",
            "prompt": prompt,
            "completion": completion,
            "parts": {"accuracy": float(iteration)},
        }
        for iteration in (0, 1)
    ]
    folder = place / "run" / HOSTILE.replace("/", "-") / "zero"
    folder.mkdir(parents=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rollouts.jsonl").write_text(text, "utf-8")
    write_report(place / "report.html", folder, "<svg></svg>", figures or {})
    return (place / "report.html").read_text("utf-8")


def test_what_a_model_wrote_is_never_markup(tmp_path):
    page = report(tmp_path, prompt=HOSTILE, completion=HOSTILE, figures={"before": {HOSTILE: 0.5}})
    assert "<script" not in page and "<img" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


def test_a_page_shows_right_and_wrong_and_needs_no_network(tmp_path):
    page = report(tmp_path)
    assert re.search(r"class=.?wrong", page) and re.search(r"class=.?right", page)
    assert re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page) == []


@pytest.mark.parametrize("sign", ["\u2028", "\x85"])
def test_only_a_newline_ends_a_rollout(tmp_path, sign):
    assert f"a{sign}b" in report(tmp_path, completion=f"a{sign}b")
