"""Quality of summaries: ROUGE for any script, and exact match."""

import unicodedata
from importlib.metadata import version
from typing import Any

import datasets
from rouge_score.rouge_scorer import RougeScorer

from .metric import TEXT, metric

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@metric(TEXT, TEXT, datasets.List(TEXT))
def SummaryQuality(predictions: list[str], references: list[str] | list[list[str]]) -> dict[str, Any]:
    """ROUGE (Lin 2004) F-measures of words and word pairs and of the longest common subsequence by rouge-score, with
    their signature, and the share of exact matches; all in percent, averaged over the texts.

    Where a text has several references, `[[str, …], …]`, the best of them counts for each figure.

    `compute(predictions=[str], references=[str])` gives `rouge1`, `rouge2`, `rougeL`, `rougeLsum` (sentences are
    lines), `exact_match`, and the signatures (`rouge1_signature`). The words are those of `words`, not stemmed: on ASCII
    text they are rouge-score's own, which drops every other letter. Text in a script without spaces between words is to
    be segmented first.
    """
    of_each = [[one] if isinstance(one, str) else one for one in references]
    pairs = list(zip(predictions, of_each, strict=True))
    scorer = RougeScorer(ROUGE_TYPES, tokenizer=_Tokenizer())
    scores = [scorer.score_multi(several, prediction) for prediction, several in pairs]
    signature = f"rouge-score:{version('rouge-score')}|tok:unicode-words|case:lower|stem:no"
    if not all(isinstance(one, str) for one in references):
        signature += "|refs:best"
    results: dict[str, Any] = {}
    for name in ROUGE_TYPES:
        results[name] = 100.0 * sum(float(score[name].fmeasure) for score in scores) / len(scores)
        results[f"{name}_signature"] = signature
    matches = sum(prediction.strip() in map(str.strip, several) for prediction, several in pairs)
    return results | {"exact_match": 100.0 * matches / len(pairs)}


def words(text: str) -> list[str]:
    """The words of a text, in lower case and in Unicode's composed form (NFC): runs of letters and digits of any
    script, with the marks (vowel signs, accents) that follow them."""
    found = []
    within = False
    for character in unicodedata.normalize("NFC", text).lower():
        within = character.isalnum() or (within and unicodedata.category(character).startswith("M"))
        found.append(character if within else " ")
    return "".join(found).split()


class _Tokenizer:
    """What rouge-score asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)
