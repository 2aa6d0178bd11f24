"""The little English morphology that the grammar needs: plurals, the indefinite article, counted nouns.

Numbers follow newspaper style: one to nine in words, 10 and above in digits.
"""

from .numbers import english

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

IRREGULAR_PLURALS = {
    **{"child": "children", "fish": "fish", "person": "people"},
    **{"potato": "potatoes", "scarf": "scarves", "tomato": "tomatoes"},
}
# The article follows the sound, not the letter.
CONSONANT_SOUND = ("uni", "use", "one")
VOWEL_SOUND = ("hour",)


def plural(noun: str) -> str:
    """The plural of a noun or of a noun with "of": apple, apples; cup of coffee, cups of coffee."""
    head, of, complement = noun.partition(" of ")
    before, space, last = head.rpartition(" ")
    if last in IRREGULAR_PLURALS:
        last = IRREGULAR_PLURALS[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return before + space + last + of + complement


def indefinite(noun: str) -> str:
    """The noun with its indefinite article: an apple, a cup of coffee, an hour, a uniform."""
    vowel = noun.startswith(VOWEL_SOUND) or (noun[0] in "aeiou" and not noun.startswith(CONSONANT_SOUND))
    return f"{'an' if vowel else 'a'} {noun}"


def numeral(number: int) -> str:
    """The number in newspaper style: three, 12, 3,500."""
    return english(number) if number < 10 else f"{number:,}"


def counted(number: int, noun: str) -> str:
    """So many of a noun: an apple, three apples, 12 apples."""
    return indefinite(noun) if number == 1 else f"{numeral(number)} {plural(noun)}"
