"""What `trefoil translate` writes: translations with their scores and alignments, as lines on the screen, or in a file with which a
command that was killed goes on."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from .configuration.errors import UserError, reason
from .data.progress import progress_bar, say
from .pipelines.translation import languages_of, with_language
from .visualization.attention import CROSS, attention_maps

LINES_AT_ONCE = 1024  # that are translated into a file, sorted by length, before it is written to

Line = tuple[int, str]  # a number, counted from 1, and the text


@dataclass
class Translations:
    """Makes records of lines.

    Args:
        pipe: A translation pipeline.
        options: Of its call.
        n_best: Of each line so many translations, the best first.
        scores, alignments: What a record has beside `line`, `source` and `translation`.

    Raises:
        UserError: The language is unknown, or needed.
    """

    pipe: Any
    options: dict[str, Any] = field(default_factory=dict)
    n_best: int = 1
    scores: bool = False
    alignments: bool = False

    def __post_init__(self) -> None:
        if self.n_best > 1:
            config = self.pipe.model.generation_config
            beams = self.options.get("num_beams") or config.num_beams or self.pipe.default_num_beams
            self.options |= {"num_beams": max(self.n_best, beams), "num_return_sequences": self.n_best}
        language = self.options.get("tgt_lang")
        knows_itself = hasattr(self.pipe.tokenizer, "_build_translation_inputs")
        if language is not None and not (languages_of(self.pipe.tokenizer) or knows_itself):
            raise UserError(
                f"--to {language}: this model has no tags for languages, and translates one way; leave it out"
            )

    def __call__(self, lines: list[Line]) -> list[dict[str, Any]]:
        for number, text in lines:
            if any("\udc80" <= character <= "\udcff" for character in text):  # what Python makes of other bytes
                raise UserError(f"line {number}: is not UTF-8; convert the text to UTF-8")
        try:
            answers = self.pipe([text for _, text in lines], return_scores=self.scores, **self.options)
        except ValueError as error:
            raise UserError(reason(error).replace("tgt_lang", "--to")) from None
        records = []
        for (number, text), answer in zip(lines, answers, strict=True):
            for one in answer if isinstance(answer, list) else [answer]:
                record = {"line": number, "source": text, "translation": one["translation_text"]}
                if self.scores:
                    record["score"] = one["score"]
                if self.alignments:
                    record["alignment"] = self._alignment(number, text, record["translation"])
                records.append(record)
        return records

    def _alignment(self, number: int, source: str, translation: str) -> str | None:
        """As Pharaoh wrote it: pairs of words, `0-0 1-2`, source and target. None where it cannot be known."""
        if not source.strip() or not translation.strip():
            return ""
        tokenizer = self.pipe.tokenizer
        try:
            read = with_language(tokenizer, source, tgt_lang=self.options.get("tgt_lang"))
            pairs = attention_maps(self.pipe.model, tokenizer, read, translation)[CROSS].word_alignment()
        except ValueError as error:
            say(f"line {number}: no alignment: {reason(error)}")
            return None
        return " ".join(f"{of_source}-{of_target}" for of_source, of_target in pairs)


def numbered(sentences: Iterable[str]) -> Iterator[Line]:
    return ((number, sentence.removesuffix("\n")) for number, sentence in enumerate(sentences, start=1))


def batches(lines: Iterable[Line], size: int) -> Iterator[list[Line]]:
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def write_lines(path: Path, lines: Iterator[Line], translate: Translations) -> None:
    """Write the records of all lines that are not blank, as JSON lines; of lines whose records are there already, no more.

    Raises:
        UserError: The file cannot be written, or holds something else than the translations of these lines.
    """
    with _opened(path) as file:
        done, source = _go_on(path, file, translate.n_best)
        if done:
            text = next((text for number, text in lines if number == done), None)
            if text != source:
                raise UserError(f"{path}: line {done} that was translated there is another one; name another file")
            say(f"{path}: goes on after line {done:,}")
        for batch in progress_bar(batches((line for line in lines if line[1].strip()), LINES_AT_ONCE), "translating"):
            records = (json.dumps(record, ensure_ascii=False) + "\n" for record in translate(batch))
            file.write("".join(records).encode())
            file.flush()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("a+b") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def _go_on(path: Path, file: BinaryIO, n_best: int) -> tuple[int, str | None]:
    """The number and the text of the last line all of whose translations are there; what is behind them is cut off."""
    file.seek(0)
    done: tuple[int, str | None] = (0, None)
    whole = offset = count = current = 0
    for content in file:
        offset += len(content)
        try:
            record = json.loads(content)
            number, source = int(record["line"]), record["source"]
        except (ValueError, KeyError, TypeError):
            if content.endswith(b"\n") or not whole + count:
                raise UserError(f"{path}: holds something else than translations; name another file") from None
            break  # the command was killed while it wrote this
        if not content.endswith(b"\n"):
            break
        if (number == done[0] and not count) or (count and number != current) or number < done[0]:
            raise UserError(f"{path}: was not written with --n-best {n_best}; name another file")
        current, count = number, count + 1
        if count == n_best:
            done, whole, count = (number, source), offset, 0
    file.truncate(whole)
    return done
