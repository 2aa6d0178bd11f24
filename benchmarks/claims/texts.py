"""What the claims are measured on: the embedded data, written out as files that recipes read."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from random import Random

from trefoil.data.embedded import load_embedded

from .runs import RUNS

TEXTS = RUNS / "texts"


def write_rows(folder: Path, split: str, rows: Iterable[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


@cache
def pairs(trained_clauses: int, tested_clauses: int) -> Path:
    """Korean-English pairs of up to `trained_clauses` clauses to learn from, and of up to `tested_clauses` to be tested on, as
    many of each number; no English is in two splits."""
    folder = TEXTS / "pairs"
    learned = load_embedded("translation", sizes={"train": 20_000, "validation": 500}, clauses=(1, trained_clauses))
    for split, rows in learned.items():
        write_rows(folder, split, rows)
    tested = [
        row | {"clauses": clauses}
        for clauses in range(1, tested_clauses + 1)
        for row in load_embedded("translation", sizes={"test": 200}, clauses=(clauses, clauses))["test"]
    ]
    write_rows(folder, "test", tested)
    return folder


@cache
def english() -> Path:
    """English lines, for language models."""
    folder = TEXTS / "english"
    for split, rows in load_embedded(
        "translation", sizes={"train": 20_000, "validation": 1_000, "test": 1_000}
    ).items():
        write_rows(folder, split, ({"text": row["en"]} for row in rows))
    return folder


@cache
def flies(seed: int = 0) -> Path:
    """Sentences in which "flies" is a verb, or a noun, and many without it; never those two that the claim is about."""
    folder = TEXTS / "flies"
    rng = Random(seed)
    sentences = {_sentence(rng) for _ in range(12_000)} - set(TIME_AND_FRUIT)
    shuffled = sorted(sentences)
    rng.shuffle(shuffled)
    held_out = len(shuffled) // 10
    splits = {
        "validation": shuffled[:held_out],
        "test": shuffled[held_out : 2 * held_out],
        "train": shuffled[2 * held_out :],
    }
    for split, chosen in splits.items():
        write_rows(folder, split, ({"text": sentence} for sentence in chosen))
    return folder


TIME_AND_FRUIT = ("time flies like an arrow", "fruit flies like a banana")

# what moves, and how; who likes or eats what. Either has one word or two before it, so that place does not tell them apart
MOVERS = ("time", "summer", "news", "smoke", "sleep", "the arrow", "the bird", "the plane", "a bee", "the owl", "a rocket",
          "the river")  # fmt: skip
MOVES = ("flies", "runs", "moves", "passes", "goes", "turns")
MANNERS = ("like an arrow", "like the wind", "like a river", "like a dream", "like a rocket", "over the house", "to the tree",
           "away", "very fast", "in the morning", "past the window", "like a bird")  # fmt: skip
INSECTS = ("flies", "bees", "ants", "birds", "children", "horses", "people")
KINDS = ("fruit", "house", "horse", "black", "hungry", "many", "the small", "the black", "some hungry", "many small")
TASTES = ("like", "eat", "want", "find", "hate", "love")
FOODS = (
    "a banana",
    "the banana",
    "an apple",
    "ripe fruit",
    "the fruit",
    "sugar",
    "an orange",
    "bread",
    "sweet milk",
    "a cake",
)


def _sentence(rng: Random) -> str:
    if rng.random() < 0.5:
        return f"{rng.choice(MOVERS)} {rng.choice(MOVES)} {rng.choice(MANNERS)}"
    kind, where = rng.choice(KINDS), rng.choice(("", " in the house", " in the morning", " at night"))
    return f"{kind} {rng.choice(INSECTS)} {rng.choice(TASTES)} {rng.choice(FOODS)}{where}"
