"""Dates, times, amounts and quantities: each from its value and its written form to Korean and English.

Every expression can be written in digits (3월 15일, 35,000원, 사과 3개) or in words (삼월 십오일, 삼만 오천 원,
사과 세 개); the English depends on the value alone.
"""

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from . import vocabulary
from .english import MONTHS, WEEKDAYS, counted, numeral
from .numbers import native_modifier, sino
from .vocabulary import COUNTERS, NATIVE_DAYS, Noun, Word

Span = tuple[int, int, str]
"""Start, end and label of an entity: `text[start:end]` is its surface."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A piece of Korean with its English and the entities within the Korean.

    `adverb_en` is the English where the phrase says when (on March 15), and `adverb_particle` is what the Korean takes
    there: 3월 15일에, but 내일. `head` tells two phrases of one kind apart: the noun of a quantity, the day of a date.
    `counter` is what a quantity is counted in, and `digits` is the Korean with its numbers in digits, the same for
    every way of writing the value.
    """

    ko: str
    en: str
    entities: tuple[Span, ...] = ()
    adverb_particle: str = "에"
    adverb_en: str = ""
    head: str = ""
    counter: str = ""
    digits: str = ""


def word(word: Word, label: str | None = None) -> Phrase:
    """A vocabulary word, as an entity (PER, LOC) if a label is given."""
    return Phrase(word.ko, word.en, _whole(word.ko, label) if label else (), head=word.ko, digits=word.ko)


def person(given: Word, surname: Word | None = None) -> Phrase:
    """A person by given name or, in Korean order in both languages, by full name."""
    return word(Word(surname.ko + given.ko, f"{surname.en} {given.en}") if surname else given, "PER")


def date(month: int, day: int, year: int | None = None, *, spelled: bool = False) -> Phrase:
    """A calendar date: 3월 15일 or 삼월 십오일, March 15.

    Raises:
        ValueError: there is no such day.
    """
    datetime.date(2024 if year is None else year, month, day)
    ko = digits = f"{month}월 {day}일" if year is None else f"{year}년 {month}월 {day}일"
    if spelled:
        # 유월 and 시월 are the only irregular month names (한글 맞춤법 제52항).
        ko = f"{ {6: '유', 10: '시'}.get(month) or sino(month) }월 {sino(day)}일"
        ko = ko if year is None else f"{sino(year).replace(' ', '')}년 {ko}"
    en = f"{MONTHS[month - 1]} {day}" + ("" if year is None else f", {year}")
    return Phrase(ko, en, _whole(ko, "DAT"), adverb_en=f"on {en}", head=en, digits=digits)


def relative_day(ko: str) -> Phrase:
    """A day counted from today: 내일, tomorrow. These stand as adverbs without 에."""
    en = RELATIVE_DAYS[ko]
    return Phrase(ko, en, _whole(ko, "DAT"), adverb_particle="", adverb_en=en, head=en, digits=ko)


def weekday(day: int, week: str = "") -> Phrase:
    """A day of the week, 0 for Monday, alone or in a week of `WEEKS`: 다음 주 월요일, next Monday."""
    ko, en = f"{week} {KOREAN_WEEKDAYS[day]}".lstrip(), f"{WEEKS[week]} {WEEKDAYS[day]}".lstrip()
    return Phrase(ko, en, _whole(ko, "DAT"), adverb_en=en if week else f"on {en}", head=en, digits=ko)


