"""Language modelling: what the causal and the masked kind have in common, which is how text becomes rows of tokens.

Documents are packed: a row holds as many as fit, and `sequence_ids` keep them from seeing each other. So hardly a token of
a batch is padding, whatever the lengths of the documents, and nothing of a long one is lost.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import datasets
import torch
from huggingface_hub.dataclasses import strict

from ..configuration.errors import UserError
from ..data.packing import BestFitRows, PackedRows
from ..data.tokenizer import bare_ids, padding_id
from ..recipes.schema import Recipe
from .evaluator import Evaluator
from .metrics.language_modeling import language_model_scores
from .preprocessor import EncodedRow, Preprocessor, Split, pad
from .reader import Reader, Rows
from .task import Task


@strict
@dataclass
class LanguageModelOptions:
    documents: Literal["row", "stream"] = "row"  # each row is a document of its own, or a line of one running text
    # end to end, cut where a row is full; or each document in a row with room for it; default: wrapped, of a stream best_fit
    packing: Literal["wrapped", "best_fit"] | None = None


METRICS = ("perplexity", "word_perplexity", "bits_per_byte")


class LanguageModelReader(Reader):
    """Texts, each a document, or a line of one running text."""

    can_stream = True
    predicts_tokens = True

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        if self.is_stream and self.options.packing == "best_fit":
            raise UserError("options.packing=best_fit is for documents; options.documents=stream is one, cut into rows")
        if self.is_stream and recipe.data.streaming:
            raise UserError(
                "options.documents=stream is a text that runs on, and data.streaming shuffles its lines; set "
                "options.documents=row, with a document in each row, which options.packing=wrapped packs end to end"
            )

    @property
    def packing(self) -> str:
        return self.options.packing or ("best_fit" if self.recipe.data.streaming else "wrapped")

    @property
    def is_stream(self) -> bool:
        return self.options.documents == "stream"

    def texts(self, examples: datasets.Dataset) -> Iterator[list[str]]:
        for texts in super().texts(examples):
            yield as_lines(texts) if self.is_stream else texts

    def text_problem(self, role: str, text: Any) -> str | None:
        if self.is_stream and isinstance(text, str):  # of a running text, an empty line is a line
            return None
        return super().text_problem(role, text)


class LanguageModelPreprocessor(Preprocessor):
    """Documents as token ids, and their rows of `batches.max_source_length` tokens (default: the model's positions)."""

    reader: LanguageModelReader
    shifted: ClassVar[bool]  # whether each token is to tell the next

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """The special tokens before and behind a document; a stream has none."""
        return [], []

    @property
    def before_first(self) -> list[int]:
        """What stands before the first token of a text that is read by itself: what a document begins with or, in a stream,
        the end of the line before."""
        return bare_ids(self.tokenizer, ["\n"])[0][-1:] if self.reader.is_stream else self.around[0]

    def document_ids(self, texts: list[str]) -> list[dict[str, list[int]]]:
        """The columns of `features` of texts: documents with what stands around them, or lines of a stream."""
        raise NotImplementedError

    def encode_rows(self, rows: Rows, is_scored: bool) -> list[EncodedRow | str]:
        problems = self.reader.problems(rows)
        texts = [text for text, problem in zip(rows["text"], problems, strict=True) if problem is None]
        found = iter(self.document_ids(as_lines(texts) if self.reader.is_stream else texts) if texts else [])
        return [EncodedRow([next(found)]) if problem is None else problem for problem in problems]

    @property
    def packed_length(self) -> int:
        """Of a row, in tokens."""
        return self.max_source_length

    def finished(self, split: Split, encoded: datasets.Dataset) -> Split:
        # what is scored is packed in one way, so that scores compare
        is_best_fit = self.reader.packing == "best_fit" and not split.is_scored
        packed = self.best_fit(encoded) if is_best_fit else self.packed(encoded)
        if isinstance(packed, BestFitRows):
            split.notes[packed.remark()] += 1
        return replace(split, examples=packed)

    def packed(self, encoded: datasets.Dataset, stride: int | None = None) -> PackedRows:
        is_stream = self.reader.is_stream
        return PackedRows(encoded, list(self.features), self.packed_length, stride, self.shifted, is_stream)

    def best_fit(self, encoded: datasets.Dataset) -> BestFitRows:
        return BestFitRows(encoded, list(self.features), self.packed_length, self.shifted)

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        """`input_ids` and `labels` and, where rows hold several documents or differ in length, what keeps those apart."""
        batch = {"input_ids": pad(rows["input_ids"], padding_id(self.tokenizer)), "labels": pad(rows["labels"], -100)}
        sequence_ids = pad(rows["sequence_ids"], -1)
        if bool((sequence_ids == sequence_ids[:, :1]).all()):
            return batch
        return batch | {"sequence_ids": sequence_ids, "position_ids": positions_within(sequence_ids)}


class LanguageModelEvaluator(Evaluator):
    def scores(self, found: list[tuple[int, float, int]], tokens: int | None = None) -> dict[str, Any]:
        """Scores, given the number, summed loss and labels of batches.

        Words are what white space separates and an end for each row, which is predicted too; so the tokens of a text
        that is split into words already are counted as they are in the literature.

        Args:
            tokens: Of the whole text, where only some were scored. Default: as many as labels.
        """
        totals = self.gathered(found)
        labels = sum(count for _, _, count in totals)
        tokens = labels if tokens is None else tokens
        words = size = 0
        for rows in self.reader.batches(self.split.rows):
            words += sum(len(text.split()) + 1 for text in rows["text"])
            size += sum(len(line.encode()) for line in as_lines(rows["text"]))
        return language_model_scores(sum(loss for _, loss, _ in totals) / labels * tokens, tokens, words, size)


def as_lines(texts: list[str]) -> list[str]:
    return [text.removesuffix("\n") + "\n" for text in texts]


def positions_within(sequence_ids: torch.Tensor) -> torch.Tensor:
    """`position_ids` of packed rows `(B, T)`: counted from the start of each run of equal ids; 0 for padding, which has -1."""
    index = torch.arange(sequence_ids.shape[1]).expand_as(sequence_ids)
    starts = torch.ones_like(sequence_ids, dtype=torch.bool)
    starts[:, 1:] = sequence_ids[:, 1:] != sequence_ids[:, :-1]
    return (index - torch.where(starts, index, 0).cummax(dim=1).values) * (sequence_ids >= 0)
