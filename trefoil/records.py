"""What `trefoil predict` reads and writes: rows of texts, files and standard input, and records of them with their answers, in
files with which a command that was killed goes on."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from .configuration.errors import UserError
from .data.progress import progress_bar, say
from .data.whole_files import aside, sync, write_file
from .visualization.asking import TASKS, Answer

ROWS_AT_ONCE = 1024  # that are answered, sorted by length, before a file is written to
KINDS = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "text"}  # of output, by the file's ending
PROGRESS = "trefoil-progress"  # how far a file has come
LINE = "line"  # a record's number of its row, counted from 1


@dataclass(frozen=True)
class Row:
    """A row of input.

    Attributes:
        place: What messages call it.
        columns: What stands beside the answer.
        asked: What the model is asked.
    """

    number: int
    place: str
    columns: dict[str, Any]
    asked: Any


@dataclass(frozen=True)
class Rows:
    """Rows that are read when they are needed.

    Attributes:
        columns: What each has.
        after: The rows after so many.
        count: How many there are, if that is known.
    """

    columns: Sequence[str]
    after: Callable[[int], Iterator[Row]]
    count: int | None = None


def rows_of_texts(task: str, texts: Iterable[str], fixed: dict[str, str]) -> Rows:
    """Texts, of which each is the one thing that a model is to know beside what is said for all.

    Args:
        fixed: What is said for all: input of the task -> text.

    Raises:
        UserError: More is to be known.
    """
    left = [name for name in TASKS[task].inputs if name not in fixed]
    if len(left) > 1:
        raise UserError(
            f"{task} needs {' and '.join(left)}: give {' or '.join(f'--{name}' for name in left)}, or --input FILE with columns"
        )
    names = [*left, *fixed]

    def after(start: int) -> Iterator[Row]:
        lines = enumerate(texts if left else [""], start=1)
        for number, text in islice(lines, start, None):
            columns = ({left[0]: text.removesuffix("\n")} if left else {}) | fixed
            yield Row(number, f"line {number}", columns, _asked(task, columns))

    return Rows(names, after)


def rows_of_file(task: str, file: Path, columns: Mapping[str, str], fixed: dict[str, str]) -> Rows:
    """The rows of a file, all of whose columns are kept.

    Args:
        columns: Input of the task -> the column that holds it. Default: the column of its name.

    Raises:
        UserError: There is no such file or column, or the file is empty or damaged.
    """
    from .data.formats import FORMATS, suffix_of

    if not file.is_file():
        raise UserError(f"{file}: no such file")
    suffix = suffix_of(file)
    if suffix not in FORMATS:
        raise UserError(f"{file}: unknown kind {suffix!r}; there are {', '.join(FORMATS)}, each also with .gz")
    asking = TASKS[task]
    data = FORMATS[suffix](file, [])
    if len(data) == 0:
        raise UserError(f"{file}: is empty; it needs at least one row")
    if suffix == ".txt" and not columns:
        data = data.rename_column("text", asking.inputs[0])
    names = {name: columns.get(name, name) for name in (*asking.inputs, *asking.optional) if name not in fixed}
    for name, column in list(names.items()):
        if column not in data.column_names:
            if name in asking.optional and name not in columns:
                del names[name]
                continue
            if task == "token-classification" and "tokens" in data.column_names and name not in columns:
                raise UserError(
                    f"{file}: holds tokens, not texts; `trefoil evaluate MODEL --data {file} -o FOLDER` reads them, and writes what "
                    "the model says of each"
                )
            raise UserError(
                f"{file}: no column {column!r}; there are {', '.join(data.column_names)}; name the one with --column {name}=NAME"
            )
    unit = "line" if suffix in (".jsonl", ".txt") else "row"

    def after(start: int) -> Iterator[Row]:
        for number, row in enumerate(data.select(range(min(start, len(data)), len(data))), start=start + 1):
            given = {name: row[column] for name, column in names.items()} | fixed
            if task == "image-to-text" and given["image"]:
                given["image"] = str(file.parent / given["image"])  # as in data to train on
            yield Row(number, f"{file} {unit} {number}", row, _asked(task, given))

    return Rows(data.column_names, after, len(data))


def _asked(task: str, given: Mapping[str, Any]) -> Any:
    return dict(given) if len(given) > 1 else next(iter(given.values()))


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


class Records:
    """Puts answers down.

    Args:
        kind: `jsonl`, `csv` and `tsv`: a record for each answer, with its row's `line` and columns. `text`: a line for each
            row, with tabs between its answers.
        columns: Of the rows.
        fields: Of the answers; where a column has the name already, one is called `predicted_` and that.
    """

    def __init__(self, kind: str, task: str, columns: Sequence[str], fields: Sequence[str]) -> None:
        self.kind, self.task = kind, task
        self.names: dict[str, str] = {}
        for name in (LINE, *fields):
            free = name
            while free in columns or free in self.names.values():
                free = f"predicted_{free}"
            self.names[name] = free
        self.header = [self.names[LINE], *columns, *(self.names[name] for name in fields)]

    def start(self) -> str:
        return self._table([self.header]) if self.kind in ("csv", "tsv") else ""

    def of(self, row: Row, answers: list[Answer]) -> str:
        if self.kind == "text":
            return "\t".join(self._line(row, answer) for answer in answers) + "\n"
        records = self.rows(row, answers)
        if self.kind == "jsonl":
            return "".join(as_json(record) + "\n" for record in records)
        return self._table([_cell(record.get(name)) for name in self.header] for record in records)

    def rows(self, row: Row, answers: list[Answer]) -> list[dict[str, Any]]:
        """A record for each answer."""
        return [
            {self.names[LINE]: row.number} | row.columns | {self.names[name]: value for name, value in answer.items()}
            for answer in answers
        ]

    def _line(self, row: Row, answer: Answer) -> str:
        if all(value is None for value in answer.values()):
            return ""
        return TASKS[self.task].line(row.asked, answer).replace("\t", " ")

    def _table(self, rows: Iterable[Sequence[Any]]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter="\t" if self.kind == "tsv" else ",", lineterminator="\n").writerows(rows)
        return text.getvalue()


def as_json(content: Any, indent: int | None = None) -> str:
    """As JSON, which has no NaN and no infinity: they are null."""
    try:
        return json.dumps(content, ensure_ascii=False, default=str, allow_nan=False, indent=indent)
    except ValueError:
        return json.dumps(_finite(content), ensure_ascii=False, default=str, indent=indent)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _cell(value: Any) -> Any:
    return as_json(value) if isinstance(value, list | dict) else value


def write_records(
    path: Path,
    rows: Rows,
    records: Records,
    answer: Callable[[list[Row]], list[list[Answer]]],
    command: dict[str, Any],
) -> None:
    """Write the records of all rows. Where the same command was killed, it goes on behind the last row that is whole: how far it
    came is kept beside the file until all is done.

    Args:
        command: What makes it the same, as JSON can say it.

    Raises:
        UserError: The file cannot be written, holds something else already, or another process writes it.
    """
    with _opened(path, command) as (file, progress):
        done = progress["rows"]
        left = rows.after(max(0, done - 1))
        if not done:
            file.write(records.start().encode())
        else:
            last = next(left, None)
            if last is None or _told(last.asked) != progress["last"]:
                raise UserError(f"{path}: line {done} that was answered there is another one; name another file")
            say(f"{path}: goes on after line {done:,}")
        counted = left if rows.count is None else _Counted(left, rows.count - done)
        bar = progress_bar(counted, "predicting")
        for batch in batches(bar, ROWS_AT_ONCE):
            found = answer(batch)
            file.write("".join(records.of(row, each) for row, each in zip(batch, found, strict=True)).encode())
            _keep(path, file, command, batch[-1])


@dataclass(frozen=True)
class _Counted:
    """An iterator of which it is known how long it is."""

    items: Iterator[Any]
    count: int

    def __iter__(self) -> Iterator[Any]:
        return self.items

    def __len__(self) -> int:
        return self.count


@contextmanager
def _opened(path: Path, command: dict[str, Any]) -> Iterator[tuple[BinaryIO, dict[str, Any]]]:
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist")
    lock = filelock.FileLock(aside(path, "trefoil-lock"))
    try:
        with lock.acquire(timeout=0):
            try:
                progress = _progress(path, command)
                with path.open("r+b" if progress["rows"] else "wb") as file:
                    if not progress["rows"]:
                        write_file(aside(path, PROGRESS), json.dumps(progress | {"file": _identity(path)}))
                    file.truncate(progress["bytes"])
                    file.seek(progress["bytes"])
                    yield file, progress
                aside(path, PROGRESS).unlink()
            except BaseException:
                if _is_barren(path):
                    path.unlink(missing_ok=True)
                    aside(path, PROGRESS).unlink()
                raise
            finally:
                with suppress(OSError):
                    os.unlink(lock.lock_file)
    except filelock.Timeout:
        raise UserError(f"{path}: another process writes it; wait for that, or name another file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def _progress(path: Path, command: dict[str, Any]) -> dict[str, Any]:
    """How far the same command came."""
    journal = aside(path, PROGRESS)
    new: dict[str, Any] = {"rows": 0, "bytes": 0, "last": None, "command": command}
    progress: dict[str, Any] = json.loads(journal.read_text(encoding="utf-8")) if journal.is_file() else new
    if not progress["rows"]:
        if path.exists() and not _is_barren(path) and (path.is_dir() or path.stat().st_size):
            raise UserError(f"{path}: exists already; name another file")
        return new
    there = progress["command"]
    for name in sorted({*command, *there}):
        if there.get(name) != command.get(name):
            raise UserError(
                f"{path}: was begun with {name}={there.get(name)!r}, not {command.get(name)!r}; name another file"
            )
    return progress if path.is_file() and path.stat().st_size >= progress["bytes"] else new


def _is_barren(path: Path) -> bool:
    """Whether a command of ours made the file, and no row of it is whole."""
    journal = aside(path, PROGRESS)
    if not (journal.is_file() and path.is_file()):
        return False
    progress = json.loads(journal.read_text(encoding="utf-8"))
    return not progress["rows"] and progress.get("file") == _identity(path)


def _identity(path: Path) -> list[int]:
    return [path.stat().st_dev, path.stat().st_ino]


def _keep(path: Path, file: BinaryIO, command: dict[str, Any], last: Row) -> None:
    """Say how far it came, once that is on the disk."""
    file.flush()
    sync(path)
    progress = {"rows": last.number, "bytes": file.tell(), "last": _told(last.asked), "command": command}
    write_file(aside(path, PROGRESS), json.dumps(progress))


def _told(asked: Any) -> str:
    return json.dumps(asked, ensure_ascii=False, default=os.fspath)
