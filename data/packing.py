"""Packing: documents end to end, cut into rows of equal length. A view of token ids on the disk; nothing is stored again."""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc

from .encoded import count_in_lists, list_lengths


class FlatColumn:
    """A column of lists of integers as one long array, which stays where it is mapped into memory."""

    def __init__(self, examples: datasets.Dataset, column: str) -> None:
        chunks = [chunk for chunk in examples.data.column(column).chunks if len(chunk)]
        lengths = [pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False) for chunk in chunks]
        self.lengths = np.concatenate(lengths).astype(np.int64) if lengths else np.zeros(0, dtype=np.int64)
        # null lists take no place among the values; `flatten` would copy to leave them out
        ends = [(chunk.offsets[0].as_py(), chunk.offsets[-1].as_py()) for chunk in chunks]
        self.pieces = [chunk.values[first:last].to_numpy() for chunk, (first, last) in zip(chunks, ends, strict=True)]
        self.starts = np.concatenate([[0], np.cumsum([len(piece) for piece in self.pieces], dtype=np.int64)])

    def slice(self, start: int, end: int) -> np.ndarray:
        """Values from `start` to `end`, as int64."""
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        parts = []
        while start < end:
            piece, offset = self.pieces[first], int(self.starts[first])
            parts.append(piece[start - offset : end - offset])
            start, first = offset + len(piece), first + 1
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


class PackedRows:
    """Row `i` holds the tokens from `i * stride` on, so many as `length`; under `sequence_ids` the number of each one's
    document, and under `pieces` that of the list that it comes from.

    Args:
        encoded: Documents, or the pieces of one running text, as lists of token ids. Invalid ones are null.
        columns: Of token ids and, for each, of what else is known.
        length: Of a row, in tokens.
        stride: Between the starts of rows; less than `length` where they overlap.
        shifted: Each token is also given the next one of its document, as a label; the last has none, and no place. Where
            rows overlap, what an earlier row had is no label again.
        is_stream: All is one document.
    """

    def __init__(
        self,
        encoded: datasets.Dataset,
        columns: Sequence[str],
        length: int,
        stride: int | None = None,
        shifted: bool = False,
        is_stream: bool = False,
    ) -> None:
        self.arguments = (encoded, columns, length, stride, shifted, is_stream)
        self.encoded = encoded  # for rows of another stride
        self.length, self.stride, self.shifted = length, min(stride or length, length), shifted
        self.columns = {name: FlatColumn(encoded, name) for name in columns}
        self.ids = columns[0]
        sizes = self.columns[self.ids].lengths
        self.pieces = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        sizes = np.array([sizes.sum()]) if is_stream else sizes[sizes > 0]
        self.ends = np.cumsum(np.maximum(sizes - shifted, 0), dtype=np.int64)  # of documents, in places of rows
        self.places = int(self.ends[-1]) if len(self.ends) else 0

    def __reduce__(self) -> tuple:
        """For another process, which maps the file itself."""
        return PackedRows, self.arguments

    def __len__(self) -> int:
        # the last row begins before all that is not in an earlier one
        return max(0, -(-(self.places - (self.length - self.stride)) // self.stride)) or min(1, self.places)

    def __getitem__(self, indices: Any) -> dict[str, list]:
        numbers = range(len(self))[indices] if isinstance(indices, slice) else indices
        rows = [self.row(int(number)) for number in numbers]
        return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}

    def row(self, index: int) -> dict[str, np.ndarray]:
        start = index * self.stride
        places = np.arange(start, min(start + self.length, self.places))
        documents = np.searchsorted(self.ends, places, side="right")
        at = places + documents * self.shifted  # each document before has a last token without a place
        first, last = int(at[0]), int(at[-1]) + 1
        row = {name: column.slice(first, last)[at - first] for name, column in self.columns.items()}
        if self.shifted:
            labels = self.columns[self.ids].slice(first + 1, last + 1)[at - first]
            labels[: self.length - self.stride if index else 0] = -100
            row["labels"] = labels
        return row | {"sequence_ids": documents, "pieces": np.searchsorted(self.pieces, at, side="right") - 1}


@list_lengths.register
def _(examples: PackedRows, column: str) -> np.ndarray:
    starts = np.arange(len(examples), dtype=np.int64) * examples.stride
    return np.minimum(examples.length, examples.places - starts)


@count_in_lists.register
def _(examples: PackedRows, column: str, value: int) -> int:
    return count_in_lists(examples.encoded, column, value)
