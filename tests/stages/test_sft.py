"""Fine-tuning and pretraining: they learn what they read, and go on after an interrupt as if there had been none."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from r1kit.errors import DataError, Interrupted
from r1kit.models.chat_template import ChatTemplate
from r1kit.recipe import parse_recipe
from r1kit.run import Run
from r1kit.stages import pretrain, sft
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
