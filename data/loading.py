"""Examples: from the Hub, from local files or generated, checked before any work is done."""

import re
from collections.abc import Callable
from pathlib import Path

import datasets

from ..configuration.errors import UserError, reason
from ..recipes.schema import DataRecipe
from .embedded import DEFAULT_SIZES, load_embedded
from .formats import FORMATS, aligned, pictures, suffix_of
from .formats.reading import READING_ERRORS


def load_split(recipe: DataRecipe, split: str, columns: list[str], task: str, seed: int) -> datasets.Dataset:
    """One split, with at least `columns`.

    Raises:
        UserError: No such split, an empty split, a file that is not UTF-8 or not well-formed, a missing column; the
            message names file, line and column.
    """
    whole, part = split_part(split)
    if recipe.path is not None:
        dataset, where = _load_files(Path(recipe.path), whole, columns)
    elif recipe.embedded:
        sizes = recipe.embedded_sizes or DEFAULT_SIZES
        wanted = {name: size if name == whole else 0 for name, size in sizes.items()}  # all names are checked
        try:
            splits = load_embedded(task, seed=seed, sizes=wanted)  # type: ignore[arg-type]
        except ValueError as error:
            raise UserError(f"data.embedded_sizes={recipe.embedded_sizes}: {error}") from None
        if whole not in splits:
            raise UserError(f"the embedded data has no split {whole!r}; there are {', '.join(splits)}")
        dataset, where = splits[whole], f"embedded data, split {whole!r}"
    else:
        dataset, where = _load_from_hub(recipe, whole)
    if part is not None:
        dataset = dataset.select(range(len(dataset))[part(len(dataset))])
    missing = [name for name in columns if name not in dataset.column_names]
    if missing:
        raise UserError(f"{where}: no column {missing[0]!r}; there are {', '.join(dataset.column_names)}")
    if len(dataset) == 0:
        raise UserError(f"{where}: the split {split!r} is empty; it needs at least one example")
    return dataset


def split_part(split: str) -> tuple[str, Callable[[int], slice] | None]:
    """`train[:90%]` as the name of the whole split and which of its rows are meant, given how many there are.

    Raises:
        UserError: The part is not of the form that `datasets` has for it.
    """
    if not split.endswith("]"):
        return split, None
    whole, _, part = split[:-1].partition("[")
    bounds = part.split(":")
    if len(bounds) != 2 or not all(re.fullmatch(r"(\d+%?)?", bound) for bound in bounds):
        raise UserError(f"split {split!r}: a part is written like train[:90%], train[90%:] or train[1000:2000]")

    def rows(size: int) -> slice:
        ends = [round(size * int(end[:-1]) / 100) if end.endswith("%") else int(end or -1) for end in bounds]
        return slice(max(ends[0], 0), size if bounds[1] == "" else ends[1])

    return whole, rows


def split_name(recipe: DataRecipe, split: str) -> str:
    """What to call a split in messages: its file, where there is one."""
    if recipe.path is not None:
        path, whole = Path(recipe.path), split_part(split)[0]
        return str(split_file(path, whole) or _aligned_name(path, whole))
    return f"{'embedded data' if recipe.embedded else recipe.name} ({split})"


def _load_from_hub(recipe: DataRecipe, split: str) -> tuple[datasets.Dataset, str]:
    where = f"data set {recipe.name!r}"
    try:
        return datasets.load_dataset(recipe.name, recipe.config, split=split, revision=recipe.revision), where
    except READING_ERRORS as error:
        raise UserError(f"{where}, split {split!r}: {reason(error)}; give local files with data.path=FOLDER") from None


def split_file(path: Path, split: str) -> Path | None:
    """The file of a split, if it is in one: `path` itself if it is a file, else `split.*` in the folder, or a folder of
    that name with pictures and what goes with them.

    Raises:
        UserError: No such `path`, or more than one file.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; data.path is a folder with files such as {split}.jsonl")
    found = [f for f in sorted(path.iterdir()) if f.name.startswith(f"{split}.") and suffix_of(f) in FORMATS]
    if not found and pictures.is_folder_of_pictures(path / split):
        return path / split
    if len(found) > 1:
        raise _wrong_files(path, split, "more than one file")
    return found[0] if found else None


def _wrong_files(path: Path, split: str, problem: str, remedy: str = "") -> UserError:
    names = ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"
    return UserError(
        f"{path}: {problem} for the split {split!r} ({split}.jsonl, .csv, .parquet …, {split}/metadata.jsonl with pictures); it holds {names}{remedy}"
    )


def _of_another(path: Path, split: str) -> str:
    """How to take a split that has no file from the one that is there to train on."""
    if split == "train" or split_file(path, "train") is None:
        return ""
    if split == "test":
        return "; data.test_split=null leaves it out"
    return f"; data.train_split=train[:90%] data.{split}_split=train[90%:] takes it from train"


def _aligned_name(path: Path, split: str) -> Path:
    return path / f"{split}.*"


def _load_files(path: Path, split: str, columns: list[str]) -> tuple[datasets.Dataset, str]:
    file = split_file(path, split)
    if file is None:
        files = aligned.find(path, split, columns)
        if not files:
            raise _wrong_files(path, split, "no file", _of_another(path, split))
        return aligned.load(files), str(_aligned_name(path, split))
    if file.is_dir():
        return pictures.load(file, columns), str(file)
    if suffix_of(file) not in FORMATS:
        raise UserError(f"{file}: unknown kind {suffix_of(file)!r}; there are {', '.join(FORMATS)}, each also with .gz")
    return FORMATS[suffix_of(file)](file, columns), str(file)
