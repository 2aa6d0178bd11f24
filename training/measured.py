"""What was found of a model on a split: scores, and what it said of each row."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..configuration.errors import UserError
from ..data.progress import say_once
from ..data.whole_files import require_writable, write_file
from ..tasks.evaluator import Evaluator


@dataclass(frozen=True)
class Measured:
    """How good a model is on a split, and what it said.

    Attributes:
        evaluator: With the split, raw and encoded.
        scores: As `results.json` has them.
        predictions: What it said of each row, in the order of the split's; None of a language model.
        details: What else it said of each row, by its name; None where there is nothing.
    """

    evaluator: Evaluator
    scores: dict[str, Any]
    predictions: list | None
    details: list[dict[str, Any]] | None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that tells and writes."""
        return self.evaluator.accelerator.is_main_process


def measured_of(evaluator: Evaluator, model: PreTrainedModel) -> Measured:
    """As the published model will be used."""
    found = evaluator.evaluate(model, final=True)
    return Measured(evaluator, scores_in(found), found.get("predictions"), found.get("details"))


def scores_in(found: dict[str, Any]) -> dict[str, Any]:
    """What stands in `results.json`, of what an evaluator gives."""
    return {key: value for key, value in found.items() if key not in ("predictions", "details")}


def name_in_line(column: str) -> str:
    """What a column of the data is called in a line of `predictions.jsonl`, of which two names are taken."""
    return f"given_{column}" if column in ("prediction", "reference") else column


def require_own_file(file: str | None) -> None:
    """
    Raises:
        UserError: Predictions that are to be written to a file, if there is one, cannot be, or it holds something else than such.
    """
    if file is None:
        return
    place = Path(file)
    require_writable(place)
    if os.path.exists(place) and place.stat().st_size and not _holds_predictions(place):
        raise UserError(f"{file}: holds something else than predictions; name another file")


def _holds_predictions(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as lines:
            return "prediction" in json.loads(next(lines))
    except (ValueError, TypeError, RecursionError):
        return False


def write_predictions(file: Path, measured: Measured) -> None:
    """One JSON object a line: the task's columns and the prediction. Nothing of a language model, nor by other processes."""
    if measured.predictions is not None and measured.is_first:
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in predictions_of(measured)]
        write_file(file, "".join(lines))


def predictions_of(measured: Measured) -> list[dict[str, Any]]:
    """The lines of `predictions.jsonl`: what was read, what was said, what is right. None of a language model."""
    if measured.predictions is None:
        return []
    evaluator = measured.evaluator
    reader, count = evaluator.reader, len(measured.predictions)
    references, details = evaluator.references(), measured.details or [{}] * count
    for column in reader.columns():
        if (name := name_in_line(column)) != column:
            say_once(f"{column!r} of the data is called {name!r} beside what the model says")
    lines = []
    for at, row in enumerate(evaluator.split.rows.select_columns(reader.columns())):
        read = {name_in_line(column): value for column, value in reader.shown(row).items()}
        line = read | {"prediction": measured.predictions[at]}
        if references is not None:
            line["reference"] = references[at]
        # a column of the same name keeps it
        lines.append(line | {f"predicted_{key}" if key in line else key: of for key, of in details[at].items()})
    return lines
