"""What all Trefoil models have in common."""

import torch
from transformers.modeling_utils import PreTrainedModel


class TrefoilPreTrainedModel(PreTrainedModel):
    """What all models and heads share: names."""

    base_model_prefix = "model"
    _skip_keys_device_placement = ["past_key_values"]


def select_positions(hidden_states: torch.Tensor, positions: int | torch.Tensor) -> torch.Tensor:
    """The hidden states `(B, T, C)` that logits are wanted for.

    Args:
        positions: The last so many, 0 for all; or which, as indices `(K,)` or `(B, K)` or as a boolean mask `(B, T)`.

    Returns:
        `(B, K, C)`; with a mask, which may choose differently many in each row, `(K, C)`.
    """
    if isinstance(positions, int):
        return hidden_states[:, -positions:]
    if positions.ndim == 1:
        return hidden_states[:, positions]
    if positions.dtype == torch.bool:
        return hidden_states[positions]
    return hidden_states.take_along_dim(positions[..., None], dim=1)
