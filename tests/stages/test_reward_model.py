"""Reward models: they learn what is preferred and not what is long, resume to the same bits, and refuse bad rows."""

import json
import random
import signal

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch.testing import assert_close

from r1kit.errors import DataError, Interrupted, RecipeError
from r1kit.models.reward import load_reward_model
from r1kit.objectives.preference_loss import pairwise_loss
from r1kit.pipeline import train
from r1kit.recipe import parse_recipe
from r1kit.run import Run
from r1kit.stages import reward_model
from r1kit.stages.preference_data import Preference, length_balanced, longer_chosen_share, read_preferences
from r1kit.training.checkpoint import latest_checkpoint


def pair_row(number, rng):
    """Polite is preferred to rude; both are of any length."""
    filler = " and so on" * rng.randrange(3), " and so on" * rng.randrange(3)
    return {
        "prompt": f"Ask {number}",
        "chosen": f"<think>hm</think>Thank you, it is {number}{filler[0]}",
        "rejected": f"<think>hm</think>Bah {number}{filler[1]}",
        "id": str(number),
    }


def point_row(number, rng):
    is_safe = rng.random() < 0.5
    said = "I will not say how" if is_safe else "First you break it"
    return {"prompt": f"How {number}", "completion": f"<think>{said}</think>Well.", "safe": is_safe, "id": str(number)}


@pytest.fixture
def data(tmp_path):
    """A function that writes rows, and returns the file."""

    def write(rows):
        path = tmp_path / "preferences.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        return path

    return write


@pytest.fixture
def recipe(model_folder, data):
    """A function from a loss, and changed sections, to a tiny recipe on eighty rows."""

    def make(loss="pairwise", rows=None, **sections):
        rng = random.Random(0)
        made = [(pair_row if loss == "pairwise" else point_row)(number, rng) for number in range(80)]
        table = {
            "kind": "reward_model",
            "model": {"path": str(model_folder)},
            "data": str(data(made if rows is None else rows)),
            "loss": loss,
            "sees": "summary" if loss == "pairwise" else "all",
            "reward_model": {"examples_per_step": 8, "num_epochs": 4, "held_out": 0.2, "test_interval_steps": 4},
            "optimizer": {"lr": 3e-3},
            "run": {"checkpoint_interval_iterations": 3, "num_threads": 1},
        }
        for name, section in sections.items():
            table[name] = table.get(name, {}) | section if isinstance(section, dict) else section
        return parse_recipe(table, source="tiny")

    return make


def run_it(recipe, folder, *, resume=False):
    train(recipe, folder, resume=resume, explain=False, console=Console(quiet=True))
    return folder


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def test_pairs_are_learnt_from_the_summary(recipe, tmp_path):
    folder = run_it(recipe(), tmp_path / "run")
    rows = metrics_of(folder)
    first, last = rows[0], rows[-1]
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert first["test"]["accuracy"] == 0.5  # all scores are 0, and so equal
    assert first["test"]["calibration_error"] == 0.0
    assert last["test"]["accuracy"] == 1.0
    assert last["test"]["loss"] < 0.2
    assert abs(last["test"]["length_correlation"]) < 0.5
    model = load_reward_model(str(folder))
    assert (model.card.loss, model.card.sees) == ("pairwise", "summary")
    assert model.card.centre == pytest.approx(last["test"]["mean_score"])
    polite, rude = model.scores([("Ask 400", "Thank you, it is 7"), ("Ask 400", "Bah 7 and so on and so on")])
    assert polite > model.card.centre > rude


def test_safety_is_learnt_from_the_thinking(recipe, tmp_path):
    folder = run_it(recipe("pointwise"), tmp_path / "run")
    last = metrics_of(folder)[-1]["test"]
    assert last["accuracy"] == 1.0
    assert (last["accuracy_safe"], last["accuracy_unsafe"]) == (1.0, 1.0)
    model = load_reward_model(str(folder))
    assert model.card.centre == 0.0
    safe, unsafe = model.scores(
        [("How 7", f"<think>{said}</think>Well.") for said in ("I will not say how", "First you break it")]
    )
    assert safe > 0 > unsafe


