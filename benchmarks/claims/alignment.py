"""Claim: attention finds the words that a translation comes from, without being told (Bahdanau et al. 2015, §5.2.1 and figure 3)."""

import sys
from typing import Any

import torch
from matplotlib import pyplot as plt
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import trefoil
from trefoil.visualization.attention import CROSS, AttentionMap
from trefoil.visualization.picture import find_fonts

from .draw import Table, save, weights_of
from .length import NAMES, TRAINED_CLAUSES, clauses_of, translation_runs
from .runs import Run

MODELS = ("general", "transformer-longer")
SENTENCES = 100


def runs(multi30k: str | None) -> list[Run]:
    return translation_runs(MODELS, None)


def measure(trained: list[Run]) -> dict[str, Any]:
    """Of numbers that stand in source and target alike, the weight on the source's when the target's is written."""
    found: dict[str, Any] = {}
    rows = trained[0].predictions()
    shown = next(row for row in rows if any(character.isdigit() for character in row["ko"]))
    rows = [row for row in rows if len(clauses_of(row["ko"])) <= TRAINED_CLAUSES]
    rows = rows[:: len(rows) // SENTENCES]
    for model_name, run in zip(MODELS, trained, strict=True):
        model = AutoModelForSeq2SeqLM.from_pretrained(run.best).eval()
        tokenizer = AutoTokenizer.from_pretrained(run.best)
        maps = [trefoil.attention_maps(model, tokenizer, row["ko"], row["en"])[CROSS] for row in rows]
        by_head = torch.stack([part for one in maps for part in _weights_of_copies(one, one.weights.flatten(0, 1))])
        chosen = by_head[::2].mean(dim=0).argmax()  # on one half, to be measured on the other
        rolled = [part for one in maps if one.rolls_out for part in _weights_of_copies(one, one.rollout()[None])]
        example = trefoil.attention_maps(model, tokenizer, shown["ko"], shown["en"])[CROSS]
        found[model_name] = {
            "copies": len(by_head),
            "equal weights": sum(len(_copies(one)) / len(one.key_tokens) for one in maps) / len(by_head),
            "average": float(by_head.mean()),
            "best head": float(by_head[1::2, chosen].mean()),
            "rolled out": float(torch.stack(rolled).mean()) if rolled else None,
            "example": {"weights": example.average().tolist(), "written": example.query_tokens,
                        "source": example.key_tokens},
        }  # fmt: skip
    return found


def _copies(one: AttentionMap) -> list[tuple[int, int]]:
    """Rows and columns of tokens of digits that each side has once."""
    rows, columns = one.query_tokens, one.key_tokens
    return [
        (row, columns.index(token))
        for row, token in enumerate(rows)
        if token.strip("␣").isdigit() and rows.count(token) == columns.count(token) == 1
    ]


def _weights_of_copies(one: AttentionMap, weights: torch.Tensor) -> list[torch.Tensor]:
    return [weights[:, row, column] for row, column in _copies(one)]


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    columns = ("equal weights", "average", "best head", "rolled out")
    table = Table(["weight on the same digit", "digits", *columns])
    table.rows = [
        [NAMES[model], of["copies"], *("none" if of[column] is None else f"{of[column]:.2f}" for column in columns)]
        for model, of in measured.items()
    ]
    return {"alignment": table}


def draw(measured: dict[str, Any]) -> None:
    labels = [label for of in measured.values() for side in ("written", "source") for label in of["example"][side]]
    families, missing = find_fonts({character for label in labels for character in label})
    if missing:
        print(f"no font for {' '.join(sorted(missing))}; install one, for example fonts-nanum", file=sys.stderr)
    with plt.rc_context({"font.family": families}):
        figure, axes = plt.subplots(1, len(measured), figsize=(6 * len(measured), 5.5), layout="constrained")
        for one, (model, of) in zip(axes, measured.items(), strict=True):
            example = of["example"]
            title = f"{NAMES[model]}{', average of its heads' if model != 'general' else ''}"
            weights_of(one, example["weights"], example["written"], example["source"], title)
            one.set(xlabel="Korean source", ylabel="English that is written")
        save(figure, "alignment")
