"""Tokenizers of the published checkpoints, in the files that they have there: what they say survives both ways."""

import json
import shutil

import pytest
import transformers
from stock_checkpoints import CLASS_NAMES, SMALL
from transformers import AutoTokenizer, GenerationConfig

from tests.hub.conftest import SENTENCES
from trefoil.hub.stock import export_stock, import_stock

TEXTS = ["세 개의 사과", "half past five"]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A function: `unigram` or `bpe` -> the file of a sentencepiece model."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text.txt").write_text("\n".join(20 * SENTENCES), encoding="utf-8")

    def train(model_type, **options):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text.txt"), model_prefix=str(folder / model_type), model_type=model_type,
            vocab_size=60, hard_vocab_limit=False, minloglevel=2, **options,
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
        tokenizers = [AutoTokenizer.from_pretrained(place, **settings) for place in places]
        assert tokenizers[0].unk_token_id not in tokenizers[0](TEXTS[0])["input_ids"]
        return tokenizers

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


def test_nllb(both_ways, tmp_path):
    """With the language that a translation is to begin with, which old checkpoints name in config.json."""
    languages = ["kor_Hang", "eng_Latn"]

    def write(folder):
        words = {letter: 4 + number for number, letter in enumerate(sorted(set("▁" + "".join(SENTENCES)) - {" "}))}
        vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3} | words
        tokenizer = transformers.NllbTokenizer(
            vocab=vocabulary, merges=[], src_lang="eng_Latn", tgt_lang="kor_Hang", extra_special_tokens=languages
        )
        tokenizer.save_pretrained(folder)
        (folder / "generation_config.json").unlink()
        config = json.loads((folder / "config.json").read_text())
        config["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids("kor_Hang")
        (folder / "config.json").write_text(json.dumps(config))

    stock, *others = both_ways("m2m_100", "ForConditionalGeneration", write, src_lang="kor_Hang")
    assert stock(TEXTS[0])["input_ids"][0] == stock.convert_tokens_to_ids("kor_Hang")
    for tokenizer in others:
        assert type(tokenizer) is type(stock)
        for language in languages:
            tokenizer.src_lang = stock.src_lang = language
            assert tokenizer(TEXTS)["input_ids"] == stock(TEXTS)["input_ids"]
        assert tokenizer(text_target=TEXTS)["input_ids"] == stock(text_target=TEXTS)["input_ids"]
    first = stock.convert_tokens_to_ids("kor_Hang")
    for name in ("trefoil", "out"):
        assert GenerationConfig.from_pretrained(tmp_path / name).forced_bos_token_id == first


def test_m2m_100(both_ways, pieces):
    sentencepiece = pytest.importorskip("sentencepiece")

    def write(folder):
        shutil.copy(pieces("bpe"), folder / "sentencepiece.bpe.model")
        processor = sentencepiece.SentencePieceProcessor(model_file=str(pieces("bpe")))
        learned = [processor.id_to_piece(number) for number in range(3, processor.get_piece_size())]
        vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *learned])}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        config = {"tokenizer_class": "M2M100Tokenizer", "src_lang": "en", "tgt_lang": "ko"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    stock, *others = both_ways("m2m_100", "ForConditionalGeneration", write, vocabulary=200)
    for tokenizer in others:
        assert type(tokenizer) is type(stock)
        for language in ("ko", "en"):
            tokenizer.src_lang = stock.src_lang = language
            assert tokenizer(TEXTS)["input_ids"] == stock(TEXTS)["input_ids"]
        assert tokenizer.get_lang_id("ko") == stock.get_lang_id("ko")
        for skip in (True, False):
            texts = [one.decode(one(TEXTS[0])["input_ids"], skip_special_tokens=skip) for one in (tokenizer, stock)]
            assert texts[0] == texts[1]


def test_pegasus(both_ways, pieces):
    def write(folder):
        shutil.copy(pieces("unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1), folder / "spiece.model")
        config = {"tokenizer_class": "PegasusTokenizer", "model_max_length": 512}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    stock, *others = both_ways("pegasus", "ForConditionalGeneration", write, vocabulary=250)
    for tokenizer in others:
        assert type(tokenizer) is type(stock)
        assert tokenizer(TEXTS)["input_ids"] == stock(TEXTS)["input_ids"]
        assert tokenizer.convert_tokens_to_ids(["<mask_1>", "<mask_2>"]) == stock.convert_tokens_to_ids(
            ["<mask_1>", "<mask_2>"]
        )
        assert tokenizer.model_max_length == 512
