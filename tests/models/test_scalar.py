"""Networks that score: their values are the policy's hidden states times a head, and `transformers` says the same.

B: rows   T: token positions
"""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from r1kit.config.model import ModelSettings
from r1kit.errors import ModelError
from r1kit.models.reward import (
    RewardCard,
    RewardModel,
    describe,
    load_reward_model,
    refuse_other_tokenizer,
    score_rows,
    tokenizer_digest,
    use_own_padding,
)
from r1kit.models.scalar import ScalarModel, load_scalar
from r1kit.training.checkpoint import save_model

EXCHANGES = [
    ("What is 2+2?", "It is 4."),
    ("What is 2+2?", "No idea."),
    ("Hello", ""),
    ("Compute 7+5", "<|endoftext|> and so on, and on, and on </think> with tags"),
    ([{"role": "user", "content": "你好"}], "你好，很高兴。"),
]


@pytest.fixture
def scalar(model_folder):
    """A scoring network with a head of random numbers."""
    found = load_scalar(ModelSettings(path=str(model_folder)), trains=True, is_new=True)
    torch.manual_seed(0)
    torch.nn.init.normal_(found.head.weight, std=0.3)
    return found


@pytest.fixture
def model(scalar):
    """A reward model that sees everything, not yet saved."""
    card = RewardCard(
        loss="pairwise", sees="all", template={"kind": "nano"}, tokenizer=tokenizer_digest(scalar.tokenizer), centre=0.5
    )
    describe(scalar, card)
    found = RewardModel(scalar, card)
    use_own_padding(scalar, found.template.end_id)
    return found


@pytest.fixture
def folder(model, tmp_path):
    """The same, saved."""
    save_model(model.scalar, tmp_path / "reward")
    return tmp_path / "reward"


def test_a_new_head_scores_exactly_0(model_folder):
    scalar = load_scalar(ModelSettings(path=str(model_folder)), trains=True, is_new=True)
    token_ids_BT, mask_BT = score_rows([((5, 6), (7, 8, 9)), ((5,), (6,))])
    assert not scalar.values(token_ids_BT, mask_BT).any()


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma", "deepseek_v3"])
def test_values_are_hidden_states_times_the_head(make_policy, architecture, tmp_path, tokenizer):
    make_policy(architecture).model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scalar = load_scalar(ModelSettings(path=str(tmp_path)), trains=True, is_new=True)
    torch.nn.init.normal_(scalar.head.weight)
    token_ids_BT = torch.randint(3, 400, (3, 14), generator=torch.Generator().manual_seed(0))
    token_ids_BT[1, :4] = token_ids_BT[0, :4]
    mask_BT = torch.zeros(3, 14, dtype=torch.bool)
    mask_BT[0, 4:14] = mask_BT[1, 4:9] = mask_BT[2, [2, 5, 6]] = True
    with torch.no_grad():
        hidden_BTD = scalar.backbone(token_ids_BT).last_hidden_state
        expected_BT = torch.zeros(3, 14)
        expected_BT[:, 1:] = (hidden_BTD[:, :-1] @ scalar.head.weight.T)[..., 0] * mask_BT[:, 1:]
        assert_close(scalar.values(token_ids_BT, mask_BT), expected_BT, rtol=1e-4, atol=1e-4)


def test_scores_are_those_of_transformers_alone_and_padded(model, folder):
    theirs = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert theirs.config.num_labels == 1
    rows = [sum(model.token_ids(exchange), ()) for exchange in EXCHANGES]
    longest = max(map(len, rows))
    padded_BT = torch.tensor([[*row, *[theirs.config.pad_token_id] * (longest - len(row))] for row in rows])
    assert theirs.config.pad_token_id != tokenizer.eos_token_id
    found = model.scores(EXCHANGES)
    with torch.no_grad():
        assert_close(theirs(padded_BT).logits[:, 0].tolist(), found, rtol=0, atol=1e-4)
        alone = [theirs(torch.tensor([row])).logits[0, 0].item() for row in rows]
    assert_close(alone, found, rtol=0, atol=1e-4)
    assert len({round(score, 3) for score in found}) == len(EXCHANGES)


def test_a_saved_reward_model_comes_back_as_it_was(model, folder):
    loaded = load_reward_model(str(folder))
    assert loaded.card == model.card
    assert loaded.scores(EXCHANGES) == model.scores(EXCHANGES)


