"""What the formats share: lines with their numbers, and data sets that `datasets` builds and keeps in its cache."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import datasets
from datasets.fingerprint import Hasher
from huggingface_hub.errors import HTTPError

from ...configuration.errors import UserError, reason
from ...configuration.version import __version__

# what reading raises: of files, of the network after all tries of huggingface_hub and `datasets`, and of what these make of both
READING_ERRORS = (OSError, ValueError, EOFError, zlib.error, HTTPError, datasets.exceptions.DatasetsError)
CONNECTION_ERRORS = (ConnectionError, TimeoutError, HTTPError)


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


def checked_once(check: Callable[[], Any], file: Path, what: Iterable[str]) -> Any:
    """What a check of a whole file finds, as JSON can say it. Where it finds no mistake it is not made again until the file
    changes: of gigabytes, it takes minutes.

    Args:
        what: Tells this check from others of the file.
    """
    kept = Path(datasets.config.HF_DATASETS_CACHE) / "trefoil" / f"{fingerprint([file], [*what, __version__])}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    found = check()
    kept.parent.mkdir(parents=True, exist_ok=True)
    new = kept.with_suffix(f".{uuid4().hex}")  # several processes may find it at once
    new.write_text(json.dumps(found), encoding="utf-8")
    new.replace(kept)
    return found


def count_lines(file: Path) -> int:
    """
    Raises:
        UserError: That of `numbered_lines`.
    """
    return checked_once(lambda: sum(1 for _ in numbered_lines(file)), file, ["lines"])


def no_rows(columns: list[str]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({name: [] for name in columns})


def build(builder: str, data_files: str, file: Path, columns: list[str], **options: Any) -> datasets.Dataset:
    """What a builder of `datasets` reads.

    Raises:
        UserError: The builder could not.
    """
    return _prepared(
        lambda: datasets.load_dataset(builder, data_files=data_files, split="train", **options), file, columns
    )


def stream(
    rows: Callable[[], Iterator[dict[str, Any]]], features: datasets.Features, files: list[Path]
) -> datasets.Dataset:
    """Rows read from `files`, never all in memory: they are kept in the cache of `datasets` until a file changes.

    Raises:
        UserError: That of `rows`, or the cache could not be written.
    """
    state = fingerprint(files, features)
    return _prepared(
        lambda: datasets.Dataset.from_generator(rows, features=features, fingerprint=state), files[0], list(features)
    )


def _prepared(prepare: Callable[[], datasets.Dataset], file: Path, columns: list[str]) -> datasets.Dataset:
    try:
        return prepare()
    except READING_ERRORS as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        if "corresponds to no data" in str(cause):
            return no_rows(columns)
        raise UserError(f"{file}: {reason(cause)}") from None


def fingerprint(files: list[Path], features: Iterable[str]) -> str:
    """Another one when a file changes; that of `datasets`, a hash of all rows, would take as long as all the rest."""
    states = [(str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return Hasher.hash((states, list(features)))
