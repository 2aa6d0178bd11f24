"""Texts classified by logistic regression on TF-IDF, as scikit-learn has them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)  # of C, the inverse of regularisation; 1 is the default


def words(longest: int = 1) -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, longest))


def characters() -> TfidfVectorizer:
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4))


FEATURES: dict[str, Callable[[], Any]] = {
    "words": words,
    "words 1-2": lambda: words(2),
    "characters 1-4": characters,  # within words
    "both": lambda: FeatureUnion([("words", words(2)), ("characters", characters())]),
}


def classify(
    train: tuple[list[str], list[str]],
    validation: tuple[list[str], list[str]],
    texts: list[str],
    features: str,
    strengths: tuple[float, ...] = STRENGTHS,
) -> tuple[list[str], float]:
    """Labels of texts, by the strength that is best on the validation split, and that strength.

    Args:
        train, validation: Texts and their labels.
        features: One of `FEATURES`.
        strengths: From weak to strong: each fit starts from the last one.
    """
    vectorizer = FEATURES[features]()
    known, asked = vectorizer.fit_transform(train[0]), vectorizer.transform(texts)
    checked = vectorizer.transform(validation[0])
    model = LogisticRegression(max_iter=1000, warm_start=True)
    tried = []
    for strength in strengths:
        model.set_params(C=strength).fit(known, train[1])
        accuracy = float(np.mean(model.predict(checked) == np.array(validation[1])))
        tried.append((accuracy, strength, model.predict(asked).tolist()))
    _, strength, labels = max(tried, key=lambda each: each[0])
    return labels, strength
