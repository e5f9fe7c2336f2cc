"""What users get wrong, from the command line: one line that says what, where and what to do, and no file touched."""

import hashlib
import json
import shutil
import signal
import sys

import pytest
import torch

from r1kit.cli import main

RECIPE = """
kind = "zero"
[model]
path = "{model}"
[[tasks]]
kind = "jsonl"
path = "{data}"
{task}
[rollouts]
num_iterations = 1
problems_per_iteration = 2
group_size = 2
[evaluation]
num_problems = 4
[run]
num_threads = 1
"""
ROWS = [{"id": f"p{n}", "question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(60)]


@pytest.fixture
def r1(monkeypatch, capfd, tmp_path):
    """A function that runs the command line in a folder of its own; returns exit status, output and errors."""
    before, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1_DEBUG", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("R1KIT_DATA", raising=False)

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


def contents(folder):
    """A digest of every file below a folder, caches apart, by path."""
    files = (path for path in folder.rglob("*") if path.is_file() and folder / "home" not in path.parents)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def refused(r1, tmp_path):
    """A function that expects a command to be refused in one line, which it gives back."""

    def call(*words, status=1):
        before = contents(tmp_path)
        found, _, errors = r1(*words)
        assert found == status, errors
        assert contents(tmp_path) == before  # nothing lost, nothing half made
        lines = errors.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), errors
        return lines[0]

    return call


@pytest.fixture
def model(model_folder, tmp_path):
    """A model folder, free to be broken."""
    return shutil.copytree(model_folder, tmp_path / "model")


@pytest.fixture
def data(tmp_path):
    """A function that writes rows, or lines as they are, into a file."""

    def write(rows, name="data.jsonl"):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return name

    return write


@pytest.fixture
def recipe(tmp_path):
    """A function that writes a recipe on a file of problems."""

    def write(path, *, model="nano", task=""):
        (tmp_path / "recipe.toml").write_text(RECIPE.format(model=model, data=path, task=task), "utf-8")
        return "recipe.toml"

    return write


BROKEN = [*ROWS[:3], '{"question": "x", "answer":', *ROWS[3:]]
OTHER_FIELDS = [{"frage": "Was?", "antwort": "1"}] * 40
NO_ANSWER = [*ROWS[:5], {"question": "What is it?"}, *ROWS[5:]]


@pytest.mark.parametrize(
    ("rows", "task", "says"),
    [
        (BROKEN, "", ["data.jsonl", "line 4", "not valid JSON", "column 28", 'bad_rows = "skip"']),
        (OTHER_FIELDS, "", ["data.jsonl", "'question'", "fields.question", "frage, antwort"]),
        (NO_ANSWER, "", ["line 6", "'answer'", "missing"]),
        (ROWS, 'fields = { question = "statement" }', ["'statement'", "fields.question", "id, question, answer"]),
        ([json.dumps(ROWS)], "", ["one JSON array", "one object a line"]),
        ([], "", ["data.jsonl", "no rows"]),
    ],
)
def test_a_file_to_train_on_that_cannot_be_read_is_refused_with_its_line(refused, data, recipe, rows, task, says):
    line = refused("train", recipe(data(rows), task=task), "--run", "run")
    assert [word for word in says if word not in line] == []


def test_a_file_that_is_not_there_names_its_neighbour_of_the_same_kind(refused, data, recipe):
    data(ROWS, "problems.jsonl")
    assert "did you mean 'problems.jsonl'" in refused("train", recipe("problem.jsonl"), "--run", "run")
    assert "recipe.toml" not in refused("train", recipe("recipe.jsonl"), "--run", "run")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"prompt": ', ["examples.jsonl:2", "not valid JSON", "column"]),
        ({"prompt": "a", "answer": "b"}, ["examples.jsonl:2", "`completion`", "it has prompt, answer"]),
        ({"messages": [{"role": "robot", "content": "x"}]}, ["examples.jsonl:2", "robot", "system, user, assistant"]),
    ],
)
def test_a_bad_example_for_fine_tuning_is_refused_with_its_line(refused, data, tmp_path, row, says):
    data([{"prompt": "a", "completion": "b"}, row], "examples.jsonl")
    (tmp_path / "sft.toml").write_text('kind = "sft"\ndata = "examples.jsonl"\n')
    line = refused("train", "sft.toml", "--run", "run")
    assert [word for word in says if word not in line] == []


def test_a_data_set_without_the_named_field_says_which_it_has(refused, tmp_path, data):
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    data(ROWS, "set/train.jsonl")
    task = '[[tasks]]\nkind = "hub"\ndataset = "set"\nsplit = "train"\nfields = { answer = "solution" }\n'
    (tmp_path / "hub.toml").write_text(f'kind = "zero"\n{task}[evaluation]\nnum_problems = 4\n')
    line = refused("train", "hub.toml", "--run", "run")
    assert "set (train)" in line and "'solution'" in line and "there are: id, question, answer" in line


