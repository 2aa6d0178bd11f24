"""Tables and translation memories as other programs write them: any delimiter and encoding, Excel, TMX."""

import gzip
import zipfile

import pytest

from trefoil.configuration.errors import UserError
from trefoil.data import progress
from trefoil.data.formats import FORMATS, tmx
from trefoil.data.loading import load_split
from trefoil.data.streaming import open_sources
from trefoil.recipes.schema import DataRecipe, Recipe, build

ROWS = [{"text": "정말 좋은 영화, 강추", "label": "1"}, {"text": 'He said "no"; twice', "label": "0"}]
LATIN = [{"text": "Ärger über Müll", "label": "1"}, {"text": "déjà vu", "label": "0"}]


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(progress, "_said", set())


def load(file, columns=("text", "label"), **form):
    return load_split(DataRecipe(path=str(file), **form), "train", list(columns), "text-classification", 0)


def refused(file, columns=("text", "label"), **form):
    with pytest.raises(UserError) as error:
        load(file, columns, **form)
    return str(error.value)


def table(rows, delimiter, header=True):
    cells = [[*rows[0]]] * header + [list(row.values()) for row in rows]
    return "".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in line) + "\r\n" for line in cells)


@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_a_delimiter_is_found_and_said(write, capsys, delimiter):
    file = write("train.csv", table(ROWS, delimiter))
    assert list(load(file)) == ROWS
    said = f"{file}: columns are divided by {delimiter!r} (set data.delimiter if that is wrong)"
    assert (said in capsys.readouterr().err) == (delimiter != ",")
    list(load(file))
    assert "divided" not in capsys.readouterr().err  # once, and for the next run again
    progress._said.clear()
    list(load(file))
    assert (said in capsys.readouterr().err) == (delimiter != ",")


def test_a_delimiter_that_is_asked_for(write):
    file = write("train.csv", table(ROWS, "~"))
    assert list(load(file, delimiter="~")) == ROWS
    assert refused(file).startswith(f"{file} line 1: no column 'text'; there are text~")
    assert list(load(write("train.tsv", table(ROWS, ";")), delimiter=";")) == ROWS


def test_of_texts_with_other_delimiters_in_them_the_comma_stays(write):
    assert load(write("train.csv", "text\na;b\nc;d\n"), ["text"])["text"][:] == ["a;b", "c;d"]
    assert refused(write("train.csv", "text\na,b\n"), ["text"]).endswith("line 2: 2 values for 1 columns")


@pytest.mark.parametrize(
    ("encoding", "rows", "said"),
    [
        ("utf-8-sig", ROWS, None),
        ("utf-16", ROWS, "utf-16"),
        ("cp949", ROWS, 'cp949, in which it says \'"정말 좋은 영화, 강추","1"\' (set'),
        ("euc-kr", ROWS, "cp949"),
        ("cp1252", LATIN, 'cp1252, in which it says \'"Ärger über Müll","1"\' (set'),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_encoding_is_found_and_said(write, capsys, encoding, rows, said, pack):
    file = write("train.csv" + ".gz" * (pack is not bytes), pack(table(rows, ",").encode(encoding)))
    assert list(load(file)) == rows
    assert (f"{file}: not UTF-8; read as {said}" in capsys.readouterr().err) == (said is not None)


def test_texts_of_other_encodings(write):
    assert load(write("train.txt", "하나\n둘\n".encode("cp949")), ["text"])["text"][:] == ["하나", "둘"]
    tokens = load(write("train.conll", "서울\tB-LOC\n".encode("cp949")), ["tokens"])
    assert tokens["tokens"][:] == [["서울"]]


def test_an_encoding_that_is_asked_for(write, capsys):
    file = write("train.csv", table(LATIN, ",").encode("mac-roman"))
    assert list(load(file, encoding="mac-roman")) == LATIN
    assert capsys.readouterr().err.count("read as") == 0
    assert refused(write("train.csv", b"text,label\n\xff,1\n"), encoding="cp949") == (
        f"{file} line 2: not cp949 (byte 1 of the line); set data.encoding"
    )
    assert refused(write("train.csv", "text,label\na,1\n".encode("utf-16")[:-1])).startswith(
        f"{file} behind line 1: not"
    )


def test_a_damaged_line_of_utf8_is_no_other_encoding(write):
    content = "text,label\n" + "좋다,1\n" * 9
    file = write("train.csv", content.encode() + b"\xb0\xa1,0\n")
    assert refused(file) == f"{file} line 11: not UTF-8 (byte 1 of the line); convert the file to UTF-8"


def test_a_file_without_a_header(write):
    file = write("train.tsv", table(ROWS, "\t", header=False))
    assert list(load(file, header=["text", "label"])) == ROWS
    assert refused(file, header=["text"], columns=["text"]) == f"{file} line 1: 2 values for 1 columns"
    assert "two columns are called 'text'" in refused(file, ["text"], header=["text", "text"])


def test_a_form_that_a_file_cannot_have(write):
    file = write("train.jsonl", '{"text": "a", "label": "b"}\n')
    assert refused(file, header=["text"]) == f"{file}: data.header is not for .jsonl files; leave it out"
    write("train.ko", "a\n")
    file.unlink()
    assert "data.header is for tables and texts" in refused(file.parent, header=["text"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"delimiter": ", "}, "data.delimiter=', ' must be one character"),
        ({"encoding": "utf-9"}, "data.encoding='utf-9' is no encoding; utf-8, utf-16, cp1252 and cp949 are"),
    ],
)
def test_a_form_that_there_is_not(content, message):
    with pytest.raises(UserError, match=message):
        build(Recipe, {"data": content}, "my.yaml")


