"""Korean particles (조사) whose form depends on how the word before them ends in speech.

A pair is written "form after a consonant/form after a vowel", as grammars write it: "은/는", "으로/로".
"""

import re

from .numbers import sino

PAIRS = frozenset({"은/는", "이/가", "을/를", "과/와", "으로/로", "이에요/예요", "이라는/라는", "이나/나"})
"""The pairs that `particle` knows."""

RIEUL = "ㄹ"
FINALS = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
# Only these letters have Korean names that end in a consonant: 엘, 엠, 엔, 알.
LATIN_FINALS = {"l": "ㄹ", "m": "ㅁ", "n": "ㄴ", "r": "ㄹ"}

_NUMBER_AT_END = re.compile(r"(\d[\d,]*)(\.\d+)?$")


def final_consonant(word: str) -> str:
    """The final consonant (받침) of the word as it is read aloud, or "" where it ends in a vowel.

    Hangul is read as written, digits as Sino-Korean numbers (10 is 십, so ㅂ; 1,000 is 천, so ㄴ), digits after a point
    or after a leading zero one by one, Latin letters by their Korean names (L is 엘, so ㄹ).

    Raises:
        ValueError: the word is empty or ends in something whose reading is not known.
    """
    last = word[-1:]
    if "가" <= last <= "힣":
        # Unicode, section 3.12: syllables are laid out in runs of 28, one for each final consonant or none.
        return FINALS[(ord(last) - ord("가")) % 28]
    if last.isascii() and last.isalpha():
        return LATIN_FINALS.get(last.lower(), "")
    if number := _NUMBER_AT_END.search(word):
        digits, decimals = number[1].replace(",", ""), number[2]
        one_by_one = decimals or (digits[0] == "0" and len(digits) > 1)
        return final_consonant(sino(int(last if one_by_one else digits)))
    raise ValueError(f"cannot tell how {word!r} is read at its end: it must end in Hangul, a digit or a Latin letter")


def particle(word: str, pair: str) -> str:
    """The form of the particle that follows the word: particle("서울", "으로/로") is 로.

    Source: 표준국어대사전, entries of the particles; 으로 becomes 로 after a vowel and after ㄹ.

    Raises:
        ValueError: the pair is not in `PAIRS`, or the word's ending has no known reading.
    """
    if pair not in PAIRS:
        raise ValueError(f"unknown particle pair {pair!r}: known pairs are {', '.join(sorted(PAIRS))}")
    after_consonant, after_vowel = pair.split("/")
    final = final_consonant(word)
    if not final or (pair == "으로/로" and final == RIEUL):
        return after_vowel
    return after_consonant
