"""Stock models of random weights, and the Trefoil models that are imported from them: the same shapes, the same results."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from trefoil.hub.stock import to_trefoil

TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@dataclass(frozen=True)
class Shape:
    """How large a model is."""

    width: int
    layers: int
    heads: int
    positions: int = 512


SMALL = Shape(width=256, layers=4, heads=4)


def fields(shape: Shape, vocab_size: int) -> dict[str, Any]:
    return TOKENS | {
        "vocab_size": vocab_size, "hidden_size": shape.width, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "intermediate_size": 4 * shape.width,
        "max_position_embeddings": shape.positions,
    }  # fmt: skip


def halves(shape: Shape, vocab_size: int) -> dict[str, Any]:
    return TOKENS | {
        "vocab_size": vocab_size, "d_model": shape.width, "encoder_layers": shape.layers, "decoder_layers": shape.layers,
        "encoder_attention_heads": shape.heads, "decoder_attention_heads": shape.heads,
        "encoder_ffn_dim": 4 * shape.width, "decoder_ffn_dim": 4 * shape.width,
        "max_position_embeddings": shape.positions,
    }  # fmt: skip


def stock_config(name: str, shape: Shape, vocab_size: int) -> Any:
    """Of a stock architecture, with the shape; without dropout, which each draws in its own way."""
    if name == "Llama":
        return transformers.LlamaConfig(**fields(shape, vocab_size), tie_word_embeddings=True)
    if name == "GPT2":
        return transformers.GPT2Config(
            **TOKENS, vocab_size=vocab_size, n_embd=shape.width, n_layer=shape.layers, n_head=shape.heads,
            n_positions=shape.positions, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
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
            d_ff=4 * shape.width, num_layers=shape.layers, num_decoder_layers=shape.layers, num_heads=shape.heads,
            dropout_rate=0.0, decoder_start_token_id=0,
        )  # fmt: skip
    raise ValueError(f"no such peer: {name}")


HEADS = {
    "Llama": "LlamaForCausalLM", "GPT2": "GPT2LMHeadModel", "Bert": "BertForMaskedLM",
    "ModernBert": "ModernBertForMaskedLM", "Marian": "MarianMTModel", "Bart": "BartForConditionalGeneration",
    "T5": "T5ForConditionalGeneration",
}  # fmt: skip


def pair(
    name: str, device: torch.device, vocab_size: int, shape: Shape = SMALL
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Our model and the stock one that it was imported from, with weights of their own."""
    torch.manual_seed(0)
    stock = getattr(transformers, HEADS[name])(stock_config(name, shape, vocab_size)).eval()
    ours = to_trefoil(stock).model
    for parameter in ours.parameters():
        parameter.data = parameter.data.clone()
    ours.set_attn_implementation("sdpa")
    return ours.to(device), stock.to(device)