def test_a_stream_reads_the_same(write):
    file = write("train.csv", table(ROWS, ";", header=False).encode("cp949"))
    recipe = DataRecipe(path=str(file), streaming=True, header=["text", "label"])
    (source,) = open_sources(recipe, {"text": "text", "label": "label"})
    assert [(row["text"], row["label"]) for row in source.rows] == [tuple(row.values()) for row in ROWS]
    with pytest.raises(UserError, match=r"data.header is for streams of .csv and .tsv"):
        open_sources(DataRecipe(path=str(write("train.txt", "a\n")), header=["text"]), {"text": "text"})


# --- Excel


@pytest.fixture
def workbook(write):
    openpyxl = pytest.importorskip("openpyxl")

    def make(*rows, sheets=1):
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        for number in range(1, sheets):
            book.create_sheet(f"more {number}")
        file = write("train.xlsx", "")
        book.save(file)
        return file

    return make


def test_excel(workbook, capsys):
    file = workbook(["text", "label"], ["좋다 👍", 1], ["007", 2.5], ["", None], [None, "x"], sheets=2)
    assert refused(file) == f"{file} row 4: empty; delete it"
    file = workbook(["text", "label"], ["좋다 👍", 1], ["007", 2.5], [None, "x"], [None, None], sheets=2)
    assert list(load(file)) == [
        {"text": "좋다 👍", "label": "1"}, {"text": "007", "label": "2.5"}, {"text": "", "label": "x"},
    ]  # fmt: skip
    assert f"{file}: of 2 sheets the first is read, 'Sheet'" in capsys.readouterr().err
    assert refused(file, ["text", "labels"]) == f"{file} line 1: no column 'labels'; there are text, label"
    assert refused(workbook(["text", "text"], ["a", "b"])).startswith(f"{file} line 1: ")
    assert refused(workbook(["text", "label"], ["a", "b", "c"])) == f"{file} row 2: 3 values for 2 columns"
    assert list(load(workbook(["a", "b"]), header=["text", "label"])) == [{"text": "a", "label": "b"}]
    assert refused(workbook()) == f"{file}: the split 'train' is empty; it needs at least one example"


def test_what_is_no_workbook_and_no_reader_of_one(write, monkeypatch):
    file = write("train.xlsx", "text,label\n")
    pytest.importorskip("openpyxl")
    assert refused(file).startswith(f"{file}: no Excel workbook (.xlsx): ")
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    assert refused(file) == f"{file}: needs openpyxl: pip install 'trefoil-transformers[excel]'"


# --- TMX

UNIT = '<tu><tuv xml:lang="{}"><seg>{}</seg></tuv><tuv xml:lang="ko"><seg>{}</seg></tuv></tu>\n'
UNITS = UNIT.format(
    "en-US", "Press <bpt i='1'>&lt;b&gt;</bpt>OK<ept i='1'>&lt;/b&gt;</ept> &amp; wait", "확인 👋"
) + UNIT.format("en-GB", "colour", "<hi>색</hi>")
TMX = '<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4"><header/><body>\n{}</body></tmx>\n'