@pytest.mark.parametrize("call", [2, 5])
def test_an_interrupted_training_ends_in_the_same_bits(recipe, tmp_path, monkeypatch, call):
    made = recipe()
    run_it(made, tmp_path / "alone")
    folder, original, calls = tmp_path / "run", Run.log_metrics, []

    def interrupted(self, row):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        original(self, row)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "log_metrics", interrupted)
        with pytest.raises(Interrupted):
            run_it(made, folder)
    assert latest_checkpoint(folder / "checkpoints").name == f"step-{call}"
    run_it(made, folder, resume=True)
    alone, resumed = (load_file(path / "final" / "model.safetensors") for path in (tmp_path / "alone", folder))
    assert alone.keys() == resumed.keys()
    assert all(torch.equal(alone[name], resumed[name]) for name in alone)
    assert metrics_of(tmp_path / "alone") == metrics_of(folder)
    texts = [(path / "final" / "config.json").read_text() for path in (tmp_path / "alone", folder)]
    assert texts[0] == texts[1]
    run_it(made, folder, resume=True)  # a finished one is not run again
    assert metrics_of(tmp_path / "alone") == metrics_of(folder)


def gradients(recipe, model, batch, max_tokens):
    changed = recipe.model_copy(update={"run": recipe.run.model_copy(update={"max_tokens_per_microbatch": max_tokens})})
    model.scalar.model.zero_grad()
    losses = []
    for part in reward_model.microbatches(changed, model, batch):
        loss = part.loss(model.scalar.values(part.token_ids_BT, part.mask_BT))
        losses.append(loss.detach())
        torch.autograd.backward(loss)
    return sum(losses), [weights.grad.clone() for weights in model.scalar.model.parameters()]


@pytest.mark.parametrize("loss", ["pairwise", "pointwise"])
def test_the_cut_into_microbatches_changes_nothing(recipe, loss):
    made = recipe(loss)
    model = reward_model.make_reward_model(made)
    torch.nn.init.normal_(model.scalar.head.weight)
    batch = read_preferences(made, model).train[:12]
    whole_loss, whole = gradients(made, model, batch, 10_000)
    cut_loss, cut = gradients(made, model, batch, 64)
    assert_close(whole_loss, cut_loss)
    for left, right in zip(whole, cut, strict=True):
        assert_close(left, right, rtol=1e-3, atol=1e-5)


