"""Positions: added to embeddings (sinusoidal, learned), applied to queries and keys (rotary), or added to the scores
(relative, alibi).

The first two kinds take `position_ids (B, T)`, so padded, packed and cached sequences need nothing special. The third takes
the distances of keys from queries `(T, S)`, which padding and packing leave as they are.

A new kind is a class of one of these three, and an entry of `POSITION_KINDS` in configuration, under the same name.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update

from .configuration_positions import POSITION_KINDS, PositionKind


class Positions(nn.Module):
    """Any kind of positions."""

    @classmethod
    def from_config(cls, config: PreTrainedConfig, is_causal: bool) -> Self:
        """The positions of a stack, which sees left only where it is causal."""
        return cls()


class EmbeddingPositions(Positions):
    """Positions that are added to embeddings: `forward` makes `(B, T, C)` of `position_ids (B, T)`.

    Attributes:
        limit: How many positions there are; None where there is no end to them.
    """

    limit: int | None = None


class QueryKeyPositions(Positions):
    """Positions that are applied to the queries and keys of self-attention.

    `forward` makes what `turn` is to be given, of the hidden states `(B, T, C)`, for their dtype and device, and
    `position_ids (B, T)`: a tuple of tensors for each of the stack's `layer_types`.

    Attributes:
        turn: A static function: queries or keys `(B, H, T, D)`, and those tensors, to queries or keys at their positions.
    """

    turn: Callable[..., torch.Tensor]


class ScorePositions(Positions):
    """Positions that are added to the scores of self-attention: `forward` makes `(1, H, T, S)` of the distances of keys
    from queries (key minus query position), `(T, S)`."""


# `position_embedding_type` -> what computes it; nothing for `none`
POSITION_CLASSES: dict[str, type[Positions]] = {}


def computes(name: str) -> Callable:
    """Marks the class of a kind of positions."""

    def mark(position_class: type[Positions]) -> type[Positions]:
        POSITION_CLASSES[name] = position_class
        return position_class

    return mark


def register_positions(name: str, position_class: type[Positions], kind: PositionKind | None = None) -> None:
    """Makes a kind of positions known from outside: from then on, `position_embedding_type` may name it.

    Args:
        position_class: A subclass of `EmbeddingPositions`, `QueryKeyPositions` or `ScorePositions`.
        kind: What it reads of a configuration, and what it refuses.
    """
    POSITION_KINDS[name] = kind or PositionKind()
    computes(name)(position_class)


def make_positions(config: PreTrainedConfig, is_causal: bool) -> Positions | None:
    """The configured positions of a stack."""
    position_class = POSITION_CLASSES.get(config.position_embedding_type)
    return None if position_class is None else position_class.from_config(config, is_causal)


def embedding_width(config: PreTrainedConfig) -> int:
    """The width of what is added up at the bottom of a stack: `hidden_size`, unless an encoder says otherwise."""
    return getattr(config, "embedding_size", config.hidden_size)


@computes("sinusoidal")
class SinusoidalPositions(EmbeddingPositions):
    """`PE(pos, 2i) = sin(pos / 10000^(2i/C))`, `PE(pos, 2i+1) = cos(…)`: Vaswani et al. 2017, §3.5.

    Computed on the fly, so there is no longest position and no buffer to restore.

    Args:
        hidden_size: C.
        interleave: Else all sines come before all cosines (Marian).
        inclusive: `2i/(C-2)` in place of `2i/C`, which reaches 1 (tensor2tensor, M2M-100).
        offset: The first position, which is 2 in M2M-100.
    """

    def __init__(self, hidden_size: int, interleave: bool = True, inclusive: bool = False, offset: int = 0) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.interleave = interleave
        self.steps = max(hidden_size - 2, 1) if inclusive else hidden_size
        self.offset = offset

    @classmethod
    def from_config(cls, config: PreTrainedConfig, is_causal: bool) -> Self:
        return cls(
            embedding_width(config), config.interleave_sinusoids, config.inclusive_sinusoids, config.position_offset
        )

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """`(B, T)` to `(B, T, C)`, float32."""
        # in float32, the angle of position 500 would be off by 3e-5; Apple's devices have nothing better
        dtype = torch.float32 if position_ids.device.type == "mps" else torch.float64
        even_dims = torch.arange(0, self.hidden_size, 2, device=position_ids.device, dtype=dtype)
        angles = (position_ids + self.offset)[..., None].to(dtype) * 10000.0 ** (-even_dims / self.steps)
        return torch.stack((angles.sin(), angles.cos()), dim=-1 if self.interleave else -2).flatten(-2).float()


@computes("learned")
class LearnedPositions(EmbeddingPositions, nn.Embedding):
    """One trained vector for each position: Gehring et al. 2017; BERT, GPT-2, BART.

    Args:
        max_position_embeddings: Positions from here on do not exist.
        hidden_size: C.
        offset: Rows in front of position 0, which BART and RoBERTa keep.
    """

    def __init__(self, max_position_embeddings: int, hidden_size: int, offset: int = 0) -> None:
        super().__init__(max_position_embeddings + offset, hidden_size)
        self.limit = max_position_embeddings
        self.offset = offset

    @classmethod
    def from_config(cls, config: PreTrainedConfig, is_causal: bool) -> Self:
        return cls(config.max_position_embeddings, embedding_width(config), config.position_offset)

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """`(B, T)` to `(B, T, C)`."""
        return super().forward(position_ids + self.offset)


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
        config: PreTrainedConfig, device: torch.device | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, float]:
        """Frequencies `theta^(-2i/d)` for the rotated part `d` of a head, and the factor 1 on cosines and sines."""
        rope = config.rope_parameters
        rotated = int(config.head_dim * rope.get("partial_rotary_factor", 1.0))
        exponents = torch.arange(0, rotated, 2, device=device, dtype=torch.int64).float() / rotated
        return 1.0 / rope["rope_theta"] ** exponents, 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines `(B, T, d)` in the dtype of `hidden_states`; computed in float32."""
        inv_freq = self.inv_freq.to(device=hidden_states.device, dtype=torch.float32)
        angles = position_ids[..., None].float() * inv_freq
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        return cos.to(hidden_states.dtype), sin.to(hidden_states.dtype)


