import re
from random import Random

import pytest

from trefoil.data.embedded.expressions import (
    KINDS,
    MIDNIGHT,
    NOON,
    age,
    date,
    days,
    money,
    percent,
    person,
    quantity,
    relative_day,
    time,
    times,
    weekday,
    word,
)
from trefoil.data.embedded.grammar import TEMPLATES, draw, draw_fact, join, render
from trefoil.data.embedded.questions import NO_ANSWER_SHARE, QUESTIONS, ask, questions_about
from trefoil.data.embedded.vocabulary import Noun, Word

TEMPLATE = {template.ko: template for template in TEMPLATES}

MINSU, JIHUN = person(Word("민수", "Minsu")), person(Word("지훈", "Jihoon"))
HAN_JIHUN = person(Word("지훈", "Jihoon"), Word("한", "Han"))
GANGNAM, SEOUL_STATION = (
    word(Word(ko, en), "LOC") for ko, en in [("강남역", "Gangnam Station"), ("서울역", "Seoul Station")]
)
BUSAN, JEJU, PARIS = (word(Word(ko, en), "LOC") for ko, en in [("부산", "Busan"), ("제주", "Jeju"), ("파리", "Paris")])
MEETING, INTERVIEW, EVENT = (
    word(Word(ko, en)) for ko, en in [("회의", "meeting"), ("면접", "interview"), ("행사", "event")]
)
MARKET, COAT, MATH, SOCCER = (
    word(Word(ko, en)) for ko, en in [("시장", "market"), ("코트", "coat"), ("수학", "math"), ("축구", "soccer")]
)

STARTS = "{event}(은/는) {date} {time}에 시작해요."
MEETS = "{date}(에) {place}에서 {person} 씨를 만나요."
APPOINTMENT = "{time}에 {person} 씨와 약속이 있어요."
ATTENDED = "{event}에 {people}(이/가) 참석했어요."
MOVED = "{person} 씨가 {event} 시간을 {time}(으로/로) 바꿨어요."
TOOK = "{time}에 시작한 {event}(은/는) {hours} 걸렸어요."
DRINKS, ORDERED = "{drinks} 주세요.", "{drinks}(과/와) {cakes}(을/를) 주문했어요."
BORROWED = "{person} 씨는 도서관에서 {books}(을/를) 빌렸어요."
CHANGED = "{date} 예약을 {date2}(으로/로) 바꿔 주세요."


def count(ko: str, counter: str, number: int, spelled: bool = False):
    return quantity(Noun(ko, ko or "it", counter, number), number, spelled=spelled)


def fact(pattern, **slots):
    return render(TEMPLATE[pattern], slots).facts[0]


def asked(pattern, slot, **slots):
    """The question for one slot of a clause."""
    return next(question for question in questions_about(fact(pattern, **slots)) if question.slot == slot)


