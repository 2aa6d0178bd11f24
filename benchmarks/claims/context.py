"""Claim h: the same word gets another vector in another context (Peters et al. 2018; Devlin et al. 2019; Ethayarajh 2019): "flies"
in "time flies like an arrow" and "fruit flies like a banana", layer by layer."""

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, AutoTokenizer

from .draw import Table, panels, save
from .runs import Run, read_lines
from .texts import MOVERS, TIME_AND_FRUIT, flies

LAYERS = 4


def runs(multi30k: str | None) -> list[Run]:
    overrides = (f"data.path={flies()}", "tokenizer.kind=wordpiece", "tokenizer.vocab_size=200", f"model.config.num_hidden_layers={LAYERS}",
                 "training.max_steps=400", "training.evaluate_every=400")  # fmt: skip
    return [Run("context/flies", "masked-lm", overrides)]


def measure(trained: list[Run]) -> dict[str, Any]:
    (run,) = trained
    model = AutoModelForMaskedLM.from_pretrained(run.best).eval()
    tokenizer = AutoTokenizer.from_pretrained(run.best)
    torch.manual_seed(0)
    untrained = type(model)(model.config).eval()
    held_out = [row["text"] for row in read_lines(flies() / "test.jsonl") if "flies" in row["text"].split()]
    verbs = [text for text in held_out if _is_verb(text)]
    nouns = [text for text in held_out if not _is_verb(text)]
    return {
        name: _distances(each, tokenizer, verbs, nouns) for name, each in (("trained", model), ("untrained", untrained))
    } | {"sentences": {"verb": len(verbs), "noun": len(nouns)}, "perplexity": run.results()["test"]["perplexity"]}


def _is_verb(text: str) -> bool:
    """In the grammar, "flies" is a verb behind what moves, and a noun behind all else."""
    return text.split(" flies ")[0] in MOVERS


@torch.no_grad()
def _vectors(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Of "flies" in each text, after each layer and before the first: `(layers + 1, texts, C)`."""
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    states = torch.stack(model(**inputs, output_hidden_states=True).hidden_states)
    places = inputs["input_ids"] == tokenizer.convert_tokens_to_ids("flies")
    assert (places.sum(dim=1) == 1).all()
    return states[:, places]


def _distances(model: Any, tokenizer: Any, verbs: list[str], nouns: list[str]) -> dict[str, Any]:
    """Cosine distances by layer, and the last layer's two main directions."""
    pair = _vectors(model, tokenizer, list(TIME_AND_FRUIT))
    verb, noun = _vectors(model, tokenizer, verbs), _vectors(model, tokenizer, nouns)
    similar = nn.functional.cosine_similarity
    last = torch.cat((pair[-1], verb[-1], noun[-1]))
    _, _, directions = torch.pca_lowrank(last, q=2)
    return {
        "the two sentences": (1 - similar(pair[:, 0], pair[:, 1], dim=-1)).tolist(),
        "verb and noun": _mean_distance(verb, noun),
        "verb and verb": _mean_distance(verb, verb),
        "noun and noun": _mean_distance(noun, noun),
        "map": ((last - last.mean(dim=0)) @ directions).tolist(),
    }


def _mean_distance(some: torch.Tensor, others: torch.Tensor) -> list[float]:
    found = []
    for left, right in zip(some, others, strict=True):
        cosines = nn.functional.normalize(left, dim=-1) @ nn.functional.normalize(right, dim=-1).T
        pairs = cosines[~torch.eye(len(left), dtype=torch.bool)] if some is others else cosines.flatten()
        found.append(1 - float(pairs.mean()))
    return found


PAIRS = ("the two sentences", "verb and noun", "verb and verb", "noun and noun")


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    table = Table(["cosine distance of “flies”", "embedding", *(f"layer {index + 1}" for index in range(LAYERS))])
    for name, of in ((name, measured[name]) for name in ("trained", "untrained")):
        table.rows += [[f"{pair}, {name}", *(f"{value:.2f}" for value in of[pair])] for pair in PAIRS]
    return {"context": table}


def draw(measured: dict[str, Any]) -> None:
    figure, (trained, untrained, places) = panels(3, width=4.4)
    for axes, name in ((trained, "trained"), (untrained, "untrained")):
        for pair in PAIRS:
            axes.plot(range(LAYERS + 1), measured[name][pair], label=pair)
        axes.set(
            xlabel="layer (0: embedding)", xticks=range(LAYERS + 1), title=f"“flies”, {name} model", ylim=(-0.02, 0.5)
        )
    trained.set(ylabel="cosine distance")
    trained.legend(fontsize=8)
    spots = measured["trained"]["map"]
    verbs = measured["sentences"]["verb"]
    for name, part in (("verb", spots[2 : 2 + verbs]), ("noun", spots[2 + verbs :])):
        places.scatter(*zip(*part, strict=True), s=12, label=f"“flies” as a {name}", alpha=0.6)
    for text, spot, marker in zip(TIME_AND_FRUIT, spots[:2], "*X", strict=True):
        places.scatter(*spot, color="black", marker=marker, s=90, zorder=3, label=f"“{text}”")
    places.set(title=f"“flies” after layer {LAYERS}: the two main directions", xticks=[], yticks=[])
    places.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.03), ncols=2)
    save(figure, "context")
