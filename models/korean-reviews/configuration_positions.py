"""The kinds of positions: what each reads of a configuration. What they compute, the class of each in modeling says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def anything_goes(config: Any) -> None:
    """No check."""


def check_rotary(config: Any) -> None:
    if config.head_dim % 2 != 0:
        raise ValueError(f"head_dim={config.head_dim} must be even with position_embedding_type='rotary'")
    turned = config.no_rope_layers
    if turned is not None and len(turned) != config.num_hidden_layers:
        raise ValueError(f"no_rope_layers names {len(turned)} layers, but num_hidden_layers={config.num_hidden_layers}")


def check_sinusoidal(config: Any) -> None:
    if config.hidden_size % 2 != 0:
        raise ValueError(f"hidden_size={config.hidden_size} must be even with position_embedding_type='sinusoidal'")


def check_scores(config: Any) -> None:
    if "sliding_attention" in config.layer_types:
        raise ValueError(
            f"position_embedding_type={config.position_embedding_type!r} works in 'full_attention' layers only"
        )


def check_relative(config: Any) -> None:
    check_scores(config)
    buckets, furthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
    if buckets < 4:
        raise ValueError(f"relative_attention_num_buckets={buckets} must be at least 4")
    if furthest <= buckets // 2:
        raise ValueError(
            f"relative_attention_max_distance={furthest} must be more than half of "
            f"relative_attention_num_buckets={buckets}"
        )


@dataclass(frozen=True)
class PositionKind:
    """What a configuration knows of a kind of positions.

    Attributes:
        fields: Fields of a configuration that only count with this kind, or with others that name them, too.
        check: Raises a ValueError where a configuration does not go with it; the message names the fields and their values.
    """

    fields: tuple[str, ...] = ()
    check: Callable[[Any], None] = anything_goes


# `position_embedding_type` -> kind
POSITION_KINDS: dict[str, PositionKind] = {
    "rotary": PositionKind(("rope_parameters", "no_rope_layers", "max_position_embeddings"), check_rotary),
    "learned": PositionKind(("position_offset", "max_position_embeddings")),
    "sinusoidal": PositionKind(
        ("interleave_sinusoids", "inclusive_sinusoids", "position_offset", "max_position_embeddings"), check_sinusoidal
    ),
    "relative": PositionKind(("relative_attention_num_buckets", "relative_attention_max_distance"), check_relative),
    "alibi": PositionKind((), check_scores),
    "none": PositionKind(),
}
