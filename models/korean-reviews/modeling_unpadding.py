"""Training without padding: layers see the tokens of all rows end to end, and each sequence attends to itself alone.

Whatever is padded then costs nothing but its place in a batch (Zeng et al. 2022). What is computed at other tokens is the same
as with padding, up to rounding.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import torch


class Sequences:
    """Where the sequences of a batch lie: rows, or documents of packed rows.

    Args:
        kept: `(B, T)`, False for tokens that are left out.
        sequence_ids: `(B, T)`, the document that each token of a packed row belongs to. Default: rows are sequences.

    Attributes:
        names: Of each sequence, its row and its id.
        lengths: Of each, in tokens.
    """

    def __init__(self, kept: torch.Tensor, sequence_ids: torch.Tensor | None = None) -> None:
        self.shape = kept.shape
        rows, places = kept.nonzero(as_tuple=True)
        self.indices = rows * kept.shape[1] + places
        ids = torch.zeros_like(rows) if sequence_ids is None else sequence_ids.flatten()[self.indices]
        names, lengths = torch.unique_consecutive(torch.stack((rows, ids)), dim=1, return_counts=True)
        self.names: list[tuple[int, int]] = list(zip(*names.tolist(), strict=True))
        self.lengths: list[int] = lengths.tolist()

    @property
    def are_whole(self) -> bool:
        """Whether the tokens of each sequence follow each other, so that distances between them are what they were."""
        ends = torch.tensor(self.lengths, device=self.indices.device).cumsum(0)
        starts = ends.roll(1).index_fill(0, ends.new_zeros(1), 0)
        follow = self.indices[ends - 1] - self.indices[starts] == ends - starts - 1
        return len(set(self.names)) == len(self.names) and bool(follow.all())

    def take(self, names: list[tuple[int, int]]) -> None:
        """Keep these sequences, in this order."""
        numbers = {name: number for number, name in enumerate(self.names)}
        order, pieces = [numbers[name] for name in names], self.indices.split(self.lengths)
        self.indices = torch.cat([pieces[number] for number in order])
        self.lengths = [self.lengths[number] for number in order]
        self.names = names

    def join(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(B or 1, T, …)` to `(1, N, …)`, the kept tokens end to end."""
        return tensor.expand(*self.shape, *tensor.shape[2:]).flatten(0, 1).index_select(0, self.indices)[None]

    def part(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(1, N, …)` to `(B, T, …)`, zero at what was left out."""
        rows = tensor.new_zeros(self.shape.numel(), *tensor.shape[2:])
        return rows.index_copy(0, self.indices, tensor[0]).unflatten(0, self.shape)


def padding_of(attention_mask: torch.Tensor | dict | None) -> torch.Tensor | None:
    """True for padding, `(B, T)`, where the mask is of this form."""
    return attention_mask == 0 if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2 else None


class Unread:
    """What a head says of its base model's hidden states. It is looked into where padding can be left out, and not before: a GPU
    has to be waited for.

    Args:
        attention_mask: `(B, T)`, 0 for padding, which nothing else sees; of another form it tells of none.
        read: `(B, T)`, True for tokens whose hidden states the loss reads. Default: none of the padding.
    """

    def __init__(self, attention_mask: torch.Tensor | dict | None, read: torch.Tensor | None = None) -> None:
        self.attention_mask, self.read = attention_mask, read

    def places(self, shape: torch.Size) -> torch.Tensor | None:
        """Padding that may be left out of inputs of this shape; None where some of it is read."""
        padding, read = padding_of(self.attention_mask), self.read
        if padding is None or any(each is not None and each.shape != shape for each in (padding, read)):
            return None
        is_read = read is not None and bool((padding & read.to(padding.device)).any())
        return None if is_read else padding


def matching(
    queries: Sequences, states: torch.Tensor, attention_mask: torch.Tensor | None, sequence_ids: torch.Tensor | None
) -> Sequences | None:
    """The sequences of an encoder's `states (B, S, C)` that a decoder's attend to; None where one has none, or not one that is
    whole."""
    padding = padding_of(attention_mask)
    if attention_mask is not None and padding is None:
        return None
    kept = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device) if padding is None else ~padding
    keys = Sequences(kept, sequence_ids)
    return keys if keys.are_whole and set(queries.names) <= set(keys.names) else None


def sort_by_length(queries: Sequences, keys: Sequences | None = None) -> None:
    """Put sequences, and those that they attend to, into an order in which like lengths follow each other.

    Args:
        keys: Of these, only those that have the name of one of the queries' are kept.
    """
    lengths = dict(zip(queries.names, queries.lengths, strict=True))
    of_keys = lengths if keys is None else dict(zip(keys.names, keys.lengths, strict=True))
    names = sorted(lengths, key=lambda name: (lengths[name], of_keys[name]))
    for sequences in (queries, keys):
        if sequences is not None:
            sequences.take(names)


class AttentionOfEach:
    """An attention function for sequences that lie end to end.

    Args:
        function: As of transformers' attention interface.
        queries, keys: The sequences; by default they attend to themselves.
        is_varlen: Whether the function takes lengths, as flash attention does; else it is called for each length.
    """

    def __init__(
        self, function: Callable, queries: Sequences, keys: Sequences | None = None, is_varlen: bool = False
    ) -> None:
        self.function, self.is_varlen = function, is_varlen
        keys = keys or queries
        pairs = zip(queries.lengths, keys.lengths, strict=True)
        self.runs = [(len(list(run)), *pair) for pair, run in groupby(pairs)]
        self.varlen: dict[str, torch.Tensor | int] = {}
        if is_varlen:
            for name, sequences in (("q", queries), ("k", keys)):
                ends = torch.tensor([0, *sequences.lengths], device=sequences.indices.device).cumsum(0)
                self.varlen[f"cu_seq_lens_{name}"] = ends.to(torch.int32)
                self.varlen[f"max_length_{name}"] = max(sequences.lengths)

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_bias: torch.Tensor | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """`(1, H, N, D)` to `(1, N, H, D)`."""
        if self.is_varlen:
            return self.function(module, query, key, value, None, **self.varlen, **options)[0], None
        outputs = []
        pieces = zip(self.runs, self._pieces(query, 1), self._pieces(key, 2), self._pieces(value, 2), strict=True)
        for (_, length, keys), *states in pieces:
            bias = None if position_bias is None else position_bias[..., :length, :keys]
            output, _ = self.function(module, *states, None, position_bias=bias, **options)
            outputs.append(output.flatten(0, 1))
        return torch.cat(outputs)[None], None

    def _pieces(self, states: torch.Tensor, side: int) -> Iterator[torch.Tensor]:
        """`(1, H, N, D)` as `(rows, H, T, D)` for each run of one length."""
        sizes = [run[0] * run[side] for run in self.runs]
        for run, piece in zip(self.runs, states[0].split(sizes, dim=1), strict=True):
            yield piece.unflatten(1, (run[0], run[side])).transpose(0, 1)
