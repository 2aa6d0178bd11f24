"""Text comes out piece by piece, and is the text that all tokens have together."""

import pytest

from tests.hub.conftest import tiny_tokenizer
from trefoil.data.tokenizer import LEFT_TO_RIGHT, train_tokenizer
from trefoil.recipes.schema import TokenizerRecipe
from trefoil.serving.texts import Text

pytest.importorskip("fastapi")

WRITTEN = "세 개의 사과와 three apples 🙂 다섯 👩‍👩‍👧 시"


@pytest.fixture(scope="module", params=["bytes", "words"])
def tokenizer(request):
    if request.param == "words":
        return tiny_tokenizer()
    return train_tokenizer([["three apples 세 개의"] * 9], TokenizerRecipe(vocab_size=280), LEFT_TO_RIGHT)


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_pieces_are_whole_characters_and_together_the_text(tokenizer):
    ids = ids_of(tokenizer, WRITTEN)
    prompt, written = ids[:4], ids[4:]
    text = Text(tokenizer, prompt)
    pieces = [text.add(token) for token in written]
    assert "\ufffd" not in "".join(pieces)
    assert len([piece for piece in pieces if piece]) > 4
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    assert tokenizer.decode(prompt, skip_special_tokens=True) + "".join(pieces) + text.finish() == whole


def test_what_ends_amid_a_character_is_told_at_the_end():
    tokenizer = train_tokenizer([["three apples"] * 9], TokenizerRecipe(vocab_size=259), LEFT_TO_RIGHT)
    ids = ids_of(tokenizer, "ab🙂")[:-1]
    text = Text(tokenizer, [])
    assert "".join(text.add(token) for token in ids) == "ab"
    assert text.finish() == tokenizer.decode(ids)[2:]


@pytest.mark.parametrize(
    ("stops", "expected"),
    [(["apple"], "three "), (["pears", "e ap"], "thre"), (["ee", "three"], ""), (["apples and x"], None)],
)
def test_a_text_ends_at_a_stop_string(tokenizer, stops, expected):
    ids = ids_of(tokenizer, "three apples and two")
    text, pieces = Text(tokenizer, [], stops), []
    for token in ids:
        pieces.append(text.add(token))
        if text.is_stopped:
            break
    assert text.is_stopped == (expected is not None)
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    start = whole.index("three")
    assert "".join([*pieces, text.finish()])[start:] == (whole[start:] if expected is None else expected)
    for stop in stops:
        assert all(stop not in "".join(pieces[:count]) for count in range(len(pieces)))
