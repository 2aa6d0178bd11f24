import random
import re

import pytest
from transformers import AutoTokenizer

from trefoil.configuration.errors import UserError
from trefoil.training.embedded import load_embedded
from trefoil.training.recipe import TokenizerRecipe
from trefoil.training.tokenizer import load_tokenizer, train_tokenizer


def texts():
    rows = load_embedded("translation", sizes={"train": 300})["train"]
    return [*rows["ko"], *rows["en"]]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(texts(), TokenizerRecipe(vocab_size=500))


SYLLABLES = [chr(code) for code in range(0xAC00, 0xD7A4)]


@pytest.mark.parametrize(
    "text",
    [
        "".join(random.Random(0).sample(SYLLABLES, 500)),
        " ".join(random.Random(1).sample(SYLLABLES, 500)),
        "".join(chr(code) for code in range(0x1100, 0x1200)),  # conjoining jamo
        "".join(chr(code) for code in range(0x3131, 0x318F)),  # compatibility jamo
        "각각 나눠 쓴 한글",  # decomposed
        "👋🏽 👨‍👩‍👧‍👦 🇰🇷 😀",
        "Wörter, mots, слова, 語, לוֹם, \U0010ffff",
        "  two  spaces \t tab \n line \r\n and  ",
        " ",
        "0 1234567890 3,141.59 -1%",
        "don 't , stop . n't",
        "<pa d> </ s> a<b>c",
        "\x00\x01\x7f",
    ],
)
def test_every_text_comes_back_exactly(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token is None
    assert ids[-1] == tokenizer.eos_token_id
    assert all(0 <= number < 500 for number in ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.decode(ids[:-1]) == text


def test_special_tokens(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "<s>", "</s>"]
    assert tokenizer("")["input_ids"] == [2]
    assert len(tokenizer) == 500
    batch = tokenizer(["세 시", "half past three"], padding=True)
    assert batch.keys() == {"input_ids", "attention_mask"}
    assert [len(ids) for ids in batch["input_ids"]] == [len(batch["input_ids"][0])] * 2


def test_digits_stand_alone(tokenizer):
    tokens = [
        tokenizer.decode([number])
        for number in tokenizer("73,000원 2024년 10:20", add_special_tokens=False)["input_ids"]
    ]
    digits = [token for token in tokens if re.search(r"\d", token)]
    assert [token.strip() for token in digits] == list("7300020241020")
    assert not any(re.search(r"\d.|.\d", token) for token in tokenizer.get_vocab())


def test_the_vocabulary_is_learnt_from_the_text(tokenizer):
    smaller = train_tokenizer(texts(), TokenizerRecipe(vocab_size=300))
    for text in texts()[:20]:
        assert len(tokenizer(text)["input_ids"]) < len(smaller(text)["input_ids"]) <= len(text.encode()) + 1


def test_the_same_text_gives_the_same_tokenizer(tokenizer):
    again = train_tokenizer(iter([[text] for text in texts()]), TokenizerRecipe(vocab_size=500))
    assert again.get_vocab() == tokenizer.get_vocab()


def test_a_vocabulary_larger_than_the_text_fills_is_refused_with_the_size_that_fits():
    few = ["하나 둘 셋", "one two three"] * 2
    with pytest.raises(UserError) as error:
        train_tokenizer(few, TokenizerRecipe(vocab_size=8000))
    message = str(error.value)
    fits = int(message.rsplit(" ", 1)[1])
    assert message == (
        "tokenizer.vocab_size=8000 is more than the training text fills (with tokenizer.min_frequency=2); "
        f"set at most {fits}"
    )
    assert len(train_tokenizer(few, TokenizerRecipe(vocab_size=fits))) == fits
    with pytest.raises(UserError, match=f"set at most {fits}$"):
        train_tokenizer(few, TokenizerRecipe(vocab_size=fits + 1))


def test_a_vocabulary_without_room_for_all_bytes_is_refused():
    with pytest.raises(
        UserError, match=r"vocab_size=258 has no room for the 259 bytes and special tokens; set at least 259"
    ):
        train_tokenizer(texts(), TokenizerRecipe(vocab_size=258))
    smallest = train_tokenizer(texts(), TokenizerRecipe(vocab_size=259))
    assert len(smallest("한")["input_ids"]) == 4


def test_saved_it_is_an_ordinary_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)):
        assert [loaded(text)["input_ids"] for text in texts()] == [tokenizer(text)["input_ids"] for text in texts()]
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
        assert loaded.decode(loaded("한 개 .")["input_ids"], skip_special_tokens=True) == "한 개 ."


def test_no_tokenizer_there(tmp_path):
    with pytest.raises(UserError, match="no tokenizer to load") as error:
        load_tokenizer(tmp_path / "none")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pad_token", "eos_token"])
def test_a_tokenizer_without_padding_or_end_is_refused(tokenizer, tmp_path, name):
    lacking = train_tokenizer(texts(), TokenizerRecipe(vocab_size=300))
    setattr(lacking, name, None)
    lacking.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"the tokenizer has no {name}; batches need it"):
        load_tokenizer(tmp_path)
