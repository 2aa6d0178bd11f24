"""Tokenizers trained on the embedded data, and small models of every family that go with them."""

import functools

import pytest
import torch
from conftest import SMALL, tiny_model

import trefoil
from tests.hub.conftest import captioner, published, published_captioner, published_head, source  # noqa: F401
from trefoil.data.embedded import load_embedded
from trefoil.data.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, TEXT_TO_TEXT, train_tokenizer
from trefoil.recipes.schema import TokenizerRecipe

TEMPLATES = {"encoder": BIDIRECTIONAL, "decoder": LEFT_TO_RIGHT}
SIZES = {"byte_bpe": 400, "wordpiece": 700, "unigram": 500, "characters": 60}


@functools.cache
def texts():
    rows = load_embedded("translation", sizes={"train": 100})["train"]
    return [*rows["ko"], *rows["en"]]


@functools.cache
def make_tokenizer(kind="byte_bpe", family="encoder-decoder"):
    recipe = TokenizerRecipe(kind=kind, vocab_size=SIZES[kind])
    return train_tokenizer(texts(), recipe, TEMPLATES.get(family, TEXT_TO_TEXT))


def make_model(family, **fields):
    size = len(make_tokenizer(family=family))
    if family == "recurrent":
        torch.manual_seed(0)
        sizes = {name: SMALL[name] for name in ("hidden_size", "num_hidden_layers", "max_position_embeddings")}
        config = trefoil.TrefoilRecurrentConfig(vocab_size=size, initializer_range=0.3, **sizes, **fields)
        model = trefoil.TrefoilRecurrentForConditionalGeneration(config).eval()
    else:
        model = tiny_model(family, vocab_size=size, **fields)
    if model.config.is_encoder_decoder:
        model.generation_config.max_new_tokens = 12
    return model


@pytest.fixture
def tokenizer():
    """A function: kind, family -> tokenizer."""
    return make_tokenizer


@pytest.fixture
def model_and_tokenizer():
    """A function: family -> a random model and its tokenizer."""
    return lambda family, **fields: (make_model(family, **fields), make_tokenizer(family=family))


@pytest.fixture
def saved(tmp_path):
    """A function: family -> a folder with a random model and its tokenizer."""

    def save(family, **fields):
        make_model(family, **fields).save_pretrained(tmp_path / family)
        make_tokenizer(family=family).save_pretrained(tmp_path / family)
        return tmp_path / family

    return save
