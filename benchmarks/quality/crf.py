"""Tokens tagged by a conditional random field (Lafferty et al. 2001) on features made by hand, as sklearn-crfsuite has it."""

import re
import unicodedata
from collections.abc import Callable

from trefoil.tasks.token_classification import repair

Sentences = list[list[str]]

# of L1 and L2: what its tutorial takes, and its defaults
PENALTIES = ((0.1, 0.1), (0.0, 1.0))
ITERATIONS = 100


def shape(word: str) -> str:
    """`McDonald-7` as `XxXx-d`: kinds of characters, each run of one kind as one; letters without case are c."""
    kinds = (_kind(character) for character in word)
    return re.sub(r"(.)\1+", r"\1", "".join(kinds))


def _kind(character: str) -> str:
    return {"Lu": "X", "Lt": "X", "Ll": "x", "Lo": "c", "Nd": "d"}.get(unicodedata.category(character), character)


def word_features(words: list[str]) -> list[list[str]]:
    """Of each word: itself, its prefixes and suffixes, its shape, and the same of its neighbours but those."""
    plain = [[f"w={word.lower()}", f"form={word}", f"shape={shape(word)}"] for word in words]
    found = []
    for at, word in enumerate(words):
        lower = word.lower()
        own = [f"{name}{length}={part}" for length in range(1, min(4, len(word)) + 1)
               for name, part in (("prefix", lower[:length]), ("suffix", lower[-length:]))]  # fmt: skip
        found.append(["bias", *plain[at], *own, *_neighbours(plain, at, reach=2)])
    return found


def character_features(characters: list[str]) -> list[list[str]]:
    """Of each character: itself, its kind, its neighbours, and the n-grams and the word that it stands in."""
    plain = [[f"c={character}", f"kind={shape(character)}"] for character in characters]
    text = "".join(character if len(character) == 1 else "\0" for character in characters)
    found, start = [], 0
    for at, character in enumerate(characters):
        if character.isspace():
            start = at + 1
        end = text.find(" ", at)
        grams = [f"{first - at}:{length}={text[first : first + length]}" for length in (2, 3)
                 for first in range(max(0, at - length), min(at + 1, len(text) - length) + 1)]  # fmt: skip
        word = text[start : end if end >= 0 else len(text)]
        inside = [f"word={word}", f"begins={start == at}"]
        found.append(["bias", *plain[at], *grams, *inside, *_neighbours(plain, at, reach=2)])
    return found


def _neighbours(plain: list[list[str]], at: int, reach: int) -> list[str]:
    places = [offset for offset in range(-reach, reach + 1) if offset]
    return [
        f"{offset}:{feature}"
        for offset in places
        for feature in (plain[at + offset] if 0 <= at + offset < len(plain) else ["outside"])
    ]


def tag(
    train: tuple[Sentences, Sentences],
    validation: tuple[Sentences, Sentences],
    sentences: Sentences,
    are_characters: bool,
    score: Callable[[Sentences, Sentences], float],
) -> tuple[Sentences, tuple[float, float]]:
    """Tags of sentences, valid BIO2, by the penalties that are best on the validation split, and these.

    Args:
        train, validation: Tokens and their tags.
        are_characters: Tokens are characters, not words.
        score: Of references and predictions; more is better.
    """
    from sklearn_crfsuite import CRF

    make = character_features if are_characters else word_features
    known, checked, asked = (list(map(make, each)) for each in (train[0], validation[0], sentences))
    tried = []
    for penalties in PENALTIES:
        model = CRF(c1=penalties[0], c2=penalties[1], max_iterations=ITERATIONS, all_possible_transitions=True)
        model.fit(known, train[1])
        predicted = [repair(list(tags)) for tags in model.predict(checked)]
        tried.append((score(validation[1], predicted), penalties, model))
    _, penalties, model = max(tried, key=lambda each: each[0])
    return [repair(list(tags)) for tags in model.predict(asked)], penalties
