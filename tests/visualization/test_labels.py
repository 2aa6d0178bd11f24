"""Labels of tokens: no gibberish, nothing unseen, and for generated tokens the same as for read ones."""

import itertools
import json

import pytest
from transformers import MarianTokenizer

from trefoil.visualization.labels import (
    decoded_labels,
    encoding_labels,
    prefix_spans,
    span_labels,
    visible,
    word_numbers,
)

TEXTS = ["오후 세 시", "three  apples", "힣뷁 값", "반😀", "a\tb\nc", "é 漢字 ½", "ab"]


def joined(labels):
    """The text again: of tokens that share a character, the first alone."""
    return "".join(label for label in labels if label[-1] not in "₂₃₄").replace("₁", "")


def labels_of(tokenizer, *texts):
    return encoding_labels(tokenizer, tokenizer(*texts, return_offsets_mapping=True), texts)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" a b", "␣a␣b"),
        ("\n", "⏎"),
        ("\t", "⇥"),
        ("\u3000", "␣"),
        ("\u200d", "U+200D"),
        ("\u202eabc", "U+202Eabc"),
        ("\x00", "U+0000"),
        ("\u0301", "U+0301"),
        ("e\u0301", "e\u0301"),
        ("👨‍👩‍👧", "👨‍👩‍👧"),
        ("</script>", "</script>"),
        ("", ""),
    ],
)
def test_visible(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "spans", "labels"),
    [
        ("a bc", [(0, 1), (1, 3), (3, 4)], ["a", "␣b", "c"]),
        ("a bc", [(0, 1), (2, 3), (3, 4)], ["a", "␣b", "c"]),  # offsets that leave spaces out
        ("a 😀", [(0, 1), (2, 2), (2, 3), (2, 3)], ["a", "␣", "😀₁", "😀₂"]),
        ("값값", [(0, 1), (0, 1), (0, 1), (1, 2), (1, 2)], ["값₁", "값₂", "값₃", "값₁", "값₂"]),
        ("x 값", [(0, 1), (1, 3), (2, 3)], ["x", "␣값₁", "값₂"]),
        ("값" * 1, [(0, 1)] * 11, [f"값{mark}" for mark in ["₁", "₂", "₃", "₄", "₅", "₆", "₇", "₈", "₉", "₁₀", "₁₁"]]),
        ("", [], []),
    ],
)
def test_span_labels(text, spans, labels):
    assert span_labels(text, spans) == labels


def test_prefix_spans():
    assert prefix_spans(["a", "a\ufffd", "a값", "a값b"]) == [(0, 1), (1, 2), (1, 2), (2, 3)]
    assert prefix_spans(["\ufffd", "\ufffd\ufffd"]) == [(0, 1), (1, 2)]  # bytes that never become a character


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_tokens_show_the_text(tokenizer, text):
    for family in ("encoder-decoder", "decoder", "encoder"):
        shown = labels_of(tokenizer(family=family), text)
        inner = [label for label in shown if label not in ("<s>", "</s>")]
        assert joined(inner) == visible(text), inner


def test_characters_in_pieces_are_numbered(tokenizer):
    shown = labels_of(tokenizer(), "반 뷁😀")
    assert shown[-8:] == ["␣뷁₁", "뷁₂", "뷁₃", "😀₁", "😀₂", "😀₃", "😀₄", "</s>"]


@pytest.mark.parametrize("kind", ["byte_bpe", "unigram", "characters", "wordpiece"])
def test_no_kind_of_tokenizer_shows_its_own_spelling(tokenizer, kind):
    shown = labels_of(tokenizer(kind), "세 시 half past")
    assert not set("ĠìíëÃ▁#") & set("".join(shown))
    assert shown[-1] == "</s>"
    read = joined(shown[:-1]).replace("␣", "")
    assert "<unk>" in read or read == "세시halfpast"


def test_a_space_that_is_a_token_shares_no_character(tokenizer):
    shown = labels_of(tokenizer("unigram"), "세 뷁 a")
    assert not any(mark in label for label in shown for mark in "₁₂")
    assert "␣" in shown


