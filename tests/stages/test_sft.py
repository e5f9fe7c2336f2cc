"""Fine-tuning and pretraining: they learn what they read, and go on after an interrupt as if there had been none."""

import json
import re
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from r1kit.config.model import ModelSettings
from r1kit.config.recipes import SFTSettings
from r1kit.errors import DataError, Interrupted, RecipeError
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.loading import load_policy
from r1kit.recipe import parse_recipe
from r1kit.run import Run
from r1kit.stages import pretrain, sft
from r1kit.stages.pretrain import next_token_loss
from r1kit.stages.validation import Validation
from r1kit.training.checkpoint import latest_checkpoint

ROWS = [
    {"prompt": f"Compute {left}+{right}", "completion": f"<think>easy</think><answer>{left + right}</answer>"}
    for left in range(1, 5)
    for right in range(1, 4)
]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), "utf-8")
    return path


@pytest.fixture
def sft_recipe(model_folder, data):
    return parse_recipe(
        {
            "kind": "sft",
            "model": {"path": str(model_folder)},
            "data": str(data),
            "sft": {"num_epochs": 3, "examples_per_step": 4},
            "optimizer": {"lr": 5e-3},
            "run": {"checkpoint_interval_iterations": 4, "num_threads": 1},
        },
        source="tiny",
    )


@pytest.fixture
def pretrain_recipe():
    return parse_recipe(
        {
            "kind": "pretrain",
            "architecture": {
                "hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "vocab_size": 320
            },
            "pretrain": {
                "num_steps": 6, "rows_per_step": 4, "row_tokens": 48, "tokenizer_documents": 100,
                "checkpoint_interval_steps": 4,
            },
            "optimizer": {"kind": "muon", "lr": 1e-2},
            "run": {"num_threads": 1},
        },
        source="tiny",
    )  # fmt: skip


def interrupt_at(call, monkeypatch):
    """Ask the run to stop when its `call`-th row of metrics is logged."""
    original, calls = Run.log_metrics, []

    def interrupted(self, row):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        original(self, row)

    monkeypatch.setattr(Run, "log_metrics", interrupted)


@pytest.mark.parametrize("kind", ["sft", "pretrain"])
@pytest.mark.parametrize("call", [3, 5])
def test_an_interrupted_stage_goes_on_as_if_nothing_had_been(
    sft_recipe, pretrain_recipe, run_to_the_end, tmp_path, monkeypatch, kind, call
):
    recipe = {"sft": sft_recipe, "pretrain": pretrain_recipe}[kind]
    run_to_the_end(recipe, tmp_path / "alone")
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        interrupt_at(call, patched)
        with pytest.raises(Interrupted):
            run_to_the_end(recipe, folder)
    assert latest_checkpoint(folder / "checkpoints").name == f"step-{call}"
    run_to_the_end(recipe, folder, resume=True)
    alone, resumed = (load_file(path / "final" / "model.safetensors") for path in (tmp_path / "alone", folder))
    assert all(torch.equal(alone[name], resumed[name]) for name in alone)
    losses = [
        [(row["iteration"], row["loss"]) for row in map(json.loads, (path / "metrics.jsonl").open())]
        for path in (tmp_path / "alone", folder)
    ]
    assert losses[0] == losses[1]


