"""Optimisers and learning-rate schedules."""

import re
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from ..configuration.errors import UserError
from ..recipes.schema import OptimizationRecipe


def make_optimizers(model: nn.Module, recipe: OptimizationRecipe) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) on the matrices inside the layers with AdamW on
    the rest. Weight decay goes to matrices only, not to biases, norms and embeddings."""
    matrices: list[nn.Parameter] = []
    embeddings: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    # layers are numbered, whatever their list is called
    inside_layers = {
        id(parameter)
        for name, parameter in model.named_parameters()
        if re.search(r"\.\d+\..*weight", name) and parameter.ndim == 2
    }
    embedding_ids = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in embedding_ids:
            embeddings.append(parameter)
        else:
            (matrices if parameter.ndim >= 2 else vectors).append(parameter)
    adamw: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "betas": (recipe.beta1, recipe.beta2),
        "eps": recipe.epsilon,
    }
    if recipe.optimizer == "adamw":
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": embeddings + vectors, "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW([group for group in groups if group["params"]], **adamw)]
    hidden = [parameter for parameter in matrices if id(parameter) in inside_layers]
    rest = [parameter for parameter in matrices if id(parameter) not in inside_layers]
    muon = torch.optim.Muon(
        hidden, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(rest + embeddings + vectors, weight_decay=0.0, **adamw)]


def make_schedule(optimizer: torch.optim.Optimizer, recipe: OptimizationRecipe, total_steps: int | None) -> LRScheduler:
    """A schedule of transformers by its name, with linear warm-up.

    Raises:
        UserError: The schedule needs the number of steps and the recipe does not give it, or unknown options.
    """
    try:
        return get_scheduler(
            recipe.schedule,
            optimizer,
            num_warmup_steps=recipe.warmup_steps,
            num_training_steps=total_steps,
            scheduler_specific_kwargs=dict(recipe.schedule_options),
        )
    except ValueError as error:
        if total_steps is None:
            raise UserError(
                f"optimization.schedule={recipe.schedule!r} needs the number of steps; set training.max_steps"
            ) from None
        raise UserError(f"optimization.schedule_options={recipe.schedule_options}: {error}") from None
    except TypeError as error:
        raise UserError(f"optimization.schedule_options={recipe.schedule_options}: {error}") from None
