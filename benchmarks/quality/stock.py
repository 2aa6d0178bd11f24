"""The stock model of the same size, trained by transformers' Trainer for the same minutes on the same token ids."""

import inspect
import math
import tempfile
import time
from typing import Any

import datasets
import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from trefoil.tasks.evaluator import Evaluator
from trefoil.training.run import Prepared

from ..speed.models import counterpart
from ..speed.texts import collator

# on the validation split, of which the best counts, as in a run of ours that does not say when: so many, and at most so many
# steps apart
EVALUATIONS, STEPS_APART = 10, 500
WARMUP = 0.1  # of the time

# rows of a batch and the highest learning rate. Of BERT: among those that Turc et al. 2019 fine-tune small ones with
PAPERS = {
    "text-classification": (32, lambda width: 3e-4),
    "token-classification": (32, lambda width: 3e-4),
    # Vaswani et al. 2017, §5.3, with their 4,000 steps
    "translation": (128, lambda width: (width * 4000) ** -0.5),
    # of the smallest of Brown et al. 2020, table 2.1
    "causal-lm": (16, lambda width: 6e-4),
}


class Clock(TrainerCallback):
    """Stops after so many seconds of steps, as ours counts them: without what lies between, such as evaluation."""

    def __init__(self, seconds: float, model: PreTrainedModel, evaluator: Evaluator) -> None:
        self.limit, self.model, self.evaluator = seconds, model, evaluator
        self.seconds, self.evaluations, self.evaluated_step = 0.0, 0, 0
        self.best: float | None = None
        self.weights: dict[str, torch.Tensor] = {}

    @property
    def passed(self) -> float:
        return min(1.0, self.seconds / self.limit)

    def on_step_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        self.seconds += time.perf_counter() - self.began
        is_long_ago = state.global_step - self.evaluated_step >= STEPS_APART
        if is_long_ago or self.passed * EVALUATIONS >= self.evaluations + 1:
            self.evaluations, self.evaluated_step = math.floor(self.passed * EVALUATIONS), state.global_step
            self._evaluate()
        control.should_training_stop = self.passed == 1

    def _evaluate(self) -> None:
        self.model.eval()
        score = self.evaluator.evaluate(self.model, final=False)[self.evaluator.metric]
        self.model.train()
        if self.evaluator.is_better(score, self.best):
            self.best = score
            self.weights = {name: weight.clone() for name, weight in self.model.state_dict().items()}


class TimedTrainer(Trainer):
    """Its usual schedule, which falls in a line to zero, by the time that has passed, since that is what ends it."""

    clock: Clock
    warmup: float

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        def factor(_: int) -> float:
            passed = self.clock.passed
            rising = 1.0 if self.warmup == 0 else max(passed, 1e-3) / self.warmup
            return min(rising, (1 - passed) / (1 - self.warmup))

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler


def forgiving(model: PreTrainedModel) -> PreTrainedModel:
    """Lets the model pass over what it does not know of our batches."""
    known = {*inspect.signature(model.forward).parameters, "shift_labels", "num_items_in_batch"}

    def known_only(module: torch.nn.Module, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {name: value for name, value in options.items() if name in known}

    model.register_forward_pre_hook(known_only, with_kwargs=True)
    return model


def train(ready: Prepared, minutes: float, seed: int, has_defaults: bool) -> tuple[PreTrainedModel, float]:
    """The model of the best evaluation, and the seconds of its steps.

    Args:
        ready: Our recipe made ready; its token ids are what is trained on.
        has_defaults: Rows, learning rate and warm-up are the Trainer's own; else those that papers give.
    """
    task, examples = ready.preprocessor.reader.task.name, ready.splits["train"].examples
    torch.manual_seed(seed)
    model = forgiving(counterpart(task, ready.model.config))
    rows, rate = PAPERS[task]
    chosen = {"per_device_train_batch_size": rows, "learning_rate": rate(ready.model.config.hidden_size)}
    clock = Clock(60 * minutes, model, ready.evaluators["validation"])
    with tempfile.TemporaryDirectory(prefix="trefoil-quality-") as output:
        options = TrainingArguments(
            output, max_steps=10**9, seed=seed, remove_unused_columns=False, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, use_cpu=not torch.cuda.is_available(), **({} if has_defaults else chosen),
        )  # fmt: skip
        trainer = TimedTrainer(
            model, options, data_collator=collator(ready.preprocessor, examples),
            train_dataset=datasets.Dataset.from_dict({"index": list(range(len(examples)))}), callbacks=[clock],
        )  # fmt: skip
        trainer.clock, trainer.warmup = clock, 0.0 if has_defaults else WARMUP
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.load_state_dict(clock.weights)
    return model.eval(), clock.seconds


def settings(task: str, width: int, has_defaults: bool) -> str:
    """What a table says of a training."""
    if has_defaults:
        return ""
    rows, rate = PAPERS[task]
    return f"{rows} rows, rate {rate(width):.1e}"
