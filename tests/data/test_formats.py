"""Formats beyond JSON, tables and text: CoNLL, files whose lines belong together, and one from outside."""

import gzip

import datasets
import pytest

from trefoil.configuration.errors import UserError
from trefoil.data.formats import FORMATS, conll, register_format
from trefoil.data.formats.reading import numbered_lines
from trefoil.data.loading import load_split, split_name
from trefoil.recipes.schema import DataRecipe

BOM = "\ufeff"


def load(path, columns, split="train"):
    return load_split(DataRecipe(path=str(path)), split, columns, "translation", 0)


def refused(path, columns, **options):
    with pytest.raises(UserError) as error:
        load(path, columns, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- CoNLL

TAGGED = ["tokens", "tags"]
SENTENCES = [
    {"tokens": ["지영은", "서울에", "👋🏽"], "tags": ["B-PER", "B-LOC", "O"]},
    {"tokens": ["EU", "#", "##s", "\u00a0"], "tags": ["B-ORG", "O", "O", "O"]},
]
LINES = "지영은\tB-PER\n서울에\tB-LOC\n👋🏽\tO\n\nEU\tB-ORG\n#\tO\n##s\tO\n\u00a0\tO\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.conll", LINES),
        ("train.iob", LINES.rstrip("\n")),
        ("train.conll", LINES + "\n\n"),
        ("train.conll", LINES.replace("\n\n", "\n \n\t\n\n")),
        ("train.conll", LINES.replace("\n", "\r\n")),
        ("train.conll", BOM + LINES),
        ("train.conll", BOM + "# id = 1\n" + LINES),
        ("train.conll", LINES.replace("\t", "\tNNP\t_\t")),
        ("train.conll", LINES.replace("\t", " NNP  I-NP ").replace("O\n", "O \n")),
        ("train.conll", "-DOCSTART- -X- O O\n\n" + LINES.replace("\n\n", "\n\n-DOCSTART-\tO\n\n")),
        ("train.conll", "# id = 1\n# text = 둘\n" + LINES.replace("\n\n", "\n\n## 둘\t셋\n")),
        ("train.conll.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("train.iob.gz", gzip.compress(LINES.replace("\n", "\r\n").encode(), mtime=0)),
    ],
)
def test_conll(write, name, content):
    file = write(name, content)
    for path in (file, file.parent):
        dataset = load(path, TAGGED)
        assert list(dataset) == SENTENCES
        assert dataset.features == conll.FEATURES
    assert list(load(file, TAGGED, split="train[50%:]")) == SENTENCES[1:]


def test_a_hash_amid_a_sentence_is_a_token(write):
    file = write("train.conll", "We O\n# O\n1 O\n")
    assert load(file, TAGGED)["tokens"][:] == [["We", "#", "1"]]


def test_a_blank_token_between_tabs(write):
    assert load(write("train.conll", "둘\tO\n \tO\n"), TAGGED)["tokens"][:] == [["둘", " "]]


def test_conll_is_read_from_the_disk_and_again_once_it_changes(write):
    many = "".join(f"낱말{number}\tO\n\n" for number in range(2500))
    one = load(write("train.conll", many), TAGGED)
    assert one["tokens"][:] == [[f"낱말{number}"] for number in range(2500)]
    assert one.cache_files
    same = load(write("dev.conll", many), TAGGED, split="dev")
    other = load(write("train.conll", many.replace("낱말0", "말")), TAGGED)
    assert other[0] == {"tokens": ["말"], "tags": ["O"]}
    assert len({one._fingerprint, same._fingerprint, other._fingerprint}) == 3


SHAPE = "it must be a token and, last, its tag"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.conll", "둘\tO\n\n셋\n", f" line 3: one column; {SHAPE}, with a tab or spaces between them"),
        ("train.conll", "둘 O\r\n 셋 \r\n", f" line 2: one column; {SHAPE}, with a tab or spaces between them"),
        ("train.conll", "둘\tO\n\tO\n", f" line 2: an empty token; {SHAPE}"),
        ("train.conll", "둘\tO\n셋\t\n", f" line 2: an empty tag; {SHAPE}"),
        ("train.conll", b"a O\n\x81 O\n", " line 2: not UTF-8 (byte 1 of the line); convert the file to UTF-8"),
        ("train.conll", "", ": the split 'train' is empty; it needs at least one example"),
        ("train.iob", "\n-DOCSTART- O\n\n# id = 1\n", ": the split 'train' is empty; it needs at least one example"),
        ("train.conll.gz", gzip.compress(b"", mtime=0), ": the split 'train' is empty; it needs at least one example"),
        ("train.conll.gz", "a O", ": a damaged gzip file (Not a gzipped file (b'a ')); compress it again"),
    ],
)
def test_the_place_of_a_mistake_in_conll_is_named(write, name, content, message):
    file = write(name, content)
    assert refused(file.parent, TAGGED) == f"{file}{message}"


def test_conll_has_no_other_columns(write):
    file = write("train.conll", LINES)
    assert refused(file, ["words", "tags"]) == f"{file}: no column 'words'; there are tokens, tags"


# --- files whose lines belong together

PAIRS = [
    {"ko": "세 시 반에 만나요. 👋🏽", "en": "Let's meet at half past three. 👋🏽"},
    {"ko": "", "en": '"#'},
    {"ko": "  둘\t ", "en": "two\u2028lines\u0085and\x0cmore\rhere"},
]


def aligned(write, form=str, end=""):
    for name in ("ko", "en"):
        content = form("".join(pair[name] + "\n" for pair in PAIRS)).encode()
        file = write(f"train.{name}{end}", gzip.compress(content, mtime=0) if end else content)
    return file.parent


