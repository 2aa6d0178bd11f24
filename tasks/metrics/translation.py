"""Translation quality: BLEU, chrF and exact match."""

from typing import Any

import datasets
import evaluate
import sacrebleu


class TranslationQuality(evaluate.Metric):
    """sacreBLEU (Post 2018; 13a, cased) and chrF (Popović 2015) of detokenised text, with their signatures, and the
    share of exact matches; all in percent.

    `compute(predictions=[str], references=[str])` gives `bleu`, `chrf`, `exact_match`, `bleu_signature` and
    `chrf_signature`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="BLEU and chrF by sacrebleu, and exact match",
            citation="",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
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
