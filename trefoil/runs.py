"""`trefoil.train`: a run from Python; and what a person wants to know at its end."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .configuration.errors import UserError

if TYPE_CHECKING:
    from .recipes.schema import Recipe


def train(recipe: "str | os.PathLike | Mapping[str, Any] | Recipe", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Runs a recipe, or goes on where it was left: `trefoil.train("my-recipe.yaml")["test"]`.

    Args:
        recipe: A YAML file, the name of a recipe that comes with the package, or what such a file would say.
        overrides: `key.sub=value`, as on the command line: `["training.max_steps=1000"]`.

    Returns:
        The content of `results.json`: `steps`, `weights` (of which step the model is), the scores of `validation` and, where
        there is one, of `test`, and `metrics`, each with all that is needed to measure it again. The model is in the folder
        `best` of the recipe's `output_dir`; `trefoil.load(output_dir)` loads it.

    Raises:
        UserError: Anything that the recipe or the data got wrong; of several mistakes a line each.
        ModuleNotFoundError: A package of the extra `train` is not installed.
    """
    from .recipes.schema import Recipe, load_recipe

    read = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    try:
        from .training.run import train as run
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(what_to_install("trefoil.train", error), name=error.name) from None
    return run(read)


def what_to_install(user: str, error: ModuleNotFoundError, extra: str = "train") -> str:
    """A line on what `user` needs and which extra of the package brings.

    Raises:
        ModuleNotFoundError: It is a module of this package that is not there.
    """
    missing = (error.name or __package__).partition(".")[0]
    if missing == __package__:
        raise error
    return f"{user} needs {missing}: pip install 'trefoil-transformers[{extra}]'"


def summary(results: Mapping[str, Any], folder: Path) -> list[str]:
    """Lines on what a run has come to, where it is, and what to type next.

    Args:
        results: As of `train`.
        folder: The run's.
    """
    from .data.progress import duration
    from .hub.publish import must_be_merged

    lines = [
        f"{shown_scores(results)} ({results['weights']} of {results['steps']:,}, "
        f"{duration(results['training_seconds'])} of training)",
        f"the model, its results and its curve are in {folder / 'best'}",
    ]
    place = shlex.quote(str(folder))
    asked, is_published = _asked(folder)
    lines.append(f"use it:      trefoil predict {place} {asked}")
    if is_published:
        target = shlex.quote(f"published/{folder.resolve().name}")
        lines.append(f"publish it:  trefoil publish {place} {target}{' --merge' if must_be_merged(folder) else ''}")
    return lines


def shown_scores(results: Mapping[str, Any], first: str | None = None) -> str:
    """What a model scored on the test split or, where there is none, on the other: `test: accuracy 91.25, macro_f1 90.80`.

    Args:
        results: As of `train`.
        first: The score to begin with.
    """
    split = next((split for split in ("test", "validation") if results.get(split)), None)
    if split is None:
        return "no results"
    scores = {
        name: value
        for name, value in results[split].items()
        if "/" not in name and isinstance(value, float) and name != "loss"
    }
    names = sorted(scores, key=lambda name: name != first)
    return f"{split}: " + ", ".join(f"{name} {shown_score(scores[name])}" for name in names)


def shown_score(score: float, sign: str = "") -> str:
    """With two places, or three figures where it is so small that little would be left of it.

    Args:
        sign: `+` to say that of positive ones, too.
    """
    return f"{score:{sign}.3g}" if 0 < abs(score) < 0.1 else f"{score:{sign}.2f}"


def _asked(folder: Path) -> tuple[str, bool]:
    """An example of what the model is asked, as arguments of `trefoil predict`, and whether it can be published."""
    from .hub.space import metadata_of_run

    try:
        metadata = metadata_of_run(folder / "best", title="")
    except UserError:  # of stock models that see
        return "picture.png", False
    if metadata.get("pipeline_tag") == "image-to-text":
        return "picture.png", True
    (example,) = metadata.get("widget") or [{}]
    if "context" in example:
        return f"--question {shlex.quote(example['text'])} --context {shlex.quote(example['context'])}", True
    if "text_pair" in example:
        return "--input pairs.csv --column text=TEXT text_pair=TEXT", True
    return shlex.quote(example.get("text", "TEXT")), True
