"""The report: one page that needs nothing else, and in which what a model wrote is text and never markup."""

import base64
import json
import re
import zlib

import pytest
from typer.testing import CliRunner

from r1kit.cli import app
from r1kit.errors import RunError
from r1kit.insight.markup import Html, element, script_data
from r1kit.insight.report import write_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;<!--\u2028"


def unpacked(page, identifier):
    packed = re.search(rf'<script type="text/plain" id="{identifier}">([^<]*)</script>', page)[1]
    return zlib.decompress(base64.b64decode(packed)).decode()


def missing(page, *texts):
    """Which texts do not stand in the page: it is too large to be shown when a test fails."""
    return [text for text in texts if text not in page]


def page_of(*runs, out):
    write_report(list(runs), out)
    return out.read_text("utf-8")


def test_children_and_attributes_are_escaped_and_elements_are_not():
    made = element("p", "<b>", element("i", 3), None, ["&", "x"], title='"<', class_="a", hidden=True, open=False)
    assert made == '<p title="&quot;&lt;" class="a" hidden>&lt;b&gt;<i>3</i>&amp;x</p>'
    assert isinstance(made, Html)


def test_data_in_a_script_cannot_end_it():
    made = script_data("d", {HOSTILE: [HOSTILE, float("nan")]})
    body = made.removeprefix('<script type="application/json" id="d">').removesuffix("</script>")
    assert "<" not in body and "\u2028" not in body
    assert json.loads(body) == {HOSTILE: [HOSTILE, None]}


def test_what_a_model_wrote_is_never_markup(a_run, rows_of, a_rollout, tmp_path):
    texts = ("completion", "prompt", "gold", "problem_id", "task", "language", "verdict", "finish_reason")
    rollouts = [a_rollout(i, **dict.fromkeys(texts, HOSTILE), parts={HOSTILE: 1.0}) for i in (0, 1)]
    by_task = {HOSTILE: {"pass_at_1": 0.5}}
    named = HOSTILE.replace("/", "∕").replace("\u2028", "")
    rows = rows_of(8, by_task=by_task, reward_parts={HOSTILE: 1.0}, **{HOSTILE: 1.0})
    page = page_of(a_run(named, metrics=rows, rollouts=rollouts), out=tmp_path / "r.html")
    assert missing(page, "<img", "<!--", "<script>alert") == ["<img", "<!--", "<script>alert"]
    assert json.loads(unpacked(page, "rollouts-data"))["completion"] == [HOSTILE] * 2
    assert page.count("<script") == page.count("</script>") == 5


def test_the_page_allows_its_own_scripts_alone_and_no_network(a_run, rows_of, tmp_path):
    page = page_of(a_run(metrics=rows_of(8)), out=tmp_path / "r.html")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#x27;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page) == []


def test_a_report_tells_the_story_the_verdict_and_the_deviations(a_run, rows_of, a_test, tmp_path):
    rows = rows_of(truncated_share=0.4)
    rows[0]["held_out"], rows[-1]["held_out"] = a_test(0.3), a_test(0.7)
    folder = a_run(metrics=rows, recipe={"optimizer": {"lr": 1e-5}, "sampling": {"max_new_tokens": 96}})
    page = page_of(folder, out=folder / "report.html")
    verdict = "truncation: 40% are cut at 96 tokens: raise sampling.max_new_tokens"
    assert missing(page, "It learned:</span> held-out pass@1 30.0% → 70.0%", verdict) == []
    row = '<code>optimizer.lr</code></td><td><b>1e-05</b></td><td class="muted">0.0003</td>'
    assert missing(page, row) == []
    assert page.count('href="#chart-') == page.count("see the curve")
    anchors = set(re.findall(r'href="#([\w-]+)"', page))
    assert anchors <= set(re.findall(r'id="([\w-]+)"', page))


