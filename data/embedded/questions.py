"""Questions about a text: each asks for one entity and singles it out by what else its clause says.

A question is written for an entity's slot in a template (`QUESTIONS`), and names some of the clause's other phrases:
강남역에서 누구를 만나요? A text may answer one question twice (two people to meet there), or nearly answer it (a question
about 한지훈 where the text has 지훈). `Question.clashes` finds both, so that such a question is never asked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from . import vocabulary
from .expressions import MIDNIGHT, NOON, Phrase, Span
from .grammar import Fact, Sentence, draw_fact, fill
from .vocabulary import Noun, Word

NO_ANSWER_SHARE = 0.1
"""How often a question is asked that the text does not answer."""

QUESTIONS: dict[str, dict[str, str]] = {
    # meeting
    "{event}(은/는) {date} {time}에 시작해요.": {
        "date": "{event} 날짜는 언제예요?",
        "time": "{event}(은/는) 몇 시에 시작해요?",
    },
    "{date}(에) {place}에서 {person} 씨를 만나요.": {
        "date": "{person} 씨를 만나는 날은 언제예요?",
        "place": "{person} 씨를 어디에서 만나요?",
        "person": "{place}에서 누구를 만나요?",
    },
    "{time}에 {person} 씨와 약속이 있어요.": {
        "time": "{person} 씨와 몇 시에 약속이 있어요?",
        "person": "{time}에 누구와 약속이 있어요?",
    },
    "{event}에 {people}(이/가) 참석했어요.": {"people": "{event}에 몇 명이 참석했어요?"},
    "{time}에 시작한 {event}(은/는) {hours} 걸렸어요.": {
        "time": "{hours} 걸린 {event}(은/는) 몇 시에 시작했어요?",
        "hours": "{event}(은/는) 몇 시간 걸렸어요?",
    },
    "{person} 씨가 {event} 시간을 {time}(으로/로) 바꿨어요.": {
        "person": "{event} 시간을 바꾼 사람은 누구예요?",
        "time": "{person} 씨가 {event} 시간을 몇 시로 바꿨어요?",
    },
    # reservation
    "{date} {time}에 {guests} 자리를 예약해 주세요.": {
        "date": "{guests} 자리를 어느 날로 예약해 달라고 했어요?",
        "time": "{guests} 자리를 몇 시로 예약해 달라고 했어요?",
        "guests": "몇 명 자리를 예약해 달라고 했어요?",
    },
    "{date}부터 {days} 동안 호텔을 예약했어요.": {
        "date": "호텔을 언제부터 예약했어요?",
        "days": "호텔을 며칠 동안 예약했어요?",
    },
    "{person}(이라는/라는) 이름으로 {time}에 예약했어요.": {
        "person": "{time} 예약은 누구 이름으로 했어요?",
        "time": "{person}(이라는/라는) 이름으로 몇 시에 예약했어요?",
    },
    "{date} 예약을 {date2}(으로/로) 바꿔 주세요.": {
        "date": "{date2}(으로/로) 바꿔 달라고 한 예약은 원래 언제였어요?",
        "date2": "{date} 예약을 언제로 바꿔 달라고 했어요?",
    },
    "예약금은 {money}(이에요/예요).": {"money": "예약금은 얼마예요?"},
    # shopping
    "{shop}에서 {groceries}(을/를) 샀어요.": {
        "groceries": "{shop}에서 {groceries:head}(을/를) 몇 {groceries:counter} 샀어요?",
    },
    "{groceries}에 {money}(이에요/예요).": {
        "groceries": "{groceries:head} 몇 {groceries:counter}에 {money}(이에요/예요)?",
        "money": "{groceries}에 얼마예요?",
    },
    "{groceries}(과/와) {groceries2}(을/를) 주세요.": {
        "groceries": "{groceries:head}(을/를) 몇 {groceries:counter} 달라고 했어요?",
        "groceries2": "{groceries2:head}(을/를) 몇 {groceries2:counter} 달라고 했어요?",
    },
    "{clothes}(을/를) {money}에 샀어요.": {
        "clothes": "{money}에 산 {clothes:head}(은/는) 몇 {clothes:counter}(이에요/예요)?",
        "money": "{clothes}(을/를) 얼마에 샀어요?",
    },
    "{garment}(은/는) {percent} 할인해서 {price}(이에요/예요).": {
        "percent": "{garment}(은/는) 몇 퍼센트 할인해요?",
        "price": "{garment}(은/는) 할인해서 얼마예요?",
    },
    "{person} 씨는 {past}(에) {shop}에서 {money}(을/를) 썼어요.": {
        "person": "{shop}에서 {money}(을/를) 쓴 사람은 누구예요?",
        "past": "{person} 씨는 언제 {shop}에서 돈을 썼어요?",
        "money": "{person} 씨는 {shop}에서 얼마를 썼어요?",
    },
    # travel
    "{date}(에) {destination}(으로/로) 떠나요.": {
        "date": "{destination}(으로/로) 떠나는 날은 언제예요?",
        "destination": "{date}(에) 어디로 떠나요?",
    },
    "{city}에서 {city2}까지 {hours} 걸려요.": {
        "city": "어디에서 {city2}까지 {hours} 걸려요?",
        "city2": "{city}에서 어디까지 {hours} 걸려요?",
        "hours": "{city}에서 {city2}까지 몇 시간 걸려요?",
    },
    "{destination}(으로/로) 가는 {transport}(은/는) {time}에 출발해요.": {
        "destination": "{time}에 출발하는 {transport}(은/는) 어디로 가요?",
        "time": "{destination}(으로/로) 가는 {transport}(은/는) 몇 시에 출발해요?",
    },
    "{person} 씨는 {destination}에서 {days} 동안 여행했어요.": {
        "person": "{destination}에서 {days} 동안 여행한 사람은 누구예요?",
        "destination": "{person} 씨는 어디에서 여행했어요?",
        "days": "{person} 씨는 {destination}에서 며칠 동안 여행했어요?",
    },
    "{city}에서 {rentals}(을/를) 빌렸어요.": {
        "city": "{rentals}(을/를) 어디에서 빌렸어요?",
        "rentals": "{city}에서 {rentals:head}(을/를) 몇 {rentals:counter} 빌렸어요?",
    },
    "{destination} 여행에 {sum}(이/가) 들었어요.": {
        "destination": "어디 여행에 {sum}(이/가) 들었어요?",
        "sum": "{destination} 여행에 얼마가 들었어요?",
    },
    # delivery
    "{shipment}(은/는) {date}까지 도착해요.": {"date": "{shipment}(은/는) 언제까지 도착해요?"},
    "{parcels}(을/를) {destination}(으로/로) 보냈어요.": {
        "parcels": "{destination}(으로/로) {parcels:head}(을/를) 몇 {parcels:counter} 보냈어요?",
        "destination": "{parcels}(을/를) 어디로 보냈어요?",
    },
    "{past}(에) 보낸 {shipment}(이/가) {city}에 도착했어요.": {
        "past": "{city}에 도착한 {shipment}(은/는) 언제 보냈어요?",
        "city": "{past}(에) 보낸 {shipment}(은/는) 어디에 도착했어요?",
    },
    "{person} 씨에게 {flowers}(을/를) 배달해 주세요.": {
        "person": "{flowers}(을/를) 누구에게 배달해 달라고 했어요?",
        "flowers": "{person} 씨에게 {flowers:head}(을/를) 몇 {flowers:counter} 배달해 달라고 했어요?",
    },
    "배송비는 {money}(이에요/예요).": {"money": "배송비는 얼마예요?"},
    "{place}까지 배달은 {minutes} 걸려요.": {
        "place": "배달이 {minutes} 걸리는 곳은 어디예요?",
        "minutes": "{place}까지 배달은 몇 분 걸려요?",
    },
    # school
    "{subject} 시험은 {date} {time}에 있어요.": {
        "date": "{subject} 시험 날짜는 언제예요?",
        "time": "{subject} 시험은 몇 시에 있어요?",
    },
    "{subject} 시험에서 {points}(을/를) 받았어요.": {"points": "{subject} 시험에서 몇 점을 받았어요?"},
    "{subject} 숙제를 {date}까지 내야 해요.": {"date": "{subject} 숙제를 언제까지 내야 해요?"},
    "{person} 씨는 {subject}(을/를) {hours} 동안 공부했어요.": {
        "person": "{subject}(을/를) {hours} 동안 공부한 사람은 누구예요?",
        "hours": "{person} 씨는 {subject}(을/를) 몇 시간 동안 공부했어요?",
    },
    "{person} 씨는 도서관에서 {books}(을/를) 빌렸어요.": {
        "person": "도서관에서 {books}(을/를) 빌린 사람은 누구예요?",
        "books": "{person} 씨는 도서관에서 {books:head}(을/를) 몇 {books:counter} 빌렸어요?",
    },
    "{subject} 수업을 {students}(이/가) 들어요.": {"students": "{subject} 수업을 듣는 학생은 몇 명이에요?"},
    "필통에 {stationery}(을/를) 넣었어요.": {
        "stationery": "필통에 {stationery:head}(을/를) 몇 {stationery:counter} 넣었어요?",
    },
    "운동장 옆에 {trees}(을/를) 심었어요.": {
        "trees": "운동장 옆에 {trees:head}(을/를) 몇 {trees:counter} 심었어요?",
    },
    # cafe
    "{drinks} 주세요.": {"drinks": "{drinks:head}(을/를) 몇 {drinks:counter} 달라고 했어요?"},
    "{drinks}(과/와) {cakes}(을/를) 주문했어요.": {
        "drinks": "{drinks:head}(을/를) 몇 {drinks:counter} 주문했어요?",
        "cakes": "{cakes:head}(을/를) 몇 {cakes:counter} 주문했어요?",
    },
    "{cakes} 값은 {price}(이에요/예요).": {
        "cakes": "{cakes:head} 몇 {cakes:counter} 값이 {price}(이에요/예요)?",
        "price": "{cakes} 값은 얼마예요?",
    },
    "카페는 {opening}에 문을 열어요.": {"opening": "카페는 몇 시에 문을 열어요?"},
    "{person} 씨와 {place} 근처 카페에 갔어요.": {
        "person": "{place} 근처 카페에 누구와 갔어요?",
        "place": "{person} 씨와 어디 근처 카페에 갔어요?",
    },
    "점심에 {dishes}(을/를) 먹고 {drinks}(을/를) 마셨어요.": {
        "dishes": "점심에 {dishes:head}(을/를) 몇 {dishes:counter} 먹었어요?",
        "drinks": "점심에 {drinks:head}(을/를) 몇 {drinks:counter} 마셨어요?",
    },
    # hospital
    "{date} {time}에 {clinic} 진료가 있어요.": {
        "date": "{clinic} 진료 날짜는 언제예요?",
        "time": "{clinic} 진료는 몇 시에 있어요?",
    },
    "이 약을 {days} 동안 하루에 {times}, {pills}씩 드세요.": {
        "days": "약을 며칠 동안 먹어야 해요?",
        "times": "약을 하루에 몇 번 먹어야 해요?",
        "pills": "약을 한 번에 몇 알씩 먹어야 해요?",
    },
    "{clinic}에서 {minutes} 동안 기다렸어요.": {"minutes": "{clinic}에서 몇 분 동안 기다렸어요?"},
    "진료비는 {money}(이에요/예요).": {"money": "진료비는 얼마예요?"},
    "환자 {person} 씨는 {age}(이에요/예요).": {
        "person": "{age}인 환자는 누구예요?",
        "age": "환자 {person} 씨는 몇 살이에요?",
    },
    "{person} 씨는 {past}(에) {city}에 있는 병원에 입원했어요.": {
        "person": "{city}에 있는 병원에 입원한 사람은 누구예요?",
        "past": "{person} 씨는 언제 입원했어요?",
        "city": "{person} 씨가 입원한 병원은 어디에 있어요?",
    },
    "{time}에 동물 병원에 {pets}(이/가) 왔어요.": {
        "time": "{pets}(이/가) 동물 병원에 몇 시에 왔어요?",
        "pets": "{time}에 동물 병원에 온 {pets:head}(은/는) 몇 {pets:counter}(이에요/예요)?",
    },
    # bank
    "통장에 {sum}(을/를) 넣었어요.": {"sum": "통장에 얼마를 넣었어요?"},
    "{person} 씨에게 {past}(에) {sum}(을/를) 송금했어요.": {
        "person": "{sum}(을/를) 누구에게 송금했어요?",
        "past": "{person} 씨에게 언제 송금했어요?",
        "sum": "{person} 씨에게 얼마를 송금했어요?",
    },
    "대출금 {sum}(을/를) {date}까지 갚아야 해요.": {
        "sum": "{date}까지 갚아야 하는 대출금은 얼마예요?",
        "date": "대출금을 언제까지 갚아야 해요?",
    },
    "매달 {sum}(을/를) {months} 동안 저축했어요.": {
        "sum": "매달 얼마를 저축했어요?",
        "months": "매달 {sum}(을/를) 몇 개월 동안 저축했어요?",
    },
    "{past}(에) {bill} 요금 {money}(을/를) 냈어요.": {
        "past": "{bill} 요금을 언제 냈어요?",
        "money": "{bill} 요금으로 얼마를 냈어요?",
    },
    "은행은 {closing}에 문을 닫아요.": {"closing": "은행은 몇 시에 문을 닫아요?"},
    # sports
    "{sport} 경기는 {date} {time}에 시작해요.": {
        "date": "{sport} 경기 날짜는 언제예요?",
        "time": "{sport} 경기는 몇 시에 시작해요?",
    },
    "{person} 씨는 자전거로 {distance}(을/를) {hours} 만에 달렸어요.": {
        "person": "자전거로 {distance}(을/를) {hours} 만에 달린 사람은 누구예요?",
        "distance": "{person} 씨는 자전거로 몇 킬로미터를 달렸어요?",
        "hours": "{person} 씨는 자전거로 {distance}(을/를) 몇 시간 만에 달렸어요?",
    },
    "{person} 씨가 {goals}(을/를) 넣었어요.": {
        "person": "{goals}(을/를) 넣은 사람은 누구예요?",
        "goals": "{person} 씨는 몇 골을 넣었어요?",
    },
    "{person} 씨는 운동장을 {laps} 돌았어요.": {
        "person": "운동장을 {laps} 돈 사람은 누구예요?",
        "laps": "{person} 씨는 운동장을 몇 바퀴 돌았어요?",
    },
    "{sport} 경기에 {spectators}(이/가) 모였어요.": {"spectators": "{sport} 경기에 모인 관중은 몇 명이에요?"},
    "{sport} 경기 {tickets}(을/를) {money}에 샀어요.": {
        "tickets": "{sport} 경기 표를 몇 장 샀어요?",
        "money": "{sport} 경기 {tickets}(을/를) 얼마에 샀어요?",
    },
    "{city}에서 {sport} 연습을 {hours} 했어요.": {
        "city": "{sport} 연습을 어디에서 했어요?",
        "hours": "{city}에서 {sport} 연습을 몇 시간 했어요?",
    },
}
"""For each template, the question for each of its entities; `{drinks:head}` and `{drinks:counter}` are 커피 and 잔."""

# Questions of different templates that ask for the same thing, or that a hasty reader could take for it: when a meeting
# begins, how many cups of coffee there are.
_SENSES = {
    "{hours} 걸린 {event}(은/는) 몇 시에 시작했어요?": "{event}(은/는) 몇 시에 시작해요?",
    "{person} 씨가 {event} 시간을 몇 시로 바꿨어요?": "{event}(은/는) 몇 시에 시작해요?",
    "{drinks:head}(을/를) 몇 {drinks:counter} 주문했어요?": "{drinks:head}(을/를) 몇 {drinks:counter} 달라고 했어요?",
    "점심에 {drinks:head}(을/를) 몇 {drinks:counter} 마셨어요?": "{drinks:head}(을/를) 몇 {drinks:counter} 달라고 했어요?",
    "{cakes:head} 몇 {cakes:counter} 값이 {price}(이에요/예요)?": "{cakes:head}(을/를) 몇 {cakes:counter} 주문했어요?",
}


def _names(words: Sequence[Word | Noun]) -> frozenset[str]:
    return frozenset(word.ko for word in words)


# What a word can also be called: who asks about books may mean novels.
_COVERED = {
    "행사": _names(vocabulary.EVENTS),
    "책": _names(vocabulary.BOOKS),
    "나무": _names(vocabulary.TREES),
    "택배": frozenset({"소포"}),
    "과학": frozenset({"물리", "화학"}),
}


@dataclass(frozen=True)
class Question:
    """A question that a fact answers, for the entity in one of its slots."""

    fact: Fact
    slot: str

    @property
    def ko(self) -> str:
        return fill(QUESTIONS[self.fact.template.ko][self.slot], self.fact.slots)

    @property
    def answer(self) -> Span:
        """The span of the answer in the fact's text."""
        return self.fact.spans()[self.slot]

    def meaning(self) -> tuple[str, list[str]]:
        """What is asked for, whatever the words, and what it is asked about, each such that it is equal for phrases that
        may refer to the same."""
        sense, named = _sense(QUESTIONS[self.fact.template.ko][self.slot])
        kinds, phrases = self.fact.template.slots, self.fact.slots
        return sense, [each for name, part in named for each in _identity(kinds[name], phrases[name], part)]

    def clashes(self, other: "Question") -> bool:
        """Whether the answer to one could be taken for an answer to the other."""
        sense, about = self.meaning()
        other_sense, other_about = other.meaning()
        return sense == other_sense and all(map(_alike, about, other_about))


