"""Training data: each process's micro-batches, step by step and without an end, from a split that is there or from a stream.

A run that goes on needs to know where its data stood. For a split, the epoch and the steps done in it say that, whatever
the number of processes. A stream says it by the state of each reader; with as many readers as before, the rows and batches
are the same as if nothing had happened.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pickle import UnpicklingError
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from ..configuration.errors import UserError
from ..data.batching import Share, StepDataset, plan_epoch
from ..data.encoded import Examples, digest
from ..data.loading import split_name
from ..data.mixture import Block, Mixture, Seat, ahead, beginning, regrouped
from ..data.progress import say
from ..data.streaming import SOURCE, Source, place_name
from ..recipes.schema import Recipe
from ..tasks.preprocessor import Preprocessor, Split
from .stopping import held_back, set_apart

LOST_WORKER = "DataLoader worker (pid"  # as torch begins
PATIENCE = 5.0  # seconds
BEGIN_ANEW = "put it back, or set another output_dir to begin anew"

MicroBatches = list[dict[str, torch.Tensor]]


class Place(NamedTuple):
    """Where the data stands after a step.

    Args:
        epoch, batch: Epochs that are done, and steps of this one.
        progress: Epochs, with the part of this one.
    """

    epoch: int
    batch: int
    progress: float


class TrainingData(Protocol):
    steps_per_epoch: int | None  # None where nobody knows

    def steps(self, epoch: int, batch: int) -> Iterator[tuple[MicroBatches, Place]]:
        """The steps from a place on, for this process."""
        ...

    def state(self) -> Any:
        """What a checkpoint keeps beside the place; every process asks, after the same step."""
        ...

    def load_state(self, state: Any) -> None: ...

    def measured(self) -> dict[str, float]:
        """What the log is told of what was used so far; every process asks."""
        ...


def fingerprint(examples: Examples) -> dict[str, Any]:
    """What tells encoded examples from others."""
    return {"examples": len(examples), "digest": digest(examples)}


def require_same(where: str, before: dict[str, Any] | None, examples: Examples) -> None:
    """
    Args:
        where: The place of the examples.
        before: The fingerprint of those that the run began with; None from a checkpoint of before there was one.

    Raises:
        UserError: These are others.
    """
    if before is None or before == fingerprint(examples):
        return
    changed = f"{before['examples']:,} examples then, {len(examples):,} now"
    if before["examples"] == len(examples):
        changed = "as many examples, of which some are others"
    raise UserError(f"{where}: is not what it was when this run began ({changed}); {BEGIN_ANEW}")


class SplitData:
    """A split, shuffled anew in each epoch."""

    def __init__(self, preprocessor: Preprocessor, examples: Examples, share: Share) -> None:
        self.preprocessor, self.examples, self.share = preprocessor, examples, share
        self.recipe: Recipe = preprocessor.recipe
        self.lengths = preprocessor.lengths(examples)
        self.steps_per_epoch: int | None = len(self.plan(0))  # epochs differ by a few

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The global batches of an epoch."""
        return plan_epoch(self.lengths, self.recipe.batches.tokens_per_batch, self.recipe.seed, epoch)

    def steps(self, epoch: int, batch: int) -> Iterator[tuple[MicroBatches, Place]]:
        steps = self._steps(epoch, batch)
        return steps if self.recipe.batches.workers else ahead(steps)  # workers are ahead by themselves

    def _steps(self, epoch: int, batch: int) -> Iterator[tuple[MicroBatches, Place]]:
        while True:
            plan = self.plan(epoch)
            dataset = StepDataset(self.preprocessor, self.examples, plan, self.share, epoch)
            for micro_batches in _loaded(dataset, self.recipe.batches.workers, sampler=range(batch, len(plan))):
                batch += 1
                is_last = batch == len(plan)
                yield micro_batches, Place(epoch + is_last, 0 if is_last else batch, epoch + batch / len(plan))
            epoch, batch = epoch + 1, 0

    def state(self) -> dict[str, Any]:
        return fingerprint(self.examples)

    def load_state(self, state: dict[str, Any] | None) -> None:
        """
        Raises:
            UserError: It is the state of other data.
        """
        require_same(split_name(self.recipe.data, self.recipe.data.train_split), state, self.examples)

    def measured(self) -> dict[str, float]:
        return {}


