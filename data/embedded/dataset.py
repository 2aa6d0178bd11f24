"""The embedded data set: texts drawn from the grammar, as `datasets` for five tasks, and pictures for captioning."""

import hashlib
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Literal, get_args

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, NamedSplit, Value

from .grammar import TOPICS, Sentence, draw
from .questions import ask
from .shapes import HELD_OUT, MOST, Scene, draw_picture, draw_scene, png
from .summaries import summary
from .tagging import bio_tags, token_spans

EmbeddedTask = Literal[
    "translation",
    "token-classification",
    "text-classification",
    "question-answering",
    "summarization",
    "image-captioning",
]

ENTITY_LABELS = ("DAT", "TIM", "MNY", "QTY", "PER", "LOC")
"""Dates, times, amounts of money, quantities, persons and locations."""

DEFAULT_SIZES = {"train": 20_000, "validation": 1_000, "test": 2_000}
LARGEST_SIZES = {"train": 1_000_000, "validation": 100_000, "test": 100_000}
"""The most rows that a split can have. Single-clause texts fill them, although the short templates run out by then."""

DEFAULT_CLAUSES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("translation", "token-classification", "text-classification"), (1, 1)),
    "question-answering": (2, 4),
    "summarization": (3, 5),
    "image-captioning": (1, MOST),
}
"""The least and the most number of clauses in a text of each task, or of shapes in a picture."""

_Row = dict[str, Any]


def load_embedded(
    task: EmbeddedTask,
    *,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    clauses: tuple[int, int] | None = None,
) -> DatasetDict:
    """Generate the embedded data set for a task. It is a pure function of the arguments and touches no disk or network.

    Columns by task:

    - translation: `id`, `ko`, `en`. One Korean text has one English text, so exact match is a fair metric.
    - token-classification: `id`, `tokens`, `ner_tags` (BIO2 strings over `ENTITY_LABELS`; see `token_spans` for the
      tokens), `text`, `entities` (a list of `start`, `end`, `label` where `text[start:end]` is the surface without
      particles).
    - text-classification: `id`, `text`, `label` (a ClassLabel of the topics).
    - question-answering: `id`, `context`, `question`, `answers` (as in SQuAD: lists `text` and `answer_start`, where
      `context[answer_start:answer_start + len(text)] == text`). The answer is one entity. One question in ten has no
      answer in the context, and both lists are empty.
    - summarization: `id`, `document`, `summary`: the dates, the times and the amounts of money, each with what it is
      about, in one line with all numbers in digits. One document has one summary, so exact match is a fair metric.
    - image-captioning: `id`, `image` (RGB, 48 x 48), `text`, `text_ko`: coloured shapes in a row or a column, and what they
      are; one or two in a picture. One picture has one caption, so exact match is a fair metric. Pillow draws them; another version of it may
      shade an edge differently.

    The row with a given id is the same text in all tasks but summarization, which skips texts that have nothing to
    summarise, provided that the clauses are as many. A hash of the English decides the split that a text belongs to,
    whatever the seed and the sizes: no text, and no other way of writing the same expressions (3월 15일, 삼월 십오일), is
    ever in two splits. A smaller size is a prefix of a larger one. Pictures are split by what is combined in them: see
    `split_of_scene`.

    Args:
        task: one of the six above.
        seed: which texts are drawn.
        sizes: the number of rows of each split that is wanted; `DEFAULT_SIZES` if None.
        clauses: the least and the most number of clauses in a text, which dials its length, or of shapes in a picture,
            where two are the most; if None, `DEFAULT_CLAUSES` of the task.

    Raises:
        ValueError: an unknown task or split, a size that is negative or above `LARGEST_SIZES`, or a range of clauses
            that is empty or begins below 1.
    """
    if task not in get_args(EmbeddedTask):
        raise ValueError(f"unknown task {task!r}: choose one of {', '.join(get_args(EmbeddedTask))}")
    if not _is_integer(seed):
        raise ValueError(f"seed={seed!r} is not an integer")
    sizes = dict(DEFAULT_SIZES if sizes is None else sizes)
    _check_sizes(sizes)
    clauses = DEFAULT_CLAUSES[task] if clauses is None else clauses
    if len(clauses) != 2 or not all(map(_is_integer, clauses)) or not 1 <= clauses[0] <= clauses[1]:
        raise ValueError(f"clauses={clauses!r} is not a range of clauses: give (least, most) with 1 <= least <= most")
    if task == "image-captioning":
        if clauses[1] > MOST:
            raise ValueError(f"clauses={clauses!r}: a picture has room for {MOST} shapes at most")
        features, drawn_splits = _PICTURES, _draw_pictures(seed, sizes, (clauses[0], clauses[1]))
    else:
        features, row = _TASKS[task]
        drawn_splits = _draw_splits(seed, sizes, (clauses[0], clauses[1]), row)
    splits = DatasetDict()
    for split, drawn in drawn_splits.items():
        rows = [{"id": f"{split}-{index:06d}", **each} for index, each in enumerate(drawn)]
        columns = {name: [each[name] for each in rows] for name in features}
        splits[split] = Dataset.from_dict(columns, features=features, split=NamedSplit(split))
    return splits


def split_of(english: str) -> str:
    """The split that texts with this English belong to: eight tenths train, one validation, one test."""
    tenth = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8], "big") % 10
    return {8: "validation", 9: "test"}.get(tenth, "train")


