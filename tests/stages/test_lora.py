"""Training adapters through the stages: what is kept, what is resumed, what comes out."""

import json

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from r1kit.config.model import ModelSettings
from r1kit.errors import Interrupted, RecipeError
from r1kit.models.loading import load_policy
from r1kit.pipeline import train
from r1kit.recipe import parse_recipe
from r1kit.run import Run
from r1kit.stages.preparation import make_trainee

LORA = {"rank": 4}
KEPT = {"adapter_config.json", "adapter_model.safetensors", "config.json", "trainer.json", "trainer_state.safetensors"}


def stopped_and_resumed(recipe, folder, run_to_the_end, monkeypatch):
    """A run that was asked to stop after its third iteration, and then resumed."""
    seen = []

    def report_and_stop(self, row):
        seen.append(row)
        if len(seen) == 3:
            self.stop_requested = True
        return log_metrics(self, row)

    log_metrics = Run.log_metrics
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log_metrics", report_and_stop)
        with pytest.raises(Interrupted):
            train(recipe, folder, resume=False, explain=False, console=Console(quiet=True))
    return run_to_the_end(recipe, folder, resume=True)


@pytest.mark.parametrize("refresh", [0, 2])
def test_a_resumed_run_ends_with_the_same_bits(tiny, run_to_the_end, outcome, tmp_path, monkeypatch, refresh):
    recipe = tiny(peft=LORA, objective={"kl_coef": 0.01, "reference_refresh_steps": refresh})
    whole = run_to_the_end(recipe, tmp_path / "whole")
    cut = stopped_and_resumed(recipe, tmp_path / "cut", run_to_the_end, monkeypatch)
    assert outcome(cut) == outcome(whole)
    kl = [json.loads(line).get("kl", 0) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert max(kl) > 0


def test_checkpoints_hold_adapters_and_their_moments_alone(tiny, run_to_the_end, tmp_path, model_folder):
    recipe = tiny(peft=LORA, objective={"kl_coef": 0.01})
    folder = run_to_the_end(recipe, tmp_path / "run")
    checkpoint = folder / "checkpoints" / "step-6"
    names = {path.name for path in checkpoint.iterdir()}
    assert names >= KEPT and "model.safetensors" not in names
    adapters = load_file(checkpoint / "adapter_model.safetensors")
    state = load_file(checkpoint / "trainer_state.safetensors")
    moments = {name: tensor for name, tensor in state.items() if not name.endswith(".step")}
    assert all(name.startswith("optimizer.") for name in state)  # the reference is the base
    assert sum(t.numel() for t in moments.values()) == 2 * sum(t.numel() for t in adapters.values())

    # A checkpoint is a model as `final/` is, and neither is the base.
    probe = torch.arange(3, 40)[None]
    with torch.no_grad():
        of_checkpoint = load_policy(ModelSettings(path=str(checkpoint))).model(probe).logits
        of_final = AutoModelForCausalLM.from_pretrained(folder / "final")(probe).logits
        of_base = AutoModelForCausalLM.from_pretrained(model_folder)(probe).logits
    assert torch.equal(of_checkpoint, of_final) and not torch.equal(of_final, of_base)
    assert load_file(folder / "final" / "adapter" / "adapter_model.safetensors").keys() == adapters.keys()


def test_peft_loads_the_adapter_beside_the_final_model(tiny, run_to_the_end, tmp_path, model_folder):
    peft = pytest.importorskip("peft")
    folder = run_to_the_end(tiny(peft=LORA), tmp_path / "run")
    config = peft.PeftConfig.from_pretrained(folder / "final" / "adapter")
    assert config.base_model_name_or_path == str(model_folder.resolve()) and config.r == 4
    base = AutoModelForCausalLM.from_pretrained(config.base_model_name_or_path)
    adapted = peft.PeftModel.from_pretrained(base, folder / "final" / "adapter")
    probe = torch.arange(3, 40)[None]
    with torch.no_grad():
        found = adapted(probe).logits
        merged = AutoModelForCausalLM.from_pretrained(folder / "final")(probe).logits
    torch.testing.assert_close(found, merged, rtol=1e-5, atol=1e-5)


def test_the_optimizer_holds_adapters_and_the_reference_is_the_base(tiny):
    trainee = make_trainee(tiny(peft=LORA, objective={"kl_coef": 0.01}))
    assert trainee.reference is not None and trainee.reference.model is trainee.policy.model
    assert len(trainee.optimizer.parameters) == 2 * len(trainee.policy.adapters.adapters)
    assert all(not parameter.requires_grad for parameter in trainee.policy.model.parameters())


def test_the_gap_to_the_sampler_stays_rounding(tiny, run_to_the_end, tmp_path):
    recipe = tiny(peft=LORA, optimizer={"lr": 0.02, "warmup_steps": 0})
    folder = run_to_the_end(recipe, tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    gaps = [row["logprob_gap_max"] for row in rows if "logprob_gap_max" in row]
    assert len(gaps) == 6 and max(gaps) < 1e-4


def test_fine_tuning_with_patience_ends_with_the_best_adapters(run_to_the_end, model_folder, tmp_path):
    data = tmp_path / "data.jsonl"
    rows = [{"prompt": f"User: {n}+{n}", "completion": f" {2 * n}."} for n in range(40)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = {
        "kind": "sft",
        "model": {"path": str(model_folder)},
        "data": str(data),
        "sft": {"num_epochs": 3, "examples_per_step": 8, "validation_share": 0.2, "patience": 2},
        "optimizer": {"lr": 0.01},
        "peft": LORA,
        "run": {"num_threads": 1, "checkpoint_interval_iterations": 2},
    }
    folder = run_to_the_end(parse_recipe(table, source="test"), tmp_path / "run")
    losses = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert (folder / "final" / "model.safetensors").is_file()
    assert (folder / "final" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        ({"rank": 0}, r"peft\.rank: input should be greater than or equal to 1 \(it is 0\)"),
        ({"target_modules": "q_proj"}, "peft.target_modules: a list of layers' names is expected, or 'all-linear'"),
        ({"rnak": 4}, "unknown key 'peft.rnak'; did you mean 'rank'"),
    ],
)
def test_wrong_settings_are_named(tiny, peft, message):
    with pytest.raises(RecipeError, match=message):
        tiny(peft=peft)


def test_muon_is_refused(tiny):
    with pytest.raises(RecipeError, match=r"optimizer\.kind is 'muon', which is for whole matrices"):
        tiny(peft=LORA, optimizer={"kind": "muon"})


def test_unknown_layers_are_named_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(RecipeError, match=r"peft\.target_modules names 'qproj', but no layer here is called that"):
        make_trainee(tiny(peft={"target_modules": ["qproj"]}))
