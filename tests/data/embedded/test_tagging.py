import re
from random import Random

import pytest

from trefoil.data.embedded.grammar import draw
from trefoil.data.embedded.tagging import bio_tags, token_spans


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("회의는 3월 15일에 있어요.", "회의 는 3월 15일 에 있어요 ."),
        ("사과 세 개를 주세요.", "사과 세 개 를 주세요 ."),
        ("달걀 두 개와 사과를 샀어요!", "달걀 두 개 와 사과 를 샀어요 !"),
        ("배송비는 3만 5천 원이에요.", "배송비 는 3만 5천 원 이에요 ."),
        ("한지훈이라는 이름으로", "한지훈 이라는 이름 으로"),
        ("안과, 치과", "안과 , 치과"),
        ("서울에서 하노이로", "서울 에서 하노이 로"),
        ("세 번, 두 알씩", "세 번 , 두 알 씩"),
        ("35,000원을", "35,000원 을"),
        ("이 약을", "이 약 을"),
        ("", ""),
    ],
)
def test_tokens_by_hand(text, tokens):
    assert [text[start:end] for start, end in token_spans(text)] == tokens.split()


def test_tags_by_hand():
    text = "3월 15일에 민수 씨와 강남역에서 만나요."
    entities = [(0, 6, "DAT"), (8, 10, "PER"), (14, 17, "LOC")]
    assert " ".join(bio_tags(token_spans(text), entities)) == "B-DAT I-DAT O B-PER O O B-LOC O O O"


def test_neighbouring_entities_stay_apart():
    text = "내일 오후 2시에"
    assert bio_tags(token_spans(text), [(0, 2, "DAT"), (3, 8, "TIM")]) == ["B-DAT", "B-TIM", "I-TIM", "O"]


@pytest.mark.parametrize("entity", [(0, 5, "DAT"), (1, 6, "DAT"), (2, 6, "DAT")])
def test_an_entity_within_a_token_is_refused(entity):
    with pytest.raises(ValueError, match=f"DAT entity at characters {entity[0]} to {entity[1]}"):
        bio_tags(token_spans("3월 15일에"), [entity])


@pytest.mark.slow
def test_tokens_of_generated_texts_cover_them_and_respect_the_entities():
    rng = Random(3)
    for _ in range(10_000):
        sentence = draw(rng, (1, 2))
        spans = token_spans(sentence.ko)
        assert "".join(sentence.ko[start:end] for start, end in spans) == re.sub(r"\s", "", sentence.ko)
        tags = bio_tags(spans, sentence.entities)
        assert sum(tag.startswith("B-") for tag in tags) == len(sentence.entities)
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]
