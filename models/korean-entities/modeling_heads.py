"""The heads that classify sequences, tokens and spans, for the encoder and for the decoder."""

from typing import Any

import torch
from torch import nn
from transformers import initialization
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import (
    BaseModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from .modeling_crf import LinearChainCRF
from .modeling_dropout import Dropout
from .modeling_losses import infer_problem_type, labelled, sequence_loss, span_cross_entropy, token_cross_entropy
from .modeling_ngrams import NgramClassifier, NgramTagger, NgramWeights
from .modeling_norms import make_norm
from .modeling_stack import TransformerPreTrainedModel, TransformerStack
from .modeling_unpadding import Unread


def real_tokens(
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    input_ids: torch.Tensor | None = None,
    pad_token_id: int | None = None,
) -> torch.Tensor:
    """Where there is no padding, as a boolean mask `(B, T)`.

    Args:
        hidden_states: `(B, T, C)`.
        attention_mask: `(B, past + T)`, 1 for real tokens; read where it is of this form.
        input_ids: `(B, T)`; `pad_token_id` is not real.
    """
    length = hidden_states.shape[1]
    real = torch.ones(hidden_states.shape[:2], dtype=torch.bool, device=hidden_states.device)
    if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
        real = real & attention_mask[:, -length:].to(hidden_states.device, torch.bool)
    if input_ids is not None and pad_token_id is not None:
        real = real & (input_ids != pad_token_id).to(hidden_states.device)
    return real


def following(real: torch.Tensor, sequence_ids: torch.Tensor | None = None) -> torch.Tensor:
    """Which tokens stand behind another one of their sequence, `(B, T)`.

    Args:
        real: `(B, T)`, False for padding.
        sequence_ids: `(B, T)`, the document that each token of a packed row belongs to.
    """
    follows = real & nn.functional.pad(real, (1, 0))[:, :-1]
    if sequence_ids is not None:
        follows = follows & (sequence_ids == nn.functional.pad(sequence_ids, (1, 0), value=-1)[:, :-1])
    return follows


def first_token(hidden_states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The hidden state `(B, C)` of each row's first real token."""
    return hidden_states[torch.arange(real.shape[0], device=real.device), real.int().argmax(dim=-1)]


def last_token(hidden_states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The hidden state `(B, C)` of each row's last real token."""
    positions = torch.arange(real.shape[1], device=real.device)
    return hidden_states[torch.arange(real.shape[0], device=real.device), (positions * real).argmax(dim=-1)]


def mean_token(hidden_states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The mean `(B, C)` of each row's real tokens; computed in float32."""
    total = hidden_states.float().masked_fill(~real[..., None], 0).sum(dim=1)
    return (total / real.sum(dim=1, keepdim=True).clamp(min=1)).to(hidden_states.dtype)


POOLINGS = {"cls": first_token, "mean": mean_token}


class Transform(nn.Module):
    """What stands between the last layer and the vocabulary in BERT: dense, activation, norm.

    Args:
        size: Width of the output. Default: `hidden_size`.
    """

    def __init__(self, config: PreTrainedConfig, size: int | None = None) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, size or config.hidden_size, bias=config.transform_bias)
        self.act_fn = ACT2FN[config.transform_act]
        self.norm = make_norm(config, size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.norm(self.act_fn(self.dense(hidden_states)))


class EncoderPooler(nn.Module):
    """One vector of a whole sequence: a token's or the mean's hidden state, dense, tanh (BERT's pooler); with a
    transform behind it, that state as it is."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.pool = POOLINGS[config.classifier_pooling]
        # PEFT trains and saves a module of this name, as it does `score`, along with the adapters
        self.classifier = (
            nn.Identity() if config.classifier_transform else nn.Linear(config.hidden_size, config.hidden_size)
        )
        self.act_fn = nn.Identity() if config.classifier_transform else ACT2FN[config.pooler_act]

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, input_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """`(B, T, C)` to `(B, C)`."""
        return self.act_fn(self.classifier(self.pool(hidden_states, real_tokens(hidden_states, attention_mask))))


class DecoderPooler(nn.Module):
    """One vector of a whole sequence: the hidden state of its last token, which has seen all others.

    Where padding is also the end of a text, that is the token before the end, as in transformers' decoders.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.pad_token_id = config.pad_token_id

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, input_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """`(B, T, C)` to `(B, C)`."""
        return last_token(hidden_states, real_tokens(hidden_states, attention_mask, input_ids, self.pad_token_id))


class HeadedModel(TransformerPreTrainedModel):
    """A base model with something on top.

    Attributes:
        base_class: The base model.
        base_options: What the base model is made with, besides the configuration.
    """

    base_class: type[TransformerStack]
    base_options: dict[str, Any] = {}

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.model = self.base_class(config, **self.base_options)
        # decoders have no such option
        self.transform = Transform(config) if getattr(config, "classifier_transform", False) else nn.Identity()
        self.dropout = Dropout(config.head_dropout)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, NgramWeights):
            initialization.zeros_(module.weight)

    def run_base(self, supervised: bool, **inputs: Any) -> BaseModelOutput:
        """The base model's outputs; a decoder that is given labels makes no cache unless it is asked for one."""
        if supervised and self.base_class.is_causal and inputs.get("past_key_values") is None:
            inputs.setdefault("use_cache", False)
        return self.model(**inputs)


class SequenceClassificationModel(HeadedModel):
    """Pooling, dropout and a projection to the labels of a whole sequence; and what its n-grams say of them, where
    `classifier_ngram_sizes` wants them.

    Attributes:
        pooler_class: Hidden states, attention mask and ids to one vector.
        score_bias: Whether the projection has a bias.
    """

    pooler_class: type[nn.Module]
    score_bias = True

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.pooler = self.pooler_class(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=self.score_bias)
        # decoders have no such option
        self.ngrams = NgramClassifier(config) if getattr(config, "classifier_ngram_sizes", None) else None
        self.loss_function = sequence_loss
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput | SequenceClassifierOutputWithPast:
        """
        Args:
            labels: `(B,)` class ids, -100 does not count; `(B, num_labels)` of 0. and 1. for several labels each; or
                `(B,)` or `(B, num_labels)` numbers for regression; in these two, NaN does not count. Which it is,
                `config.problem_type` says, and is inferred from the labels where it does not.
                The rest: the base model's `forward`.

        Returns:
            `logits (B, num_labels)` and, with labels, the loss.
        """
        outputs = self.run_base(
            supervised=labels is not None,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            unread=Unread(attention_mask) if labels is not None else None,
            **kwargs,
        )
        pooled = self.pooler(outputs.last_hidden_state, attention_mask, input_ids)
        logits = self.score(self.dropout(self.transform(pooled)))
        if self.ngrams is not None:
            logits = logits + self.ngrams(input_ids, attention_mask)
        loss = None
        if labels is not None:
            if self.config.problem_type is None:
                self.config.problem_type = infer_problem_type(labels, self.num_labels)
            loss = self.loss_function(logits=logits, labels=labels, problem_type=self.config.problem_type, **kwargs)
        fields = {
            "loss": loss, "logits": logits, "hidden_states": outputs.hidden_states, "attentions": outputs.attentions,
        }  # fmt: skip
        if not self.base_class.is_causal:
            return SequenceClassifierOutput(**fields)
        return SequenceClassifierOutputWithPast(**fields, past_key_values=outputs.past_key_values)


class TokenClassificationModel(HeadedModel):
    """Dropout and a projection to the labels of each token; what the n-grams around it say of them, where `classifier_ngram_sizes` wants
    them; and a chain over the labels, where `classifier_crf` wants one."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        # decoders have no such option
        self.ngrams = NgramTagger(config) if getattr(config, "classifier_ngram_sizes", None) else None
        self.crf = LinearChainCRF(config) if config.classifier_crf else None
        self.loss_function = token_cross_entropy
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LinearChainCRF):
            initialization.copy_(module.transitions, module.initial_transitions())

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """
        Args:
            labels: `(B, T)` class ids; -100 does not count. The rest: the base model's `forward`.

        Returns:
            `logits (B, T, num_labels)` and, with labels, the loss. With `classifier_crf` the logits are log-probabilities
            of each token's label; while training, the scores that the chain is given.
        """
        outputs = self.run_base(
            supervised=labels is not None,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            unread=Unread(attention_mask, labelled(labels)) if labels is not None else None,
            **kwargs,
        )
        logits = self.score(self.dropout(self.transform(outputs.last_hidden_state)))
        if self.ngrams is not None:
            logits = logits + self.ngrams(input_ids, attention_mask, kwargs.get("sequence_ids"))
        loss = None
        if self.crf is not None:
            real = real_tokens(logits, attention_mask)
            scores = logits.masked_fill(~real[..., None], 0)
            follows = following(real, kwargs.get("sequence_ids"))
            loss = None if labels is None else self.crf.loss(scores, labels, follows, **kwargs)
            logits = scores if self.training and labels is not None else self.crf(scores, follows)
        elif labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.num_labels, **kwargs)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class QuestionAnsweringModel(HeadedModel):
    """A projection to the scores of each token as the start and as the end of an answer (Devlin et al. 2019, §4.2)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.loss_function = span_cross_entropy
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """
        Args:
            start_positions: `(B,)`, the index of the answer's first token; one outside of the sequence, or in padding,
                does not count.
            end_positions: `(B,)`, likewise of its last. The rest: the base model's `forward`.

        Returns:
            `start_logits (B, T)`, `end_logits (B, T)` and, with both positions, the loss, over real tokens only: it does
            not depend on what a row is batched with.
        """
        outputs = self.run_base(
            supervised=start_positions is not None and end_positions is not None,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            unread=Unread(attention_mask) if start_positions is not None and end_positions is not None else None,
            **kwargs,
        )
        hidden_states = self.transform(outputs.last_hidden_state)
        if self.config.classifier_transform:
            hidden_states = self.dropout(hidden_states)
        start_logits, end_logits = self.qa_outputs(hidden_states).unbind(dim=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            real = real_tokens(hidden_states, attention_mask)
            loss = self.loss_function(start_logits, end_logits, start_positions, end_positions, real, **kwargs)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
