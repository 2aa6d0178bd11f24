"""Claim a: a seq2seq that hands one vector to its decoder loses quality as sentences get longer (Bahdanau et al. 2015, figure 2);
attention repairs it; the transformer holds longest. Four models of equal size, quality against the length of the source."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sacrebleu

from .draw import Table, beyond, panels, save
from .runs import Run, read_lines
from .texts import pairs

TRAINED_CLAUSES, TESTED_CLAUSES = 3, 5
AND = "그리고"
MULTI30K_BUCKETS = ((1, 8), (9, 11), (12, 14), (15, 18), (19, 99))

# the width that makes all models equally large, on embedded text and on Multi30k; the transformer's is its inner width
WIDTHS = {
    "none": (276, 276), "dot": (262, 262), "general": (256, 256), "concat": (250, 250), "transformer": (312, 396),
    "transformer-longer": (312, 396),
}  # fmt: skip
NAMES = {
    "none": "LSTM without attention", "dot": "LSTM, dot", "general": "LSTM, general", "concat": "LSTM, concat",
    "transformer": "transformer", "transformer-longer": "transformer, twice the steps",
}  # fmt: skip
MODELS = ("none", "general", "concat", "transformer", "transformer-longer")
SCORES = (
    ("exact_match", "exact match", ".0f"),
    ("bleu", "BLEU", ".1f"),
    ("length", "written length / reference", ".2f"),
)
DATA = {"embedded": "embedded Korean-English", "multi30k": "Multi30k English-German"}


def translation_runs(models: Iterable[str], multi30k: str | None) -> list[Run]:
    """A run for each model on embedded data and, where a folder or Hub id of it is given, on Multi30k."""
    place = "path" if Path(multi30k or "").is_dir() else "name"
    data = {"embedded": (f"data.path={pairs(TRAINED_CLAUSES, TESTED_CLAUSES)}",)}
    if multi30k is not None:
        data["multi30k"] = (
            f"data.{place}={multi30k}", "data.columns={source: en, target: de}", "data.test_split=test_2016_flickr",
            "tokenizer.vocab_size=3000",
        )  # fmt: skip
    return [
        Run(
            f"translation/{name}-{model}",
            "translation",
            (*overrides, *_shape(model, WIDTHS[model][name != "embedded"])),
        )
        for name, overrides in data.items()
        for model in models
    ]


def _shape(model: str, width: int) -> tuple[str, ...]:
    if model == "transformer":
        return (f"model.config={{intermediate_size: {width}}}",)
    if model == "transformer-longer":
        return (*_shape("transformer", width), "training.max_steps=2400", "training.evaluate_every=1200")
    fields = f"{{num_hidden_layers: 1, hidden_size: {width}, attention_type: {model}}}"
    # with these, recurrent models learn faster
    return (
        "model.preset=recurrent-small", f"model.config={fields}", "model.attn_implementation=null",
        "optimization.learning_rate=4.0e-3", "optimization.beta2=0.999",
    )  # fmt: skip


def runs(multi30k: str | None) -> list[Run]:
    return translation_runs(MODELS, multi30k)


def measure(trained: list[Run]) -> dict[str, Any]:
    """Scores of each model in each bucket of lengths, with the mean number of words of the source there."""
    measured: dict[str, Any] = {}
    for run in trained:
        data, _, model = run.name.removeprefix("translation/").partition("-")
        source, target = ("ko", "en") if data == "embedded" else ("en", "de")
        rows = _unseen(run.predictions()) if data == "embedded" else run.predictions()
        buckets: dict[str, list[dict]] = {}
        for row in rows:
            buckets.setdefault(_bucket(data, row[source]), []).append(row)
        measured.setdefault(data, {})[model] = {
            "all": _scores(rows, source, target),
            "trained lengths": _scores(
                [row for row in rows if data != "embedded" or len(clauses_of(row[source])) <= TRAINED_CLAUSES],
                source,
                target,
            ),
            "buckets": {
                bucket: _scores(buckets[bucket], source, target)
                for bucket in sorted(buckets, key=lambda bucket: int(bucket.split("-")[0]))
            },
        }
    return measured


def _unseen(rows: list[dict]) -> list[dict]:
    """Splits keep whole texts apart; here no clause of a text that is scored was in a text to learn from."""
    learned = {
        clause
        for row in read_lines(pairs(TRAINED_CLAUSES, TESTED_CLAUSES) / "train.jsonl")
        for clause in clauses_of(row["ko"])
    }
    return [row for row in rows if not learned & set(clauses_of(row["ko"]))]


def clauses_of(text: str) -> list[str]:
    return text.split(f" {AND} ")


def _scores(rows: list[dict], source: str, target: str) -> dict[str, float]:
    predictions, references = [row["prediction"] for row in rows], [row[target] for row in rows]
    return {
        "sentences": len(rows),
        "words": sum(len(row[source].split()) for row in rows) / len(rows),
        "bleu": sacrebleu.corpus_bleu(predictions, [references]).score,
        "exact_match": 100 * sum(map(str.__eq__, predictions, references)) / len(rows),
        "length": len("".join(predictions)) / len("".join(references)),
    }


def _bucket(data: str, source: str) -> str:
    if data == "embedded":
        return str(len(clauses_of(source)))
    words = len(source.split())
    return next(f"{least}-{most}" for least, most in MULTI30K_BUCKETS if least <= words <= most)


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    found = {}
    for data, models in measured.items():
        unit = "clauses" if data == "embedded" else "words"
        for score, name, form in SCORES:
            if data == "multi30k" and score != "bleu":
                continue
            buckets = next(iter(models.values()))["buckets"]
            rows = [
                [NAMES[model], *(format(each[score], form) for each in (*of["buckets"].values(), of["all"]))]
                for model, of in models.items()
            ]
            found[f"length-{data}-{score}"] = Table([f"{name}, by {unit}", *buckets, "all"], rows)
    return found


def draw(measured: dict[str, Any]) -> None:
    shown = [("embedded", "exact_match"), ("embedded", "bleu"), ("multi30k", "bleu")]
    shown = [(data, score) for data, score in shown if data in measured]
    names = {score: name for score, name, _ in SCORES}
    figure, axes = panels(len(shown), width=4.6)
    for one, (data, score) in zip(axes, shown, strict=True):
        for model, of in measured[data].items():
            points = of["buckets"].values()
            one.plot([each["words"] for each in points], [each[score] for each in points], label=NAMES[model])
        if data == "embedded":
            words = [each["words"] for each in next(iter(measured[data].values()))["buckets"].values()]
            border = sum(words[TRAINED_CLAUSES - 1 : TRAINED_CLAUSES + 1]) / 2
            beyond(one, border)
        unit = " (%)" if score == "exact_match" else ""
        one.set(xlabel="words of the source", ylabel=f"{names[score]}{unit}", title=DATA[data], ylim=0)
    axes[-1].legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, "length")
