import functools
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
import unicodedata

import pytest
from conftest import seldom
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast

from trefoil.configuration.errors import UserError
from trefoil.data.embedded import load_embedded
from trefoil.data.tokenizer import (
    BIDIRECTIONAL,
    KINDS,
    LEFT_TO_RIGHT,
    STREAM,
    TEXT_TO_TEXT,
    decoder_start_id,
    load_tokenizer,
    model_token_ids,
    padding_id,
    require_tokens,
    token_id,
    train_tokenizer,
    unknown_id,
)
from trefoil.recipes.schema import TokenizerRecipe

TEMPLATES = {
    "text to text": TEXT_TO_TEXT, "bidirectional": BIDIRECTIONAL, "left to right": LEFT_TO_RIGHT, "stream": STREAM,
}  # fmt: skip
SIZES = {"byte_bpe": 500, "wordpiece": 900, "unigram": 500, "characters": 2000}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_template = pytest.mark.parametrize("template", TEMPLATES)


@functools.cache
def texts():
    rows = load_embedded("translation", sizes={"train": 300})["train"]
    return [*rows["ko"], *rows["en"]]


def recipe_of(kind, **options):
    return TokenizerRecipe(**{"kind": kind, "vocab_size": SIZES[kind]} | options)


@functools.cache
def trained(kind, template="text to text", **options):
    return train_tokenizer(texts(), recipe_of(kind, **options), TEMPLATES[template])


def fitting(kind, **options):
    """With a size that a few texts do not fill."""
    return recipe_of(kind, vocab_size=100_000, **options)


def pieces(text):
    """The text's units between spaces and around punctuation, as `wordpiece` sees them."""
    return re.findall(r"\w+|[^\w\s]", text)


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


def test_bytes_know_every_hangul_syllable(tokenizer):
    for text in ("".join(SYLLABLES), " ".join(SYLLABLES), unicodedata.normalize("NFD", "".join(SYLLABLES))):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


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


def test_a_vocabulary_that_the_text_does_not_fill_is_smaller():
    few = ["하나 둘 셋", "one two three"] * 2
    fits = len(train_tokenizer(few, TokenizerRecipe(vocab_size=8000)))
    assert 259 < fits < 8000
    assert len(train_tokenizer(few, TokenizerRecipe(vocab_size=fits))) == fits


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


# --- tokenizers of others


def named(name_or_path="", **names):
    """A tokenizer with so many special tokens, numbered from 0."""
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*names.values(), "a"]))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **names)
    tokenizer.name_or_path = name_or_path
    return tokenizer


BERT = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
GPT2 = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")
LLAMA = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("names", [BERT, GPT2, LLAMA])
def test_what_a_tokenizer_lacks_it_does_not_get(names, tmp_path):
    named(**names).save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).special_tokens_map == names


@pytest.mark.parametrize(
    ("names", "ids", "unknown"),
    [
        (BERT, (1, 2, 3), 0),
        (GPT2, (0, 0, 0), None),
        (LLAMA, (2, 1, 2), 0),
        ({"unk_token": "<unk>"}, (0, None, None), 0),
        ({}, (0, None, None), None),
    ],
)
def test_what_stands_in(names, ids, unknown):
    tokenizer = named(**names)
    assert (padding_id(tokenizer), token_id(tokenizer, "bos_token"), token_id(tokenizer, "eos_token")) == ids
    assert unknown_id(tokenizer) == unknown


def test_a_token_that_a_task_needs_and_nothing_stands_in_for():
    require_tokens(named(**BERT), ("eos_token", "mask_token"), "translation")
    require_tokens(named(), (), "text-classification")
    for names, name, tried in ((GPT2, "mask_token", "mask_token"), ({}, "eos_token", "eos_token or sep_token")):
        with pytest.raises(UserError) as error:
            require_tokens(named("here", **names), (name,), "some-task")
        assert str(error.value) == (
            f"here: has no {tried}, which the task some-task needs; take another tokenizer, or name one of its tokens so "
            "in tokenizer_config.json"
        )


