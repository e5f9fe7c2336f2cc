"""Claims one at a time: each once, again where its settings changed, and never at the cost of another."""

import json

import pytest

from r1kit.errors import Interrupted, RecipeError, RunError
from r1kit.run import take_lock


def names_of(rehearsal, folder, seed=0):
    return [path.removeprefix(f"{folder.absolute()}/seed-{seed}/") for path in rehearsal.trained]


def test_a_claim_makes_the_stages_that_it_needs_and_no_others(rehearsal, tmp_path):
    text = rehearsal.run(tmp_path, 'only=["g"]', "seeds=[4]")
    assert names_of(rehearsal, tmp_path, 4) == ["0-zero", "claims/g/ppo-0.95", "claims/g/ppo-1.0"]
    recipe = json.loads((tmp_path / "seed-4" / "claims" / "g" / "ppo-0.95" / "recipe.json").read_text())["recipe"]
    assert (recipe["seed"], recipe["advantage"]["kind"], recipe["advantage"]["lambda"]) == (4, "gae", 0.95)
    assert "claim g, seed 4: does not hold: grpo accuracy 80.0 %" in text
    row = json.loads((tmp_path / "seed-4" / "claims" / "g.json").read_text())
    assert set(row["seconds"]["own"]) == {"claims/g/ppo-0.95", "claims/g/ppo-1.0"}
    assert set(row["seconds"]["shared"]) == {"0-zero"}
    assert row["seconds"]["measuring"] == 4.5
    assert row["tests"] == {"trained": {"n": 10, "k": 4}}


def test_with_and_without_differ_in_the_language_reward_alone(rehearsal, tmp_path):
    rehearsal.run(tmp_path, 'only=["b"]', "seeds=[0]", "language.start=base")
    assert names_of(rehearsal, tmp_path) == ["claims/b/with", "claims/b/without"]
    paths = [tmp_path / "seed-0" / "claims" / "b" / name / "recipe.json" for name in ("with", "without")]
    rewarded, plain = (json.loads(path.read_text())["recipe"] for path in paths)
    assert (rewarded["rewards"].pop("language"), plain["rewards"].pop("language")) == (1.0, 0.0)
    assert rewarded == plain
    assert rewarded["model"]["path"] == "nano"


def test_all_nine_claims_share_the_stages_of_a_seed(rehearsal, tmp_path):
    rehearsal.run(tmp_path, "seeds=[0]")
    trained = names_of(rehearsal, tmp_path)
    assert len(trained) == len(set(trained)) and "4-all-scenarios-rl/rl" in trained
    found = json.loads((tmp_path / "results.json").read_text())["claims"]
    assert list(found) == list("abcdefghi")
    assert found["h"]["holds"] and found["i"]["holds"] and not found["a"]["holds"]
    assert found["e"]["mean"]["teacher_tokens"] == 7 and found["e"]["mean"]["llama_rl_tokens"] == 33


def test_what_is_judged_is_not_judged_again(rehearsal, tmp_path):
    rehearsal.run(tmp_path, 'only=["a", "g"]', "seeds=[0]")
    stamps = [(tmp_path / "seed-0" / "claims" / f"{name}.json").stat().st_mtime_ns for name in "ag"]
    with pytest.raises(RunError, match="already holds a run; go on with --resume"):
        rehearsal.run(tmp_path, 'only=["a"]', "seeds=[0]")
    rehearsal.run(tmp_path, "seeds=[0]", 'only=["a", "g", "f"]', resume=True)
    assert rehearsal.trained == []
    assert rehearsal.measured == [("harder", "Zero"), ("harder", "R1")]
    assert stamps == [(tmp_path / "seed-0" / "claims" / f"{name}.json").stat().st_mtime_ns for name in "ag"]


