"""Token classification: every token of a text gets a BIO2 tag, which together mark entities."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import torch
from huggingface_hub.dataclasses import strict
from transformers import (
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..configuration.errors import UserError
from ..recipes.schema import Recipe
from .evaluator import Evaluator
from .labelled import LabelledPreprocessor, LabelledReader, label_fields
from .metrics.paired import ENTITY_F1
from .metrics.tagging import EntityQuality
from .preprocessor import INTS, EncodedRow, pad
from .reader import Example, Rows, shortened
from .task import Task

Span = tuple[int, int]  # first character, and the one behind the last

REPAIRED = "turned {} tags I-TYPE that continue no entity into B-TYPE"
SHARED = (
    "{} tokens share a sub-word with the token before them and do not continue its tag, so that no model can tell them "
    "apart; a finer tokenizer can (tokenizer.kind=characters)"
)


@strict
@dataclass
class TokenClassificationOptions:
    delimiter: str = " "  # between tokens, where there is no `text`; "" where spaces are tokens, or there are none
    repair_tags: bool = True  # I-TYPE that continues no entity becomes B-TYPE, as in IOB1; false: is an error
    stride: int = 32  # sub-words that windows of a long text have in common, at most half a window
    label_all_subwords: bool = False  # else not what follows a token's first; `aggregation_strategy="simple"` wants all
    names: dict[Any, str] = field(default_factory=dict)  # of tags that are numbers: {0: O, 1: B-PER, 2: I-PER}


@dataclass
class TaggedText:
    """A text, where its tokens stand in it, and their tags, which are valid BIO2."""

    text: str
    spans: list[Span]
    tags: list[str]
    repaired: int  # tags


class TokenClassificationReader(LabelledReader):
    """`tokens` and `tags`, two lists of the same length, and `text`, in which the tokens stand in that order."""

    label_role = "tags"

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        if self.options.stride < 0:
            raise UserError(f"options.stride={self.options.stride} must not be negative")
        if recipe.optimization.label_smoothing and recipe.model.config.get("classifier_crf"):
            raise UserError(
                "optimization.label_smoothing is of each label alone, and model.config.classifier_crf=true learns them together; "
                "leave one out"
            )

    def learn(self, train: datasets.Dataset) -> dict[str, Any]:
        name = str(self.column("tags"))
        if self.names:
            self.check_names(train, {tag for tags in train[name] if isinstance(tags, list) for tag in tags})
        kinds: set[str] = set()
        problem = f"column {name!r} marks no entity in the training data: all tags are O"
        for tags in self.prepared(train, "the training data")[name]:
            if isinstance(tags, list):
                for tag in map(self.name_of, tags):
                    if _is_bio2(tag):
                        kinds.add(tag[2:])
                    else:
                        problem = self._not_bio2(tag)
        kinds.discard("")
        if not kinds:
            raise UserError(problem)
        return label_fields(["O", *(f"{prefix}-{kind}" for kind in sorted(kinds) for prefix in "BI")])

    def _not_bio2(self, tag: Any) -> str:
        hint = "; options.names names numbers: {0: O, 1: B-PER}" if isinstance(tag, int) else ""
        return (
            f"column {self.column('tags')!r} has {shortened(repr(tag))}, which is no BIO2 tag "
            f"(O, B-TYPE or I-TYPE){hint}"
        )

    def problems(self, rows: Rows) -> list[str | None]:
        return [row if isinstance(row, str) else None for row in self.read(rows)]

    def read(self, rows: Rows, kinds: Collection[str] | None = None) -> list[TaggedText | str]:
        """Rows, or what is wrong with them.

        Args:
            kinds: The types of entities that there may be. Default: any.
        """
        texts = rows.get("text", [None] * len(rows["tokens"]))
        return [self._read_row(*row, kinds) for row in zip(rows["tokens"], rows["tags"], texts, strict=True)]

    def _read_row(self, tokens: Any, tags: Any, text: Any, kinds: Collection[str] | None) -> TaggedText | str:
        columns = {role: self.column(role) for role in ("tokens", "tags", "text")}
        for role, values in (("tokens", tokens), ("tags", tags)):
            if not isinstance(values, list):
                return f"column {columns[role]!r} holds {shortened(repr(values))}, not a list"
            if not values:
                return f"column {columns[role]!r} is an empty list"
        for token in tokens:
            if not isinstance(token, str):
                return f"column {columns['tokens']!r} holds {shortened(repr(token))}, not a text"
        if len(tokens) != len(tags):
            return f"column {columns['tokens']!r} has {len(tokens)} tokens, column {columns['tags']!r} {len(tags)} tags"
        if not any(token.strip() for token in tokens):
            return f"column {columns['tokens']!r} holds nothing but blank tokens"
        tags = [self.name_of(tag) for tag in tags]
        for tag in tags:
            if not _is_bio2(tag):
                return self._not_bio2(tag)
            if kinds is not None and tag != "O" and tag[2:] not in kinds:
                known = shortened(", ".join(sorted(kinds)), 200)
                return (
                    f"column {columns['tags']!r} has the type {tag[2:]!r}, which training data has not; it has {known}"
                )
        repaired = repair(tags)
        wrong = [at for at, tag in enumerate(tags) if tag != repaired[at]]
        if wrong and not self.options.repair_tags:
            at = wrong[0]
            before = f"after {repaired[at - 1]!r}" if at else "at the start"
            return (
                f"column {columns['tags']!r} has {tags[at]!r} {before}, where it continues no entity; "
                "options.repair_tags=true makes it a B- tag"
            )
        if columns["text"] is None:
            text, spans = join(tokens, self.options.delimiter)
        else:
            if problem := self.text_problem("text", text):
                return problem
            spans = find(tokens, text)
            if len(spans) < len(tokens):
                at = len(spans)
                after = f" after {shortened(repr(tokens[at - 1]))}" if at else ""
                return (
                    f"column {columns['tokens']!r} has {shortened(repr(tokens[at]))}, which does not come{after} "
                    f"in column {columns['text']!r}"
                )
        return TaggedText(text, spans, repaired, len(wrong))

    def asked(self, rows: Rows) -> list[Example]:
        return [{"text": row.text} for row in self.read(rows) if not isinstance(row, str)]

    def texts(self, examples: datasets.Dataset) -> Iterator[list[str]]:
        for rows in self.batches(self.prepared(examples, "the training data")):
            yield [row.text for row in self.read(rows) if not isinstance(row, str)]


class TokenClassificationPreprocessor(LabelledPreprocessor):
    """The text is tokenized as a whole, so that a model is trained on what `pipeline` will give it. A token is represented
    by the first sub-word in it; one whose sub-word represents an earlier token already takes the tag that continues
    that token's.
    """

    reader: TokenClassificationReader
    features = {
        "input_ids": INTS,
        "labels": INTS,
        "represented": INTS,  # for each sub-word the token that it represents; -1 for none
        "sources": INTS,  # for each token of the text the one whose tag it continues, itself, or -1; in its first window
    }
    needs_places = True

    def __init__(self, reader: LabelledReader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        super().__init__(reader, tokenizer, config)
        self.numbers = {label: number for number, label in enumerate(self.labels)}
        self.kinds = {label[2:] for label in self.labels if label.startswith("B-")}

    def encode_rows(self, rows: Rows, is_scored: bool) -> list[EncodedRow | str]:
        read = self.reader.read(rows, self.kinds)
        valid = [row for row in read if not isinstance(row, str)]
        if not valid:
            return [row for row in read if isinstance(row, str)]
        encodings = self.tokenizer([row.text for row in valid], return_offsets_mapping=True, verbose=False)
        found = iter(zip(encodings["input_ids"], encodings["offset_mapping"], strict=True))
        before, after = self._template_lengths()
        return [row if isinstance(row, str) else self._encode_row(row, *next(found), before, after) for row in read]

    def _template_lengths(self) -> tuple[int, int]:
        """How many special tokens the tokenizer puts before and behind a text."""
        mask = self.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        return mask.index(0), mask[::-1].index(0)

    def _encode_row(
        self, row: TaggedText, ids: list[int], offsets: list[Span], before: int, after: int
    ) -> EncodedRow | str:
        length = len(ids) - before - after
        offsets = [without_space(row.text, span) for span in offsets[before : before + length]]
        sources, represented = align(row.spans, offsets)
        if not any(token >= 0 for token in represented):
            return f"column {self.reader.column('tokens')!r} has no token in which the tokenizer finds a sub-word"
        shared = sum(
            0 <= source < token and row.tags[token] != continued(row.tags[source])
            for token, source in enumerate(sources)
        )
        tags = subword_tags(row, offsets, represented, self.options.label_all_subwords)
        labels = [-100 if tag is None else self.numbers[tag] for tag in tags]
        limit = self.max_source_length
        size = limit - before - after
        if size < 1:
            raise UserError(f"a longest length of {limit} leaves no room beside the {before + after} special tokens")
        encoded: list[dict[str, Any]] = []
        for start, stop, first, last in windows(length, size, min(self.options.stride, size // 2)):
            nothing_before, nothing_after = before + first - start, stop - last + after
            encoded.append(
                {
                    "input_ids": ids[:before] + ids[before + start : before + stop] + ids[before + length :],
                    "labels": [-100] * nothing_before + labels[first:last] + [-100] * nothing_after,
                    "represented": [-1] * nothing_before + represented[first:last] + [-1] * nothing_after,
                    "sources": sources if start == 0 else [],
                }
            )
        return EncodedRow(encoded, +Counter({REPAIRED: row.repaired, SHARED: shared}))

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        return {**self.padded(rows["input_ids"]), "labels": pad(rows["labels"], -100)}


class TokenClassificationEvaluator(Evaluator):
    preprocessor: TokenClassificationPreprocessor
    reader: TokenClassificationReader

    def evaluate(self, model: PreTrainedModel, final: bool) -> dict[str, Any]:
        examples: Any = self.split.examples
        found = []
        for indices, batch, output in self.outputs(model):
            answers = output.logits.argmax(dim=-1).tolist()
            loss, count = float(output.loss), int((batch["labels"] != -100).sum())
            for index, answer in zip(indices, answers, strict=True):
                found.append((int(index), answer, loss, count))
                loss, count = 0.0, 0  # of a batch, with its first row
        _, answers, losses, counts = zip(*self.gathered(found), strict=True)
        predictions: list[list[str | None]] = []
        sources: list[list[int]] = []
        for row, answer in zip(examples.select_columns(["represented", "sources"]), answers, strict=True):
            if row["sources"]:
                sources.append(row["sources"])
                predictions.append([None] * len(row["sources"]))
            for token, label in zip(row["represented"], answer, strict=False):  # the answer has padding
                if token >= 0:
                    predictions[-1][token] = self.preprocessor.labels[label]
        tags = [complete(*row) for row in zip(predictions, sources, strict=True)]
        scores = EntityQuality(keep_in_memory=True).compute(predictions=tags, references=self.references())
        details = [{"entities": entities_in(*pair)} for pair in zip(self._rows(), tags, strict=True)]
        return {**scores, "loss": sum(losses) / sum(counts), "predictions": tags, "details": details}

    def references(self) -> list[list[str]]:
        return [row.tags for row in self._rows()]

    def _rows(self) -> Iterator[TaggedText]:
        for rows in self.reader.batches(self.split.rows):
            yield from (row for row in self.reader.read(rows) if not isinstance(row, str))


def entities_in(row: TaggedText, tags: Sequence[str]) -> list[dict[str, Any]]:
    """The entities that valid BIO2 tags mark in a text: each is the slice `[start:end]` of it."""
    found: list[dict[str, Any]] = []
    for tag, (start, end) in zip(tags, row.spans, strict=True):
        if tag[:2] == "B-":
            found.append({"label": tag[2:], "start": start, "end": end})
        elif tag != "O":
            found[-1]["end"] = end
    return [{"text": row.text[one["start"] : one["end"]], **one} for one in found]


def _is_bio2(tag: Any) -> bool:
    return isinstance(tag, str) and (tag == "O" or (tag[:2] in ("B-", "I-") and len(tag) > 2))


def continued(tag: str) -> str:
    """The tag of a token that belongs to what the token before it does."""
    return "O" if tag == "O" else f"I-{tag[2:]}"


def repair(tags: Sequence[str]) -> list[str]:
    """Valid BIO2: an I- tag that continues no entity of its type begins one."""
    return [
        f"B-{tag[2:]}" if tag[:2] == "I-" and tag != continued(before) else tag
        for before, tag in zip(("O", *tags), tags, strict=False)
    ]


def join(tokens: Sequence[str], delimiter: str) -> tuple[str, list[Span]]:
    """Tokens as a text, and where they stand in it."""
    spans, start = [], 0
    for token in tokens:
        spans.append((start, start + len(token)))
        start += len(token) + len(delimiter)
    return delimiter.join(tokens), spans


def find(tokens: Sequence[str], text: str) -> list[Span]:
    """Where tokens stand in a text, one behind the other; ends before the first that is not there."""
    spans: list[Span] = []
    end = 0
    for token in tokens:
        start = text.find(token, end)
        if start < 0:
            break
        end = start + len(token)
        spans.append((start, end))
    return spans


def without_space(text: str, span: Span) -> Span:
    """A sub-word without the space before it; one that is all space as it is."""
    start, end = span
    if not text[start : start + 1].isspace():
        return span
    return (end - len(part), end) if (part := text[start:end].lstrip()) else span


def align(spans: Sequence[Span], offsets: Sequence[Span]) -> tuple[list[int], list[int]]:
    """Which sub-word represents which token: the first in it, unless an earlier token has that already.

    Args:
        spans: Of tokens, in the order of the text.
        offsets: Of sub-words, in the order of the text; several may stand for one character.

    Returns:
        For each token itself where it has a sub-word, else the earlier token that has its sub-word, else -1 where no
        sub-word is in it; and for each sub-word the token that it represents, or -1.
    """
    first: dict[int, int] = {}  # the first sub-word of each character
    for number, (start, end) in enumerate(offsets):
        for character in range(start, end):
            first.setdefault(character, number)
    sources, represented = [], [-1] * len(offsets)
    for token, span in enumerate(spans):
        subword = next((first[character] for character in range(*span) if character in first), None)
        if subword is None:
            sources.append(-1)
            continue
        if represented[subword] < 0:
            represented[subword] = token
        sources.append(represented[subword])
    return sources, represented


def subword_tags(row: TaggedText, offsets: Sequence[Span], represented: Sequence[int], every: bool) -> list[str | None]:
    """A tag for every sub-word; unless for `every`, None for those that follow the first of their token.

    Between tokens (a space that the tokenizer has apart) it is I- where an entity goes on, or `pipeline` would end it.
    """
    token_at = {character: token for token, span in enumerate(row.spans) for character in range(*span)}
    tags: list[str | None] = []
    behind = 0  # the first token that does not begin before the sub-word
    for (start, end), token in zip(offsets, represented, strict=True):
        while behind < len(row.spans) and row.spans[behind][0] < start:
            behind += 1
        if token >= 0:
            tags.append(row.tags[token])
        elif (inside := next((token_at[at] for at in range(start, end) if at in token_at), -1)) >= 0:
            tags.append(continued(row.tags[inside]) if every else None)
        else:
            next_tag = row.tags[behind] if behind < len(row.tags) else "O"
            tags.append(next_tag if next_tag[:2] == "I-" else "O")
    return tags


def windows(length: int, size: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Where the windows of a text start and stop, and the first and last (not included) of their own sub-words.

    Neighbours share the overlap evenly, so that each sub-word belongs to one window, where it has the most context.

    Args:
        length: Of the text, in sub-words.
        size: Of a window.
        overlap: At most half the size.
    """
    starts = range(0, max(1, length - overlap), size - overlap)
    own = [0, *(start + overlap // 2 for start in starts[1:]), length]
    return [(start, min(start + size, length), own[n], own[n + 1]) for n, start in enumerate(starts)]


def complete(tags: Sequence[str | None], sources: Sequence[int]) -> list[str]:
    """Valid BIO2 of the tags that were predicted.

    Args:
        tags: None where a token has no sub-word of its own.
        sources: As from `align`. A token without a sub-word continues an entity that goes on behind it.
    """
    filled = [
        continued(str(tags[source])) if 0 <= source < token else tags[token] for token, source in enumerate(sources)
    ]
    behind: list[str] = []  # the next known tag behind each token, from the last to the first
    for tag in reversed([*filled[1:], "O"]):
        behind.append(behind[-1] if tag is None else tag)
    complete_tags: list[str] = []
    known = "O"
    for tag, next_tag in zip(filled, reversed(behind), strict=True):
        if tag is None:
            complete_tags.append(next_tag if known != "O" and next_tag == continued(known) else "O")
        else:
            complete_tags.append(tag)
            known = tag
    return repair(complete_tags)


TOKEN_CLASSIFICATION = Task(
    name="token-classification",
    also_called=("ner", "tagging", "pos", "pos-tagging", "named-entity-recognition", "chunking"),
    pipeline_tag="token-classification",
    auto_class=AutoModelForTokenClassification,
    families=("trefoil_encoder", "trefoil_decoder"),
    roles=("tokens", "tags"),
    optional_roles=("text",),
    options=TokenClassificationOptions,
    metrics=("f1", "precision", "recall", "token_accuracy"),
    asked=("tokens",),
    measure=lambda *_: ENTITY_F1,
    reader=TokenClassificationReader,
    preprocessor=TokenClassificationPreprocessor,
    evaluator=TokenClassificationEvaluator,
)
