"""A vision encoder of transformers, and a decoder that looks at its patches."""

from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig

from .decoder import TrefoilDecoderConfig
from .halves import attend_to

if TYPE_CHECKING:
    Half = Any  # once __post_init__ is through, always a configuration
else:
    Half = PreTrainedConfig | dict[str, Any] | None


@strict
class TrefoilVisionEncoderDecoderConfig(PreTrainedConfig):
    """Configuration of `TrefoilVisionEncoderDecoderModel`: as transformers' `VisionEncoderDecoderConfig`, but it knows our
    decoder also where this package is not imported.

    Args:
        encoder: The configuration of a vision encoder of transformers, or its fields as a dict with `model_type`. Default: ViT's.
        decoder: Likewise of a decoder. Default, and where there is no `model_type`: a `TrefoilDecoderConfig`, which gets
            cross-attention of the encoder's width.

    Raises:
        ValueError: transformers has no such `model_type`.
    """

    model_type = "trefoil_vision_encoder_decoder"
    sub_configs = {"encoder": AutoConfig, "decoder": AutoConfig}
    keys_to_ignore_at_inference = ["past_key_values"]

    encoder: Half = None
    decoder: Half = None
    is_encoder_decoder: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        self.encoder = _config_of(self.encoder, "vit")
        self.decoder = _config_of(self.decoder, TrefoilDecoderConfig.model_type)
        if self.decoder.model_type == TrefoilDecoderConfig.model_type:
            attend_to(self.decoder, self.encoder)
        super().__post_init__(**kwargs)


def _config_of(half: Half, model_type: str) -> PreTrainedConfig:
    if isinstance(half, PreTrainedConfig):
        return half
    fields = {"model_type": model_type, **(half or {})}
    if fields["model_type"] == TrefoilDecoderConfig.model_type:
        return TrefoilDecoderConfig(**fields)
    return AutoConfig.for_model(**fields)