def test_a_changed_setting_makes_its_stages_and_its_claim_again(rehearsal, tmp_path):
    rehearsal.run(tmp_path, 'only=["b", "g"]', "seeds=[0]", "language.start=base")
    text = rehearsal.run(
        tmp_path,
        'only=["b", "g"]',
        "seeds=[0]",
        "language.start=base",
        "language.rl.rollouts.num_iterations=7",
        resume=True,
    )
    assert names_of(rehearsal, tmp_path) == ["claims/b/with", "claims/b/without"]
    assert "claims/b/with is out of date (rollouts.num_iterations was 40, now 7): put aside" in text
    assert "claim b, seed 0: stages.claims/b/with.rollouts.num_iterations has changed; it is judged again" in text
    assert (tmp_path / "seed-0" / "replaced" / "1" / "claims" / "b" / "with" / "final").is_dir()
    assert {test for test, _ in rehearsal.measured} == {"trained"}


def test_what_is_made_from_what_changed_is_made_again_even_by_another_claim(rehearsal, tmp_path):
    rehearsal.run(tmp_path, 'only=["b", "g"]', "seeds=[0]")
    changed = "pipeline.zero.rollouts.num_iterations=9"
    rehearsal.run(tmp_path, 'only=["g"]', "seeds=[0]", changed, resume=True)
    assert names_of(rehearsal, tmp_path) == ["0-zero", "claims/g/ppo-0.95", "claims/g/ppo-1.0"]
    rehearsal.run(tmp_path, 'only=["b"]', "seeds=[0]", changed, resume=True)
    assert names_of(rehearsal, tmp_path) == ["claims/b/with", "claims/b/without"]


def test_a_changed_size_measures_again_and_trains_nothing(rehearsal, tmp_path):
    rehearsal.run(tmp_path, 'only=["f"]', "seeds=[0]")
    text = rehearsal.run(tmp_path, 'only=["f"]', "seeds=[0]", "sizes.votes=32", resume=True)
    assert rehearsal.trained == [] and len(rehearsal.measured) == 2
    assert "tests.harder.samples_per_problem has changed" in text


@pytest.mark.parametrize("damage", ['{"claim": "f"}', "\x00"])
def test_a_damaged_claim_is_judged_again_and_said(rehearsal, tmp_path, damage):
    rehearsal.run(tmp_path, 'only=["f"]', "seeds=[0]")
    path = tmp_path / "seed-0" / "claims" / "f.json"
    whole = path.read_bytes()
    path.write_text(damage)
    text = rehearsal.run(tmp_path, 'only=["f"]', "seeds=[0]", resume=True)
    assert f"{path} is damaged (" in text and "the claim is judged again" in text
    assert path.read_bytes() == whole


def test_a_claim_that_fails_stops_no_other(rehearsal, tmp_path):
    rehearsal.stop_at = ("b/with", RunError("no right completion"))
    with pytest.raises(RunError, match="1 not judged: claim b, seed 0: no right completion; try again with --run"):
        rehearsal.run(tmp_path, 'only=["b", "g"]', "seeds=[0]")
    assert list(json.loads((tmp_path / "results.json").read_text())["claims"]) == ["g"]
    rehearsal.stop_at = None
    rehearsal.run(tmp_path, 'only=["b", "g"]', "seeds=[0]", resume=True)
    assert names_of(rehearsal, tmp_path) == ["claims/b/with", "claims/b/without"]


def test_an_interrupt_says_how_to_go_on(rehearsal, tmp_path):
    rehearsal.stop_at = ("2-reasoning-rl", Interrupted("stopped"))
    with pytest.raises(Interrupted, match=f"interrupted in seed 0; .* go on with --run {tmp_path} --resume"):
        rehearsal.run(tmp_path)
    assert not (tmp_path / "seed-1").exists()
    rehearsal.stop_at = None
    rehearsal.run(tmp_path, 'only=["a"]', "seeds=[0]", resume=True)
    assert names_of(rehearsal, tmp_path)[0] == "2-reasoning-rl"


