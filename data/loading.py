"""Examples: from the Hub, from local files or generated, checked before any work is done."""

import glob
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..configuration.errors import UserError, reason
from ..recipes.schema import DataRecipe, SourceRecipe, source_names
from .embedded import DEFAULT_SIZES, load_embedded
from .formats import FORM, FORMATS, aligned, load_file, pictures, suffix_of
from .formats.delimited import delimiter_of, open_table
from .formats.reading import READING_ERRORS, encoding_of
from .splitting import assignment
from .streaming import SOURCE, columns_of

NUMBER = "number of the row"  # a column beside those of the rows: where each stands in what it was cut from


def load_rows(
    recipe: DataRecipe, split: str, columns: dict[str, str], task: str, seed: int, to_train: bool = False
) -> datasets.Dataset:
    """One split, of one place or joined of the sources, with at least `columns`; joined rows also have the column SOURCE, and
    rows of a split that is cut from another NUMBER.

    Args:
        columns: The role of each column that the task reads -> its name. What is cut is stratified by that of `label`.
        to_train: Of a source, the split that it names itself.

    Raises:
        UserError: As of `load_split`; or no source has the split.
    """
    if recipe.is_joined or (to_train and recipe.sources):
        return _joined(recipe, split, columns, task, seed, to_train)
    whole, part = split_part(split)
    if recipe.shares and (whole in (recipe.train_split, *recipe.shares) or Path(recipe.path or "").is_file()):
        rows = _cut(recipe, whole, columns, task, seed)
    else:
        rows = load_split(recipe, whole, list(columns.values()), task, seed)
    if part is None:
        return rows
    if NUMBER not in rows.column_names:
        rows = rows.add_column(NUMBER, np.arange(len(rows)))
    rows = rows.select(range(len(rows))[part(len(rows))])
    if len(rows) == 0:
        raise UserError(f"{split_name(recipe, split)}: the split {split!r} is empty; it needs at least one example")
    return rows


def _joined(
    recipe: DataRecipe, split: str, columns: dict[str, str], task: str, seed: int, to_train: bool
) -> datasets.Dataset:
    parts, without = [], [] if to_train else sources_without(recipe, split)
    for number, (source, called) in enumerate(zip(recipe.sources, source_names(recipe.sources), strict=True)):
        if called in without:
            continue
        names, name = columns_of(source, columns, f"data.sources[{number}]"), source.split if to_train else split
        rows = load_split(_place_of(source, recipe), name, list(names.values()), task, seed).select_columns(
            list(names.values())
        )
        # of all names at once, since one may be another's
        rows = rows.rename_columns({there: wanted for wanted, there in names.items() if wanted != there})
        parts.append(rows.add_column(SOURCE, np.full(len(rows), number)))
    if not parts:
        raise UserError(f"data.sources: none has the split {split!r}; set data.path, or name a split that one has")
    try:
        return datasets.concatenate_datasets(parts)
    except ValueError as error:
        raise UserError(f"data.sources: columns of one name are of other types ({reason(error)})") from None


def _cut(recipe: DataRecipe, split: str, columns: dict[str, str], task: str, seed: int) -> datasets.Dataset:
    names, shares = [recipe.train_split, *recipe.shares], list(recipe.shares.values())
    if split not in names:
        raise UserError(f"data.split: cuts no {split!r}, only {', '.join(names[1:])}; give it a share of its own")
    for name in names[1:]:
        if recipe.path is not None and (own := split_file(Path(recipe.path), name)) not in (None, Path(recipe.path)):
            raise UserError(f"data.split: {name!r} is in {own} already; leave its share out")
    stratify, group = recipe.split.stratify or columns.get("label"), recipe.split.group
    wanted = [*columns.values(), *filter(None, (stratify, group))]
    rows = load_split(recipe, recipe.train_split, wanted, task, seed)
    chosen = assignment(rows, shares, list(columns.values()), stratify, group, seed)
    for name, count in zip(names, np.bincount(chosen, minlength=len(names)), strict=True):
        if count == 0:
            raise UserError(f"data.split: none of the {len(rows):,} rows falls to {name!r}; change the shares")
    rows = rows.add_column(NUMBER, np.arange(len(rows)))
    return rows.select(np.flatnonzero(chosen == names.index(split)))


def sources_without(recipe: DataRecipe, split: str) -> list[str]:
    """The names of the sources that have no such split beside that to train on.

    Raises:
        UserError: One is not there.
    """
    names = source_names(recipe.sources)
    return [
        name
        for name, source in zip(names, recipe.sources, strict=True)
        if not _has_split(_place_of(source, recipe), split)
    ]


def _place_of(source: SourceRecipe, recipe: DataRecipe) -> DataRecipe:
    form: Any = form_of(recipe)
    return DataRecipe(name=source.name, config=source.config, revision=source.revision, path=source.path, **form)


