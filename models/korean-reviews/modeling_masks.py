"""Masks: who may look at whom. Causality and padding are transformers'; packing is added here.

Packing puts several documents in one row. `position_ids` alone do not carry it everywhere (a bidirectional mask and a
mask with a cache ignore them), so packed rows bring `sequence_ids`: positions see each other only where these agree.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
)

CAUSAL = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}
BIDIRECTIONAL = {
    "full_attention": create_bidirectional_mask,
    "sliding_attention": create_bidirectional_sliding_window_mask,
}


def position_ids_from_mask(
    attention_mask: torch.Tensor | dict | None, length: int, past_length: int | torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Positions that count real tokens only, so that padding on either side changes nothing: `(B or 1, T)`.

    Args:
        attention_mask: `(B, past_length + length)`, 1 for real tokens; anything else counts every token. Padding on the
            right is counted on, as stock encoders do, in which what is computed there can enter a loss.
    """
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
        return (torch.arange(length, device=device) + past_length).unsqueeze(0)
    real = attention_mask.to(device=device, dtype=torch.long)
    on_the_right = real.flip(-1).cumsum(dim=-1).flip(-1) == 0
    positions = (real + on_the_right).cumsum(dim=-1) - 1
    return positions.clamp(min=0)[:, -length:]


def _same_sequence(query_ids: torch.Tensor, key_ids: torch.Tensor) -> Callable:
    def same_sequence(
        batch_idx: torch.Tensor, head_idx: torch.Tensor, q_idx: torch.Tensor, kv_idx: torch.Tensor
    ) -> torch.Tensor:
        return query_ids[batch_idx, q_idx] == key_ids[batch_idx, kv_idx]

    return same_sequence


def _packing(config: PreTrainedConfig, query_ids: torch.Tensor | None, key_ids: torch.Tensor | None) -> dict:
    if query_ids is None and key_ids is None:
        return {}
    if query_ids is None or key_ids is None:
        raise ValueError("packed sequences need the sequence ids of both sides: sequence_ids and decoder_sequence_ids")
    if "flash" in (config._attn_implementation or ""):
        raise ValueError(
            f"attn_implementation={config._attn_implementation!r} cannot mask by sequence_ids; "
            "use 'sdpa', 'eager' or 'flex_attention'"
        )
    return {"and_mask_function": _same_sequence(query_ids, key_ids)}


def _for_each_layer_type(
    functions: dict[str, Callable], config: PreTrainedConfig, attention_mask: torch.Tensor | dict | None, **kwargs: Any
) -> dict[str, torch.Tensor | None]:
    if isinstance(attention_mask, dict):
        return attention_mask
    return {
        layer_type: functions[layer_type](config=config, attention_mask=attention_mask, **kwargs)
        for layer_type in sorted(set(config.layer_types))
    }


def causal_masks(
    config: PreTrainedConfig,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    past_key_values: Cache | None,
    position_ids: torch.Tensor | None,
    sequence_ids: torch.Tensor | None = None,
) -> dict[str, torch.Tensor | None]:
    """Each position sees itself and what is left of it: Vaswani et al. 2017, §3.2.3; one mask for each layer type.

    Args:
        inputs_embeds: `(B, T, C)`, for its shape.
        attention_mask: `(B, past + T)` with 1 for real tokens, or a ready mask `(B, 1, T, S)`, used as it is, or such
            masks for each layer type.
        sequence_ids: `(B, T)` integers for packed rows.
    """
    return _for_each_layer_type(
        CAUSAL,
        config,
        attention_mask,
        inputs_embeds=inputs_embeds,
        past_key_values=past_key_values,
        # where it finds documents by their positions, transformers asks for pairs of these, not of places in the row
        position_ids=None if sequence_ids is not None else position_ids,
        **_packing(config, sequence_ids, sequence_ids),
    )


def bidirectional_masks(
    config: PreTrainedConfig,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    sequence_ids: torch.Tensor | None = None,
) -> dict[str, torch.Tensor | None]:
    """Each position sees all of its sequence, or a window around it; one mask for each layer type.

    Args:
        inputs_embeds: `(B, T, C)`, for its shape.
        attention_mask: `(B, T)` with 1 for real tokens, or a ready mask `(B, 1, T, T)`, used as it is, or such masks
            for each layer type.
        sequence_ids: `(B, T)` integers for packed rows.
    """
    return _for_each_layer_type(
        BIDIRECTIONAL,
        config,
        attention_mask,
        inputs_embeds=inputs_embeds,
        **_packing(config, sequence_ids, sequence_ids),
    )


def cross_attention_mask(
    config: PreTrainedConfig,
    inputs_embeds: torch.Tensor,
    encoder_attention_mask: torch.Tensor | None,
    encoder_hidden_states: torch.Tensor,
    sequence_ids: torch.Tensor | None = None,
    encoder_sequence_ids: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """Each position of the target sees all of the source.

    Args:
        inputs_embeds: `(B, T, C)`, for its shape.
        encoder_attention_mask: `(B, S)` with 1 for real tokens, or a ready mask `(B, 1, T, S)`, used as it is.
        encoder_hidden_states: `(B, S, C')`.
        sequence_ids: `(B, T)` integers for packed rows.
        encoder_sequence_ids: `(B, S)`, likewise of the source.
    """
    return create_bidirectional_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=encoder_attention_mask,
        encoder_hidden_states=encoder_hidden_states,
        **_packing(config, sequence_ids, encoder_sequence_ids),
    )
