"""Files as people have them: what is read exactly, and what is refused, with its place."""

import gzip
import json

import datasets
import pytest

from trefoil.configuration.errors import UserError
from trefoil.training.data import list_lengths, load_split
from trefoil.training.recipe import DataRecipe

ROWS = [
    {"source": "세 시 반에 만나요. 👋🏽", "target": "Let's meet at half past three. 👋🏽"},
    {"source": "뷁 ㄱㄴㄷ ㅏㅑ", "target": 'He said, "yes, no"'},
    {"source": "  둘  ", "target": "two\u2028lines\u0085and\x0cmore"},
    {"source": "007", "target": "1e3"},
    {"source": "NA", "target": "None"},
]
JSON_LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
BOM = "\ufeff"


def csv_of(rows, delimiter=",", end="\n"):
    def quoted(text):
        return '"' + text.replace('"', '""') + '"' if set(text) & set('",\n\t') else text

    lines = [["source", "target"], *([row["source"], row["target"]] for row in rows)]
    return "".join(delimiter.join(map(quoted, line)) + end for line in lines)


def load(file, split="train", columns=("source", "target")):
    return load_split(DataRecipe(path=str(file)), split, list(columns), "translation", 0)


def refused(file, **options):
    with pytest.raises(UserError) as error:
        load(file, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is read


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", JSON_LINES),
        ("train.jsonl", JSON_LINES.rstrip("\n")),
        ("train.jsonl", JSON_LINES.replace("\n", "\r\n")),
        ("train.jsonl", BOM + JSON_LINES),
        ("train.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("train.jsonl.gz", gzip.compress(JSON_LINES.encode())),
        ("train.json", JSON_LINES),
        ("train.json", json.dumps(ROWS, ensure_ascii=False)),
        ("train.json", json.dumps(ROWS, indent=2)),
        ("train.json", BOM + json.dumps(ROWS, ensure_ascii=False)),
        ("train.csv", csv_of(ROWS)),
        ("train.csv", csv_of(ROWS, end="\r\n")),
        ("train.csv", BOM + csv_of(ROWS)),
        ("train.csv.gz", gzip.compress(csv_of(ROWS).encode())),
        ("train.tsv", csv_of(ROWS, "\t")),
        ("train.tsv.gz", gzip.compress(csv_of(ROWS, "\t").encode())),
    ],
)
def test_text_is_read_exactly(write, name, content):
    file = write(name, content)
    assert list(load(file)) == ROWS
    assert list(load(file.parent)) == ROWS


def test_parquet(write):
    file = write("train.parquet", b"")
    datasets.Dataset.from_list(ROWS).to_parquet(file)
    assert list(load(file.parent)) == ROWS


@pytest.mark.parametrize("values", [("1", "20"), ("007", "08"), ("1.0", "2.50"), ("true", "false"), ("NA", "")])
def test_every_value_of_a_csv_file_is_text(write, values):
    file = write("train.csv", "source,target,id\n" + "".join(f"{value},x,{value}\n" for value in values))
    assert load(file)["source"][:] == list(values)


def test_a_line_break_within_quotes(write):
    assert load(write("train.csv", 'source,target\n"one\ntwo",b\n'))["source"][:] == ["one\ntwo"]


def test_other_columns_are_kept(write):
    file = write("train.jsonl", '{"id": 7, "source": "a", "target": "b", "note": null}\n')
    assert load(file)[0] == {"id": 7, "source": "a", "target": "b", "note": None}


def test_a_text_file_has_one_column(write):
    assert load(write("train.txt", "하나\n둘\n"), columns=["text"])["text"][:] == ["하나", "둘"]


def test_a_file_that_is_overwritten_is_read_again(write):
    assert load(write("train.jsonl", '{"source": "a", "target": "b"}\n'))["source"][:] == ["a"]
    assert load(write("train.jsonl", '{"source": "c", "target": "d"}\n'))["source"][:] == ["c"]


def test_a_null_is_left_to_the_task(write):
    assert load(write("train.jsonl", '{"source": null, "target": "b"}\n'))["source"][:] == [None]


def test_the_embedded_data():
    recipe = DataRecipe(embedded=True, embedded_sizes={"train": 3, "validation": 2, "test": 1})
    assert len(load_split(recipe, "train", ["ko", "en"], "translation", 0)) == 3
    with pytest.raises(UserError, match="the embedded data has no split 'dev'; there are train, validation, test"):
        load_split(recipe, "dev", ["ko", "en"], "translation", 0)


def test_list_lengths():
    dataset = datasets.Dataset.from_dict({"ids": [[1, 2], [], [3]]})
    assert list_lengths(dataset, "ids").tolist() == [2, 0, 1]
    assert list_lengths(dataset.select([2, 0]), "ids").tolist() == [1, 2]


# --- what is refused

