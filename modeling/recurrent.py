"""The recurrent encoder-decoder (Sutskever et al. 2014), the attention that it got (Bahdanau et al. 2015; Luong et al. 2015), and
its head.

Shapes: B batch, S source length, T target length, C hidden size, L layers, P parts of a layer's state.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ..configuration.recurrent import TrefoilRecurrentConfig
from .base import TrefoilPreTrainedModel
from .dropout import Dropout
from .recurrence import RecurrentLayer
from .scores import attention_weights
from .sequence_to_sequence import (
    BareEncoderDecoderModel,
    ConditionalGenerationModel,
    TrefoilEncoderDecoderPreTrainedModel,
)
from .vocabulary import VocabularyProjection


@dataclass
class RecurrentEncoderOutput(BaseModelOutput):
    """What the encoder gives, and its layers' states after the last token.

    Attributes:
        final_states: `(B, L, P, C)`.
    """

    final_states: torch.Tensor | None = None


class RecurrentCache:
    """The decoder's states after the last token: all that it knows of the target so far.

    Args:
        states: `(B, L, P, C)`.
        length: Tokens of the target so far.
    """

    is_compileable = False

    def __init__(self, states: torch.Tensor, length: int) -> None:
        self.states = states
        self.length = length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Beam search goes on from these rows."""
        self.states = self.states.index_select(0, beam_idx.to(self.states.device))