def test_other_seeds_may_be_run_by_another_process(rehearsal, tmp_path):
    rehearsal.run(tmp_path, 'only=["g"]', "seeds=[0]")
    with take_lock(tmp_path / "seed-0"):
        rehearsal.run(tmp_path, 'only=["g"]', "seeds=[1]")
        with pytest.raises(RunError, match="seed-0 is in use by another r1 process"):
            rehearsal.run(tmp_path, 'only=["g"]', "seeds=[0]", resume=True)
    assert set(json.loads((tmp_path / "results.json").read_text())["claims"]["g"]["seeds"]) == {"0", "1"}


def test_seeds_that_were_judged_by_other_settings_are_left_out(rehearsal, tmp_path):
    rehearsal.run(tmp_path, 'only=["f"]', "seeds=[0]")
    text = rehearsal.run(tmp_path, 'only=["f"]', "seeds=[1]", "sizes.votes=32")
    assert "claim f, seed-0: judged by other settings (tests.harder.samples_per_problem); left out" in text
    assert set(json.loads((tmp_path / "results.json").read_text())["claims"]["f"]["seeds"]) == {"1"}


def test_a_folder_may_be_moved(rehearsal, tmp_path):
    rehearsal.run(tmp_path / "here", 'only=["b"]', "seeds=[0]")
    (tmp_path / "here").rename(tmp_path / "there")
    rehearsal.run(tmp_path / "there", 'only=["b"]', "seeds=[0]", resume=True)
    assert rehearsal.trained == rehearsal.measured == []
    rehearsal.run(tmp_path / "there", 'only=["b"]', "seeds=[0]", resume=True)  # its stages name the first folder still
    (tmp_path / "there").rename(tmp_path / "here")
    rehearsal.run(tmp_path / "here", 'only=["b"]', "seeds=[0]", resume=True)
    assert rehearsal.trained == rehearsal.measured == []


def test_a_run_that_is_not_there_is_not_resumed(rehearsal, tmp_path):
    with pytest.raises(RunError, match="holds no run to resume"):
        rehearsal.run(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ('only=["z"]', "only.0: input should be 'a', 'b', 'c'"),
        ("seeds=[1, 1]", "seeds: 1 is named twice"),
        ("seeds=[0, 0]", "seeds: 0 is named twice"),
        ("seeds=[]", "seeds: tuple should have at least 1 item"),
        ("language.rl.rolouts.num_iterations=3", "unknown key 'rolouts'; did you mean 'rollouts'?"),
        (
            "language.start=Dev9",
            "claim 'b' needs the model 'Dev9', which the pipeline does not make; it has base",
        ),
        ('students=["bert"]', "claim 'e' needs the "),
        ("hacking.start=Dev8", "claim 'h' needs the stage claims/h/rl, which the pipeline does not have"),
        ("pipeline.zero.rollouts.num_iterations=0", "pipeline.zero.rollouts.num_iterations"),
        ("pipeline.reasoning_rl.rewards.language=0", "claim 'b' compares with and without: reasoning_rl pays no"),
        ("sizes.votes=1", "sizes.votes: input should be greater than or equal to 2"),
    ],
)
def test_bad_settings_are_one_line_before_anything_begins(rehearsal, tmp_path, override, said):
    with pytest.raises(RecipeError) as error:
        rehearsal.run(tmp_path, override)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())


def test_a_claim_without_problems_is_refused_only_where_it_is_chosen(rehearsal, tmp_path):
    nothing = ("pipeline.evaluation.harder=[]", "seeds=[0]")
    with pytest.raises(RecipeError, match="claim 'f' needs harder problems: name pipeline"):
        rehearsal.run(tmp_path, *nothing)
    rehearsal.run(tmp_path, *nothing, 'only=["a"]')
    assert list(json.loads((tmp_path / "results.json").read_text())["claims"]) == ["a"]
