import pytest

from trefoil.data.embedded import expressions
from trefoil.data.embedded.expressions import age, date, days, money, percent, quantity, time, times, weekday
from trefoil.data.embedded.vocabulary import Noun

APPLE = Noun("사과", "apple", "개", 30)
STUDENT = Noun("학생", "student", "명", 60)
MINUTE = Noun("", "minute", "분", 90)
HOUR = Noun("", "hour", "시간", 14)


@pytest.mark.parametrize(
    ("phrase", "ko", "en"),
    [
        (date(3, 15), "3월 15일", "March 15"),
        (date(3, 15, spelled=True), "삼월 십오일", "March 15"),
        (date(6, 6, spelled=True), "유월 육일", "June 6"),
        (date(10, 1, spelled=True), "시월 일일", "October 1"),
        (date(11, 30, spelled=True), "십일월 삼십일", "November 30"),
        (date(12, 25, 2027), "2027년 12월 25일", "December 25, 2027"),
        (date(12, 25, 2027, spelled=True), "이천이십칠년 십이월 이십오일", "December 25, 2027"),
        (weekday(0), "월요일", "Monday"),
        (weekday(4, "이번 주"), "이번 주 금요일", "this Friday"),
        (weekday(6, "지난주"), "지난주 일요일", "last Sunday"),
        (time(2, 30, "오후"), "오후 2시 30분", "2:30 p.m."),
        (time(2, 30, "오후", half=True), "오후 2시 반", "2:30 p.m."),
        (time(2, 30, spelled=True, half=True), "두 시 반", "2:30"),
        (time(2, 30, spelled=True), "두 시 삼십 분", "2:30"),
        (time(2), "2시", "2 o'clock"),
        (time(12, 5, "오후", spelled=True), "오후 열두 시 오 분", "12:05 p.m."),
        (time(11, 0, "오전", spelled=True), "오전 열한 시", "11 a.m."),
        (time(7, 40, "아침"), "아침 7시 40분", "7:40 in the morning"),
        (time(7, 0, "저녁", spelled=True), "저녁 일곱 시", "7 in the evening"),
        (time(10, 0, "밤"), "밤 10시", "10 at night"),
        (money(35_000), "35,000원", "35,000 won"),
        (money(35_000, "mixed"), "3만 5천 원", "35,000 won"),
        (money(35_000, "spelled"), "삼만 오천 원", "35,000 won"),
        (money(5_000, "mixed"), "5천 원", "5,000 won"),
        (money(4_980_000, "mixed"), "498만 원", "4,980,000 won"),
        (money(10_000, "spelled"), "만 원", "10,000 won"),
        (money(500), "500원", "500 won"),
        (quantity(APPLE, 1, spelled=True), "사과 한 개", "an apple"),
        (quantity(APPLE, 3), "사과 3개", "three apples"),
        (quantity(APPLE, 20, spelled=True), "사과 스무 개", "20 apples"),
        (quantity(STUDENT, 35, spelled=True), "학생 서른다섯 명", "35 students"),
        (quantity(STUDENT, 120, spelled=True), "학생 백이십 명", "120 students"),
        (quantity(STUDENT, 3_500), "학생 3,500명", "3,500 students"),
        (quantity(MINUTE, 3, spelled=True), "삼 분", "three minutes"),
        (quantity(HOUR, 1, spelled=True), "한 시간", "an hour"),
        (quantity(HOUR, 12), "12시간", "12 hours"),
        (days(2, "native"), "이틀", "two days"),
        (days(5, "spelled"), "오 일", "five days"),
        (days(1), "1일", "a day"),
        (times(1, spelled=True), "한 번", "once"),
        (times(3), "3번", "three times"),
        (age(35, spelled=True), "서른다섯 살", "35 years old"),
        (age(1), "1살", "1 year old"),
        (percent(20), "20%", "20%"),
        (percent(20, spelled=True), "이십 퍼센트", "20%"),
    ],
)
def test_expressions_by_hand(phrase, ko, en):
    assert (phrase.ko, phrase.en) == (ko, en)


@pytest.mark.parametrize(
    ("phrases", "digits"),
    [
        ([date(10, 1), date(10, 1, spelled=True)], "10월 1일"),
        ([date(6, 6, 2027), date(6, 6, 2027, spelled=True)], "2027년 6월 6일"),
        ([weekday(0, "다음 주")], "다음 주 월요일"),
        ([expressions.relative_day("모레")], "모레"),
        (
            [time(2, 30, "오후", spelled=spelled, half=half) for spelled in (False, True) for half in (False, True)],
            "오후 2시 30분",
        ),
        ([time(11), time(11, spelled=True)], "11시"),
        ([expressions.NOON], "정오"),
        ([money(35_000, form) for form in ("digits", "mixed", "spelled")], "35,000원"),
        ([quantity(APPLE, 3), quantity(APPLE, 3, spelled=True)], "사과 3개"),
        ([quantity(STUDENT, 3_500), quantity(STUDENT, 3_500, spelled=True)], "학생 3,500명"),
        ([quantity(HOUR, 1), quantity(HOUR, 1, spelled=True)], "1시간"),
        ([days(3), days(3, "native")], "3일"),
        ([times(2), times(2, spelled=True)], "2번"),
        ([age(35), age(35, spelled=True)], "35살"),
        ([percent(20), percent(20, spelled=True)], "20%"),
    ],
)
def test_digits_are_the_same_for_every_way_of_writing(phrases, digits):
    assert {phrase.digits for phrase in phrases} == {digits}


def test_when_as_an_adverb():
    phrases = [date(3, 15), weekday(0), weekday(0, "다음 주"), expressions.relative_day("내일")]
    assert [phrase.ko + phrase.adverb_particle for phrase in phrases] == [
        "3월 15일에",
        "월요일에",
        "다음 주 월요일에",
        "내일",
    ]
    assert [phrase.adverb_en for phrase in phrases] == ["on March 15", "on Monday", "next Monday", "tomorrow"]


def test_the_entity_of_a_quantity_is_the_number_with_its_counter():
    phrase = quantity(APPLE, 3, spelled=True)
    ((start, end, label),) = phrase.entities
    assert (phrase.ko[start:end], label) == ("세 개", "QTY")


@pytest.mark.parametrize(
    ("hour", "minute", "period", "half"),
    [
        (0, 0, "", False),
        (13, 0, "", False),
        (12, 0, "오전", False),
        (2, 60, "", False),
        (2, 15, "", True),
        (3, 0, "낮", False),
    ],
)
def test_no_such_time(hour, minute, period, half):
    with pytest.raises(ValueError, match=f"no such time: hour={hour}, minute={minute}"):
        time(hour, minute, period, half=half)


@pytest.mark.parametrize(("won", "form"), [(35_500, "mixed"), (10**8, "mixed"), (0, "mixed"), (1_000, "roman")])
def test_amounts_that_a_form_cannot_write(won, form):
    with pytest.raises(ValueError, match=f"cannot write {won} won in the form '{form}'"):
        money(won, form)


def test_no_such_date():
    with pytest.raises(ValueError, match="day"):
        date(2, 30)
