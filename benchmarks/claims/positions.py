"""Claim c: without positions, self-attention does not know the order of its inputs; the kinds of positions compared within and
beyond the trained length (Vaswani et al. 2017, §3.5; Press et al. 2022, figure 1; Kazemnejad et al. 2023)."""

from itertools import chain
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import trefoil

from .draw import Table, beyond, panels, save
from .runs import Run, read_lines
from .texts import english

KINDS = ("none", "sinusoidal", "learned", "rotary", "relative", "alibi")
NAMES = {"none": "no positions", "alibi": "ALiBi"}
TRAINED, LONGEST, WIDTH = 64, 512, 32


def runs(multi30k: str | None) -> list[Run]:
    folder = english()
    return [language_model_run(kind, family, folder) for family in ("decoder", "encoder") for kind in KINDS]


def language_model_run(kind: str, family: str, folder: Any = None) -> Run:
    recipe = {"decoder": "language-model", "encoder": "masked-lm"}[family]
    overrides = [f"data.path={folder or english()}", f"model.config.position_embedding_type={kind}"]
    if kind == "sinusoidal":  # else waves of height one drown the embeddings: Vaswani et al. 2017, §3.4
        overrides.append("model.config.scale_embedding=true")
    return Run(f"positions/{family}-{kind}", recipe, tuple(overrides))


def measure(trained: list[Run]) -> dict[str, Any]:
    """How far outputs are from moving along with their inputs; perplexities; and the decoders' loss at each position."""
    perplexities = {run.name.removeprefix("positions/"): run.results()["test"]["perplexity"] for run in trained}
    losses = {}
    for run in trained:
        family, _, kind = run.name.removeprefix("positions/").partition("-")
        if family == "decoder":
            losses[kind] = losses_by_position(run, TRAINED if kind == "learned" else LONGEST)
    return {"equivariance": equivariance(), "perplexity": perplexities, "losses": losses}


def equivariance() -> dict[str, float]:
    """`|f(P x) - P f(x)|` relative to `|f(x)|`, of untrained encoders whose inputs are put into another order."""
    found = {}
    for kind in KINDS:
        torch.manual_seed(0)
        config = trefoil.preset_config(
            "encoder-tiny", vocab_size=100, position_embedding_type=kind, initializer_range=0.2
        )
        model = trefoil.TrefoilEncoderModel(config).eval()
        token_ids, order = torch.randint(3, 100, (1, 20)), torch.randperm(20)
        with torch.no_grad():
            straight = model(token_ids).last_hidden_state[:, order]
            moved = model(token_ids[:, order]).last_hidden_state
        found[kind] = float((moved - straight).norm() / straight.norm())
    return found


@torch.no_grad()
def losses_by_position(run: Run, longest: int) -> list[float]:
    """The mean loss of each `WIDTH` positions, in texts of `longest` tokens."""
    model = AutoModelForCausalLM.from_pretrained(run.best, max_position_embeddings=longest).eval()
    tokenizer = AutoTokenizer.from_pretrained(run.best)
    lines = [row["text"] + "\n" for row in read_lines(english() / "test.jsonl")]
    stream = list(chain.from_iterable(tokenizer(lines, add_special_tokens=False)["input_ids"]))
    rows = torch.tensor(stream[: len(stream) // longest * longest]).view(-1, longest)
    logits = torch.cat([model(batch).logits[:, :-1] for batch in rows.split(16)])
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none").mean(dim=0)
    return [float(part.mean()) for part in losses.split(WIDTH)]


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    header = ["positions", "order ignored by", "encoder: perplexity", "decoder: perplexity"]
    places = {f"loss at {start}–{start + WIDTH - 1}": start // WIDTH for start in (32, 64, 128, 256, 480)}
    table = Table([*header, *places])
    for kind in KINDS:
        losses = measured["losses"][kind]
        table.rows.append([
            kind, f"{measured['equivariance'][kind]:.1e}",
            *(f"{measured['perplexity'][f'{family}-{kind}']:.2f}" for family in ("encoder", "decoder")),
            *(f"{losses[place]:.2f}" if place < len(losses) else "none" for place in places.values()),
        ])  # fmt: skip
    table.header = [name.replace("order ignored by", "difference after reordering") for name in table.header]
    return {"positions": table}


def draw(measured: dict[str, Any]) -> None:
    figure, axes = panels(1, width=7)
    for kind, losses in measured["losses"].items():
        axes.plot(
            [WIDTH * (index + 0.5) for index in range(len(losses))], losses, label=NAMES.get(kind, kind), markersize=4
        )
    beyond(axes, TRAINED)
    axes.set(xlabel="position of the token", ylabel="loss (nats)", title=f"Decoders trained on {TRAINED} tokens")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, "positions")
