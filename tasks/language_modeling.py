"""Language modelling: what the causal and the masked kind have in common, which is how text becomes rows of tokens.

Documents are packed: a row holds as many as fit, and `sequence_ids` keep them from seeing each other. So hardly a token of
a batch is padding, whatever the lengths of the documents, and nothing of a long one is lost.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import datasets
import numpy as np
import torch
from huggingface_hub.dataclasses import strict

from .base import Task, gathered, pad, text_problem
from .metrics.language_modeling import language_model_scores

Columns = tuple[np.ndarray, np.ndarray]


@strict
@dataclass
class LanguageModelOptions:
    documents: Literal["row", "stream"] = "row"  # each row is a document of its own, or a line of one running text


class LanguageModelTask(Task):
    """Texts, cut into rows of `batches.max_source_length` tokens (default: the model's positions)."""

    roles = ("text",)
    metrics = ("perplexity", "word_perplexity", "bits_per_byte")
    minimized = metrics

    @property
    def is_stream(self) -> bool:
        return self.options.documents == "stream"

    def token_columns(self, texts: list[str]) -> Iterator[Columns]:
        """The texts' documents, or in a stream its next piece, as the columns of `features` without `sequence_ids`."""
        raise NotImplementedError

    def encode(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        return self.pack(examples, where)

    def pack(self, examples: datasets.Dataset, where: str, stride: int | None = None) -> datasets.Dataset:
        """Documents as rows of tokens; for `stride` see `Packer`."""
        length = self.max_lengths()[0]
        packer = Packer(length, min(stride or length, length), tuple(self.features))

        def pack_batch(rows: dict[str, list], indices: list[int]) -> dict[str, list]:
            texts = []
            rows = self.by_role(rows)
            for index, text, problem in zip(indices, rows["text"], self.scoring_problems(rows), strict=True):
                if problem is None:
                    texts.append(text)
                else:
                    self.report(where, index, problem)
            for columns in self.token_columns(texts):
                packer.add(columns, continues=self.is_stream)
            return packer.take(everything=indices[-1] == len(examples) - 1)

        self.begin()
        return self.map_rows(examples, where, pack_batch, dict(self.features))

    def begin(self) -> None:
        """A new text comes."""

    def scoring_problems(self, rows: dict[str, list]) -> list[str | None]:
        column = self.column("text")
        if self.is_stream:  # of a running text, an empty line is a line
            return [None if isinstance(text, str) else text_problem(column, text) for text in rows["text"]]
        return [text_problem(column, text) for text in rows["text"]]

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        """`input_ids` and `labels` and, where rows hold several documents or differ in length, what keeps those apart."""
        batch = {"input_ids": pad(rows["input_ids"], self.tokenizer.pad_token_id), "labels": pad(rows["labels"], -100)}
        sequence_ids = pad(rows["sequence_ids"], -1)
        if bool((sequence_ids == sequence_ids[:, :1]).all()):
            return batch
        return batch | {"sequence_ids": sequence_ids, "position_ids": positions_within(sequence_ids)}

    def scores(
        self,
        found: list[tuple[int, float, int]],
        examples: datasets.Dataset,
        accelerator: Any,
        tokens: int | None = None,
    ) -> dict[str, Any]:
        """Scores, given the number, summed loss and labels of batches.

        Words are what white space separates and an end for each row, which is predicted too; so the tokens of a text
        that is split into words already are counted as they are in the literature.

        Args:
            tokens: Of the whole text, where only some were scored. Default: as many as labels.
        """
        totals = gathered(found, accelerator)
        labels = sum(count for _, _, count in totals)
        tokens = labels if tokens is None else tokens
        words = size = 0
        for rows in examples.select_columns(self.columns()).iter(batch_size=1000):
            texts = self.by_role(rows)["text"]
            words += sum(len(text.split()) + 1 for text in texts)
            size += sum(len(line.encode()) for line in as_lines(texts))
        return language_model_scores(sum(loss for _, loss, _ in totals) / labels * tokens, tokens, words, size)


class Packer:
    """Puts documents end to end and cuts rows of `length` tokens, each `stride` tokens further than the one before.

    Args:
        columns: Names of the tokens' columns, the last of which numbers the documents. Where rows overlap, `labels` that
            an earlier row had are not counted again.
    """

    def __init__(self, length: int, stride: int, columns: tuple[str, ...]) -> None:
        self.length, self.stride, self.columns = length, stride, columns
        self.waiting: list[list[np.ndarray]] = [[] for _ in columns]
        self.documents = 0
        self.overlap = 0  # of the waiting tokens, those that an earlier row had

    def add(self, document: Columns, continues: bool = False) -> None:
        """A document, or the next piece of the only one."""
        number = np.full(len(document[0]), 0 if continues else self.documents)
        for waiting, values in zip(self.waiting, (*document, number), strict=True):
            waiting.append(values)
        self.documents += 1

    def take(self, everything: bool) -> dict[str, list[np.ndarray]]:
        """The rows that are full and, if asked for, the rest."""
        tokens = {
            name: np.concatenate(waiting) if waiting else np.empty(0, dtype=np.int64)
            for name, waiting in zip(self.columns, self.waiting, strict=True)
        }
        rows: dict[str, list[np.ndarray]] = {name: [] for name in self.columns}
        size, start = len(tokens[self.columns[0]]), 0
        while start + self.length <= size or (everything and start + self.overlap < size):
            end = min(start + self.length, size)
            for name, values in tokens.items():
                rows[name].append(values[start:end].copy())
            if "labels" in tokens:
                tokens["labels"][start:end] = -100
            self.overlap = self.length - self.stride
            start += self.stride
        self.waiting = [[values[start:]] for values in tokens.values()]
        return rows


def as_lines(texts: list[str]) -> list[str]:
    return [text.removesuffix("\n") + "\n" for text in texts]


def positions_within(sequence_ids: torch.Tensor) -> torch.Tensor:
    """`position_ids` of packed rows `(B, T)`: counted from the start of each run of equal ids."""
    index = torch.arange(sequence_ids.shape[1]).expand_as(sequence_ids)
    starts = torch.ones_like(sequence_ids, dtype=torch.bool)
    starts[:, 1:] = sequence_ids[:, 1:] != sequence_ids[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values
