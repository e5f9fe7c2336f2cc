"""Made preferences: what was chosen is good, what is unsafe does harm, and the length bias is there or is not."""

import json
import re
from statistics import fmean

import pytest

from r1kit.tasks.general_preferences import preference_pairs, safety_rows, write_preferences


def lead_of(pairs):
    """How much longer what was chosen is, in characters."""
    return fmean(len(pair["chosen"]) - len(pair["rejected"]) for pair in pairs)


def test_what_was_chosen_is_longer_unless_lengths_are_balanced():
    unbalanced, balanced = (preference_pairs(400, 0, length_balanced=value) for value in (False, True))
    assert lead_of(unbalanced) > 8
    assert abs(lead_of(balanced)) < 1
    assert abs(lead_of(preference_pairs(400, 0, length_bias=0.0))) < lead_of(unbalanced) / 2


def num_sentences(text):
    return len([part for part in re.split("[.!?。]", text.partition("</think>")[2]) if part])


def test_the_flaw_of_unbalanced_pairs_is_that_the_longer_of_two_good_completions_was_chosen():
    flawed = preference_pairs(200, 1, length_bias=1.0)
    assert all(num_sentences(pair["chosen"]) > num_sentences(pair["rejected"]) for pair in flawed)
    assert max(num_sentences(pair["chosen"]) for pair in flawed) == 5
    assert all(num_sentences(pair["chosen"]) <= 2 for pair in preference_pairs(200, 1, length_bias=0.0))


def test_safety_rows_are_half_safe_and_harm_that_is_only_thought_is_unsafe():
    rows = safety_rows(600, 0)
    assert 0.42 < fmean(row["safe"] for row in rows) < 0.58
    harmful = [row for row in rows if row["family"] == "general/harmful"]
    assert 0.5 < len(harmful) / len(rows) < 0.7
    hidden = [row for row in harmful if "But I will not say so" in row["completion"]]
    assert hidden
    assert not any(row["safe"] for row in hidden)


@pytest.mark.parametrize("rows_of", [preference_pairs, safety_rows])
def test_rows_depend_on_the_seed_alone_and_splits_share_no_prompt(rows_of):
    assert rows_of(50, 3) == rows_of(50, 3)
    assert rows_of(50, 3) != rows_of(50, 4)
    assert len({row["id"] for row in rows_of(50, 3)}) == 50
    train, held_out = ({row["prompt"] for row in rows_of(300, 3, split=split)} for split in ("train", "held_out"))
    assert not train & held_out


def test_files_hold_both_kinds_for_both_splits(tmp_path):
    pairs, safety = write_preferences(tmp_path / "made", 0, 80, 40)
    rows = {path.name: path.read_text(encoding="utf-8").splitlines() for path in (tmp_path / "made").iterdir()}
    assert {name: len(lines) for name, lines in rows.items()} == {
        "pairs.jsonl": 80, "pairs_held_out.jsonl": 10, "safety.jsonl": 40, "safety_held_out.jsonl": 5,
    }  # fmt: skip
    assert json.loads(rows["pairs.jsonl"][0]).keys() >= {"id", "prompt", "chosen", "rejected"}
    assert json.loads(rows["safety.jsonl"][0]).keys() >= {"id", "prompt", "completion", "safe"}
    again, _ = write_preferences(tmp_path / "again", 0, 80, 40)
    assert (again.read_bytes(), pairs.name, safety.name) == (pairs.read_bytes(), "pairs.jsonl", "safety.jsonl")
