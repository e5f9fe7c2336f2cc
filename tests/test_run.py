"""A run's folder: what is written into it, who may, and what is left of it after an accident."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest

from r1kit.errors import Interrupted, RunError
from r1kit.recipe import dump_recipe, parse_recipe
from r1kit.run import Run, new_folder

RECIPE = parse_recipe({"kind": "zero", "tasks": [{"kind": "chains"}]}, source="test")


@pytest.fixture
def run(tmp_path):
    with Run(tmp_path / "run", RECIPE, resume=False) as opened:
        yield opened


def test_the_resolved_recipe_is_written_with_what_ran_it(run):
    written = json.loads((run.folder / "recipe.json").read_text())
    assert parse_recipe(written["recipe"], source="written") == RECIPE
    assert written["recipe"]["rollouts"]["group_size"] == 16
    assert set(written["versions"]) >= {"python", "torch", "transformers", "tokenizers"}
    assert all(written["versions"][name] for name in ("python", "torch"))
    assert written["machine"]["num_cores"] >= 1


def test_rows_come_back_as_they_were_logged(run):
    text = "思考\n'quoted' \"twice\" \t\r\\"
    rows = [{"iteration": 0, "reward": 0.1 + 0.2, "text": text}, {"iteration": 1, "nested": {"k": 1}}]
    for row in rows:
        run.log_metrics(row)
    run.log_rollouts(rows)
    assert run.read("metrics.jsonl") == run.read("rollouts.jsonl") == rows
    assert run.read("none.jsonl") == []


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\x7f", "\ufffd"])
def test_a_row_is_whole_whatever_its_text_holds(run, sign):
    rows = [{"iteration": number, "completion": f"a{sign}b"} for number in range(3)]
    run.log_rollouts(rows)
    assert run.read("rollouts.jsonl") == rows
    run.cut_back(2)
    assert run.read("rollouts.jsonl") == rows[:2]


@pytest.mark.parametrize(
    "torn", [b'{"iteration": 3, "rew', b'{"iteration": 3}', b'{"iteration": 3, "text": "\xe6\x80', b"\0"]
)
def test_a_torn_last_line_is_cut(run, torn):
    rows = [{"iteration": number} for number in range(3)]
    for row in rows:
        run.log_metrics(row)
    whole = (run.folder / "metrics.jsonl").read_bytes()
    (run.folder / "metrics.jsonl").write_bytes(whole + torn)
    assert run.read("metrics.jsonl") == rows
    run.cut_back(9)
    assert (run.folder / "metrics.jsonl").read_bytes() == whole


def test_cutting_back_forgets_what_came_after_the_checkpoint(run):
    for number in range(5):
        run.log_metrics({"iteration": number})
        run.log_rollouts([{"iteration": number, "n": 0}, {"iteration": number, "n": 1}])
    run.cut_back(3)
    assert [row["iteration"] for row in run.read("metrics.jsonl")] == [0, 1, 2]
    assert [row["iteration"] for row in run.read("rollouts.jsonl")] == [0, 0, 1, 1, 2, 2]
    run.cut_back(0)
    assert run.read("metrics.jsonl") == run.read("rollouts.jsonl") == []


def test_a_folder_in_use_is_refused_until_it_is_given_back(tmp_path):
    with Run(tmp_path / "run", RECIPE, resume=False):
        with pytest.raises(RunError, match="in use by another r1 process"):
            Run(tmp_path / "run", RECIPE, resume=True)
        with pytest.raises(RunError, match="already holds a run"):
            Run(tmp_path / "run", RECIPE, resume=False)
    with Run(tmp_path / "run", RECIPE, resume=True):
        pass


def test_another_recipe_is_refused_naming_what_differs(tmp_path):
    with Run(tmp_path / "run", RECIPE, resume=False):
        pass
    table = dump_recipe(RECIPE)
    other = parse_recipe(table | {"optimizer": table["optimizer"] | {"lr": 0.5}}, source="other")
    with pytest.raises(RunError, match=r"another recipe: it differs in optimizer\.lr;"):
        Run(tmp_path / "run", other, resume=True)
    with Run(tmp_path / "run", RECIPE, resume=True):
        pass


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    with pytest.raises(RunError, match="holds no run to resume"):
        Run(tmp_path / "none", RECIPE, resume=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", ["", "{", '{"recipe": {"kind"', "[]", "{}"])
def test_a_recipe_torn_by_a_crash_is_one_line(tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text(content)
    with pytest.raises(RunError, match=r"recipe\.json"):
        Run(tmp_path / "run", RECIPE, resume=True)


def test_a_death_while_the_recipe_is_written_leaves_none_or_all_of_it(tmp_path, monkeypatch):
    class Died(BaseException):
        pass

    def die(descriptor):
        os.ftruncate(descriptor, 40)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", die)
        with pytest.raises(Died):
            Run(tmp_path / "run", RECIPE, resume=False)
    with Run(tmp_path / "run", RECIPE, resume=False) as run:  # started anew, as if nothing had been there
        assert json.loads((run.folder / "recipe.json").read_text())["recipe"]["kind"] == "zero"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="cannot be written") as caught:
            Run(folder, RECIPE, resume=False)
        assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_that_says_how_to_go_on(run, monkeypatch):
    run.log_metrics({"iteration": 0})

    def fail(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", fail)
    for log in (lambda: run.log_metrics({}), lambda: run.log_rollouts([{}]), lambda: run.log_text("x")):
        with pytest.raises(RunError, match=r"No space left on device.*--resume"):
            log()


def test_a_full_disk_while_cutting_back_is_one_line_and_loses_nothing(run, monkeypatch):
    rows = [{"iteration": number} for number in range(3)]
    for row in rows:
        run.log_metrics(row)

    def fail(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(RunError, match="No space left on device"):
            run.cut_back(2)
    assert run.read("metrics.jsonl") == rows


def test_the_first_interrupt_asks_and_the_second_stops(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="--resume") as caught, Run(tmp_path / "run", RECIPE, resume=False) as run:
        assert not run.stop_requested
        signal.raise_signal(signal.SIGINT)
        assert run.stop_requested
        signal.raise_signal(signal.SIGINT)
    assert caught.value.exit_status == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_a_new_folder_is_the_first_that_is_free(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert new_folder("zero") == Path("runs/zero")
    for name in ("zero", "zero-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert new_folder("zero") == Path("runs/zero-3")
    assert new_folder("one") == Path("runs/one")
