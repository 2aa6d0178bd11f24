"""Whole numbers in words: Sino-Korean (삼만 오천), native Korean (서른다섯) and English (thirty-five).

Spacing follows Hangul orthography (한글 맞춤법 제44항: numbers are written with a space at every power of ten thousand).
"""

LIMIT = 10**16
"""The spellers of Sino-Korean and English accept 0 <= number < LIMIT."""

SINO_DIGITS = "영일이삼사오육칠팔구"
SINO_UNITS = ("", "십", "백", "천")
SINO_MYRIADS = ("", "만", "억", "조")

NATIVE_ONES = ("", "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉")
NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
NATIVE_MODIFIERS = {"하나": "한", "둘": "두", "셋": "세", "넷": "네"}

ENGLISH_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
ENGLISH_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ENGLISH_SCALES = ("", "thousand", "million", "billion", "trillion", "quadrillion")


def sino(number: int) -> str:
    """Spell a number in Sino-Korean: 35000 is 삼만 오천.

    일 is dropped before 십, 백 and 천 (백, not 일백) and before a leading 만 (만, but 일억 일만).

    Raises:
        ValueError: the number is not in 0 <= number < LIMIT.
    """
    _check_range(number, 0, LIMIT - 1, "Sino-Korean")
    if number == 0:
        return SINO_DIGITS[0]
    groups = []
    for power, myriad in enumerate(SINO_MYRIADS):
        group = number // 10_000**power % 10_000
        if group:
            groups.append(_sino_below_myriad(group) + myriad)
    groups.reverse()
    if groups[0] == "일만":
        groups[0] = "만"
    return " ".join(groups)


def native(number: int) -> str:
    """Spell a number in native Korean as it stands alone: 1 is 하나, 20 is 스물, 35 is 서른다섯.

    Raises:
        ValueError: the number is not in 1 <= number <= 99 (native Korean has no zero and no hundred).
    """
    _check_range(number, 1, 99, "native Korean")
    tens, ones = divmod(number, 10)
    return NATIVE_TENS[tens] + NATIVE_ONES[ones]


def native_modifier(number: int) -> str:
    """Spell a number in native Korean as it stands before a counter (관형형): 한, 두, 세, 네, 스무, 스물한.

    Raises:
        ValueError: the number is not in 1 <= number <= 99.
    """
    if number == 20:
        return "스무"
    word, ones = native(number), NATIVE_ONES[number % 10]
    return word.removesuffix(ones) + NATIVE_MODIFIERS[ones] if ones in NATIVE_MODIFIERS else word


def english(number: int) -> str:
    """Spell a number in English words, American style: 1235 is one thousand two hundred thirty-five.

    Raises:
        ValueError: the number is not in 0 <= number < LIMIT.
    """
    _check_range(number, 0, LIMIT - 1, "English")
    if number == 0:
        return ENGLISH_ONES[0]
    groups = []
    for power, scale in enumerate(ENGLISH_SCALES):
        group = number // 1000**power % 1000
        if group:
            groups.append(f"{_english_below_thousand(group)} {scale}".rstrip())
    return " ".join(reversed(groups))


def _sino_below_myriad(number: int) -> str:
    written = ""
    for power in (3, 2, 1, 0):
        digit = number // 10**power % 10
        if digit:
            written += ("" if digit == 1 and power else SINO_DIGITS[digit]) + SINO_UNITS[power]
    return written


def _english_below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [f"{ENGLISH_ONES[hundreds]} hundred"] if hundreds else []
    if rest >= 20:
        tens, ones = divmod(rest, 10)
        words.append(ENGLISH_TENS[tens] + (f"-{ENGLISH_ONES[ones]}" if ones else ""))
    elif rest:
        words.append(ENGLISH_ONES[rest])
    return " ".join(words)


def _check_range(number: int, lowest: int, highest: int, system: str) -> None:
    if not lowest <= number <= highest:
        raise ValueError(f"{number} cannot be spelled in {system}: give a number from {lowest} to {highest}")
