"""Data sets of the hub: local folders in several formats, and one line for everything that can go wrong."""

import builtins
import json
import socket
import time

import pytest

from r1kit.config.tasks import HubTask
from r1kit.errors import DataError
from r1kit.tasks import hub
from r1kit.tasks.hub import without_padding
from r1kit.tasks.problem_sets import load_problems

datasets = pytest.importorskip("datasets")

ROWS = [{"question": f"What is {n} + 1?", "answer": f"It is\n#### {n + 1}", "idx": n} for n in range(40)]


@pytest.fixture(autouse=True)
def _no_trace(tmp_path, monkeypatch):
    """The library's cache goes into the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """A data set of two splits as JSON Lines, as people lay them out."""
    made = tmp_path / "gsm"
    made.mkdir()
    for split, rows in (("train", ROWS[:30]), ("test", ROWS[30:])):
        (made / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def test_a_folder_is_read_with_its_own_splits(folder):
    task = HubTask(dataset=str(folder), held_out_split="test", answer_after="####", fields={"id": "idx"})
    found = load_problems(task)
    assert (len(found.train), len(found.held_out)) == (30, 10)
    assert (found.train[4].id, found.train[4].prompt, found.train[4].gold) == ("gsm/train/4", "What is 4 + 1?", "5")
    assert found.held_out[0].id == "gsm/test/30"
    assert "gsm (train) and" in str(found.report)


def test_parquet_slices_and_sets_saved_to_disk_are_read(folder, tmp_path):
    data = datasets.Dataset.from_list(ROWS)
    (tmp_path / "parquet").mkdir()
    data.to_parquet(tmp_path / "parquet" / "train.parquet")
    data.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": data, "test": data.select(range(4))}).save_to_disk(tmp_path / "dict")
    sizes = {
        (str(folder), "train[:7]"): 7,
        (str(tmp_path / "parquet"), "train"): 40,
        (str(tmp_path / "saved"), "train"): 40,
        (str(tmp_path / "dict"), "test"): 4,
    }
    for (path, split), size in sizes.items():
        found = load_problems(HubTask(dataset=path, split=split, use_for="train"))
        assert len(found.train) == size, (path, split)
        assert found.train[0].gold == "It is\n#### 1"


def test_nulls_that_arrow_fills_in_are_taken_out_again():
    row = {"kwargs": [{"a": None, "b": 1}, {"a": 2, "b": None}], "c": None, "d": [None, 0]}
    assert without_padding(row) == {"kwargs": [{"b": 1}, {"a": 2}], "d": [None, 0]}


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    real = builtins.__import__

    def without_datasets(name, *args, **kwargs):
        if name.split(".")[0] == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_datasets)
    with pytest.raises(DataError, match=r"pip install 'r1kit\[hub\]'"):
        load_problems(HubTask(dataset="a/b"))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"split": "validation"}, r"gsm \(validation\): .*'?train'?"),
        ({"name": "socratic"}, "socratic.*not found. Available: .'default'."),
        ({"split": "train[:x]"}, "train.:x."),
        ({"fields": {"answer": "solution"}}, "no row has a field 'solution'.*there are: question, answer, idx"),
    ],
)
def test_what_a_data_set_does_not_have_is_one_line(folder, settings, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        load_problems(HubTask(dataset=str(folder), **settings))
    assert "\n" not in str(caught.value)


def test_a_saved_set_without_that_split_and_a_broken_file_are_one_line(folder, tmp_path):
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "dict")
    (folder / "train.jsonl").write_text('{"a": 1}\n{"a": ')
    (tmp_path / "empty").mkdir()
    for path, split, complaint in (
        (tmp_path / "dict", "test", "it has no split 'test'"),
        (folder, "train", "JSON parse error"),
        (tmp_path / "empty", "train", r"empty \(train\): "),
    ):
        with pytest.raises(DataError, match=complaint) as caught:
            load_problems(HubTask(dataset=str(path), split=split))
        assert "\n" not in str(caught.value)


def test_without_a_network_the_answer_comes_at_once(monkeypatch):
    def resolves_nothing(*args, **kwargs):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", resolves_nothing)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    was_offline = datasets.config.HF_HUB_OFFLINE
    started = time.perf_counter()
    with pytest.raises(DataError, match="is there a network, and is the id right"):
        load_problems(HubTask(dataset="nobody/has-this-set"))
    assert time.perf_counter() - started < 5
    assert was_offline == datasets.config.HF_HUB_OFFLINE


def test_a_gated_set_says_where_to_ask(monkeypatch):
    def refuse(*args, **kwargs):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub.\nVisit the page.")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr(hub, "_resolves", lambda host: True)
    with pytest.raises(
        DataError, match=r"a/b \(train\): .*gated dataset on the Hub\. \(ask for access on its page"
    ) as caught:
        load_problems(HubTask(dataset="a/b"))
    assert "\n" not in str(caught.value)
