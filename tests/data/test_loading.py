"""Files as people have them: what is read exactly, and what is refused, with its place."""

import gzip
import json

import datasets
import pytest

from trefoil.configuration.errors import UserError
from trefoil.data.loading import first_rows, load_rows, load_split, row_place, sources_without, split_name
from trefoil.data.streaming import SOURCE
from trefoil.recipes.schema import DataRecipe, SourceRecipe

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
        ("train.jsonl.gz", gzip.compress(JSON_LINES.encode(), mtime=0)),
        ("train.json", JSON_LINES),
        ("train.json", json.dumps(ROWS, ensure_ascii=False)),
        ("train.json", json.dumps(ROWS, indent=2)),
        ("train.json", BOM + json.dumps(ROWS, ensure_ascii=False)),
        ("train.csv", csv_of(ROWS)),
        ("train.csv", csv_of(ROWS, end="\r\n")),
        ("train.csv", BOM + csv_of(ROWS)),
        ("train.csv.gz", gzip.compress(csv_of(ROWS).encode(), mtime=0)),
        ("train.tsv", csv_of(ROWS, "\t")),
        ("train.tsv.gz", gzip.compress(csv_of(ROWS, "\t").encode(), mtime=0)),
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


# --- the form of SQuAD

CONTEXT = "민수는 🍎 서울에서 왔다"
SQUAD_COLUMNS = ["question", "context", "answers"]


def squad(paragraphs=None, **article):
    """A second article with `paragraphs`, after one with three questions."""
    qas = [
        {"id": 1, "question": "누가?", "answers": [{"text": "민수", "answer_start": 0}]},
        {"id": "b", "question": "어디?", "is_impossible": False, "answers": [
            {"text": "서울", "answer_start": 6, "note": None}, {"text": "서울에서", "answer_start": 6}]},
        {"question": "언제?", "is_impossible": True, "answers": [{"text": "왔다", "answer_start": 11}]},
    ]  # fmt: skip
    first = {"title": "도시", "paragraphs": [{"context": CONTEXT, "qas": qas}]}
    return {"version": "1.1", "data": [first, {"paragraphs": paragraphs or [], **article}]}


SQUAD_ROWS = [
    {"id": "1", "title": "도시", "context": CONTEXT, "question": "누가?",
     "answers": {"text": ["민수"], "answer_start": [0]}},
    {"id": "b", "title": "도시", "context": CONTEXT, "question": "어디?",
     "answers": {"text": ["서울", "서울에서"], "answer_start": [6, 6]}},
    {"id": None, "title": "도시", "context": CONTEXT, "question": "언제?", "answers": {"text": [], "answer_start": []}},
    {"id": "c", "title": None, "context": "둘", "question": "몇?", "answers": {"text": [], "answer_start": []}},
]  # fmt: skip
SQUAD = squad([{"context": "둘", "qas": [{"id": "c", "question": "몇?", "answers": []}]}])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dev-v1.1.json", json.dumps(SQUAD)),
        ("dev-v1.1.json", BOM + json.dumps(SQUAD, ensure_ascii=False, indent=1)),
        ("dev-v1.1.json.gz", gzip.compress(json.dumps(SQUAD, ensure_ascii=False).encode(), mtime=0)),
    ],
)
def test_squad_is_one_row_a_question(write, name, content):
    file = write(name, content)
    for path in (file, file.parent):
        dataset = load(path, split="dev-v1.1", columns=SQUAD_COLUMNS)
        assert list(dataset) == SQUAD_ROWS
        assert dataset.features["answers"]["answer_start"] == datasets.List(datasets.Value("int32"))
        assert list(load(path, split="dev-v1.1[:50%]", columns=SQUAD_COLUMNS)) == SQUAD_ROWS[:2]
        assert list(load(path, split="dev-v1.1[3:]", columns=SQUAD_COLUMNS)) == SQUAD_ROWS[3:]


