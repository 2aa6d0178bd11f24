"""N-grams: what tokens mean together, looked up and not computed."""

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig

MULTIPLIER = 1_000_003  # of a polynomial hash
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
        input_ids: torch.Tensor,
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


class NgramClassifier(nn.Module):
    """Scores of a sequence's labels by its N n-grams, a weight for each and label: a linear model beside the layers (Cheng et al. 2016,
    §3.1), whose features are a bag of n-grams (Wang & Manning 2012). With few layers and few data it is the better half.

        s = PACE / √N Σ_i w_i

    Rows are found by hashing (Weinberger et al. 2009); all are zero before training.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.sizes = list(config.classifier_ngram_sizes)
        self.weight = nn.Parameter(torch.zeros(config.classifier_ngram_vocab_size, config.num_labels))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | dict | None = None) -> torch.Tensor:
        """`(B, T)` to `(B, num_labels)`.

        Args:
            attention_mask: As of `NgramEmbeddings`.
        """
        ids = real_ids(input_ids, attention_mask)
        rows = torch.stack([rows_of(ids, size, self.weight.shape[0], ENDING) for size in self.sizes], dim=-1)
        weights = nn.functional.embedding(rows, self.weight) * (ids != 0)[..., None, None]
        count = (ids != 0).sum(dim=1, keepdim=True).clamp(min=1) * len(self.sizes)
        return PACE / count.sqrt() * weights.sum(dim=(1, 2))


def real_ids(input_ids: torch.Tensor, attention_mask: torch.Tensor | dict | None) -> torch.Tensor:
    """Ids counted from 1, since 0 is where there is no token."""
    ids = input_ids + 1
    if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
        ids = ids * (attention_mask != 0)
    return ids


def rows_of(
    ids: torch.Tensor, size: int, count: int, way: int, sequence_ids: torch.Tensor | None = None
) -> torch.Tensor:
    """The row, of so many, of the n-gram that ends or begins with each token: a polynomial hash."""

    def with_next(so_far: torch.Tensor, more: torch.Tensor | int) -> torch.Tensor:
        return (so_far * MULTIPLIER + more) % count

    found = ids
    for distance in range(1, size):
        found = with_next(found, _shifted(ids, distance if way == ENDING else -distance, sequence_ids))
    return with_next(found, 2 * size + way)


def _shifted(ids: torch.Tensor, distance: int, sequence_ids: torch.Tensor | None) -> torch.Tensor:
    """The id so many tokens before each, or behind it where that is negative; 0 where its sequence has none there."""

    def shift(values: torch.Tensor, fill: int) -> torch.Tensor:
        length = values.shape[1]
        if distance > 0:
            return nn.functional.pad(values, (distance, 0), value=fill)[:, :length]
        return nn.functional.pad(values, (0, -distance), value=fill)[:, -distance : length - distance]

    shifted = shift(ids, 0)
    return shifted if sequence_ids is None else shifted * (shift(sequence_ids, -1) == sequence_ids)
