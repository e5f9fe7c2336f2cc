"""RL for all scenarios: general prompts from a step on, graded by reward models; resumed exactly; refused clearly."""

import json
import signal

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from r1kit.config.model import ModelSettings
from r1kit.errors import Interrupted, ModelError, RecipeError, VerifierError
from r1kit.models.reward import RewardCard, describe, load_reward_model, tokenizer_digest
from r1kit.models.scalar import load_scalar
from r1kit.pipeline import train
from r1kit.run import Run
from r1kit.training.checkpoint import save_model

GENERAL = [{"kind": "general"}]


@pytest.fixture(scope="session")
def graders(model_folder, tmp_path_factory):
    """Two reward models with random heads: their folders by name."""
    folders = {}
    for number, (name, loss, sees) in enumerate(
        [("helpfulness", "pairwise", "summary"), ("safety", "pointwise", "all")]
    ):
        scalar = load_scalar(ModelSettings(path=str(model_folder)), trains=True, is_new=True)
        torch.manual_seed(number)
        torch.nn.init.normal_(scalar.head.weight, std=0.5)
        digest = tokenizer_digest(scalar.tokenizer)
        describe(scalar, RewardCard(loss=loss, sees=sees, template={"kind": "nano"}, tokenizer=digest))
        folders[name] = tmp_path_factory.mktemp("graders") / name
        save_model(scalar, folders[name])
    return folders


@pytest.fixture
def recipe(tiny, graders):
    """A function from changed sections to a tiny recipe with both reward models."""

    def make(preference=None, **sections):
        settings = {name: str(folder) for name, folder in graders.items()}
        settings |= {"from_step": 2, "tasks": GENERAL, "num_test_problems": 12} | (preference or {})
        return tiny(preference=settings, **sections)

    return make


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def test_general_prompts_begin_at_their_step_and_earn_their_grades(recipe, run_to_the_end, tmp_path):
    folder = run_to_the_end(recipe(run={"rollouts_interval_iterations": 1}), tmp_path / "run")
    rollouts = [json.loads(line) for line in (folder / "rollouts.jsonl").open()]
    is_general = {n: [row["task"].startswith("general") for row in rollouts if row["iteration"] == n] for n in range(6)}
    assert not any(is_general[0] + is_general[1])
    assert any(is_general[2] + is_general[3] + is_general[4] + is_general[5])
    assert not all(is_general[2] + is_general[3] + is_general[4] + is_general[5])
    graded = [row for row in rollouts if "helpfulness" in row["parts"] or "safety" in row["parts"]]
    assert len(graded) == sum(map(sum, is_general.values()))
    for row in graded:
        (part,) = row["parts"].keys() & {"helpfulness", "safety"}
        assert 0 <= row["parts"][part] <= 1
        assert row["reward"] == pytest.approx(row["parts"]["random"] + row["parts"][part])
    rows = metrics_of(folder)
    assert not any("general_share" in row for row in rows[:2])
    assert any("helpfulness" in row["general_parts"] for row in rows[2:6] if "general_parts" in row)
    for row in rows[2:6]:
        drawn = [found for found in rollouts if found["iteration"] == row["iteration"]]
        shares = [found["reward"] for found in drawn if found["task"].startswith("general")]
        assert row.get("general_share", 0.0) == pytest.approx(len(shares) / len(drawn))
        if 0 < len(shares) < len(drawn):
            rest = [found["reward"] for found in drawn if not found["task"].startswith("general")]
            assert row["general_reward"] == pytest.approx(sum(shares) / len(shares))
            assert row["reward"] == pytest.approx(sum(rest) / len(rest))
    tests = [row["general"] for row in rows if "general" in row]
    assert len(tests) == 4
    assert set(tests[0]["by_model"]) == {"helpfulness", "safety"}
    assert tests[0]["by_model"]["helpfulness"]["n"] + tests[0]["by_model"]["safety"]["n"] == 12


def test_grades_in_a_run_are_those_of_the_model_alone(recipe, run_to_the_end, graders, tmp_path):
    made = recipe({"from_step": 0}, run={"rollouts_interval_iterations": 1}, rollouts={"num_iterations": 1})
    folder = run_to_the_end(made, tmp_path / "run")
    rollouts = [json.loads(line) for line in (folder / "rollouts.jsonl").open()]
    model = load_reward_model(str(graders["safety"]))
    checked = [row for row in rollouts if "safety" in row["parts"]]
    for row in checked:
        (score,) = model.scores([(row["prompt"], row["completion"])])
        assert row["parts"]["safety"] == pytest.approx(torch.tensor(score).sigmoid().item(), abs=1e-5)


@pytest.mark.parametrize("rounds", [1, 3])
def test_an_interrupted_run_ends_in_the_same_bits(recipe, run_to_the_end, outcome, tmp_path, monkeypatch, rounds):
    made = recipe(rollouts={"max_rounds": rounds})
    alone = outcome(run_to_the_end(made, tmp_path / "alone"))
    original, calls = Run.log_metrics, []

    def interrupted(self, row):
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        original(self, row)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "log_metrics", interrupted)
        with pytest.raises(Interrupted):
            run_to_the_end(made, tmp_path / "run")
    assert outcome(run_to_the_end(made, tmp_path / "run", resume=True)) == alone