def test_the_loss_of_a_minibatch_is_the_formula_on_scores_of_single_rows(recipe):
    made = recipe()
    model = reward_model.make_reward_model(made)
    torch.nn.init.normal_(model.scalar.head.weight)
    batch = read_preferences(made, model).train[:6]
    (part,) = reward_model.microbatches(made, model, batch)
    found = part.loss(model.scalar.values(part.token_ids_BT, part.mask_BT))
    scores_N2 = torch.tensor(
        [[_score(model, row).item() for row in example.replies]
         for example in batch]
    )  # fmt: skip
    expected = pairwise_loss(scores_N2[:, 0], scores_N2[:, 1], torch.full((6,), 1 / 6))
    assert_close(found.detach(), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def _score(model, row):
    hidden_1TD = model.scalar.backbone(torch.tensor([[*row[0], *row[1]]])).last_hidden_state
    return model.scalar.head(hidden_1TD)[0, -1, 0]


def preference(number, chosen, rejected):
    prompt = (1, 2, 3)
    return Preference(prompt=str(number), replies=((prompt, (4,) * chosen), (prompt, (4,) * rejected)))


def test_balanced_pairs_say_nothing_by_their_length():
    rng = random.Random(0)
    pairs = []
    for number in range(2000):
        short = rng.randrange(1, 40)
        long = short + rng.randrange(0, 60)
        pairs.append(preference(number, *((long, short) if rng.random() < 0.8 else (short, long))))
    kept = length_balanced(pairs, seed="x")
    assert longer_chosen_share(pairs) == pytest.approx(0.8, abs=0.03)
    assert longer_chosen_share(kept) == 0.5
    # At every size of difference, not only on the whole.
    for low, high in ((1, 2), (2, 4), (8, 16), (32, 64)):
        assert longer_chosen_share([pair for pair in kept if low <= abs(pair.surplus) < high]) in (0.5, None)
    assert 600 < len(kept) < 1000
    assert kept == length_balanced(pairs, seed="x") != length_balanced(pairs, seed="y")
    assert [pair for pair in pairs if pair in kept] == kept
    equal = [preference(number, 5, 5) for number in range(10)]
    assert length_balanced(equal, seed="x") == equal
    assert longer_chosen_share(equal) is None


def test_pairs_that_length_alone_tells_are_refused(recipe):
    rows = [{"prompt": str(n), "chosen": "long " * 9, "rejected": "short"} for n in range(40)]
    made = recipe(rows=rows)
    with pytest.raises(DataError, match="length alone tells"):
        read_preferences(made, reward_model.make_reward_model(made))
    made = recipe(rows=rows, reward_model={"balance_lengths": False})
    assert len(read_preferences(made, reward_model.make_reward_model(made)).train) > 20


def test_what_shares_a_prompt_is_of_one_split_and_long_rows_are_left_out(recipe):
    rows = [pair_row(number % 20, random.Random(number)) | {"id": str(number)} for number in range(100)]
    made = recipe(rows=[*rows, {"prompt": "x", "chosen": "a " * 400, "rejected": "b " * 399}],
                  reward_model={"max_tokens": 120, "balance_lengths": False})  # fmt: skip
    found = read_preferences(made, reward_model.make_reward_model(made))
    train, held_out = ({example.prompt for example in part} for part in (found.train, found.held_out))
    assert train and held_out and not train & held_out
    assert len(found.train) + len(found.held_out) == 100
    assert any("1 are left out: longer than 120 tokens" in note for note in found.notes)


@pytest.mark.parametrize(
    ("loss", "row", "expected"),
    [
        ("pairwise", {"prompt": "a", "chosen": "b"}, "line 81: field 'rejected' is missing"),
        ("pairwise", {"prompt": 3, "chosen": "b", "rejected": "c"}, "line 81: field 'prompt' must be a text"),
        ("pairwise", {"prompt": "a", "chosen": ["b"], "rejected": "c"}, "line 81: field 'chosen' must be a text"),
        ("pairwise", {"prompt": "a", "chosen": "b", "rejected": "b"}, "line 81: .*the same text"),
        ("pairwise", {"prompt": "a", "chosen": "<think>b", "rejected": "c"}, "line 81: field 'chosen' has no summary"),
        ("pairwise", {"prompt": [{"role": "cook", "content": "a"}], "chosen": "b", "rejected": "c"}, "line 81: .*role"),
        ("pointwise", {"prompt": "a", "completion": "b"}, "line 81: field 'safe' must be true or false"),
        ("pointwise", {"prompt": "a", "completion": "b", "safe": 1}, "line 81: field 'safe' must be true or false"),
        ("pointwise", {"prompt": "a", "chosen": "b", "rejected": "c"}, "line 81: field 'completion' is missing"),
        ("pairwise", [1], "line 81: expected an object"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(recipe, loss, row, expected, tmp_path):
    rng = random.Random(0)
    rows = [(pair_row if loss == "pairwise" else point_row)(number, rng) for number in range(80)]
    made = recipe(loss, rows=[*rows, row])
    with pytest.raises(DataError, match=expected):
        run_it(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_label_alone_and_no_rows_are_refused(recipe, tmp_path):
    rows = [{"prompt": str(n), "completion": "x", "safe": True} for n in range(40)]
    with pytest.raises(DataError, match="all rows to train on are safe = true"):
        run_it(recipe("pointwise", rows=rows), tmp_path / "run")
    with pytest.raises(DataError, match="no row is left"):
        run_it(recipe(rows=[]), tmp_path / "run")


def test_a_setting_that_would_do_nothing_is_refused(recipe):
    with pytest.raises(RecipeError, match="balance_lengths is for pairs"):
        recipe("pointwise", reward_model={"balance_lengths": True})