CASES = [
    (
        STARTS,
        {"event": MEETING, "date": date(3, 15), "time": time(2, 30, "오후")},
        ["회의 날짜는 언제예요? 3월 15일", "회의는 몇 시에 시작해요? 오후 2시 30분"],
    ),
    (
        MEETS,
        {"date": relative_day("내일"), "place": GANGNAM, "person": HAN_JIHUN},
        [
            "한지훈 씨를 만나는 날은 언제예요? 내일",
            "한지훈 씨를 어디에서 만나요? 강남역",
            "강남역에서 누구를 만나요? 한지훈",
        ],
    ),
    (
        "{date} {time}에 {guests} 자리를 예약해 주세요.",
        {"date": weekday(4, "다음 주"), "time": NOON, "guests": count("", "명", 3, True)},
        [
            "세 명 자리를 어느 날로 예약해 달라고 했어요? 다음 주 금요일",
            "세 명 자리를 몇 시로 예약해 달라고 했어요? 정오",
            "몇 명 자리를 예약해 달라고 했어요? 세 명",
        ],
    ),
    (
        CHANGED,
        {"date": date(3, 15), "date2": date(6, 8, spelled=True)},
        [
            "유월 팔일로 바꿔 달라고 한 예약은 원래 언제였어요? 3월 15일",
            "3월 15일 예약을 언제로 바꿔 달라고 했어요? 유월 팔일",
        ],
    ),
    (
        "{groceries}(과/와) {groceries2}(을/를) 주세요.",
        {"groceries": count("생선", "마리", 2, True), "groceries2": count("와인", "병", 12)},
        ["생선을 몇 마리 달라고 했어요? 두 마리", "와인을 몇 병 달라고 했어요? 12병"],
    ),
    (
        "{clothes}(을/를) {money}에 샀어요.",
        {"clothes": count("양말", "켤레", 3), "money": money(9_000, "mixed")},
        ["9천 원에 산 양말은 몇 켤레예요? 3켤레", "양말 3켤레를 얼마에 샀어요? 9천 원"],
    ),
    (
        "{garment}(은/는) {percent} 할인해서 {price}(이에요/예요).",
        {"garment": COAT, "percent": percent(20, spelled=True), "price": money(30_000)},
        ["코트는 몇 퍼센트 할인해요? 이십 퍼센트", "코트는 할인해서 얼마예요? 30,000원"],
    ),
    (
        "{date}(에) {destination}(으로/로) 떠나요.",
        {"date": date(3, 15), "destination": PARIS},
        ["파리로 떠나는 날은 언제예요? 3월 15일", "3월 15일에 어디로 떠나요? 파리"],
    ),
    (
        "{date}(에) {destination}(으로/로) 떠나요.",
        {"date": relative_day("모레"), "destination": BUSAN},
        ["부산으로 떠나는 날은 언제예요? 모레", "모레 어디로 떠나요? 부산"],
    ),
    (
        "{city}에서 {city2}까지 {hours} 걸려요.",
        {"city": BUSAN, "city2": JEJU, "hours": count("", "시간", 2, True)},
        [
            "어디에서 제주까지 두 시간 걸려요? 부산",
            "부산에서 어디까지 두 시간 걸려요? 제주",
            "부산에서 제주까지 몇 시간 걸려요? 두 시간",
        ],
    ),
    (
        "{subject} 수업을 {students}(이/가) 들어요.",
        {"subject": MATH, "students": count("학생", "명", 35)},
        ["수학 수업을 듣는 학생은 몇 명이에요? 35명"],
    ),
    (
        "이 약을 {days} 동안 하루에 {times}, {pills}씩 드세요.",
        {"days": days(3, "native"), "times": times(2, spelled=True), "pills": count("", "알", 1)},
        [
            "약을 며칠 동안 먹어야 해요? 사흘",
            "약을 하루에 몇 번 먹어야 해요? 두 번",
            "약을 한 번에 몇 알씩 먹어야 해요? 1알",
        ],
    ),
    (
        "환자 {person} 씨는 {age}(이에요/예요).",
        {"person": MINSU, "age": age(35, spelled=True)},
        ["서른다섯 살인 환자는 누구예요? 민수", "환자 민수 씨는 몇 살이에요? 서른다섯 살"],
    ),
    (
        "대출금 {sum}(을/를) {date}까지 갚아야 해요.",
        {"sum": money(500_000, "spelled"), "date": relative_day("모레")},
        ["모레까지 갚아야 하는 대출금은 얼마예요? 오십만 원", "대출금을 언제까지 갚아야 해요? 모레"],
    ),
    (
        "{sport} 경기 {tickets}(을/를) {money}에 샀어요.",
        {"sport": SOCCER, "tickets": count("표", "장", 4, True), "money": money(100_000)},
        ["축구 경기 표를 몇 장 샀어요? 네 장", "축구 경기 표 네 장을 얼마에 샀어요? 100,000원"],
    ),
]


