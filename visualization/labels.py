"""What stands at the axes of an attention map: for each token the text that it covers."""

import itertools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

SPACES = {" ": "␣", "\n": "⏎", "\r": "⏎", "\t": "⇥"}
SENTENCEPIECE_SPACE = "▁"
JOINERS = "\u200c\u200d"  # unseen, but parts of what is seen: 👨‍👩‍👧
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")

Span = tuple[int, int]


def encoding_labels(tokenizer: Any, encoding: Any, texts: Sequence[str], of_target: bool = False) -> list[str]:
    """The labels of an encoded text or pair of texts.

    Args:
        encoding: What the tokenizer gave for it, one row; with `offset_mapping` where the tokenizer can give them.
        texts: The text, or both texts of a pair.
        of_target: It was encoded as a target, which may have a vocabulary of its own.
    """
    ids = list(encoding["input_ids"])
    if "offset_mapping" not in encoding:
        if getattr(tokenizer, "separate_vocabs", False) and not of_target:  # decoding knows the target's only
            return _spelled(tokenizer, ids)
        return decoded_labels(tokenizer, ids)
    labels = _names(tokenizer, ids)
    for number, text in enumerate(texts):
        places = [place for place, sequence in enumerate(encoding.sequence_ids(0)) if sequence == number]
        spans = [encoding["offset_mapping"][place] for place in places]
        # SentencePiece gives a space of its own the place of the character after it
        spans = [
            (span[0], span[0]) if labels[place] == SENTENCEPIECE_SPACE else span
            for place, span in zip(places, spans, strict=True)
        ]
        _put(tokenizer, ids, labels, places, span_labels(text, spans))
    return labels


def word_numbers(tokenizer: Any, encoding: Any, text: str) -> list[int | None] | None:
    """Of each token the number of the word that it is in, words being what stands between white space; None of what is in
    none. Or None where the tokenizer cannot tell.

    Args: as of `encoding_labels`, for one text.
    """
    if "offset_mapping" not in encoding:
        return None
    special = set(tokenizer.all_special_ids)
    starts = [word.start() for word in re.finditer(r"\S+", text)]
    numbers: list[int | None] = []
    for token, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        part = text[start:end]
        is_in_one = bool(part.strip()) and (token not in special or token == tokenizer.unk_token_id)
        numbers.append(bisect_right(starts, end - len(part.lstrip())) - 1 if is_in_one else None)
    return numbers


def decoded_labels(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The labels of token ids whose text is not known: what decoding more and more of them adds."""
    labels = _names(tokenizer, ids)
    for places in _runs(place for place, token in enumerate(ids) if token not in tokenizer.all_special_ids):
        run = [ids[place] for place in places]
        decoded = [
            tokenizer.decode(run[:length], clean_up_tokenization_spaces=False) for length in range(1, len(run) + 1)
        ]
        _put(tokenizer, ids, labels, places, span_labels(decoded[-1], prefix_spans(decoded)))
    return labels


def prefix_spans(decoded: Sequence[str]) -> list[Span]:
    """Which part of a text each of its tokens covers.

    Args:
        decoded: What the first token, the first two, and so on up to all tokens stand for. A character of which only
            some bytes are there is a replacement character in it.
    """
    spans, settled = [], 0
    for prefix in decoded:
        common = next(
            (place for place, pair in enumerate(zip(prefix, decoded[-1], strict=False)) if pair[0] != pair[1]),
            min(len(prefix), len(decoded[-1])),
        )
        spans.append((settled, common + (len(prefix) > common)))
        settled = max(settled, common)
    return spans


def span_labels(text: str, spans: Sequence[Span]) -> list[str]:
    """The parts of a text, each with the space before it; parts that share a character are numbered: 값₁ 값₂.

    A part that covers nothing gets an empty label.
    """
    labels, end = [], 0
    for start, stop in spans:
        gap = text[end:start]
        labels.append(visible(("" if gap.strip() else gap) + text[start:stop]))
        end = max(end, stop)
    shares = [after[0] < before[1] and after[1] > after[0] for before, after in itertools.pairwise(spans)]
    number = 1
    for place, (before, after) in enumerate(zip([False, *shares], [*shares, False], strict=True)):
        number = number + 1 if before else 1
        if before or after:
            labels[place] += str(number).translate(SUBSCRIPTS)
    return labels


def visible(text: str) -> str:
    """The text with marks for white space, and with the code points of what could not be seen."""
    shown = [_mark(character) for character in text]
    if all(character in JOINERS or unicodedata.category(character) in ("Mn", "Me") for character in text):
        shown = [_code_point(character) for character in text]  # with nothing to combine with
    return "".join(shown)


def _mark(character: str) -> str:
    if character in SPACES:
        return SPACES[character]
    if character.isspace():
        return "␣"
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") and character not in JOINERS
    return _code_point(character) if hidden else character


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def _names(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The tokens as the tokenizer spells them; a model may have room for more tokens than that knows."""
    return [name or f"<{token}>" for token, name in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)]


def _spelled(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    names = {token: name for name, token in tokenizer.get_vocab().items()}
    return [visible(names[token].replace(SENTENCEPIECE_SPACE, " ")) for token in ids]


def _put(tokenizer: Any, ids: Sequence[int], labels: list[str], places: Iterable[int], found: Iterable[str]) -> None:
    """Labels in place of the tokens' names, but for special tokens; where a label is empty, the token speaks."""
    for place, label in zip(places, found, strict=True):
        if ids[place] not in tokenizer.all_special_ids:
            labels[place] = label or visible(labels[place].replace(SENTENCEPIECE_SPACE, " ").replace("Ġ", " "))


def _runs(places: Iterable[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
