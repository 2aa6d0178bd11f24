"""The loop: optimiser steps from the last checkpoint to the last step, whatever the model and the task."""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from transformers import PreTrainedModel

from ..configuration.errors import UserError, reason
from ..data.batching import Share
from ..data.progress import duration, say
from ..modeling.losses import labelled
from ..recipes.schema import Recipe
from ..tasks.evaluator import Evaluator
from ..tasks.preprocessor import Preprocessor
from .checkpoint_writer import CheckpointWriter
from .checkpoints import load_state
from .engine import Engine, full, local
from .log import TrainingLog
from .nodes import on_first, write_once
from .optimization import EVALUATIONS, Schedule, evaluation_interval, planned_steps, warmup_steps
from .progress import TrainingProgress, timed
from .run_folder import RunFolder
from .throughput import Meter
from .training_data import TrainingData, fingerprint, is_of_a_lost_worker, require_same
from .watch import LossWatch, all_finite, keep_batch


@dataclass
class Position:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # optimiser steps done in this epoch
    seconds: float = 0.0  # of training so far
    best_step: int = 0
    best_metric: float | None = None
    best_loss: float = math.inf  # where metrics are equal, as they are while a hard one is still zero, the loss decides
    worse_evaluations: int = 0  # since the metric was last better
    evaluated_step: int = 0
    evaluated_seconds: float = 0.0  # of training, before that
    to_evaluate: bool = False  # due at this step, and left since the run was asked to stop
    saved_step: int = 0  # of the last checkpoint that was planned
    saved_seconds: float = 0.0  # of training, before that

    def take_score(self, score: float, loss: float, evaluator: Evaluator) -> bool:
        """Note what a model scored at this step; whether it is the best so far."""
        self.evaluated_step, self.evaluated_seconds = self.step, self.seconds
        is_better = evaluator.is_better(score, self.best_metric)
        self.worse_evaluations = 0 if is_better else self.worse_evaluations + 1
        if not is_better and not (score == self.best_metric and loss < self.best_loss):
            return False
        self.best_metric, self.best_loss, self.best_step = score, loss, self.step
        return True


