"""Splits cut from one: shares, strata, groups, and that the order of rows does not matter."""

import json
from collections import Counter

import datasets
import numpy as np
import pytest

from trefoil.configuration.errors import UserError
from trefoil.data.loading import load_rows, row_place, split_name
from trefoil.data.splitting import assignment, row_keys
from trefoil.recipes.schema import DataRecipe, Recipe, SplitRecipe, build, validate

COLUMNS = {"text": "text", "label": "label"}
SHARES = [0.1, 0.2]


def rows_of(count, **more):
    rows = [{"text": f"문장 {number} 🙂", "label": "ab"[number % 10 == 0]} for number in range(count)]
    return [row | {name: function(number) for name, function in more.items()} for number, row in enumerate(rows)]


def cut(rows, **options):
    return assignment(datasets.Dataset.from_list(rows), SHARES, ["text", "label"], **options)


@pytest.mark.parametrize("count", [10, 99, 1000])
def test_shares(count):
    for stratify in (None, "label", "text"):
        counts = np.bincount(cut(rows_of(count), stratify=stratify), minlength=3)
        assert np.abs(counts - count * np.array([0.7, 0.1, 0.2])).max() <= 1.5


def test_strata_have_like_shares():
    rows = rows_of(1000)
    chosen = cut(rows, stratify="label")
    of = {
        kind: Counter(row["label"] for row, one in zip(rows, chosen, strict=True) if one == kind) for kind in range(3)
    }
    assert [of[kind]["b"] for kind in range(3)] == pytest.approx([70, 10, 20], abs=2)
    assert [of[kind]["a"] for kind in range(3)] == pytest.approx([630, 90, 180], abs=2)


def test_a_label_is_never_tested_that_was_not_trained_on():
    rows = rows_of(40) + [{"text": f"x {number}", "label": f"rare {number}"} for number in range(9)]
    chosen = cut(rows, stratify="label")
    assert set(chosen[-9:]) == {0}


def test_whole_groups_stay_together():
    rows = rows_of(600, speaker=lambda number: f"화자 {number % 37}")
    chosen = cut(rows, group="speaker", stratify="label")
    assert all(len({int(one) for one in chosen[start::37]}) == 1 for start in range(37))
    assert np.abs(np.bincount(chosen) - 600 * np.array([0.7, 0.1, 0.2])).max() <= 20


def test_rows_fall_alike_in_any_order_and_otherwise_by_another_seed():
    rows = rows_of(200)
    order = np.random.default_rng(0).permutation(200)
    for options in ({}, {"stratify": "label"}):
        assert (cut(rows, **options)[order] == cut([rows[at] for at in order], **options)).all()
    assert (cut(rows) != cut(rows, seed=1)).sum() > 20


def test_equal_rows_fall_to_one_split():
    chosen = cut(rows_of(100) * 2)
    assert (chosen[:100] == chosen[100:]).all()
    assert set(chosen) == {0, 1, 2}


def test_keys_of_rows():
    rows = datasets.Dataset.from_list(
        [{"a": "x", "b": ["y", None]}, {"a": "x", "b": ["y", "z"]}, {"a": "x", "b": ["y", None]}]
    )
    assert len(set(row_keys(rows, ["a"]))) == 1
    one, other, again = row_keys(rows, ["a", "b"])
    assert one == again != other


# --- as a recipe says it


@pytest.fixture
def file(write):
    return write("reviews.jsonl", "".join(json.dumps(row) + "\n" for row in rows_of(200)))


def load(recipe, split):
    return load_rows(recipe, split, COLUMNS, "text-classification", 0)


def test_one_file_is_cut_and_rows_are_named_by_their_places_in_it(file):
    recipe = DataRecipe(path=str(file), split=SplitRecipe(validation=0.1, test=0.2))
    parts = {name: load(recipe, name) for name in ("train", "validation", "test")}
    assert [len(rows) for rows in parts.values()] == [140, 20, 40]
    assert sorted(text for rows in parts.values() for text in rows["text"]) == sorted(
        row["text"] for row in rows_of(200)
    )
    assert Counter(parts["validation"]["label"])["b"] == 2  # strata are the label's
    rows, where = parts["test"], split_name(recipe, "test")
    assert where == f"{file} (test)"
    number = int(rows[3]["text"].split()[1])
    assert row_place(recipe, rows, where)(3) == f"{where} example {number + 1}"
    assert load(recipe, "test[:50%]")["text"] == rows["text"][:20]


@pytest.mark.parametrize(("split", "first"), [("train", 1), ("train[50%:]", 3)])
def test_a_row_of_a_table_is_named_with_its_line(write, split, first):
    file = write("train.csv", 'text;label\na;1\n"b\nc";1\nd;1\ne;1\n')
    recipe = DataRecipe(path=str(file.parent))
    rows = load(recipe, split)
    place = row_place(recipe, rows, split_name(recipe, split))
    lines = {1: 2, 2: 4, 3: 5, 4: 6}
    assert place(0) == f"{file} example {first} (line {lines[first]})"
    assert place(len(rows) - 1) == f"{file} example 4 (line 6)"


def test_a_folder_with_train_only_is_cut(file):
    train = file.rename(file.with_name("train.jsonl"))
    recipe = DataRecipe(path=str(file.parent), validation_split="dev", split=SplitRecipe(validation=0.1))
    assert len(load(recipe, "dev")) == 20
    assert split_name(recipe, "dev") == f"{train} (dev)"
    (file.parent / "dev.jsonl").write_bytes(train.read_bytes())
    with pytest.raises(UserError, match=r"data.split: 'dev' is in .*dev.jsonl already; leave its share out"):
        load(recipe, "dev")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"split": {"validation": 0.5, "test": 0.5}}, "data.split leaves nothing to train on"),
        ({"split": {"group": "id"}}, "data.split.group does nothing without a share"),
        ({"split": {"test": 0.1}, "test_split": None}, "data.split.test=0.1 and data.test_split=null; set one"),
        ({"split": {"test": 0.1}, "train_split": "train[:9]"}, r"'train\[:9\]' is a part"),
        ({"split": {"test": 0.1}, "streaming": True}, "not for data.streaming"),
        ({"split": {"validation": 1}}, r"data.split.validation=1.0 must lie in \[0, 1\)"),
        ({"split": {"vaildation": 0.1}}, "unknown key data.split.vaildation; did you mean validation"),
    ],
)
def test_cuts_that_make_no_sense(data, message):
    content = {"data": {"path": "x.csv", **data}, "model": {"preset": "encoder-tiny"}, "training": {"max_steps": 1}}
    with pytest.raises(UserError, match=message):
        validate(build(Recipe, content, "my.yaml"), "my.yaml")


def test_a_share_that_no_row_falls_to(write):
    file = write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows_of(3)))
    with pytest.raises(UserError, match="none of the 3 rows falls to 'validation'; change the shares"):
        load(DataRecipe(path=str(file), split=SplitRecipe(validation=0.01)), "train")
