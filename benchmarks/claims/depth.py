"""Claim e: residual connections and normalisation make depth trainable; post-norm wants a warm-up, pre-norm does not
(He et al. 2016; Ba et al. 2016; Vaswani et al. 2017, §5.3; Xiong et al. 2020)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import trefoil.modeling.layer as layer
import trefoil.modeling.stack as stack

from .draw import Table, panels, save
from .runs import Run
from .texts import english

DEPTHS = (2, 6, 12, 24)
LARGE, SMALL = 0.125, 0.02  # initial deviation of weights: 1 / √width, about Xavier's as in Xiong et al., and BERT's
# norm, steps of warm-up, initial weights, what is exchanged
VARIANTS = {
    "pre-norm, warm-up": ("pre", 60, LARGE, "-"),
    "pre-norm, no warm-up": ("pre", 0, LARGE, "-"),
    "post-norm, warm-up": ("post", 60, LARGE, "-"),
    "post-norm, no warm-up": ("post", 0, LARGE, "-"),
    "no residuals": ("pre", 60, LARGE, "depth.without_residuals"),
    "no norms": ("pre", 60, LARGE, "depth.without_norms"),
    "small weights, pre-norm, warm-up": ("pre", 60, SMALL, "-"),
    "small weights, pre-norm, no warm-up": ("pre", 0, SMALL, "-"),
    "small weights, post-norm, warm-up": ("post", 60, SMALL, "-"),
    "small weights, post-norm, no warm-up": ("post", 0, SMALL, "-"),
}


def without_residuals() -> None:
    def sublayer_alone(self: Any, hidden_states: torch.Tensor, name: str, sublayer: Callable) -> torch.Tensor:
        return self.dropout(sublayer(getattr(self, f"{name}_norm")(hidden_states)))

    layer.TransformerLayer._residual = sublayer_alone  # type: ignore[method-assign]


def without_norms() -> None:
    layer.make_norm = stack.make_norm = lambda *_: nn.Identity()  # type: ignore[assignment,return-value]


def runs(multi30k: str | None) -> list[Run]:
    folder = english()
    return [
        Run(
            f"depth/{name.replace(', ', '-').replace(' ', '-')}-{depth}",
            "language-model",
            (f"data.path={folder}", "model.config.hidden_size=64", "model.config.intermediate_size=192",
             f"model.config.num_hidden_layers={depth}", f"model.config.norm_position={norm}",
             f"model.config.initializer_range={weights}", "batches.tokens_per_batch=1024",
             f"optimization.warmup_steps={warmup}", "optimization.max_grad_norm=null",
             "training.max_steps=300", "training.evaluate_every=300"),
            exchange,
            may_diverge=True,
        )
        for name, (norm, warmup, weights, exchange) in VARIANTS.items()
        for depth in DEPTHS
    ]  # fmt: skip


def measure(trained: list[Run]) -> dict[str, Any]:
    """Test loss for each variant and depth; none where it diverged."""
    found = iter(trained)
    return {name: {str(depth): _loss(next(found)) for depth in DEPTHS} for name in VARIANTS}


def _loss(run: Run) -> float | None:
    loss = math.nan if run.has_diverged() else math.log(run.results()["test"]["perplexity"])
    return loss if math.isfinite(loss) else None


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    table = Table(["test loss", *(f"{depth} layers" for depth in DEPTHS)])
    table.rows = [
        [name, *("diverged" if loss is None else f"{loss:.2f}" for loss in losses.values())]
        for name, losses in measured.items()
    ]
    return {"depth": table}


def draw(measured: dict[str, Any]) -> None:
    figure, axes = panels(2, width=6, sharey=True)
    for name, losses in measured.items():
        one = axes[int(VARIANTS[name][2] == SMALL)]
        diverges = " (then diverges)" if None in losses.values() else ""
        label = name.removeprefix("small weights, ") + diverges
        one.plot(DEPTHS, [math.nan if loss is None else loss for loss in losses.values()], label=label)
    for one, deviation in zip(axes, (LARGE, SMALL), strict=True):
        one.set(xlabel="layers", title=f"Initial weights of deviation {deviation}", xticks=DEPTHS)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    axes[0].set_ylabel("test loss (nats) after 300 steps")
    axes[0].set_ylim(1, 7)  # the logarithm of the vocabulary's size is what guessing costs
    save(figure, "depth")
