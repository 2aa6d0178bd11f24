"""Files that are made to fill the memory, or to be read in two ways, are refused by name."""

import gzip
import io
import zipfile

import pytest

from trefoil.configuration.errors import UserError
from trefoil.data.formats import FORMATS, load_file, reading
from trefoil.data.streaming import _lines, open_sources
from trefoil.recipes.schema import DataRecipe


@pytest.fixture
def small(monkeypatch):
    """Limits that a test reaches in no time."""
    monkeypatch.setattr(reading, "ALWAYS", 50_000)
    monkeypatch.setattr(reading, "LONGEST_LINE", 10_000)


def refused(action, *arguments):
    with pytest.raises(UserError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


BOMBS = {
    "train.jsonl.gz": b'{"text": "x"}\n', "train.json.gz": b"[1,", "train.csv.gz": b"x\n", "train.txt.gz": b"x\n",
    "train.tsv.gz": b"x\n", "train.conll.gz": b"x O\n", "train.tmx.gz": b"<tmx><body>",
}  # fmt: skip


@pytest.mark.parametrize(("name", "start"), BOMBS.items(), ids=BOMBS)
@pytest.mark.parametrize("filler", [b"0", b"\n"], ids=["one line", "many lines"])
def test_a_gzipped_file_that_holds_a_thousand_times_its_size(write, small, name, start, filler):
    file = write(name, gzip.compress(start + filler * 10_000_000))
    message = refused(load_file, file, ["text"], {})
    known = ("a line is longer than", "holds more than", "line 2: ", "not XML", "not JSON")
    assert message.startswith(str(file))
    assert any(part in message for part in known), message


def test_how_much_it_may_hold(write, small):
    file = write("train.txt.gz", gzip.compress(b"abc\n" * 1_000_000))
    most = max(50_000, 100 * file.stat().st_size)
    assert refused(list, reading.numbered_lines(file)) == (
        f"{file}: holds more than {most:,} bytes, 100 times what it has itself; if that is right, unpack it"
    )
    file.write_bytes(gzip.compress(b"abc\n" * 12_000))
    assert sum(1 for _ in reading.numbered_lines(file)) == 12_000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_that_does_not_end(write, small, encoding):
    file = write("train.txt", ("a\n" + "0" * 20_000).encode(encoding))
    assert refused(list, reading.numbered_lines(file, encoding)) == (
        f"{file}: a line is longer than 10,000 bytes; is this a file of lines?"
    )


def test_streams_likewise(write, small):
    whole = write("train.txt", b"a\n" + b"0" * 20_000)
    for start in (0, 5):
        assert "a line is longer than 10,000 bytes" in refused(list, _lines(whole, start, 2**26))
    packed = write("packed.txt.gz", gzip.compress(b"abc\n" * 1_000_000))
    assert "holds more than" in refused(list, _lines(packed, 0, 2**26))
    recipe = DataRecipe(path=str(write("train.jsonl.gz", gzip.compress(b"0" * 20_000_000))), streaming=True)
    assert "a line is longer than" in refused(open_sources, recipe, {"text": "text"})


def test_json_may_stand_in_one_line(write, small):
    file = write("train.json", b'[{"text": "' + b"x" * 30_000 + b'"}]')
    assert len(load_file(file, ["text"], {})) == 1


def test_ranges_of_a_stream_have_each_line_once(write):
    file = write("train.txt", b"".join(b"%d\n" % number for number in range(100)))
    size = file.stat().st_size
    parts = [list(_lines(file, start, start + 7)) for start in range(0, size, 7)]
    assert [line for part in parts for line in part] == list(_lines(file, 0, size))
    assert len(list(_lines(file, 0, size))) == 100


def test_a_workbook_that_holds_a_thousand_times_its_size(write, monkeypatch):
    pytest.importorskip("openpyxl")
    from trefoil.data.formats import excel

    monkeypatch.setattr(excel, "ALWAYS", 50_000)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("xl/sharedStrings.xml", b"0" * 10_000_000)
    file = write("train.xlsx", content.getvalue())
    assert refused(load_file, file, ["text"], {}).startswith(
        f"{file}: holds 10,000,000 bytes, more than 100 times what it has"
    )


@pytest.mark.parametrize("name", ["train.jsonl", "train.json"])
@pytest.mark.parametrize(
    "content", [b'{"text": ' + b"1" * 5000 + b"}", b'{"text": ' + b"[" * 100_000, b'{"text": -' + b"9" * 4301 + b"}"]
)
def test_json_that_python_does_not_read(write, name, content):
    file = write(name, content)
    assert refused(load_file, file, ["text"], {}).startswith(str(file))


@pytest.mark.parametrize("name", ["train.csv", "train.tsv"])
@pytest.mark.parametrize("columns", [[], ["text"]])
def test_two_columns_of_one_name(write, name, columns):
    between = "," if name.endswith("csv") else "\t"
    file = write(name, f"text{between}text\na{between}b\n")
    assert refused(FORMATS[file.suffix], file, columns) == (
        f"{file} line 1: two columns are called 'text'; give each a name of its own"
    )
