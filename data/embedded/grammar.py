"""The sentences: templates that pair Korean with English, and the rendering of a template with its slots filled.

In a template `{kind}` is a slot, filled by a phrase of that kind (`expressions.KINDS`); a digit tells two slots of one
kind apart ({city}, {city2}). After a slot, `(은/는)` is the form of the particle that fits the phrase, and `(에)` is the
particle of time, which tomorrow and its like go without. `{date:on}` is the date as an English adverb (on March 15,
tomorrow). The English is written as it stands after "And"; rendering capitalises it where it begins the sentence.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from .expressions import KINDS, Phrase, Span
from .particles import particle

TEMPLATES_BY_TOPIC: dict[str, tuple[tuple[str, str], ...]] = {
    "meeting": (
        ("{event}(은/는) {date} {time}에 시작해요.", "the {event} starts at {time} {date:on}."),
        ("{date}(에) {place}에서 {person} 씨를 만나요.", "I am meeting {person} at {place} {date:on}."),
        ("{time}에 {person} 씨와 약속이 있어요.", "I have an appointment with {person} at {time}."),
        ("{event}에 {people}(이/가) 참석했어요.", "there were {people} at the {event}."),
        ("{time}에 시작한 {event}(은/는) {hours} 걸렸어요.", "the {event} that started at {time} took {hours}."),
        ("{person} 씨가 {event} 시간을 {time}(으로/로) 바꿨어요.", "{person} moved the {event} to {time}."),
    ),
    "reservation": (
        ("{date} {time}에 {guests} 자리를 예약해 주세요.", "please reserve a table for {guests} at {time} {date:on}."),
        ("{date}부터 {days} 동안 호텔을 예약했어요.", "I booked a hotel for {days} from {date}."),
        (
            "{person}(이라는/라는) 이름으로 {time}에 예약했어요.",
            "I made a reservation under the name {person} for {time}.",
        ),
        ("{date} 예약을 {date2}(으로/로) 바꿔 주세요.", "please change my reservation from {date} to {date2}."),
        ("예약금은 {money}(이에요/예요).", "the deposit is {money}."),
    ),
    "shopping": (
        ("{shop}에서 {groceries}(을/를) 샀어요.", "I bought {groceries} at the {shop}."),
        ("{groceries}에 {money}(이에요/예요).", "it is {money} for {groceries}."),
        ("{groceries}(과/와) {groceries2}(을/를) 주세요.", "please give me {groceries} and {groceries2}."),
        ("{clothes}(을/를) {money}에 샀어요.", "I bought {clothes} for {money}."),
        (
            "{garment}(은/는) {percent} 할인해서 {price}(이에요/예요).",
            "the {garment} is {price} after a {percent} discount.",
        ),
        (
            "{person} 씨는 {past}(에) {shop}에서 {money}(을/를) 썼어요.",
            "{person} spent {money} at the {shop} {past:on}.",
        ),
    ),
    "travel": (
        ("{date}(에) {destination}(으로/로) 떠나요.", "I am leaving for {destination} {date:on}."),
        ("{city}에서 {city2}까지 {hours} 걸려요.", "it takes {hours} from {city} to {city2}."),
        (
            "{destination}(으로/로) 가는 {transport}(은/는) {time}에 출발해요.",
            "the {transport} to {destination} leaves at {time}.",
        ),
        ("{person} 씨는 {destination}에서 {days} 동안 여행했어요.", "{person} traveled in {destination} for {days}."),
        ("{city}에서 {rentals}(을/를) 빌렸어요.", "I rented {rentals} in {city}."),
        ("{destination} 여행에 {sum}(이/가) 들었어요.", "the trip to {destination} cost {sum}."),
    ),
    "delivery": (
        ("{shipment}(은/는) {date}까지 도착해요.", "the {shipment} will arrive by {date}."),
        ("{parcels}(을/를) {destination}(으로/로) 보냈어요.", "I sent {parcels} to {destination}."),
        ("{past}(에) 보낸 {shipment}(이/가) {city}에 도착했어요.", "the {shipment} sent {past:on} arrived in {city}."),
        ("{person} 씨에게 {flowers}(을/를) 배달해 주세요.", "please deliver {flowers} to {person}."),
        ("배송비는 {money}(이에요/예요).", "the delivery fee is {money}."),
        ("{place}까지 배달은 {minutes} 걸려요.", "the delivery to {place} takes {minutes}."),
    ),
    "school": (
        ("{subject} 시험은 {date} {time}에 있어요.", "the {subject} test is at {time} {date:on}."),
        ("{subject} 시험에서 {points}(을/를) 받았어요.", "I got {points} on the {subject} test."),
        ("{subject} 숙제를 {date}까지 내야 해요.", "I have to hand in the {subject} homework by {date}."),
        ("{person} 씨는 {subject}(을/를) {hours} 동안 공부했어요.", "{person} studied {subject} for {hours}."),
        ("{person} 씨는 도서관에서 {books}(을/를) 빌렸어요.", "{person} borrowed {books} from the library."),
        ("{subject} 수업을 {students}(이/가) 들어요.", "there are {students} in the {subject} class."),
        ("필통에 {stationery}(을/를) 넣었어요.", "I put {stationery} in my pencil case."),
        ("운동장 옆에 {trees}(을/를) 심었어요.", "we planted {trees} next to the playground."),
    ),
    "cafe": (
        ("{drinks} 주세요.", "I would like {drinks}."),
        ("{drinks}(과/와) {cakes}(을/를) 주문했어요.", "I ordered {drinks} and {cakes}."),
        ("{cakes} 값은 {price}(이에요/예요).", "the price of {cakes} is {price}."),
        ("카페는 {opening}에 문을 열어요.", "the cafe opens at {opening}."),
        ("{person} 씨와 {place} 근처 카페에 갔어요.", "I went to a cafe near {place} with {person}."),
        ("점심에 {dishes}(을/를) 먹고 {drinks}(을/를) 마셨어요.", "I had {dishes} and {drinks} for lunch."),
    ),
    "hospital": (
        ("{date} {time}에 {clinic} 진료가 있어요.", "I have an appointment at the {clinic} at {time} {date:on}."),
        ("이 약을 {days} 동안 하루에 {times}, {pills}씩 드세요.", "take {pills} {times} a day for {days}."),
        ("{clinic}에서 {minutes} 동안 기다렸어요.", "I waited for {minutes} at the {clinic}."),
        ("진료비는 {money}(이에요/예요).", "the medical fee is {money}."),
        ("환자 {person} 씨는 {age}(이에요/예요).", "the patient {person} is {age}."),
        (
            "{person} 씨는 {past}(에) {city}에 있는 병원에 입원했어요.",
            "{person} was hospitalized in {city} {past:on}.",
        ),
        ("{time}에 동물 병원에 {pets}(이/가) 왔어요.", "{pets} came to the animal hospital at {time}."),
    ),
    "bank": (
        ("통장에 {sum}(을/를) 넣었어요.", "I deposited {sum} in my account."),
        ("{person} 씨에게 {past}(에) {sum}(을/를) 송금했어요.", "I transferred {sum} to {person} {past:on}."),
        ("대출금 {sum}(을/를) {date}까지 갚아야 해요.", "I have to pay back a loan of {sum} by {date}."),
        ("매달 {sum}(을/를) {months} 동안 저축했어요.", "I saved {sum} a month for {months}."),
        ("{past}(에) {bill} 요금 {money}(을/를) 냈어요.", "I paid the {bill} bill of {money} {past:on}."),
        ("은행은 {closing}에 문을 닫아요.", "the bank closes at {closing}."),
    ),
    "sports": (
        ("{sport} 경기는 {date} {time}에 시작해요.", "the {sport} game starts at {time} {date:on}."),
        ("{person} 씨는 자전거로 {distance}(을/를) {hours} 만에 달렸어요.", "{person} biked {distance} in {hours}."),
        ("{person} 씨가 {goals}(을/를) 넣었어요.", "{person} scored {goals}."),
        ("{person} 씨는 운동장을 {laps} 돌았어요.", "{person} ran {laps} around the track."),
        ("{sport} 경기에 {spectators}(이/가) 모였어요.", "there were {spectators} at the {sport} game."),
        ("{sport} 경기 {tickets}(을/를) {money}에 샀어요.", "I bought {tickets} to the {sport} game for {money}."),
        ("{city}에서 {sport} 연습을 {hours} 했어요.", "I practiced {sport} in {city} for {hours}."),
    ),
}

_KO_SLOT = re.compile(r"\{(\w+)\}(?:\(([^)]+)\))?")
_FILLED_SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}(?:\(([^)]+)\))?")
_EN_SLOT = re.compile(r"\{(\w+)(:on)?\}")
_KO_AND, _EN_AND = "그리고", "And"


@dataclass(frozen=True)
class Template:
    """A sentence with slots, in both languages, and the topic that it is about.

    Raises:
        ValueError: the two languages have different slots, or a slot is of no known kind.
    """

    topic: str
    ko: str
    en: str
    slots: dict[str, str] = field(init=False, compare=False)
    """The kind of each slot, in the order of the Korean."""

    def __post_init__(self) -> None:
        names = [match[1] for match in _KO_SLOT.finditer(self.ko)]
        if sorted(names) != sorted(match[1] for match in _EN_SLOT.finditer(self.en)):
            raise ValueError(f"the slots of {self.ko!r} and {self.en!r} differ")
        kinds = {name: name.rstrip("0123456789") for name in names}
        if unknown := set(kinds.values()) - KINDS.keys():
            raise ValueError(f"unknown kinds of slot in {self.ko!r}: {', '.join(sorted(unknown))}")
        object.__setattr__(self, "slots", kinds)


@dataclass(frozen=True)
class Fact:
    """What one clause of a text says: its template, the phrase in each slot, and its entities' spans in the text."""

    template: Template
    slots: Mapping[str, Phrase]
    entities: tuple[Span, ...]

    def spans(self) -> dict[str, Span]:
        """The span of each slot that is an entity."""
        names = [name for name in self.template.slots if self.slots[name].entities]
        return dict(zip(names, self.entities, strict=True))