class StreamData:
    """A stream of sources. Each process reads its own part, in as many workers as the recipe says, or by itself.

    Args:
        preprocessor: Makes batches of rows.
        sources: What the stream is mixed of.
        share: This process's, of each step; the others that split a model with it read the same.
        is_main_process: Whether this one tells the user.
    """

    steps_per_epoch: int | None = None

    def __init__(
        self, preprocessor: Preprocessor, sources: list[Source], share: Share, is_main_process: bool = True
    ) -> None:
        self.preprocessor, self.sources = preprocessor, sources
        self.share, self.is_main_process = share, is_main_process
        self.workers = preprocessor.recipe.batches.workers
        per_process = max(1, self.workers)
        first, count = share.rank * per_process, share.world_size * per_process
        self.seats = [Seat(first + number, count) for number in range(per_process)]
        self.states = [_new_state(seat, len(sources)) for seat in self.seats]
        self.turn = 0  # the reader whose batches come next
        self.layout = [share.world_size, per_process, share.accumulation]

    def steps(self, epoch: int, batch: int) -> Iterator[tuple[MicroBatches, Place]]:
        items = _loaded(_ReaderDataset(self), self.workers, collate_fn=_as_it_is)
        for item in items if self.workers else ahead(items):
            if isinstance(item, UserError):  # a worker's own would come with its stack trace
                raise item
            micro_batches, self.states[self.turn] = item
            self.turn = (self.turn + 1) % len(self.seats)
            passes = min(source["passes"] for state in self.states for source in state["start"] or [beginning()])
            yield micro_batches, Place(0, 0, float(passes))

    def state(self) -> dict[str, Any]:
        by_number = {state["reader"]: state for state in gather_object(self.states)}
        readers = [by_number[number] for number in sorted(by_number)]
        files = {source.name: source.files for source in self.sources}
        return {"layout": self.layout, "turn": self.turn, "readers": readers, "files": files}

    def load_state(self, state: dict[str, Any] | None) -> None:
        """
        Raises:
            UserError: It is the state of other data.
        """
        state = state or {}
        states = state.get("readers")
        if not states or len(states[0]["here"]) != 2 * len(self.sources) + 1:
            raise UserError("the checkpoint is of a run without this stream; set another output_dir")
        for source in self.sources:
            then = state.get("files", {}).get(source.name, source.files)
            for name in sorted(then.keys() | source.files.keys()):
                if then.get(name) != source.files.get(name):
                    sizes = [f"{of[name]:,} bytes" if name in of else "absent" for of in (then, source.files)]
                    raise UserError(
                        f"{source.name}: {name} is not what it was when this run began ({sizes[0]} then, {sizes[1]} now); "
                        f"{BEGIN_ANEW}"
                    )
        before = state["layout"]
        if before == self.layout:
            self.states, self.turn = [states[seat.number] for seat in self.seats], state["turn"]
            return
        if self.is_main_process:
            names = ("processes", "readers in each", "batches accumulated in each")
            changed = [
                f"{old} {what}, now {new}"
                for old, new, what in zip(before, self.layout, names, strict=True)
                if old != new
            ]
            say(
                f"the stream was read by {' and '.join(changed)}: each source goes on about where it was, but some rows of "
                "this pass may come twice or not at all"
            )
        ends = [one["end"] or one["start"] or [beginning()] * len(self.sources) for one in states]
        starts, number = regrouped(ends, self.seats[0].count), 1 + max(one["block"] for one in states)
        used = np.sum([np.add(one["before"], one["here"]) for one in states], axis=0)
        for own in self.states:  # what was used so far is counted once, by the first
            own |= {"block": number, "start": starts, "before": (used if own["reader"] == 0 else 0 * used).tolist()}

    def measured(self) -> dict[str, float]:
        """Rows and tokens of each source, those of a block in proportion to what of it was used."""
        of_readers = dict(gather_object([(state["reader"], _used(state)) for state in self.states]))
        used = np.sum(list(of_readers.values()), axis=0)
        rows, tokens = used[: len(self.sources)], used[len(self.sources) : -1]
        values: dict[str, float] = {"skipped": int(used[-1])}
        for source, rows_of, tokens_of in zip(self.sources, rows, tokens, strict=True):
            values[f"source/{source.name}/rows"] = int(rows_of)
            values[f"source/{source.name}/tokens"] = int(tokens_of)
            values[f"source/{source.name}/share"] = float(tokens_of / max(1, tokens.sum()))
        return values


def _new_state(seat: Seat, sources: int) -> dict[str, Any]:
    """Where a reader stands: how many of a block's micro-batches were used, where its sources stood before and after it, and
    the rows and the tokens of each source, and invalid rows, in earlier blocks and in this one."""
    nothing = [0] * (2 * sources + 1)
    return {
        "reader": seat.number, "block": 0, "batch": 0, "batches": 0, "start": None, "end": None,
        "before": nothing, "here": nothing,
    }  # fmt: skip


def _used(state: dict[str, Any]) -> np.ndarray:
    return np.array(state["before"]) + np.array(state["here"]) * state["batch"] // max(1, state["batches"])


def _pass_is_over(start: list[dict[str, Any]], end: list[dict[str, Any]]) -> bool:
    """Whether every source was read from its beginning to its end between two places."""
    begun = [one["passes"] + (one["rows"] + one["skip"] > 0) for one in start]
    return all(one["passes"] > first for one, first in zip(end, begun, strict=True))


