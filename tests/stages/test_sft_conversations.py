"""Fine-tuning on conversations through a model's own chat template: what trains, and that the model learns to end."""

import json

import pytest
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1kit import forecast, pipeline
from r1kit.config.model import ArchitectureSettings, ModelSettings
from r1kit.config.rollouts import RewardSettings, SamplingSettings, TemplateSettings
from r1kit.errors import DataError, ModelError, RecipeError
from r1kit.insight.token_view import HEAD, TAIL, token_lines
from r1kit.models import nano
from r1kit.models.chat_template import ChatTemplate, end_at
from r1kit.models.loading import load_policy
from r1kit.objectives.token_weights import token_mean
from r1kit.recipe import parse_recipe
from r1kit.stages import sft
from r1kit.stages.preparation import make_sampler
from r1kit.types import FinishReason, Problem

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURN = ("Compute 1+1", "<think>easy</think><answer>2</answer>")
LATER = ("Compute 2+1", "<answer>3</answer>")


def said(role, content):
    return {"role": role, "content": content}


CONVERSATION = [said("user", TURN[0]), said("assistant", TURN[1]), said("user", LATER[0]), said("assistant", LATER[1])]


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory):
    """A base model as Qwen's are: its tokenizer pads with the end of a text, its template ends turns otherwise."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer.save_pretrained(folder)
    own = AutoTokenizer.from_pretrained(folder)
    own.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    own.pad_token = own.eos_token
    own.chat_template = CHATML
    own.save_pretrained(folder)
    shape = ArchitectureSettings(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=96)
    nano.make_model(shape, own, seed=0).save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(base, tmp_path):
    def make(rows, **template):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return parse_recipe(
            {
                "kind": "sft",
                "model": {"path": str(base)},
                "template": {"kind": "chat"} | template,
                "data": str(path),
                "sft": {"num_epochs": 60, "examples_per_step": 2},
                "optimizer": {"lr": 1e-2, "warmup_steps": 2},
                "run": {"checkpoint_interval_iterations": 1000, "num_threads": 1},
            },
            source="tiny",
        )

    return make


def template_of(base):
    return ChatTemplate(AutoTokenizer.from_pretrained(base), "chat")


def test_answers_train_and_nothing_else_though_padding_is_the_end_of_a_text(base):
    template = template_of(base)
    tokenizer = template.tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    (example,) = sft.examples_of({"messages": CONVERSATION}, template)
    (short,) = sft.examples_of({"prompt": "Compute 4", "completion": "4"}, ChatTemplate(tokenizer, "nano"))
    batch = sft.collate_examples([example, short])

    trained = [
        tokenizer.decode(row[mask]) for row, mask in zip(batch.token_ids_BT, batch.completion_mask_BT, strict=True)
    ]

    assert trained == [f"{TURN[1]}<|im_end|>{LATER[1]}<|im_end|>", "4<|endoftext|>"]
    assert tuple(batch.token_ids_BT[0].tolist()) == example.row.token_ids
    weights_BT = token_mean(batch.completion_mask_BT)
    assert float(weights_BT.sum()) == pytest.approx(1) and not weights_BT[~batch.completion_mask_BT].any()


def test_of_a_prompt_and_its_completion_the_completion_alone_trains(base):
    template = template_of(base)
    (example,) = sft.examples_of({"prompt": CONVERSATION[:3], "completion": LATER[1]}, template)
    assert example.trainable is None
    assert template.tokenizer.decode(example.completion_token_ids) == f"{LATER[1]}<|im_end|>"
    assert example.prompt_token_ids == template.prompt_token_ids(CONVERSATION[:3])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": "x"}, ":2.*`messages` must be a list"),
        ({"messages": [said("user", "x")]}, ":2.*no turn of the assistant"),
        ({"messages": [said("robot", "x")]}, ":2.*role 'robot'"),
        ({"prompt": 3, "completion": "x"}, ":2.*`prompt` must be a string or a list"),
        ({"prompt": [said("assistant", "x")], "completion": "x"}, ":2.*message of the user"),
        ({"prompt": "x", "completion": "<think>x"}, None),
    ],
)
def test_a_bad_conversation_is_refused_by_its_line(base, tmp_path, row, expected):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"messages": CONVERSATION}) + "\n" + json.dumps(row) + "\n")
    if expected is None:
        assert len(sft.read_examples(path, template_of(base))) == 2
        return
    with pytest.raises(DataError, match=expected):
        sft.read_examples(path, template_of(base))


def test_a_fine_tuned_base_ends_its_turn_here_and_in_transformers(recipe, base, tmp_path):
    made = recipe([{"messages": CONVERSATION[:2]}, {"prompt": LATER[0], "completion": LATER[1]}])
    pipeline.train(made, tmp_path / "run", resume=False, explain=False, console=Console(quiet=True))
    final = tmp_path / "run" / "final"

    policy = load_policy(ModelSettings(path=str(final)))
    sampler = make_sampler(
        policy,
        SamplingSettings(max_new_tokens=40, temperature=0.0),
        template=TemplateSettings(kind="chat"),
        rewards=RewardSettings(),
        max_sequences=2,
    )
    problem = Problem(id="1", prompt=TURN[0], gold="2", verifier="chains")
    (group,) = sampler.groups([problem], 2, seed="end")
    completion = group.rollouts[0].completion
    end = policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert completion.text == TURN[1]
    assert completion.token_ids[-1] == end and completion.finish_reason is FinishReason.STOP

    model, tokenizer = AutoModelForCausalLM.from_pretrained(final), AutoTokenizer.from_pretrained(final)
    prompt = tokenizer.apply_chat_template([said("user", TURN[0])], add_generation_prompt=True, return_tensors="pt")
    output = model.generate(prompt["input_ids"], max_new_tokens=40, do_sample=False)
    assert tuple(output[0, prompt["input_ids"].shape[1] :].tolist()) == completion.token_ids
    assert sorted(model.generation_config.eos_token_id) == sorted([tokenizer.eos_token_id, end])


def test_the_log_and_the_dry_run_show_the_first_example_token_by_token(recipe, tmp_path, capsys):
    made = recipe([{"messages": CONVERSATION}])
    made = made.model_copy(update={"sft": made.sft.model_copy(update={"num_epochs": 1})})
    pipeline.train(made, tmp_path / "run", resume=False, explain=False, console=Console(quiet=True))
    forecast.show_dry_run(made, Console(width=120))
    shown = capsys.readouterr().out
    for text in ((tmp_path / "run" / "log.txt").read_text("utf-8"), shown):
        lines = [line.split() for line in text.splitlines()]
        ends = [line for line in lines if "'<|im_end|>'" in line]
        assert ["yes" in line for line in ends] == [False, True, False, True]
        assert all(line[-3:] == ["ends", "a", "completion"] for line in ends)
        assert any("'<think>'" in line and "yes" in line for line in lines)
        assert not any("'user'" in line and "yes" in line for line in lines)


def test_a_long_example_is_shown_by_both_its_ends(base):
    template = template_of(base)
    (example,) = sft.examples_of({"prompt": "Compute 1", "completion": "1" * 500}, template)
    lines = list(token_lines(template, example.row))
    assert len(lines) == HEAD + TAIL + 1
    num_tokens = len(example.row.token_ids)
    assert lines[HEAD][2] == f"{num_tokens - HEAD - TAIL} tokens more, {num_tokens - HEAD - TAIL} of which train"
    assert [line[0] for line in lines[-2:]] == [str(num_tokens - 2), str(num_tokens - 1)]


def test_a_recipe_whose_template_ends_nothing_is_refused_before_it_writes_anything(base, recipe, tmp_path):
    made = recipe([{"messages": CONVERSATION}])
    folder = tmp_path / "endless"
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "")
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((base / name).read_bytes())
    endless = made.model_copy(update={"model": ModelSettings(path=str(folder))})
    with pytest.raises(ModelError, match="no token of its own"):
        pipeline.train(endless, tmp_path / "run", resume=False, explain=False, console=Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_settings_that_a_kind_has_no_use_for_are_refused():
    for setting in ({"system": "x"}, {"options": {"enable_thinking": True}}):
        with pytest.raises(RecipeError, match="only 'chat' has it"):
            parse_recipe({"kind": "sft", "data": "x", "template": {"kind": "nano"} | setting}, source="x")


def test_weights_of_a_nano_run_are_saved_with_the_generation_config_they_came_with(model_folder):
    policy = load_policy(ModelSettings(path=str(model_folder)))
    before = policy.model.generation_config.to_dict()
    template = ChatTemplate.of(policy, TemplateSettings())
    end_at(policy, template)
    assert policy.model.generation_config.to_dict() == before
    assert template.with_stops(SamplingSettings().spec()).stop_token_ids == ()