def time(hour: int, minute: int = 0, period: str = "", *, spelled: bool = False, half: bool = False) -> Phrase:
    """A time of day on the 12-hour clock, in a period of `PERIODS`: 오후 2시 30분, 오후 두 시 반, 2:30 p.m.

    `half` writes 반 for 30분.

    Raises:
        ValueError: an unknown period, the hour is not in it, the minute is not in 0 to 59, or `half` without 30 minutes.
    """
    hours, en_period = PERIODS.get(period, ((), ""))
    if hour not in hours or not 0 <= minute < 60 or (half and minute != 30):
        raise ValueError(f"no such time: hour={hour}, minute={minute}, period={period!r}, half={half}")
    ko = f"{period} {native_modifier(hour)} 시" if spelled else f"{period} {hour}시"
    if half:
        ko += " 반"
    elif minute:
        ko += f" {sino(minute)} 분" if spelled else f" {minute}분"
    clock = f"{hour}:{minute:02}" if minute else f"{hour}"
    if not period and not minute:
        clock += " o'clock"
    ko, en = ko.lstrip(), f"{clock} {en_period}".rstrip()
    digits = f"{period} {hour}시 {minute}분" if minute else f"{period} {hour}시"
    return Phrase(ko, en, _whole(ko, "TIM"), digits=digits.lstrip())