def _loaded(dataset: Dataset, workers: int, **options: Any) -> Iterator[Any]:
    """The items of a data set, made by so many processes beside this one."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # the step at work draws from the global one
        **options,
    )
    with held_back():
        items = iter(loader)
    try:
        yield from items
    except (EOFError, OSError, UnpicklingError) as error:
        # what a worker met with comes in torch's words; else it went while it handed a batch over, and torch tells so as soon
        # as the system does
        if not workers or str(error).startswith("Caught "):
            raise
        time.sleep(PATIENCE)
        raise RuntimeError(f"{LOST_WORKER} not known) is gone ({type(error).__name__})") from None


def _start_worker(number: int) -> None:
    set_apart()


def is_of_a_lost_worker(error: RuntimeError) -> bool:
    """Whether a process that makes batches is gone, of which torch tells wherever the run is at work."""
    return str(error).startswith(LOST_WORKER)


def _as_it_is(item: Any) -> Any:
    return item


class _ReaderDataset(IterableDataset):
    """The steps of one reader: its micro-batches, and where it stands after them."""

    def __init__(self, data: StreamData) -> None:
        self.preprocessor, self.sources, self.share = data.preprocessor, data.sources, data.share
        self.seats, self.states, self.turn, self.tells = data.seats, data.states, data.turn, data.is_main_process

    def __iter__(self) -> Iterator[tuple[MicroBatches, dict[str, Any]] | UserError]:
        worker, number = get_worker_info(), 0
        if worker is not None:
            # or tokenizers warn that the process was forked
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            number = (worker.id + self.turn) % worker.num_workers
        try:
            yield from self.steps(self.seats[number], self.states[number])
        except UserError as error:
            yield error

    def steps(self, seat: Seat, state: dict[str, Any]) -> Iterator[tuple[MicroBatches, dict[str, Any]]]:
        pending: MicroBatches = []
        for micro_batch, after in self.micro_batches(seat, state):
            pending.append(micro_batch)
            if len(pending) == self.share.accumulation:
                yield pending, after
                pending = []

    def micro_batches(
        self, seat: Seat, state: dict[str, Any]
    ) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, Any]]]:
        recipe = self.preprocessor.recipe
        tokens_per_batch = max(1, recipe.batches.tokens_per_batch // (self.share.world_size * self.share.accumulation))
        mixture = Mixture(self.sources, recipe.data.shuffle_buffer, seat, recipe.seed)
        blocks = mixture.blocks(state["block"], state["start"])
        tells = self.tells and seat.number == 0
        barren = None  # where the sources stood before the blocks of late of which no row is valid
        for block, split, tokens in ahead(map(self.encoded, blocks)):
            if tells:
                self.tell(block, split, state)
            barren = None if len(split.examples) else barren or block.start
            if barren and _pass_is_over(barren, block.end):
                names = " and ".join(source.name for source in self.sources)
                raise UserError(f"{names}: all rows were read, and none is valid; {split.why_empty}")
            key = block.number * seat.count + seat.number  # no two blocks have the same
            lengths = self.preprocessor.lengths
            plan = plan_epoch(lengths(split.examples), tokens_per_batch, recipe.seed, key) if barren is None else []
            is_begun = block.number == state["block"] and state["batches"] > 0
            before = state["before"] if is_begun else np.add(state["before"], state["here"]).tolist()
            used = state["batch"] if is_begun else 0
            state = {
                "reader": seat.number, "block": block.number, "batch": used, "batches": len(plan),
                "start": block.start, "end": block.end, "before": before,
                "here": [*self.by_source(block), *self.by_source(block, tokens), split.skipped],
            }  # fmt: skip
            for number in range(used, len(plan)):
                made = self.preprocessor.randomize(split.examples[plan[number]], plan[number], key)
                state = state | {"batch": number + 1}
                yield self.preprocessor.collate(made), state

    def by_source(self, block: Block, weights: np.ndarray | None = None) -> list[int]:
        return np.bincount(block.sources, weights, len(self.sources)).astype(int).tolist()

    def tell(self, block: Block, split: Split, state: dict[str, Any]) -> None:
        if split.skipped and not state["before"][-1] + state["here"][-1]:
            say(f"skipped {split.skipped:,} invalid rows among {len(block.places):,}; the first: {split.first_skipped}")
        for source, start, end in zip(self.sources, block.start, block.end, strict=True):
            if end["passes"] > start["passes"]:
                say(f"{source.name}: all rows were read; it begins again, for pass {end['passes'] + 1}")

    def encoded(self, block: Block) -> tuple[Block, Split, np.ndarray]:
        split, tokens = self.preprocessor.encode_block(
            block.rows | {SOURCE: block.sources.tolist()}, "the stream", lambda row: place_name(block.places[row])
        )
        return replace(block, rows={}), split, tokens  # the texts are of no more use
