"""Translation quality: BLEU, chrF and exact match."""

from typing import Any

import sacrebleu

from .metric import TEXT, metric


@metric(TEXT)
def TranslationQuality(predictions: list[str], references: list[str]) -> dict[str, Any]:
    """sacreBLEU (Post 2018; 13a, cased) and chrF (Popović 2015) of detokenised text, with their signatures, and the
    share of exact matches; all in percent.

    `compute(predictions=[str], references=[str])` gives `bleu`, `chrf`, `exact_match`, `bleu_signature` and
    `chrf_signature`.
    """
    bleu, chrf = sacrebleu.metrics.BLEU(), sacrebleu.metrics.CHRF()
    pairs = zip(predictions, references, strict=True)
    matches = sum(prediction.strip() == reference.strip() for prediction, reference in pairs)
    return {
        "bleu": bleu.corpus_score(predictions, [references]).score,
        "chrf": chrf.corpus_score(predictions, [references]).score,
        "exact_match": 100.0 * matches / len(references),
        "bleu_signature": str(bleu.get_signature()),
        "chrf_signature": str(chrf.get_signature()),
    }