@pytest.mark.parametrize(
    "form", [str.encode, lambda text: gzip.compress(text.encode()), lambda text: text.encode("utf-16")]
)
def test_tmx(write, form):
    content = TMX.replace('<?xml version="1.0"?>\n', "") if form is not str.encode else TMX
    file = write("train.tmx.gz" if form("a")[:1] == b"\x1f" else "train.tmx", form(content.format(UNITS)))
    rows = [{"ko": "확인 👋", "en": "Press OK & wait"}, {"ko": "색", "en": "colour"}]
    assert list(load(file, ["ko", "en"])) == rows
    assert load(file, ["ko", "en-GB"])["en-GB"][:] == [None, "colour"]
    assert sorted(FORMATS[".tmx"](file, []).column_names) == ["en-GB", "en-US", "ko"]
    assert refused(file, ["ko", "de"]).startswith(f"{file} line 1: no column 'de'; there are en, ko, en-US, en-GB")


def test_a_memory_of_any_size_is_never_in_memory_whole(write, monkeypatch):
    monkeypatch.setattr(tmx, "CHUNK", 1000)
    file = write("train.tmx", TMX.format("".join(UNIT.format("en", f"one {number}", "하나") for number in range(999))))
    found = tmx.units(file)
    assert next(found) == {"en": "one 0", "ko": "하나"}
    assert sum(1 for _ in found) == 998


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": the split 'train' is empty; it needs at least one example"),
        (TMX.format(""), ": the split 'train' is empty; it needs at least one example"),
        (TMX.format("<tu>\n</body>"), " line 5: not XML (mismatched tag)"),
        (TMX.format(UNITS)[:-7], " line 6: not XML (no element found)"),
        (TMX.format("<tu><tuv><seg>a</seg></tuv></tu>"), " line 4: a <tuv> without xml:lang"),
        (TMX.replace('SYSTEM "tmx14.dtd"', '[<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]').format(UNITS),
         " line 2: defines the entity 'a', which no TMX file needs; delete its definition"),
    ],
)  # fmt: skip
def test_a_memory_that_is_none(write, content, message):
    file = write("train.tmx", content)
    assert refused(file, ["ko", "en"]) == f"{file}{message}"


def test_blank_rows_of_one_column_are_kept_as_invalid_rows_are(write):
    assert load(write("train.csv", "text\na\n  \nb\n"), ["text"])["text"][:] == ["a", "  ", "b"]


def test_a_sheet_that_says_it_is_smaller_is_read_whole(write, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text", "label"], *([f"t{number}", "a"] for number in range(4))):
        book.active.append(row)
    book.save(tmp_path / "whole.xlsx")
    file = tmp_path / "train.xlsx"
    with zipfile.ZipFile(tmp_path / "whole.xlsx") as whole, zipfile.ZipFile(file, "w") as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name).replace(b'<dimension ref="A1:B5"', b'<dimension ref="A1:B2"'))
    assert load(file)["text"][:] == ["t0", "t1", "t2", "t3"]


def test_an_encoding_that_is_asked_for_after_another_was_found(write):
    file = write("train.conll", "Привет B-X\n".encode("cp1251") * 3)
    assert load(file, ["tokens"])["tokens"][0][0] != "Привет"
    assert load(file, ["tokens"], encoding="cp1251")["tokens"][0][0] == "Привет"


def test_utf_16_without_a_mark_is_no_utf_8(write):
    message = "holds bytes of zero; set data.encoding"
    file = write("train.txt", "hello\n".encode("utf-16-le"))
    assert message in refused(file, ["text"])
    assert load(file, ["text"], encoding="utf-16-le")["text"][:] == ["hello"]


@pytest.mark.parametrize("encoding", ["euc-kr", "no-such"])
def test_a_memory_in_an_encoding_that_cannot_be_read_is_refused(write, encoding):
    file = write("train.tmx", f'<?xml version="1.0" encoding="{encoding}"?><tmx></tmx>')
    assert refused(file, []).startswith(f"{file}")