def test_a_bad_row_to_evaluate_on_is_refused_with_its_line(refused, data, model):
    for rows, says in (
        (BROKEN, "line 4: not valid JSON"),
        (OTHER_FIELDS, "line 1: no question"),
        (NO_ANSWER, "line 6"),
    ):
        line = refused("eval", "model", "--task", data(rows), "--out", "results")
        assert "data.jsonl" in line and says in line


def test_a_bad_row_to_sample_for_stops_nobody_and_says_the_same_of_it(r1, data, model, tmp_path):
    status, _, _ = r1("sample", "model", data(BROKEN), "out.jsonl", "--max-new-tokens", "2")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert status == 0 and len(rows) == 61
    assert [row["error"] for row in rows if "error" in row] == ["line 4: not valid JSON: Expecting value at column 28"]
    assert rows[3]["line"] == BROKEN[3]


def test_input_that_is_its_own_output_is_refused(refused, data, model):
    assert "same file" in refused("sample", "model", data(ROWS), "data.jsonl", status=2)


COMMANDS = [
    ["eval", "model", "--task", "data.jsonl", "--out", "results"],
    ["sample", "model", "data.jsonl", "out.jsonl"],
    ["export", "model", "new"],
    ["train", "recipe.toml", "--run", "run"],
]


def without(name):
    return lambda model: (model / name).unlink()


def rewritten(name, text):
    return lambda model: (model / name).write_text(text)


def changed_config(**values):
    def change(model):
        config = json.loads((model / "config.json").read_text()) | values
        (model / "config.json").write_text(json.dumps(config))

    return change


def torn(model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (without("config.json"), ["not a model folder, nor a run's", "no config.json"]),
        (without("tokenizer.json"), ["no tokenizer.json"]),
        (without("model.safetensors"), ["no *.safetensors"]),
        (rewritten("config.json", '{"model_type": '), ["config.json: not valid JSON", "line 1, column 16", "again"]),
        (rewritten("tokenizer.json", '{"model":'), ["tokenizer.json: not valid JSON", "again"]),
        (rewritten("config.json", '{"model_type": "vit"}'), ["'vit'", "no causal language model"]),
        (changed_config(model_type="hal9000"), ["'hal9000'", "transformers"]),
        (
            changed_config(intermediate_size=64),
            ["do not fit its config.json", "down_proj.weight is [48, 96], not [48, 64]"],
        ),
        (torn, ["weights cannot be loaded", "again"]),
    ],
)
def test_a_model_folder_that_is_damaged_is_refused_by_what_is_damaged(refused, model, data, broken, says):
    data(ROWS)
    broken(model)
    line = refused(*COMMANDS[0])
    assert "model" in line and [word for word in says if word not in line] == []


@pytest.mark.parametrize("command", COMMANDS, ids=[words[0] for words in COMMANDS])
def test_every_command_says_the_same_of_a_tokenizer_that_does_not_fit(refused, model, data, recipe, command):
    from transformers import AutoTokenizer

    data(ROWS)
    recipe("data.jsonl", model="model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    entries = len(tokenizer)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(model)
    line = refused(*command)
    assert f"tokenizer has {entries + 1} entries" in line and f"only {entries} embeddings" in line
    assert "belongs to these weights" in line


def test_a_tokenizer_of_a_much_smaller_vocabulary_is_another_models(refused, model, data, tokenizer):
    from r1kit.config.model import ArchitectureSettings
    from r1kit.models import nano

    data(ROWS)
    larger = nano.make_model(ArchitectureSettings(hidden_size=48, num_layers=1, num_heads=4), tokenizer, seed=0)
    larger.resize_token_embeddings(3 * len(tokenizer))
    larger.save_pretrained(model)
    line = refused(*COMMANDS[0])
    assert (
        f"{len(tokenizer)} entries" in line and f"{3 * len(tokenizer)} embeddings" in line and "another model's" in line
    )


@pytest.mark.parametrize("command", COMMANDS, ids=[words[0] for words in COMMANDS])
def test_a_hub_id_without_network_says_so(refused, data, recipe, command, monkeypatch):
    import huggingface_hub

    def unreachable(*words, **options):
        raise OSError("We couldn't connect to the Hub\nand many more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    data(ROWS)
    recipe("data.jsonl", model="owner/model")
    line = refused(*["owner/model" if word == "model" else word for word in command])
    assert "'owner/model'" in line and "cannot be reached" in line and "name a folder" in line


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GatedRepoError", ["gated", "accept its terms", "hf auth login"]),
        ("RepositoryNotFoundError", ["no such folder here", "no such model", "hf auth login"]),
        ("RevisionNotFoundError", ["no revision"]),
    ],
)
def test_a_gated_or_missing_hub_id_says_what_to_do(refused, data, monkeypatch, name, says):
    import huggingface_hub

    error = getattr(huggingface_hub.errors, name)

    def refuse(*words, **options):
        raise error.__new__(error, "403 Client Error")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    data(ROWS)
    line = refused("eval", "owner/model", "--task", "data.jsonl", "--out", "results")
    assert "'owner/model'" in line and [word for word in says if word not in line] == []