@pytest.mark.parametrize(("pattern", "slots", "expected"), CASES)
def test_questions_by_hand(pattern, slots, expected):
    # the second clause, so that the spans are those of the text
    first = render(TEMPLATE["진료비는 {money}(이에요/예요)."], {"money": money(5_000)})
    text = join([first, render(TEMPLATE[pattern], slots)])
    questions = [(question.ko, question.answer) for question in questions_about(text.facts[1])]
    assert [f"{ko} {text.ko[start:end]}" for ko, (start, end, _) in questions] == expected


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.ko)
def test_every_entity_of_every_template_has_a_question(template):
    rng = Random(0)
    drawn = render(template, {name: KINDS[kind](rng) for name, kind in template.slots.items()})
    assert drawn.facts[0].spans().keys() == QUESTIONS[template.ko].keys()
    for slot, pattern in QUESTIONS[template.ko].items():
        assert f"{{{slot}}}" not in pattern, "the question gives its answer away"


def test_no_two_questions_have_the_same_words():
    patterns = [pattern for questions in QUESTIONS.values() for pattern in questions.values()]
    twice = {pattern for pattern in patterns if patterns.count(pattern) > 1}
    assert not twice
    assert QUESTIONS.keys() == TEMPLATE.keys()


CLASHES = {
    "two people at one place": (
        asked(MEETS, "person", date=date(3, 15), place=GANGNAM, person=MINSU),
        asked(MEETS, "person", date=date(3, 16), place=GANGNAM, person=JIHUN),
    ),
    "a given name may be a full name": (
        asked(APPOINTMENT, "time", time=time(2, 0, "오후"), person=JIHUN),
        asked(APPOINTMENT, "time", time=time(3, 0, "오후"), person=HAN_JIHUN),
    ),
    "a time without a period may be one with": (
        asked(APPOINTMENT, "person", time=time(2, 0, "오후"), person=JIHUN),
        asked(APPOINTMENT, "person", time=time(2, 0, spelled=True), person=MINSU),
    ),
    "noon or midnight is 12": (
        asked(APPOINTMENT, "person", time=MIDNIGHT, person=JIHUN),
        asked(APPOINTMENT, "person", time=time(12), person=MINSU),
    ),
    "a date without a year may be one with": (
        asked(CHANGED, "date2", date=date(3, 15), date2=date(4, 1)),
        asked(CHANGED, "date2", date=date(3, 15, 2027, spelled=True), date2=date(5, 1)),
    ),
    "a day without a week may be one with": (
        asked(CHANGED, "date2", date=weekday(0), date2=date(4, 1)),
        asked(CHANGED, "date2", date=weekday(0, "다음 주"), date2=date(5, 1)),
    ),
    "a meeting starts at the time that it was moved to": (
        asked(STARTS, "time", event=MEETING, date=date(3, 15), time=time(2)),
        asked(MOVED, "time", event=MEETING, person=MINSU, time=time(4)),
    ),
    "a meeting starts once": (
        asked(STARTS, "time", event=MEETING, date=date(3, 15), time=time(2)),
        asked(TOOK, "time", event=MEETING, hours=count("", "시간", 2), time=time(4)),
    ),
    "an interview is an event": (
        asked(ATTENDED, "people", event=INTERVIEW, people=count("", "명", 20)),
        asked(ATTENDED, "people", event=EVENT, people=count("", "명", 30)),
    ),
    "who orders asks for": (
        asked(DRINKS, "drinks", drinks=count("커피", "잔", 2)),
        asked(ORDERED, "drinks", drinks=count("커피", "잔", 3), cakes=count("쿠키", "개", 3)),
    ),
    "two slots of one kind": (
        asked(
            "{groceries}(과/와) {groceries2}(을/를) 주세요.",
            "groceries",
            groceries=count("사과", "개", 2),
            groceries2=count("달걀", "개", 3),
        ),
        asked(
            "{groceries}(과/와) {groceries2}(을/를) 주세요.",
            "groceries2",
            groceries=count("감자", "개", 2),
            groceries2=count("사과", "개", 3),
        ),
    ),
    "a novel is a book, in words or in digits": (
        asked(BORROWED, "person", person=MINSU, books=count("책", "권", 3)),
        asked(BORROWED, "person", person=JIHUN, books=count("소설", "권", 3, True)),
    ),
}

