"""The stack: embeddings, layers and final norm, and what all models have in common that are made of such layers."""

from typing import Any

import torch
from torch import nn
from transformers import initialization
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig

from .configuration_halves import halves
from .modeling_attention import attention_function
from .modeling_base import TrefoilPreTrainedModel
from .modeling_dropout import Dropout
from .modeling_layer import TransformerLayer
from .modeling_masks import position_ids_from_mask
from .modeling_norms import ZeroCenteredRMSNorm, make_norm
from .modeling_positions import EmbeddingPositions, QueryKeyPositions, ScorePositions, embedding_width, make_positions
from .modeling_unpadding import AttentionOfEach, Sequences, Unread

RECORDED = ("output_hidden_states", "output_attentions")


class TransformerPreTrainedModel(TrefoilPreTrainedModel):
    """What models and heads can do that are made of `TransformerLayer`s."""

    supports_gradient_checkpointing = True
    _no_split_modules = ["TransformerLayer"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initial weights, `std = config.initializer_range`.

        | weights | distribution |
        |---|---|
        | linear, embedding | normal(0, std); the padding token's embedding is zero |
        | output projections of sublayers | with `residual_init`, of a smaller std, or zero |
        | biases | zero |
        | norms | one, or zero where one is added to them |
        """
        super()._init_weights(module)
        if isinstance(module, ZeroCenteredRMSNorm):
            initialization.zeros_(module.weight)
        # set by the layer: transformers shows this method no module that has no weights of its own
        if (factor := getattr(module, "std_factor", 1.0)) != 1.0:
            initialization.normal_(module.weight, std=self.config.initializer_range * factor)

    def _sdpa_can_dispatch(self, is_init_check: bool = False) -> bool:
        """
        Raises:
            ValueError: torch's kernel cannot cap scores; where no implementation is asked for, transformers takes `eager`.
        """
        if any(getattr(half, "attn_logit_softcapping", None) for half in (self.config, *halves(self.config).values())):
            raise ValueError("attn_implementation='sdpa' cannot cap scores; with attn_logit_softcapping, use 'eager'")
        return super()._sdpa_can_dispatch(is_init_check)


class TransformerStack(TransformerPreTrainedModel):
    """Embeddings, layers and, but with post-norm, the final norm; encoder and decoder differ in their masks only.

    Attributes:
        spares_padding: Whether layers see sequences end to end while training; hooks of one's own may want rows.
    """

    is_causal = False
    spares_padding = True

    def __init__(self, config: PreTrainedConfig, cross_attention_size: int | None = None) -> None:
        super().__init__(config)
        config.validate_architecture()  # its fields may have been changed since it was made
        padding_idx = config.pad_token_id if config.freeze_padding_embedding else None
        width = embedding_width(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, width, padding_idx)
        self.embed_scale = config.hidden_size**0.5 if config.scale_embedding else 1.0
        self.embed_types = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        positions = make_positions(config, self.is_causal)
        self.embed_positions = positions if isinstance(positions, EmbeddingPositions) else None
        self.rotary_emb = positions if isinstance(positions, QueryKeyPositions) else None
        self.score_positions = positions if isinstance(positions, ScorePositions) else None
        self.embed_norm = make_norm(config, width) if config.embedding_norm else None
        self.embed_proj = nn.Linear(width, config.hidden_size) if width != config.hidden_size else None
        self.dropout = Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(config, layer_idx, self.is_causal, cross_attention_size)
            for layer_idx in range(config.num_hidden_layers)
        )
        self.norm = (
            nn.Identity() if config.norm_position == "post" else make_norm(config)
        )  # pipelines of stages need one
        self.attn_softcap = config.attn_logit_softcapping
        self.gradient_checkpointing = False

    def one_of(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """That which is given of `input_ids (B, T)` and `inputs_embeds (B, T, C)`.

        Raises:
            ValueError: Both are given, or none.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        return input_ids if inputs_embeds is None else inputs_embeds  # type: ignore[return-value]

    def embed(self, inputs: torch.Tensor, sequences: Sequences | None = None) -> torch.Tensor:
        """Token embeddings `(B, T, C)` of ids `(B, T)`; embeddings stay as they are.

        Args:
            sequences: Those of their tokens, `(1, N, C)`; hooks of the embeddings see rows, as NEFTune's must.
        """
        embeds = inputs if inputs.is_floating_point() else self.embed_tokens(inputs)
        return embeds if sequences is None else sequences.join(embeds)

    def sequences(
        self,
        inputs: torch.Tensor,
        attention_mask: torch.Tensor | dict | None,
        unread: Unread | None,
        sequence_ids: torch.Tensor | None,
        **kwargs: Any,
    ) -> Sequences | None:
        """The sequences of a batch, where layers can see them end to end; else None, and masks keep them apart.

        Args:
            inputs: `(B, T, …)`.
            unread: Tokens that may be left out while training.
            kwargs: Of `forward`: outputs that it asks for have a place for padding.
        """
        kernel, unread = (
            self.config._attn_implementation or "",
            unread if self.training and self.spares_padding else None,
        )
        if (unread is None and sequence_ids is None) or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return None
        can_vary = (kernel == "sdpa" and inputs.device.type == "cpu") or kernel.startswith("flash_attention")
        asked = [kwargs.get(name, getattr(self.config, name, False)) for name in RECORDED]
        is_compiled = self.layers[0]._compiled_call_impl is not None  # for masks, or anew for each length
        if not can_vary or any(asked) or is_compiled or isinstance(attention_mask, dict) or self._are_told_of_rows():
            return None
        padding = None if unread is None else unread.places(inputs.shape[:2])
        kept = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device) if padding is None else ~padding
        if attention_mask is not None and (attention_mask.ndim != 2 or bool((kept & (attention_mask == 0)).any())):
            return None
        if not bool(kept.any()) or (sequence_ids is None and bool(kept.all())):
            return None
        sequences = Sequences(kept, sequence_ids)
        has_window = "sliding_attention" in self.config.layer_types
        if not sequences.are_whole or (has_window and max(sequences.lengths) > self.config.sliding_window):
            return None
        return sequences

    def resolve_position_ids(
        self,
        position_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor,
        past_key_values: Cache | None = None,
    ) -> torch.Tensor:
        """The given `position_ids (B, T)`, or positions counted from the mask.

        Raises:
            ValueError: More tokens than there are positions.
        """
        if position_ids is not None:
            return position_ids
        length = inputs_embeds.shape[1]
        past_length = past_key_values.get_seq_length() if past_key_values is not None else 0
        limit = None if self.embed_positions is None else self.embed_positions.limit
        if limit is not None and not torch.compiler.is_compiling() and length + past_length > limit:
            raise ValueError(
                f"a sequence of {int(length + past_length)} tokens is longer than this model's "
                f"max_position_embeddings={limit}; truncate it"
            )
        return position_ids_from_mask(attention_mask, length, past_length, inputs_embeds.device)

    def _are_told_of_rows(self) -> bool:
        """Whether something hands to modules within layers, as PEFT's aLoRA does, what it knows of each row."""
        return any(
            module._forward_pre_hooks_with_kwargs
            for layer in self.layers
            for module in layer.modules()
            if module is not layer
        )

    def position_bias(
        self, hidden_states: torch.Tensor, past_key_values: Cache | None, length: int, is_paged: bool = False
    ) -> torch.Tensor | None:
        """What positions add to the scores of all layers: `(1, H, T, S)`, where they do.

        Args:
            length: T.
            is_paged: Whether keys are those of many texts, from a paged cache.

        Raises:
            ValueError: The attention implementation has no place for it.
        """
        if self.score_positions is None:
            return None
        kernel = self.config._attn_implementation or ""
        if is_paged or any(name in kernel for name in ("flash", "paged", "vllm")):
            told, remedy = (" of a paged cache", "generate()") if is_paged else ("", "'sdpa' or 'eager'")
            raise ValueError(
                f"attn_implementation={kernel!r}{told} cannot add positions to the scores, as "
                f"position_embedding_type={self.config.position_embedding_type!r} wants; use {remedy}"
            )
        past_length, first_key, keys = 0, 0, length
        if past_key_values is not None:
            past_length = past_key_values.get_seq_length()
            keys, first_key = past_key_values.get_mask_sizes(length, 0)
        queries = torch.arange(length, device=hidden_states.device) + past_length
        distances = torch.arange(keys, device=hidden_states.device) + first_key - queries[:, None]
        bias = self.score_positions(distances).to(hidden_states.dtype)
        if self.config._attn_implementation == "flex_attention":  # which reads it by row
            bias = bias.expand(hidden_states.shape[0], -1, -1, -1)
        return bias

    def require_soft_caps(self) -> None:
        """
        Raises:
            ValueError: Scores are to be capped, and the attention implementation, which may have changed, leaves them.
        """
        if self.attn_softcap is None:
            return
        kernel = self.config._attn_implementation or ""
        if "sdpa" in kernel or kernel == "paged|eager":
            raise ValueError(
                f"attn_implementation={kernel!r} cannot cap scores, as "
                f"attn_logit_softcapping={self.attn_softcap} wants; use 'eager' or 'flex_attention'"
            )

    def run_layers(
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        attention_masks: dict[str, torch.Tensor | None],
        encoder_hidden_states: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        sequences: Sequences | None = None,
        encoder_sequences: Sequences | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Token embeddings `(B, T, C)` to final hidden states `(B, T, C)`; the masks, by layer type, are ready-made.

        Args:
            sequences: Embeddings, positions and types are those of its tokens, `(1, N, C)`, and no mask is needed.
            encoder_sequences: Likewise of `encoder_hidden_states`.
        """
        hidden_states = inputs_embeds if self.embed_scale == 1.0 else inputs_embeds * self.embed_scale
        if self.embed_types is not None:
            if token_type_ids is None:
                token_type_ids = torch.zeros(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
            hidden_states = hidden_states + self.embed_types(token_type_ids)
        if self.embed_positions is not None:
            hidden_states = hidden_states + self.embed_positions(position_ids).to(hidden_states)
        if self.embed_norm is not None:
            hidden_states = self.embed_norm(hidden_states)
        if self.dropout.training:
            hidden_states = self.dropout(hidden_states)
        if self.embed_proj is not None:
            hidden_states = self.embed_proj(hidden_states)
        position_embeddings = {} if self.rotary_emb is None else self.rotary_emb(hidden_states, position_ids)
        length = hidden_states.shape[1] if sequences is None else max(sequences.lengths)
        is_paged = kwargs.get("cache") is not None  # transformers' generate_batch hands it to the layers
        position_bias = self.position_bias(hidden_states, past_key_values, length, is_paged)
        self.require_soft_caps()
        attention = cross_attention = attention_function(self.config)
        if sequences is not None:
            is_varlen = self.config._attn_implementation != "sdpa"
            cross_attention = AttentionOfEach(attention, sequences, encoder_sequences, is_varlen)
            attention = AttentionOfEach(attention, sequences, is_varlen=is_varlen)
        for layer in self.layers:
            layer_type: str = layer.attention_type  # type: ignore[assignment]
            hidden_states = layer(
                hidden_states,
                attention_masks[layer_type] if sequences is None else None,
                encoder_hidden_states,  # positional: gradient checkpointing only follows positional tensors
                position_bias,
                position_embeddings=position_embeddings.get(layer_type),
                position_ids=position_ids,
                past_key_values=past_key_values,
                attention=attention,
                cross_attention=cross_attention,
                **kwargs,
            )
        hidden_states = self.norm(hidden_states)
        return hidden_states if sequences is None else sequences.part(hidden_states)