def money(won: int, form: str = "digits") -> Phrase:
    """An amount of won in digits (35,000원), mixed (3만 5천 원) or spelled (삼만 오천 원): 35,000 won.

    Raises:
        ValueError: an unknown form, or an amount that the mixed form cannot write: not a multiple of 1000 below 10**8.
    """
    if form == "digits":
        ko = f"{won:,}원"
    elif form == "spelled":
        ko = f"{sino(won)} 원"
    elif form == "mixed" and won % 1000 == 0 and 0 < won < 10**8:
        myriads, thousands = divmod(won // 1000, 10)
        ko = " ".join([f"{myriads}만"] * bool(myriads) + [f"{thousands}천"] * bool(thousands) + ["원"])
    else:
        raise ValueError(f"cannot write {won} won in the form {form!r}")
    return Phrase(ko, f"{won:,} won", _whole(ko, "MNY"), digits=f"{won:,}원")


def quantity(noun: Noun, count: int, *, spelled: bool = False) -> Phrase:
    """So many of a noun: 사과 3개 or 사과 세 개, three apples. The entity is the number with its counter."""
    surface = _count_ko(count, noun.counter, spelled)
    ko = f"{noun.ko} {surface}".lstrip()
    entities = ((len(ko) - len(surface), len(ko), "QTY"),)
    digits = f"{noun.ko} {count:,}{noun.counter}".lstrip()
    return Phrase(ko, counted(count, noun.en), entities, head=noun.ko, counter=noun.counter, digits=digits)


def days(count: int, form: str = "digits") -> Phrase:
    """A number of days in digits (3일), spelled (오 일) or, for those in `NATIVE_DAYS`, native (사흘)."""
    ko = NATIVE_DAYS[count] if form == "native" else _count_ko(count, "일", form == "spelled")
    return Phrase(ko, counted(count, "day"), _whole(ko, "QTY"), counter="일", digits=f"{count}일")


def times(count: int, *, spelled: bool = False) -> Phrase:
    """How often: 세 번, three times; once and twice."""
    ko = _count_ko(count, "번", spelled)
    en = {1: "once", 2: "twice"}.get(count, f"{numeral(count)} times")
    return Phrase(ko, en, _whole(ko, "QTY"), counter="번", digits=f"{count}번")


def age(years: int, *, spelled: bool = False) -> Phrase:
    """An age: 서른다섯 살, 35 years old."""
    ko = _count_ko(years, "살", spelled)
    en = f"{years} year{'s' if years > 1 else ''} old"
    return Phrase(ko, en, _whole(ko, "QTY"), counter="살", digits=f"{years}살")


def percent(number: int, *, spelled: bool = False) -> Phrase:
    """A percentage: 20% or 이십 퍼센트, 20%."""
    ko = f"{sino(number)} 퍼센트" if spelled else f"{number}%"
    return Phrase(ko, f"{number}%", _whole(ko, "QTY"), counter="퍼센트", digits=f"{number}%")


def _count_ko(count: int, counter: str, spelled: bool) -> str:
    if not spelled:
        return f"{count:,}{counter}"
    # Native numerals end at 99; from 100 on every counter takes Sino-Korean ones.
    native = COUNTERS[counter] == "native" and count < 100
    return f"{native_modifier(count) if native else sino(count)} {counter}"


def _whole(ko: str, label: str) -> tuple[Span, ...]:
    return ((0, len(ko), label),)


KOREAN_WEEKDAYS = tuple(f"{day}요일" for day in "월화수목금토일")
RELATIVE_DAYS = {
    "오늘": "today",
    "내일": "tomorrow",
    "모레": "the day after tomorrow",
    "어제": "yesterday",
    "그저께": "the day before yesterday",
}
WEEKS = {"": "", "이번 주": "this", "다음 주": "next", "지난주": "last"}
PERIODS = {
    "": (range(1, 13), ""),
    "오전": (range(1, 12), "a.m."),
    "오후": (range(1, 13), "p.m."),
    "아침": (range(6, 10), "in the morning"),
    "저녁": (range(6, 10), "in the evening"),
    "밤": (range(9, 12), "at night"),
}
NOON = Phrase("정오", "noon", _whole("정오", "TIM"), digits="정오")
MIDNIGHT = Phrase("자정", "midnight", _whole("자정", "TIM"), digits="자정")

Draw = Callable[[Random], Phrase]


def _draw_day(relative_days: tuple[str, ...], weeks: tuple[str, ...]) -> Draw:
    def draw(rng: Random) -> Phrase:
        chance = rng.random()
        if chance < 0.2:
            return relative_day(rng.choice(relative_days))
        if chance < 0.4:
            return weekday(rng.randrange(7), rng.choice(weeks))
        day = datetime.date(2024, 1, 1) + datetime.timedelta(rng.randrange(366))
        leap_day = (day.month, day.day) == (2, 29)
        year = rng.randrange(2020, 2035) if chance < 0.48 and not leap_day else None
        return date(day.month, day.day, year, spelled=_coin(rng))

    return draw


def _draw_time(periods: tuple[str, ...], noon: bool = True) -> Draw:
    def draw(rng: Random) -> Phrase:
        if noon and rng.random() < 0.05:
            return rng.choice((NOON, MIDNIGHT))
        period = rng.choice(periods)
        hour = rng.choice(PERIODS[period][0])
        minute = rng.choice((0, 0, 0, 30, 30, *range(5, 60, 5), rng.randrange(60)))
        return time(hour, minute, period, spelled=_coin(rng), half=minute == 30 and _coin(rng))

    return draw


def _draw_money(*ranges: tuple[int, int]) -> Draw:
    def draw(rng: Random) -> Phrase:
        unit, most = rng.choice(ranges)
        won = unit * rng.randint(1, most)
        forms = ("digits", "spelled") if won % 1000 else ("digits", "spelled", "mixed")
        return money(won, rng.choice(forms))

    return draw


def _draw_quantity(nouns: Iterable[Noun], least: int = 1, step: int = 1) -> Draw:
    nouns = tuple(nouns)

    def draw(rng: Random) -> Phrase:
        noun = rng.choice(nouns)
        return quantity(noun, rng.randrange(least, noun.most + 1, step), spelled=_coin(rng))

    return draw


def _draw_count(expression: Callable[..., Phrase], least: int, most: int, step: int = 1) -> Draw:
    return lambda rng: expression(rng.randrange(least, most + 1, step), spelled=_coin(rng))


def _draw_days(rng: Random) -> Phrase:
    count = rng.randint(1, 15)
    # 이 일 is rather read as "this matter": where a native word exists, it is the spelled form.
    return days(count, rng.choice(("digits", "native" if count in NATIVE_DAYS else "spelled")))


def _draw_word(words: Iterable[Word], label: str | None = None) -> Draw:
    phrases = tuple(word(each, label) for each in words)
    return lambda rng: rng.choice(phrases)


def _draw_person(rng: Random) -> Phrase:
    surname = rng.choice(vocabulary.SURNAMES) if _coin(rng) else None
    return person(rng.choice(vocabulary.GIVEN_NAMES), surname)


def _coin(rng: Random) -> bool:
    return rng.random() < 0.5


KINDS: dict[str, Draw] = {
    "date": _draw_day(("오늘", "내일", "모레"), ("", "이번 주", "다음 주")),
    "past": _draw_day(("오늘", "어제", "그저께"), ("", "지난주")),
    "time": _draw_time(("오전", "오전", "오후", "오후", "아침", "저녁", "밤", "")),
    "opening": _draw_time(("오전", "아침", ""), noon=False),
    "closing": _draw_time(("오후", "저녁", "밤", ""), noon=False),
    "money": _draw_money((100, 99), (1000, 99), (1000, 99), (10_000, 50), (100, 999)),
    "price": _draw_money((1000, 99), (1000, 99), (100, 400)),
    "sum": _draw_money((1000, 99), (10_000, 99), (10_000, 99), (100_000, 99), (10_000, 999)),
    "person": _draw_person,
    "city": _draw_word(vocabulary.CITIES, "LOC"),
    "destination": _draw_word(vocabulary.CITIES + vocabulary.CITIES_ABROAD, "LOC"),
    "place": _draw_word(vocabulary.PLACES, "LOC"),
    "event": _draw_word(vocabulary.EVENTS),
    "shop": _draw_word(vocabulary.SHOPS),
    "transport": _draw_word(vocabulary.TRANSPORTS),
    "garment": _draw_word(vocabulary.GARMENTS),
    "shipment": _draw_word(vocabulary.SHIPMENTS),
    "subject": _draw_word(vocabulary.SUBJECTS),
    "clinic": _draw_word(vocabulary.CLINICS),
    "bill": _draw_word(vocabulary.BILLS),
    "sport": _draw_word(vocabulary.SPORTS),
    "groceries": _draw_quantity(vocabulary.GROCERIES),
    "clothes": _draw_quantity(vocabulary.CLOTHES),
    "drinks": _draw_quantity(vocabulary.DRINKS),
    "cakes": _draw_quantity(vocabulary.CAKES),
    "dishes": _draw_quantity(vocabulary.DISHES),
    "books": _draw_quantity(vocabulary.BOOKS),
    "stationery": _draw_quantity(vocabulary.STATIONERY),
    "trees": _draw_quantity(vocabulary.TREES),
    "pets": _draw_quantity(vocabulary.PETS),
    "rentals": _draw_quantity(vocabulary.RENTALS),
    "flowers": _draw_quantity(vocabulary.FLOWERS),
    "parcels": _draw_quantity(vocabulary.PARCELS),
    "people": _draw_quantity([Noun("", "person", "명", 80)], least=2),
    "guests": _draw_quantity([Noun("", "person", "명", 20)], least=2),
    "students": _draw_quantity([Noun("학생", "student", "명", 60)], least=2),
    "spectators": _draw_quantity([Noun("관중", "spectator", "명", 20_000)], least=100, step=100),
    "tickets": _draw_quantity([Noun("표", "ticket", "장", 40)]),
    "hours": _draw_quantity([Noun("", "hour", "시간", 14)]),
    "minutes": _draw_quantity([Noun("", "minute", "분", 90)], least=5),
    "months": _draw_quantity([Noun("", "month", "개월", 24)], least=2),
    "points": _draw_quantity([Noun("", "point", "점", 100)], least=10),
    "pills": _draw_quantity([Noun("", "pill", "알", 6)]),
    "goals": _draw_quantity([Noun("", "goal", "골", 9)]),
    "laps": _draw_quantity([Noun("", "lap", "바퀴", 40)]),
    "distance": _draw_quantity([Noun("", "kilometer", "킬로미터", 42)]),
    "days": _draw_days,
    "times": _draw_count(times, 1, 4),
    "age": _draw_count(age, 1, 99),
    "percent": _draw_count(percent, 5, 90, 5),
}
"""How a slot of each kind is filled at random."""
