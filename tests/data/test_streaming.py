"""Rows of files as a stream: the same rows as in the file, whatever its parts, and mistakes told by file and line."""

import gzip
import itertools
import json
import re

import datasets
import pytest

from trefoil.configuration.errors import UserError
from trefoil.data import streaming
from trefoil.data.streaming import PLACE, open_sources, place_name
from trefoil.recipes.schema import DataRecipe, SourceRecipe

TEXTS = ["나는 학교에 간다", "🙂🙂 한 번 더 👩‍👩‍👧", "plain", 'with "quotes", commas and\ttabs', "é" * 50]


def lines(texts):
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)


def opened(path, wanted="text", there="text", **data):
    source = SourceRecipe(path=str(path), columns={} if there == wanted else {"text": there})
    (source,) = open_sources(DataRecipe(streaming=True, sources=[source], **data), {"text": wanted})
    return source


def texts_of(rows, name="text"):
    return [text for chunk in rows.iter(batch_size=3) for text in chunk[name]]


def refusal(path, **options):
    with pytest.raises(UserError) as error:
        texts_of(opened(path, **options).rows)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_kind_of_file_gives_its_rows(write, tmp_path):
    table = "text,more\n" + "".join(f'"{text.replace(chr(34), chr(34) * 2)}",1\n' for text in TEXTS)
    tabs = "more\ttext\n" + "".join(f"1\t{text}\n" for text in ("가", "나"))
    assert texts_of(opened(write("a.jsonl", lines(TEXTS))).rows) == TEXTS
    assert texts_of(opened(write("b.jsonl.gz", gzip.compress(lines(TEXTS).encode()))).rows) == TEXTS
    assert texts_of(opened(write("c.txt", "\ufeff한 줄\r\n\nlast 🙂")).rows) == ["한 줄", "", "last 🙂"]
    assert texts_of(opened(write("d.csv", table)).rows) == TEXTS
    assert texts_of(opened(write("e.tsv", tabs)).rows) == ["가", "나"]
    datasets.Dataset.from_dict({"x": [1] * 5, "content": TEXTS}).to_parquet(tmp_path / "f.parquet", batch_size=2)
    assert texts_of(opened(tmp_path / "f.parquet", there="content").rows) == TEXTS


def test_columns_are_named_as_the_recipe_names_them(write):
    file = write("a.jsonl", '{"content": "가", "id": 1}\n{"id": 2, "content": "b"}\n')
    source = opened(file, wanted="body", there="content")
    assert texts_of(source.rows, "body") == ["가", "b"]


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_parts_of_a_file_hold_each_line_once(write, monkeypatch, size):
    monkeypatch.setattr(streaming, "RANGE", size)
    texts = [f"{number} 가🙂" * (number % 5) for number in range(60)]
    source = opened(write("a.jsonl", lines(texts)))
    assert source.rows.num_shards == -(-len(lines(texts).encode()) // size)
    assert texts_of(source.rows) == texts
    parts = [texts_of(source.rows.shard(3, number, contiguous=False)) for number in range(3)] if size < 100 else [texts]
    assert sorted(itertools.chain.from_iterable(parts)) == sorted(texts)


def test_a_pattern_a_folder_and_a_file(write, tmp_path):
    for name in ("train-00001.jsonl", "train-00000.jsonl", "validation.jsonl", "other.txt"):
        write(name, lines([name]))
    folder = tmp_path / "data"
    assert texts_of(opened(folder).rows) == ["train-00000.jsonl", "train-00001.jsonl"]
    assert texts_of(opened(f"{folder}/*n*.jsonl").rows) == [
        "train-00000.jsonl",
        "train-00001.jsonl",
        "validation.jsonl",
    ]
    assert texts_of(opened(folder / "validation.jsonl").rows) == ["validation.jsonl"]


def test_a_data_set_that_datasets_loads(tmp_path):
    datasets.Dataset.from_dict({"content": TEXTS, "x": [0] * 5}).to_parquet(tmp_path / "train.parquet")
    place = SourceRecipe(name=str(tmp_path), columns={"text": "content"})
    (source,) = open_sources(DataRecipe(streaming=True, sources=[place]), {"text": "text"})
    assert texts_of(source.rows) == TEXTS
    with pytest.raises(UserError, match="no column 'text'; there are content, x"):
        open_sources(DataRecipe(streaming=True, name=str(tmp_path)), {"text": "text"})
    with pytest.raises(UserError, match="cannot be streamed"):
        open_sources(DataRecipe(streaming=True, name=str(tmp_path), train_split="nothing"), {"text": "text"})


def test_mistakes_are_told_by_file_and_line(write, tmp_path):
    file = write("a.jsonl", lines(TEXTS) + '{"text": "cut of\n' + lines(TEXTS))
    assert refusal(file) == f"{file} line 6: not JSON (Unterminated string starting at at character 10)"
    file = write("b.jsonl", lines(TEXTS) + '{"content": "x"}\n')
    assert refusal(file) == f"{file} line 6: no column 'text'; there are content"
    file = write("c.jsonl", lines(TEXTS).encode() + b'{"text": "\xff"}\n')
    assert refusal(file).startswith(f"{file} line 6: not UTF-8 (byte 11 of the line)")
    file = write("d.csv", "text,x\na,1\nb\n")
    assert refusal(file) == f"{file} line 3: 1 values for 2 columns"
    file = write("e.csv", "content\na\n")
    assert refusal(file) == f"{file} line 1: no column 'text'; there are content"
    assert refusal(write("f.jsonl", "")) == "f.jsonl: there are no rows; a stream needs at least one"
    assert refusal(write("g.conll", "a b\n")).startswith(f"{tmp_path}/data/g.conll: files of .conll; ")
    assert re.search(r"data.sources\[0\].path='.*nothing': there are no such file", refusal(tmp_path / "nothing"))
    place = SourceRecipe(path=str(file), columns={"source": "x"})
    with pytest.raises(UserError, match=r"data.sources\[0\].columns.source: the task reads no such column; it reads"):
        open_sources(DataRecipe(streaming=True, sources=[place]), {"text": "text"})


def test_a_corrupted_line_is_an_invalid_row_where_those_are_skipped(write):
    file = write("a.jsonl", '{"text": "a"}\n{"text": \n\n{"text": "b"}\n{"content": 1}\n')
    rows = opened(file, invalid_examples="skip").rows
    assert texts_of(rows) == ["a", None, None, "b", None]
    places = [place for chunk in rows.iter(batch_size=2) for place in chunk[PLACE]]
    assert [place_name(place) for place in places] == [f"{file} line {number}" for number in range(1, 6)]


def test_sources_with_one_name_are_told_apart(write):
    file = str(write("a.jsonl", lines(TEXTS)))
    recipe = DataRecipe(streaming=True, sources=[SourceRecipe(path=file), SourceRecipe(path=file, weight=2.0)])
    assert [source.name for source in open_sources(recipe, {"text": "text"})] == ["a.jsonl", "a.jsonl #2"]
