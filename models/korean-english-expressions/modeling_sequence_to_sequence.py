"""What encoder-decoders share, whatever their halves are made of: the way through both, the head, and embeddings that reach
both."""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils.generic import can_return_tuple

from .modeling_base import TrefoilPreTrainedModel
from .modeling_unpadding import Unread
from .modeling_vocabulary import GenerativeHead


def shift_right(labels: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """The decoder's inputs from its labels `(B, T)`: the start token, then all labels but the last; -100 as padding.

    With `config.start_from_labels`, the last real label is the start token (Liu et al. 2020, §2.2).

    Raises:
        ValueError: There is no start token.
    """
    shifted = labels.roll(1, dims=-1)
    if config.start_from_labels:
        real = (labels != -100) & (labels != config.pad_token_id)
        last = (torch.arange(labels.shape[-1], device=labels.device) * real).argmax(dim=-1, keepdim=True)
        shifted[..., :1] = labels.gather(-1, last)
    elif config.decoder_start_token_id is not None:
        shifted[..., 0] = config.decoder_start_token_id
    else:
        raise ValueError("decoder_start_token_id=None: set it in the configuration, or give decoder_input_ids")
    fills = (config.pad_token_id, config.decoder_start_token_id, 0)
    padding = next(token for token in fills if token is not None)
    return shifted.masked_fill(shifted == -100, padding)


class TrefoilEncoderDecoderPreTrainedModel(TrefoilPreTrainedModel):
    """What the bare encoder-decoder and its head share: embeddings that reach both halves."""

    def _halves(self) -> tuple[TrefoilPreTrainedModel, TrefoilPreTrainedModel]:
        base = self.base_model
        return base.encoder, base.decoder

    def get_input_embeddings(self) -> nn.Module:
        return self._halves()[0].embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        encoder, decoder = self._halves()
        encoder.embed_tokens = value
        if self.config.share_encoder_decoder_embeddings:
            decoder.embed_tokens = value

    def _resize_token_embeddings(
        self, new_num_tokens: int, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        embeddings = super()._resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        encoder, decoder = self._halves()
        if not self.config.share_encoder_decoder_embeddings:
            resized = self._get_resized_embeddings(
                decoder.embed_tokens, new_num_tokens, pad_to_multiple_of, mean_resizing
            )
            resized.requires_grad_(decoder.embed_tokens.weight.requires_grad)
            decoder.embed_tokens = resized
        encoder.config.vocab_size = embeddings.weight.shape[0]
        return embeddings

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict:
        """Shared embeddings are tied to the encoder's; else the output projection to the decoder's."""
        if self.config.share_encoder_decoder_embeddings and not self.config.tie_word_embeddings:
            return {name: source for name, source in self._tied_weights_keys.items() if "lm_head" not in name}
        tied = super().get_expanded_tied_weights_keys(all_submodels)
        if self.config.share_encoder_decoder_embeddings:
            return tied
        return {
            target: source.replace("encoder.embed", "decoder.embed") if "lm_head" in target else source
            for target, source in tied.items()
            if not target.endswith("decoder.embed_tokens.weight")
        }


class BareEncoderDecoderModel(TrefoilEncoderDecoderPreTrainedModel):
    """An `encoder` and a `decoder` that sees what the encoder has made of the source."""

    _tied_weights_keys = {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}

    def seen_by_decoder(self, encoder_outputs: BaseModelOutput) -> dict[str, torch.Tensor | None]:
        """The decoder's arguments from the encoder's outputs."""
        return {"encoder_hidden_states": encoder_outputs.last_hidden_state}

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        sequence_ids: torch.Tensor | None = None,
        decoder_sequence_ids: torch.Tensor | None = None,
        unread: Unread | None = None,
        decoder_unread: Unread | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """
        Args:
            input_ids: The source, `(B, S)`; or `inputs_embeds (B, S, C)`.
            attention_mask: `(B, S)`, 1 for real source tokens, 0 for padding.
            decoder_input_ids: The target, shifted right, `(B, T)`; or `decoder_inputs_embeds (B, T, C)`. Default: the
                source, shifted right, as in denoising pre-training.
            decoder_attention_mask: `(B, past + T)`, likewise.
            position_ids: `(B, S)`. Default: counted over real tokens; `decoder_position_ids (B, T)` likewise.
            encoder_outputs: The encoder's, computed before; also as a tuple of their fields.
            past_key_values: Keys and values of earlier target positions and of the source.
            sequence_ids: `(B, S)`, the pair that each source token of a packed row belongs to, with
                `decoder_sequence_ids (B, T)` for the target.
            unread: Padding of the source whose hidden states nobody reads: zero while training; `decoder_unread`
                likewise of the target.
            use_cache: Return the cache.
        """
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give decoder_input_ids or decoder_inputs_embeds along with inputs_embeds")
            decoder_input_ids = shift_right(input_ids, self.config)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                inputs_embeds=inputs_embeds,
                sequence_ids=sequence_ids,
                unread=unread,
                **kwargs,
            )
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        decoder_outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            position_ids=decoder_position_ids,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            encoder_attention_mask=attention_mask,
            sequence_ids=decoder_sequence_ids,
            encoder_sequence_ids=sequence_ids,
            unread=decoder_unread,
            use_cache=use_cache,
            **self.seen_by_decoder(encoder_outputs),
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions or None,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


class ConditionalGenerationModel(GenerativeHead, TrefoilEncoderDecoderPreTrainedModel):
    """A bare encoder-decoder, `model`, with a language-modelling head."""

    _tied_weights_keys = {
        "lm_head.weight": "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight": "model.encoder.embed_tokens.weight",
    }

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        return shift_right(labels, self.config)

    def mask_of_labels(
        self, attention_mask: torch.Tensor | dict | None, read: torch.Tensor
    ) -> torch.Tensor | dict | None:
        """Without a mask of the target, what is behind the last label of a row is padding: nothing before it sees it."""
        return read.flip(-1).cumsum(-1).flip(-1) if attention_mask is None else attention_mask

    def _reorder_cache(self, past_key_values: Any, beam_idx: torch.Tensor) -> Any:
        """Beam search goes on from these rows. The beams of a source share its keys and values, which stay where they are."""
        own = past_key_values
        if isinstance(past_key_values, EncoderDecoderCache):
            own = past_key_values.self_attention_cache
        own.reorder_cache(beam_idx)
        return past_key_values

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """
        Args:
            labels: The target `(B, T)`, ending with the end-of-sequence token; -100 does not count. The decoder's
                inputs are made from it where none are given.
            logits_to_keep: Only the last so many positions' logits (0: all), or the indices of positions.
                The rest: `TrefoilEncoderDecoderModel.forward`.

        Returns:
            `logits (B, T, vocab_size)` and, with labels, the loss.
        """
        if labels is not None:
            if use_cache is None and past_key_values is None:
                use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            position_ids=position_ids,
            decoder_position_ids=decoder_position_ids,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            unread=Unread(attention_mask) if labels is not None else None,
            decoder_unread=self.unread(labels, decoder_attention_mask, **kwargs),
            use_cache=use_cache,
            **kwargs,
        )
        loss, logits = self.predict(outputs.last_hidden_state, labels, logits_to_keep, **kwargs)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )
