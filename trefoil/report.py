"""What `trefoil evaluate` tells: scores, the same by parts of the rows, and of labels which are taken for which; as tables, JSON
and files."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.metrics

from .configuration.errors import UserError
from .data.whole_files import require_writable, write_folder
from .recipes.schema import Recipe
from .records import as_json
from .tasks.labelled import LabelledPreprocessor
from .tasks.metrics.classification import calibration, label_scores
from .tasks.metrics.paired import ACCURACY, MICRO_F1, Measure
from .tasks.metrics.tagging import type_scores
from .tasks.reader import Reader
from .tasks.translation import TranslationReader
from .training.measured import Measured, name_in_line, predictions_of, write_predictions
from .training.run_folder import RunFolder
from .visualization.quality import confusion_picture, reliability_picture

QUARTILES = (0.25, 0.5, 0.75)
RESULTS, CONFUSION, RELIABILITY = "results.json", "confusion.png", "reliability.png"
SHOWN = 30  # labels in a table; results.json has all


@dataclass(frozen=True)
class Group:
    """Examples that are scored together: all or, of a translation both ways, those of one direction.

    Attributes:
        name: Of the direction; empty where there is one.
        measure: What scores them.
        lengths: Of what the model is given, in characters.
        language: Of the target, where it is known.
    """

    name: str
    measure: Measure
    lengths: list[int]
    references: list[Any]
    predictions: list[Any]
    language: str | None = None


def groups_of(reader: Reader, lines: Sequence[Mapping[str, Any]]) -> list[Group]:
    """
    Args:
        lines: Of `predictions.jsonl`.

    Returns:
        None of a language model, nor of a task that says nothing of examples.
    """
    task = reader.task
    if task.measure is None or not lines or "reference" not in lines[0]:
        return []
    if not isinstance(reader, TranslationReader):
        references = [line["reference"] for line in lines]
        measure = task.measure(references, None)
        return [
            Group("", measure, _lengths(reader, task.asked, lines), references, [one["prediction"] for one in lines])
        ]
    groups = []
    for number, direction in enumerate(reader.directions):
        name = "-".join(direction) if reader.options.directions else ""
        chosen = [line for line in lines if not name or name in line["prediction"]]
        references, predictions = (
            [line[key][name] if name else line[key] for line in chosen] for key in ("reference", "prediction")
        )
        language = reader.target_language(number)
        measure, lengths = task.measure(references, language), _lengths(reader, direction[:1], chosen)
        if chosen:
            groups.append(Group(name, measure, lengths, references, predictions, language))
    return groups


def _lengths(reader: Reader, roles: Iterable[str], lines: Sequence[Mapping[str, Any]]) -> list[int]:
    columns = [name_in_line(column) for role in roles if (column := reader.column(role)) is not None]
    return [sum(sum(map(len, line[column])) for column in columns) for line in lines]


def report_of(measured: Measured, model: str) -> dict[str, Any]:
    """What stands in `results.json` of an evaluation.

    Args:
        model: What the model is called.
    """
    split, reader = measured.evaluator.split, measured.evaluator.reader
    lines = predictions_of(measured)
    groups = groups_of(reader, lines)
    report: dict[str, Any] = {
        "model": model, "task": reader.task.name, "data": split.name, "examples": len(split.rows), "scores": measured.scores,
    }  # fmt: skip
    slices = {" ".join(filter(None, ("length", group.name))): by_length(group) for group in groups if reader.task.asked}
    if slices := {name: parts for name, parts in slices.items() if len(parts) > 1}:
        report["slices"] = slices
    if groups and isinstance(preprocessor := measured.evaluator.preprocessor, LabelledPreprocessor):
        probabilities = [one.get("score") for one in measured.details or []]
        report |= _of_labels(groups[0], preprocessor.labels, probabilities)
    return report


def by_length(group: Group) -> list[dict[str, Any]]:
    """The score of each quarter of the examples, from the shortest to the longest."""
    parts = group.measure.parts(group.references, group.predictions)  # type: ignore[misc]
    lengths = np.array(group.lengths)
    quarter = np.searchsorted(np.unique(np.quantile(lengths, QUARTILES, method="lower")), lengths)
    found = []
    for one in np.unique(quarter):
        chosen = quarter == one
        shortest, longest = int(lengths[chosen].min()), int(lengths[chosen].max())
        score = {group.measure.name: group.measure.of(parts[chosen])}
        found.append({"from": shortest, "to": longest, "examples": int(chosen.sum()), **score})
    return found


def _of_labels(group: Group, labels: list[str], probabilities: Sequence[float | None]) -> dict[str, Any]:
    references, predictions = group.references, group.predictions
    if group.measure not in (ACCURACY, MICRO_F1):
        return {"labels": type_scores(references, predictions)} if isinstance(references[0], list) else {}
    found: dict[str, Any] = {"labels": label_scores(references, predictions, labels)}
    if group.measure is ACCURACY:
        counts = sklearn.metrics.confusion_matrix(references, predictions, labels=labels).tolist()
        found["confusion"] = {"labels": labels, "counts": counts}
        known = [one for one in probabilities if one is not None]
        if len(known) == len(references):
            right = [true == said for true, said in zip(references, predictions, strict=True)]
            found["calibration"] = calibration(known, right)
    return found


# --- files


def require_own(folder: Path) -> None:
    """
    Raises:
        UserError: The folder holds something else than an evaluation, or cannot be made.
    """
    if folder.is_dir():
        own = {RESULTS, CONFUSION, RELIABILITY, RunFolder(folder).recipe.name, RunFolder(folder).predictions.name}
        there = {entry.name for entry in folder.iterdir()}
        if others := sorted(there - own) or (sorted(there) if RESULTS not in there else []):
            raise UserError(f"{folder}: holds {others[0]}, which is of no evaluation; name another folder")
    elif folder.exists():
        raise UserError(f"{folder}: is a file; name a folder")
    else:
        require_writable(folder)


def write_report(folder: Path, report: dict[str, Any], measured: Measured | None = None) -> None:
    """Write `results.json` and, of what was measured on rows, `predictions.jsonl`, `recipe.yaml`, which says how, and pictures
    of labels."""

    def fill(new: Path) -> None:
        (new / RESULTS).write_text(as_json(report, indent=2) + "\n", encoding="utf-8")
        if measured is None:
            return
        recipe: Recipe = measured.evaluator.recipe
        RunFolder(new).recipe.write_text(recipe.to_yaml(), encoding="utf-8")
        write_predictions(RunFolder(new).predictions, measured)
        if "confusion" in report:
            confusion_picture(report["confusion"]["labels"], report["confusion"]["counts"], new / CONFUSION)
        if "calibration" in report:
            reliability_picture(report["calibration"], new / RELIABILITY)

    write_folder(folder, fill)


# --- tables


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """A report, as it is read."""
    lines = [
        f"{report['task']}, {report['examples']:,} examples of {report['data']}",
        "",
        *score_lines(report["scores"]),
    ]
    for name, parts in report.get("slices", {}).items():
        *_, score = parts[0]
        rows = [[f"{one['from']:,}–{one['to']:,}", f"{one['examples']:,}", _shown(one[score])] for one in parts]
        direction = name.removeprefix("length").strip()
        lines += ["", *table([f"{direction} characters".strip(), "examples", score], rows)]
    if labels := report.get("labels"):
        rows = [
            [one["label"], *(_shown(one[key]) for key in ("precision", "recall", "f1")), f"{one['support']:,}"]
            for one in labels[:SHOWN]
        ]
        lines += ["", *table(["label", "precision", "recall", "f1", "examples"], rows)]
        if len(labels) > SHOWN:
            lines.append(f"… {len(labels) - SHOWN:,} more in {RESULTS}")
    if "calibration" in report:
        error = report["calibration"]["expected_error"]
        lines += [
            "",
            f"expected calibration error {error:.2f} %: so far are probabilities from the share that is right",
        ]
    return lines


def score_lines(scores: Mapping[str, Any]) -> list[str]:
    """Names and values; of what holds others, those below its name."""
    flat = {name: value for name, value in scores.items() if not isinstance(value, Mapping)}
    lines = table(None, [[name, _shown(value)] for name, value in flat.items() if not isinstance(value, str)])
    lines += [f"{name}: {value}" for name, value in flat.items() if isinstance(value, str)]
    for name, value in scores.items():
        if isinstance(value, Mapping):
            lines += [*([""] if lines else []), f"{name}:", *(f"  {line}" for line in score_lines(value))]
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(header: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side: the first begins at the left, numbers end at the right."""
    every = [*([] if header is None else [header]), *rows]
    if not every:
        return []
    widths = [max(map(_width, column)) for column in zip(*every, strict=True)]
    lines = []
    for row in every:
        padded = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [row[0] + padded[0], *(space + cell for space, cell in zip(padded[1:], row[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _width(text: str) -> int:
    """On a terminal, where Korean takes two columns a character."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)
