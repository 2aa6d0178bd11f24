"""Rows of files as a stream: the same rows as in the file, whatever its parts, and mistakes told by file and line."""

import contextlib
import gzip
import itertools
import json
import pickle
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import datasets
import pytest
from huggingface_hub.utils import httpx

from trefoil.configuration.errors import UserError
from trefoil.data import streaming
from trefoil.data.formats import FORMATS, ROWS, register_format
from trefoil.data.mixture import Seat, SourceReader, sample
from trefoil.data.streaming import PLACE, Source, open_sources, place_name
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


def sentences(file):
    yield from ({"text": text} for text in file.read_text().split("|"))


def test_a_format_from_outside_streams_where_it_has_rows(write, monkeypatch):
    write("b.pipes", "b one|b two")
    pattern = write("a.pipes", "a one|a two").with_name("*.pipes")
    monkeypatch.setitem(FORMATS, ".pipes", None)  # and none, when the test is over
    register_format(".pipes", lambda file, columns: None)
    assert "files of .pipes; the files of a stream are all of one kind out of" in refusal(pattern)
    monkeypatch.setitem(ROWS, ".pipes", None)
    register_format(".pipes", lambda file, columns: None, sentences)
    rows = pickle.loads(pickle.dumps(opened(pattern).rows))  # for a process that is not forked
    assert texts_of(rows) == ["a one", "a two", "b one", "b two"]
    assert rows.num_shards == 2
    assert [place for chunk in rows.iter(batch_size=2) for place in chunk[PLACE]][1].endswith("a.pipes row 2")
    assert texts_of(opened(write("c.conll", "a X\nb Y\n\nc X\n"), there="tokens").rows) == [["a", "b"], ["c"]]


def test_lines_of_two_files_that_belong_together(write, tmp_path):
    source = SourceRecipe(path=str(tmp_path / "data"))
    write("train.en", "one\r\ntwo\nthree\n")
    file = write("train.ko.gz", gzip.compress("하나\n둘\n셋\n".encode()))
    names = {"source": "ko", "target": "en"}
    (only,) = open_sources(DataRecipe(streaming=True, sources=[source]), names)
    rows = list(only.rows)
    assert [(row["ko"], row["en"]) for row in rows] == [("하나", "one"), ("둘", "two"), ("셋", "three")]
    assert rows[1][PLACE] == f"{file} line 2"
    write("train.en", "one\ntwo\n")
    (only,) = open_sources(DataRecipe(streaming=True, sources=[source]), names)
    with pytest.raises(UserError, match=r"train.en ends after line 2, others do not; line by line, they must belong"):
        list(only.rows)


class Breaking(BaseHTTPRequestHandler):
    """Gives a file of 13 MB, of which 5 are asked for at a time, and from some time on only a part of what was asked for."""

    is_broken = False
    content = b"".join(b'{"text": "row %d %s"}\n' % (number, b"x" * 640) for number in range(20_000))

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", len(self.content))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self):
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        first, last = int(first), min(int(last or len(self.content)), len(self.content) - 1)
        self.send_response(206)
        self.send_header("Content-Length", last + 1 - first)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have gone first
            self.wfile.write(self.content[first : first + 1000 if Breaking.is_broken else last + 1])

    def log_message(self, *arguments):
        pass


def test_a_server_that_is_lost_on_the_way_is_told_in_a_line(monkeypatch):
    for name in ("STREAMING_READ_RETRY_INTERVAL", "STREAMING_OPEN_RETRY_INTERVAL"):
        monkeypatch.setattr(datasets.config, name, 0)
    monkeypatch.setattr(datasets.config, "STREAMING_READ_MAX_RETRIES", 2)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}/a.jsonl"
    rows = datasets.load_dataset("json", data_files=place, split="train", streaming=True, chunksize=10_000)
    chunks = SourceReader(Source("corpus", rows), Seat(), 0).chunks()
    assert next(chunks)["text"][0].startswith("row 0 ")
    monkeypatch.setattr(Breaking, "is_broken", True)
    with pytest.raises(UserError) as error:
        list(itertools.islice(chunks, 20_000))
    server.shutdown()
    assert re.fullmatch(
        r"corpus: cannot be read on \(.+\); the same command goes on from the last checkpoint", str(error.value)
    )


def test_a_hub_that_cannot_be_reached_is_told_in_a_line(monkeypatch):
    def refuse(*_, **__):
        raise httpx.ConnectError("[Errno 111] Connection refused")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError) as error:
        open_sources(DataRecipe(streaming=True, name="someone/corpus"), {"text": "text"})
    assert str(error.value) == (
        "data set 'someone/corpus': cannot be streamed ([Errno 111] Connection refused); "
        "the same command goes on from the last checkpoint"
    )
    rows = datasets.IterableDataset.from_generator(refuse)
    with pytest.raises(UserError, match=r"^corpus: cannot be streamed \(\[Errno 111\] Connection refused\); "):
        sample([Source("corpus", rows)], ["text"], 10)


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
    assert (
        refusal(write("g.conll", "a b\n")) == f"{tmp_path}/data/g.conll row 1: no column 'text'; there are tokens, tags"
    )
    assert refusal(write("h.json", "[]")) == (
        f"{tmp_path}/data/h.json: files of .json; the files of a stream are all of one kind out of .jsonl, .txt, .csv, .tsv, "
        ".parquet, .conll, .iob, each but .parquet also with .gz, or train.text in a folder, whose lines belong together"
    )
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
