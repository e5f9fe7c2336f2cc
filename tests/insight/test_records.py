"""Runs are read as they are: torn, going on, empty, demos, stages, and larger than a page."""

import fcntl
import json

import pytest

from r1kit.errors import RunError
from r1kit.insight.records import Status, read_record, read_records


def test_a_torn_last_line_is_passed_over_and_reported(a_run, rows_of):
    (record,) = read_records([a_run(metrics=[*rows_of(5), '{"iteration": 5, "rew'])])
    assert len(record.metrics) == 5
    assert record.faults == [
        "metrics.jsonl: line 6 cannot be read and was passed over (the last one: it was being written)"
    ]


def test_lines_that_are_no_rows_are_passed_over_wherever_they_are(a_run, rows_of):
    nested = "[" * 100_000 + "\n"
    metrics = [*rows_of(2), "\n", "[1, 2]\n", nested, "\x00\xff\n", *rows_of(3)]
    (record,) = read_records([a_run(metrics=metrics)])
    assert len(record.metrics) == 5
    assert record.faults == ["metrics.jsonl: line 3, 4, 5 and 1 more cannot be read and was passed over"]


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\x0c"])
def test_only_a_newline_ends_a_row(a_run, a_rollout, sign):
    (record,) = read_records([a_run(rollouts=[a_rollout(completion=f"a{sign}b")])])
    assert record.rollouts[0]["completion"] == f"a{sign}b" and record.faults == []


def test_rollouts_without_text_or_iteration_are_left_out(a_run, a_rollout):
    bad = [{"iteration": 0}, a_rollout(completion=None), a_rollout(iteration="x"), a_rollout(prompt=3)]
    (record,) = read_records([a_run(rollouts=[a_rollout(), *bad])])
    assert len(record.rollouts) == record.num_rollouts == 1


def test_how_far_a_run_is(a_run, rows_of):
    assert read_records([a_run("a", metrics=rows_of(3))])[0].status is Status.COMPLETE
    stopped = a_run("b", metrics=rows_of(3), is_complete=False)
    assert read_records([stopped])[0].status is Status.STOPPED
    assert read_records([a_run("c", is_complete=False)])[0].status is Status.EMPTY
    (stopped / ".lock").touch()
    assert read_records([stopped])[0].status is Status.STOPPED
    with (stopped / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read_records([stopped])[0].status is Status.GOING


def test_a_folder_of_stages_is_a_run_for_each_stage(a_run, rows_of, tmp_path):
    a_run("r1/1-cold-start", metrics=rows_of(3))
    a_run("r1/2-reasoning-rl", metrics=rows_of(4))
    assert [record.name for record in read_records([tmp_path / "r1"])] == ["1-cold-start", "2-reasoning-rl"]


def test_a_demo_is_its_training_with_the_figures_of_its_parts(a_run, rows_of, tmp_path):
    a_run("my-demo/zero", metrics=rows_of(3))
    parts = {"before": {"figures": {"trained": {"pass_at_1": 0.25}}, "seconds": 1.0}}
    (tmp_path / "my-demo" / "demo.json").write_text(json.dumps({"recipe": {}, "parts": parts}))
    (record,) = read_records([tmp_path / "my-demo"])
    assert (record.name, len(record.metrics)) == ("my-demo", 3)
    assert record.demo == {"before": {"trained": {"pass_at_1": 0.25}}}


def test_a_demo_that_was_stopped_before_its_training_is_empty(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "demo.json").write_text('{"recipe": {"kind": "zero", "seed": 3}, "parts": {}}')
    (record,) = read_records([tmp_path / "demo"])
    assert record.status is Status.EMPTY and record.recipe["seed"] == 3


def test_runs_of_the_same_name_are_named_by_their_parents_too(a_run, rows_of):
    runs = [a_run("a/zero", metrics=rows_of(2)), a_run("b/zero", metrics=rows_of(2))]
    assert [record.name for record in read_records(runs)] == ["a/zero", "b/zero"]


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path):
    with pytest.raises(RunError, match="no such folder") as missing:
        read_records([tmp_path / "none"])
    with pytest.raises(RunError, match="holds no run") as empty:
        read_records([tmp_path])
    assert "\n" not in f"{missing.value}{empty.value}"


def test_more_rollouts_than_a_page_holds_are_thinned_by_whole_groups(a_run, a_rollout):
    rollouts = [
        a_rollout(i, problem_id=f"p/{p}", completion="x" * 500) for i in range(10) for p in range(40) for _ in "abcd"
    ]
    tests = [a_rollout(i, problem_id=f"t/{p}", test="held_out") for i in (0, 10) for p in range(40)]
    folder = a_run(rollouts=rollouts, held_out=tests)
    record = read_record(folder, name="run", max_rollouts=400, max_bytes=10**9)
    trained = [row for row in record.rollouts if "test" not in row]
    groups = {(row["iteration"], row["problem_id"]) for row in trained}
    assert record.num_rollouts == len(rollouts) + len(tests)
    assert len(trained) == 4 * len(groups) and 200 < len(trained) < 450
    assert len({iteration for iteration, _ in groups}) == 10
    assert len(record.rollouts) - len(trained) == len(tests)  # tests first: they can be read side by side
    small = read_record(folder, name="run", max_rollouts=10**6, max_bytes=200_000)
    assert 100_000 < sum(len(json.dumps(row)) for row in small.rollouts) < 300_000


def test_a_thinned_test_keeps_the_same_problems_at_every_iteration(a_run, a_rollout):
    tests = [a_rollout(i, problem_id=f"t/{p}", test="held_out") for i in (0, 10, 20) for p in range(200)]
    record = read_record(a_run(held_out=tests), name="run", max_rollouts=300, max_bytes=10**9)
    kept = [{row["problem_id"] for row in record.rollouts if row["iteration"] == i} for i in (0, 10, 20)]
    assert kept[0] == kept[1] == kept[2] and 20 < len(kept[0]) < 100