class TrainingLoop:
    """Trains `model` on encoded examples.

    Args:
        recipe, engine: The run's.
        run_folder: Gets checkpoints, the best model and the log.
        model: Not yet prepared by accelerate; on resuming, its weights are not yet read.
        preprocessor: Makes batches.
        make_data: What is trained on, given this process's share of it.
        evaluator: Holds the validation split.
        checkpoint: To resume from.
    """

    def __init__(
        self,
        recipe: Recipe,
        engine: Engine,
        run_folder: RunFolder,
        model: PreTrainedModel,
        preprocessor: Preprocessor,
        make_data: Callable[[Share], TrainingData],
        evaluator: Evaluator,
        checkpoint: Path | None,
    ) -> None:
        self.recipe, self.engine, self.run_folder = recipe, engine, run_folder
        self.accelerator = accelerator = engine.accelerator
        self.preprocessor, self.evaluator = preprocessor, evaluator
        self.meter = Meter(accelerator, recipe.training.mixed_precision)
        self.position = Position()
        batches = recipe.batches
        accumulation = 1
        if batches.tokens_per_device is not None:
            devices = batches.tokens_per_device * self.engine.data_size
            accumulation = max(1, math.ceil(batches.tokens_per_batch / devices))
        self.share = Share(self.engine.data_rank, self.engine.data_size, accumulation)
        self.data = make_data(self.share)
        state = load_state(checkpoint) if checkpoint is not None else {}
        if state:
            self.data.load_state(state.get("data"))
            require_same(evaluator.split.name, state.get("validation"), evaluator.split.examples)
        planned = self.planned_steps()
        warmup, self.interval = (
            warmup_steps(recipe.optimization, planned),
            evaluation_interval(recipe.training, planned),
        )
        self.model, self.optimizers = engine.prepare(model, recipe.optimization, checkpoint)
        self.writer = CheckpointWriter(
            run_folder.checkpoints,
            engine,
            keep=recipe.training.average_checkpoints,
            keep_every=recipe.training.keep_every,
        )
        self.schedule = Schedule(self.optimizers, recipe.optimization, warmup)
        self.watch = LossWatch(recipe.training)
        self.taken: list[tuple[float, float]] = []  # loss and labels of the steps since the last line of the log
        if state:
            self.position = Position(**state["position"])
            self.watch.load_state(state.get("watch"))
            self.taken = [(loss, labels) for loss, labels in state.get("taken", [])]
            if accelerator.scaler is not None and state.get("scaler"):
                accelerator.scaler.load_state_dict(state["scaler"])
        self.schedule.set(self.position.step, self.planned_steps())
        self.stop_requested = self.stopping = False
        self.is_scoring = False  # which may take long, and is left at once where the run is to stop
        self.finite_step: int | None = None  # at which the weights were last seen to be finite
        self.elapsed = 0.0  # seconds of the last step, not yet in the position

    def planned_steps(self) -> int | None:
        """Optimiser steps of the whole run, for the schedule and the time left."""
        position = self.position
        return planned_steps(self.recipe.training, self.data.steps_per_epoch, position.step, position.seconds)

    def run(self) -> Position:
        """Train to the end, or until asked to stop, and leave a checkpoint.

        Returns:
            Where the run stands.
        """
        self.log = TrainingLog(self.accelerator, self.run_folder, self.position.step)
        progress = TrainingProgress(self.position.step, self.accelerator.is_main_process)
        try:
            if self.position.to_evaluate:
                self._evaluate()
                if not self.stopping:
                    self._save(planned=self.position.saved_step == self.position.step)
            steps = () if self._finished() else self.data.steps(self.position.epoch, self.position.batch)
            for (micro_batches, place), waited in timed(steps):
                values = self.step(micro_batches) | {"data_seconds": waited}
                self.position.epoch, self.position.batch, values["epoch"] = place
                progress.step()
                step, at_end = self.position.step, self._is_at_end()
                evaluation_is_due = self._evaluation_is_due()
                save_is_due = self._save_is_due(evaluation_is_due)
                evaluate = evaluation_is_due or at_end
                labels = values.pop("labels")
                if "loss" in values:
                    self.taken.append((values["loss"], labels))
                is_logged = step % self.recipe.training.log_every == 0 or step == 1
                if evaluate or save_is_due or is_logged or "fault" in values:
                    values = self._measured(values, micro_batches[0]) | self.data.measured()
                    self.log.write(values)
                    progress.show(step, self.planned_steps(), values)
                if "fault" in values and self.watch.is_too_much:
                    raise self._diverged(values["fault"], micro_batches)
                if evaluate:
                    self._evaluate()
                if save_is_due or self._finished():
                    self._save(save_is_due)
                    self.stopping = self.stopping or self.is_asked_to_stop()
                if self._finished():
                    break
            # where it is to end before the step that it had reached
            if not self.stopping and self.position.evaluated_step != self.position.step:
                self._evaluate()
                self._save(planned=False)
            self.writer.finish()
            patience = self.recipe.training.patience
            if (
                patience is not None
                and self.position.worse_evaluations >= patience
                and self.accelerator.is_main_process
            ):
                say(
                    f"no better {self.evaluator.metric} in {patience} evaluations (training.patience), so training ends"
                )
        except UserError:  # of all processes
            self.writer.finish()
            raise
        except RuntimeError as error:
            if not is_of_a_lost_worker(error):
                raise
            if self.accelerator.num_processes == 1:
                self.writer.finish()
            raise UserError(
                f"batches.workers={self.recipe.batches.workers}: {reason(error).rstrip('. ')}, often for want of memory; "
                "the same command goes on from the last checkpoint"
            ) from None
        finally:
            progress.close()
        return self.position

    def request_stop(self, number: int, frame: Any) -> None:
        """A handler of signals: the step at work is finished, an evaluation is not."""
        self.stop_requested = True
        if self.is_scoring and self.accelerator.num_processes == 1:
            raise KeyboardInterrupt

    def is_asked_to_stop(self) -> bool:
        """Whether any process is. Every process asks."""
        asked = torch.tensor(float(self.stop_requested), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, "sum") > 0)

    def _evaluation_is_due(self) -> bool:
        training, position = self.recipe.training, self.position
        if training.evaluate_every is None and training.max_minutes is not None:
            apart = 60 * training.max_minutes / EVALUATIONS
            is_long_ago = position.seconds - position.evaluated_seconds >= apart
            return is_long_ago or position.step - position.evaluated_step >= self.interval
        return position.step % self.interval == 0

    def _save_is_due(self, evaluate: bool) -> bool:
        training, position = self.recipe.training, self.position
        if self.watch.is_skipping(position.step):  # if the weights are to blame, the checkpoint before is worth more
            return False
        if (
            training.save_minutes is not None
            and position.seconds - position.saved_seconds >= 60 * training.save_minutes
        ):
            return True
        if training.save_every is None:
            # also at the step at which it would have been evaluated, had the last one not been left out
            passed = position.step // self.interval > position.saved_step // self.interval
            return training.save_minutes is None and (evaluate or passed)
        return position.step // training.save_every > position.saved_step // training.save_every

    def _finished(self) -> bool:
        return self.stopping or self._is_at_end()

    def _is_at_end(self) -> bool:
        training, position = self.recipe.training, self.position
        return (
            (training.max_steps is not None and position.step >= training.max_steps)
            or (training.max_epochs is not None and position.epoch >= training.max_epochs)
            or (training.max_minutes is not None and position.seconds >= 60 * training.max_minutes)
            or (training.patience is not None and position.worse_evaluations >= training.patience)
        )

    def _seed(self) -> None:
        """Dropout at a step depends on (seed, step, rank) alone, so a resumed run draws the same numbers."""
        key = (self.recipe.seed * 1_000_003 + self.position.step) * 4099 + self.engine.part
        torch.manual_seed(key % 2**63)

    def step(self, micro_batches: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
        """One optimiser step on this process's micro-batches; loss, norm and speed are of the global batch."""
        started = time.perf_counter()
        accelerator, optimization = self.accelerator, self.recipe.optimization
        self.model.train()
        labels = sum(self._count_labels(batch) for batch in micro_batches)
        tokens = sum(self.preprocessor.tokens(batch) for batch in micro_batches)
        if accelerator.device.type == "cuda":  # or it would wait for each copy
            micro_batches = [{name: value.pin_memory() for name, value in batch.items()} for batch in micro_batches]
        micro_batches = send_to_device(micro_batches, accelerator.device, non_blocking=True)
        # one reduction for all that the processes must agree on; those that split a model have the same batch
        same = accelerator.num_processes // self.engine.data_size
        counts = [
            labels / same,
            tokens / same,
            float(self.stop_requested),
            float(self.writer.is_writing),
            self.elapsed / accelerator.num_processes,
        ]
        totals = accelerator.reduce(torch.tensor(counts, device=accelerator.device), "sum")
        global_labels, global_tokens, stop, writing, seconds = totals.tolist()
        self.stopping = stop > 0
        self.position.seconds += seconds
        if not writing:
            self.writer.finish()

        # gradients are averaged over processes, so the sum of losses is divided by this process's even share of labels
        num_items = max(1.0, global_labels) / self.engine.parts
        self.engine.settle(micro_batches[0])
        self._seed()
        loss_options = {"label_smoothing": optimization.label_smoothing, "z_loss": optimization.z_loss}
        loss = torch.zeros((), device=accelerator.device)
        for number, batch in enumerate(micro_batches, start=1):
            with self.engine.share_of(batch, is_last=number == len(micro_batches)) as mine:
                output = self.model(**mine, num_items_in_batch=num_items, **loss_options)
                accelerator.backward(output.loss)
            loss += output.loss.detach()
        norm = accelerator.clip_grad_norm_(self.model.parameters(), optimization.max_grad_norm or math.inf)
        # all processes have these numbers alike, so they take the step or leave it out together
        mean_loss, own_norm = accelerator.reduce(torch.stack([loss, local(norm).to(loss)]), "mean").tolist()
        learning_rate = self.optimizers[0].param_groups[0]["lr"]
        self.position.step += 1
        # with fp16, the scaler skips steps whose gradient is not finite, and lowers the scale
        fault = self.watch.fault(self.position.step, mean_loss, own_norm if accelerator.scaler is None else 0.0)
        for optimizer in self.optimizers:
            if fault is None:
                optimizer.step()
            optimizer.zero_grad()
        if fault is not None and accelerator.scaler is not None:
            accelerator.scaler.update()
        self.schedule.set(self.position.step, self.planned_steps())
        self.elapsed = time.perf_counter() - started
        return self.watch.measured(fault) | {
            "step": self.position.step,
            "loss" if fault is None else "skipped_loss": mean_loss,
            "learning_rate": learning_rate,
            "grad_norm": norm,
            "tokens_per_second": global_tokens / self.elapsed,
            "tokens": global_tokens,
            "labels": global_labels,
        }

    def _count_labels(self, batch: dict[str, torch.Tensor]) -> int:
        return sum(int(labelled(batch[name]).sum()) for name in self.preprocessor.label_names)

    def _measured(self, values: dict[str, Any], batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        """The values of a step as numbers, with the speed. Every process asks.

        The loss is that of all labels since the last line: one batch holds rows of like length, and says little alone.
        """
        tokens = self.preprocessor.tokens(batch)
        mfu = self.meter.mfu(self.model, batch, tokens, values["tokens_per_second"])
        if "loss" in values:
            losses, labels = np.transpose(self.taken)
            values["loss"] = float(np.average(losses, weights=np.maximum(labels, 1)))
            self.taken.clear()
        return values | {"grad_norm": full(values["grad_norm"]).item(), "mfu": mfu, "seconds": self.position.seconds}

    def _require_finite(self) -> None:
        """Raises a UserError on every process where a weight or a moment of any is not finite, before anything is written."""
        if self.finite_step == self.position.step:
            return
        finite = all_finite(self.model, self.engine.optimizers)
        broken = self.accelerator.reduce(torch.tensor(float(not finite), device=self.accelerator.device), "sum")
        if broken > 0:
            raise self._diverged("weights or moments are not finite")
        self.finite_step = self.position.step

    def _diverged(self, what: str, micro_batches: list[dict[str, torch.Tensor]] | None = None) -> UserError:
        kept = ""
        if micro_batches is not None:
            folder = self.run_folder.skipped_step(self.position.step)
            keep_batch(folder / f"rank-{self.accelerator.process_index}.safetensors", micro_batches)
            kept = f"{self.watch.summary}, the batch of this one is in {folder}, "
        return UserError(
            f"step {self.position.step}: {what}, so training stops here; {kept}checkpoints up to now are kept. Lower "
            f"optimization.learning_rate={self.recipe.optimization.learning_rate} or lengthen the warm-up; the same command "
            "then goes on from the last checkpoint"
        )

    def _evaluate(self) -> None:
        """Loss and scores on the validation split; keeps the model if it is the best so far. Where the run is asked to stop
        meanwhile, it is left to be done when the run goes on."""
        started = time.perf_counter()
        self.position.to_evaluate = True
        if self.stopping:
            return
        self._require_finite()
        with self.engine.whole() as model:  # processes need not take as many batches
            model.eval()
            found = self._scores(model)
            self.position.to_evaluate = self.stopping = found is None
            if found is None:
                return
            loss, scores = found
            values: dict[str, Any] = {"step": self.position.step, "validation_loss": loss}
            values |= {f"validation_{key}": value for key, value in scores.items() if isinstance(value, int | float)}
            values["evaluation_seconds"] = time.perf_counter() - started
            is_best = self.position.take_score(values[f"validation_{self.evaluator.metric}"], loss, self.evaluator)
            if is_best:
                self._write_best(model)
        self.accelerator.wait_for_everyone()
        self.log.write(values)
        if self.accelerator.is_main_process:
            shown = "  ".join(
                f"{key.removeprefix('validation_')} {value:.4g}"
                for key, value in values.items()
                if key.startswith("validation_") and key.count("/") < 2  # those of parts of parts are for the log
            )
            best = "  (best so far)" if is_best else ""
            say(f"validation at step {self.position.step}: {shown}{best}  in {duration(values['evaluation_seconds'])}")

    def _scores(self, model: PreTrainedModel) -> tuple[float, dict[str, Any]] | None:
        """Loss and scores; None where the run is asked to stop meanwhile."""
        self.evaluator.before_batch = self._leave_where_asked
        try:
            try:
                self.is_scoring = True
                if self.is_asked_to_stop():
                    raise KeyboardInterrupt
                scores = self.evaluator.evaluate(model, final=False)
                # what generates does not see the labels on the way
                return scores.pop("loss") if "loss" in scores else self.evaluator.loss(model), scores
            finally:
                self.is_scoring = False
        except KeyboardInterrupt:
            return None
        finally:
            self.evaluator.before_batch = None  # it holds the model

    def _leave_where_asked(self) -> None:
        """Processes that work together leave together."""
        if self.accelerator.num_processes > 1 and self.is_asked_to_stop():
            raise KeyboardInterrupt

    def _write_best(self, model: PreTrainedModel) -> None:
        best, finished = self.run_folder.best, self.run_folder.finished
        # a run that was at its end, and was lengthened, may hold the mean of checkpoints there, which may be better yet
        if on_first(self.accelerator, lambda: bool(best.read_results()), patient=False):
            copy = partial(shutil.copytree, best.path, dirs_exist_ok=True)
            write_once(self.accelerator, finished.path, copy, patient=False)
        write_once(self.accelerator, best.path, lambda folder: self._write_model(folder, None, model), patient=False)

    def _write_model(
        self, folder: Path, weights: dict[str, torch.Tensor] | None, model: PreTrainedModel | None = None
    ) -> None:
        self.engine.save(folder, weights, model)
        self.preprocessor.save(folder)

    def _save(self, planned: bool) -> None:
        """Begin to write a checkpoint; it takes its place some steps later, or at the end."""
        self._require_finite()
        if planned:
            self.position.saved_step, self.position.saved_seconds = self.position.step, self.position.seconds
        scaler = self.accelerator.scaler
        seconds = self.writer.begin(
            self.position.step,
            {
                "position": asdict(self.position),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "data": self.data.state(),
                "validation": fingerprint(self.evaluator.split.examples),
                "watch": self.watch.state(),
                "taken": self.taken,
            },
            self._write_model,
            planned,
        )
        self.log.write({"step": self.position.step, "checkpoint_seconds": seconds})
