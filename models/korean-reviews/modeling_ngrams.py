"""N-grams: what tokens mean together, looked up and not computed."""

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig

MULTIPLIER = 1_000_003  # of a polynomial hash
HASHES = 2**31 - 1  # so many that two n-grams of a text hardly share one
ENDING, BEGINNING = 0, 1
# AdamW moves a weight by the learning rate in a step, and that of an n-gram, which is in few texts, must come as far in fewer steps
PACE = 20.0


class NgramEmbeddings(nn.Module):
    """For each token the sum of the embeddings of the n-grams that end with it and of those that begin with it: Bojanowski et al.
    2017, §3.2, with tokens for characters; over tokens, Huang et al. 2025, §3.2.

    Rows of one table are found by hashing, so n-grams may share one.

    Args:
        width: C, of the embeddings that these are added to.
    """

    def __init__(self, config: PreTrainedConfig, width: int) -> None:
        super().__init__()
        self.sizes = list(config.ngram_sizes)
        self.table = nn.Embedding(config.ngram_vocab_size, config.ngram_embedding_size)
        self.proj = nn.Linear(config.ngram_embedding_size, width, bias=False)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | dict | None = None,
        sequence_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`(B, T)` to `(B, T, C)`.

        Args:
            attention_mask: `(B, T)`, 0 for padding, which is in no n-gram; of another form it tells of none.
            sequence_ids: `(B, T)`, the document of each token, beyond which no n-gram reaches.
        """
        ids, count = real_ids(input_ids, attention_mask), self.table.num_embeddings
        return self.proj(
            sum(
                self.table(rows_of(ids, size, count, way, sequence_ids))
                for size in self.sizes
                for way in (ENDING, BEGINNING)
            )
        )


class MatchEmbeddings(nn.Module):
    """For each token the sum of the embeddings of those sizes of which an n-gram that holds it stands in another segment of its sequence,
    too: the text's of the question, the question's of the text (the exact match of Chen et al. 2017, §3.2, of n-grams).

    Which words are the same in both, attention learns from tens of thousands of pairs; this needs not be learned.

    Args:
        width: C, of the embeddings that these are added to.
    """

    def __init__(self, config: PreTrainedConfig, width: int) -> None:
        super().__init__()
        self.sizes = list(config.matched_ngram_sizes)
        self.segments = config.type_vocab_size
        self.embeddings = nn.Embedding(len(self.sizes), width)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | dict | None = None,
        sequence_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`(B, T)` to `(B, T, C)`.

        Args:
            token_type_ids: `(B, T)`, the segment of each token. Default: all are of one, and nothing matches.
            attention_mask, sequence_ids: As of `NgramEmbeddings`; another document matches nothing of this one.
        """
        ids = real_ids(input_ids, attention_mask)
        segments = torch.zeros_like(ids) if token_type_ids is None else token_type_ids
        sequences = torch.arange(ids.shape[0], device=ids.device)[:, None] * ids.shape[1]
        sequences = sequences + (torch.zeros_like(ids) if sequence_ids is None else sequence_ids)
        matched = torch.stack([self._matched(ids, size, segments, sequences) for size in self.sizes], dim=-1)
        return matched.to(self.embeddings.weight.dtype) @ self.embeddings.weight

    def _matched(self, ids: torch.Tensor, size: int, segments: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
        """Which tokens are in an n-gram of this size that another segment of their sequence has, `(B, T)`."""
        part = sequences * self.segments + segments
        tokens = [ids, *(_shifted(ids, -distance, part) for distance in range(1, size))]
        is_whole = torch.stack(tokens).all(dim=0)
        ngrams = hashed(HASHES, *tokens) * ids.numel() + sequences
        begins = torch.zeros_like(is_whole)
        for segment in range(self.segments):
            is_own = is_whole & (segments == segment)
            begins = begins | (is_whole & ~is_own & torch.isin(ngrams, torch.where(is_own, ngrams, -1)))
        return torch.stack([_shifted(begins, distance, None) for distance in range(size)]).any(dim=0)


class NgramWeights(nn.Module):
    """A linear model beside the layers (Cheng et al. 2016, §3.1): a weight for each n-gram and label. With few layers and few data it is
    the better half.

    Rows are found by hashing (Weinberger et al. 2009); all are zero before training.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.sizes = list(config.classifier_ngram_sizes)
        self.weight = nn.Parameter(torch.zeros(config.classifier_ngram_vocab_size, config.num_labels))


class NgramClassifier(NgramWeights):
    """Scores of a sequence's labels by its N n-grams, whose bag is its features (Wang & Manning 2012).

    s = PACE / √N Σ_i w_i
    """

    def forward(
        self, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | dict | None = None
    ) -> torch.Tensor:
        """`(B, T)` to `(B, num_labels)`.

        Args:
            attention_mask: As of `NgramEmbeddings`.
        """
        ids = real_ids(input_ids, attention_mask)
        rows = torch.stack([rows_of(ids, size, self.weight.shape[0], ENDING) for size in self.sizes], dim=-1)
        weights = nn.functional.embedding(rows, self.weight) * (ids != 0)[..., None, None]
        count = (ids != 0).sum(dim=1, keepdim=True).clamp(min=1) * len(self.sizes)
        return PACE / count.sqrt() * weights.sum(dim=(1, 2))


class NgramTagger(NgramWeights):
    """Scores of each token's labels by the N n-grams that hold it or lie within two tokens of it, each with its place: what a conditional random
    field is given by hand (Lafferty et al. 2001; Sha & Pereira 2003, §4.1).

    s_t = PACE / √N Σ_i w_ti
    """

    def forward(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | dict | None = None,
        sequence_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`(B, T)` to `(B, T, num_labels)`.

        Args:
            attention_mask, sequence_ids: As of `NgramEmbeddings`.
        """
        ids, reach = real_ids(input_ids, attention_mask), max(self.sizes) + 1
        near = {place: _shifted(ids, -place, sequence_ids) for place in range(-reach, reach + 1)}
        rows = [
            hashed(self.weight.shape[0], *(near[start + i] for i in range(size)), 2 * reach * size + start)
            for size in self.sizes
            for start in range(-size - 1, 3)
        ]
        weights = nn.functional.embedding(torch.stack(rows, dim=-1), self.weight)
        return PACE / len(rows) ** 0.5 * weights.sum(dim=2)


def real_ids(input_ids: torch.Tensor | None, attention_mask: torch.Tensor | dict | None) -> torch.Tensor:
    """Ids counted from 1, since 0 is where there is no token.

    Raises:
        ValueError: There are no ids.
    """
    if input_ids is None:
        raise ValueError(
            "n-grams (ngram_sizes, matched_ngram_sizes, classifier_ngram_sizes) are of input_ids, not of inputs_embeds"
        )
    ids = input_ids + 1
    if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
        ids = ids * (attention_mask != 0)
    return ids


def rows_of(
    ids: torch.Tensor, size: int, count: int, way: int, sequence_ids: torch.Tensor | None = None
) -> torch.Tensor:
    """The row, of so many, of the n-gram that ends or begins with each token."""
    distances = [distance if way == ENDING else -distance for distance in range(1, size)]
    return hashed(count, ids, *(_shifted(ids, distance, sequence_ids) for distance in distances), 2 * size + way)


def hashed(count: int, found: torch.Tensor, *others: torch.Tensor | int) -> torch.Tensor:
    """A polynomial hash of numbers, element by element: one of so many rows."""
    for other in others:
        found = (found * MULTIPLIER + other) % count
    return found


def _shifted(ids: torch.Tensor, distance: int, sequence_ids: torch.Tensor | None) -> torch.Tensor:
    """The id so many tokens before each, or behind it where that is negative; 0 where its sequence has none there."""
    if distance == 0:
        return ids

    def shift(values: torch.Tensor, fill: int) -> torch.Tensor:
        padded = nn.functional.pad(values, (max(distance, 0), max(-distance, 0)), value=fill)
        return padded[:, : values.shape[1]] if distance > 0 else padded[:, -values.shape[1] :]

    shifted = shift(ids, 0)
    return shifted if sequence_ids is None else shifted * (shift(sequence_ids, -1) == sequence_ids)
