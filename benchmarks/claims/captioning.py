"""Claim: a decoder that reads a picture through cross-attention looks at what it names (Xu et al. 2015, §5.4 and figure 3)."""

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from trefoil.data.embedded import load_embedded

from .draw import Table, plt, save
from .runs import Run

PICTURES, SHOWN = 400, 3
KINDS = ("size", "colour", "shape")
COLUMNS = ("words", "equal weights", "on the thing", "on the other thing", "on the paper")
SATURATED = 0.4  # paper has 0.05, what stands on it 0.8 and more
FADED = 0.93  # the grey that stands for no attention


def runs(multi30k: str | None) -> list[Run]:
    return [Run("captioning/shapes", "vision-encoder-decoder-captioning-shapes", ("training.trackers=[]",))]


@torch.no_grad()
def measure(trained: list[Run]) -> dict[str, Any]:
    """Weights of the last layer, averaged over heads, in pictures of two things that are captioned without error."""
    (run,) = trained
    model = AutoModelForImageTextToText.from_pretrained(run.best, attn_implementation="eager").eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(run.best), AutoImageProcessor.from_pretrained(run.best)
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    shown = []
    for row in load_embedded("image-captioning", sizes={"test": PICTURES})["test"]:
        pixel_values = processor(row["image"], return_tensors="pt")["pixel_values"]
        caption = model.generate(pixel_values, num_beams=1)[:, 1:]
        words = [tokenizer.decode(token) for token in caption[0] if token not in tokenizer.all_special_ids]
        things = patches_of_things(row["image"], row["text"], model.config.encoder.patch_size)
        if len(things) != 2 or " ".join(words) != row["text"]:
            continue
        attention = model(pixel_values=pixel_values, labels=caption, output_attentions=True).cross_attentions[-1]
        patches = attention[0].mean(dim=0)[: len(words), -things[0].size :]  # the last keys
        maps = patches.unflatten(1, things[0].shape).numpy()
        for kind, word, thing in named(row["text"]):
            own, other = things[thing], things[1 - thing] & ~things[thing]
            equal = own.sum() / attention.shape[-1]
            found[kind].append((equal, *(maps[word][where].sum() for where in (own, other, ~own & ~other))))
        if len(shown) < SHOWN:
            shown.append({"picture": np.asarray(row["image"]).tolist(), "words": words, "maps": maps.tolist()})
    weights = {kind: [len(found[kind]), *np.mean(found[kind], axis=0).tolist()] for kind in KINDS}
    return {"exact match": run.results()["test"]["exact_match"], "weights": weights, "shown": shown}


def patches_of_things(picture: Image.Image, caption: str, side: int) -> list[np.ndarray]:
    """The patches that each thing touches, bool `(rows, columns)`, in the caption's order; a gap lies between any two."""
    coloured = np.asarray(picture.convert("HSV"))[..., 1] > SATURATED * 255
    axis = 1 if " left of " in caption else 0
    taken = np.pad(coloured.any(axis=1 - axis), 1).astype(int)
    starts, ends = (np.flatnonzero(np.diff(taken) == step) for step in (1, -1))
    things = []
    for start, end in zip(starts, ends, strict=True):
        here = np.arange(coloured.shape[axis])
        here = (start <= here) & (here < end)
        alone = coloured & (here[None, :] if axis == 1 else here[:, None])
        rows, columns = (size // side for size in coloured.shape)
        things.append(alone.reshape(rows, side, columns, side).any(axis=(1, 3)))
    return things


def named(caption: str) -> list[tuple[str, int, int]]:
    """The words that describe things: of what kind, which word of the caption, and which thing."""
    starts = [index for index, word in enumerate(caption.split()) if word == "a"]
    return [
        (kind, start + 1 + number, thing) for thing, start in enumerate(starts) for number, kind in enumerate(KINDS)
    ]


def tables(measured: dict[str, Any]) -> dict[str, Table]:
    table = Table(["weight while naming", *COLUMNS])
    table.rows = [[kind, row[0], *(f"{share:.2f}" for share in row[1:])] for kind, row in measured["weights"].items()]
    return {"captioning": table}


def draw(measured: dict[str, Any]) -> None:
    """The picture, then for every word what of the picture it looks at, each scaled to its largest weight."""
    rows = measured["shown"]
    columns = 1 + max(len(row["words"]) for row in rows)
    figure, panels = plt.subplots(
        len(rows), columns, figsize=(1.05 * columns, 1.3 * len(rows)), squeeze=False, layout="constrained"
    )
    for line, row in zip(panels, rows, strict=True):
        for panel in line:
            panel.set_axis_off()
        picture = np.asarray(row["picture"], dtype=np.uint8)
        line[0].imshow(picture)
        line[0].set_title("picture", fontsize=11, pad=3, style="italic")
        for panel, word, weights in zip(line[1:], row["words"], row["maps"], strict=False):
            panel.imshow(faded(picture, np.asarray(weights)))
            panel.set_title(word, fontsize=11, pad=3)
    save(figure, "captioning", shades=None)  # few of them would give small things the colours of large ones


def faded(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The picture where the weights are and grey where they are not, `(height, width, 3)` in [0, 1]."""
    share = Image.fromarray((weights / weights.max()).astype(np.float32))
    share = np.clip(np.asarray(share.resize(picture.shape[1::-1], Image.Resampling.BICUBIC)), 0, 1)[..., None]
    return picture / 255 * share + FADED * (1 - share)