def test_a_data_set_of_the_hub_without_network_says_so(refused, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    task = '[[tasks]]\nkind = "hub"\ndataset = "owner/set"\nsplit = "train"\n'
    (tmp_path / "hub.toml").write_text(f'kind = "zero"\n{task}')
    line = refused("train", "hub.toml", "--run", "run")
    assert "owner/set (train)" in line and "is there a network" in line and "local folder" in line


def test_a_gguf_file_of_an_unknown_architecture_or_a_damaged_one_is_refused(refused, data, tmp_path):
    gguf = pytest.importorskip("gguf")
    data(ROWS)
    writer = gguf.GGUFWriter(str(tmp_path / "hal.gguf"), "hal9000")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    line = refused("eval", "hal.gguf", "--task", "data.jsonl", "--out", "results")
    assert "hal.gguf" in line and "'hal9000' cannot be converted" in line and "llama" in line
    (tmp_path / "text.gguf").write_text("hello")
    assert "text.gguf: not a GGUF file" in refused("export", "text.gguf", "new")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'kind = "zero"\n[[tasks]]\nkind = "chains"\n[optimizer]\nlearning_rate = 1e-3\n',
            ["'optimizer.learning_rate'"],
        ),
        ('kind = "zero"\n[[tasks]]\nkind = "chains"\n[optimizer]\nlrr = 1e-3\n', ["did you mean", "lr"]),
        ('kind = "zero"\n[[tasks]\nkind = "chains"\n', ["not valid TOML", "line 2"]),
        ('kind = "zero"\n[[tasks]]\nkind = "chains"\n[optimizer]\nlr = "fast"\n', ["optimizer.lr", "'fast'"]),
        ('kind = "zerro"\n', ["'zerro'", "did you mean 'zero'"]),
        ('kind = "zero"\n[[tasks]]\nkind = "chain"\n', ["tasks.0.kind", "did you mean 'chains'"]),
        ('[model]\npath = "nano"\n', ["`kind` is missing"]),
    ],
)
def test_a_recipe_that_cannot_be_read_exits_with_2_and_names_the_key(refused, tmp_path, text, says):
    (tmp_path / "bad.toml").write_text(text)
    line = refused("train", "bad.toml", "--run", "run", status=2)
    assert "bad.toml" in line and [word for word in says if word not in line] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["report", "folder"], ["folder holds no run", "recipe.json, metrics.jsonl or demo.json"]),
        (["report", "nowhere"], ["nowhere: no such folder", "r1 report runs/zero"]),
        (["report", "data.jsonl"], ["data.jsonl: no such folder"]),
        (["eval", "folder", "--task", "data.jsonl", "--out", "results"], ["not a model folder, nor a run's"]),
        (["eval", "begun", "--task", "data.jsonl", "--out", "results"], ["begun", "no checkpoint yet"]),
        (["eval", "nowhere", "--task", "data.jsonl", "--out", "results"], ["no such folder or file", "nano"]),
        (["eval", "data.jsonl", "--task", "data.jsonl", "--out", "results"], ["is a file, but not a GGUF file"]),
        (["sample", "folder", "data.jsonl", "out.jsonl"], ["not a model folder, nor a run's"]),
        (["export", "folder", "new"], ["not a model folder, nor a run's"]),
        (["export", "begun", "new"], ["no checkpoint yet"]),
        (["export", "nano", "folder"], ["folder: exists already", "new folder"]),
        (["train", "recipe.toml", "--resume", "--run", "folder"], ["holds no run to resume", "recipe.json"]),
        (["train", "recipe.toml", "--resume", "--run", "nowhere"], ["holds no run to resume"]),
    ],
)
def test_a_folder_that_is_no_run_is_refused_and_stays_as_it_is(refused, data, recipe, tmp_path, words, says):
    recipe(data(ROWS))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.json").write_text('{"recipe": {"kind": "zero"}}')
    line = refused(*words)
    assert [word for word in says if word not in line] == []


def test_figures_that_could_not_be_written_are_refused_before_anything_is_drawn(refused, data, model):
    data(ROWS)
    for command in (COMMANDS[0], COMMANDS[1], ["doctor"]):
        line = refused(*command, "--json", "nowhere/figures.json")
        assert "--json nowhere/figures.json" in line and "no folder nowhere" in line