ROW = '{"source": "a", "target": "b"}\n'
EMPTY = ": the split 'train' is empty; it needs at least one example"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", ROW + '{"source": "a"}\n' + ROW, " line 2: no column 'target'; there are source"),
        ("train.jsonl", ROW + ROW.replace("target", "traget"), " line 2: no column 'target'; there are source, traget"),
        ("train.jsonl", '{"a": 1}\n', " line 1: no column 'source'; there are a"),
        ("train.jsonl", ROW + "\n" + ROW, " line 2: empty; every line must be a JSON object, so delete it"),
        ("train.jsonl", ROW + ROW + "\n", " line 3: empty; every line must be a JSON object, so delete it"),
        ("train.jsonl", "\n", " line 1: empty; every line must be a JSON object, so delete it"),
        ("train.jsonl", ROW.encode() + b'{"source": "\xff"}\n',
         " line 2: not UTF-8 (byte 13 of the line); convert the file to UTF-8"),
        ("train.jsonl", ROW.encode("utf-16"), " line 1: not UTF-8 (byte 1 of the line); convert the file to UTF-8"),
        ("train.jsonl", ROW + "{'source': 1}\n", " line 2: not JSON (Expecting property name enclosed in double quotes"
         " at character 2)"),
        ("train.jsonl", ROW + '["a", "b"]\n', " line 2: a JSON list; every line must be a JSON object"),
        ("train.jsonl", ROW + '"a"\n', " line 2: a JSON str; every line must be a JSON object"),
        ("train.json", "[1, 2]", ": no column 'source'; there are text"),
        ("train.json", '[{"source": "a"}]', ": no column 'target'; there are source"),
        ("train.json", b'[{"source": "\xff"}]', " line 1: not UTF-8 (byte 14 of the line); convert the file to UTF-8"),
        ("train.csv", "source,traget\na,b\n", " line 1: no column 'target'; there are source, traget"),
        ("train.csv", "a,b\n", " line 1: no column 'source'; there are a, b"),
        ("train.csv", "source,target\na,b\na,b,c\n", " line 3: 3 values for 2 columns"),
        ("train.csv", "source,target\na\n", " line 2: 1 values for 2 columns"),
        ("train.csv", "source,target\na,b\n\na,b\n", " line 3: empty; delete it"),
        ("train.csv", "source,target\n" + "a" * 200_000 + ",b\n", " line 2: field larger than field limit (131072)"),
        ("train.csv", 'source,target\na,b\n"a,b\nc,d\n', " line 4: 1 values for 2 columns"),
        ("train.csv", b"source,target\na,b\n\xb0\xa1,b\n",
         " line 3: not UTF-8 (byte 1 of the line); convert the file to UTF-8"),
        ("train.tsv", "source,target\na,b\n", " line 1: no column 'source'; there are source,target"),
        ("train.jsonl", "", EMPTY),
        ("train.json", "", EMPTY),
        ("train.json", "[]", EMPTY),
        ("train.csv", "", EMPTY),
        ("train.parquet", "", EMPTY),
        ("train.csv", "source,target\n", EMPTY),
        ("train.jsonl.gz", gzip.compress(b""), EMPTY),
        ("train.csv.gz", gzip.compress(b""), EMPTY),
        ("train.csv.gz", gzip.compress(b"source,target\n"), EMPTY),
        ("train.json.gz", gzip.compress(b""), EMPTY),
        ("train.jsonl.gz", ROW, ": a damaged gzip file (Not a gzipped file (b'{\"')); compress it again"),
        ("train.jsonl.gz", gzip.compress(ROW.encode() * 99)[:-9], ": a damaged gzip file (Compressed file ended before"
         " the end-of-stream marker was reached); compress it again"),
    ],
)  # fmt: skip
def test_the_place_of_a_mistake_is_named(write, name, content, message):
    file = write(name, content)
    assert refused(file.parent) == f"{file}{message}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.json", '{"source": "a"'),
        ("train.parquet", b"PAR1 but no more"),
        ("train.jsonl", '{"source": "\\ud800", "target": "b"}\n'),
    ],
)
def test_a_damaged_file_is_named(write, name, content):
    file = write(name, content)
    assert refused(file.parent).startswith(f"{file}: ")


def test_an_empty_parquet_file(write):
    file = write("train.parquet", b"")
    datasets.Dataset.from_list(ROWS).select([]).to_parquet(file)
    assert refused(file.parent) == f"{file}{EMPTY}"


def test_an_unknown_kind_of_file(write):
    file = write("train.xlsx", "x")
    assert refused(file) == (
        f"{file}: unknown kind '.xlsx'; there are .jsonl, .json, .csv, .tsv, .parquet, .txt, each also with .gz"
    )
    assert refused(file.parent).endswith("it holds train.xlsx")


def test_a_folder_without_the_splits_file(write):
    file = write("dev.jsonl", ROW)
    assert refused(file.parent, split="validation") == (
        f"{file.parent}: no file for the split 'validation' (validation.jsonl, .csv, .parquet …); it holds dev.jsonl"
    )


def test_two_files_for_a_split(write):
    write("train.jsonl", ROW)
    file = write("train.csv", "source,target\na,b\n")
    assert refused(file.parent) == (
        f"{file.parent}: more than one file for the split 'train' (train.jsonl, .csv, .parquet …); "
        "it holds train.csv, train.jsonl"
    )


def test_nothing_there(tmp_path):
    assert refused(tmp_path / "none") == (
        f"{tmp_path / 'none'}: no such file or folder; data.path is a folder with files such as train.jsonl"
    )
    assert refused(tmp_path).endswith("it holds nothing")


def test_a_data_set_of_the_hub_that_is_not_there(monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("Couldn't reach 'me/pairs' on the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError) as error:
        load_split(DataRecipe(name="me/pairs"), "train", ["source"], "translation", 0)
    assert str(error.value) == (
        "data set 'me/pairs', split 'train': Couldn't reach 'me/pairs' on the Hub; "
        "give local files with data.path=FOLDER"
    )
