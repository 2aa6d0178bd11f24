"""The encoder-decoder (Vaswani et al. 2017; the BART and T5 kind) and its head."""

import os
from typing import Any

import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.generation import GenerationMixin

from .configuration_encoder_decoder import TrefoilEncoderDecoderConfig
from .modeling_decoder import TrefoilDecoderForCausalLM, TrefoilDecoderModel
from .modeling_encoder import TrefoilEncoderModel
from .modeling_sequence_to_sequence import BareEncoderDecoderModel, ConditionalGenerationModel
from .modeling_stack import TransformerPreTrainedModel
from .modeling_vocabulary import VocabularyProjection
from .pipeline_summarization import SummarizationPipeline  # noqa: F401
from .pipeline_translation import TranslationPipeline  # noqa: F401


def load_half(
    model_class: type[TransformerPreTrainedModel], place: str | os.PathLike
) -> tuple[PreTrainedConfig, dict[str, torch.Tensor]]:
    """A checkpoint's configuration, and those weights of `model_class` that it has.

    Raises:
        ValueError: The checkpoint is of another kind.
    """
    wanted = model_class.config_class.model_type
    found = PreTrainedConfig.get_config_dict(place)[0].get("model_type")
    if found != wanted:
        raise ValueError(f"{place} holds a model of model_type={found!r}; this half wants {wanted!r}")
    model, report = model_class.from_pretrained(
        place, use_safetensors=True, output_loading_info=True, trust_remote_code=False
    )
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in report["missing_keys"]}
    return model.config, weights


class TrefoilEncoderDecoderModel(BareEncoderDecoderModel, TransformerPreTrainedModel):
    """The bare encoder-decoder: the decoder's hidden states, given a source and a target."""

    config: TrefoilEncoderDecoderConfig

    def __init__(self, config: TrefoilEncoderDecoderConfig) -> None:
        super().__init__(config)
        self.encoder = TrefoilEncoderModel(config.encoder)
        self.decoder = TrefoilDecoderModel(config.decoder)
        self.post_init()


class TrefoilEncoderDecoderForConditionalGeneration(
    ConditionalGenerationModel, TransformerPreTrainedModel, GenerationMixin
):
    """The encoder-decoder with a language-modelling head: translation, summarization, text to text."""

    config: TrefoilEncoderDecoderConfig

    def __init__(self, config: TrefoilEncoderDecoderConfig) -> None:
        super().__init__(config)
        self.model = TrefoilEncoderDecoderModel(config)
        self.lm_head = VocabularyProjection(
            config.decoder.hidden_size, config.decoder.vocab_size, bias=config.decoder.lm_head_bias
        )
        self.lm_head_scale = config.decoder.hidden_size**-0.5 if config.decoder.scale_lm_head else 1.0
        self.logit_softcap = config.decoder.final_logit_softcapping
        self.loss_function = self.default_loss
        self.post_init()

    @classmethod
    def from_encoder_decoder_pretrained(
        cls,
        encoder: str | os.PathLike,
        decoder: str | os.PathLike,
        output_loading_info: bool = False,
        **fields: Any,
    ) -> Any:
        """A pretrained encoder and a pretrained decoder, joined by new cross-attention: Rothe et al. 2020, §3.

        Args:
            encoder: Folder or Hub id of a `trefoil_encoder` with any head, which is left behind.
            decoder: Likewise of a `trefoil_decoder`; its language-modelling head comes along.
            output_loading_info: Return also what `from_pretrained` reports, in which `missing_keys` are the new weights.
            fields: Fields of `TrefoilEncoderDecoderConfig`. Default: the decoder's `tie_word_embeddings`, and
                embeddings that are not shared.

        Raises:
            ValueError: A checkpoint is of another kind.
        """
        encoder_config, encoder_weights = load_half(TrefoilEncoderModel, encoder)
        decoder_config, decoder_weights = load_half(TrefoilDecoderForCausalLM, decoder)
        defaults = {
            "tie_word_embeddings": decoder_config.tie_word_embeddings,
            "share_encoder_decoder_embeddings": False,
        }
        config = cls.config_class(encoder=encoder_config, decoder=decoder_config, **(defaults | fields))
        weights = {f"model.encoder.{name}": tensor for name, tensor in encoder_weights.items()}
        for name, tensor in decoder_weights.items():
            weights[name.replace("model.", "model.decoder.", 1)] = tensor.clone()  # what was tied may part here
        tied = {"lm_head.weight": config.tie_word_embeddings}
        tied["model.decoder.embed_tokens.weight"] = config.share_encoder_decoder_embeddings
        weights = {name: tensor for name, tensor in weights.items() if not tied.get(name)}
        return cls.from_pretrained(None, config=config, state_dict=weights, output_loading_info=output_loading_info)
