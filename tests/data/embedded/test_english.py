import pytest

from trefoil.data.embedded import vocabulary
from trefoil.data.embedded.english import counted, indefinite, numeral, plural


@pytest.mark.parametrize(
    ("singular", "expected"),
    [
        ("apple", "apples"),
        ("box", "boxes"),
        ("peach", "peaches"),
        ("lily", "lilies"),
        ("day", "days"),
        ("tomato", "tomatoes"),
        ("photo", "photos"),
        ("person", "people"),
        ("fish", "fish"),
        ("scarf", "scarves"),
        ("cup of coffee", "cups of coffee"),
        ("glass of juice", "glasses of juice"),
        ("comic book", "comic books"),
        ("poetry book", "poetry books"),
        ("pair of socks", "pairs of socks"),
        ("sheet of colored paper", "sheets of colored paper"),
    ],
)
def test_plurals_by_hand(singular, expected):
    assert plural(singular) == expected


@pytest.mark.parametrize(
    "phrase",
    ["an apple", "a cup of coffee", "an hour", "a uniform", "an umbrella", "an egg tart", "a T-shirt", "a hanbok"],
)
def test_articles_by_hand(phrase):
    assert indefinite(phrase.split(" ", 1)[1]) == phrase


def test_numerals_are_words_up_to_nine():
    assert [numeral(number) for number in (1, 9, 10, 3_500)] == ["one", "nine", "10", "3,500"]
    assert [counted(number, "egg") for number in (1, 2, 12)] == ["an egg", "two eggs", "12 eggs"]


def test_every_counter_of_the_vocabulary_has_its_numerals():
    nouns = [noun for words in vars(vocabulary).values() if isinstance(words, tuple) for noun in words]
    counters = {noun.counter for noun in nouns if isinstance(noun, vocabulary.Noun)}
    assert counters
    assert counters <= vocabulary.COUNTERS.keys()
