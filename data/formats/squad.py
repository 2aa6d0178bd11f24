"""The form of SQuAD, in a JSON file."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from ...configuration.errors import UserError, reason
from .reading import fingerprint

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


def read_squad(file: Path, content: dict[str, Any]) -> datasets.Dataset:
    """A file in the form of SQuAD as rows, one for each question."""
    batches, questions = [], _squad_questions(file, content)
    try:
        while rows := list(itertools.islice(questions, 1000)):
            batches.append(pa.RecordBatch.from_pylist(rows, schema=SQUAD_FEATURES.arrow_schema))
    except (OverflowError, UnicodeEncodeError, pa.ArrowException) as error:
        raise UserError(f"{file}: {reason(error)}") from None
    table = pa.Table.from_batches(batches, schema=SQUAD_FEATURES.arrow_schema)
    return datasets.Dataset(table, fingerprint=fingerprint([file], SQUAD_FEATURES))


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
