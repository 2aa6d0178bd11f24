"""Stock models of random weights, and Trefoil models beside them: imported from them, which compute the same, or of the same size."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from trefoil.hub.stock import to_trefoil

TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@dataclass(frozen=True)
class Shape:
    """How large a model is.

    Args:
        intermediate: Width inside the feed-forward sublayer. Default: four times `width`.
    """

    width: int
    layers: int
    heads: int
    positions: int = 512
    intermediate: int | None = None

    @property
    def inner(self) -> int:
        return self.intermediate or 4 * self.width


SMALL = Shape(width=256, layers=4, heads=4)


def fields(shape: Shape, vocab_size: int) -> dict[str, Any]:
    return TOKENS | {
        "vocab_size": vocab_size, "hidden_size": shape.width, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
    }  # fmt: skip


def halves(shape: Shape, vocab_size: int) -> dict[str, Any]:
    return TOKENS | {
        "vocab_size": vocab_size, "d_model": shape.width, "encoder_layers": shape.layers, "decoder_layers": shape.layers,
        "encoder_attention_heads": shape.heads, "decoder_attention_heads": shape.heads,
        "encoder_ffn_dim": shape.inner, "decoder_ffn_dim": shape.inner,
        "max_position_embeddings": shape.positions,
    }  # fmt: skip


def stock_config(name: str, shape: Shape, vocab_size: int) -> Any:
    """Of a stock architecture, with the shape; without dropout, which each draws in its own way."""
    if name == "Llama":
        return transformers.LlamaConfig(**fields(shape, vocab_size), tie_word_embeddings=True)
    if name == "GPT2":
        return transformers.GPT2Config(
            **TOKENS, vocab_size=vocab_size, n_embd=shape.width, n_layer=shape.layers, n_head=shape.heads,
            n_inner=shape.intermediate, n_positions=shape.positions, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
    if name == "Bert":
        return transformers.BertConfig(
            **fields(shape, vocab_size), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
    if name == "ModernBert":
        return transformers.ModernBertConfig(
            **fields(shape, vocab_size), cls_token_id=1, sep_token_id=2, sparse_prediction=True
        )
    if name == "Marian":
        return transformers.MarianConfig(
            **halves(shape, vocab_size), dropout=0.0, decoder_start_token_id=0, forced_eos_token_id=None,
            scale_embedding=True, activation_function="relu",
        )  # fmt: skip
    if name == "Bart":
        return transformers.BartConfig(**halves(shape, vocab_size), dropout=0.0, forced_eos_token_id=None)
    if name == "T5":
        return transformers.T5Config(
            **TOKENS, vocab_size=vocab_size, d_model=shape.width, d_kv=shape.width // shape.heads,
            d_ff=shape.inner, num_layers=shape.layers, num_decoder_layers=shape.layers, num_heads=shape.heads,
            dropout_rate=0.0, decoder_start_token_id=0,
        )  # fmt: skip
    raise ValueError(f"no such peer: {name}")


HEADS = {
    "Llama": "LlamaForCausalLM", "GPT2": "GPT2LMHeadModel", "Bert": "BertForMaskedLM",
    "ModernBert": "ModernBertForMaskedLM", "Marian": "MarianMTModel", "Bart": "BartForConditionalGeneration",
    "T5": "T5ForConditionalGeneration",
}  # fmt: skip


def stock_model(name: str, vocab_size: int, shape: Shape) -> PreTrainedModel:
    return getattr(transformers, HEADS[name])(stock_config(name, shape, vocab_size)).eval()


def pair(
    name: str, device: torch.device, vocab_size: int, shape: Shape = SMALL
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Our model and the stock one that it was imported from, with weights of their own."""
    torch.manual_seed(0)
    stock = stock_model(name, vocab_size, shape)
    ours = to_trefoil(stock).model
    for parameter in ours.parameters():
        parameter.data = parameter.data.clone()
    ours.set_attn_implementation("sdpa")
    return ours.to(device), stock.to(device)


# --- of the same size as one of ours

COUNTERPARTS = {
    "text-classification": "BertForSequenceClassification", "token-classification": "BertForTokenClassification",
    "question-answering": "BertForQuestionAnswering", "translation": "MarianMTModel", "causal-lm": "LlamaForCausalLM",
}  # fmt: skip


def plain_width(config: Any) -> int:
    """The width of a feed-forward sublayer of two matrices that holds as many numbers as ours, which has three where it is gated."""
    return config.intermediate_size * 3 // 2 if config.is_gated_act else config.intermediate_size


def counterpart(task: str, config: Any) -> PreTrainedModel:
    """The stock model that one would take instead of ours for a task.

    Args:
        config: Ours. Width, layers, heads, vocabulary, positions, dropout, labels and special tokens are the same, and the
            feed-forward matrices hold as many numbers; the rest is the stock model's own.
    """
    make = {"translation": marian_like, "causal-lm": llama_like}.get(task, bert_like)
    model = getattr(transformers, COUNTERPARTS[task])(make(config))
    model.set_attn_implementation("sdpa")
    return model


def bert_like(config: Any) -> transformers.BertConfig:
    return transformers.BertConfig(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads, intermediate_size=plain_width(config),
        max_position_embeddings=config.max_position_embeddings, hidden_dropout_prob=config.hidden_dropout,
        attention_probs_dropout_prob=config.attention_dropout, classifier_dropout=config.head_dropout,
        id2label=config.id2label, label2id=config.label2id, problem_type=config.problem_type,
        pad_token_id=config.pad_token_id,
    )  # fmt: skip


def marian_like(config: Any) -> transformers.MarianConfig:
    encoder, decoder = config.encoder, config.decoder
    return transformers.MarianConfig(
        vocab_size=config.vocab_size, d_model=config.hidden_size, encoder_layers=encoder.num_hidden_layers,
        decoder_layers=decoder.num_hidden_layers, encoder_attention_heads=encoder.num_attention_heads,
        decoder_attention_heads=decoder.num_attention_heads, encoder_ffn_dim=plain_width(encoder),
        decoder_ffn_dim=plain_width(decoder), max_position_embeddings=encoder.max_position_embeddings,
        dropout=decoder.hidden_dropout, attention_dropout=decoder.attention_dropout,
        activation_dropout=decoder.activation_dropout, scale_embedding=True, pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id, decoder_start_token_id=config.decoder_start_token_id, forced_eos_token_id=None,
    )  # fmt: skip


def llama_like(config: Any) -> transformers.LlamaConfig:
    gated = config.intermediate_size if config.is_gated_act else config.intermediate_size * 2 // 3
    return transformers.LlamaConfig(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads, num_key_value_heads=config.num_key_value_heads,
        intermediate_size=gated, max_position_embeddings=config.max_position_embeddings, tie_word_embeddings=True,
        attention_dropout=config.attention_dropout, pad_token_id=config.pad_token_id, bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
    )  # fmt: skip
