"""Positions: added to embeddings (sinusoidal, learned) or applied to queries and keys (rotary).

Every class takes `position_ids (B, T)`, so padded, packed and cached sequences need nothing special.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update


class SinusoidalPositions(nn.Module):
    """`PE(pos, 2i) = sin(pos / 10000^(2i/C))`, `PE(pos, 2i+1) = cos(…)`: Vaswani et al. 2017, §3.5.

    Computed on the fly, so there is no longest position and no buffer to restore.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """`(B, T)` to `(B, T, C)`, float32."""
        even_dims = torch.arange(0, self.hidden_size, 2, device=position_ids.device, dtype=torch.float32)
        angles = position_ids[..., None].float() * 10000.0 ** (-even_dims / self.hidden_size)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class LearnedPositions(nn.Embedding):
    """One trained vector for each position: Gehring et al. 2017; BERT, GPT-2, BART.

    `(B, T)` to `(B, T, C)`; positions from `max_position_embeddings` on do not exist.
    """


class RotaryEmbedding(nn.Module):
    """Angles for rotary positions: Su et al. 2021, §3.2.2, with transformers' `rope_parameters` for its variants.

    The class name and `original_inv_freq` are what transformers looks for to restore the buffers after loading on
    the meta device.
    """

    inv_freq: torch.Tensor

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.max_seq_len_cached = self.original_max_seq_len = config.max_position_embeddings
        self.rope_type = config.rope_parameters["rope_type"]
        init: Callable = self.compute_default_rope_parameters
        if self.rope_type != "default":
            init = ROPE_INIT_FUNCTIONS[self.rope_type]
        inv_freq, self.attention_scaling = init(config)
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)

    @staticmethod
    def compute_default_rope_parameters(
        config: PreTrainedConfig, device: torch.device | None = None, **kwargs
    ) -> tuple[torch.Tensor, float]:
        """Frequencies `theta^(-2i/d)` for the rotated part `d` of a head, and the factor 1 on cosines and sines."""
        rope = config.rope_parameters
        rotated = int(config.head_dim * rope.get("partial_rotary_factor", 1.0))
        exponents = torch.arange(0, rotated, 2, device=device, dtype=torch.int64).float() / rotated
        return rope["rope_theta"] ** -exponents, 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines `(B, T, d)` in the dtype of `hidden_states`; computed in float32."""
        inv_freq = self.inv_freq.to(device=hidden_states.device, dtype=torch.float32)
        angles = position_ids[..., None].float() * inv_freq
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        return cos.to(hidden_states.dtype), sin.to(hidden_states.dtype)


def apply_rotary_positions(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate each pair of coordinates (i, i + d/2) of queries or keys by its position's angle.

    Args:
        states: `(B, H, T, D)`.
        cos, sin: `(B, T, d)` with `d <= D`; the last `D - d` coordinates stay as they are.
    """
    rotated = cos.shape[-1]
    turning, fixed = states[..., :rotated], states[..., rotated:]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    first, second = turning.chunk(2, dim=-1)
    turning = turning * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turning, fixed), dim=-1) if fixed.shape[-1] else turning
