"""What a run writes down of its steps: a line of JSON each, and the trackers that the recipe names."""

import json
from collections.abc import Callable
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from ..configuration.errors import reason
from ..data.progress import say
from ..data.whole_files import not_written
from .run_folder import KEPT, RunFolder


def start_trackers(accelerator: Accelerator, name: str, config: dict[str, Any]) -> None:
    """Have the trackers that the recipe names begin; without them the run goes on, too."""
    try:
        accelerator.init_trackers(name, config=config)
    except Exception as error:
        accelerator.trackers.clear()
        _tell("training.trackers", error)


def each_tracker(accelerator: Accelerator, work: Callable[[GeneralTracker], object]) -> None:
    """Have each tracker do something. One that fails is told of, and let go; training goes on."""
    for tracker in [*accelerator.trackers]:
        try:
            work(tracker)
        except Exception as error:
            accelerator.trackers.remove(tracker)
            _tell(tracker.name, error)


def end_training(accelerator: Accelerator) -> None:
    each_tracker(accelerator, lambda tracker: tracker.finish())
    accelerator.trackers.clear()
    accelerator.end_training()


def _tell(tracker: str, error: Exception) -> None:
    say(f"{tracker}: fails ({reason(error)}), and is left out from here on; the run goes on, and log.jsonl holds all")


class TrainingLog:
    """
    Args:
        step: The last one of the checkpoint that the run goes on from; what was logged after it is dropped.
    """

    def __init__(self, accelerator: Accelerator, run_folder: RunFolder, step: int) -> None:
        self.accelerator, self.run_folder = accelerator, run_folder
        if accelerator.is_main_process:
            run_folder.trim_log(step)

    def write(self, values: dict[str, Any]) -> None:
        """The numbers among the values of a step."""
        step = values["step"]
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float) and key != "step"}
        tracked = {f"train/{key}": value for key, value in numbers.items()}
        each_tracker(self.accelerator, lambda tracker: tracker.log(tracked, step=step))
        if self.accelerator.is_main_process:
            try:
                with self.run_folder.log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"step": step, **numbers}) + "\n")
            except OSError as error:
                raise not_written(self.run_folder.log, error, KEPT) from None
