"""Steps that are left out: what a loss or a gradient would break, the weights never see."""

import math
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from ..data.progress import say
from ..data.whole_files import not_written, write_file
from ..recipes.schema import TrainingRecipe
from .engine import local

WINDOW = 128  # steps
# batches of sentences of like length differ by many standard deviations where the loss is low, and teach most by it; one nat
# a label is what a model loses that no longer knows what it knew
LEAST_RISE = 1.0


class LossWatch:
    """Says of each step whether it is left out: its loss or its gradient is not finite, or its loss lies many standard
    deviations above the mean of those before it (a spike; Chowdhery et al. 2023, section 5.1).

    Every process gives it the same numbers, so all decide alike and nobody asks. It counts from the last steps that were
    taken, and a checkpoint holds them.
    """

    def __init__(self, recipe: TrainingRecipe) -> None:
        self.sigmas, self.most = recipe.max_loss_sigmas, recipe.max_skipped_steps
        self.losses: deque[float] = deque(maxlen=WINDOW)  # of the last steps that were taken
        self.recent: list[int] = []  # steps that were left out, of the last so many
        self.skipped = 0  # in the whole run

    def fault(self, step: int, loss: float, norm: float) -> str | None:
        """Why a step is left out; None where it is taken.

        Args:
            norm: Of the gradient; finite where that is.
        """
        self.recent = [one for one in self.recent if one > step - WINDOW]
        found = self._fault(loss, norm)
        if found is None:
            self.losses.append(loss)
        else:
            self.recent.append(step)
            self.skipped += 1
        return found

    def _fault(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the norm of the gradient is {norm}"
        if self.sigmas is None or len(self.losses) < WINDOW:
            return None
        bound = float(np.mean(self.losses)) + max(LEAST_RISE, self.sigmas * float(np.std(self.losses)))
        if loss <= bound:
            return None
        return (
            f"the loss {loss:.4g} is beyond {bound:.4g} (mean + training.max_loss_sigmas={self.sigmas:g} "
            f"sigma of the last {WINDOW} steps)"
        )

    def is_skipping(self, step: int) -> bool:
        """Whether this step, the last, was left out."""
        return self.recent[-1:] == [step]

    @property
    def is_too_much(self) -> bool:
        """Whether so many of the last steps were left out that the run is to end."""
        return len(self.recent) > self.most

    @property
    def summary(self) -> str:
        return f"steps left out among the last {WINDOW}: {len(self.recent)}"

    def measured(self, fault: str | None) -> dict[str, Any]:
        """What the log and the user are told of a step with this fault."""
        values: dict[str, Any] = {"skipped_steps": self.skipped} if self.skipped else {}
        return values if fault is None else values | {"fault": fault}

    def state(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "recent": self.recent, "skipped": self.skipped}

    def load_state(self, state: dict[str, Any] | None) -> None:
        """
        Args:
            state: None from a checkpoint of before there was one.
        """
        if state is not None:
            self.losses.extend(state["losses"])
            self.recent, self.skipped = list(state["recent"]), state["skipped"]


def keep_batch(file: Path, micro_batches: list[dict[str, torch.Tensor]]) -> None:
    """Write what this process had in a step, for somebody to look at; the run ends in either case."""
    tensors = {
        f"{number}.{name}": tensor.detach().to("cpu", copy=True).contiguous()
        for number, batch in enumerate(micro_batches)
        for name, tensor in batch.items()
    }
    try:
        write_file(file, save(tensors))
    except OSError as error:
        say(str(not_written(file, error, "the run ends without it")))


def all_finite(model: torch.nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> bool:
    """Whether weights that are trained and moments are, of which this process may have a part."""
    states = {weight: state for optimizer in optimizers for weight, state in optimizer.state.items()}
    moments = [value for state in states.values() for value in state.values() if isinstance(value, torch.Tensor)]
    weights = {*(weight for weight in model.parameters() if weight.requires_grad), *states}
    return all(bool(local(tensor).isfinite().all()) for tensor in (*weights, *moments))


def first_not_finite(weights: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """The name of the first tensor that holds NaN or an infinity."""
    return next((name for name, weight in weights if not weight.isfinite().all()), None)
