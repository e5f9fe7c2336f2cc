"""The command line: what it prints, and the status it exits with."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1kit.cli import main
from r1kit.config.model import ModelSettings
from r1kit.models.loading import load_policy
from r1kit.stages import grpo
from r1kit.training import checkpoint

RECIPE = """
kind = "zero"
[[tasks]]
kind = "chains"
terms = 3
[sampling]
max_new_tokens = 8
[rewards]
accuracy = 0
random = 1
[rollouts]
num_iterations = 2
problems_per_iteration = 2
group_size = 4
[evaluation]
num_problems = 4
[run]
checkpoint_interval_iterations = 1
num_threads = 1
audit = "off"
"""


@pytest.fixture
def r1(monkeypatch, capfd, tmp_path):
    """A function that runs the command line in an empty folder; returns exit status, output and errors."""
    before, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    torch.set_num_threads(1)  # as the recipes here ask for
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1_DEBUG", "")

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["r1", *map(str, words)])
        capfd.readouterr()
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        said = capfd.readouterr()
        return status, said.out, said.err

    yield call
    signal.signal(signal.SIGINT, before)
    torch.set_num_threads(threads)


@pytest.fixture
def recipe(tmp_path, model_folder):
    path = tmp_path / "tiny.toml"
    path.write_text(f'{RECIPE}[model]\npath = "{model_folder}"\n')
    return path


@pytest.mark.parametrize(
    "words", [["frobnicate"], ["train"], ["train", "x.toml", "--nonsense"], ["demo", "--seed", "x"]]
)
def test_bad_arguments_exit_with_2(r1, words):
    status, _, said = r1(*words)
    assert status == 2
    assert "Usage" in said and "Traceback" not in said


def test_help_exits_with_0(r1):
    status, said, _ = r1("--help")
    assert status == 0
    assert "train" in said and "demo" in said


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("rollouts.group_siz=4", "'group_size'"),
        ("rollouts.group_size=1", "rollouts.group_size"),
        ("nonsense", "section.key=value"),
        ("sampling.max_new_tokens=9999", "1024 positions"),
        ("sampling.temperature=0", "sampling.temperature"),
    ],
)
@pytest.mark.parametrize("how", ["train", "dry run"])
def test_a_bad_recipe_exits_with_2_in_one_line(r1, recipe, override, named, how):
    status, _, said = r1("train", recipe, override, *(["--dry-run"] if how == "dry run" else []))
    assert status == 2
    assert named in last_line(said)
    assert not Path("runs").exists()


def test_a_recipe_that_is_not_there_exits_with_2(r1):
    status, out, said = r1("train", "none.toml")
    assert (status, out, said) == (2, "", "error: none.toml: no such recipe\n")


def test_resume_without_a_run_exits_with_2(r1, recipe):
    status, _, said = r1("train", recipe, "--resume")
    assert status == 2
    assert "--run" in last_line(said)


@pytest.mark.parametrize("broken", ["nothing", "an empty folder", "a broken config"])
def test_a_model_folder_that_is_none_exits_with_1_in_one_line(r1, recipe, tmp_path, model_folder, broken):
    folder = tmp_path / "model"
    if broken != "nothing":
        folder.mkdir()
    if broken == "a broken config":
        for path in model_folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "config.json").write_text('{"model_type": "llama"')
    status, _, said = r1("train", recipe, f"model.path={folder}")
    assert status == 1
    assert str(folder) in last_line(said)
    assert not Path("runs").exists()


def test_an_unknown_verifier_is_not_our_users_trace(r1, recipe):
    status, _, said = r1("train", recipe, "tasks.0.kind=chain")
    assert status == 2
    assert "did you mean 'chains'?" in last_line(said)


def test_debug_shows_the_trace(r1, recipe):
    status, _, said = r1("--debug", "train", recipe, "seed=x")
    assert status == 2
    assert "Traceback" in said and "RecipeError" in said
    assert said.splitlines()[-1].startswith("error: ")


def test_a_dry_run_prints_recipe_forecast_and_first_example_and_writes_nothing(r1, recipe):
    status, said, _ = r1("train", recipe, "optimizer.lr=0.00125", "--run", "here", "--dry-run")
    assert status == 0
    resolved = json.loads(said[: said.index("\n}\n") + 2])
    assert resolved["optimizer"]["lr"] == 0.00125 and resolved["rollouts"]["group_size"] == 4
    assert "GiB" in said and "parameters" in said and "s for an iteration" in said
    table = [line.split() for line in said.splitlines() if line.strip()[:1].isdigit()]
    trains = [line[-1] == "yes" for line in table]
    assert trains == sorted(trains) and any(trains) and not all(trains)
    assert "'User:'" in said and "'Assistant:'" in said
    assert sorted(path.name for path in Path().iterdir()) == ["tiny.toml"]


def test_a_dry_run_of_fine_tuning_shows_its_first_example(r1, tmp_path, model_folder):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Compute 1+1", "completion": "[b]2[/b]"}\n' * 3)
    (tmp_path / "sft.toml").write_text(
        f'kind = "sft"\ndata = "rows.jsonl"\n[model]\npath = "{model_folder}"\n[sft]\nexamples_per_step = 2\n'
    )
    status, said, _ = r1("train", "sft.toml", "--dry-run")
    assert status == 0
    assert "3 examples, 4 optimizer steps" in said
    rows = [line.split() for line in said.splitlines() if line.strip()[:1].isdigit() and "'" in line]
    assert "'2'" in [row[2] for row in rows if row[-1] == "yes"]
    assert not Path("runs").exists()


def test_a_dry_run_of_pretraining_counts_what_will_be_read(r1, tmp_path):
    (tmp_path / "base.toml").write_text(
        'kind = "pretrain"\n[pretrain]\nnum_steps = 10\nrows_per_step = 4\nrow_tokens = 64\n'
        "tokenizer_documents = 100\n[architecture]\nhidden_size = 48\nnum_heads = 4\nnum_layers = 1\n"
    )
    status, said, _ = r1("train", "base.toml", "--dry-run")
    assert status == 0
    assert "2,560 tokens" in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("template.kind=chat", "no chat template"),
        ('tasks=[{kind = "sums", digits = 1}]', "different held_out problems"),
    ],
)
def test_what_only_the_model_or_the_tasks_can_tell_exits_with_1_before_anything_is_written(r1, recipe, override, named):
    status, _, said = r1("train", recipe, override, "evaluation.num_problems=60")
    assert status == 1
    assert named in last_line(said)
    assert not Path("runs").exists()


def test_a_run_ends_in_a_model_that_plain_transformers_loads(r1, recipe):
    status, said, _ = r1("train", recipe, "--run", "here")
    assert status == 0
    assert "here/final" in said
    policy = load_policy(ModelSettings(path="here/checkpoints/step-2"))
    model = AutoModelForCausalLM.from_pretrained("here/final")
    weights = policy.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    start = load_policy(ModelSettings(path=recipe.read_text().split('"')[-2])).model.state_dict()
    assert not all(torch.equal(tensor, start[name]) for name, tensor in weights.items())
    tokenizer = AutoTokenizer.from_pretrained("here/final")
    prompt = tokenizer("User: Compute 1+2\nAssistant:", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    assert written.shape[1] > prompt["input_ids"].shape[1]


def test_a_run_without_a_name_gets_a_new_folder(r1, recipe):
    for folder in ("runs/tiny", "runs/tiny-2"):
        assert r1("train", recipe, "rollouts.num_iterations=1")[0] == 0
        assert Path(folder, "final", "model.safetensors").is_file()


def test_a_folder_that_holds_a_run_exits_with_1(r1, recipe):
    assert r1("train", recipe, "rollouts.num_iterations=1", "--run", "here")[0] == 0
    status, _, said = r1("train", recipe, "rollouts.num_iterations=1", "--run", "here")
    assert status == 1
    assert "already holds a run" in last_line(said)
    status, _, said = r1("train", recipe, "rollouts.num_iterations=2", "--run", "here", "--resume")
    assert status == 1
    assert "rollouts.num_iterations" in last_line(said)


def test_an_interrupt_exits_with_130_and_resume_finishes(r1, recipe, monkeypatch):
    original = grpo.update

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    with monkeypatch.context() as patched:
        patched.setattr(grpo, "update", interrupted)
        status, _, said = r1("train", recipe, "--run", "here")
    assert status == 130
    assert "--run here --resume" in last_line(said)
    assert Path("here/checkpoints/latest").read_text() == "step-1"
    assert r1("train", recipe, "--run", "here", "--resume")[0] == 0
    assert Path("here/final/model.safetensors").is_file()


def test_an_interrupt_while_the_model_loads_exits_with_130(r1, recipe, monkeypatch):
    monkeypatch.setattr("r1kit.stages.preparation.load_policy", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    status, _, said = r1("train", recipe)
    assert status == 130
    assert "Traceback" not in said


def test_a_full_disk_exits_with_1_in_one_line_and_the_checkpoint_before_is_whole(r1, recipe, monkeypatch):
    original, calls = checkpoint.save_file, []

    def full(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return original(*args, **options)

    monkeypatch.setattr(checkpoint, "save_file", full)
    status, _, said = r1("train", recipe, "--run", "here")
    assert status == 1
    assert "No space left on device" in last_line(said)
    assert Path("here/checkpoints/latest").read_text() == "step-1"
    assert load_policy(ModelSettings(path="here/checkpoints/step-1")).num_parameters() > 0
    assert sorted(path.name for path in Path("here/checkpoints").iterdir()) == ["latest", "step-1"]


def test_a_folder_that_cannot_be_written_exits_with_1(r1, recipe):
    status, _, said = r1("train", recipe, "--run", recipe)
    assert status == 1
    assert "cannot be written" in last_line(said)


def last_line(said: str) -> str:
    """The line that an error ends in, without a trace before it (progress bars may stand there)."""
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("error: ")
    assert said.count("error: ") == 1
    return last