def test_squad_that_is_overwritten_is_another_data_set(write):
    content = json.dumps(SQUAD, ensure_ascii=False)
    one = load(write("train.json", content), columns=SQUAD_COLUMNS)
    same = load(write("dev.json", content), columns=SQUAD_COLUMNS)
    other = load(write("train.json", content.replace("민수는", "지영은")), columns=SQUAD_COLUMNS)
    assert other[0]["context"] == CONTEXT.replace("민수는", "지영은")
    assert len({one._fingerprint, same._fingerprint, other._fingerprint}) == 3


def test_many_questions(write):
    content = squad([{"context": CONTEXT, "qas": [{"question": f"{i}?", "answers": []} for i in range(2500)]}])
    dataset = load(write("train.json", json.dumps(content)), columns=SQUAD_COLUMNS)
    assert dataset["question"][3:] == [f"{number}?" for number in range(2500)]
    assert set(dataset["context"]) == {CONTEXT}


def test_a_column_of_that_name_is_a_column(write):
    file = write("train.json", '{"data": "a", "b": 1}')
    assert load(file, columns=["data"])["data"][:] == ["a"]


def question(**changes):
    return [{"context": "둘", "qas": [{"question": "몇?", "answers": [{"text": "둘", "answer_start": 0}]} | changes]}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": {}}, ": 'data' is a JSON dict; it must be of type list"),
        ({"data": ["a"]}, " article 1: a JSON str; it must be an object with 'paragraphs'"),
        ({"data": [{"context": "a", "question": "b"}]}, " article 1: no 'paragraphs'; there are context, question"),
        (squad(["a"]), " article 2, paragraph 1: a JSON str; it must be an object with 'context'"),
        (squad([{"context": "a"}]), " article 2, paragraph 1: no 'qas'; there are context"),
        (squad([{"context": "a", "qas": []}, {"context": None, "qas": []}]),
         " article 2, paragraph 2: 'context' is a JSON NoneType; it must be of type str"),
        (squad([{"context": "a", "qas": [[]]}]),
         " article 2, paragraph 1, question 1: a JSON list; it must be an object with 'question'"),
        (squad([{"context": "a", "qas": [{}]}]),
         " article 2, paragraph 1, question 1: no 'question'; there are none"),
        (squad([{"context": "a", "qas": [{"question": "b"}]}]),
         " article 2, paragraph 1, question 1: no 'answers'; there are question"),
        (squad(question(answers={"text": "둘"})),
         " article 2, paragraph 1, question 1: 'answers' is a JSON dict; it must be of type list"),
        (squad(question(answers=["둘"])),
         " article 2, paragraph 1, question 1, answer 1: a JSON str; it must be an object with 'text'"),
        (squad(question(answers=[{"text": "둘", "answer_start": 0}, {"text": "둘"}])),
         " article 2, paragraph 1, question 1, answer 2: no 'answer_start'; there are text"),
        (squad(question(answers=[{"text": "둘", "answer_start": "0"}])),
         " article 2, paragraph 1, question 1, answer 1: 'answer_start' is a JSON str; it must be of type int"),
        ({"data": []}, ": the split 'train' is empty; it needs at least one example"),
        ({"data": [{"paragraphs": []}]}, ": the split 'train' is empty; it needs at least one example"),
    ],
)  # fmt: skip
def test_the_place_of_a_mistake_in_squad_is_named(write, content, message):
    file = write("train.json", json.dumps(content))
    assert refused(file.parent, columns=SQUAD_COLUMNS) == f"{file}{message}"


@pytest.mark.parametrize("changes", [{"question": "\ud800"}, {"answers": [{"text": "둘", "answer_start": 2**40}]}])
def test_squad_that_cannot_be_stored(write, changes):
    file = write("train.json", json.dumps(squad(question(**changes))))
    assert refused(file, columns=SQUAD_COLUMNS).startswith(f"{file}: ")


