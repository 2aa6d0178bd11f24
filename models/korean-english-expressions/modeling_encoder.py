"""The encoder (BERT's kind; Devlin et al. 2019) and its heads."""

from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling, MaskedLMOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_encoder import TrefoilEncoderConfig
from .modeling_attention import MultiHeadAttention
from .modeling_base import select_positions
from .modeling_heads import (
    EncoderPooler,
    QuestionAnsweringModel,
    SequenceClassificationModel,
    TokenClassificationModel,
    Transform,
)
from .modeling_layer import TransformerLayer
from .modeling_masks import bidirectional_masks
from .modeling_ngrams import MatchEmbeddings, NgramEmbeddings
from .modeling_stack import TransformerPreTrainedModel, TransformerStack
from .modeling_unpadding import Unread, sort_by_length
from .modeling_vocabulary import LanguageModelHead, VocabularyProjection


class TrefoilEncoderModel(TransformerStack):
    """The bare encoder: hidden states that have seen the whole sequence."""

    config: TrefoilEncoderConfig
    _can_record_outputs = {"hidden_states": TransformerLayer, "attentions": MultiHeadAttention}

    def __init__(self, config: TrefoilEncoderConfig, add_pooler: bool | None = None) -> None:
        super().__init__(config)
        width = self.embed_tokens.embedding_dim
        self.embed_ngrams = NgramEmbeddings(config, width) if config.ngram_sizes else None
        self.embed_matches = MatchEmbeddings(config, width) if config.matched_ngram_sizes else None
        add_pooler = config.add_pooler if add_pooler is None else add_pooler
        self.pooler = EncoderPooler(config) if add_pooler else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        sequence_ids: torch.Tensor | None = None,
        unread: Unread | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput | BaseModelOutputWithPooling:
        """
        Args:
            input_ids: `(B, T)`; or `inputs_embeds (B, T, embedding_size)`.
            attention_mask: `(B, T)`, 1 for real tokens, 0 for padding; or a ready mask `(B, 1, T, T)`.
            token_type_ids: `(B, T)` segments; read where the configuration has `type_vocab_size`.
            position_ids: `(B, T)`. Default: counted over real tokens.
            sequence_ids: `(B, T)`, the document that each token of a packed row belongs to.
            unread: Padding whose hidden states nobody reads: zero while training.
        """
        inputs = self.one_of(input_ids, inputs_embeds)
        position_ids = self.resolve_position_ids(position_ids, attention_mask, inputs)
        sequences = self.sequences(inputs, attention_mask, unread, sequence_ids, **kwargs)
        ngrams = []
        if self.embed_ngrams is not None:
            ngrams.append(self.embed_ngrams(input_ids, attention_mask, sequence_ids))
        if self.embed_matches is not None:
            ngrams.append(self.embed_matches(input_ids, token_type_ids, attention_mask, sequence_ids))
        masks = {}
        if sequences is not None:
            sort_by_length(sequences)
            position_ids = sequences.join(position_ids)
            token_type_ids = None if token_type_ids is None else sequences.join(token_type_ids)
        inputs_embeds = self.embed(inputs, sequences)
        for embeddings in ngrams:
            inputs_embeds = inputs_embeds + (embeddings if sequences is None else sequences.join(embeddings))
        if sequences is None:
            masks = bidirectional_masks(self.config, inputs_embeds, attention_mask, sequence_ids)
        hidden_states = self.run_layers(
            inputs_embeds, position_ids, masks, token_type_ids=token_type_ids, sequences=sequences, **kwargs
        )
        if self.pooler is None:
            return BaseModelOutput(last_hidden_state=hidden_states)
        return BaseModelOutputWithPooling(hidden_states, self.pooler(hidden_states, attention_mask, input_ids))


class TrefoilEncoderForMaskedLM(LanguageModelHead, TransformerPreTrainedModel):
    """The encoder with a masked language-modelling head (Devlin et al. 2019, §3.1)."""

    config: TrefoilEncoderConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: TrefoilEncoderConfig) -> None:
        super().__init__(config)
        self.model = TrefoilEncoderModel(config, add_pooler=False)
        self.transform = Transform(config, config.embedding_size)
        width = self.model.embed_tokens.embedding_dim
        self.lm_head = VocabularyProjection(width, config.vocab_size, bias=config.lm_head_bias)
        self.loss_function = self.default_loss
        self.post_init()

    def before_projection(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.transform(hidden_states)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """
        Args:
            labels: `(B, T)` token ids; -100 where nothing was masked.
            logits_to_keep: Only the last so many positions' logits and labels (0: all), or those at the indices of
                positions, or where a boolean mask `(B, T)` is True. The rest: `TrefoilEncoderModel.forward`.

        Returns:
            `logits (B, T, vocab_size)`, `(K, vocab_size)` with a mask, and, with labels, the loss.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            unread=self.unread(labels, attention_mask, **kwargs),
            **kwargs,
        )
        if labels is not None:
            labels = select_positions(labels[..., None], logits_to_keep)[..., 0]
        loss, logits = self.predict(outputs.last_hidden_state, labels, logits_to_keep, **kwargs)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TrefoilEncoderForSequenceClassification(SequenceClassificationModel):
    """The encoder with a head that classifies the whole sequence: its topic, its sentiment, how two texts relate."""

    config: TrefoilEncoderConfig
    base_class = TrefoilEncoderModel
    base_options = {"add_pooler": False}
    pooler_class = EncoderPooler


class TrefoilEncoderForTokenClassification(TokenClassificationModel):
    """The encoder with a head that classifies each token: named entities, parts of speech."""

    config: TrefoilEncoderConfig
    base_class = TrefoilEncoderModel
    base_options = {"add_pooler": False}


class TrefoilEncoderForQuestionAnswering(QuestionAnsweringModel):
    """The encoder with a head that finds the answer to a question in the text behind it."""

    config: TrefoilEncoderConfig
    base_class = TrefoilEncoderModel
    base_options = {"add_pooler": False}
