"""Examples: from the Hub, from local files or generated, checked before any work is done."""

import csv
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.fingerprint import Hasher

from ..configuration.errors import UserError
from ..recipes.schema import DataRecipe
from .embedded import DEFAULT_SIZES, load_embedded

BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}

PICTURE_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")

SQUAD_FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "title": datasets.Value("string"),
        "context": datasets.Value("string"),
        "question": datasets.Value("string"),
        "answers": {
            "text": datasets.List(datasets.Value("string")),
            "answer_start": datasets.List(datasets.Value("int32")),
        },
    }
)


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
        raise _empty(where, split)
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
        return str(split_file(Path(recipe.path), split_part(split)[0]))
    return f"{'embedded data' if recipe.embedded else recipe.name} ({split})"


def _empty(where: str | Path, split: str) -> UserError:
    return UserError(f"{where}: the split {split!r} is empty; it needs at least one example")


def _load_from_hub(recipe: DataRecipe, split: str) -> tuple[datasets.Dataset, str]:
    where = f"data set {recipe.name!r}"
    try:
        return datasets.load_dataset(recipe.name, recipe.config, split=split, revision=recipe.revision), where
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{where}, split {split!r}: {reason}; give local files with data.path=FOLDER") from None


def split_file(path: Path, split: str) -> Path:
    """The file of a split: `path` itself if it is a file, else `split.*` in the folder, or a folder of that name with
    pictures and, in `metadata.jsonl` or the like, what goes with them (the ImageFolder of `datasets`).

    Raises:
        UserError: No such file, or more than one.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; data.path is a folder with files such as {split}.jsonl")
    found = [
        file
        for file in sorted(path.iterdir())
        if file.name.startswith(f"{split}.") and Path(file.name.removesuffix(".gz")).suffix in BUILDERS
    ]
    if not found and any((path / split / name).is_file() for name in PICTURE_METADATA):
        return path / split
    if len(found) != 1:
        names = ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"
        problem = "more than one file" if found else "no file"
        raise UserError(
            f"{path}: {problem} for the split {split!r} ({split}.jsonl, .csv, .parquet …, {split}/metadata.jsonl with pictures); it holds {names}"
        )
    return found[0]


def _load_files(path: Path, split: str, columns: list[str]) -> tuple[datasets.Dataset, str]:
    file = split_file(path, split)
    if file.is_dir():
        return _load("imagefolder", f"{file}/**", file, split), str(file)
    suffix = Path(file.name.removesuffix(".gz")).suffix
    if suffix not in BUILDERS:
        raise UserError(f"{file}: unknown kind {suffix!r}; there are {', '.join(BUILDERS)}, each also with .gz")
    options: dict[str, Any] = {}
    if suffix == ".jsonl":
        rows = _check_json_lines(file, columns)
    elif suffix == ".json":
        content = _read_json(file, columns)
        if isinstance(content, datasets.Dataset):
            return content, str(file)
        rows = content
    elif suffix in (".csv", ".tsv"):
        delimiter = "\t" if suffix == ".tsv" else ","
        header, rows = _check_rows(file, columns, delimiter)
        # every value is text, as it stands: else 007 would be read as 7, and NA and None as nothing
        options = {"delimiter": delimiter, "converters": dict.fromkeys(header, str), "keep_default_na": False}
    elif suffix == ".parquet":
        rows = file.stat().st_size
    else:
        rows = sum(1 for _ in numbered_lines(file))
    if rows == 0:
        raise _empty(file, split)
    return _load(BUILDERS[suffix], str(file), file, split, **options), str(file)


def _load(builder: str, data_files: str, file: Path, split: str, **options: Any) -> datasets.Dataset:
    try:
        return datasets.load_dataset(builder, data_files=data_files, split="train", **options)
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        if "corresponds to no data" in str(cause):
            raise _empty(file, split) from None
        raise UserError(f"{file}: {str(cause).splitlines()[0]}") from None


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 file, gzipped or not, counted from 1, without a byte order mark.

    Raises:
        UserError: Bytes that are not UTF-8; names the line. A damaged gzip file.
    """
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{file} line {number}: not UTF-8 (byte {error.start + 1} of the line); "
                        "convert the file to UTF-8"
                    ) from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{file}: a damaged gzip file ({error}); compress it again") from None


def _check_json_lines(file: Path, columns: list[str]) -> int:
    """Check every row; returns how many there are."""
    number = 0
    for number, line in numbered_lines(file):
        if not line.strip():
            raise UserError(f"{file} line {number}: empty; every line must be a JSON object, so delete it")
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{file} line {number}: not JSON ({error.msg} at character {error.colno})") from None
        if not isinstance(row, dict):
            raise UserError(f"{file} line {number}: a JSON {type(row).__name__}; every line must be a JSON object")
        for name in columns:
            if name not in row:
                raise UserError(f"{file} line {number}: no column {name!r}; there are {', '.join(row)}")
    return number


