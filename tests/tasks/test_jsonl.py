"""Reading JSON Lines: what a line must be, and what is said of files that are something else."""

import pytest

from r1kit.errors import DataError
from r1kit.tasks.jsonl import parse_row, read_jsonl


def test_a_line_keeps_its_number_whatever_stands_before_it(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n   \n{"a": "x\xe2\x80\xa8y"}\n{"a": 3}')
    table = read_jsonl(path)
    assert table.rows == (("line 1", {"a": 1}), ("line 4", {"a": "x\u2028y"}), ("line 5", {"a": 3}))
    assert (table.bad, table.stem, table.where) == ((), "set", str(path))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"a": 1', "not valid JSON: Expecting ',' delimiter at column 8"),
        (b"{'a': 1}", "not valid JSON"),
        (b"7", r"expected an object {…}, not 7"),
        (b'"text"', "expected an object"),
        (b"null", "expected an object"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": -Infinity}', "-Infinity is no JSON"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'{"a": "\\ud83d"}', "half of a surrogate pair"),
        (b'{"a": "\\uDE00 x"}', "half of a surrogate pair"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "too deeply nested"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "digits"),
    ],
)
def test_a_line_that_is_no_object_is_explained(line, complaint):
    with pytest.raises(ValueError) as caught:
        parse_row(line)
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_whole_surrogate_pair_is_a_character():
    assert parse_row(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_bad_lines_are_listed_beside_the_good_ones(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 2}\n[1]\n')
    table = read_jsonl(path)
    assert [row for _, row in table.rows] == [{"a": 1}, {"a": 2}]
    assert [complaint.split(":")[0] for complaint in table.bad] == ["line 2", "line 4"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'[{"a": 1}]', r"is one JSON array; expected one object a line \(`jq -c '.\[\]'`"),
        (b"\n [\n", "is one JSON array"),
        (b"\x1f\x8b\x08\x00", "is compressed; unpack it first"),
        (b"PAR1\x00", 'is a parquet file; kind = "hub" reads'),
    ],
)
def test_a_file_of_another_kind_is_recognised(tmp_path, content, complaint):
    path = tmp_path / "set.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        read_jsonl(path)


def test_a_file_that_is_not_there_names_its_nearest_neighbour(tmp_path):
    (tmp_path / "train.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"trian\.jsonl: no such file; did you mean '.*train\.jsonl'\?"):
        read_jsonl(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match=r"no such file; there is no folder .* either"):
        read_jsonl(tmp_path / "none" / "train.jsonl")
    with pytest.raises(DataError, match="is a folder; name a file in it"):
        read_jsonl(tmp_path)
