"""The report in a real browser: it draws, filters, searches, asks for nothing, and runs nothing that a model wrote."""

import json

import pytest

from r1kit.insight.report import write_report

HOSTILE = "</script><script>window.owned=1</script><img src=x onerror='window.owned=1'><a href='javascript:owned=1'>"
MAX_SECONDS = 4.0
"""Processor time until everything can be used; on an idle machine that is less than two seconds on the clock."""


@pytest.fixture
def report(a_run, a_test, a_rollout, rows_of, tmp_path):
    """A function to the page of a run with so many rollouts, every third right, the fifth of each ten cut."""

    def make(num_rollouts=200):
        rows = rows_of(40, reward_parts={HOSTILE: 0.5}, **{HOSTILE: 1.0})
        rows[0]["held_out"], rows[20]["held_out"], rows[39]["held_out"] = a_test(0.3), a_test(0.5), a_test(0.6)
        held_out = [
            a_rollout(
                i, problem_id=f"t/{n}", prompt=f"Question {n} {HOSTILE}", test="held_out", completion=f"{i} {HOSTILE}"
            )
            for i in (0, 20, 40)
            for n in range(30)
        ]
        rollouts = [
            a_rollout(
                40 * n // num_rollouts,
                problem_id=f"p/{n}",
                prompt=HOSTILE,
                gold=HOSTILE,
                task=HOSTILE,
                language="zh" if n % 2 else "en",
                completion=f"<think>wait {HOSTILE} number {n}</think><answer>{HOSTILE}</answer>",
                verdict="wrong" if n % 3 else "right",
                finish_reason="length" if n % 10 == 5 else "stop",
            )
            for n in range(num_rollouts)
        ]
        folder = a_run(HOSTILE.replace("/", "∕"), metrics=rows, rollouts=rollouts, held_out=held_out)
        write_report([folder], tmp_path / "r.html")
        return tmp_path / "r.html"

    return make


def choose(browser, label, value):
    """Set one of the viewer's switches, and give back how many rollouts it says it found."""
    box = f"document.querySelector('#viewer [aria-label={label}]')"
    browser.run(f"{box}.value = {json.dumps(value)}")
    browser.run(f"{box}.dispatchEvent(new Event({box}.tagName === 'SELECT' ? 'change' : 'input'))")
    browser.run("new Promise((done) => setTimeout(done, 200))")
    return browser.run("document.querySelector('#viewer .toolbar').lastChild.textContent")


@pytest.mark.slow
def test_twenty_thousand_rollouts_open_in_seconds_without_network_or_error(browser, report):
    page = report(19_800)
    browser.look()
    before = browser.processor_seconds
    browser.open(page)
    assert browser.processor_seconds - before < MAX_SECONDS
    browser.run("document.querySelectorAll('#viewer .tabs button')[1].click()")
    assert choose(browser, "set", "0") == "19,800 found"
    assert choose(browser, "verdict", "1") == "6,600 found"
    assert browser.complaints == [] and browser.requests == []
    assert browser.run("typeof window.owned") == "undefined"


def test_filters_and_search_find_what_they_say(browser, report):
    browser.look()
    browser.open(report(200))
    browser.run("document.querySelectorAll('#viewer .tabs button')[1].click()")
    assert choose(browser, "set", "0") == "200 found"
    assert choose(browser, "verdict", "1") == "67 found"
    assert choose(browser, "end", "1") == f"{sum(n % 3 == 0 and n % 10 == 5 for n in range(200))} found"
    assert choose(browser, "end", "") == "67 found"
    assert choose(browser, "language", "zh") == f"{sum(n % 3 == 0 and n % 2 == 1 for n in range(200))} found"
    assert choose(browser, "language", "") == "67 found"
    assert choose(browser, "search", "NUMBER 99<") == "1 found"
    assert choose(browser, "search", "onerror='window.owned=1'") == "67 found"
    shown = browser.run("document.querySelector('#viewer .rollout .think').textContent")
    assert shown == f"thinkingwait {HOSTILE} number 0"
    marks = browser.run(
        "[...document.querySelector('#viewer .think').querySelectorAll('mark')].map((m) => m.textContent)"
    )
    assert marks == ["wait", "onerror='window.owned=1'"]
    assert browser.run("typeof window.owned") == "undefined" and browser.complaints == []


def test_the_same_problem_stands_at_start_middle_and_end(browser, report):
    browser.look()
    browser.open(report())
    columns = "[...document.querySelectorAll('#viewer .column')]"
    chosen = browser.run(f"{columns}.map((c) => c.querySelector('select').selectedOptions[0].textContent)")
    assert chosen == ["iteration 0 · start", "iteration 20", "iteration 40 · end"]
    texts = browser.run(f"{columns}.map((c) => c.querySelector('.text').textContent)")
    assert [text.split()[0] for text in texts] == ["0", "20", "40"]
    question = "document.querySelector('#viewer .question').textContent"
    first = browser.run(question)
    assert first.endswith(HOSTILE)
    browser.run("document.querySelector('#viewer [aria-label=\"next problem\"]').click()")
    assert browser.run(question) != first


@pytest.mark.parametrize(("width", "scheme", "mobile"), [(1400, "light", False), (390, "dark", True)])
def test_it_draws_and_fits_in_both_themes_and_widths(browser, report, width, scheme, mobile):
    browser.look(width=width, scheme=scheme, mobile=mobile)
    browser.open(report())
    browser.run("new Promise((done) => setTimeout(done, 300))")
    assert browser.run("document.querySelectorAll('#chart-held_out svg.main-svg').length") > 0
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    before = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.run("document.querySelector('#theme').click()")
    after = browser.run("getComputedStyle(document.body).backgroundColor")
    dark, light = "rgb(13, 15, 19)", "rgb(247, 247, 249)"
    assert [before, after] == ([light, dark] if scheme == "light" else [dark, light])
    for figure in browser.run("[...document.querySelectorAll('figure[data-chart]')].map((f) => f.id)"):
        script = "document.getElementById({0}).scrollIntoView({{behavior: 'instant'}})"
        browser.run(script.format(json.dumps(figure)))
        browser.run("new Promise((done) => setTimeout(done, 120))")
    undrawn = "[...document.querySelectorAll('.plot')].filter((p) => !p.querySelector('svg')).length"
    assert browser.run(undrawn) == 0
    assert browser.complaints == [] and browser.requests == []
