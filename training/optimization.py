"""Optimisers, learning-rate schedules, and how many steps they are for."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import get_scheduler

from ..configuration.errors import UserError
from ..recipes.schema import OptimizationRecipe, TrainingRecipe
from .muon import Muon

WARMUP, FAR = 400, 10**9  # steps
EVALUATIONS, MOST_APART = 10, 500  # of a run that says nothing of them, and steps from one to the next


def make_optimizers(model: nn.Module, recipe: OptimizationRecipe, is_fused: bool = True) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) on the matrices inside the layers with AdamW on
    the rest, of what is trained. Weight decay goes to matrices only, not to biases, norms, embeddings and what scales activations.

    Args:
        is_fused: Whether AdamW reads and writes each parameter and its moments once a step, by one kernel.
    """
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
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in embedding_ids:
            embeddings.append(parameter)
        else:
            is_matrix = parameter.ndim >= 2 and ".ia3_" not in name  # whose vectors have a second dimension of 1
            (matrices if is_matrix else vectors).append(parameter)
    adamw: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "betas": (recipe.beta1, recipe.beta2),
        "eps": recipe.epsilon,
        "fused": is_fused,
    }
    if recipe.optimizer == "adamw":
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": embeddings + vectors, "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW([group for group in groups if group["params"]], **adamw)]
    hidden = [parameter for parameter in matrices if id(parameter) in inside_layers]
    rest = [parameter for parameter in matrices if id(parameter) not in inside_layers]
    muon = Muon(hidden, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    others = rest + embeddings + vectors  # of which adapters may train none
    return [muon, *([torch.optim.AdamW(others, weight_decay=0.0, **adamw)] if others else [])]


def planned_steps(recipe: TrainingRecipe, steps_per_epoch: int | None, step: int, seconds: float) -> int | None:
    """How many steps a run will have taken at its end, by what is known after `step` of them.

    Args:
        steps_per_epoch: None where there are no epochs.
        seconds: That the steps before the last took; minutes become steps by that pace.

    Returns:
        None where only minutes bound the run and the pace is not known yet.
    """
    limits = []
    if recipe.max_steps is not None:
        limits.append(recipe.max_steps)
    if recipe.max_epochs is not None and steps_per_epoch is not None:
        limits.append(recipe.max_epochs * steps_per_epoch)
    if recipe.max_minutes is not None and step > 1 and seconds > 0:
        limits.append(max(step, math.ceil((step - 1) * 60 * recipe.max_minutes / seconds)))
    return min(limits, default=None)


def warmup_steps(recipe: OptimizationRecipe, steps: int | None) -> int:
    """Those that the recipe says, or else 400, or a tenth of a run that is shorter than ten times that.

    Args:
        steps: Of the run, where only minutes bound it None.

    Raises:
        UserError: The run ends before its warm-up does.
    """
    usual = WARMUP if steps is None else min(WARMUP, steps // 10)
    if recipe.warmup_steps is None:
        return usual
    if steps is not None and recipe.schedule != "constant" and recipe.warmup_steps > steps:
        raise UserError(
            f"optimization.warmup_steps={recipe.warmup_steps} is more than the run's {steps} steps; set fewer, such as "
            f"{usual}, or train longer"
        )
    return recipe.warmup_steps


def evaluation_interval(recipe: TrainingRecipe, steps: int | None) -> int:
    """Steps from one evaluation to the next: those that the recipe says, or else a tenth of the run, at most 500.

    Args:
        steps: Of the run, where only minutes bound it None.
    """
    usual = MOST_APART if steps is None else max(1, min(MOST_APART, steps // EVALUATIONS))
    return recipe.evaluate_every or usual


class Schedule:
    """A schedule of transformers by its name, with linear warm-up.

    The learning rate is a function of the step and of how many there will be, and of nothing else. So the number may
    change from step to step, as it does where minutes bound a run, and a resumed run needs to know no more.

    Raises:
        UserError: Options that the schedule does not have.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], recipe: OptimizationRecipe, warmup: int) -> None:
        self.optimizers, self.recipe, self.warmup = optimizers, recipe, warmup
        self.steps, self.factor = FAR, self._factor(FAR)

    def set(self, step: int, steps: int | None) -> None:
        """Set the learning rate with which the optimizers go on after `step` steps of `steps`.

        Args:
            steps: None where it is not known yet; a schedule that ends then has its end far away.
        """
        steps = FAR if steps is None else steps
        if steps != self.steps:
            self.steps, self.factor = steps, self._factor(steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * self.factor(step)

    def _factor(self, steps: int) -> Callable[[int], float]:
        recipe = self.recipe
        stand_in = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=recipe.learning_rate)
        try:
            scheduler = get_scheduler(
                recipe.schedule,
                stand_in,
                num_warmup_steps=self.warmup,
                num_training_steps=steps,
                scheduler_specific_kwargs=dict(recipe.schedule_options),
            )
        except (ValueError, TypeError) as error:
            raise UserError(f"optimization.schedule_options={recipe.schedule_options}: {error}") from None
        return scheduler.lr_lambdas[0]