def test_fine_tuning_learns_its_examples(sft_recipe, run_to_the_end, tmp_path):
    folder = run_to_the_end(sft_recipe, tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").open()]
    assert len(losses) == 9  # three epochs of twelve examples, four a step
    assert losses[0] > 5 > 4 > losses[-1]


@pytest.fixture
def validated(sft_recipe):
    """Three epochs of three steps, a quarter of the prompts held out; the learning rate is far too high."""

    def make(**settings):
        sft = {"validation_share": 0.25, "num_epochs": 4, "examples_per_step": 3, "validation_interval_steps": 2}
        table = sft_recipe.model_dump(mode="json") | {"optimizer": {"lr": settings.pop("lr", 5e-3)}}
        return parse_recipe(table | {"sft": sft | settings}, source="tiny")

    return make


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def test_the_validation_loss_is_that_of_the_whole_model_on_prompts_that_do_not_train(
    validated, run_to_the_end, tmp_path
):
    recipe = validated()
    folder = run_to_the_end(recipe, tmp_path / "run")
    rows = rows_of(folder)
    assert [row["step"] for row in rows if "validation_loss" in row] == [2, 4, 6, 8, 10, 12]
    policy = load_policy(ModelSettings(path=str(folder)))
    template = ChatTemplate.of(policy, recipe.template)
    corpus = sft.read_corpus(recipe, policy, template)
    assert (len(corpus.training), len(corpus.validation)) == (9, 3)
    prompts = {example.prompt_token_ids for example in corpus.training}
    assert not prompts & {example.prompt_token_ids for example in corpus.validation}
    losses = []
    for example in corpus.validation:
        ids = torch.tensor([example.prompt_token_ids + example.completion_token_ids])
        logprobs = policy.model(input_ids=ids).logits[0].double().log_softmax(-1)
        first = len(example.prompt_token_ids)
        losses += [-logprobs[place - 1, ids[0, place]].item() for place in range(first, ids.shape[1])]
    assert rows[-1]["validation_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_training_stops_when_patience_ends_and_takes_the_best_weights(validated, run_to_the_end, tmp_path):
    folder = run_to_the_end(validated(lr=0.3, patience=2, num_epochs=20), tmp_path / "run")
    rows = rows_of(folder)
    losses = {row["step"]: row["validation_loss"] for row in rows if "validation_loss" in row}
    best = min(losses, key=losses.get)
    assert list(losses)[-1] == rows[-1]["step"] == best + 4 < 60
    assert not (folder / "best").exists()
    recipe = validated()
    policy = load_policy(ModelSettings(path=str(folder)))
    corpus = sft.read_corpus(recipe, policy, ChatTemplate.of(policy, recipe.template))
    found = Validation(corpus.validation, recipe.sft, 3).loss(policy, max_tokens_per_microbatch=2048)
    assert found == pytest.approx(losses[best], rel=1e-6)


@pytest.mark.parametrize("call", [3, 4, 5, 6, 7])
def test_a_run_with_validation_and_patience_goes_on_as_if_nothing_had_been(
    validated, run_to_the_end, tmp_path, monkeypatch, call
):
    recipe = validated(lr=0.05, patience=1, num_epochs=20)
    run_to_the_end(recipe, tmp_path / "alone")
    assert rows_of(tmp_path / "alone")[-1]["step"] >= 4
    if call > rows_of(tmp_path / "alone")[-1]["step"]:
        pytest.skip("it stopped before")
    original, calls = Run.log_metrics, []

    def killed(self, row):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        original(self, row)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "log_metrics", killed)
        run_to_the_end(recipe, tmp_path / "run")
    run_to_the_end(recipe, tmp_path / "run", resume=True)
    alone, resumed = (load_file(tmp_path / name / "final" / "model.safetensors") for name in ("alone", "run"))
    assert all(torch.equal(alone[name], resumed[name]) for name in alone)
    varying = ("seconds", "tokens_per_second", "peak_memory_bytes")
    kept = [
        [{name: value for name, value in row.items() if name not in varying} for row in rows_of(tmp_path / folder)]
        for folder in ("alone", "run")
    ]
    assert kept[0] == kept[1]


def test_packed_fine_tuning_equals_each_example_alone_through_the_whole_model(make_policy, tokenizer):
    """Loss and gradients, float32: one packed minibatch against plain cross-entropy, row by row, in float64 sums."""
    template = ChatTemplate(tokenizer, "nano")
    turns = [("Compute 1+1", "2"), ("Sum 47+38", "<think>easy, I know that by heart</think><answer>85</answer>")]
    rows = [*turns, ("Compute 1+1", "<think>easy</think><answer>2</answer>")]
    examples = [sft.Example(*template.example_token_ids(*row)) for row in rows]
    half = examples[1]
    masked = (True,) * 5 + (False,) * 6 + (True,) * (len(half.completion_token_ids) - 11)
    examples.append(replace(half, trainable=masked))
    recipe = SFTSettings(num_epochs=1, examples_per_step=len(examples))
    (minibatch,) = sft.minibatches(recipe, examples, seed=0)

    packed, alone = make_policy("llama"), make_policy("llama")
    stats = packed.token_stats(minibatch.token_ids_BT, minibatch.completion_mask_BT, temperature=1.0)
    loss, _ = next_token_loss(stats, minibatch)
    loss.backward()

    num_trained = sum(example.num_trained for example in examples)
    assert packed.network.packs_rows and num_trained == int(minibatch.completion_mask_BT.sum())
    total = 0.0
    for example in examples:
        row = example.row
        logits = alone.model(input_ids=torch.tensor([row.token_ids])).logits[0, :-1]
        targets = torch.tensor(row.token_ids[1:]).where(torch.tensor(row.trainable[1:]), torch.tensor(-100))
        part = cross_entropy(logits, targets, ignore_index=-100, reduction="sum") / num_trained
        part.backward()
        total += part.item()
    assert loss.item() == pytest.approx(total, rel=1e-5)
    expected = {name: p.grad for name, p in alone.model.named_parameters() if p.grad is not None}
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for name, parameter in packed.model.named_parameters():
        if name in expected:
            gap = float((parameter.grad - expected[name]).norm())
            assert gap <= 1e-5 * max(float(expected[name].norm()), 1e-3 * largest), name


REASONED = {"question": "What is 1+1?", "reasoning": "One and one.", "response": "It is 2."}


@pytest.mark.parametrize(
    ("row", "prompt", "completion"),
    [
        (REASONED, "What is 1+1?", "<think>\nOne and one.\n</think>\n\nIt is 2."),
        (REASONED | {"reasoning": None}, "What is 1+1?", "It is 2."),
        ({"question": "Q", "response": "<think>T</think>A"}, "Q", "<think>T</think>A"),
        ({"problem": "Q", "reasoning": "T", "response": "A"}, "Q", "<think>\nT\n</think>\n\nA"),
        (
            {"question": "Which?", "choices": ["red", "blue"], "reasoning": "T", "response": "(B)", "answer": "B"},
            "Which?\n\nA. red\nB. blue\n\nAnswer with the letter of the right option.",
            "<think>\nT\n</think>\n\n(B)",
        ),
        ({"prompt": "Q", "completion": "C", "id": "x", "domain": "math", "source": "s"}, "Q", "C"),
    ],
)
def test_traces_of_others_are_read_in_the_form_they_come_in(tokenizer, row, prompt, completion):
    (example,) = sft.examples_of(row, ChatTemplate(tokenizer, "nano"))
    assert tokenizer.decode(example.prompt_token_ids) == f"User: {prompt}\nAssistant:"
    assert tokenizer.decode(example.completion_token_ids) == completion + tokenizer.eos_token


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "Q", "reasoning": "T"}, "`question`, `reasoning` and `response`"),
        ({"question": "Q", "reasoning": 3, "response": "A"}, "must be strings"),
        ({"question": "Q", "response": "  "}, "empty"),
        ({"question": "Q", "reasoning": "<think>T</think>", "response": "A"}, "holds think tags"),
        ({"question": "Q", "choices": ["one"], "response": "A"}, "choices"),
        ({"question": "Q", "choices": "one", "response": "A"}, "must be a list"),
        ({"prompt": "Q", "completion": "C" * 3000}, "above 1,024"),
    ],
)
def test_bad_rows_stop_the_run_or_are_passed_over_and_counted(sft_recipe, run_to_the_end, tmp_path, row, expected):
    path = tmp_path / "examples.jsonl"
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=rf":13: .*{expected}"):
        run_to_the_end(sft_recipe, tmp_path / "refused")
    skipping = sft_recipe.model_copy(update={"sft": sft_recipe.sft.model_copy(update={"bad_rows": "skip"})})
    folder = run_to_the_end(skipping, tmp_path / "skipped")
    log = (folder / "log.txt").read_text()
    assert "1 rows of" in log and "12 are left" in log and re.search(expected, log)
    assert len(rows_of(folder)) == 9