def test_squad_for_another_task(write):
    file = write("train.json", json.dumps(SQUAD))
    assert refused(file) == f"{file}: no column 'source'; there are id, title, context, question, answers"


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
        ("train.json", "[1, 2]", " row 1: a JSON int; every row must be a JSON object"),
        ("train.json", '[{"source": "a"}]', " row 1: no column 'target'; there are source"),
        ("train.json", f"[{ROW}, {ROW}, {{}}]", " row 3: no column 'source'; there are none"),
        ("train.json", '{"source": "a"', " line 1: not JSON (Expecting ',' delimiter at character 15)"),
        ("train.json", f"[{ROW},\n{ROW}\n'b']", " line 5: not JSON (Expecting ',' delimiter at character 1)"),
        ("train.json", ROW + '{"source": "a"}\n', " line 2: no column 'target'; there are source"),
        ("train.json", ROW + "'b'", " line 2: not JSON (Expecting value at character 1)"),
        ("train.json", '{"source": "a"}', " row 1: no column 'target'; there are source"),
        ("train.json", '"a"', ": a JSON str; it must be a list of objects, JSON lines or of the form of SQuAD"),
        ("train.json", ROW.encode("utf-16"), " line 1: not UTF-8 (byte 1 of the line); convert the file to UTF-8"),
        ("train.json.gz", ROW, ": a damaged gzip file (Not a gzipped file (b'{\"')); compress it again"),
        ("train.json", b'[{"source": "\xff"}]', " line 1: not UTF-8 (byte 14 of the line); convert the file to UTF-8"),
        ("train.csv", "source,traget\na,b\n", " line 1: no column 'target'; there are source, traget"),
        ("train.csv", "a,b\n", " line 1: no column 'source'; there are a, b"),
        ("train.csv", "source,target\na,b\na,b,c\n", " line 3: 3 values for 2 columns"),
        ("train.csv", "source,target\na\n", " line 2: 1 values for 2 columns"),
        ("train.csv", "source,target\na,b\n\na,b\n", " line 3: empty; delete it"),
        ("train.csv", "source,target\n" + "a" * 200_000 + ",b\n", " line 2: field larger than field limit (131072)"),
        ("train.csv", 'source,target\na,b\n"a,b\nc,d\n', " line 4: 1 values for 2 columns"),
        ("train.csv", b"source,target\na,b\n\x81,b\n",
         " line 3: not UTF-8 (byte 1 of the line); convert the file to UTF-8"),
        ("train.csv", "source,target,source\na,b,c\n",
         " line 1: two columns are called 'source'; give each a name of its own"),
        ("train.tsv", "source,target\na,b\n", " line 1: no column 'source'; there are source,target"),
        ("train.jsonl", "", EMPTY),
        ("train.json", "", EMPTY),
        ("train.json", "[]", EMPTY),
        ("train.csv", "", EMPTY),
        ("train.parquet", "", EMPTY),
        ("train.csv", "source,target\n", EMPTY),
        ("train.jsonl.gz", gzip.compress(b"", mtime=0), EMPTY),
        ("train.csv.gz", gzip.compress(b"", mtime=0), EMPTY),
        ("train.csv.gz", gzip.compress(b"source,target\n", mtime=0), EMPTY),
        ("train.json.gz", gzip.compress(b"", mtime=0), EMPTY),
        ("train.jsonl.gz", ROW, ": a damaged gzip file (Not a gzipped file (b'{\"')); compress it again"),
        ("train.jsonl.gz", gzip.compress(ROW.encode() * 99, mtime=0)[:-9], ": a damaged gzip file (Compressed file ended before"
         " the end-of-stream marker was reached); compress it again"),
    ],
)  # fmt: skip
def test_the_place_of_a_mistake_is_named(write, name, content, message):
    file = write(name, content)
    assert refused(file.parent) == f"{file}{message}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
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
    file = write("train.docx", "x")
    assert refused(file) == (
        f"{file}: unknown kind '.docx'; there are .jsonl, .json, .csv, .tsv, .xlsx, .parquet, .txt, .conll, .iob, .tmx, each "
        "also with .gz"
    )
    assert refused(file.parent).endswith("it holds train.docx")


def test_a_folder_without_the_splits_file(write):
    file = write("dev.jsonl", ROW)
    assert refused(file.parent, split="validation") == (
        f"{file.parent}: no file for the split 'validation' (validation.jsonl, .csv, .parquet …, "
        "validation/metadata.jsonl with pictures); it holds dev.jsonl"
    )