DISTINCT = {
    "other place": (
        asked(MEETS, "person", date=date(3, 15), place=GANGNAM, person=MINSU),
        asked(MEETS, "person", date=date(3, 15), place=SEOUL_STATION, person=JIHUN),
    ),
    "other thing asked": (
        asked(MEETS, "person", date=date(3, 15), place=GANGNAM, person=MINSU),
        asked(MEETS, "date", date=date(3, 15), place=GANGNAM, person=MINSU),
    ),
    "other event": (
        asked(ATTENDED, "people", event=INTERVIEW, people=count("", "명", 20)),
        asked(ATTENDED, "people", event=MEETING, people=count("", "명", 30)),
    ),
    "other number": (
        asked(BORROWED, "person", person=MINSU, books=count("책", "권", 3)),
        asked(BORROWED, "person", person=JIHUN, books=count("책", "권", 4)),
    ),
    "other minute": (
        asked(APPOINTMENT, "person", time=time(2, 0, "오후"), person=JIHUN),
        asked(APPOINTMENT, "person", time=time(2, 5, "오후"), person=MINSU),
    ),
    "other day": (
        asked(CHANGED, "date2", date=weekday(0), date2=date(4, 1)),
        asked(CHANGED, "date2", date=weekday(1), date2=date(5, 1)),
    ),
}


@pytest.mark.parametrize(("one", "other"), CLASHES.values(), ids=CLASHES)
def test_questions_that_clash(one, other):
    assert one.clashes(other)
    assert other.clashes(one)
    assert one.clashes(one)


@pytest.mark.parametrize(("one", "other"), DISTINCT.values(), ids=DISTINCT)
def test_questions_that_do_not_clash(one, other):
    assert not one.clashes(other)
    assert not other.clashes(one)


def test_an_ambiguous_question_is_not_asked():
    text = join(
        [
            render(TEMPLATE[MEETS], {"date": date(3, 15), "place": GANGNAM, "person": MINSU}),
            render(TEMPLATE[MEETS], {"date": date(3, 15), "place": GANGNAM, "person": JIHUN}),
        ]
    )
    questions = {question for question, span in (ask(text, Random(seed)) for seed in range(300)) if span}
    assert questions == {
        f"{name} 씨를 {rest}" for name in ("민수", "지훈") for rest in ("만나는 날은 언제예요?", "어디에서 만나요?")
    }


def test_where_all_questions_are_ambiguous_there_is_no_answer():
    text = join([render(TEMPLATE["진료비는 {money}(이에요/예요)."], {"money": money(5_000)})] * 2)
    for seed in range(50):
        question, span = ask(text, Random(seed))
        assert span is None
        assert "진료비" not in question


INTERROGATIVES = {
    "PER": r"누구",
    "LOC": r"어디",
    "TIM": r"몇 시[에로] ",
    "DAT": r"언제|어느 날",
    "MNY": r"얼마",
    "QTY": r"며칠|몇 (?!시[에로] )",
}


@pytest.mark.slow
def test_generated_questions_ask_for_the_label_of_the_answer():
    rng, answered = Random(4), 0
    for _ in range(5_000):
        text = draw(rng, (1, 5))
        question, span = ask(text, rng)
        assert re.fullmatch(r"[가-힣0-9,% ]+\?", question), question
        assert "  " not in question
        labels = [label for label, pattern in INTERROGATIVES.items() if re.search(pattern, question)]
        assert len(labels) == 1, question
        if span:
            answered += 1
            assert span in text.entities
            assert labels == [span[2]], question
    assert answered / 5_000 == pytest.approx(1 - NO_ANSWER_SHARE, abs=0.02)


def test_generated_questions_have_one_answer_or_none():
    rng = Random(5)
    for _ in range(2_000):
        text = draw(rng, (2, 8))
        question, span = ask(text, rng)
        spans = [each.answer for clause in text.facts for each in questions_about(clause) if each.ko == question]
        assert spans == ([span] if span else [])


def test_a_fact_outside_a_text_has_questions_too():
    drawn = draw_fact(Random(0), "cafe")
    assert drawn.template.topic == "cafe"
    assert all(question.ko.endswith("?") for question in questions_about(drawn))


def test_very_long_texts_have_questions():
    for seed in range(20):
        question, _ = ask(draw(Random(seed), (100, 100)), Random(seed))
        assert question.endswith("?")