def questions_about(fact: Fact) -> list[Question]:
    """All questions that the fact answers."""
    return [Question(fact, slot) for slot in QUESTIONS[fact.template.ko]]


def ask(sentence: Sentence, rng: Random) -> tuple[str, Span | None]:
    """A random question about the text, and the span of its answer.

    One question in ten (`NO_ANSWER_SHARE`), and any where all that the text answers are ambiguous, has no answer.
    """
    answered = [question for fact in sentence.facts for question in questions_about(fact)]
    if rng.random() >= NO_ANSWER_SHARE:
        for question in rng.sample(answered, len(answered)):
            if sum(map(question.clashes, answered)) == 1:  # with itself
                return question.ko, question.answer
    while True:
        question = rng.choice(questions_about(draw_fact(rng, sentence.topic)))
        if not any(map(question.clashes, answered)):
            return question.ko, None


@cache
def _sense(pattern: str) -> tuple[str, list[tuple[str, str]]]:
    """The sense of a pattern, in which two slots of one kind are the same, and its slots and their parts."""
    sense = _SENSES.get(pattern, pattern)
    return re.sub(r"\d+(?=[:}])", "", sense), re.findall(r"\{(\w+):?(\w*)\}", sense)


def _identity(kind: str, phrase: Phrase, part: str) -> tuple[str, ...]:
    """What a phrase refers to, as far as the loosest way of referring to the same tells it."""
    if part == "counter":
        return ()
    if part == "head":
        return (phrase.head,)
    if kind == "person":
        return (phrase.head[-2:],)  # the given name: 한지훈 may be called 지훈
    if kind in ("date", "past"):
        return (re.sub(r"^(this|next|last) |, \d+$", "", phrase.en),)
    if kind in ("time", "opening", "closing"):
        return ("12" if phrase in (NOON, MIDNIGHT) else phrase.en.split()[0],)
    if phrase.counter:
        return (phrase.head, phrase.digits.removeprefix(phrase.head))
    return (phrase.head or phrase.en,)


def _alike(name: str, other: str) -> bool:
    return name == other or other in _COVERED.get(name, ()) or name in _COVERED.get(other, ())