@pytest.mark.parametrize(
    ("split", "remedy"),
    [
        ("validation", '; "data.split={validation: 0.1, test: 0.1}" takes it from train'),
        ("test", '; "data.split={test: 0.1}" takes it from train, data.test_split=null leaves it out'),
        ("train", ""),
    ],
)
def test_where_the_rows_of_a_split_without_a_file_can_come_from(write, split, remedy):
    file = write("dev.jsonl" if split == "train" else "train.jsonl", ROW)
    assert refused(file.parent, split=split).endswith(f"it holds {file.name}{remedy}")


def test_two_files_for_a_split(write):
    write("train.jsonl", ROW)
    file = write("train.csv", "source,target\na,b\n")
    assert refused(file.parent) == (
        f"{file.parent}: more than one file for the split 'train' (train.jsonl, .csv, .parquet …, "
        "train/metadata.jsonl with pictures); it holds train.csv, train.jsonl"
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


# --- several sources


@pytest.fixture
def joined(write, tmp_path):
    """A recipe of three sources: of two rows, of six with a `dev` split, and of one in a file."""
    for name, count in (("a/train", 2), ("b/train", 6), ("b/dev", 3), ("c", 1)):
        rows = [{"source": f"{name} {number} 🙂", "target": f"{number}"} for number in range(count)]
        write(f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    places = [tmp_path / "data" / name for name in ("a", "b", "c.jsonl")]
    return DataRecipe(sources=[SourceRecipe(path=str(place)) for place in places])


COLUMNS = {"source": "source", "target": "target"}


def test_sources_are_joined_in_their_order(joined):
    rows = load_rows(joined, "train", COLUMNS, "translation", 0, to_train=True)
    assert rows[SOURCE] == [0, 0, 1, 1, 1, 1, 1, 1, 2]
    assert (rows["source"][2], rows["source"][-1]) == ("b/train 0 🙂", "c 0 🙂")
    place = row_place(joined, rows, "train")
    assert [place(index) for index in (1, 2, 8)] == [
        "train, a example 2", "train, b example 1", "train, c.jsonl example 1",
    ]  # fmt: skip


def test_columns_of_sources_get_the_names_of_the_recipe_also_where_they_change_places(joined):
    joined.sources[1].columns = {"source": "target", "target": "source"}
    rows = load_rows(joined, "train", COLUMNS, "translation", 0, to_train=True)
    assert (rows["source"][1], rows["source"][2], rows["target"][2]) == ("a/train 1 🙂", "0", "b/train 0 🙂")
    joined.sources[1].columns = {"sauce": "target"}
    with pytest.raises(UserError, match=r"data.sources\[1\].columns.sauce: the task reads no such column"):
        load_rows(joined, "train", COLUMNS, "translation", 0, to_train=True)


def test_what_has_no_such_split_is_left_out(joined):
    assert load_rows(joined, "dev", COLUMNS, "translation", 0)[SOURCE] == [1, 1, 1]
    assert sources_without(joined, "dev") == ["a", "c.jsonl"]
    with pytest.raises(UserError, match="none has the split 'test'"):
        load_rows(joined, "test", COLUMNS, "translation", 0)


def test_rows_to_be_scored_come_from_a_place_where_one_is_given(joined, tmp_path):
    joined.path = str(tmp_path / "data" / "b")
    assert len(load_rows(joined, "dev", COLUMNS, "translation", 0)) == 3
    assert len(load_rows(joined, "train", COLUMNS, "translation", 0, to_train=True)) == 9


def test_a_part_of_joined_rows_has_its_share_of_each(joined):
    rows = load_rows(joined, "train", COLUMNS, "translation", 0, to_train=True)
    assert first_rows(rows, 4)["source"] == ["b/train 0 🙂", "b/train 1 🙂", "b/train 2 🙂", "c 0 🙂"]
    assert [len(first_rows(rows, count)) for count in (1, 5, 9, 20)] == [1, 5, 9, 9]


def test_a_source_that_is_not_there(joined):
    joined.sources[0].path = "nowhere"
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        load_rows(joined, "train", COLUMNS, "translation", 0, to_train=True)
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        split_name(joined, "dev")