def test_a_limit_takes_the_first_rows(sft_recipe, run_to_the_end, tmp_path):
    few = sft_recipe.model_copy(update={"sft": sft_recipe.sft.model_copy(update={"limit": 4})})
    assert len(rows_of(run_to_the_end(few, tmp_path / "run"))) == 3


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"sft": {"patience": 2}}, "patience is set, but there is nothing to validate on"),
        ({"sft": {"validation_interval_steps": 2}}, "validation_interval_steps is set"),
        ({"validation_data": "x.jsonl", "sft": {"validation_share": 0.1}}, "both say"),
    ],
)
def test_settings_of_validation_that_would_be_idle_are_refused(sft_recipe, sections, expected):
    with pytest.raises(RecipeError, match=expected):
        parse_recipe(sft_recipe.model_dump(mode="json") | sections, source="tiny")


def test_one_prompt_can_not_be_split(sft_recipe, data, run_to_the_end, tmp_path, validated):
    data.write_text(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(DataError, match="can't be split"):
        run_to_the_end(validated(), tmp_path / "run")


def test_the_first_batch_is_shown_token_by_token(sft_recipe, run_to_the_end, tmp_path):
    log = (run_to_the_end(sft_recipe, tmp_path / "run") / "log.txt").read_text()
    assert "12 examples to train on, 0 to validate on; the first batch: 4 examples" in log
    assert log.count("of the first batch:\nposition") == 4


def test_examples_are_read_with_their_tokens(data, tokenizer):
    examples = sft.read_examples(data, ChatTemplate(tokenizer, "nano"))
    assert len(examples) == len(ROWS)
    assert tokenizer.decode(examples[0].prompt_token_ids) == "User: Compute 1+1\nAssistant:"
    assert tokenizer.decode(examples[0].completion_token_ids) == ROWS[0]["completion"] + tokenizer.eos_token


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", ":2"),
        (b"[]", ":2"),
        (b'"text"', ":2"),
        (b"3", ":2"),
        (b'{"prompt": "x"}', ":2.*completion"),
        (b'{"prompt": "x", "completion": 3}', ":2.*a string"),
        (b'{"prompt": "\xff", "completion": "x"}', "examples.jsonl"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(tmp_path, tokenizer, line, expected):
    path = tmp_path / "examples.jsonl"
    path.write_bytes(b'{"prompt": "x", "completion": "y"}\n' + line + b"\n")
    with pytest.raises(DataError, match=expected):
        sft.read_examples(path, ChatTemplate(tokenizer, "nano"))


def test_no_file_and_an_empty_one_are_refused(tmp_path, tokenizer):
    (tmp_path / "empty.jsonl").write_text("")
    for name, expected in (("none.jsonl", "no such file"), ("empty.jsonl", "no examples")):
        with pytest.raises(DataError, match=expected):
            sft.read_examples(tmp_path / name, ChatTemplate(tokenizer, "nano"))


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_only_a_newline_ends_a_row(tmp_path, tokenizer, sign):
    path = tmp_path / "examples.jsonl"
    row = {"prompt": f"one{sign}two", "completion": f"a{sign}b"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    (example,) = sft.read_examples(path, ChatTemplate(tokenizer, "nano"))
    assert f"one{sign}two" in tokenizer.decode(example.prompt_token_ids)


def test_bad_data_leaves_no_folder_behind(sft_recipe, data, run_to_the_end, tmp_path):
    data.write_text("{")
    with pytest.raises(DataError):
        run_to_the_end(sft_recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_every_row_of_the_corpus_starts_with_a_document(pretrain_recipe):
    policy = pretrain.make_policy(pretrain_recipe)
    rows = pretrain.corpus_rows(ChatTemplate(policy.tokenizer, "nano"), 48, seed="rows")
    for _ in range(20):
        row = next(rows)
        assert len(row) == 49
        assert policy.tokenizer.decode(row).startswith("User: ")


def test_a_base_model_is_saved_in_bfloat16(pretrain_recipe, run_to_the_end, tmp_path):
    folder = run_to_the_end(pretrain_recipe, tmp_path / "run")
    assert {tensor.dtype for tensor in load_file(folder / "final" / "model.safetensors").values()} == {torch.bfloat16}
