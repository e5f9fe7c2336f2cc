"""Rows that survive, and settings that must be the same."""

import json
import multiprocessing

import pytest

from r1kit.errors import RunError
from r1kit.evaluation.journal import Journal, differences

SETTINGS = {"k": 4, "sampling": {"temperature": 0.6, "stop": ("a", "b")}}


@pytest.fixture
def opened(tmp_path):
    def make(settings=SETTINGS, notes=None):
        return Journal(tmp_path / "rows.jsonl", tmp_path / "settings.json", settings=settings, notes=notes or {})

    return make


def test_rows_come_back_as_they_were_appended(opened):
    rows = [{"a": "löß\u2028\nx", "b": None}, {"a": "\ud800", "b": float("nan")}]
    with opened() as journal:
        journal.append(rows[:1])
        journal.append(rows[1:])
    with opened() as journal:
        assert [row for row, _ in journal.rows()] == [rows[0], {"a": "\ud800", "b": None}]


@pytest.mark.parametrize("torn", [b'{"a": 3', b'{"a": 3}', b'{"a": "\xc3'])
def test_a_torn_last_line_is_cut_off_and_the_next_row_takes_its_place(opened, tmp_path, torn):
    with opened() as journal:
        journal.append([{"a": 1}, {"a": 2}])
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(torn)
    with opened() as journal:
        assert [row["a"] for row, _ in journal.rows()] == [1, 2]
        journal.append([{"a": 4}])
        assert [row["a"] for row, _ in journal.rows()] == [1, 2, 4]


def test_a_torn_line_longer_than_a_block_is_cut_off_whole(opened, tmp_path):
    with opened() as journal:
        journal.append([{"a": 1}])
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b'{"a": "' + b"x" * 200_000)
    with opened() as journal:
        assert [row for row, _ in journal.rows()] == [{"a": 1}]


def test_rows_after_a_place_can_be_forgotten(opened):
    with opened() as journal:
        journal.append([{"a": number} for number in range(4)])
        ends = [end for _, end in journal.rows()]
        journal.cut_back(ends[1])
        assert [row["a"] for row, _ in journal.rows()] == [0, 1]


def test_other_settings_are_refused_by_name_and_notes_are_those_of_the_first(opened):
    with opened(notes={"slots": 8}):
        pass
    with opened(notes={"slots": 9}) as journal:
        assert journal.notes == {"slots": 8}
    with pytest.raises(RunError, match=r"sampling\.temperature 0\.6 -> 1\.0; sampling\.stop\.1 \"b\" -> \"c\""):
        opened(settings={"k": 4, "sampling": {"temperature": 1.0, "stop": ("a", "c")}})


def test_rows_without_settings_are_never_touched(opened, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"mine": 1}')
    with pytest.raises(RunError, match=r"holds rows, but not settings\.json"):
        opened()
    assert (tmp_path / "rows.jsonl").read_text() == '{"mine": 1}'


def test_damage_in_the_middle_is_named_by_its_line(opened, tmp_path):
    with opened() as journal:
        journal.append([{"a": 1}])
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b"nonsense\n" + json.dumps({"a": 2}).encode() + b"\n")
    with opened() as journal, pytest.raises(RunError, match="line 2: damaged"):
        list(journal.rows())


def _try_to_open(folder, answers):
    try:
        Journal(folder / "rows.jsonl", folder / "settings.json", settings=SETTINGS, notes={})
    except RunError as error:
        answers.put(str(error))


def test_two_processes_never_write_to_one_file(opened, tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with opened():
        other = context.Process(target=_try_to_open, args=(tmp_path, answers))
        other.start()
        other.join(20)
        assert "in use by another r1 process" in answers.get()


def test_differences_name_added_and_missing_keys():
    assert differences({"a": 1, "b": [1]}, {"a": 1, "b": [1, 2], "c": None}) == ["b [1] -> [1, 2]"]
    assert differences({}, {"c": 2}) == ["c null -> 2"]
