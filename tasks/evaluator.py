"""What scores a model on a split, which it holds, raw and encoded once."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from transformers import PreTrainedModel

from ..data.batching import plan_in_order
from ..data.progress import progress_bar
from ..modeling.losses import labelled
from .preprocessor import Preprocessor, Split
from .reader import Rows


class Evaluator:
    """
    Args:
        preprocessor: Made the split.
        split: Encoded to be scored.
        accelerator: The processes that share the work.
    """

    def __init__(self, preprocessor: Preprocessor, split: Split, accelerator: Accelerator) -> None:
        self.preprocessor, self.split, self.accelerator = preprocessor, split, accelerator
        self.reader, self.recipe = preprocessor.reader, preprocessor.recipe
        # what every process does before its next batch, as often as the others
        self.before_batch: Callable[[], None] | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scores by which models can be chosen, the usual one first."""
        return self.reader.task.metrics

    @property
    def metric(self) -> str:
        """The score by which the best model is chosen."""
        return self.recipe.evaluation.metric or self.metrics[0]

    def is_better(self, score: float, other: float | None) -> bool:
        """Whether a score of `metric` is better than another; anything is better than none."""
        return other is None or (score < other if self.metric in self.reader.task.minimized else score > other)

    def evaluate(self, model: PreTrainedModel, final: bool) -> dict[str, Any]:
        """Scores of a model and, under `predictions`, what it said, in the order of the split's rows; perhaps under `details`
        what else it said of each. What sees the labels on the way also gives `loss`, the mean over labels.

        Args:
            final: As the published model will be used; else as while training, which may be cheaper.
        """
        raise NotImplementedError

    def references(self) -> list[Any] | None:
        """What the predictions are compared with, in the same words and order; None where a task does not tell."""
        return None

    @torch.no_grad()
    def outputs(
        self, model: torch.nn.Module, change: Callable[[Rows, np.ndarray], Rows] | None = None, examples: Any = None
    ) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor], Any]]:
        """This process's batches: indices of encoded examples, the batch, and what the model makes of it, with the summed
        loss.

        Args:
            change: Makes of encoded rows and their indices those that are batched.
            examples: Others than the split's.
        """
        examples = self.split.examples if examples is None else examples
        for indices in self.shared_batches(self.preprocessor.lengths(examples), "evaluating"):
            rows = examples[indices] if change is None else change(examples[indices], indices)
            batch = send_to_device(self.preprocessor.collate(rows), self.accelerator.device)
            yield indices, batch, model(**batch, num_items_in_batch=1)

    def shared_batches(self, lengths: np.ndarray, what: str) -> Iterator[np.ndarray]:
        """This process's share of the batches of examples with these lengths `(examples, sides)`."""
        budget = self.recipe.evaluation.tokens_per_batch
        return shared_batches(self.accelerator, lengths, budget, what, self.before_batch)

    def loss(self, model: torch.nn.Module) -> float:
        """Cross-entropy for each label, without smoothing."""
        total = torch.zeros(2, dtype=torch.float64)
        for _, batch, output in self.outputs(model):
            labels = sum(int(labelled(batch[name]).sum()) for name in self.preprocessor.label_names)
            total += torch.tensor([float(output.loss), float(labels)])
        total = self.accelerator.reduce(total.to(self.accelerator.device), "sum")
        return float(total[0] / total[1])

    def gathered(self, items: list) -> list:
        """What all processes found, sorted; each item begins with its number."""
        if self.accelerator.num_processes > 1:
            items = gather_object(items)
        return sorted(items, key=lambda item: item[0])


def shared_batches(
    accelerator: Accelerator,
    lengths: np.ndarray,
    tokens_per_batch: int,
    what: str,
    before_batch: Callable[[], None] | None = None,
) -> Iterator[np.ndarray]:
    """This process's share of the batches of examples with these lengths `(examples, sides)`, with a bar that says `what`."""
    plan = plan_in_order(lengths, tokens_per_batch)
    rank, processes = accelerator.process_index, accelerator.num_processes
    mine = [
        plan[start + rank : start + rank + 1] for start in range(0, len(plan), processes)
    ]  # none for some, at the end
    for batch in progress_bar(mine, what, accelerator.is_main_process):
        if before_batch is not None:
            before_batch()
        yield from batch
