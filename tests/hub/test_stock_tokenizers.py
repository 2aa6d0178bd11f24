"""Tokenizers of the published checkpoints, in the files that they have there: what they say survives both ways."""

import json
import shutil

import pytest
import transformers
from transformers import AutoTokenizer

from benchmarks.stock_checkpoints import CLASS_NAMES, SMALL
from tests.hub.conftest import SENTENCES
from trefoil.hub.stock import export_stock, import_stock

TEXTS = ["세 개의 사과", "half past five"]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A function: `unigram` or `bpe` -> the file of a sentencepiece model."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text.txt").write_text("\n".join(20 * SENTENCES), encoding="utf-8")

    def train(model_type):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text.txt"), model_prefix=str(folder / model_type), model_type=model_type,
            vocab_size=60, hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
        return folder / f"{model_type}.model"

    return train


@pytest.fixture
def both_ways(tmp_path):
    """A function: architecture, head, and what puts a tokenizer's files into a folder -> it there, here and back."""

    def convert(architecture, head, write, vocabulary=120, **settings):
        names, folder = CLASS_NAMES[architecture], tmp_path / "stock"
        config = getattr(transformers, f"{names}Config")(**SMALL[architecture] | {"vocab_size": vocabulary})
        getattr(transformers, names + head)(config).save_pretrained(folder)
        write(folder)
        import_stock(folder, tmp_path / "trefoil")
        export_stock(tmp_path / "trefoil", tmp_path / "out", architecture)
        places = (folder, tmp_path / "trefoil", tmp_path / "out")
        return [AutoTokenizer.from_pretrained(place, **settings) for place in places]

    return convert


def test_xlm_roberta(both_ways, pieces):
    def write(folder):
        shutil.copy(pieces("unigram"), folder / "sentencepiece.bpe.model")
        config = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 512}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    stock, *others = both_ways("xlm-roberta", "ForMaskedLM", write)
    for tokenizer in others:
        assert type(tokenizer) is type(stock)
        assert tokenizer(*TEXTS)["input_ids"] == stock(*TEXTS)["input_ids"]
        assert (tokenizer.mask_token_id, tokenizer.model_max_length) == (stock.mask_token_id, 512)