@pytest.mark.parametrize(
    ("form", "end"),
    [
        (str, ""),
        (lambda text: BOM + text, ""),
        (lambda text: text.replace("\n", "\r\n"), ""),
        (lambda text: text.removesuffix("\n"), ""),
        (str, ".gz"),
    ],
)
def test_two_files_are_the_columns_of_their_suffixes(write, form, end):
    folder = aligned(write, form, end)
    assert list(load(folder, ["ko", "en"])) == PAIRS
    assert list(load(folder, ["ko", "en"], split="train[2:]")) == PAIRS[2:]


def test_one_of_two_files_is_gzipped_and_other_files_lie_beside_them(write):
    folder = aligned(write)
    english = folder / "train.en"
    write("train.en.gz", gzip.compress(english.read_bytes()))
    english.unlink()
    write("train.fr", "un\n")
    assert list(load(folder, ["en", "ko"])) == PAIRS


def test_two_files_are_read_again_once_one_changes(write):
    one = load(aligned(write), ["ko", "en"])
    other = load(write("train.en", "one\ntwo\nthree\n").parent, ["ko", "en"])
    assert other["en"][:] == ["one", "two", "three"]
    assert one.cache_files
    assert one._fingerprint != other._fingerprint


def test_the_name_of_two_files(write):
    recipe = DataRecipe(path=str(aligned(write)), columns={"source": "ko", "target": "en"})
    assert split_name(recipe, "train[:50%]") == f"{recipe.path}/train.*"


def test_a_file_for_the_whole_split_goes_first(write):
    folder = aligned(write)
    write("train.jsonl", '{"ko": "하나", "en": "one"}\n')
    assert list(load(folder, ["ko", "en"])) == [{"ko": "하나", "en": "one"}]


def test_files_of_different_lengths(write):
    folder = write("train.ko", "하나\n둘\n셋").parent
    write("train.en", "one\ntwo\n")
    assert refused(folder, ["ko", "en"]) == (
        f"{folder}/train.ko has 3 lines, {folder}/train.en 2; line by line, they must belong together"
    )


def test_a_file_without_its_partner(write):
    file = write("train.ko", "하나\n")
    assert refused(file.parent, ["ko", "en"]) == (
        f"{file}: there is no train.en beside it, with a line for each of its lines"
    )


def test_a_file_that_is_there_twice(write):
    folder = aligned(write)
    write("train.en.gz", gzip.compress(b"one\n", mtime=0))
    assert refused(folder, ["ko", "en"]) == f"{folder}: both train.en and train.en.gz; keep one"


def test_two_files_that_are_not_the_columns(write):
    folder = aligned(write)
    assert refused(folder, ["source", "target"]).endswith("it holds train.en, train.ko")


def test_two_files_that_are_empty_or_not_utf8(write):
    folder = write("train.ko", "").parent
    write("train.en", "")
    assert refused(folder, ["ko", "en"]) == (
        f"{folder}/train.*: the split 'train' is empty; it needs at least one example"
    )
    write("train.ko", "하나\n")
    file = write("train.en", b"\xff\n")
    assert refused(folder, ["ko", "en"]) == (
        f"{file} line 1: not UTF-8 (byte 1 of the line); convert the file to UTF-8"
    )


# --- a format from outside


@pytest.fixture
def toy_format():
    def load_pairs_of_lines(file, columns):
        lines = [line.strip() for _, line in numbered_lines(file)]
        return datasets.Dataset.from_dict({"source": lines[::2], "target": lines[1::2]})

    register_format(".pairs", load_pairs_of_lines)
    yield
    del FORMATS[".pairs"]


@pytest.mark.usefixtures("toy_format")
def test_a_format_from_outside(write):
    columns = ["source", "target"]
    content = "둘\ntwo\n👋🏽\nhi\n"
    for name, form in (("train.pairs", str.encode), ("dev.pairs.gz", lambda text: gzip.compress(text.encode()))):
        file = write(name, form(content))
        rows = [{"source": "둘", "target": "two"}, {"source": "👋🏽", "target": "hi"}]
        assert list(load(file.parent, columns, split=name.partition(".")[0])) == rows
    assert refused(file, ["text"]) == f"{file}: no column 'text'; there are source, target"
    assert refused(write("train.docx", ""), columns).endswith(".conll, .iob, .tmx, .pairs, each also with .gz")


@pytest.mark.parametrize("suffix", ["csv", "", ".", ".gz", ".a.b", ".a b"])
def test_a_suffix_that_no_file_can_have(suffix):
    with pytest.raises(ValueError, match=r"it is written like \.csv"):
        register_format(suffix, conll.load)


@pytest.mark.parametrize(
    ("name", "content", "broken"),
    [
        ("train.jsonl", '{"a": "x"}\n{"a": "y"}\n', '{"a": "x"}\n{"a": 1, }\n'),
        ("train.csv", "a\nx\ny\n", "a\nx\ny,1\n"),
        ("train.txt", "x\ny\n", b"x\n\x81\n"),
    ],
)
def test_a_file_is_checked_once_and_again_when_it_changes(write, monkeypatch, name, content, broken):
    column = "text" if name == "train.txt" else "a"
    load = FORMATS[name.removeprefix("train")]
    file = write(name, content)
    with monkeypatch.context() as patch:
        expected = load(file, [column])[column]
        for module in ("json_rows", "delimited", "reading"):  # what reads the lines
            patch.setattr(f"trefoil.data.formats.{module}.numbered_lines", None)
        assert load(file, [column])[column] == expected == ["x", "y"]
    write(name, broken)
    with pytest.raises(UserError, match=r"line [23]: "):
        load(file, [column])
    with pytest.raises(UserError, match=r"line [23]: "):
        load(file, [column])
    if column == "a":
        with pytest.raises(UserError, match="no column 'b'"):
            load(write(name, content), ["b"])