def test_how_texts_are_batched_does_not_matter(model, monkeypatch):
    together = model.scores(EXCHANGES)
    monkeypatch.setattr("r1kit.models.reward.MAX_TOKENS_PER_FORWARD", 1)
    assert_close(model.scores(EXCHANGES), together, rtol=1e-5, atol=1e-5)
    assert model.scores([]) == []


def test_control_tokens_in_a_reply_are_text(model):
    _, reply = model.token_ids(("?", "a<|endoftext|>b"))
    assert reply.count(model.scalar.tokenizer.eos_token_id) == 1
    assert reply[-1] == model.scalar.tokenizer.eos_token_id


def test_a_reply_that_is_too_long_loses_its_end_but_not_the_end_token(model, scalar):
    scalar.model.config.max_position_embeddings = 32
    (cut,) = model.scores([("?", "word " * 500)])
    prompt, reply = model.token_ids(("?", "word " * 500))
    kept = (*reply[: 32 - len(prompt) - 1], reply[-1])
    values_BT = scalar.values(*score_rows([(prompt, kept)]))
    assert cut == pytest.approx(values_BT[0, 32].item(), abs=1e-5)


def test_the_summary_is_what_follows_the_thinking(model, scalar):
    assert model.seen("<think>a</think> b") == "<think>a</think> b"
    card = RewardCard(loss="pairwise", sees="summary", template={"kind": "nano"}, tokenizer="")
    summary = RewardModel(scalar, card)
    assert summary.seen("<think>a</think> b \n") == "b"
    assert summary.seen("a</think>x</think>b") == "b"
    assert summary.seen("no thinking at all") == "no thinking at all"
    for unfinished in ("<think>a", "<think>a</think> \n", "", "  "):
        assert summary.seen(unfinished) is None


def refusal(path):
    with pytest.raises(ModelError) as caught:
        load_reward_model(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_language_model_is_no_reward_model(model_folder):
    assert "no reward model" in refusal(model_folder)


def test_a_classifier_without_a_card_is_refused(scalar, tmp_path):
    save_model(scalar, tmp_path / "bare")
    assert "nobody knows how it reads a text" in refusal(tmp_path / "bare")


def test_another_tokenizer_in_its_folder_is_refused(folder, tokenizer):
    AutoTokenizer.from_pretrained(folder).train_new_from_iterator(
        ["other words than before " * 9], 420
    ).save_pretrained(folder)
    assert "not the one that this reward model was trained with" in refusal(folder)


def test_token_ids_do_not_pass_between_different_tokenizers(scalar, tokenizer):
    refuse_other_tokenizer(tokenizer, scalar.tokenizer, what="the value model")
    other = tokenizer.train_new_from_iterator(["other words than before " * 9], 420)
    with pytest.raises(ModelError, match="the value model has another tokenizer"):
        refuse_other_tokenizer(tokenizer, other, what="the value model")


def test_a_policy_can_not_be_made_of_a_reward_model(folder):
    from r1kit.models.loading import load_policy

    with pytest.raises(ModelError, match="score"):
        load_policy(ModelSettings(path=str(folder)))


def test_a_damaged_reward_model_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1000])
    assert "cannot be loaded" in refusal(copy)
    assert "score.weight" in load_file(folder / "model.safetensors")


def test_a_scalar_model_takes_its_weights_from_a_checkpoint(scalar, folder, model_folder):
    from r1kit.training.checkpoint import load_weights

    other = load_scalar(ModelSettings(path=str(model_folder)), trains=True, is_new=True)
    load_weights(folder, other)
    assert torch.equal(other.head.weight, scalar.head.weight)
    assert isinstance(other, ScalarModel)


def test_in_bfloat16_the_masters_get_nearly_the_same_gradient(model_folder):
    gradients = []
    for dtype in ("float32", "bfloat16"):
        scalar = load_scalar(ModelSettings(path=str(model_folder), dtype=dtype), trains=True, is_new=True)
        torch.manual_seed(0)
        torch.nn.init.normal_(scalar.head.weight, std=0.3)
        assert scalar.model.dtype == torch.float32
        rows = [((5, 6, 7), tuple(range(8, 40))), ((5, 6, 7), tuple(range(60, 80)))]
        torch.autograd.backward(scalar.values(*score_rows(rows)).square().sum())
        gradients.append({name: weights.grad for name, weights in scalar.model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, exact in gradients[0].items():
        assert gradients[1][name].dtype == torch.float32
        assert (gradients[1][name] - exact).norm() <= 0.1 * exact.norm(), name