def rotary_config(config: PreTrainedConfig, layer_type: str) -> PreTrainedConfig:
    """The configuration with the rotary settings of one layer type only."""
    if layer_type not in config.rope_parameters:
        return config
    config = copy.copy(config)
    config.rope_parameters = config.rope_parameters[layer_type]
    return config


def apply_rotary_positions(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate each pair of coordinates (i, i + d/2) of queries or keys by its position's angle θ: `x_i cos θ - x_(i+d/2) sin θ`
    and `x_(i+d/2) cos θ + x_i sin θ`.

    Args:
        states: `(B, H, T, D)`.
        cos: `(B, 1, T, d)` with `d <= D`; the last `D - d` coordinates stay as they are.
        sin: Likewise, the first half of it negative.
    """
    rotated = cos.shape[-1]
    if rotated == states.shape[-1]:
        return states * cos + states.roll(rotated // 2, dims=-1) * sin
    turning, fixed = states[..., :rotated], states[..., rotated:]
    return torch.cat((apply_rotary_positions(turning, cos, sin), fixed), dim=-1)


@computes("rotary")
class RotaryPositions(QueryKeyPositions, nn.ModuleDict):
    """A `RotaryEmbedding` for each layer type, which may have settings of its own."""

    turn = staticmethod(apply_rotary_positions)

    @classmethod
    def from_config(cls, config: PreTrainedConfig, is_causal: bool) -> Self:
        types = sorted(set(config.layer_types))
        return cls({layer_type: RotaryEmbedding(rotary_config(config, layer_type)) for layer_type in types})

    def forward(
        self, hidden_states: torch.Tensor, position_ids: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Cosines and sines for each layer type, as `apply_rotary_positions` takes them."""
        return {layer_type: self.signed(*rotary(hidden_states, position_ids)) for layer_type, rotary in self.items()}

    @staticmethod
    def signed(cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines `(B, T, d)` to `(B, 1, T, d)`, with the signs of a rotation."""
        first, second = sin.chunk(2, dim=-1)
        return cos[:, None], torch.cat((-first, second), dim=-1)[:, None]


@computes("relative")
class RelativePositions(ScorePositions, nn.Embedding):
    """A learned number for each head and each bucket of distances: T5 (Raffel et al. 2020, §2.1, after Shaw et al. 2018).

    Half of the buckets hold one distance each; the others, ever wider, those up to `max_distance`.

    Args:
        num_heads: H.
        num_buckets: Buckets of distances; where both directions are told apart, half of them each.
        max_distance: From this distance on, all share the last bucket.
        bidirectional: Whether a query also looks right.
    """

    def __init__(self, num_heads: int, num_buckets: int, max_distance: int, bidirectional: bool) -> None:
        super().__init__(num_buckets, num_heads)
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    @classmethod
    def from_config(cls, config: PreTrainedConfig, is_causal: bool) -> Self:
        return cls(
            config.num_attention_heads,
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
            bidirectional=not is_causal,
        )

    def buckets(self, distances: torch.Tensor) -> torch.Tensor:
        """The buckets, integers in `[0, num_buckets)`, of distances (key minus query position) of any shape."""
        buckets = self.num_embeddings // 2 if self.bidirectional else self.num_embeddings
        first = buckets * (distances > 0) if self.bidirectional else 0
        steps = distances.abs() if self.bidirectional else (-distances).clamp(min=0)
        exact = buckets // 2
        wider = (steps.clamp(min=1).float() / exact).log() / math.log(self.max_distance / exact) * (buckets - exact)
        wider = (exact + wider.long()).clamp(max=buckets - 1)
        return first + torch.where(steps < exact, steps, wider)

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        """`(T, S)` to `(1, H, T, S)`."""
        return super().forward(self.buckets(distances)).permute(2, 0, 1)[None]


@computes("alibi")
class AlibiPositions(ScorePositions):
    """Scores fall with distance, in each head by another slope: Press et al. 2022, §3.

    Args:
        num_heads: H.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    @classmethod
    def from_config(cls, config: PreTrainedConfig, is_causal: bool) -> Self:
        return cls(config.num_attention_heads)

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        """`(T, S)` to `(1, H, T, S)`, float32: `-slope · |distance|`, with slopes `2^(-8/H), 2^(-16/H), …`."""
        heads = torch.arange(1, self.num_heads + 1, device=distances.device)
        slopes = 2.0 ** (-8.0 * heads / self.num_heads)
        return -(slopes[:, None, None] * distances.abs())[None]
