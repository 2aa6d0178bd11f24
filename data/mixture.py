"""A mixture: rows of several sources by their weights, without an end, divided among readers.

A reader is one of those, over all processes, that make batches; each has its own part of every source. It takes as many
rows at once as the shuffle buffer holds, as a block: what it does with them is a function of the block alone. So where a
reader stands is where its sources stood when the block began, as `datasets` tells it, and how far it is in the block.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from datasets.distributed import split_dataset_by_node

from ..configuration.errors import UserError
from .streaming import PLACE, Source, told_in_a_line

CHUNK = 16  # rows that are read at once
CHARACTERS = 2**25  # of the texts of a block, which ends where it has so many, however few its rows are


@dataclass(frozen=True)
class Seat:
    """One reader among all."""

    number: int = 0
    count: int = 1


@dataclass
class Block:
    """Rows that are shuffled together.

    Args:
        number: Counted from 0, for each reader.
        rows: Column -> values, in a random order.
        places: Where each row stands, for messages.
        sources: The number of each row's source.
        start, end: Where the sources stood before and after.
    """

    number: int
    rows: dict[str, list]
    places: list
    sources: np.ndarray
    start: list[dict[str, Any]]
    end: list[dict[str, Any]]


def beginning() -> dict[str, Any]:
    """Where a source stands that was not read yet: passes that are finished, rows that were read of this one and of all, rows
    that are to be left out, and what `datasets` says."""
    return {"passes": 0, "rows": 0, "total": 0, "skip": 0, "state": None}


class SourceReader:
    """A reader's part of one source: where its end is reached, it begins again, with the shards in another order."""

    def __init__(self, source: Source, seat: Seat, seed: int, state: dict[str, Any] | None = None) -> None:
        self.source, self.seat, self.seed = source, seat, seed
        state = state or beginning()
        self.passes, self.rows, self.total = state["passes"], state["rows"], state["total"]
        self.skip, self.inner = state["skip"], state["state"]
        self.part: datasets.IterableDataset | None = None

    def state(self) -> dict[str, Any]:
        """As of `beginning`, after a chunk."""
        inner = self.inner if self.part is None else self.part.state_dict()
        return {"passes": self.passes, "rows": self.rows, "total": self.total, "skip": self.skip, "state": inner}

    def chunks(self) -> Iterator[dict[str, list]]:
        while True:
            part, rows_before = self._part(), self.rows
            if self.inner is not None:
                part.load_state_dict(self.inner)
            with told_in_a_line(self.source.name, "cannot be read on"):
                for chunk in part.iter(batch_size=CHUNK):
                    self.part = part
                    if chunk := self._unskipped(chunk):
                        yield chunk
            if self.rows == rows_before == 0:
                of = f" for reader {self.seat.number + 1} of {self.seat.count}" if self.seat.count > 1 else ""
                raise UserError(f"{self.source.name}: there are no rows{of}; a stream needs at least one for each")
            self.passes, self.rows, self.skip, self.inner, self.part = self.passes + 1, 0, 0, None, None

    def _unskipped(self, chunk: dict[str, list]) -> dict[str, list] | None:
        size = len(next(iter(chunk.values())))
        skipped = min(size, self.skip)
        self.rows, self.total, self.skip = self.rows + size, self.total + size - skipped, self.skip - skipped
        return {name: values[skipped:] for name, values in chunk.items()} if skipped < size else None

    def _part(self) -> datasets.IterableDataset:
        rows, (number, count) = self.source.rows, (self.seat.number, self.seat.count)
        if rows.num_shards >= count:
            part = rows.shard(count, number, contiguous=False)
        else:  # every so manieth row
            part = split_dataset_by_node(rows, number, count)
        # the order of the shards is a function of what `datasets` calls an epoch
        part.set_epoch(1 + (self.seed * 1_000_003 + self.passes) % 2**31)
        return part


class Mixture:
    """A reader's blocks.

    Args:
        sources: Where rows come from: of each, as many as its weight says, within a chunk.
        size: Of a block, in rows.
        seat: The reader, among all.
        seed: Of the order of shards, and of the rows in a block.
    """

    def __init__(self, sources: list[Source], size: int, seat: Seat, seed: int) -> None:
        self.sources, self.size, self.seat, self.seed = sources, size, seat, seed
        weights = np.array([source.weight for source in sources], dtype=np.float64)
        self.weights = weights / weights.sum()

    def blocks(self, number: int = 0, start: list[dict[str, Any]] | None = None) -> Iterator[Block]:
        """All blocks from one on, given where its sources stood."""
        readers = [
            SourceReader(source, self.seat, self.seed, start[index] if start else None)
            for index, source in enumerate(self.sources)
        ]
        chunks = [reader.chunks() for reader in readers]
        while True:
            start = [reader.state() for reader in readers]
            rows: dict[str, list] = {}
            sources: list[int] = []
            characters = 0
            while len(sources) < self.size and characters < CHARACTERS:
                index = self._next(np.array([reader.total for reader in readers]))
                chunk = next(chunks[index])
                count = len(next(iter(chunk.values())))
                chunk.setdefault(PLACE, [self.sources[index].name] * count)
                for name, values in chunk.items():
                    rows.setdefault(name, []).extend(values)
                    characters += sum(len(value) for value in values if isinstance(value, str))
                sources += [index] * count
            order = np.random.default_rng([self.seed, self.seat.number, number]).permutation(len(sources))
            shuffled = {name: [values[at] for at in order] for name, values in rows.items()}
            places = shuffled.pop(PLACE)
            yield Block(
                number, shuffled, places, np.array(sources)[order], start, [reader.state() for reader in readers]
            )
            number += 1

    def _next(self, totals: np.ndarray) -> int:
        """The source that is furthest behind its weight."""
        return int(np.argmax(self.weights * (totals.sum() + CHUNK) - totals))


def regrouped(ends: list[list[dict[str, Any]]], count: int) -> list[dict[str, Any]]:
    """Where other readers than before begin: as many rows behind the start of the furthest pass as were read of it, in
    equal parts.

    Args:
        ends: For each reader that there was, where its sources stood after its block.
        count: Of the readers that there are now.
    """
    starts = []
    for of_source in zip(*ends, strict=True):
        passes = max(state["passes"] for state in of_source)
        read = sum(state["rows"] + state["skip"] for state in of_source if state["passes"] == passes)
        total = sum(state["total"] for state in of_source)
        starts.append({**beginning(), "passes": passes, "total": total // count, "skip": read // count})
    return starts


def sample(sources: list[Source], columns: list[str], count: int) -> dict[str, list]:
    """The first rows of each source, by the weights, at most `count` in all; those that hold something else than texts,
    or empty ones, are left out."""
    weights = sum(source.weight for source in sources)
    found: dict[str, list] = {name: [] for name in columns}
    for source in sources:
        left, characters = round(count * source.weight / weights), 0
        with told_in_a_line(source.name, "cannot be streamed"):
            for chunk in source.rows.iter(batch_size=CHUNK):
                for row in list(zip(*(chunk[name] for name in columns), strict=True))[:left]:
                    if all(isinstance(text, str) and text.strip() for text in row):
                        characters += sum(map(len, row))
                        for name, text in zip(columns, row, strict=True):
                            found[name].append(text)
                left -= CHUNK
                if left <= 0 or characters > CHARACTERS * source.weight / weights:
                    break
    return found


def ahead(items: Iterator) -> Iterator:
    """The same items, each made by a thread while the one before is used."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = thread.submit(next, items, end)
            yield item
