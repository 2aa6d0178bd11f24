import re
from random import Random

import pytest

from trefoil.data.embedded.expressions import (
    KINDS,
    date,
    money,
    percent,
    person,
    quantity,
    relative_day,
    time,
    word,
)
from trefoil.data.embedded.grammar import TEMPLATES, draw, join, render
from trefoil.data.embedded.summaries import ITEMS, SEPARATOR, summary
from trefoil.data.embedded.vocabulary import Noun, Word

TEMPLATE = {template.ko: template for template in TEMPLATES}

MINSU = person(Word("민수", "Minsu"))
MEETING, COAT, TRAIN, MATH = (
    word(Word(ko, en)) for ko, en in [("회의", "meeting"), ("코트", "coat"), ("기차", "train"), ("수학", "math")]
)
BUSAN, SEOUL = (word(Word(ko, en), "LOC") for ko, en in [("부산", "Busan"), ("서울", "Seoul")])


def count(ko: str, counter: str, number: int, spelled: bool = False):
    return quantity(Noun(ko, ko or "it", counter, number), number, spelled=spelled)


def text(*clauses):
    return join([render(TEMPLATE[pattern], slots) for pattern, slots in clauses])


CASES = [
    (
        [
            (
                "{event}(은/는) {date} {time}에 시작해요.",
                {"event": MEETING, "date": date(3, 15, spelled=True), "time": time(2, 30, "오후", half=True)},
            ),
            ("{event}에 {people}(이/가) 참석했어요.", {"event": MEETING, "people": count("", "명", 20, True)}),
            ("{time}에 {person} 씨와 약속이 있어요.", {"time": time(5, spelled=True), "person": MINSU}),
        ],
        "회의: 3월 15일 오후 2시 30분 / 민수 씨와 약속: 5시",
    ),
    (
        [
            ("{groceries}에 {money}(이에요/예요).", {"groceries": count("사과", "개", 3, True), "money": money(5_000)}),
            (
                "{garment}(은/는) {percent} 할인해서 {price}(이에요/예요).",
                {"garment": COAT, "percent": percent(20), "price": money(35_000, "mixed")},
            ),
        ],
        "사과 3개: 5,000원 / 코트 할인가: 35,000원",
    ),
    (
        [
            (
                "{destination}(으로/로) 가는 {transport}(은/는) {time}에 출발해요.",
                {"destination": BUSAN, "transport": TRAIN, "time": time(9, 5, "오전", spelled=True)},
            ),
            (
                "{city}에서 {city2}까지 {hours} 걸려요.",
                {"city": SEOUL, "city2": BUSAN, "hours": count("", "시간", 3)},
            ),
            ("{date}(에) {destination}(으로/로) 떠나요.", {"date": relative_day("모레"), "destination": SEOUL}),
        ],
        "부산행 기차: 오전 9시 5분 / 서울로 출발: 모레",
    ),
    (
        [
            ("{date} 예약을 {date2}(으로/로) 바꿔 주세요.", {"date": date(6, 6, spelled=True), "date2": date(7, 1)}),
            ("예약금은 {money}(이에요/예요).", {"money": money(10_000, "spelled")}),
        ],
        "예약 변경: 6월 6일에서 7월 1일로 / 예약금: 10,000원",
    ),
    (
        [
            (
                "대출금 {sum}(을/를) {date}까지 갚아야 해요.",
                {"sum": money(1_200_000, "mixed"), "date": date(12, 1, 2027, spelled=True)},
            ),
        ],
        "대출금 상환: 2027년 12월 1일까지 1,200,000원",
    ),
    ([("{subject} 시험에서 {points}(을/를) 받았어요.", {"subject": MATH, "points": count("", "점", 90)})], ""),
]


@pytest.mark.parametrize(("clauses", "expected"), CASES, ids=[expected for _, expected in CASES])
def test_summaries_by_hand(clauses, expected):
    assert summary(text(*clauses)) == expected


def test_the_way_of_writing_does_not_matter():
    pattern = "{event}(은/는) {date} {time}에 시작해요."
    written = {
        summary(
            text((pattern, {"event": MEETING, "date": date(10, 1, spelled=spelled), "time": time(2, 30, **writing)}))
        )
        for spelled in (False, True)
        for writing in ({}, {"half": True}, {"spelled": True}, {"spelled": True, "half": True})
    }
    assert written == {"회의: 10월 1일 2시 30분"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.ko)
def test_items_are_the_clauses_with_dates_times_and_amounts(template):
    rng = Random(0)
    drawn = render(template, {name: KINDS[kind](rng) for name, kind in template.slots.items()})
    spans = drawn.facts[0].spans()
    wanted = {slot for slot, (_, _, label) in spans.items() if label in ("DAT", "TIM", "MNY")}
    assert (template.ko in ITEMS) == bool(wanted)
    if wanted:
        name, value = ITEMS[template.ko].split(": ")
        assert {slot for slot in spans if f"{{{slot}}}" in value} == wanted
        assert not any(f"{{{slot}}}" in name for slot in wanted)


def test_generated_summaries_have_their_numbers_in_digits():
    rng = Random(6)
    value = (
        r"((\d+년 )?\d+월 \d+일|((이번|다음) 주 |지난주 )?[월화수목금토일]요일|오늘|내일|모레|어제|그저께"
        r"|((오전|오후|아침|저녁|밤) )?\d+시( \d+분)?|정오|자정|[\d,]+원|매달)(에서|부터|까지|으로|로)?"
    )
    items = 0
    for _ in range(3_000):
        sentence = draw(rng, (1, 5))
        kept = [item for item in summary(sentence).split(SEPARATOR) if item]
        assert len(kept) == sum(fact.template.ko in ITEMS for fact in sentence.facts)
        for item in kept:
            assert re.fullmatch(rf"[가-힣0-9 ]+: {value}( {value})*", item), item
        items += len(kept)
    assert items > 4_000
