"""How a model is asked when nobody says how: as it was trained, as far as it reaches, as memory allows."""

import json
import shutil

import pytest
import torch

from r1kit.config.evaluation import DrawSettings
from r1kit.errors import RecipeError
from r1kit.evaluation import subject as subjects
from r1kit.evaluation.subject import cache_bytes_per_token, choose_slots, fingerprint, load_subject, token_limit

CHAT = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if thinks is defined %}<think>{% endif %}{% endif %}"
)


@pytest.fixture
def trained(model_folder, tmp_path):
    """A function from a recipe to the folder of a finished run of it."""

    def make(recipe):
        (tmp_path / "run").mkdir()
        shutil.copytree(model_folder, tmp_path / "run" / "final")
        (tmp_path / "run" / "recipe.json").write_text(json.dumps({"recipe": recipe}))
        return tmp_path / "run"

    return make


def test_a_run_is_asked_as_it_was_trained(trained):
    sampling = {"max_new_tokens": 77, "stop": ["</answer>"], "temperature": 1.0}
    run = trained({"kind": "zero", "template": {"kind": "nano"}, "sampling": sampling})
    subject = load_subject(str(run), DrawSettings())
    assert subject.template.kind == "nano"
    assert subject.stop(DrawSettings()) == ("</answer>",)
    assert subject.stop(DrawSettings(stop=())) == ()
    assert token_limit(subject, DrawSettings(), usual=500, longest_prompt=10) == 77
    assert token_limit(subject, DrawSettings(max_new_tokens=50), usual=500, longest_prompt=10) == 50


def test_a_model_that_nobody_knows_is_asked_by_its_chat_template_or_the_papers(model_folder, tmp_path):
    assert load_subject(str(model_folder), DrawSettings()).template.kind == "r1_zero"
    shutil.copytree(model_folder, tmp_path / "chat")
    (tmp_path / "chat" / "chat_template.jinja").write_text(CHAT)
    subject = load_subject(str(tmp_path / "chat"), DrawSettings())
    assert subject.template.kind == "chat" and not subject.template.ends_with_think
    for settings in (DrawSettings(template_option=("thinks=true",)), DrawSettings(prefill="<think>\n")):
        assert load_subject(str(tmp_path / "chat"), settings).template.ends_with_think
    assert load_subject("nano", DrawSettings()).template.kind == "nano"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (DrawSettings(template="nano", system="x"), "template.system is set, but template.kind is 'nano'"),
        (DrawSettings(template_option=("thinks",)), "not of the form KEY=VALUE"),
    ],
)
def test_options_that_a_template_does_not_have_are_refused(model_folder, settings, said):
    with pytest.raises(RecipeError, match=said):
        load_subject(str(model_folder), settings)


def test_completions_end_where_the_models_positions_do(model_folder):
    subject = load_subject(str(model_folder), DrawSettings())
    room = subject.positions - 24
    assert token_limit(subject, DrawSettings(), usual=32_768, longest_prompt=24) == room
    with pytest.raises(RecipeError, match=f"lower it to {room} or less"):
        token_limit(subject, DrawSettings(max_new_tokens=room + 1), usual=1, longest_prompt=24)
    with pytest.raises(RecipeError, match="prompts have up to"):
        token_limit(subject, DrawSettings(), usual=1, longest_prompt=subject.positions)


def test_as_many_completions_run_as_half_of_the_free_memory_holds(model_folder, monkeypatch):
    subject = load_subject(str(model_folder), DrawSettings())
    # Keys and values of two layers, two heads of 12, float32.
    assert cache_bytes_per_token(subject.policy) == 2 * 2 * 2 * 12 * 4
    monkeypatch.setattr(subjects, "free_bytes", lambda device: 2 * 100 * cache_bytes_per_token(subject.policy) * 7)
    assert choose_slots(subject, DrawSettings(), tokens_per_slot=100) == 7
    assert choose_slots(subject, DrawSettings(), tokens_per_slot=10_000) == 1
    assert choose_slots(subject, DrawSettings(), tokens_per_slot=1) == 256
    assert choose_slots(subject, DrawSettings(batch_size=1000), tokens_per_slot=10_000) == 1000


def test_a_fingerprint_changes_with_any_tensor_and_with_the_chat_template(model_folder):
    policy = load_subject(str(model_folder), DrawSettings()).policy
    before = fingerprint(policy)
    assert fingerprint(load_subject(str(model_folder), DrawSettings()).policy) == before
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.view(-1)[-1] += 1
            assert fingerprint(policy) != before
            weight.view(-1)[-1] -= 1
    policy.tokenizer.chat_template = "{{ messages }}"
    assert fingerprint(policy) != before
