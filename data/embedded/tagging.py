"""Entity spans as tags of tokens (BIO2)."""

import re
from collections.abc import Iterable

from . import vocabulary
from .expressions import Span
from .vocabulary import Noun, Word

PARTICLES = (
    *("이라는", "라는", "이에요", "예요", "에서", "에게", "부터", "까지", "으로"),
    *("로", "에", "은", "는", "이", "가", "을", "를", "과", "와", "씩"),
)

_WORD = re.compile(rf"(\S+?)({'|'.join(PARTICLES)})?([.,?!]+)?(?!\S)")
_LEXICON = {
    entry.ko
    for words in vars(vocabulary).values()
    if isinstance(words, tuple)
    for entry in words
    if isinstance(entry, Word | Noun)
}


def token_spans(text: str) -> list[tuple[int, int]]:
    """Where the tokens of a Korean text start and end: its words, without the particle and the punctuation at their end.

    A particle (or an ending that is spelled like one) is a token of its own, so 3월 15일에 is 3월, 15일, 에; a word of
    the vocabulary that merely ends like one stays whole (사과). The text alone decides, never the entities, so that
    text without tags is split in the same way; entities nevertheless begin and end with a token.
    """
    spans = []
    for match in _WORD.finditer(text):
        if match[1] + (match[2] or "") in _LEXICON:
            spans.append((match.start(1), match.end(2) if match[2] else match.end(1)))
            groups: tuple[int, ...] = (3,)
        else:
            groups = (1, 2, 3)
        spans += [match.span(group) for group in groups if match[group]]
    return spans


def bio_tags(tokens: Iterable[tuple[int, int]], entities: Iterable[Span]) -> list[str]:
    """The BIO2 tag of each token: B- on the first token of an entity, I- on its others, O outside.

    Raises:
        ValueError: an entity begins or ends within a token.
    """
    tokens = list(tokens)
    starts, ends = {start: at for at, (start, _) in enumerate(tokens)}, {end: at for at, (_, end) in enumerate(tokens)}
    tags = ["O"] * len(tokens)
    for start, end, label in entities:
        if start not in starts or end not in ends:
            raise ValueError(f"the {label} entity at characters {start} to {end} does not begin and end with a token")
        first, last = starts[start], ends[end]
        tags[first : last + 1] = [f"B-{label}"] + [f"I-{label}"] * (last - first)
    return tags
