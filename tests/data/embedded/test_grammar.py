import re
import unicodedata
from random import Random

import pytest

from trefoil.data.embedded.expressions import (
    KINDS,
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
from trefoil.data.embedded.grammar import TEMPLATES, TOPICS, Template, draw, fill, join, render
from trefoil.data.embedded.vocabulary import COUNTERS, Noun, Word

TEMPLATE = {template.ko: template for template in TEMPLATES}

MINSU, JIHUN = Word("민수", "Minsu"), Word("지훈", "Jihoon")
KIM = Word("김", "Kim")
SEOUL, BUSAN, JEJU = (word(Word(*pair), "LOC") for pair in [("서울", "Seoul"), ("부산", "Busan"), ("제주", "Jeju")])
GANGNAM = word(Word("강남역", "Gangnam Station"), "LOC")
MEETING, INTERVIEW = word(Word("회의", "meeting")), word(Word("면접", "interview"))
SOCCER, MATH = word(Word("축구", "soccer")), word(Word("수학", "math"))
EYE_CLINIC = word(Word("안과", "eye clinic"))


def count(ko: str, en: str, counter: str, number: int, spelled: bool = False):
    return quantity(Noun(ko, en, counter, number), number, spelled=spelled)


CASES = [
    (
        "{event}(은/는) {date} {time}에 시작해요.",
        {"event": MEETING, "date": date(3, 15), "time": time(2, 30, "오후")},
        "회의는 3월 15일 오후 2시 30분에 시작해요.",
        "The meeting starts at 2:30 p.m. on March 15.",
        ["3월 15일 DAT", "오후 2시 30분 TIM"],
    ),
    (
        "{event}(은/는) {date} {time}에 시작해요.",
        {"event": INTERVIEW, "date": relative_day("내일"), "time": time(9, 0, "아침", spelled=True)},
        "면접은 내일 아침 아홉 시에 시작해요.",
        "The interview starts at 9 in the morning tomorrow.",
        ["내일 DAT", "아침 아홉 시 TIM"],
    ),
    (
        "{date}(에) {place}에서 {person} 씨를 만나요.",
        {"date": weekday(0, "다음 주"), "place": GANGNAM, "person": person(MINSU)},
        "다음 주 월요일에 강남역에서 민수 씨를 만나요.",
        "I am meeting Minsu at Gangnam Station next Monday.",
        ["다음 주 월요일 DAT", "강남역 LOC", "민수 PER"],
    ),
    (
        "{date}(에) {place}에서 {person} 씨를 만나요.",
        {"date": relative_day("모레"), "place": GANGNAM, "person": person(MINSU, KIM)},
        "모레 강남역에서 김민수 씨를 만나요.",
        "I am meeting Kim Minsu at Gangnam Station the day after tomorrow.",
        ["모레 DAT", "강남역 LOC", "김민수 PER"],
    ),
    (
        "{time}에 {person} 씨와 약속이 있어요.",
        {"time": time(5, 0, "오후", spelled=True), "person": person(JIHUN)},
        "오후 다섯 시에 지훈 씨와 약속이 있어요.",
        "I have an appointment with Jihoon at 5 p.m.",
        ["오후 다섯 시 TIM", "지훈 PER"],
    ),
    (
        "{event}에 {people}(이/가) 참석했어요.",
        {"event": MEETING, "people": count("", "person", "명", 12)},
        "회의에 12명이 참석했어요.",
        "There were 12 people at the meeting.",
        ["12명 QTY"],
    ),
    (
        "{time}에 시작한 {event}(은/는) {hours} 걸렸어요.",
        {"time": time(10, 0, "오전"), "event": MEETING, "hours": count("", "hour", "시간", 1, True)},
        "오전 10시에 시작한 회의는 한 시간 걸렸어요.",
        "The meeting that started at 10 a.m. took an hour.",
        ["오전 10시 TIM", "한 시간 QTY"],
    ),
    (
        "{person} 씨가 {event} 시간을 {time}(으로/로) 바꿨어요.",
        {"person": person(MINSU), "event": MEETING, "time": time(3)},
        "민수 씨가 회의 시간을 3시로 바꿨어요.",
        "Minsu moved the meeting to 3 o'clock.",
        ["민수 PER", "3시 TIM"],
    ),
    (
        "{person} 씨가 {event} 시간을 {time}(으로/로) 바꿨어요.",
        {"person": person(MINSU), "event": MEETING, "time": time(3, 30, "오후", half=True)},
        "민수 씨가 회의 시간을 오후 3시 반으로 바꿨어요.",
        "Minsu moved the meeting to 3:30 p.m.",
        ["민수 PER", "오후 3시 반 TIM"],
    ),
    (
        "{date} {time}에 {guests} 자리를 예약해 주세요.",
        {"date": date(12, 24, spelled=True), "time": time(7, 0, "저녁"), "guests": count("", "person", "명", 4, True)},
        "십이월 이십사일 저녁 7시에 네 명 자리를 예약해 주세요.",
        "Please reserve a table for four people at 7 in the evening on December 24.",
        ["십이월 이십사일 DAT", "저녁 7시 TIM", "네 명 QTY"],
    ),
    (
        "{date}부터 {days} 동안 호텔을 예약했어요.",
        {"date": date(6, 10, spelled=True), "days": days(3, "native")},
        "유월 십일부터 사흘 동안 호텔을 예약했어요.",
        "I booked a hotel for three days from June 10.",
        ["유월 십일 DAT", "사흘 QTY"],
    ),
    (
        "{person}(이라는/라는) 이름으로 {time}에 예약했어요.",
        {"person": person(JIHUN, KIM), "time": NOON},
        "김지훈이라는 이름으로 정오에 예약했어요.",
        "I made a reservation under the name Kim Jihoon for noon.",
        ["김지훈 PER", "정오 TIM"],
    ),
    (
        "{date} 예약을 {date2}(으로/로) 바꿔 주세요.",
        {"date": relative_day("내일"), "date2": date(3, 15)},
        "내일 예약을 3월 15일로 바꿔 주세요.",
        "Please change my reservation from tomorrow to March 15.",
        ["내일 DAT", "3월 15일 DAT"],
    ),
    (
        "예약금은 {money}(이에요/예요).",
        {"money": money(35_000, "mixed")},
        "예약금은 3만 5천 원이에요.",
        "The deposit is 35,000 won.",
        ["3만 5천 원 MNY"],
    ),
    (
        "{shop}에서 {groceries}(을/를) 샀어요.",
        {"shop": word(Word("시장", "market")), "groceries": count("사과", "apple", "개", 3, True)},
        "시장에서 사과 세 개를 샀어요.",
        "I bought three apples at the market.",
        ["세 개 QTY"],
    ),
    (
        "{groceries}에 {money}(이에요/예요).",
        {"groceries": count("물", "bottle of water", "병", 2), "money": money(1_800)},
        "물 2병에 1,800원이에요.",
        "It is 1,800 won for two bottles of water.",
        ["2병 QTY", "1,800원 MNY"],
    ),
    (
        "{groceries}(과/와) {groceries2}(을/를) 주세요.",
        {"groceries": count("달걀", "egg", "개", 20, True), "groceries2": count("생선", "fish", "마리", 2, True)},
        "달걀 스무 개와 생선 두 마리를 주세요.",
        "Please give me 20 eggs and two fish.",
        ["스무 개 QTY", "두 마리 QTY"],
    ),
    (
        "{clothes}(을/를) {money}에 샀어요.",
        {"clothes": count("양말", "pair of socks", "켤레", 5, True), "money": money(10_000, "spelled")},
        "양말 다섯 켤레를 만 원에 샀어요.",
        "I bought five pairs of socks for 10,000 won.",
        ["다섯 켤레 QTY", "만 원 MNY"],
    ),
    (
        "{garment}(은/는) {percent} 할인해서 {price}(이에요/예요).",
        {"garment": word(Word("코트", "coat")), "percent": percent(30), "price": money(120_000, "spelled")},
        "코트는 30% 할인해서 십이만 원이에요.",
        "The coat is 120,000 won after a 30% discount.",
        ["30% QTY", "십이만 원 MNY"],
    ),
    (
        "{person} 씨는 {past}(에) {shop}에서 {money}(을/를) 썼어요.",
        {
            "person": person(MINSU),
            "past": relative_day("어제"),
            "shop": word(Word("백화점", "department store")),
            "money": money(350_000),
        },
        "민수 씨는 어제 백화점에서 350,000원을 썼어요.",
        "Minsu spent 350,000 won at the department store yesterday.",
        ["민수 PER", "어제 DAT", "350,000원 MNY"],
    ),
    (
        "{date}(에) {destination}(으로/로) 떠나요.",
        {"date": date(8, 1), "destination": BUSAN},
        "8월 1일에 부산으로 떠나요.",
        "I am leaving for Busan on August 1.",
        ["8월 1일 DAT", "부산 LOC"],
    ),
    (
        "{date}(에) {destination}(으로/로) 떠나요.",
        {"date": weekday(5), "destination": SEOUL},
        "토요일에 서울로 떠나요.",
        "I am leaving for Seoul on Saturday.",
        ["토요일 DAT", "서울 LOC"],
    ),
    (
        "{city}에서 {city2}까지 {hours} 걸려요.",
        {"city": SEOUL, "city2": BUSAN, "hours": count("", "hour", "시간", 3, True)},
        "서울에서 부산까지 세 시간 걸려요.",
        "It takes three hours from Seoul to Busan.",
        ["서울 LOC", "부산 LOC", "세 시간 QTY"],
    ),
    (
        "{destination}(으로/로) 가는 {transport}(은/는) {time}에 출발해요.",
        {"destination": JEJU, "transport": word(Word("비행기", "plane")), "time": time(11, 45, "오전")},
        "제주로 가는 비행기는 오전 11시 45분에 출발해요.",
        "The plane to Jeju leaves at 11:45 a.m.",
        ["제주 LOC", "오전 11시 45분 TIM"],
    ),
    (
        "{destination} 여행에 {sum}(이/가) 들었어요.",
        {"destination": JEJU, "sum": money(1_500_000, "mixed")},
        "제주 여행에 150만 원이 들었어요.",
        "The trip to Jeju cost 1,500,000 won.",
        ["제주 LOC", "150만 원 MNY"],
    ),
    (
        "{shipment}(은/는) {date}까지 도착해요.",
        {"shipment": word(Word("소포", "parcel")), "date": date(1, 3, 2027)},
        "소포는 2027년 1월 3일까지 도착해요.",
        "The parcel will arrive by January 3, 2027.",
        ["2027년 1월 3일 DAT"],
    ),
    (
        "{parcels}(을/를) {destination}(으로/로) 보냈어요.",
        {"parcels": count("편지", "letter", "통", 1, True), "destination": SEOUL},
        "편지 한 통을 서울로 보냈어요.",
        "I sent a letter to Seoul.",
        ["한 통 QTY", "서울 LOC"],
    ),
    (
        "{past}(에) 보낸 {shipment}(이/가) {city}에 도착했어요.",
        {"past": relative_day("그저께"), "shipment": word(Word("꽃다발", "bouquet")), "city": BUSAN},
        "그저께 보낸 꽃다발이 부산에 도착했어요.",
        "The bouquet sent the day before yesterday arrived in Busan.",
        ["그저께 DAT", "부산 LOC"],
    ),
    (
        "{person} 씨에게 {flowers}(을/를) 배달해 주세요.",
        {"person": person(MINSU), "flowers": count("장미", "rose", "송이", 20, True)},
        "민수 씨에게 장미 스무 송이를 배달해 주세요.",
        "Please deliver 20 roses to Minsu.",
        ["민수 PER", "스무 송이 QTY"],
    ),
    (
        "{subject} 시험에서 {points}(을/를) 받았어요.",
        {"subject": MATH, "points": count("", "point", "점", 85, True)},
        "수학 시험에서 팔십오 점을 받았어요.",
        "I got 85 points on the math test.",
        ["팔십오 점 QTY"],
    ),
    (
        "{person} 씨는 도서관에서 {books}(을/를) 빌렸어요.",
        {"person": person(MINSU), "books": count("사전", "dictionary", "권", 2, True)},
        "민수 씨는 도서관에서 사전 두 권을 빌렸어요.",
        "Minsu borrowed two dictionaries from the library.",
        ["민수 PER", "두 권 QTY"],
    ),
    (
        "운동장 옆에 {trees}(을/를) 심었어요.",
        {"trees": count("소나무", "pine tree", "그루", 11, True)},
        "운동장 옆에 소나무 열한 그루를 심었어요.",
        "We planted 11 pine trees next to the playground.",
        ["열한 그루 QTY"],
    ),
    (
        "{drinks}(과/와) {cakes}(을/를) 주문했어요.",
        {
            "drinks": count("커피", "cup of coffee", "잔", 2, True),
            "cakes": count("케이크", "piece of cake", "조각", 1, True),
        },
        "커피 두 잔과 케이크 한 조각을 주문했어요.",
        "I ordered two cups of coffee and a piece of cake.",
        ["두 잔 QTY", "한 조각 QTY"],
    ),
    (
        "{drinks} 주세요.",
        {"drinks": count("커피", "cup of coffee", "잔", 1)},
        "커피 1잔 주세요.",
        "I would like a cup of coffee.",
        ["1잔 QTY"],
    ),
    (
        "{date} {time}에 {clinic} 진료가 있어요.",
        {"date": relative_day("오늘"), "time": time(4, 0, "오후"), "clinic": EYE_CLINIC},
        "오늘 오후 4시에 안과 진료가 있어요.",
        "I have an appointment at the eye clinic at 4 p.m. today.",
        ["오늘 DAT", "오후 4시 TIM"],
    ),
    (
        "이 약을 {days} 동안 하루에 {times}, {pills}씩 드세요.",
        {"days": days(5), "times": times(3, spelled=True), "pills": count("", "pill", "알", 2, True)},
        "이 약을 5일 동안 하루에 세 번, 두 알씩 드세요.",
        "Take two pills three times a day for five days.",
        ["5일 QTY", "세 번 QTY", "두 알 QTY"],
    ),
    (
        "환자 {person} 씨는 {age}(이에요/예요).",
        {"person": person(JIHUN), "age": age(20, spelled=True)},
        "환자 지훈 씨는 스무 살이에요.",
        "The patient Jihoon is 20 years old.",
        ["지훈 PER", "스무 살 QTY"],
    ),
    (
        "{time}에 동물 병원에 {pets}(이/가) 왔어요.",
        {"time": time(1), "pets": count("강아지", "puppy", "마리", 2, True)},
        "1시에 동물 병원에 강아지 두 마리가 왔어요.",
        "Two puppies came to the animal hospital at 1 o'clock.",
        ["1시 TIM", "두 마리 QTY"],
    ),
    (
        "{person} 씨에게 {past}(에) {sum}(을/를) 송금했어요.",
        {"person": person(MINSU), "past": weekday(4, "지난주"), "sum": money(500_000, "spelled")},
        "민수 씨에게 지난주 금요일에 오십만 원을 송금했어요.",
        "I transferred 500,000 won to Minsu last Friday.",
        ["민수 PER", "지난주 금요일 DAT", "오십만 원 MNY"],
    ),
    (
        "매달 {sum}(을/를) {months} 동안 저축했어요.",
        {"sum": money(300_000), "months": count("", "month", "개월", 6, True)},
        "매달 300,000원을 육 개월 동안 저축했어요.",
        "I saved 300,000 won a month for six months.",
        ["300,000원 MNY", "육 개월 QTY"],
    ),
    (
        "{sport} 경기에 {spectators}(이/가) 모였어요.",
        {"sport": SOCCER, "spectators": count("관중", "spectator", "명", 3_500, True)},
        "축구 경기에 관중 삼천오백 명이 모였어요.",
        "There were 3,500 spectators at the soccer game.",
        ["삼천오백 명 QTY"],
    ),
    (
        "{sport} 경기 {tickets}(을/를) {money}에 샀어요.",
        {"sport": SOCCER, "tickets": count("표", "ticket", "장", 4, True), "money": money(100_000, "spelled")},
        "축구 경기 표 네 장을 십만 원에 샀어요.",
        "I bought four tickets to the soccer game for 100,000 won.",
        ["네 장 QTY", "십만 원 MNY"],
    ),
]


@pytest.fixture(scope="module")
def sentences():
    rng = Random(0)
    return [draw(rng) for _ in range(20_000)]


@pytest.mark.parametrize(
    ("pattern", "slots", "ko", "en", "entities"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_sentences_by_hand(pattern, slots, ko, en, entities):
    sentence = render(TEMPLATE[pattern], slots)
    assert (sentence.ko, sentence.en) == (ko, en)
    assert [f"{ko[start:end]} {label}" for start, end, label in sentence.entities] == entities


@pytest.mark.slow
def test_one_korean_text_has_one_english_text(sentences):
    english = {}
    for sentence in sentences:
        assert english.setdefault(sentence.ko, sentence.en) == sentence.en
    assert len(english) > 15_000


@pytest.mark.parametrize("kind", KINDS)
def test_one_surface_of_a_kind_has_one_english(kind):
    rng, english = Random(kind), {}
    for _ in range(2_000):
        phrase = KINDS[kind](rng)
        rendering = (phrase.en, phrase.adverb_en, phrase.adverb_particle)
        assert english.setdefault(phrase.ko, rendering) == rendering


def test_templates_differ_in_their_fixed_words():
    """So that no two templates make the same sentence, and the topic can be told from the text."""
    fixed = [re.sub(r"\{\w+\}(\(\S+?\))?", "_", template.ko) for template in TEMPLATES]
    assert len(set(fixed)) == len(fixed)


def test_spans_are_the_surfaces_without_particles(sentences):
    counters = "|".join(COUNTERS)
    surfaces = {
        "DAT": r"(.*년 )?\S+월 \S+일|((이번|다음) 주 |지난주 )?[월화수목금토일]요일|오늘|내일|모레|어제|그저께",
        "TIM": r"(\S+ )?(\d+시|[가-힣]+ 시)( \d+분| [가-힣]+ 분| 반)?|정오|자정",
        "MNY": r"([\d,]+|.*[가-힣\d] ?)원",
        "QTY": rf"[\d,]+({counters}|%)|[가-힣 ]+ ({counters})|하루|이틀|사흘|나흘|열흘",
        "PER": r"[가-힣]{2,3}",
        "LOC": r"[가-힣]{2,6}",
    }
    for sentence in sentences:
        ends = 0
        for start, end, label in sentence.entities:
            assert ends <= start < end <= len(sentence.ko)
            assert re.fullmatch(surfaces[label], sentence.ko[start:end]), sentence
            ends = end
        covered = [end for _, end, _ in sentence.entities]
        for digits in re.finditer(r"\d+", sentence.ko):
            assert any(start <= digits.start() < end for start, end, _ in sentence.entities), sentence
        assert covered, "every sentence has an expression"


def test_particles_fit_what_precedes_them(sentences):
    after_consonant = {"은", "이", "을", "과", "이에요", "이라는"}
    after_vowel = {"는", "가", "를", "와", "라는"}
    seen = set()
    for sentence in sentences:
        for _, end, _ in sentence.entities:
            following = re.match(r"[가-힣]*", sentence.ko[end:])[0]
            # Decomposed, a syllable with a final consonant ends in one of U+11A8 to U+11C2; ㄹ is U+11AF.
            last = unicodedata.normalize("NFD", sentence.ko[end - 1])[-1]
            if following in after_consonant | after_vowel:
                assert (following in after_consonant) == ("\u11a8" <= last <= "\u11c2"), sentence.ko
            elif following in ("으로", "로"):
                assert (following == "으로") == ("\u11a8" <= last <= "\u11c2" and last != "\u11af"), sentence.ko
            else:
                assert following in ("", "에", "에서", "부터", "까지", "씩"), sentence.ko
            seen.add(following)
    assert (after_consonant | after_vowel | {"으로", "로"}) - seen == {"은", "는"}, "these follow no entity"


def test_the_english_is_well_formed(sentences):
    for sentence in sentences:
        english = sentence.en
        assert english[0].isupper(), english
        assert english.endswith(".")
        assert ".." not in english
        assert len(english.split()) <= 17
        assert re.fullmatch(r"[A-Za-z0-9 ,.:'%-]+", english)
        assert "  " not in english
        assert not re.search(r"\ba (?:[aeio]|u[mn]b|hour)|\ban [^aeiouh]|\ban h(?!our)", english), english
        assert not re.search(r"\b(one|1) [a-z]+s\b", english), english


def test_two_slots_of_a_kind_differ():
    pattern = TEMPLATE["{city}에서 {city2}까지 {hours} 걸려요."]
    rng = Random(1)
    drawn = [sentence for sentence in (draw(rng) for _ in range(10_000)) if sentence.ko.endswith("시간 걸려요.")]
    assert drawn
    assert pattern.slots == {"city": "city", "city2": "city", "hours": "hours"}
    for sentence in drawn:
        (start, end, _), (start2, end2, _), _ = sentence.entities
        assert sentence.ko[start:end] != sentence.ko[start2:end2]


def test_clauses_are_joined_in_both_languages():
    first = render(TEMPLATE["{drinks} 주세요."], {"drinks": count("커피", "cup of coffee", "잔", 2, True)})
    assert first.entities == ((3, 6, "QTY"),)
    rng = Random(2)
    for most in range(1, 13):
        sentence = draw(rng, (most, most))
        assert sentence.ko.count("요.") == sentence.ko.count("그리고") + 1 == most
        assert sentence.en.count(" And ") == most - 1
        for start, end, _ in sentence.entities:
            assert sentence.ko[start:end].strip() == sentence.ko[start:end]


def test_joining_moves_the_entities_and_lowers_the_first_letter():
    drinks = {"drinks": count("커피", "cup of coffee", "잔", 2, True)}
    opening = {"opening": time(8, 0, "오전")}
    rendered = render(TEMPLATE["카페는 {opening}에 문을 열어요."], opening)
    assert rendered.en == "The cafe opens at 8 a.m."
    joined = join([render(TEMPLATE["{drinks} 주세요."], drinks)] * 2)
    assert joined.ko == "커피 두 잔 주세요. 그리고 커피 두 잔 주세요."
    assert joined.entities == ((3, 6, "QTY"), (19, 22, "QTY"))


def test_facts_say_where_each_slot_is():
    rng = Random(7)
    for _ in range(500):
        sentence = draw(rng, (1, 4))
        assert tuple(span for fact in sentence.facts for span in fact.entities) == sentence.entities
        for fact in sentence.facts:
            for slot, (start, end, label) in fact.spans().items():
                ((inner_start, inner_end, inner_label),) = fact.slots[slot].entities
                assert sentence.ko[start:end] == fact.slots[slot].ko[inner_start:inner_end]
                assert label == inner_label


def test_patterns_are_filled_with_parts_of_phrases():
    slots = {"drinks": count("커피", "cup of coffee", "잔", 2, True), "date": relative_day("내일"), "city": SEOUL}
    assert fill("{drinks:head}(을/를) 몇 {drinks:counter}?", slots) == "커피를 몇 잔?"
    assert fill("{date}(에) {city}(으로/로)", slots) == "내일 서울로"
    assert fill("{drinks}(은/는) {city}", slots, "digits") == "커피 2잔은 서울"


def test_all_templates_and_topics_are_drawn_equally(sentences):
    drawn = {topic: sum(sentence.topic == topic for sentence in sentences) for topic in TOPICS}
    assert all(abs(number / len(sentences) - 1 / len(TOPICS)) < 0.01 for number in drawn.values()), drawn


@pytest.mark.parametrize(
    ("ko", "en", "message"),
    [
        ("{city}에 가요.", "I go to {place}.", "differ"),
        ("{planet}에 가요.", "I go to {planet}.", "unknown kinds.*planet"),
    ],
)
def test_a_wrong_template_is_refused(ko, en, message):
    with pytest.raises(ValueError, match=message):
        Template("travel", ko, en)


def test_a_missing_slot_is_refused():
    with pytest.raises(ValueError, match=r"needs the slots \['money'\], not \[\]"):
        render(TEMPLATE["배송비는 {money}(이에요/예요)."], {})
