"""Whole runs: from a recipe to a trained model in a folder."""

from pathlib import Path

import torch
from rich.console import Console

from r1kit.config.rejection import RejectionRecipe
from r1kit.config.reward_model import RewardModelRecipe
from r1kit.recipe import PretrainRecipe, Recipe, SFTRecipe, ZeroRecipe
from r1kit.stages.rejection import run_rejection
from r1kit.stages.reward_model import run_reward_model
from r1kit.stages.single_run import run_pretrain, run_sft, train_zero


def train(recipe: Recipe, folder: Path, *, resume: bool, explain: bool, console: Console) -> None:
    """Run a recipe in a folder, from the start or from its last checkpoint, to `final/`."""
    if recipe.run.num_threads:
        torch.set_num_threads(recipe.run.num_threads)
    if isinstance(recipe, ZeroRecipe):
        train_zero(recipe, folder, resume=resume, explain=explain, console=console)
    elif isinstance(recipe, RewardModelRecipe):
        run_reward_model(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, PretrainRecipe):
        run_pretrain(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, RejectionRecipe):
        run_rejection(recipe, folder, resume=resume, console=console)
    elif isinstance(recipe, SFTRecipe):
        run_sft(recipe, folder, resume=resume, console=console)
