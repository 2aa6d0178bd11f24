import re
from random import Random

import pytest

from trefoil.data.embedded.numbers import (
    ENGLISH_ONES,
    ENGLISH_SCALES,
    ENGLISH_TENS,
    LIMIT,
    SINO_DIGITS,
    SINO_MYRIADS,
    SINO_UNITS,
    english,
    native,
    native_modifier,
    sino,
)

SINO = {
    0: "영",
    1: "일",
    6: "육",
    10: "십",
    11: "십일",
    20: "이십",
    99: "구십구",
    100: "백",
    101: "백일",
    110: "백십",
    111: "백십일",
    666: "육백육십육",
    1_000: "천",
    1_001: "천일",
    1_111: "천백십일",
    2_027: "이천이십칠",
    10_000: "만",
    10_001: "만 일",
    11_000: "만 천",
    35_000: "삼만 오천",
    100_000: "십만",
    110_000: "십일만",
    1_000_000: "백만",
    10_000_000: "천만",
    11_010_100: "천백일만 백",
    100_000_000: "일억",
    100_010_000: "일억 일만",
    1_234_567_898: "십이억 삼천사백오십육만 칠천팔백구십팔",
    10**12: "일조",
    10**12 + 1: "일조 일",
}

NATIVE = {
    1: ("하나", "한"),
    2: ("둘", "두"),
    3: ("셋", "세"),
    4: ("넷", "네"),
    5: ("다섯", "다섯"),
    6: ("여섯", "여섯"),
    7: ("일곱", "일곱"),
    8: ("여덟", "여덟"),
    9: ("아홉", "아홉"),
    10: ("열", "열"),
    11: ("열하나", "열한"),
    14: ("열넷", "열네"),
    15: ("열다섯", "열다섯"),
    20: ("스물", "스무"),
    21: ("스물하나", "스물한"),
    25: ("스물다섯", "스물다섯"),
    30: ("서른", "서른"),
    43: ("마흔셋", "마흔세"),
    52: ("쉰둘", "쉰두"),
    68: ("예순여덟", "예순여덟"),
    70: ("일흔", "일흔"),
    84: ("여든넷", "여든네"),
    99: ("아흔아홉", "아흔아홉"),
}

ENGLISH = {
    0: "zero",
    7: "seven",
    13: "thirteen",
    20: "twenty",
    21: "twenty-one",
    40: "forty",
    100: "one hundred",
    115: "one hundred fifteen",
    999: "nine hundred ninety-nine",
    1_000: "one thousand",
    35_000: "thirty-five thousand",
    1_000_001: "one million one",
    1_234_567: "one million two hundred thirty-four thousand five hundred sixty-seven",
    10**9: "one billion",
    10**15: "one quadrillion",
}


@pytest.mark.parametrize(("number", "words"), SINO.items())
def test_sino_korean_by_hand(number, words):
    assert sino(number) == words


@pytest.mark.parametrize(("number", "words"), NATIVE.items())
def test_native_korean_by_hand(number, words):
    assert (native(number), native_modifier(number)) == words


@pytest.mark.parametrize(("number", "words"), ENGLISH.items())
def test_english_by_hand(number, words):
    assert english(number) == words


def read_sino(text):
    number = group = digit = 0
    for character in text.replace(" ", ""):
        if character in SINO_DIGITS:
            digit = SINO_DIGITS.index(character)
        elif character in SINO_UNITS:
            group += (digit or 1) * 10 ** SINO_UNITS.index(character)
            digit = 0
        else:
            number += (group + digit or 1) * 10_000 ** SINO_MYRIADS.index(character)
            group = digit = 0
    return number + group + digit


def read_english(text):
    number = group = 0
    for word in re.split("[ -]", text):
        if word in ENGLISH_ONES:
            group += ENGLISH_ONES.index(word)
        elif word in ENGLISH_TENS:
            group += 10 * ENGLISH_TENS.index(word)
        elif word == "hundred":
            group *= 100
        else:
            number += group * 1000 ** ENGLISH_SCALES.index(word)
            group = 0
    return number + group


def test_what_is_spelled_reads_as_the_number():
    rng = Random(0)
    numbers = [*range(12_000), *(rng.randrange(10 ** rng.randint(5, 16)) for _ in range(3_000)), LIMIT - 1]
    for number in numbers:
        assert read_sino(sino(number)) == number
        assert read_english(english(number)) == number


def test_no_two_native_numbers_are_spelled_alike():
    for spell in (native, native_modifier):
        assert len({spell(number) for number in range(1, 100)}) == 99


@pytest.mark.parametrize(
    ("spell", "number"),
    [(sino, -1), (sino, LIMIT), (english, -1), (english, LIMIT), (native, 0), (native, 100), (native_modifier, 100)],
)
def test_numbers_out_of_range_are_refused_with_the_range(spell, number):
    with pytest.raises(ValueError, match=rf"^{number} cannot be spelled .* give a number from \d+ to \d+"):
        spell(number)