def test_tokens_that_the_tokenizer_does_not_know(tokenizer):
    used = tokenizer()
    assert decoded_labels(used, [len(used) + 3, *used("세 시")["input_ids"]])[0] == f"<{len(used) + 3}>"


def test_special_tokens_and_pairs(tokenizer):
    assert labels_of(tokenizer("characters", "encoder"), "세", " 시")[-4:] == ["</s>", "␣", "시", "</s>"]
    assert "<mask>" in labels_of(tokenizer(family="encoder"), "세 <mask> 반")
    assert "<unk>" in labels_of(tokenizer("characters"), "😀")


@pytest.mark.parametrize("kind", ["byte_bpe", "unigram", "characters"])
@pytest.mark.parametrize("text", ["오후 세 시 반", "half past three", "반 뷁😀 값"])
def test_generated_tokens_are_named_as_read_ones(tokenizer, kind, text):
    used = tokenizer(kind)
    decoded = decoded_labels(used, used(text)["input_ids"])
    if kind == "unigram":  # its offsets leave spaces out, and decoding leaves out those at unknown tokens
        assert [label.strip("␣") for label in decoded] == [label.strip("␣") for label in labels_of(used, text)]
    else:
        assert decoded == labels_of(used, text)


def test_a_tokenizer_without_offsets(tokenizer):
    used = tokenizer()
    assert encoding_labels(used, used("세 시 😀"), ["세 시 😀"]) == labels_of(used, "세 시 😀")


@pytest.mark.parametrize("separate", [True, False])
def test_marian_whose_tokenizer_has_no_offsets(tmp_path, separate):
    sentencepiece = pytest.importorskip("sentencepiece")
    texts = {"source": ["오후 세 시 반", "세 시 십 분"] * 20, "target": ["half past three", "ten past three"] * 20}
    vocabularies, both = {}, {"</s>": 0, "<unk>": 1, "<pad>": 2}
    for side, lines in texts.items():
        (tmp_path / f"{side}.txt").write_text("\n".join(lines), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(tmp_path / f"{side}.txt"), model_prefix=str(tmp_path / side), vocab_size=20, minloglevel=2,
            hard_vocab_limit=False,
        )  # fmt: skip
        (tmp_path / f"{side}.model").rename(tmp_path / f"{side}.spm")
        pieces = sentencepiece.SentencePieceProcessor(str(tmp_path / f"{side}.spm"))
        names = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
        vocabularies[side] = {name: number for number, name in enumerate(dict.fromkeys([*both, *names]))}
    if not separate:
        names = dict.fromkeys([*vocabularies["source"], *vocabularies["target"]])
        vocabularies["source"] = {name: number for number, name in enumerate(names)}
    for side in texts:
        (tmp_path / f"{side}.json").write_text(json.dumps(vocabularies[side]))
    used = MarianTokenizer(
        source_spm=str(tmp_path / "source.spm"), target_spm=str(tmp_path / "target.spm"),
        vocab=str(tmp_path / "source.json"), target_vocab_file=str(tmp_path / "target.json"), separate_vocabs=separate,
    )  # fmt: skip
    source, target = used("오후 세 시 반"), used(text_target="half past three")
    assert joined(encoding_labels(used, source, [])).replace("␣", "") == "오후세시반</s>"
    for found in (encoding_labels(used, target, [], of_target=True), decoded_labels(used, target["input_ids"])):
        assert joined(found).replace("␣", "") == "halfpastthree</s>"


@pytest.mark.parametrize("kind", ["byte_bpe", "unigram", "wordpiece", "characters"])
def test_tokens_know_their_words(tokenizer, kind):
    text = "  세 시 반에  만나요\tten 👋🏽"
    encoding = tokenizer(kind)(text, return_offsets_mapping=True)
    numbers = word_numbers(tokenizer(kind), encoding, text)
    words = text.split()
    for number, (start, end) in zip(numbers, encoding["offset_mapping"], strict=True):
        assert (number is None) == (not text[start:end].strip() or start == end)
        if number is not None:
            assert text[start:end].strip() in words[number]
    assert [number for number, _ in itertools.groupby(n for n in numbers if n is not None)] == list(range(len(words)))