def _has_split(place: DataRecipe, split: str) -> bool:
    """One that is a file is for training, but for its parts."""
    whole = split_part(split)[0]
    if place.path is not None:
        path = Path(place.path)
        if path.is_file() or glob.has_magic(place.path):
            return whole != split
        return split_file(path, whole) is not None or any(path.glob(f"{whole}.*"))
    try:
        return whole in datasets.get_dataset_split_names(place.name, place.config, revision=place.revision)
    except READING_ERRORS as error:
        raise UserError(f"data set {place.name!r}: {reason(error)}; give local files with data.path=FOLDER") from None


def first_rows(rows: datasets.Dataset, count: int) -> datasets.Dataset:
    """At most so many rows: the first, of joined rows of each source in equal parts."""
    if SOURCE not in rows.column_names or count >= len(rows):
        return rows.select(range(min(count, len(rows))))
    sizes = np.unique(rows.data.column(SOURCE).to_numpy(), return_counts=True)[1]
    ends = np.cumsum(sizes)
    taken = np.diff(ends * count // len(rows), prepend=0)
    return rows.select(np.concatenate([np.arange(some) for some in taken]) + np.repeat(ends - sizes, taken))


def row_place(recipe: DataRecipe, rows: datasets.Dataset, where: str) -> Callable[[int], str]:
    """What a row is called in messages, by its index.

    Args:
        where: What all are called.
    """
    if SOURCE not in rows.column_names:
        numbers = rows.with_format("numpy", columns=[NUMBER]) if NUMBER in rows.column_names else None

        def place_in_file(index: int) -> str:
            number = index if numbers is None else int(numbers[index][NUMBER])
            return f"{where} example {number + 1}{_line(recipe, where, number)}"

        return place_in_file
    sources, names = rows.data.column(SOURCE).to_numpy(), source_names(recipe.sources)

    def place(index: int) -> str:
        first = np.searchsorted(sources, sources[index])
        return f"{where}, {names[sources[index]]} example {index - first + 1}"

    return place


def _line(recipe: DataRecipe, where: str, number: int) -> str:
    """Of a row of a table, the line where it ends, which is counted when somebody wants to know; of others nothing."""
    file = next((file for name in (where, where.rpartition(" (")[0]) if (file := Path(name)).is_file()), None)
    if recipe.path is None or file is None or suffix_of(file) not in (".csv", ".tsv"):
        return ""
    encoding = encoding_of(file, recipe.encoding)
    _, rows = open_table(file, [], delimiter_of(file, recipe.delimiter, encoding), encoding, recipe.header)
    return f" (line {next(islice(rows, number, None))[0]})"


def load_split(recipe: DataRecipe, split: str, columns: list[str], task: str, seed: int) -> datasets.Dataset:
    """One split, with at least `columns`.

    Raises:
        UserError: No such split, an empty split, a file that is not UTF-8 or not well-formed, a missing column; the
            message names file, line and column.
    """
    whole, part = split_part(split)
    if recipe.path is not None:
        dataset, where = _load_files(Path(recipe.path), whole, columns, form_of(recipe))
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
    """What to call a split in messages: its file, where there is one.

    Raises:
        UserError: Where it should be, there is nothing.
    """
    if recipe.is_joined:
        sources_without(recipe, split)
        return f"data.sources ({split})"
    if recipe.path is not None:
        path, whole = Path(recipe.path), split_part(split)[0]
        if whole in recipe.shares:
            return f"{split_name(recipe, recipe.train_split)} ({whole})"
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
        return '; "data.split={test: 0.1}" takes it from train, data.test_split=null leaves it out'
    more = "" if any(path.glob("test.*")) else ", test: 0.1"
    return f'; "data.split={{validation: 0.1{more}}}" takes it from train'


def _aligned_name(path: Path, split: str) -> Path:
    return path / f"{split}.*"


def form_of(recipe: DataRecipe) -> dict[str, Any]:
    """What a recipe says of how files are read."""
    return {key: value for key in FORM if (value := getattr(recipe, key)) is not None}


def _load_files(path: Path, split: str, columns: list[str], form: dict[str, Any]) -> tuple[datasets.Dataset, str]:
    file = split_file(path, split)
    if form and (file is None or file.is_dir()):
        raise UserError(f"{path}: data.{min(form)} is for tables and texts, each in one file; leave it out")
    if file is None:
        files = aligned.find(path, split, columns)
        if not files:
            raise _wrong_files(path, split, "no file", _of_another(path, split))
        return aligned.load(files), str(_aligned_name(path, split))
    if file.is_dir():
        return pictures.load(file, columns), str(file)
    return load_file(file, columns, form), str(file)