def test_several_runs_are_named_and_their_settings_compared(a_run, rows_of, tmp_path):
    runs = [
        a_run(name, metrics=rows_of(9), recipe={"optimizer": {"lr": lr}})
        for name, lr in (("fast", 1e-3), ("slow", 1e-5))
    ]
    page = page_of(*runs, out=tmp_path / "r.html")
    assert missing(page, "2 runs side by side", "<b>fast</b>", "<b>slow</b>") == []
    differing = page.split("settings that differ")[1].split("</table>")[0]
    assert re.findall(r"<code>(.*?)</code>", differing) == ["optimizer.lr"]
    assert "0.001" in differing and "1e-05" in differing


def test_an_empty_run_has_a_page_that_says_so(a_run, tmp_path):
    page = page_of(a_run(is_complete=False), out=tmp_path / "r.html")
    assert missing(page, "Nothing has been logged yet", "--resume") == []
    assert missing(page, 'id="rollouts"', 'id="curves"') == ['id="rollouts"', 'id="curves"']


def test_runs_of_other_kinds_have_pages_too(a_run, tmp_path):
    rows = [{"iteration": i, "step": i + 1, "loss": 3.0 - i / 50 + i % 2 / 100} for i in range(100)]
    for kind in ("sft", "pretrain"):
        page = page_of(a_run(kind, metrics=rows, recipe={"kind": kind}), out=tmp_path / "r.html")
        assert missing(page, "It learned:</span> loss", "100") == []


def test_rollouts_of_older_runs_tell_right_and_wrong_by_their_accuracy(a_run, a_rollout, tmp_path):
    rows = [{name: value for name, value in a_rollout(i).items() if name not in ("verdict", "task")} for i in (0, 1)]
    rows[1]["parts"] = {"accuracy": 0.0}
    table = json.loads(unpacked(page_of(a_run(rollouts=rows), out=tmp_path / "r.html"), "rollouts-data"))
    assert table["verdict"] == [1, 0] and table["problems"][0][1] == "sums"


def test_twenty_thousand_rollouts_stay_below_the_limit(a_run, a_rollout, rows_of, tmp_path):
    texts = [
        f"<think>{n * 7919 % 100003} wait {n * 104729 % 1000003}</think><answer>{n}</answer>" for n in range(20_000)
    ]
    rollouts = [a_rollout(n // 500, problem_id=f"p/{n // 16}", completion=text) for n, text in enumerate(texts)]
    out = tmp_path / "r.html"
    page = page_of(a_run(metrics=rows_of(40), rollouts=rollouts), out=out)
    assert len(json.loads(unpacked(page, "rollouts-data"))["completion"]) == 20_000
    assert out.stat().st_size < 15e6


def run_cli(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_the_command_writes_the_page_into_the_run_and_says_what_came_of_it(a_run, rows_of, a_test):
    rows = rows_of()
    rows[0]["held_out"], rows[-1]["held_out"] = a_test(0.3), a_test(0.7)
    folder = a_run(metrics=[*rows, "{torn"])
    done = run_cli(folder)
    assert done.exit_code == 0, done.output
    assert (folder / "report.html").is_file()
    assert "It learned: held-out pass@1 30.0% → 70.0%" in done.output
    assert "run doctor: level" in done.output and "metrics.jsonl: line 49" in done.output


def test_the_command_reports_figures_as_json(a_run, rows_of, a_test, tmp_path):
    rows = rows_of(entropy=0.001, pass_at_1=0.2)
    rows[0]["held_out"], rows[-1]["held_out"] = a_test(0.3), a_test(0.3)
    done = run_cli(a_run(metrics=rows), "--out", tmp_path / "x" / "page.html", "--json", tmp_path / "f.json")
    assert done.exit_code == 0, done.output
    (run,) = json.loads((tmp_path / "f.json").read_text())["runs"]
    assert run["before"]["pass_at_1"] == 0.3 and run["after"]["pass_at_1_stderr"] == 0.02 and run["after"]["n"] == 256
    assert run["verdict"].startswith("entropy collapse")
    assert run["findings"][0]["severity"] == "problem" and run["findings"][0]["knob"]
    assert (tmp_path / "x" / "page.html").is_file()


def test_a_page_that_cannot_be_written_is_an_error_of_one_line(a_run, rows_of, tmp_path):
    with pytest.raises(RunError, match=r"cannot be written.*--out"):
        write_report([a_run(metrics=rows_of(3))], tmp_path)
