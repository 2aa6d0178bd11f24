"""A chain over the labels of neighbouring tokens."""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.configuration_utils import PreTrainedConfig

from .modeling_losses import labelled

UNHEARD_OF = -10.0  # where a transition begins that makes no sense


class LinearChainCRF(nn.Module):
    """A conditional random field (Lafferty et al. 2001) over a tagger's scores `s`, as in Lample et al. 2016, §2.2:

        p(y) = exp(Σ_t s_t(y_t) + Σ_t A(y_{t-1}, y_t)) / Z

    Its output are not the likeliest labels together but log p(y_t) of each token's, summed over all others': what reads the
    likeliest label and its probability off logits, as `pipeline` does, needs to know nothing of the chain.

    Computed in float32. In all methods: `scores (B, T, L)`; `follows (B, T)`, True where a token stands behind another of its
    sequence. Scores of padding must be zero.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.labels = [str(config.id2label[number]) for number in range(config.num_labels)]
        self.transitions = nn.Parameter(self.initial_transitions())

    def initial_transitions(self) -> torch.Tensor:
        """`(L, L)`, from the row's label to the column's: zero, but an I- tag hardly follows what it cannot continue."""
        return torch.tensor(
            [
                [
                    UNHEARD_OF if after[:2] == "I-" and before not in (after, f"B-{after[2:]}") else 0.0
                    for after in self.labels
                ]
                for before in self.labels
            ]
        )

    def forward(self, scores: torch.Tensor, follows: torch.Tensor) -> torch.Tensor:
        """The log-probability of each label of each token, `(B, T, L)`."""
        weights, (from_left, from_right), _ = _messages(scores.float(), follows, self.transitions.float())
        return (from_left * from_right * weights).clamp(min=torch.finfo(weights.dtype).tiny).log().log_softmax(dim=-1)

    def loss(
        self,
        scores: torch.Tensor,
        labels: torch.Tensor,
        follows: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> torch.Tensor:
        """-log p of the labels together, by how many there are.

        Args:
            labels: `(B, T)`; a token of -100 may have any.
            num_items_in_batch: Divide the sum by this; else the mean is taken.

        Raises:
            ValueError: Labels are to be smoothed.
        """
        if label_smoothing:
            raise ValueError(
                f"label_smoothing={label_smoothing} is of each label alone; with classifier_crf, leave it out"
            )
        scores, labels = scores.float(), labels.to(scores.device, torch.long)
        counts = labelled(labels)
        others = nn.functional.one_hot(labels.clamp(min=0), scores.shape[-1]) == 0
        right = scores.masked_fill(counts[..., None] & others, -torch.inf)
        log_partitions = _LogPartition.apply(
            torch.cat((scores, right)), torch.cat((follows, follows)), self.transitions.float()
        )
        all_labels, right_labels = log_partitions.chunk(2)
        return (all_labels - right_labels).sum() / (counts.sum() if num_items_in_batch is None else num_items_in_batch)


class _LogPartition(torch.autograd.Function):
    """log Z `(B,)`. Its gradient by the scores is p(y_t), by the transitions the sum of p(y_{t-1}, y_t): what autograd finds step
    by step, in numbers so small that a processor is slow with them."""

    @staticmethod
    def forward(  # type: ignore[override]
        context: Any, scores: torch.Tensor, follows: torch.Tensor, transitions: torch.Tensor
    ) -> torch.Tensor:
        weights, (from_left, from_right), log_partition = _messages(scores, follows, transitions)
        context.save_for_backward(from_left * weights, weights * from_right, from_right, follows, transitions)
        return log_partition

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        upto, onward, from_right, follows, transitions = context.saved_tensors
        marginals = upto * from_right
        marginals = marginals / marginals.sum(dim=-1, keepdim=True) * gradient[:, None, None]
        factors, before, behind = transitions.exp(), upto[:, :-1], onward[:, 1:]
        pairs = ((before @ factors) * behind).sum(dim=-1, keepdim=True)  # the sum of each pair's weights
        share = before * (gradient[:, None] * follows[:, 1:])[..., None] / pairs
        return marginals, None, factors * torch.einsum("bti,btj->ij", share, behind)


def _messages(
    scores: torch.Tensor, follows: torch.Tensor, transitions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The forward and the backward pass, both at once.

    Returns:
        exp(s) `(B, T, L)`, by the largest of each token; the summed weights of all labels of all tokens before each token and its
        label, and of those behind it, `(2, B, T, L)`, up to a factor of the token; and log Z, `(B,)`.
    """
    highest = scores.amax(dim=-1, keepdim=True)
    weights, factors = (scores - highest).exp(), transitions.exp()
    both, factors = torch.stack((weights, weights.flip(1))), torch.stack((factors, factors.mT))
    is_next = torch.stack((follows, follows.flip(1).roll(1, dims=1)))
    arriving, totals = [], []
    here = torch.ones_like(both[:, :, 0])
    with torch.autocast(scores.device.type, enabled=False):  # products, too, stay in float32
        for place in range(both.shape[2]):
            arriving.append(torch.where(is_next[:, :, place, None], here @ factors, 1.0))
            here = arriving[-1] * both[:, :, place]
            totals.append(here.sum(dim=-1, keepdim=True))
            here = here / totals[-1]
    messages = torch.stack(arriving, dim=2)
    log_partition = torch.stack([total[0] for total in totals], dim=1).log() + highest
    return weights, torch.stack((messages[0], messages[1].flip(1))), log_partition.sum(dim=(1, 2))
