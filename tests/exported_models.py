"""Small models with tokenizers of their own, and what they become as checkpoints of stock architectures."""

from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from trefoil.configuration.presets import preset_config
from trefoil.data.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, TEXT_TO_TEXT, train_tokenizer
from trefoil.hub.engines import export_for_engine
from trefoil.hub.stock import export_stock
from trefoil.recipes.schema import TokenizerRecipe

TEXTS = [
    "세 개의 사과와 두 개의 배를 샀습니다.",
    "three apples and two pears, please",
    "회의는 다섯 시 반에 시작합니다.",
    "the meeting starts at half past five",
    "삼만 오천 원입니다.",
    "that is 35,000 won",
]
TEMPLATES = {"encoder": BIDIRECTIONAL, "decoder": LEFT_TO_RIGHT, "encoder-decoder": TEXT_TO_TEXT}
SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128,
}  # fmt: skip


def trained_tokenizer(family: str, kind: str = "unigram") -> PreTrainedTokenizerFast:
    size = {"unigram": 64, "byte_bpe": 280, "characters": 80, "wordpiece": 200}[kind]
    return train_tokenizer(TEXTS, TokenizerRecipe(kind=kind, vocab_size=size), TEMPLATES[family])


def small_preset(name: str, tokenizer: PreTrainedTokenizerFast, **fields) -> PreTrainedConfig:
    """The architecture of a preset, small, with a tokenizer's vocabulary and special tokens."""
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    return preset_config(name, **SIZES | {"vocab_size": len(tokenizer)} | tokens | fields)


def random_model(model_class: type[PreTrainedModel], config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """All weights are random, also those that start at 0 or 1, but for the embedding of padding, which stays 0."""
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue
            is_scale = weight.ndim == 1 and name.endswith("weight")
            scale = 0.1 if weight.ndim == 1 else 0.3 if "embed" in name else 0.6
            weight.copy_(scale * torch.randn_like(weight) + is_scale)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
    return model


def exported(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, to: str, folder: Path) -> Path:
    """The folder of a stock checkpoint, made from a folder of ours."""
    model.save_pretrained(folder / "trefoil")
    tokenizer.save_pretrained(folder / "trefoil")
    export_stock(folder / "trefoil", folder / to, to)
    return folder / to


def for_engine(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, to: str, folder: Path, **options) -> Path:
    """The folder of an engine's format, made from a folder of ours."""
    model.save_pretrained(folder / "trefoil")
    tokenizer.save_pretrained(folder / "trefoil")
    export_for_engine(folder / "trefoil", folder / to, to, **options)
    return folder / to