def _read_json(file: Path, columns: list[str]) -> int | datasets.Dataset:
    """Check a file with JSON lines or one list of rows, and count its rows; or read one in the form of SQuAD."""
    text = "".join(line for _, line in numbered_lines(file))
    try:
        content = json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # more than one value: one a line
            return _check_json_lines(file, columns)
        raise UserError(f"{file} line {error.lineno}: not JSON ({error.msg} at character {error.colno})") from None
    del text
    if isinstance(content, dict) and "data" in content and not set(columns) <= content.keys():
        return _read_squad(file, content)
    if isinstance(content, dict):  # the only row
        content = [content]
    if not isinstance(content, list):
        raise UserError(
            f"{file}: a JSON {type(content).__name__}; it must be a list of objects, JSON lines or of the form of SQuAD"
        )
    for number, row in enumerate(content, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{file} row {number}: a JSON {type(row).__name__}; every row must be a JSON object")
        for name in columns:
            if name not in row:
                raise UserError(f"{file} row {number}: no column {name!r}; there are {', '.join(row) or 'none'}")
    return len(content)


def _read_squad(file: Path, content: dict[str, Any]) -> datasets.Dataset:
    """A file in the form of SQuAD as rows, one for each question."""
    batches, questions = [], _squad_questions(file, content)
    try:
        while rows := list(itertools.islice(questions, 1000)):
            batches.append(pa.RecordBatch.from_pylist(rows, schema=SQUAD_FEATURES.arrow_schema))
    except (OverflowError, UnicodeEncodeError, pa.ArrowException) as error:
        raise UserError(f"{file}: {str(error).splitlines()[0]}") from None
    table = pa.Table.from_batches(batches, schema=SQUAD_FEATURES.arrow_schema)
    # its own, a hash of the whole table, would take as long as all the rest
    fingerprint = Hasher.hash((str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size))
    return datasets.Dataset(table, fingerprint=fingerprint)


def _squad_questions(file: Path, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The questions of {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text",
    "answer_start"}], "is_impossible"}]}]}]}; title, id and is_impossible may be missing."""
    for article_number, article in enumerate(_member(str(file), content, "data", list), start=1):
        in_article = f"{file} article {article_number}"
        for paragraph_number, paragraph in enumerate(_member(in_article, article, "paragraphs", list), start=1):
            in_paragraph = f"{in_article}, paragraph {paragraph_number}"
            context = _member(in_paragraph, paragraph, "context", str)
            for question_number, question in enumerate(_member(in_paragraph, paragraph, "qas", list), start=1):
                where = f"{in_paragraph}, question {question_number}"
                yield {
                    "question": _member(where, question, "question", str),
                    "answers": _squad_answers(where, question),
                    "context": context,
                    "id": _text_or_none(question.get("id")),
                    "title": _text_or_none(article.get("title")),
                }


def _squad_answers(where: str, question: dict[str, Any]) -> dict[str, list]:
    # of a question without an answer, some data sets list what one could take for it
    answers = [] if question.get("is_impossible") is True else _member(where, question, "answers", list)
    in_answer = [f"{where}, answer {number}" for number in range(1, len(answers) + 1)]
    return {
        name: [_member(place, answer, name, kind) for place, answer in zip(in_answer, answers, strict=True)]
        for name, kind in (("text", str), ("answer_start", int))
    }


def _member(where: str, content: Any, key: str, kind: type) -> Any:
    """A member of a JSON object.

    Raises:
        UserError: There is none, or it is of another kind.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where}: a JSON {type(content).__name__}; it must be an object with {key!r}")
    if key not in content:
        raise UserError(f"{where}: no {key!r}; there are {', '.join(content) or 'none'}")
    if type(content[key]) is not kind:
        raise UserError(f"{where}: {key!r} is a JSON {type(content[key]).__name__}; it must be of type {kind.__name__}")
    return content[key]


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _check_rows(file: Path, columns: list[str], delimiter: str) -> tuple[list[str], int]:
    """Check every row; returns the header and how many rows there are."""
    lines = (line for _, line in numbered_lines(file))
    rows = csv.reader(lines, delimiter=delimiter)
    count = 0
    try:
        header = next(rows, columns)
        for name in columns:
            if name not in header:
                raise UserError(f"{file} line 1: no column {name!r}; there are {', '.join(header)}")
        for row in rows:
            count += 1
            if not row:
                raise UserError(f"{file} line {rows.line_num}: empty; delete it")
            if len(row) != len(header):
                raise UserError(f"{file} line {rows.line_num}: {len(row)} values for {len(header)} columns")
    except csv.Error as error:
        raise UserError(f"{file} line {rows.line_num}: {error}") from None
    return header, count