@dataclass(frozen=True)
class Sentence:
    """A Korean text with its English, its topic, the character-exact spans of its entities, and what its clauses say."""

    ko: str
    en: str
    topic: str
    entities: tuple[Span, ...]
    facts: tuple[Fact, ...] = field(default=(), compare=False, repr=False)


TEMPLATES = tuple(Template(topic, ko, en) for topic, pairs in TEMPLATES_BY_TOPIC.items() for ko, en in pairs)
TOPICS = tuple(TEMPLATES_BY_TOPIC)
_TEMPLATES_OF = {topic: [each for each in TEMPLATES if each.topic == topic] for topic in TOPICS}


def render(template: Template, slots: Mapping[str, Phrase]) -> Sentence:
    """The sentence that the template makes of these phrases.

    Raises:
        ValueError: a slot is missing, or there are more phrases than slots.
    """
    return join([_render_clause(template, slots)])


def join(clauses: Sequence[Sentence]) -> Sentence:
    """One text of several clauses of the same topic: A. 그리고 B., A. And B."""
    ko = en = ""
    entities: list[Span] = []
    facts: list[Fact] = []
    for clause in clauses:
        if ko:
            ko, en = f"{ko} {_KO_AND} ", f"{en} {_EN_AND} "
        entities += _moved(clause.entities, len(ko))
        facts += [Fact(fact.template, fact.slots, _moved(fact.entities, len(ko))) for fact in clause.facts]
        ko, en = ko + clause.ko, en + clause.en
    return Sentence(ko, en[0].upper() + en[1:], clauses[0].topic, tuple(entities), tuple(facts))


