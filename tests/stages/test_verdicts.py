"""Verdicts: written down as they are given, never given twice, and a verifier that breaks or changes does not hide."""

import itertools
import json
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from r1kit import pipeline
from r1kit.config.settings import Settings
from r1kit.errors import VerifierError
from r1kit.rewards import combine
from r1kit.rewards.judging import judge_text
from r1kit.rewards.verifiers import VERIFIERS, Judgement
from r1kit.run import Run
from r1kit.stages import grpo, single_run, verdicts
from r1kit.stages.verdicts import VerdictJournal
from r1kit.types import Problem, Verdict

PROBLEM = Problem(id="chains/2+3", prompt="Compute 2+3", gold="5", verifier="chains", meta={"chain": "2+3"})
RIGHT, WRONG = "<answer>5</answer>", "<answer>6</answer>"


@pytest.fixture
def journal_in(tiny, tmp_path):
    """A function that opens the journal of one run, again and again."""
    runs = []

    def open_(since=0, verifiers=("chains",)):
        if runs:
            runs.pop().__exit__(None, None, None)
        runs.append(Run(tmp_path / "run", tiny(), resume=(tmp_path / "run").exists()).__enter__())
        return VerdictJournal(runs[0], verifiers, since=since)

    yield open_
    if runs:
        runs.pop().__exit__(None, None, None)


@pytest.fixture
def asked(monkeypatch):
    """The places that verifiers were asked about."""
    places = []

    def count(text, problem, place=""):
        places.append(place)
        return judge_text(text, problem, place)

    monkeypatch.setattr(verdicts, "judge_text", count)
    return places


