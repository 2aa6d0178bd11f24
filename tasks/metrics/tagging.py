"""Quality of tagged tokens: entities by seqeval."""

from importlib.metadata import version
from typing import Any

import datasets
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2, Entities

from .metric import TEXT, metric

SCORES = ("precision", "recall", "f1")


def type_scores(references: list[list[str]], predictions: list[list[str]]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of the entities of each type that occurs, as `EntityQuality` counts them, and how many there are
    (`support`)."""
    return _by_type(references, predictions, _settings(references, predictions))


def _settings(references: list[list[str]], predictions: list[list[str]]) -> dict[str, Any]:
    """What the public functions of seqeval do in strict mode, but reading the tags once; 0 is their default without the
    warnings."""
    read = {"entities_true": Entities(references, IOB2), "entities_pred": Entities(predictions, IOB2)}
    return {"scheme": IOB2, "zero_division": 0, **read}


def _by_type(
    references: list[list[str]], predictions: list[list[str]], settings: dict[str, Any]
) -> list[dict[str, Any]]:
    scores = precision_recall_fscore_support(references, predictions, average=None, **settings)
    types = sorted(settings["entities_true"].unique_tags | settings["entities_pred"].unique_tags)
    return [
        {"label": name, **{key: 100.0 * float(of[at]) for at, key in enumerate(SCORES)}, "support": int(of[3])}
        for name, of in zip(types, zip(*scores, strict=True), strict=True)
    ]


@metric(datasets.List(TEXT))
def EntityQuality(predictions: list[list[str]], references: list[list[str]]) -> dict[str, Any]:
    """Precision, recall and F1 of entities by seqeval (Nakayama 2018; strict mode, scheme IOB2, micro-averaged), with
    their signature, and the share of tokens with the right tag; all in percent.

    `compute(predictions=[[str]], references=[[str]])`, BIO2 tags of each text's tokens, gives `f1`, `precision`,
    `recall`, `token_accuracy`, the F1 of each type that occurs (`f1_PER`), and for each but `token_accuracy` its
    signature (`f1_signature`, `f1_PER_signature`). An entity is right if its first token, its last token and its type
    are; strict means that a sequence of I- tags without a B- tag is no entity. Where nothing is to be found and
    nothing was, scores are 0, as seqeval has it.

    Raises:
        ValueError: a text has more predicted than true tags or fewer, or a tag is neither O nor begins with B- or I-;
            names the row.
    """
    for row, (predicted, true) in enumerate(zip(predictions, references, strict=True)):
        if len(predicted) != len(true):
            raise ValueError(f"row {row} has {len(predicted)} predicted and {len(true)} true tags")
        for tag in (*predicted, *true):
            if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) == 2):
                raise ValueError(f"row {row} has the tag {tag!r}: BIO2 tags are O, B-TYPE and I-TYPE")
    settings = _settings(references, predictions)
    signature = f"seqeval:{version('seqeval')}|mode:strict|scheme:IOB2"
    scores = precision_recall_fscore_support(references, predictions, average="micro", **settings)
    results: dict[str, Any] = {}
    for name, score in zip(SCORES, scores, strict=False):
        results |= {name: 100.0 * float(score), f"{name}_signature": f"{signature}|average:micro"}
    for of_type in _by_type(references, predictions, settings):
        name = f"f1_{of_type['label']}"
        results |= {name: of_type["f1"], f"{name}_signature": f"{signature}|type:{of_type['label']}"}
    pairs = [pair for row in zip(predictions, references, strict=True) for pair in zip(*row, strict=True)]
    right = sum(predicted == true for predicted, true in pairs)
    return results | {"token_accuracy": 100.0 * right / len(pairs) if pairs else 0.0}