def test_before_its_step_a_run_is_the_one_without_general_prompts(recipe, tiny, run_to_the_end, tmp_path):
    with_models = metrics_of(run_to_the_end(recipe({"from_step": 99}), tmp_path / "with"))
    without = metrics_of(run_to_the_end(tiny(), tmp_path / "without"))
    assert [row.get("reward") for row in with_models] == [row.get("reward") for row in without]
    finals = [load_file(tmp_path / name / "final" / "model.safetensors") for name in ("with", "without")]
    assert all(torch.equal(finals[0][name], finals[1][name]) for name in finals[0])


def test_general_rows_of_a_file_are_graded_though_no_rule_knows_them(recipe, run_to_the_end, tmp_path):
    rows = [{"prompt": f"Tell me about {n}", "reward_model": "helpfulness", "id": f"g{n}"} for n in range(60)]
    path = tmp_path / "general.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = [{"kind": "jsonl", "path": str(path), "held_out": 0.4}]
    folder = run_to_the_end(
        recipe({"from_step": 0, "tasks": tasks, "num_test_problems": 8, "safety": None}), tmp_path / "run"
    )
    test = metrics_of(folder)[0]["general"]
    assert test["pass_at_1"] == 0.0
    assert 0 < test["by_model"]["helpfulness"]["grade"] < 1


def copy_with(folder, target, change):
    """A copy of a model folder whose head is changed."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors["score.weight"] = change(tensors["score.weight"])
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_a_broken_score_stops_the_run_by_name(recipe, graders, tmp_path):
    broken = copy_with(graders["helpfulness"], tmp_path / "broken", lambda weight: weight * float("nan"))
    with pytest.raises(VerifierError, match=f"helpfulness model {broken} scored nan"):
        run(recipe({"helpfulness": str(broken)}), tmp_path / "run")


def run(recipe, folder):
    train(recipe, folder, resume=False, explain=False, console=Console(quiet=True))


def refusal(recipe, folder, kind):
    with pytest.raises(kind) as caught:
        run(recipe, folder)
    assert not folder.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_reward_model_is_refused_before_the_run(recipe, model_folder, graders, tmp_path):
    folder = tmp_path / "run"
    assert "no reward model" in refusal(recipe({"safety": str(model_folder)}), folder, ModelError)
    assert "no such folder" in refusal(recipe({"safety": "nowhere/at/all"}), folder, ModelError)
    swapped = {"helpfulness": str(graders["safety"]), "safety": str(graders["helpfulness"])}
    assert "must see the summary alone" in refusal(recipe(swapped), folder, ModelError)
    assert "interchanged" in refusal(recipe({"safety": str(graders["helpfulness"])}), folder, ModelError)


def test_tasks_in_the_wrong_place_are_refused(recipe, tiny, tmp_path):
    folder = tmp_path / "run"
    assert "list it under [[tasks]]" in refusal(recipe({"tasks": [{"kind": "chains"}]}), folder, RecipeError)
    said = refusal(recipe(tasks=[{"kind": "chains"}, *GENERAL]), folder, RecipeError)
    assert "list them under [[preference.tasks]]" in said
    assert "set preference.safety" in refusal(recipe({"safety": None}), folder, VerifierError)
    path = tmp_path / "general.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"Ask {n}", "reward_model": "safety", "id": str(n)}) + "\n" for n in range(99))
    )
    only_rules = tiny(tasks=[{"kind": "jsonl", "path": str(path)}])
    assert "no rule can judge" in refusal(only_rules, folder, RecipeError)


def test_settings_that_would_do_nothing_are_refused(recipe):
    with pytest.raises(RecipeError, match="variance_of"):
        recipe(rollouts={"variance_of": "verdict", "max_rounds": 3})
    with pytest.raises(RecipeError, match="neither helpfulness nor safety"):
        recipe({"helpfulness": None, "safety": None})


def test_a_reward_model_of_another_tokenizer_grades_texts(recipe, tmp_path, run_to_the_end):
    scalar = load_scalar(ModelSettings(path="nano"), trains=True, is_new=True)
    torch.nn.init.normal_(scalar.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    digest = tokenizer_digest(scalar.tokenizer)
    describe(scalar, RewardCard(loss="pairwise", sees="summary", template={"kind": "nano"}, tokenizer=digest))
    save_model(scalar, tmp_path / "other")
    made = recipe({"helpfulness": str(tmp_path / "other"), "from_step": 0}, run={"rollouts_interval_iterations": 1})
    folder = run_to_the_end(made, tmp_path / "run")
    rollouts = [json.loads(line) for line in (folder / "rollouts.jsonl").open()]
    graded = [row for row in rollouts if "helpfulness" in row["parts"]]
    model = load_reward_model(str(tmp_path / "other"))
    assert len(model.scalar.tokenizer) != 420  # which is the policy's
    assert graded
    for row in graded[:8]:
        seen = model.seen(row["completion"])
        expected = torch.tensor(model.scores([(row["prompt"], seen)])[0]).sigmoid().item() if seen else 0.0
        assert row["parts"]["helpfulness"] == pytest.approx(expected, abs=1e-4)


def test_a_reward_model_that_can_not_read_a_prompt_is_refused(recipe, model_folder, tmp_path):
    scalar = load_scalar(ModelSettings(path=str(model_folder)), trains=True, is_new=True)
    digest = tokenizer_digest(scalar.tokenizer)
    describe(scalar, RewardCard(loss="pairwise", sees="summary", template={"kind": "chat"}, tokenizer=digest))
    save_model(scalar, tmp_path / "mute")
    assert "chat template" in refusal(recipe({"helpfulness": str(tmp_path / "mute")}), tmp_path / "run", ModelError)