def fill(pattern: str, slots: Mapping[str, Phrase], part: str = "ko") -> str:
    """A Korean pattern, written like a template's, with its slots filled by that part of the phrases.

    The part can be named in the pattern: {drinks:counter}.
    """

    def filled(match: re.Match) -> str:
        phrase, pair = slots[match[1]], match[3]
        written = getattr(phrase, match[2] or part)
        if pair == "에":
            return written + phrase.adverb_particle
        return written + particle(written, pair) if pair else written

    return _FILLED_SLOT.sub(filled, pattern)


def draw_fact(rng: Random, topic: str) -> Fact:
    """A random fact of the topic, outside any text."""
    template = rng.choice(_TEMPLATES_OF[topic])
    return Fact(template, _draw_slots(rng, template), ())


def draw(rng: Random, clauses: tuple[int, int] = (1, 1)) -> Sentence:
    """A random text of as many clauses as the range says, both ends included: topics and templates equally often."""
    templates = _TEMPLATES_OF[rng.choice(TOPICS)]
    count = rng.randint(*clauses)
    # A template comes back only after all others of its topic.
    chosen: list[Template] = []
    while len(chosen) < count:
        chosen += rng.sample(templates, min(len(templates), count - len(chosen)))
    return join([_render_clause(template, _draw_slots(rng, template)) for template in chosen])


def _moved(entities: Iterable[Span], by: int) -> tuple[Span, ...]:
    return tuple((by + start, by + end, label) for start, end, label in entities)


def _draw_slots(rng: Random, template: Template) -> dict[str, Phrase]:
    slots: dict[str, Phrase] = {}
    for name, kind in template.slots.items():
        phrase = KINDS[kind](rng)
        # Two slots of one kind never name the same thing: from Seoul to Seoul, apples and apples.
        while any(phrase.head == slots[other].head for other in slots if template.slots[other] == kind):
            phrase = KINDS[kind](rng)
        slots[name] = phrase
    return slots


def _render_clause(template: Template, slots: Mapping[str, Phrase]) -> Sentence:
    if slots.keys() != template.slots.keys():
        raise ValueError(f"{template.ko!r} needs the slots {list(template.slots)}, not {list(slots)}")
    ko, entities, copied = "", [], 0
    for match in _KO_SLOT.finditer(template.ko):
        phrase, pair = slots[match[1]], match[2]
        ko += template.ko[copied : match.start()]
        entities += [(len(ko) + start, len(ko) + end, label) for start, end, label in phrase.entities]
        ko += phrase.ko
        if pair == "에":
            ko += phrase.adverb_particle
        elif pair:
            ko += particle(phrase.ko, pair)
        copied = match.end()
    ko += template.ko[copied:]
    en = _EN_SLOT.sub(lambda match: slots[match[1]].adverb_en if match[2] else slots[match[1]].en, template.en)
    # An abbreviation's point also ends the sentence: at 2 p.m.
    fact = Fact(template, slots, tuple(entities))
    return Sentence(ko, en.replace("..", "."), template.topic, fact.entities, (fact,))
