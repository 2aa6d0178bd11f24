"""Attention through all layers: how much of each input a last layer's position holds, if attention were all that mixes.

Shapes: L layers, H heads, T target length, S source length.
"""

import torch


def with_residual(weights: torch.Tensor) -> torch.Tensor:
    """Heads averaged, and half of a position kept by the residual connection: Abnar & Zuidema 2020, §3.

    Args:
        weights: `(L, H, T, T)`.

    Returns:
        `(L, T, T)`: `0.5 A + 0.5 I`, whose rows sum to one.
    """
    return 0.5 * weights.mean(dim=1) + 0.5 * torch.eye(weights.shape[-1])


def self_rollout(weights: torch.Tensor) -> torch.Tensor:
    """Attention rollout of self-attention (Abnar & Zuidema 2020, §3): `Ã_L ⋯ Ã_1`.

    Args:
        weights: `(L, H, T, T)`.

    Returns:
        `(T, T)`: each row says what its position holds of each input, and sums to one.
    """
    rolled = torch.eye(weights.shape[-1])
    for layer in with_residual(weights):
        rolled = layer @ rolled
    return rolled


def cross_rollout(
    cross: torch.Tensor, encoder: torch.Tensor | None = None, decoder: torch.Tensor | None = None
) -> torch.Tensor:
    """The source's part in the rollout of an encoder-decoder.

    What a target position holds of the source goes through the decoder's self-attention as in Abnar & Zuidema 2020;
    each cross-attention then adds, through its own residual connection, what the encoder's rollout says of its keys.
    Chefer et al. 2021 ("Generic attention-model explainability") and Ferrando et al. 2022 (ALTI+) put the three
    together in the same way, from maps that gradients or norms have weighed; here they are the weights alone. What
    remains with the target's own inputs is left out, and rows are scaled to sum to one.

    Args:
        cross: `(L, H, T, S)`.
        encoder: `(any, any, S, S)`. Default: its positions hold their own input only, as is said of recurrent models.
        decoder: `(L, H, T, T)`. Default: likewise.

    Returns:
        `(T, S)`.
    """
    source = torch.eye(cross.shape[-1]) if encoder is None else self_rollout(encoder)
    layers = cross.mean(dim=1)
    mixing = torch.eye(cross.shape[-2]).expand(len(layers), -1, -1) if decoder is None else with_residual(decoder)
    rolled = torch.zeros_like(layers[0])
    for own, other in zip(mixing, layers, strict=True):
        rolled = 0.5 * (own @ rolled) + 0.5 * (other @ source)
    return rolled / rolled.sum(dim=-1, keepdim=True)
