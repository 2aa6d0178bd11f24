"""Claim a: a seq2seq that hands one vector to its decoder loses quality as sentences get longer (Bahdanau et al. 2015, figure 2);
attention repairs it; the transformer holds longest. Four models of equal size, quality against the length of the source."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sacrebleu

from .draw import Table, panels, save
from .runs import Run
from .texts import pairs

TRAINED_CLAUSES, TESTED_CLAUSES = 3, 5
MULTI30K_BUCKETS = ((1, 8), (9, 11), (12, 14), (15, 18), (19, 99))

# the width that makes all models equally large, on embedded text and on Multi30k; the transformer's is its inner width
WIDTHS = {"none": (276, 276), "dot": (262, 262), "general": (256, 256), "concat": (250, 250), "transformer": (312, 396)}
NAMES = {
    "none": "LSTM without attention", "dot": "LSTM, dot", "general": "LSTM, general", "concat": "LSTM, concat",
    "transformer": "transformer",
}  # fmt: skip
MODELS = ("none", "general", "concat", "transformer")
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
    fields = f"{{num_hidden_layers: 1, hidden_size: {width}, attention_type: {model}}}"
    # with these, recurrent models learn faster
    return (
        "model.preset=recurrent-small", f"model.config={fields}", "model.attn_implementation=null",
        "optimization.learning_rate=4.0e-3", "optimization.beta2=0.999",
    )  # fmt: skip


def runs(multi30k: str | None) -> list[Run]:
    return translation_runs(MODELS, multi30k)


def measure(trained: list[Run]) -> dict[str, Any]:
    """BLEU of each model in each bucket of lengths, with the mean number of words of the source there."""
    measured: dict[str, Any] = {}
    for run in trained:
        data, _, model = run.name.removeprefix("translation/").partition("-")
        source, target = ("ko", "en") if data == "embedded" else ("en", "de")
        buckets: dict[str, list[dict]] = {}
        for row in run.predictions():
            buckets.setdefault(_bucket(data, row[source]), []).append(row)
        measured.setdefault(data, {})[model] = {
            "bleu": run.results()["test"]["bleu"],
            "buckets": {
                bucket: {
                    "words": sum(len(row[source].split()) for row in rows) / len(rows),
                    "sentences": len(rows),
                    "bleu": sacrebleu.corpus_bleu(
                        [row["prediction"] for row in rows], [[row[target] for row in rows]]
                    ).score,
                }
                for bucket, rows in sorted(buckets.items(), key=lambda item: int(item[0].split("-")[0]))
            },
        }
    return measured


def _bucket(data: str, source: str) -> str:
    if data == "embedded":
        return str(source.count("그리고") + 1)
    words = len(source.split())
    return next(f"{least}-{most}" for least, most in MULTI30K_BUCKETS if least <= words <= most)


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    found = {}
    for data, models in measured.items():
        buckets = next(iter(models.values()))["buckets"]
        unit = "clauses" if data == "embedded" else "words"
        header = [f"BLEU, by {unit}", *buckets, "all"]
        rows = [
            [NAMES[model], *(f"{each['bleu']:.1f}" for each in of["buckets"].values()), f"{of['bleu']:.1f}"]
            for model, of in models.items()
        ]
        found[f"length-{data}"] = Table(header, rows)
    return found


def draw(measured: dict[str, Any]) -> None:
    figure, axes = panels(len(measured), squeeze=False)
    for one, (data, models) in zip(axes[0], measured.items(), strict=True):
        for model, of in models.items():
            points = of["buckets"].values()
            one.plot([each["words"] for each in points], [each["bleu"] for each in points], label=NAMES[model])
        if data == "embedded":
            words = [each["words"] for each in next(iter(models.values()))["buckets"].values()]
            border = sum(words[TRAINED_CLAUSES - 1 : TRAINED_CLAUSES + 1]) / 2
            one.axvline(border, color="grey", linestyle="--", linewidth=1)
            one.annotate(
                "longer than in training →", (border, 2), xytext=(4, 0), textcoords="offset points", fontsize=8
            )
        one.set(xlabel="words of the source", ylabel="BLEU", title=DATA[data], ylim=0)
        one.legend()
    save(figure, "length")
