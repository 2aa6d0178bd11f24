"""A configuration that is made of others: its halves, and what makes them fit."""

from transformers.configuration_utils import PreTrainedConfig


def halves(config: PreTrainedConfig) -> dict[str, PreTrainedConfig]:
    """The configurations that one is made of, by their names in it; none for a whole one. Also of transformers' own."""
    return {name: half for name in config.sub_configs if (half := getattr(config, name, None)) is not None}


def attend_to(decoder: PreTrainedConfig, encoder: PreTrainedConfig) -> None:
    """Give a decoder cross-attention to what an encoder makes, which may be of another width."""
    decoder.add_cross_attention = True
    width = getattr(decoder, "cross_attention_hidden_size", None) or decoder.hidden_size
    if width != encoder.hidden_size:
        decoder.cross_attention_hidden_size = encoder.hidden_size


def reads_patches(config: PreTrainedConfig) -> bool:
    """Whether it is of a vision transformer, whose patches come out as vectors of one size."""
    return all(hasattr(config, field) for field in ("hidden_size", "image_size", "patch_size"))