def ids_of(pad, bos, eos):
    return {"pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos}


@pytest.mark.parametrize(
    ("names", "said", "needed", "new", "pretrained"),
    [
        (BERT, (7, 8, 9), (), (1, None, None), (1, 8, 9)),
        (BERT, (7, 8, 9), ("eos_token",), (1, None, 3), (1, 8, 3)),
        (GPT2, (7, 8, 9), (), (None, 0, 0), (7, 0, 0)),
        (LLAMA, (None, 8, [9, 2]), ("eos_token",), (None, 1, [9, 2]), (None, 1, [9, 2])),
        (LLAMA, (None, 8, [9, 3]), ("eos_token",), (None, 1, 2), (None, 1, 2)),
    ],
)
def test_what_a_model_is_told(names, said, needed, new, pretrained):
    config = PreTrainedConfig(**ids_of(*said))
    assert model_token_ids(named(**names), config, needed) == ids_of(*new)
    config.name_or_path = "imported/model"
    assert model_token_ids(named(**names), config, needed) == ids_of(*pretrained)


def test_what_a_decoder_starts_with():
    config = PreTrainedConfig(decoder_start_token_id=7)
    t5 = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    assert [decoder_start_id(named(**names), config) for names in (BERT, GPT2, LLAMA, t5)] == [2, 0, 1, 1]
    config.name_or_path = "imported/bart"
    assert decoder_start_id(named(**LLAMA), config) == 7
    config.decoder_start_token_id, config.start_from_labels = None, True
    assert decoder_start_id(named(**LLAMA), config) is None


# --- every kind ---


@every_kind
@every_template
def test_special_tokens_come_first(kind, template):
    tokenizer = trained(kind, template)
    expected = ["<pad>", "<s>", "</s>"]
    expected += ["<unk>"] * (kind != "byte_bpe") + ["<mask>"] * (template == "bidirectional")
    assert tokenizer.convert_ids_to_tokens(range(len(expected))) == expected
    assert set(tokenizer.all_special_tokens) == set(expected)
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert (len(tokenizer) <= SIZES[kind]) if kind == "characters" else (len(tokenizer) == SIZES[kind])
    assert tokenizer.unk_token == (None if kind == "byte_bpe" else "<unk>")
    if template == "bidirectional":
        assert (tokenizer.cls_token, tokenizer.sep_token, tokenizer.mask_token) == ("<s>", "</s>", "<mask>")
    else:
        assert tokenizer.cls_token is tokenizer.sep_token is tokenizer.mask_token is None


@every_kind
def test_templates(kind):
    for template, single, pair in (
        ("text to text", "A </s>", [("A", 0), ("</s>", 0), ("B", 0), ("</s>", 0)]),
        ("bidirectional", "<s> A </s>", [("<s>", 0), ("A", 0), ("</s>", 0), ("B", 1), ("</s>", 1)]),
        ("left to right", "<s> A", [("<s>", 0), ("A", 0), ("</s>", 0), ("B", 1)]),
        ("stream", "A", [("A", 0), ("B", 1)]),
    ):
        tokenizer = trained(kind, template)
        sides = {side: tokenizer(text, add_special_tokens=False)["input_ids"]
                 for side, text in (("A", "세 시"), ("B", "half past three"))}  # fmt: skip

        def ids(part, sides=sides, tokenizer=tokenizer):
            return sides.get(part) or [tokenizer.convert_tokens_to_ids(part)]

        assert tokenizer("세 시")["input_ids"] == [number for part in single.split() for number in ids(part)]
        both = tokenizer("세 시", "half past three", return_token_type_ids=True)
        assert both["input_ids"] == [number for part, _ in pair for number in ids(part)]
        assert both["token_type_ids"] == [kind_ for part, kind_ in pair for _ in ids(part)]
        assert tokenizer("세 시", "half past three").keys() == {"input_ids", "attention_mask"}
        assert tokenizer("")["input_ids"] == [number for part in single.split() if part != "A" for number in ids(part)]


@every_kind
@every_template
def test_texts_come_back(kind, template):
    tokenizer = trained(kind, template)
    for text in texts():
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        assert decoded == text if kind != "wordpiece" else pieces(decoded) == pieces(text)


def test_wordpiece_decodes_to_tidy_text():
    few = ["One, two. Really? 한국어를 배워요!"] * 3
    tokenizer = train_tokenizer(few, fitting("wordpiece"))
    ids = tokenizer("One , two . Really ? 한국어를  배워요 !")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "One, two. Really? 한국어를 배워요!"


@pytest.mark.parametrize("kind", ["unigram", "characters"])
@pytest.mark.parametrize("text", ["a  b\n\n c\td \n", "한 글\r\n  둘", "1 22 a1b", "b\u3000a\xa0b"])
def test_white_space_comes_back(kind, text):
    tokenizer = train_tokenizer([text, "a b c d"] * 3, fitting(kind), STREAM)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_pieces_of_unigram_contain_neither_two_digits_nor_line_breaks():
    few = ["ab 2024\nabx 2024\taby", "abz 20241\nab 20240\tabc"] * 3
    tokenizer = train_tokenizer(few, fitting("unigram"))
    assert "▁ab" in tokenizer.get_vocab()
    assert not [piece for piece in tokenizer.get_vocab() if len(piece) > 1 and re.search(r"\d|\s", piece)]


def test_every_code_point_is_a_token_and_others_are_unknown():
    text = "가각\u1100\u1161\u11a8ㄱ 👨‍👩‍👧\n\tAa"
    tokenizer = train_tokenizer([text], TokenizerRecipe(kind="characters", vocab_size=1000), STREAM)
    encoded = tokenizer(text, return_offsets_mapping=True)
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == list(text)
    assert encoded["offset_mapping"] == [(at, at + 1) for at in range(len(text))]
    assert len(tokenizer) == 4 + len(set(text))
    assert tokenizer("A?나a")["input_ids"] == [tokenizer.convert_tokens_to_ids(c) for c in ("A", "<unk>", "<unk>", "a")]
    assert tokenizer("ab  c\nA").word_ids() == [0, 0, 1, 1, 2, 3, 4]


def test_the_most_frequent_characters_are_kept():
    tokenizer = train_tokenizer(["ccc bb aa d"], TokenizerRecipe(kind="characters", vocab_size=7))
    assert tokenizer.convert_ids_to_tokens(range(4, 7)) == [" ", "c", "a"]


@every_kind
def test_lower_case(kind):
    few = ["One TWO 하나 Ärger", "one two 하나 ärger"] * 3
    tokenizer = train_tokenizer(few, fitting(kind, lowercase=True))
    assert tokenizer("ONE Two 하나 Ärger")["input_ids"] == tokenizer("one two 하나 ärger")["input_ids"]
    assert tokenizer.decode(tokenizer("ONE Two 하나 Ä")["input_ids"], skip_special_tokens=True) == "one two 하나 ä"
    cased = train_tokenizer(few, fitting(kind))
    assert cased("ONE")["input_ids"] != cased("one")["input_ids"]


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_decomposed_text_is_composed(kind, lowercase):
    few = [unicodedata.normalize("NFD", text) if at % 2 else text for at, text in enumerate([*texts(), "é à"])]
    tokenizer = train_tokenizer(few, recipe_of(kind, lowercase=lowercase))
    assert not any("\u1100" <= c < "\u1200" or unicodedata.combining(c) for c in "".join(tokenizer.get_vocab()))
    for text in (*texts(), "é à", "한글 각각"):
        decomposed = unicodedata.normalize("NFD", text)
        assert tokenizer(decomposed)["input_ids"] == tokenizer(text)["input_ids"]
        offsets = tokenizer(decomposed, return_offsets_mapping=True)["offset_mapping"]
        assert all(0 <= start <= end <= len(decomposed) for start, end in offsets)


@pytest.mark.parametrize("kind", ["byte_bpe", "characters"])
def test_what_is_decomposed_stays_so_without_loss(kind):
    few = ["각각 각각", unicodedata.normalize("NFD", "각각 각각")] * 3
    tokenizer = train_tokenizer(few, fitting(kind))
    for text in few[:2]:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@every_kind
def test_masks(kind):
    tokenizer = trained(kind, "bidirectional")
    text = "three <mask> o'clock"
    ids = tokenizer(text)["input_ids"]
    assert ids.count(tokenizer.mask_token_id) == 1
    before, after = ids[1 : ids.index(tokenizer.mask_token_id)], ids[ids.index(tokenizer.mask_token_id) + 1 : -1]
    filled = tokenizer("three past o'clock", add_special_tokens=False)["input_ids"]
    assert filled[: len(before)] == before  # what stands around the mask is what stands around a word
    assert filled[-len(after) :] == after
    word = filled[len(before) : -len(after)]
    result = tokenizer.decode([*before, *word, *after])
    assert pieces(result) == pieces("three past o'clock")
    assert kind == "wordpiece" or result == "three past o'clock"
    assert tokenizer.decode(word).strip() == "past"
    shown = tokenizer.decode(ids)
    assert shown.replace(" ", "") == "<s>three<mask>o'clock</s>"
    assert tokenizer(shown, add_special_tokens=False)["input_ids"] == ids


@every_kind
@every_template
def test_offsets_find_the_tokens_in_the_text(kind, template):
    text = "세  시 반 half past 10:30 ."
    tokenizer = trained(kind, template)
    encoded = tokenizer(text, return_offsets_mapping=True)
    covered = set()
    for number, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        assert 0 <= start <= end <= len(text)
        covered |= set(range(start, end))
        token = tokenizer.decode([number]).replace("##", "").strip()
        if start < end and kind != "byte_bpe" and number != tokenizer.unk_token_id and token:
            assert text[start:end].strip() == token
    assert {at for at, character in enumerate(text) if character != " "} <= covered
    words = [span for span in encoded["offset_mapping"] if text[slice(*span)].strip()]
    if kind in ("wordpiece", "unigram") or (kind, template) == ("byte_bpe", "bidirectional"):
        assert all(text[start:end] == text[start:end].strip() for start, end in words)


@pytest.mark.parametrize("template", TEMPLATES)
def test_offsets_of_bytes_cover_whole_characters(template):
    text = "뷁 힣힣 👨‍👩‍👧 🇰🇷 한글 é 각"
    tokenizer = trained("byte_bpe", template)
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    by_span = {}
    for number, span in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        by_span.setdefault(span, []).append(number)
    trimmed = template == "bidirectional"
    for (start, end), ids in by_span.items():
        decoded = tokenizer.decode(ids)
        if "\ufffd" not in decoded and start < end:  # all bytes of its characters have this span
            assert decoded.strip() == text[start:end].strip()
    spans = sorted(by_span)
    assert all(text[at] == " " or any(start <= at < end for start, end in spans) for at in range(len(text)))
    assert trimmed or "".join(text[start:end] for start, end in spans if not overlapped(start, end, spans)) == text


def overlapped(start, end, spans):
    return any(other != (start, end) and other[0] <= start and end <= other[1] for other in spans)


@every_kind
def test_no_text_is_refused(kind):
    for none in ([], [""], iter([]), iter([[], [""]])):
        with pytest.raises(UserError, match="there is no text to train a tokenizer on") as error:
            train_tokenizer(none, recipe_of(kind))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize("few", [["하나 둘 셋", "one two three"] * 2, ["a"], [" "], texts()[:100]])
def test_a_size_too_small_is_refused_with_one_that_works_and_one_too_large_is_not_filled(kind, few):
    with pytest.raises(UserError) as error:
        train_tokenizer(few, recipe_of(kind, vocab_size=1))
    message = str(error.value)
    assert message.startswith("tokenizer.vocab_size=1 ")
    assert "; set at least " in message
    assert "\n" not in message
    works = int(message.rsplit(" ", 1)[1])
    assert len(train_tokenizer(few, recipe_of(kind, vocab_size=works))) == works
    with pytest.raises(UserError):
        train_tokenizer(few, recipe_of(kind, vocab_size=works - 1))
    filled = len(train_tokenizer(few, recipe_of(kind, vocab_size=100_000)))
    assert works <= filled < 100_000
    assert len(train_tokenizer(few, recipe_of(kind, vocab_size=filled))) == filled


def test_characters_need_room_for_one():
    with pytest.raises(UserError, match=r"no room for the 5 character and special tokens; set at least 5$"):
        train_tokenizer(texts(), TokenizerRecipe(kind="characters", vocab_size=4))


def fingerprint(tokenizer):
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


FINGERPRINTS = """
import hashlib, json, sys
sys.path[:0] = json.loads(sys.argv[1])
from trefoil.data.embedded import load_embedded
from trefoil.recipes.schema import TokenizerRecipe
from trefoil.data.tokenizer import train_tokenizer
rows = load_embedded("translation", sizes={"train": 300})["train"]
for kind, size in json.loads(sys.argv[2]).items():
    tokenizer = train_tokenizer([*rows["ko"], *rows["en"]], TokenizerRecipe(kind=kind, vocab_size=size))
    print(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_text_gives_the_same_tokenizer_in_every_process(threads):
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
    arguments = [json.dumps(sys.path), json.dumps(SIZES)]
    process = subprocess.run(
        [sys.executable, "-c", FINGERPRINTS, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == [fingerprint(trained(kind)) for kind in SIZES]


@every_kind
def test_neither_batches_nor_their_order_matter(kind):
    for again in (iter([[text] for text in texts()]), iter([texts()]), random.Random(0).sample(texts(), len(texts()))):
        assert fingerprint(train_tokenizer(again, recipe_of(kind))) == fingerprint(trained(kind))


LOADED = """
import json, sys
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast
for folder, texts in json.load(open(sys.argv[1])):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = [tokenizer(text, "둘", return_token_type_ids=True, return_offsets_mapping=True) for text in texts]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    special = [tokenizer.special_tokens_map, tokenizer.all_special_ids, tokenizer.model_input_names, len(tokenizer)]
    special += [tokenizer.clean_up_tokenization_spaces]
    decoded = [tokenizer.decode(numbers, skip_special_tokens=True) for numbers in ids]
    print(json.dumps([[dict(one) for one in encoded], ids, special, decoded]))
assert not any(name.split(".")[0] == "trefoil" for name in sys.modules)
"""


@pytest.mark.slow
def test_saved_every_kind_is_an_ordinary_tokenizer(tmp_path):
    samples = [*texts()[::100], "세 <mask> 시", "뷁 👨‍👩‍👧\n 1,024", unicodedata.normalize("NFD", "세 시"), ""]
    cases = []
    for kind in KINDS:
        for template in TEMPLATES:
            trained(kind, template).save_pretrained(tmp_path / kind / template)
            cases.append((str(tmp_path / kind / template), samples))
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    process = subprocess.run(
        [sys.executable, "-c", LOADED, tmp_path / "cases.json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    results = iter(process.stdout.splitlines())
    for kind in KINDS:
        for template in TEMPLATES:
            encoded, ids, special, decoded = json.loads(next(results))
            tokenizer = trained(kind, template)
            ours = [tokenizer(text, "둘", return_token_type_ids=True, return_offsets_mapping=True) for text in samples]
            assert encoded == json.loads(json.dumps([dict(one) for one in ours]))
            assert ids == [tokenizer(text)["input_ids"] for text in samples]
            assert decoded == [tokenizer.decode(numbers, skip_special_tokens=True) for numbers in ids]
            names = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
            assert special == [names, tokenizer.all_special_ids, ["input_ids", "attention_mask"], len(tokenizer), False]


@every_kind
@pytest.mark.parametrize("unit", seldom(["a", "가", "뷁", " ", "\n", "1", "half past three "], "가", "\n"))
def test_a_long_line_takes_time_in_proportion(kind, unit):
    text = (unit * 250_000)[:250_000]
    start = time.monotonic()
    trained(kind)(text)
    assert time.monotonic() - start < 60  # a fraction of a second; minutes, were it quadratic
