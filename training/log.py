"""What a run writes down of its steps: a line of JSON each, and the trackers that the recipe names."""

import json
from typing import Any

from accelerate import Accelerator

from .run_folder import RunFolder


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
        self.accelerator.log({f"train/{key}": value for key, value in numbers.items()}, step=step)
        if self.accelerator.is_main_process:
            with self.run_folder.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": step, **numbers}) + "\n")