def split_of_scene(scene: Scene) -> str | None:
    """The split that a picture belongs to, or None. Some things are shown in validation alone, others in test alone; of pairs
    of things a hash decides the same. All else is for training; what is of both validation and test is in no split."""
    splits = {split for split, things in HELD_OUT.items() if things.intersection(scene.things)}
    splits |= {split_of(pair) for pair in scene.pairs()} - {"train"}
    return "train" if not splits else splits.pop() if len(splits) == 1 else None


def _draw_splits(
    seed: int, sizes: Mapping[str, int], clauses: tuple[int, int], row: Callable[[Sentence, int], _Row | None]
) -> dict[str, list[_Row]]:
    # Seeding with a string goes through SHA-512: the same on every platform, and no two seeds coincide (-1 and 1 would).
    rng = Random(f"embedded {seed} {clauses}")
    # The rows of each split by their Korean text; a dict keeps them in the order in which they were drawn.
    splits: dict[str, dict[str, _Row]] = {split: {} for split in sizes}
    unfilled = {split for split, size in sizes.items() if size}
    while unfilled:
        sentence = draw(rng, clauses)
        split = split_of(sentence.en)
        if split in unfilled and sentence.ko not in splits[split]:
            made = row(sentence, seed)
            if made is not None:
                splits[split][sentence.ko] = made
            if len(splits[split]) == sizes[split]:
                unfilled.remove(split)
    return {split: list(rows.values()) for split, rows in splits.items()}


def _draw_pictures(seed: int, sizes: Mapping[str, int], numbers: tuple[int, int]) -> dict[str, list[_Row]]:
    """Pictures of every number of shapes are equally many."""
    splits: dict[str, list[_Row]] = {}
    for split, size in sizes.items():
        rng = Random(f"pictures {seed} {numbers} {split}")
        splits[split] = []
        for _ in range(size):
            number = rng.randint(*numbers)
            scene = draw_scene(rng, number)
            while split_of_scene(scene) != split:
                scene = draw_scene(rng, number)
            image = {"bytes": png(draw_picture(scene, rng)), "path": None}
            splits[split].append({"image": image, "text": scene.en, "text_ko": scene.ko})
    return splits


def _check_sizes(sizes: Mapping[str, int]) -> None:
    for split, size in sizes.items():
        if split not in LARGEST_SIZES:
            raise ValueError(f"unknown split {split!r} in sizes: choose among {', '.join(LARGEST_SIZES)}")
        if not _is_integer(size) or not 0 <= size <= LARGEST_SIZES[split]:
            raise ValueError(f"sizes[{split!r}]={size!r}: give an integer from 0 to {LARGEST_SIZES[split]:,}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _translation_row(sentence: Sentence, seed: int) -> _Row:
    return {"ko": sentence.ko, "en": sentence.en}


def _token_classification_row(sentence: Sentence, seed: int) -> _Row:
    spans = token_spans(sentence.ko)
    return {
        "tokens": [sentence.ko[start:end] for start, end in spans],
        "ner_tags": bio_tags(spans, sentence.entities),
        "text": sentence.ko,
        "entities": [{"start": start, "end": end, "label": label} for start, end, label in sentence.entities],
    }


def _text_classification_row(sentence: Sentence, seed: int) -> _Row:
    return {"text": sentence.ko, "label": sentence.topic}


def _question_answering_row(sentence: Sentence, seed: int) -> _Row:
    # A generator of its own, so that the texts are those of the other tasks.
    question, span = ask(sentence, Random(f"question {seed} {sentence.ko}"))
    answers: dict[str, list] = {"text": [], "answer_start": []}
    if span:
        start, end, _ = span
        answers = {"text": [sentence.ko[start:end]], "answer_start": [start]}
    return {"context": sentence.ko, "question": question, "answers": answers}


def _summarization_row(sentence: Sentence, seed: int) -> _Row | None:
    written = summary(sentence)
    return {"document": sentence.ko, "summary": written} if written else None


_STRING = Value("string")
_ENTITY = {"start": Value("int32"), "end": Value("int32"), "label": _STRING}
_PICTURES = Features({"id": _STRING, "image": Image(), "text": _STRING, "text_ko": _STRING})
_ANSWERS = {"text": List(_STRING), "answer_start": List(Value("int32"))}
_TASKS: dict[str, tuple[Features, Callable[[Sentence, int], _Row | None]]] = {
    "translation": (Features({"id": _STRING, "ko": _STRING, "en": _STRING}), _translation_row),
    "token-classification": (
        Features(
            {
                "id": _STRING,
                "tokens": List(_STRING),
                "ner_tags": List(_STRING),
                "text": _STRING,
                "entities": List(_ENTITY),
            }
        ),
        _token_classification_row,
    ),
    "text-classification": (
        Features({"id": _STRING, "text": _STRING, "label": ClassLabel(names=list(TOPICS))}),
        _text_classification_row,
    ),
    "question-answering": (
        Features({"id": _STRING, "context": _STRING, "question": _STRING, "answers": _ANSWERS}),
        _question_answering_row,
    ),
    "summarization": (
        Features({"id": _STRING, "document": _STRING, "summary": _STRING}),
        _summarization_row,
    ),
}
