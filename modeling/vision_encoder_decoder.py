"""A vision encoder of transformers and a decoder that looks at its patches, as the loop trains it and a published folder loads it."""

from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from ..configuration.decoder import TrefoilDecoderConfig
from ..configuration.halves import attend_to, reads_patches
from ..configuration.vision_encoder_decoder import TrefoilVisionEncoderDecoderConfig
from .decoder import TrefoilDecoderForCausalLM
from .losses import token_cross_entropy
from .vocabulary import LanguageModelHead


class TrefoilVisionEncoderDecoderModel(transformers.VisionEncoderDecoderModel):
    """transformers' model, also with a decoder of ours where nobody has registered that, and with the loss that the loop asks
    for: summed over labels, divided by those of the whole global batch, and smoothed; transformers' own is the mean over the
    labels here. A decoder of ours computes it as its head does, without all logits."""

    config_class = TrefoilVisionEncoderDecoderConfig

    def __init__(
        self,
        config: PreTrainedConfig,
        encoder: PreTrainedModel | None = None,
        decoder: PreTrainedModel | None = None,
    ) -> None:
        for half in (config.encoder, config.decoder):
            half.__dict__.pop("auto_map", None)  # transformers would ask whether code that it names may run
        if encoder is None:
            encoder = AutoModel.from_config(config.encoder)
        if decoder is None and config.decoder.model_type == TrefoilDecoderConfig.model_type:
            decoder = TrefoilDecoderForCausalLM._from_config(config.decoder)
        self.config_class = type(config)  # that of a published folder comes from another copy of its file
        super().__init__(config, encoder=encoder, decoder=decoder)
        self.freeze_unseen()

    def freeze_unseen(self) -> None:
        """Freeze what does not reach the decoder and has no gradient: what comes after the last hidden states."""
        for name, parameter in self.encoder.named_parameters():
            if name.startswith(("pooler.", "head.", "post_layernorm.")) or name.endswith("mask_token"):
                parameter.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        loaded = super().from_pretrained(*arguments, **options)
        model = loaded[0] if options.get("output_loading_info") else loaded
        model.freeze_unseen()  # loaded weights replace those that were frozen
        return loaded

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **options: Any) -> PreTrainedModel:
        """As of the Auto classes."""
        return cls._from_config(config, **options)

    @classmethod
    def from_encoder_decoder_pretrained(  # type: ignore[override]
        cls, encoder: str, decoder: str, output_loading_info: bool = False, **fields: Any
    ) -> Any:
        """A vision encoder and a decoder that were trained apart; the decoder's cross-attention is new.

        Raises:
            ValueError: The encoder does not read pictures in patches.
        """
        loading = {"output_loading_info": True, "use_safetensors": True, "dtype": torch.float32}
        seeing, seen = AutoModel.from_pretrained(encoder, trust_remote_code=False, **loading)
        if seeing.main_input_name != "pixel_values" or not reads_patches(seeing.config):
            raise ValueError(f"{encoder} is a {seeing.config.model_type}, which does not read pictures in patches")
        config = AutoConfig.from_pretrained(decoder, trust_remote_code=False)
        config.is_decoder = True
        attend_to(config, seeing.config)
        saying, said = AutoModelForCausalLM.from_pretrained(decoder, config=config, trust_remote_code=False, **loading)
        joined = cls.config_class(encoder=seeing.config.to_dict(), decoder=saying.config.to_dict(), **fields)
        model = cls(config=joined, encoder=seeing, decoder=saying)
        model.config.encoder.name_or_path = encoder
        report = {
            kind: {f"{half}.{name}" for half, info in (("encoder", seen), ("decoder", said)) for name in info[kind]}
            for kind in ("missing_keys", "unexpected_keys")
        }
        return (model, report) if output_loading_info else model

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        **options: Any,
    ) -> Any:
        """
        Args:
            pixel_values: `(B, channels, height, width)`.
            labels: `(B, T)` token ids, -100 where none counts; `decoder_input_ids (B, T)` are made of them if not given.

        Returns:
            `logits (B, T, vocab_size)` and, with labels, the loss.
        """
        inputs = {"pixel_values": pixel_values, "decoder_input_ids": decoder_input_ids, **options}
        if labels is None:
            return super().forward(**inputs)
        if decoder_input_ids is None:
            inputs["decoder_input_ids"] = self.prepare_decoder_input_ids_from_labels(labels)
        inputs["use_cache"] = False
        of_loss: dict[str, Any] = {
            "num_items_in_batch": num_items_in_batch,
            "label_smoothing": label_smoothing,
            "z_loss": z_loss,
        }
        if not isinstance(self.decoder, LanguageModelHead) or torch.compiler.is_compiling():
            outputs = super().forward(**inputs)
            size = self.config.decoder.vocab_size
            outputs.loss = token_cross_entropy(outputs.logits, labels, size, **of_loss)
            return outputs
        # its inputs are shifted, so that each label already stands where it is predicted
        of_decoder = {"labels": labels, "shift_labels": labels, **of_loss}
        losses: list[torch.Tensor] = []
        # transformers hands on what the decoder returns, but for its loss
        with self.decoder.register_forward_hook(lambda decoder, given, outputs: losses.append(outputs.loss)):
            outputs = super().forward(**inputs, **{f"decoder_{name}": value for name, value in of_decoder.items()})
        (outputs.loss,) = losses
        return outputs
