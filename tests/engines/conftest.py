import pytest
import torch

from trefoil.hub.stock import export_stock
from trefoil.training.recipe import TokenizerRecipe
from trefoil.training.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, TEXT_TO_TEXT, train_tokenizer

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


def trained_tokenizer(family, kind="unigram", vocab_size=64):
    return train_tokenizer(TEXTS, TokenizerRecipe(kind=kind, vocab_size=vocab_size), TEMPLATES[family])


def random_model(model_class, config, seed=0):
    """All weights are random, also those that start at 0 or 1; what the padding token reads stays 0."""
    torch.manual_seed(seed)
    model = model_class(config).eval()
    padding = {id(one.weight): one.padding_idx for one in model.modules() if getattr(one, "padding_idx", None) is not None}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_scale = weight.ndim == 1 and name.endswith("weight")
            scale = 0.1 if "embed" in name else 0.3
            weight.copy_(scale * torch.randn_like(weight) + is_scale)
            if (row := padding.get(id(weight))) is not None:
                weight[row] = 0
    return model


@pytest.fixture
def exported(tmp_path):
    """A function: saves a Trefoil model with its tokenizer and exports both -> folder of a stock checkpoint."""

    def export(model, tokenizer, to):
        model.save_pretrained(tmp_path / "trefoil")
        tokenizer.save_pretrained(tmp_path / "trefoil")
        export_stock(tmp_path / "trefoil", tmp_path / to, to)
        return tmp_path / to

    return export
