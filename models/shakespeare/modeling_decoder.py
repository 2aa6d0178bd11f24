"""The decoder (GPT's kind; Radford et al. 2018) and its heads."""

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
)
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_decoder import TrefoilDecoderConfig
from .modeling_attention import MultiHeadAttention
from .modeling_heads import DecoderPooler, SequenceClassificationModel, TokenClassificationModel
from .modeling_layer import TransformerLayer
from .modeling_losses import next_token_cross_entropy
from .modeling_masks import causal_masks, cross_attention_mask
from .modeling_stack import TransformerPreTrainedModel, TransformerStack
from .modeling_unpadding import Unread, matching, sort_by_length
from .modeling_vocabulary import GenerativeHead, VocabularyProjection


class TrefoilDecoderModel(TransformerStack):
    """The bare decoder: hidden states that have seen what is left of them and, behind an encoder, all of the source."""

    config: TrefoilDecoderConfig
    is_causal = True
    _can_record_outputs = {
        "hidden_states": TransformerLayer,
        "attentions": OutputRecorder(MultiHeadAttention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(MultiHeadAttention, index=1, layer_name="cross_attn"),
    }

    def __init__(self, config: TrefoilDecoderConfig) -> None:
        cross_attention_size = config.cross_attention_hidden_size or config.hidden_size
        super().__init__(config, cross_attention_size if config.add_cross_attention else None)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        sequence_ids: torch.Tensor | None = None,
        encoder_sequence_ids: torch.Tensor | None = None,
        unread: Unread | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """
        Args:
            input_ids: `(B, T)`; or `inputs_embeds (B, T, C)`.
            attention_mask: `(B, past + T)`, 1 for real tokens, 0 for padding; or a ready mask `(B, 1, T, past + T)`.
            position_ids: `(B, T)`. Default: counted over real tokens.
            past_key_values: Keys and values of earlier positions.
            encoder_hidden_states: `(B, S, C')` for cross-attention.
            encoder_attention_mask: `(B, S)`, 1 for real source tokens.
            sequence_ids: `(B, T)`, the document that each token of a packed row belongs to.
            encoder_sequence_ids: `(B, S)`, likewise for the source.
            unread: Padding whose hidden states nobody reads: zero while training.
            use_cache: Return the cache.

        Raises:
            ValueError: Hidden states of an encoder for a decoder without cross-attention.
        """
        if encoder_hidden_states is not None and not self.config.add_cross_attention:
            raise ValueError("encoder_hidden_states were given, but this decoder has add_cross_attention=False")
        inputs = self.one_of(input_ids, inputs_embeds)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
            if encoder_hidden_states is not None:
                past_key_values = EncoderDecoderCache(past_key_values, DynamicCache(config=self.config))
        self_cache = past_key_values
        if isinstance(past_key_values, EncoderDecoderCache):
            self_cache = past_key_values.self_attention_cache

        # where positions are given, they tell transformers of packed rows; where they are counted, nothing is packed
        mask_position_ids = position_ids
        position_ids = self.resolve_position_ids(position_ids, attention_mask, inputs, self_cache)
        sequences = encoder_sequences = None
        if past_key_values is None and (mask_position_ids is None or sequence_ids is not None):
            sequences = self.sequences(inputs, attention_mask, unread, sequence_ids, **kwargs)
        if sequences is not None and encoder_hidden_states is not None:
            if (sequence_ids is None) == (encoder_sequence_ids is None):
                encoder_sequences = matching(
                    sequences, encoder_hidden_states, encoder_attention_mask, encoder_sequence_ids
                )
            sequences = sequences if encoder_sequences is not None else None
        masks, cross_mask = {}, None
        if sequences is not None:
            sort_by_length(sequences, encoder_sequences)
            position_ids = sequences.join(position_ids)
        inputs_embeds = self.embed(inputs, sequences)
        if encoder_sequences is not None and encoder_hidden_states is not None:
            encoder_hidden_states = encoder_sequences.join(encoder_hidden_states)
        elif sequences is None:
            masks = causal_masks(
                self.config, inputs_embeds, attention_mask, self_cache, mask_position_ids, sequence_ids
            )
            if encoder_hidden_states is not None:
                cross_mask = cross_attention_mask(
                    self.config,
                    inputs_embeds,
                    encoder_attention_mask,
                    encoder_hidden_states,
                    sequence_ids,
                    encoder_sequence_ids,
                )
        hidden_states = self.run_layers(
            inputs_embeds,
            position_ids,
            masks,
            encoder_hidden_states,
            encoder_attention_mask=cross_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            sequences=sequences,
            encoder_sequences=encoder_sequences,
            **kwargs,
        )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden_states, past_key_values=past_key_values
        )


class TrefoilDecoderForCausalLM(GenerativeHead, TransformerPreTrainedModel, GenerationMixin):
    """The decoder with a language-modelling head: the probability of the next token."""

    config: TrefoilDecoderConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    default_loss = staticmethod(next_token_cross_entropy)
    predicts_next = True

    def __init__(self, config: TrefoilDecoderConfig) -> None:
        super().__init__(config)
        self.model = TrefoilDecoderModel(config)
        self.lm_head = VocabularyProjection(config.hidden_size, config.vocab_size, bias=config.lm_head_bias)
        self.lm_head_scale = config.hidden_size**-0.5 if config.scale_lm_head else 1.0
        self.logit_softcap = config.final_logit_softcapping
        self.loss_function = self.default_loss
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithCrossAttentions:
        """
        Args:
            labels: `(B, T)` token ids, usually `input_ids`; shifted here. -100 does not count.
            logits_to_keep: Only the last so many positions' logits (0: all), or the indices of positions.
                The rest: `TrefoilDecoderModel.forward`.

        Returns:
            `logits (B, T, vocab_size)` and, with labels, the loss.
        """
        if labels is not None and use_cache is None and past_key_values is None:
            use_cache = False
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            unread=self.unread(labels, attention_mask, **kwargs),
            use_cache=use_cache,
            **kwargs,
        )
        loss, logits = self.predict(outputs.last_hidden_state, labels, logits_to_keep, **kwargs)
        return CausalLMOutputWithCrossAttentions(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            cross_attentions=outputs.cross_attentions or None,
        )


class TrefoilDecoderForSequenceClassification(SequenceClassificationModel):
    """The decoder with a head that classifies the whole sequence by its last token."""

    config: TrefoilDecoderConfig
    base_class = TrefoilDecoderModel
    pooler_class = DecoderPooler
    score_bias = False  # as in transformers' decoders, whose checkpoints have none


class TrefoilDecoderForTokenClassification(TokenClassificationModel):
    """The decoder with a head that classifies each token, which has seen what is left of it."""

    config: TrefoilDecoderConfig
    base_class = TrefoilDecoderModel
