"""A run's folder: what is in it, whose it is, and whether a run may go on in it."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from ..configuration.errors import UserError
from ..recipes.schema import Recipe
from .checkpoints import checkpoint_folders, load_state, tidy
from .loop import LOG_FILE

# these may change when a run goes on: they say how long and how loud, not what
FREE_KEYS = {
    ("output_dir",), ("overwrite",), ("training", "max_steps"), ("training", "max_epochs"),
    ("training", "max_minutes"), ("training", "log_every"), ("training", "trackers"), ("batches", "workers"),
}  # fmt: skip

# what a run writes into its folder; nothing else there is ever deleted
RUN_FILES = (
    "recipe.yaml", "tokenizer", "checkpoints", "best", "averaged", LOG_FILE, "predictions.jsonl", "tracker",
)  # fmt: skip


def claim_folder(recipe: Recipe, folder: Path) -> None:
    """Make the output folder this run's, or find that it is already.

    Raises:
        UserError: It holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; set another output_dir")
    tidy(folder)
    tidy(folder / "checkpoints")
    file = folder / "recipe.yaml"
    if file.exists():
        difference = _difference(file, recipe)
        trained = checkpoint_folders(folder / "checkpoints") or (folder / "best").exists()
        if (difference and not trained) or (recipe.overwrite and (difference or _is_finished(folder))):
            for name in RUN_FILES:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif difference:
            raise UserError(
                f"{folder}: holds another run ({difference}); "
                "set another output_dir, or overwrite=true to delete that run"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty and holds no run of Trefoil; set another output_dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        recipe.save(file)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); set another output_dir") from None


def _difference(file: Path, recipe: Recipe) -> str | None:
    """In which key the run whose recipe lies there is another one than this."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict):
        return "its recipe.yaml cannot be read"
    there, here = flat(content, keep_none=True), flat(recipe.to_dict(), keep_none=True)
    free = {".".join(key) for key in FREE_KEYS}
    for key in sorted((set(there) | set(here)) - free):
        if there.get(key) != here.get(key):
            return f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
    return None


def _is_finished(folder: Path) -> bool:
    """Whether the run was measured after its last step."""
    checkpoints = checkpoint_folders(folder / "checkpoints")
    results = read_results(folder / "best")
    return bool(checkpoints) and results.get("steps") == load_state(checkpoints[-1])["step"]


def flat(content: dict[str, Any], prefix: str = "", keep_none: bool = False) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.", keep_none)
        elif keep_none or isinstance(value, bool | int | float | str):
            values[f"{prefix}{key}"] = value
        else:
            values[f"{prefix}{key}"] = str(value)
    return values


def read_results(folder: Path) -> dict[str, Any]:
    """What `results.json` says of the model in a folder; nothing where there is none."""
    file = folder / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
