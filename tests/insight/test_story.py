"""The headline: the test that nobody trained on decides, and noise is not called learning."""

import pytest

from r1kit.insight.records import RunRecord, Status
from r1kit.insight.rivals import rivals_of
from r1kit.insight.story import story_of, tiles_of


def record(rows, tmp_path, status=Status.COMPLETE, **known):
    return RunRecord(name="run", folder=tmp_path, status=status, metrics=rows, **known)


@pytest.mark.parametrize(
    ("after", "status", "begins", "tone"),
    [
        (0.8, Status.COMPLETE, "It learned: held-out pass@1 30.0% → 80.0%", "good"),
        (0.8, Status.GOING, "So far it learns", "good"),
        (0.33, Status.COMPLETE, "No clear change", "level"),
        (0.1, Status.COMPLETE, "It got worse", "bad"),
        (0.1, Status.STOPPED, "It is getting worse", "bad"),
    ],
)
def test_the_held_out_test_decides(rows_of, a_test, tmp_path, after, status, begins, tone):
    rows = rows_of(pass_at_1=0.5)
    rows[0]["held_out"], rows[-1]["held_out"] = a_test(0.3), a_test(after)
    story = story_of(record(rows, tmp_path, status))
    assert story.headline.startswith(begins) and story.tone == tone
    assert all(part in story.detail for part in ("n 256", "k 1", "temperature 1", "cap 96 tokens", "2.0%", "5.7%"))


def test_without_a_test_the_training_samples_speak(rows_of, tmp_path):
    assert story_of(record(rows_of(), tmp_path)).headline.startswith("It learned: pass@1 in training")
    assert story_of(record(rows_of(3), tmp_path)).headline.startswith("Too early to tell")


def test_a_loss_that_falls_has_learned(tmp_path):
    rows = [{"iteration": i, "loss": 3.0 - 0.02 * i + 0.01 * (i % 2)} for i in range(60)]
    assert story_of(record(rows, tmp_path)).headline == "It learned: loss 2.815 → 2.015"


def test_a_run_without_rows_says_what_to_do(tmp_path):
    assert "--resume" in story_of(record([], tmp_path, Status.EMPTY)).detail
    assert "first iteration" in story_of(record([], tmp_path, Status.GOING)).detail


def test_tiles_take_tests_one_by_one_and_iterations_together(rows_of, a_test, tmp_path):
    rows = rows_of(32, entropy=lambda i: 1.0 if i < 16 else 0.5)
    rows[0]["held_out"], rows[10]["held_out"], rows[-1]["held_out"] = a_test(0.2), a_test(0.3), a_test(0.7)
    tiles = {tile.label: tile for tile in tiles_of(record(rows, tmp_path))}
    right, entropy = tiles["held-out pass@1"], tiles["entropy, nats a token"]
    assert (right.before, right.after, right.error, right.is_better) == (0.2, 0.7, 0.02, True)
    assert (entropy.before, entropy.after, entropy.is_better) == (1.0, 0.5, None)


def test_rivals_are_the_parts_that_were_measured_with_their_errors():
    demo = {
        "before": {"trained": {"pass_at_1": 0.25, "pass_at_1_stderr": 0.03}},
        "pass_at_16": {"trained": {"pass_at_1": 0.25, "pass_at_1_stderr": 0.03, "pass_at_k": 0.9, "k": 16, "n": 65}},
        "after": {},
    }
    base, best = rivals_of(demo)
    assert (base.label, base.value, base.error) == ("base", 0.25, 0.03)
    assert (best.label, best.value) == ("base, the best of 16 tries", 0.9)
    assert best.error == pytest.approx((0.9 * 0.1 / 64) ** 0.5)
