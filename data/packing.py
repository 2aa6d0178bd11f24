"""Packing: documents in rows of equal length, end to end or each where it fits best. A view of token ids on the disk;
nothing is stored again."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc

from .encoded import compute_once, count_in_lists, list_lengths


class FlatColumn:
    """A column of lists of integers as one long array, which stays where it is mapped into memory."""

    def __init__(self, examples: datasets.Dataset, column: str) -> None:
        chunks = [chunk for chunk in examples.data.column(column).chunks if len(chunk)]
        lengths = [pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False) for chunk in chunks]
        self.lengths = np.concatenate(lengths).astype(np.int64) if lengths else np.zeros(0, dtype=np.int64)
        # null lists take no place among the values; `flatten` would copy to leave them out
        ends = [(chunk.offsets[0].as_py(), chunk.offsets[-1].as_py()) for chunk in chunks]
        self.pieces = [chunk.values[first:last].to_numpy() for chunk, (first, last) in zip(chunks, ends, strict=True)]
        self.starts = [0, *accumulate(map(len, self.pieces))]

    def slice(self, start: int, end: int) -> np.ndarray:
        """Values from `start` to `end`, as int64."""
        first = bisect_right(self.starts, start) - 1
        parts = []
        while start < end:
            piece, offset = self.pieces[first], self.starts[first]
            parts.append(piece[start - offset : end - offset])
            start, first = offset + len(piece), first + 1
        if len(parts) == 1:
            return parts[0].astype(np.int64)
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


class Packed:
    """Rows of documents, or of parts of them. Of each token, `sequence_ids` holds the number of its document, and `pieces`
    that of the list that it comes from."""

    encoded: datasets.Dataset

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, indices: Any) -> dict[str, list]:
        numbers = range(len(self))[indices] if isinstance(indices, slice) else indices
        rows = [self.row(int(number)) for number in numbers]
        return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}

    def row(self, index: int) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """The lengths of what each document has in a row, row by row, and at which of them each row begins."""
        raise NotImplementedError


class PackedRows(Packed):
    """Documents end to end, cut into rows: row `i` holds the tokens from `i * stride` on, so many as `length`.

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

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        starts = np.arange(len(self), dtype=np.int64) * self.stride
        ends = np.union1d(self.ends, np.append(starts[1:], self.places))
        return np.diff(ends, prepend=0), np.searchsorted(ends, starts, side="right")


class BestFitRows(Packed):
    """Each document in the fullest row that still has room for it, the longest first (Ding et al. 2024): none is cut but
    those that are longer than a row, and of these the parts that fill a row are rows by themselves.

    Args:
        encoded, columns, length, shifted: As of `PackedRows`; so are the rows, under the same names.
    """

    def __init__(self, encoded: datasets.Dataset, columns: Sequence[str], length: int, shifted: bool = False) -> None:
        self.arguments = (encoded, columns, length, shifted)
        self.encoded, self.length, self.shifted = encoded, length, shifted
        self.columns = {name: FlatColumn(encoded, name) for name in columns}
        self.ids = columns[0]
        sizes = self.columns[self.ids].lengths
        places = np.maximum(sizes - shifted, 0)
        counts = -(-places // length)  # of the parts of each document
        self.places, self.documents, self.cut = int(places.sum()), int((counts > 0).sum()), int((counts > 1).sum())
        identity = [Path(__file__).read_bytes(), self.ids, length, shifted]
        # of parts, row by row: their documents, where they begin among all tokens, their sizes and their rows
        self.pieces, self.starts, self.sizes, rows = compute_once(
            encoded, identity, lambda: _best_fit(sizes, places, length)
        )
        self.firsts = np.flatnonzero(np.diff(rows, prepend=-1))

    def __reduce__(self) -> tuple:
        """For another process, which maps the file itself."""
        return BestFitRows, self.arguments

    def __len__(self) -> int:
        return len(self.firsts)

    def row(self, index: int) -> dict[str, np.ndarray]:
        end = self.firsts[index + 1] if index + 1 < len(self) else len(self.sizes)
        parts = range(self.firsts[index], end)

        def joined(name: str, after: int = 0) -> np.ndarray:
            column = self.columns[name]
            starts = self.starts[parts] + after
            return np.concatenate(
                [column.slice(at, at + size) for at, size in zip(starts, self.sizes[parts], strict=True)]
            )

        row = {name: joined(name) for name in self.columns}
        if self.shifted:
            row["labels"] = joined(self.ids, after=1)
        documents = np.repeat(self.pieces[parts], self.sizes[parts])
        return row | {"sequence_ids": documents, "pieces": documents}

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        return self.sizes, self.firsts

    def remark(self) -> str:
        """How well they fit."""
        padding = 1 - self.places / max(1, len(self) * self.length)
        return f"best-fit packing: {len(self):,} rows, {padding:.2%} padding, {self.cut:,} of {self.documents:,} documents cut"


def _best_fit(sizes: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """Of the parts of documents, in the order of their rows: the document, the start, the size and the row, `(4, parts)`."""
    counts = -(-places // length)
    pieces = np.repeat(np.arange(len(sizes)), counts)
    within = length * (np.arange(len(pieces)) - np.repeat(np.cumsum(counts) - counts, counts))
    parts = np.minimum(length, places[pieces] - within)
    rows = best_fit(parts, length)
    order = np.argsort(rows, kind="stable")
    starts = (np.cumsum(sizes) - sizes)[pieces] + within
    return np.stack([values[order] for values in (pieces, starts, parts, rows)])


def best_fit(sizes: np.ndarray, length: int) -> np.ndarray:
    """The row of each part, by best-fit decreasing: of the rows with room for it, one of those with the least.

    Args:
        sizes: Of the parts, at most `length`.
    """
    rows = np.empty(len(sizes), dtype=np.int64)
    rooms: list[int] = []  # that some row has left, in order
    with_room: dict[int, list[int]] = {}
    count = 0
    order = np.argsort(-sizes, kind="stable")
    for part, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        at = bisect_left(rooms, size)
        if at == len(rooms):
            row, room, count = count, length, count + 1
        else:
            room = rooms[at]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[at]
        rows[part] = row
        if left := room - size:
            if left not in with_room:
                insort(rooms, left)
            with_room.setdefault(left, []).append(row)
    return rows


@list_lengths.register
def _(examples: PackedRows, column: str) -> np.ndarray:
    starts = np.arange(len(examples), dtype=np.int64) * examples.stride
    return np.minimum(examples.length, examples.places - starts)


@list_lengths.register
def _(examples: BestFitRows, column: str) -> np.ndarray:
    return np.add.reduceat(examples.sizes, examples.firsts) if len(examples) else np.zeros(0, dtype=np.int64)


@count_in_lists.register(PackedRows)
@count_in_lists.register(BestFitRows)
def _(examples: Packed, column: str, value: int) -> int:
    return count_in_lists(examples.encoded, column, value)