class RecurrentAttention(nn.Module):
    """The decoder looks at all of the source: Luong et al. 2015, §3.1.

    `score(h, s)` is `hᵀ s` (dot), `hᵀ W s` (general) or `vᵀ tanh(W [h; s])` (concat; Bahdanau et al. 2015, §A.1.2); its softmax
    over the source weighs the states `s` into a context `c`, and `tanh(W_c [c; h])` goes on (equation 5).

    Args:
        hidden_size: C.
        attention_type: `dot`, `general` or `concat`.
    """

    def __init__(self, hidden_size: int, attention_type: str) -> None:
        super().__init__()
        self.attention_type = attention_type
        if attention_type != "dot":
            self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        if attention_type == "concat":
            self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
            self.v_proj = nn.Linear(hidden_size, 1, bias=False)
        self.o_proj = nn.Linear(2 * hidden_size, hidden_size, bias=False)

    def scores(self, states: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """`(B, T, C)` and `(B, S, C)` to `(B, T, S)`."""
        if self.attention_type == "dot":
            return states @ source.transpose(1, 2)
        if self.attention_type == "general":
            return self.q_proj(states) @ source.transpose(1, 2)
        # W [h; s] in two parts, one for each
        both = self.q_proj(states)[:, :, None] + self.k_proj(source)[:, None]
        return self.v_proj(both.tanh())[..., 0]

    def forward(
        self, states: torch.Tensor, source: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            states: `(B, T, C)`, the decoder's.
            source: `(B, S, C)`, the encoder's.
            mask: `(B, S)`, False for padding.

        Returns:
            `(B, T, C)`, and the attention weights `(B, 1, T, S)`: one head.
        """
        mask = None if mask is None else mask[:, None]
        weights = attention_weights(self.scores(states, source), mask).to(states.dtype)
        context = weights @ source
        return self.o_proj(torch.cat((context, states), dim=-1)).tanh(), weights[:, None]


class Recurrent:
    """What sets recurrent models apart."""

    config: TrefoilRecurrentConfig
    _no_split_modules = ["RecurrentLayer"]
    _is_stateful = True  # a step cannot be taken back

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False


class TrefoilRecurrentPreTrainedModel(Recurrent, TrefoilEncoderDecoderPreTrainedModel):
    """What the bare recurrent encoder-decoder and its head share."""

    config: TrefoilRecurrentConfig


class RecurrentHalf(Recurrent, TrefoilPreTrainedModel):
    """Token embeddings, and layers that read them."""

    _can_record_outputs = {"hidden_states": OutputRecorder(RecurrentLayer, index=0)}

    def __init__(self, config: TrefoilRecurrentConfig, bidirectional: bool) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.dropout = Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(
            RecurrentLayer(config.hidden_size, config.hidden_size, config.cell_type, bidirectional)
            for _ in range(config.num_hidden_layers)
        )

    def read(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        initial: torch.Tensor | None,
        mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids `(B, T)` or their embeddings, from states `(B, L, P, C)` on, to outputs `(B, T, C)` and states."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        states = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if initial is None:
            config = self.config
            initial = states.new_zeros(
                states.shape[0], config.num_hidden_layers, config.state_parts, config.hidden_size
            )
        finals = []
        for layer, start in zip(self.layers, initial.unbind(dim=1), strict=True):
            states, final = layer(self.dropout(states), start, mask)
            finals.append(final)
        return states, torch.stack(finals, dim=1)


class TrefoilRecurrentEncoder(RecurrentHalf):
    """Reads the source, in both directions or from left to right."""

    def __init__(self, config: TrefoilRecurrentConfig) -> None:
        super().__init__(config, config.bidirectional)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> RecurrentEncoderOutput:
        """
        Args:
            input_ids: `(B, S)`; or `inputs_embeds (B, S, C)`.
            attention_mask: `(B, S)`, 1 for real tokens, 0 for padding.
        """
        mask = None if attention_mask is None else attention_mask.bool()
        states, finals = self.read(input_ids, inputs_embeds, None, mask)
        return RecurrentEncoderOutput(last_hidden_state=states, final_states=finals)


class TrefoilRecurrentDecoder(RecurrentHalf):
    """Writes the target from the encoder's last states, with an eye on the source where it has attention."""

    _can_record_outputs = {
        "hidden_states": OutputRecorder(RecurrentLayer, index=0),
        "cross_attentions": OutputRecorder(RecurrentAttention, index=1),
    }

    def __init__(self, config: TrefoilRecurrentConfig) -> None:
        super().__init__(config, bidirectional=False)
        self.attention = None
        if config.attention_type != "none":
            self.attention = RecurrentAttention(config.hidden_size, config.attention_type)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_final_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """
        Args:
            input_ids: `(B, T)`; or `inputs_embeds (B, T, C)`.
            attention_mask: `(B, past + T)`, 1 for real tokens.
            past_key_values: The states after earlier tokens.
            encoder_hidden_states: `(B, S, C)`.
            encoder_final_states: `(B, L, P, C)`.
            encoder_attention_mask: `(B, S)`.
            use_cache: Return the states.
        """
        initial = encoder_final_states if past_key_values is None else past_key_values.states
        given = input_ids if inputs_embeds is None else inputs_embeds
        length = 0 if given is None else given.shape[1]
        mask = None if attention_mask is None else attention_mask.bool()[:, -length:]
        states, finals = self.read(input_ids, inputs_embeds, initial, mask)
        if self.attention is not None:
            source_mask = None if encoder_attention_mask is None else encoder_attention_mask.bool()
            states = self.attention(states, encoder_hidden_states, source_mask)[0]
        cache = None
        if use_cache:
            seen = 0 if past_key_values is None else past_key_values.get_seq_length()
            cache = RecurrentCache(finals, seen + length)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states, past_key_values=cache)


class TrefoilRecurrentModel(TrefoilRecurrentPreTrainedModel, BareEncoderDecoderModel):
    """The bare recurrent encoder-decoder: the decoder's hidden states, given a source and a target."""

    def __init__(self, config: TrefoilRecurrentConfig) -> None:
        super().__init__(config)
        self.encoder = TrefoilRecurrentEncoder(config)
        self.decoder = TrefoilRecurrentDecoder(config)
        self.post_init()

    def seen_by_decoder(self, encoder_outputs: RecurrentEncoderOutput) -> dict[str, torch.Tensor | None]:
        """The decoder's arguments from the encoder's outputs: also the states that it starts from.

        Raises:
            ValueError: A tuple or another model's outputs, which have no such states.
        """
        finals = getattr(encoder_outputs, "final_states", None)
        if finals is None:
            raise ValueError("encoder_outputs has no final_states; give what the encoder returned, not as a tuple")
        return super().seen_by_decoder(encoder_outputs) | {"encoder_final_states": finals}


class TrefoilRecurrentForConditionalGeneration(
    TrefoilRecurrentPreTrainedModel, ConditionalGenerationModel, GenerationMixin
):
    """The recurrent encoder-decoder with a language-modelling head: translation as it was before the transformer."""

    def __init__(self, config: TrefoilRecurrentConfig) -> None:
        super().__init__(config)
        self.model = TrefoilRecurrentModel(config)
        self.lm_head = VocabularyProjection(config.hidden_size, config.vocab_size, bias=False)
        self.loss_function = self.default_loss
        self.post_init()
