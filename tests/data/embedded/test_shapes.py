"""Pictures of shapes: what is in them is what the caption says, and the splits share no combination."""

import hashlib
import math
from itertools import combinations, product
from random import Random

import numpy as np
import pytest
from datasets import Image

from trefoil.data.embedded import load_embedded
from trefoil.data.embedded.dataset import split_of_scene
from trefoil.data.embedded.shapes import (
    COLOURS,
    COLUMN,
    HELD_OUT,
    REACH,
    ROW,
    SHAPES,
    SIDE,
    SIZES,
    THINGS,
    Scene,
    _places,
    draw_picture,
    draw_scene,
)

SPLITS = {"train": 600, "validation": 150, "test": 150}
# A change of this value changes everyone's data: make it deliberately.
FIRST_HUNDRED = "2cafd381307eaca06e30c0fe20489a04814c1627568aa7831182498bcbcc499e"


@pytest.fixture(scope="module")
def pictures():
    return load_embedded("image-captioning", sizes=SPLITS)


def things_of(caption):
    return caption.replace(" left of ", " above ").split(" above ")


def thing(name):
    return next(each for each in THINGS if each.en == name)


def test_columns(pictures):
    for split, rows in pictures.items():
        assert rows.column_names == ["id", "image", "text", "text_ko"]
        assert rows.features["image"] == Image()
        assert rows.num_rows == SPLITS[split] == len(set(rows["id"]))
        assert {(row["image"].mode, row["image"].size) for row in rows} == {("RGB", (SIDE, SIDE))}
        numbers = [len(things_of(text)) for text in rows["text"]]
        assert all(numbers.count(number) > 0.35 * len(numbers) for number in (1, 2))


@pytest.mark.slow
def test_every_held_out_picture_combines_what_training_never_does(pictures):
    def combined(texts):
        return [
            {frozenset(some) for number in (1, 2) for some in combinations(things_of(text), number)} for text in texts
        ]

    trained = set().union(*combined(load_embedded("image-captioning", sizes={"train": 3000})["train"]["text"]))
    for split, other in (("validation", "test"), ("test", "validation")):
        apart = set().union(*combined(pictures[other]["text"]))
        for caption in combined(pictures[split]["text"]):
            assert caption - trained - apart
    kinds = [any(frozenset([name]) not in trained for name in things_of(text)) for text in pictures["test"]["text"]]
    assert 0.5 < np.mean(kinds) < 0.98  # things never seen, and things never seen together


def test_training_shows_every_two_words_together():
    seen = [each for each in THINGS if split_of_scene(Scene((each,), ROW)) == "train"]
    assert len(seen) + sum(map(len, HELD_OUT.values())) == len(THINGS) == 48
    assert HELD_OUT["test"].isdisjoint(HELD_OUT["validation"])
    for one, other in combinations((SIZES, COLOURS, SHAPES), 2):
        together = {frozenset(words) for each in seen for words in combinations(each, 2)}
        assert {frozenset(words) for words in product(one, other)} <= together


def test_a_split_depends_on_nothing_but_seed_and_split(pictures):
    again = load_embedded("image-captioning", sizes={"test": 20})["test"]
    assert again["text"][:] == pictures["test"]["text"][:20]
    assert [np.array(each).tolist() for each in again["image"]] == [
        np.array(each).tolist() for each in pictures["test"]["image"][:20]
    ]
    other = load_embedded("image-captioning", seed=1, sizes={"test": 20})["test"]
    assert other["text"][:] != again["text"][:]
    captions = "\n".join(load_embedded("image-captioning", sizes={"train": 100})["train"]["text"])
    assert hashlib.sha256(captions.encode()).hexdigest() == FIRST_HUNDRED


def test_captions_in_both_languages():
    two = (thing("a large red circle"), thing("a small orange star"))
    assert Scene(two, COLUMN).en == "a large red circle above a small orange star"
    assert Scene(two, COLUMN).ko == "위에서부터 큰 빨간 동그라미, 작은 주황 별"
    assert Scene(two, ROW).en == "a large red circle left of a small orange star"
    assert Scene(two, ROW).ko == "왼쪽부터 큰 빨간 동그라미, 작은 주황 별"
    assert (Scene(two[:1], ROW).en, Scene(two[:1], ROW).ko) == ("a large red circle", "큰 빨간 동그라미")


def test_a_picture_shows_what_the_caption_says():
    """Red left of blue: all red pixels lie left of all blue ones; above: the same by rows; large is more than small."""
    for number in range(40):
        rng = Random(number)
        order = (ROW, COLUMN)[number % 2]
        red, blue = rng.choice(SHAPES_OF["red"]), rng.choice(SHAPES_OF["blue"])
        pixels = np.asarray(draw_picture(Scene((red, blue), order), rng)).astype(int)
        reddish = pixels[..., 0] - pixels[..., 2] > 90
        bluish = pixels[..., 2] - pixels[..., 0] > 90
        axis = 1 if order == ROW else 0
        assert reddish.any()
        assert bluish.any()
        assert reddish.nonzero()[axis].max() < bluish.nonzero()[axis].min()
        if red.shape == blue.shape and red.size != blue.size:
            assert (reddish.sum() > bluish.sum()) == (red.size.en == "large")


SHAPES_OF = {colour: [each for each in THINGS if each.colour.en == colour] for colour in ("red", "blue")}


def test_nothing_overlaps_or_is_cut_off():
    for number in range(60):
        rng = Random(number)
        picture = draw_picture(draw_scene(rng, 1 + number % 2), rng)
        saturation = np.asarray(picture.convert("HSV"))[..., 1]
        assert max(saturation[[0, -1]].max(), saturation[:, [0, -1]].max()) < 100
    assert all(math.hypot(*corner) <= REACH for outline in SHAPES.values() for corner in outline)
    for number in range(60):
        rng = Random(number)
        reaches = [REACH * rng.uniform(*SIZES[thing.size]) for thing in draw_scene(rng, 2).things]
        places = _places(reaches, rng)
        ends = [(place - reach, place + reach) for place, reach in zip(places, reaches, strict=True)]
        edges = [0.0, *(end for pair in ends for end in pair), SIDE]
        assert edges == pytest.approx(sorted(edges))


def test_more_shapes_than_there_is_room_for_are_refused():
    with pytest.raises(ValueError, match="a picture has room for 2 shapes at most"):
        load_embedded("image-captioning", sizes={"train": 1}, clauses=(1, 3))
