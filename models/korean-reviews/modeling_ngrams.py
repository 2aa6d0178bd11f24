"""Embeddings of n-grams: what tokens mean together, looked up and not computed."""

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig

MULTIPLIER = 1_000_003  # of a polynomial hash


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
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | dict | None = None,
        sequence_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`(B, T)` to `(B, T, C)`.

        Args:
            attention_mask: `(B, T)`, 0 for padding, which is in no n-gram; of another form it tells of none.
            sequence_ids: `(B, T)`, the document of each token, beyond which no n-gram reaches.
        """
        ids = input_ids + 1  # 0 is where there is no token
        if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
            ids = ids * (attention_mask != 0)
        rows = []
        for size in self.sizes:
            ending, beginning = ids, ids
            for distance in range(1, size):
                ending = self._hash(ending, _shifted(ids, distance, sequence_ids))
                beginning = self._hash(beginning, _shifted(ids, -distance, sequence_ids))
            rows += [self._hash(ending, 2 * size), self._hash(beginning, 2 * size + 1)]
        return self.proj(sum(self.table(row) for row in rows))

    def _hash(self, so_far: torch.Tensor, more: torch.Tensor | int) -> torch.Tensor:
        return (so_far * MULTIPLIER + more) % self.table.num_embeddings


def _shifted(ids: torch.Tensor, distance: int, sequence_ids: torch.Tensor | None) -> torch.Tensor:
    """The id so many tokens before each, or behind it where that is negative; 0 where its sequence has none there."""

    def shift(values: torch.Tensor, fill: int) -> torch.Tensor:
        length = values.shape[1]
        if distance > 0:
            return nn.functional.pad(values, (distance, 0), value=fill)[:, :length]
        return nn.functional.pad(values, (0, -distance), value=fill)[:, -distance : length - distance]

    shifted = shift(ids, 0)
    return shifted if sequence_ids is None else shifted * (shift(sequence_ids, -1) == sequence_ids)