def rows_of(folder, name="verdicts.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def test_what_is_written_is_not_asked_again(journal_in, asked, tmp_path):
    first = journal_in().at(3)
    given = [first.judge(text, PROBLEM, place) for text, place in ((RIGHT, "a/0"), (WRONG, "a/1"), ("hm", "a/2"))]
    assert asked == ["a/0", "a/1", "a/2"]
    again = journal_in(since=3).at(3)
    remembered = [again.judge(text, PROBLEM, place) for text, place in ((RIGHT, "a/0"), (WRONG, "a/1"), ("hm", "a/2"))]
    assert asked == ["a/0", "a/1", "a/2"]
    assert [(j.answer, j.judgement.verdict, j.judgement.reason, j.judgement.is_readable) for j in remembered] == [
        (j.answer, j.judgement.verdict, j.judgement.reason, j.judgement.is_readable) for j in given
    ]
    row = rows_of(tmp_path / "run")[1]
    assert row | {"digest": "", "by": ""} == {
        "iteration": 3, "place": "a/0", "problem": "chains/2+3", "digest": "", "verifier": "chains", "by": "",
        "verdict": "right", "is_readable": True, "reason": "",
    }  # fmt: skip


def test_another_text_place_or_problem_is_asked_anew(journal_in, asked):
    journal_in().at(0).judge(RIGHT, PROBLEM, "a/0")
    again = journal_in().at(0)
    again.judge(RIGHT + " ", PROBLEM, "a/0")
    again.judge(RIGHT, PROBLEM, "a/1")
    again.judge(RIGHT, Problem(id=PROBLEM.id, prompt=PROBLEM.prompt, gold="6", verifier="chains"), "a/0")
    assert asked == ["a/0"] * 2 + ["a/1", "a/0"]
    journal_in(since=1).at(1).judge(RIGHT, PROBLEM, "a/0")
    assert len(asked) == 5  # what is behind the checkpoint is not even held


def test_a_torn_last_line_is_as_good_as_not_there(journal_in, asked, tmp_path):
    journal = journal_in().at(0)
    journal.judge(RIGHT, PROBLEM, "a/0")
    journal.judge(WRONG, PROBLEM, "a/1")
    path = tmp_path / "run" / "verdicts.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    again = journal_in().at(0)
    again.judge(WRONG, PROBLEM, "a/1")
    again.judge(RIGHT, PROBLEM, "a/0")
    assert asked == ["a/0", "a/1", "a/1"]
    third = journal_in().at(0)
    third.judge(WRONG, PROBLEM, "a/1")
    third.judge(RIGHT, PROBLEM, "a/0")
    assert asked == ["a/0", "a/1", "a/1"]


def test_a_verdict_that_came_too_late_stays_unknown(journal_in, asked):
    journal = journal_in().at(0)
    late = journal.giving_up(5.0)(RIGHT, PROBLEM, "a/0")
    assert (late.judgement.verdict, late.judgement.reason) == (Verdict.UNKNOWN, "no verdict within 5 s")
    journal.judge(RIGHT, PROBLEM, "a/0")  # the thread that nobody waited for
    again = journal_in().at(0).judge(RIGHT, PROBLEM, "a/0")
    assert again.judgement.verdict is Verdict.UNKNOWN
    assert len(asked) == 1


class Strictness(Settings):
    """Of a verifier that the tests change."""

    shortest: int = 1


@dataclass(frozen=True)
class Changing:
    """A verifier with settings."""

    settings: Strictness = field(default_factory=Strictness)

    def extract(self, text: str, problem: Problem) -> str:
        return text

    def judge(self, answer: str, problem: Problem) -> Judgement:
        is_right = len(answer) >= self.settings.shortest
        return Judgement(verdict=Verdict.RIGHT if is_right else Verdict.WRONG)


def test_a_verifier_that_changed_is_named_and_asked_anew(journal_in, asked, monkeypatch):
    monkeypatch.setitem(VERIFIERS, "changing", Changing())
    problem = Problem(id="x", prompt="?", gold="1", verifier="changing")
    journal = journal_in(verifiers=["changing", "chains"])
    assert journal.notes == ()
    assert journal.at(0).judge("a", problem, "a/0").judgement.verdict is Verdict.RIGHT
    assert journal_in(verifiers=["changing", "chains"]).notes == ()

    monkeypatch.setitem(VERIFIERS, "changing", Changing(Strictness(shortest=2)))
    changed = journal_in(verifiers=["changing", "chains"])
    assert len(changed.notes) == 1
    assert changed.notes[0].startswith("verifier 'changing' is not the one that began this run (its settings changed)")
    assert changed.at(0).judge("a", problem, "a/0").judgement.verdict is Verdict.WRONG
    assert asked == ["a/0", "a/0"]
    assert journal_in(verifiers=["changing", "chains"]).notes == ()


class Moody:
    """A verifier that never says the same twice in a row: what it said must be remembered, not asked again."""

    def __init__(self):
        self.calls = itertools.count()

    def extract(self, text: str, problem: Problem) -> str:
        return text

    def judge(self, answer: str, problem: Problem) -> Judgement:
        verdict = (Verdict.RIGHT, Verdict.WRONG, Verdict.WRONG)[next(self.calls) % 3]
        return Judgement(verdict=verdict, is_readable=next(self.calls) % 2 == 0)


@pytest.mark.parametrize("call", [4, 6])
def test_a_resumed_run_judges_nothing_twice_and_gets_the_same_verdicts(
    tiny, run_to_the_end, outcome, tmp_path, monkeypatch, call
):
    recipe = tiny(rewards={"accuracy": 1.0, "format": 0.5}, evaluation={"interval_iterations": 1})

    def moody():
        for name in ("chains", "pairs"):
            monkeypatch.setitem(VERIFIERS, name, Moody())

    moody()
    monkeypatch.setattr(single_run, "check_before_start", lambda *args: None)
    original, calls = grpo.update, itertools.count(1)

    def interrupted(*args):
        if next(calls) == call:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patched:
        patched.setattr(grpo, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_to_the_end(recipe, tmp_path / "run")
    before = rows_of(tmp_path / "run")
    run_to_the_end(recipe, tmp_path / "run", resume=True)
    after = rows_of(tmp_path / "run")
    assert after[: len(before)] == before
    num_rows = sum("place" in row for row in after)
    num_places = len({(row["iteration"], row["place"]) for row in after if "place" in row})
    assert num_rows == num_places == 6 * 16 + 7 * 8
    assert {row["verdict"] for row in after if "place" in row} == {"right", "wrong"}

    # A verifier that answers from the first run's book makes the same run, to the last bit.
    book = {(row["iteration"], row["place"]): row for row in after if "place" in row}

    class ByTheBook(verdicts.IterationVerdicts):
        def judge(self, text: str, problem: Problem, place: str) -> Any:
            row = book[self._iteration, place]
            judgement = Judgement(verdict=Verdict(row["verdict"]), is_readable=row["is_readable"], reason=row["reason"])
            return verdicts.Judged(text, judgement)

    monkeypatch.setattr(verdicts, "IterationVerdicts", ByTheBook)
    assert outcome(run_to_the_end(recipe, tmp_path / "alone")) == outcome(tmp_path / "run")


@dataclass
class Breaking:
    """A verifier that breaks at its 20th answer."""

    says: Any = None
    error: BaseException | None = None
    calls: Any = field(default_factory=lambda: itertools.count(1))

    def extract(self, text: str, problem: Problem) -> str:
        return text

    def judge(self, answer: str, problem: Problem) -> Any:
        if next(self.calls) < 20:
            return Judgement(verdict=Verdict.WRONG)
        if self.error:
            raise self.error
        return self.says


def test_a_reward_part_that_is_no_number_stops_a_training_run(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(combine, "language_consistency", lambda *args, **options: float("nan"))
    recipe = tiny(rewards={"language": 1.0})
    with pytest.raises(VerifierError, match=r"problem '.*', verifier '.*': the reward's 'language' is nan"):
        pipeline.train(recipe, tmp_path / "run", resume=False, explain=False, console=Console(quiet=True))


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(
    ("verifier", "said"),
    [
        (Breaking(error=KeyError("target")), "failed: KeyError: 'target'"),
        (Breaking(says=float("nan")), "returned nan, which is no Judgement"),
        (Breaking(says=Judgement(verdict=0.0)), "returned the verdict 0.0"),
    ],
)
def test_a_broken_verifier_stops_a_training_run_and_never_becomes_a_0(
    tiny, tmp_path, monkeypatch, verifier, said, in_place
):
    monkeypatch.setitem(VERIFIERS, "chains", Breaking(verifier.says, verifier.error))
    monkeypatch.setattr(single_run, "check_before_start", lambda *args: None)
    if not in_place:
        monkeypatch.setattr("r1kit.rewards.judging.JUDGED_IN_PLACE", frozenset())
    recipe = tiny(tasks=[{"kind": "chains", "terms": 3}])
    with pytest.raises(VerifierError) as caught:
        pipeline.train(recipe, tmp_path / "run", resume=False, explain=False, console=Console(quiet=True))
    assert said in str(caught.value)
    assert "problem 'chains/" in str(caught.value) and "verifier 'chains'" in str(caught.value)
    assert len([row for row in rows_of(tmp_path / "run") if "place" in row]) >= 19
    assert all(row["verdict"] == "wrong" for row in rows_of(tmp_path / "run") if "place" in row)


@pytest.mark.parametrize(
    "verifier",
    [Breaking(error=KeyError("target"), calls=itertools.count(20)), Breaking(says=0.0, calls=itertools.count(20))],
)
def test_a_verifier_that_is_broken_from_the_start_is_found_before_anything_is_written(
    tiny, tmp_path, monkeypatch, verifier
):
    monkeypatch.setitem(VERIFIERS, "math", verifier)
    recipe = tiny(tasks=[{"kind": "arithmetic"}], run={"audit": "refuse"})
    with pytest.raises(VerifierError, match=r"problem 'arithmetic/.*verifier 'math'"):
        pipeline.train(recipe, tmp_path / "run", resume=False, explain=False, console=Console(quiet=True))
    assert not (tmp_path / "run").exists()


class Blind:
    """A verifier that can tell nothing of problems with a 9 in them."""

    def extract(self, text: str, problem: Problem) -> str:
        return text

    def judge(self, answer: str, problem: Problem) -> Judgement:
        is_dark = "9" in problem.prompt
        verdict = Verdict.UNKNOWN if is_dark else Verdict.RIGHT if len(answer) % 2 else Verdict.WRONG
        return Judgement(verdict=verdict, reason="no light" if is_dark else "")


def test_a_run_replaces_what_could_not_be_judged_and_names_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(VERIFIERS, "chains", Blind())
    monkeypatch.setattr(single_run, "check_before_start", lambda *args: None)
    recipe = tiny(
        tasks=[{"kind": "chains", "terms": 3, "languages": ["en"]}],
        rewards={"accuracy": 1.0, "random": 0.0},
        run={"rollouts_interval_iterations": 1},
    )
    console = Console(file=StringIO(), width=200)
    pipeline.train(recipe, tmp_path / "run", resume=False, explain=False, console=console)
    rows = [row for row in rows_of(tmp_path / "run", "metrics.jsonl") if "reward" in row]
    assert sum(row["unknown_verdicts"] for row in rows) > 0
    for row in rows:
        assert row["groups_trained"] + row["dropped_unknown"] == row["problems_drawn"]
        assert row["groups_trained"] + row["groups_missing"] == 4
        assert row["unknown_verdicts"] == 4 * row["dropped_unknown"]
        assert (row["num_rounds"] > 1) == (row["dropped_unknown"] > 0)
    first = next(row for row in rows if row["unknown_verdicts"])["unknown_named"][0]
    assert first == {"problem": first["problem"], "verifier": "chains", "completions": 4, "reason": "no light"}
    note = f"4 completions of problem {first['problem']!r} could not be judged by 'chains': no light"
    assert note in console.file.getvalue() and note in (tmp_path / "run" / "log.txt").read_text()
    drawn = [row for row in rows_of(tmp_path / "run", "rollouts.jsonl") if row["verdict"] == "unknown"]
    assert len(drawn) == sum(row["unknown_verdicts"] for row in rows)
    assert not any(row["trained"] or row["advantage"] for row in drawn)
