"""Claim b: the score functions dot, general and concat (Luong et al. 2015, §3.1 and table 4), and why the dot product is scaled
(Vaswani et al. 2017, §3.2.1)."""

import math
from statistics import mean
from typing import Any

import torch

from trefoil.modeling.attention import scaled_dot_product_attention

from .draw import Table, panels, save
from .heads import heads_run
from .length import DATA, NAMES, translation_runs
from .length import measure as measure_translations
from .runs import Run

WIDTHS = (4, 16, 64, 256, 1024)
KEYS, QUERIES = 64, 256
SCORES = ("none", "dot", "general", "concat")


def runs(multi30k: str | None) -> list[Run]:
    one_head = [heads_run(1, seed) for seed in (0, 1)]
    unscaled = [heads_run(1, seed, "model.config.query_pre_attn_scalar=1", name="unscaled-") for seed in (0, 1)]
    return [*translation_runs(SCORES, multi30k), *one_head, *unscaled]


def measure(trained: list[Run]) -> dict[str, Any]:
    """BLEU of the score functions; entropy and gradients of the softmax as the width grows; one wide head with and without scale."""
    translations, heads = trained[:-4], trained[-4:]
    exact = [run.results()["test"]["exact_match"] for run in heads]
    return {
        "scores": {
            data: {model: of["trained lengths"] for model, of in models.items()}
            for data, models in measure_translations(translations).items()
        },
        "softmax": {name: [_softmax(width, scaled) for width in WIDTHS] for name, scaled in
                    (("scaled", True), ("unscaled", False))},
        "one head of width 128": {"scaled": exact[:2], "unscaled": exact[2:]},
    }  # fmt: skip


def _softmax(width: int, scaled: bool) -> dict[str, float]:
    """Of random queries and keys with components of variance one."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(size, width, generator=generator) for size in (QUERIES, KEYS, KEYS))
    query.requires_grad_()
    output, weights = scaled_dot_product_attention(query, key, value, scaling=None if scaled else 1.0)
    direction = torch.randn(output.shape, generator=generator) / math.sqrt(width)
    (gradient,) = torch.autograd.grad((output * direction).sum(), query)
    entropy = -(weights * weights.clamp(min=1e-30).log()).sum(dim=-1)
    return {
        "entropy": float(entropy.detach().mean()),
        "gradient": float(gradient.norm(dim=-1).median()),
        "largest": float(weights.detach().amax(dim=-1).mean()),
    }


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    columns = [("embedded", "exact_match", "exact match"), ("embedded", "bleu", "BLEU"), ("multi30k", "bleu", "BLEU")]
    columns = [column for column in columns if column[0] in measured["scores"]]
    scores = Table(["score", *(f"{DATA[data]}: {name}" for data, _, name in columns)])
    scores.rows = [
        [NAMES[model], *(f"{measured['scores'][data][model][score]:.1f}" for data, score, _ in columns)]
        for model in SCORES
    ]
    softmax = Table(["width", *(f"{what}, {name}" for what in ("entropy", "largest weight", "gradient") for name in
                                measured["softmax"])])  # fmt: skip
    softmax.rows = [
        [width, *(f"{of[index]['entropy']:.2f}" for of in measured["softmax"].values()),
         *(f"{of[index]['largest']:.2f}" for of in measured["softmax"].values()),
         *(f"{of[index]['gradient']:.1e}" for of in measured["softmax"].values())]
        for index, width in enumerate(WIDTHS)
    ]  # fmt: skip
    trained = Table(["one head of width 128", "exact match, seed 0", "seed 1", "mean"])
    trained.rows = [
        [name, *(f"{score:.1f}" for score in scores), f"{mean(scores):.1f}"]
        for name, scores in measured["one head of width 128"].items()
    ]
    return {"scores": scores, "scaling": softmax, "scaling-trained": trained}


def draw(measured: dict[str, Any]) -> None:
    figure, (bars, entropy, gradient) = panels(3, width=4.4)
    for index, (data, models) in enumerate(measured["scores"].items()):
        places = [place + 0.4 * index for place in range(len(SCORES))]
        drawn = bars.bar(places, [models[model]["bleu"] for model in SCORES], width=0.38, label=DATA[data])
        bars.bar_label(drawn, fmt="%.1f", fontsize=8)
    shift = 0.2 * (len(measured["scores"]) - 1)
    bars.set(xticks=[place + shift for place in range(len(SCORES))], xticklabels=SCORES, ylabel="BLEU", ylim=(0, 119),
             yticks=range(0, 101, 20), xlabel="score function of the attention", title="LSTMs that translate")  # fmt: skip
    bars.legend(fontsize=8)
    for name, points in measured["softmax"].items():
        entropy.plot(WIDTHS, [point["entropy"] for point in points], label=name)
        gradient.plot(WIDTHS, [point["gradient"] for point in points], label=name)
    entropy.axhline(math.log(KEYS), color="grey", linestyle="--", linewidth=1)
    entropy.annotate(
        "uniform weights", (WIDTHS[0], math.log(KEYS)), xytext=(0, 3), textcoords="offset points", fontsize=8
    )
    entropy.set(ylim=(0, 4.6), ylabel="nats")
    for axes, title in ((entropy, f"Entropy of {KEYS} weights"), (gradient, "Norm of a query's gradient")):
        axes.set_xscale("log", base=2)
        axes.set(xlabel="width of queries and keys", title=title, xticks=WIDTHS, xticklabels=WIDTHS)
        axes.legend()
    gradient.set_yscale("log")
    save(figure, "scores")
