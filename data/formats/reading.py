"""What the formats share: lines with their numbers, and data sets that `datasets` builds and keeps in its cache."""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, AnyStr
from uuid import uuid4

import datasets
from datasets.fingerprint import Hasher
from huggingface_hub.errors import HTTPError

from ...configuration.errors import UserError, reason
from ...configuration.version import __version__
from ..progress import say_once

# what reading raises: of files, of the network after all tries of huggingface_hub and `datasets`, and of what these make of both
READING_ERRORS = (OSError, ValueError, EOFError, zlib.error, HTTPError, datasets.exceptions.DatasetsError)
CONNECTION_ERRORS = (ConnectionError, TimeoutError, HTTPError)

UTF_8 = "utf-8"
# what a file of an encoding begins with
MARKS = {b"\xef\xbb\xbf": UTF_8, b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
CHUNK = 2**20  # bytes that are unpacked at once
SAMPLE = 1000  # lines by which one encoding is told from another
LONGEST_LINE = 2**26  # bytes
# a gzipped file may hold so many times its size, or so many bytes; text holds ten times it, a file made to fill the memory a
# thousand times
MOST_TIMES, ALWAYS = 100, 2**28


class _Unpacked(io.RawIOBase):
    """The content of a gzipped file, as far as it may go.

    Raises:
        UserError: (while it is read) It goes further.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.content = file, gzip.GzipFile(file)
        self.most = self.left = max(ALWAYS, MOST_TIMES * file.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self.content.readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise UserError(
                f"{self.file}: holds more than {self.most:,} bytes, {MOST_TIMES} times what it has itself; if that is right, "
                "unpack it"
            )
        return count

    def close(self) -> None:
        self.content.close()
        super().close()


def opened(file: Path) -> io.BufferedReader:
    """The content of a file, gzipped or not."""
    return io.BufferedReader(_Unpacked(file), CHUNK) if file.suffix.lower() == ".gz" else file.open("rb")


def whole_lines(file: Path, content: IO[AnyStr], is_bounded: bool = True) -> Iterator[AnyStr]:
    """The lines of a file's content, from where it is.

    Args:
        is_bounded: Whether each has LONGEST_LINE bytes at most.

    Raises:
        UserError: One has more.
    """
    most = LONGEST_LINE + 1 if is_bounded else -1
    while line := content.readline(most):
        if len(line) == most:
            raise UserError(f"{file}: a line is longer than {LONGEST_LINE:,} bytes; is this a file of lines?")
        yield line


def numbered_lines(file: Path, encoding: str = UTF_8, is_bounded: bool = True) -> Iterator[tuple[int, str]]:
    """Lines of a file, gzipped or not, counted from 1, without a byte order mark.

    Args:
        is_bounded: As of `whole_lines`.

    Raises:
        UserError: Bytes that are not of the encoding; names the line. A line that is too long, or a damaged gzip file.
    """
    remedy = "convert the file to UTF-8" if encoding == UTF_8 else "set data.encoding"
    name, number = "UTF-8" if encoding == UTF_8 else encoding, 0
    with opened(file) as lines:
        try:
            if encoding.startswith(("utf-16", "utf-32")):  # there a line does not end with one byte
                with io.TextIOWrapper(lines, encoding, newline="\n") as text:
                    for number, line in enumerate(whole_lines(file, text, is_bounded), start=1):
                        yield number, line
                return
            for number, raw in enumerate(whole_lines(file, lines, is_bounded), start=1):
                yield number, raw.decode("utf-8-sig" if number == 1 and encoding == UTF_8 else encoding)
        except UnicodeDecodeError as error:
            if encoding.startswith(("utf-16", "utf-32")):
                raise UserError(f"{file} behind line {number}: not {name}; {remedy}") from None
            raise UserError(
                f"{file} line {number}: not {name} (byte {error.start + 1} of the line); {remedy}"
            ) from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{file}: a damaged gzip file ({error}); compress it again") from None


def encoding_of(file: Path, asked: str | None) -> str:
    """The encoding that is asked for or, where none is, the one that the file is found to have; another than UTF-8 is said in
    a line.

    Raises:
        UserError: That of `numbered_lines`.
    """
    if asked is not None:
        return codecs.lookup(asked).name
    encoding, example = checked_once(lambda: _find_encoding(file), file, ["encoding"])
    if encoding != UTF_8:
        shown = f", in which it says {example!r}" if example else ""
        say_once(f"{file}: not UTF-8; read as {encoding}{shown} (set data.encoding if that is wrong)")
    return encoding


def _find_encoding(file: Path) -> tuple[str, str]:
    """By its mark, or as UTF-8, as the Korean of Windows or as the Latin of Windows, whichever its bytes are; and, of the
    last two, a line by which somebody can tell."""
    right = wrong = 0  # lines beyond ASCII that are UTF-8, and that are not
    sample: list[bytes] = []  # of those that are not
    others = ["cp949", "cp1252"]
    with opened(file) as lines:
        try:
            start = lines.peek(3)
            for mark, encoding in MARKS.items():
                if start.startswith(mark):
                    return encoding, ""
            for line in whole_lines(file, lines):
                if b"\0" in line:
                    raise UserError(
                        f"{file}: holds bytes of zero; set data.encoding, perhaps to utf-16-le, or mend the file"
                    )
                if line.isascii() or _is(line, UTF_8):
                    right += not line.isascii()
                    continue
                wrong += 1
                sample += [line] * (len(sample) < SAMPLE)
                others = [encoding for encoding in others if _is(line, encoding)]
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return UTF_8, ""  # whoever reads the lines says what is wrong
    if "cp949" in others and not _is_korean(sample):
        others.remove("cp949")
    if wrong <= right or not others:  # UTF-8, or damaged
        return UTF_8, ""
    return others[0], _first_beyond_ascii(sample[0].decode(others[0]).strip())


def _first_beyond_ascii(text: str) -> str:
    """The part of a text by which it is seen whether it was read rightly."""
    at = next(index for index, one in enumerate(text) if not one.isascii())
    return text[max(0, at - 15) : at + 25].strip()


def _is(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_korean(lines: list[bytes]) -> bool:
    """Whether most of what is beyond ASCII are syllables that are written, which pairs of Latin letters are not."""
    beyond = [one for line in lines for one in line.decode("cp949") if not one.isascii()]
    common = sum("가" <= one <= "힣" and len(one.encode("euc_kr", "ignore")) == 2 for one in beyond)
    return 2 * common > len(beyond)


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


def count_lines(file: Path, encoding: str = UTF_8) -> int:
    """
    Raises:
        UserError: That of `numbered_lines`.
    """
    return checked_once(lambda: sum(1 for _ in numbered_lines(file, encoding)), file, ["lines", encoding])


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
    rows: Callable[[], Iterator[dict[str, Any]]], features: datasets.Features, files: list[Path], *read_as: str
) -> datasets.Dataset:
    """Rows read from `files`, never all in memory: they are kept in the cache of `datasets` until a file changes.

    Args:
        read_as: What else the rows depend on.

    Raises:
        UserError: That of `rows`, or the cache could not be written.
    """
    state = fingerprint(files, [*features, *read_as])
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
