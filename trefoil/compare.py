"""`trefoil compare`: two models on the same examples, and what can be concluded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from .configuration.errors import UserError
from .data.progress import say
from .evaluation import recipe_of_file
from .predict import model_folder
from .recipes.reading import read_mapping
from .recipes.schema import Recipe, build
from .report import Group, groups_of, table
from .runs import shown_score
from .tasks.metrics.paired import CONFIDENCE, difference, is_sure, mcnemar
from .tasks.metrics.translation import bleu_tokenizer
from .tasks.reader import Reader
from .training.measured import predictions_of
from .training.run import make_reader, measure
from .training.run_folder import RunFolder


@dataclass(frozen=True)
class Side:
    """What one of the two said.

    Attributes:
        name: What it is called in messages.
        reader: Of the rows.
        groups: The examples, as they are scored together.
    """

    name: str
    reader: Reader
    groups: list[Group]


def compare(names: Sequence[str], data: str | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """
    Args:
        names: Two models or, without data, two folders that hold what was said.
        data: A file, as of `trefoil evaluate`.
        overrides: `key.sub=value` for the recipes of both models.

    Returns:
        `models`, `task`, `scores` (of each metric: `metric`, `examples`, `scores` of both, `difference` and perhaps `direction`,
        `interval`, `p_value`, `test`), and `conclusion`.

    Raises:
        UserError: They are of different tasks or examples, or say nothing of examples.
    """
    if data is None:
        one, other = map(said_in, names)
    else:
        folders = [model_folder(name) for name in names]
        recipes = [recipe_of_file(folder, data, overrides) for folder in folders]
        for note in dict.fromkeys(note for _, notes in recipes for note in notes):
            say(note)
        one, other = (
            said_by(name, folder, recipe) for name, folder, (recipe, _) in zip(names, folders, recipes, strict=True)
        )
    if one.reader.task.name != other.reader.task.name:
        raise UserError(f"{one.name} is for {one.reader.task.name}, {other.name} for {other.reader.task.name}")
    for side in (one, other):
        if not side.groups:
            raise UserError(
                f"{side.name}: the task {side.reader.task.name} says nothing of single examples, so there is nothing to compare"
            )
    _require_same(one, other)
    found = [score for pair in zip(one.groups, other.groups, strict=True) for score in _scores(*pair)]
    return {
        "models": list(names),
        "task": one.reader.task.name,
        "scores": found,
        "conclusion": " ".join(conclusion(score) for score in found if "interval" in score),
    }


def said_by(name: str, folder: Path | str, recipe: Recipe) -> Side:
    """A model, on the rows that a recipe names as its test split."""
    measured = measure(folder, recipe, "test")
    reader = measured.evaluator.reader
    return Side(name, reader, groups_of(reader, predictions_of(measured)))


def said_in(name: str) -> Side:
    """What lies in the folder of a run or of an evaluation.

    Raises:
        UserError: Nothing that could be compared.
    """
    folder = RunFolder(name)
    if not (folder.recipe.is_file() and folder.predictions.is_file()):
        raise UserError(
            f"{name}: holds no {folder.recipe.name} with {folder.predictions.name}, as a run does and what trefoil evaluate -o "
            "writes; of models, say on which rows with --data FILE"
        )
    reader = make_reader(build(Recipe, *read_mapping(folder.recipe)))
    try:
        lines = [json.loads(line) for line in folder.predictions.read_bytes().splitlines()]
        groups = groups_of(reader, lines)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder.predictions}: is damaged ({error}); evaluate the model again") from None
    if lines and not groups and reader.task.measure is not None:
        raise UserError(f"{folder.predictions}: does not say what is right; evaluate the model again")
    return Side(name, reader, groups)


def _require_same(one: Side, other: Side) -> None:
    names = [[group.name for group in side.groups] for side in (one, other)]
    if names[0] != names[1]:
        raise UserError(f"{one.name} translates {', '.join(names[0])}, {other.name} {', '.join(names[1])}")
    for mine, theirs in zip(one.groups, other.groups, strict=True):
        counts = len(mine.references), len(theirs.references)
        if counts[0] != counts[1]:
            raise UserError(
                f"{one.name} and {other.name} were asked {counts[0]:,} and {counts[1]:,} examples, not the same"
            )
        pairs = zip(
            zip(mine.references, mine.lengths, strict=True),
            zip(theirs.references, theirs.lengths, strict=True),
            strict=True,
        )
        for number, (this, that) in enumerate(pairs, start=1):
            if this != that:
                raise UserError(
                    f"{one.name} and {other.name} were asked different examples; the first is number {number:,}"
                )


def _scores(one: Group, other: Group) -> list[dict[str, Any]]:
    """The metrics of a group, the usual one first."""
    measure = one.measure
    what = ({"direction": one.name} if one.name else {}) | {"examples": len(one.references)}
    parts = [measure.parts(group.references, group.predictions) for group in (one, other)]  # type: ignore[misc]
    found = difference(measure, parts[:1], parts[1:])
    score = {
        **what, "metric": measure.name, "scores": [found.ours, found.theirs], "difference": found.value,
        "interval": found.over_examples and list(found.over_examples), "is_sure": is_sure(found),
        "is_minimized": measure.is_minimized,
    }  # fmt: skip
    if measure.is_share:
        return [score | {"p_value": mcnemar(*parts), "test": "McNemar, exact"}]
    if measure.name != "bleu":
        return [score]
    test: Any = PairedTest(
        [("one", one.predictions), ("other", other.predictions)],
        {"BLEU": BLEU(tokenize=bleu_tokenizer(one.language)), "chrF": CHRF()},
        [one.references],
        test_type="bs",
    )
    signatures, tested = test()
    bleu, chrf = ({"scores": [each.score for each in tested[name]], "p_value": tested[name][1].p_value,
        "test": f"sacreBLEU, paired bootstrap: {signatures[name]}"} for name in signatures)  # fmt: skip
    difference_of_chrf = chrf["scores"][0] - chrf["scores"][1]
    return [score | bleu, {**what, "metric": "chrf", "difference": difference_of_chrf, **chrf}]


def conclusion(score: dict[str, Any]) -> str:
    """What a difference says, in one sentence."""
    where = f" ({score['direction']})" if "direction" in score else ""
    name, value, p_value = score["metric"], score["difference"], score.get("p_value")
    if score["interval"] is None:
        return f"One example{where} tells nothing."
    low, high = score["interval"]
    told = f"{CONFIDENCE:.0%} interval {_span(low, high)}" + ("" if p_value is None else f", p = {p_value:.3g}")
    if score["is_sure"] and (p_value is None or p_value < 1 - CONFIDENCE):
        better, worse = ("B", "A") if (value > 0) == score["is_minimized"] else ("A", "B")
        return f"{better} is better than {worse}{where}: by {shown_score(abs(value))} {name} ({told})."
    return f"These {score['examples']:,} examples do not tell which is better{where}: they differ by {shown_score(abs(value))} {name} ({told})."


def _span(low: float, high: float) -> str:
    return f"{shown_score(low, '+')} to {shown_score(high, '+')}"


def lines_of(found: dict[str, Any]) -> list[str]:
    """A comparison, as it is read."""
    rows = []
    for score in found["scores"]:
        interval, p_value = score.get("interval"), score.get("p_value")
        rows.append(
            [
                " ".join(filter(None, (score.get("direction"), score["metric"]))),
                f"{score['examples']:,}",
                *map(shown_score, score["scores"]),
                shown_score(score["difference"], "+"),
                "" if interval is None else _span(*interval),
                "" if p_value is None else f"{p_value:.3g}",
            ]
        )
    tests = dict.fromkeys(f"p: {score['test']}" for score in found["scores"] if "test" in score)
    return [
        *(f"{letter}: {name}" for letter, name in zip("AB", found["models"], strict=True)),
        found["task"],
        "",
        *table(["", "examples", "A", "B", "A - B", f"{CONFIDENCE:.0%} interval", "p"], rows),
        *tests,
        "",
        found["conclusion"],
    ]
