"""Mixtures of sources: their weights, their ends, and that a reader that goes on reads what it would have read."""

import json
from collections import Counter

import datasets
import pytest
from conftest import seldom

from trefoil.configuration.errors import UserError
from trefoil.data import mixture, streaming
from trefoil.data.mixture import Mixture, Seat, SourceReader, ahead, regrouped, sample
from trefoil.data.streaming import Source, open_sources
from trefoil.recipes.schema import DataRecipe, SourceRecipe


@pytest.fixture
def source(write, monkeypatch):
    """A function: name, number of rows -> a source in as many parts as there are hundreds of bytes."""
    monkeypatch.setattr(streaming, "RANGE", 100)

    def make(name, rows, weight=1.0):
        file = write(
            f"{name}.jsonl", "".join(json.dumps({"text": f"{name} {number}"}) + "\n" for number in range(rows))
        )
        (made,) = open_sources(
            DataRecipe(streaming=True, sources=[SourceRecipe(path=str(file), weight=weight)]), {"text": "text"}
        )
        return made

    return make


def take(blocks, count):
    return [block for block, _ in zip(blocks, range(count), strict=False)]


def texts(blocks):
    return [text for block in blocks for text in block.rows["text"]]


def test_weights_are_shares_of_the_rows(source):
    sources = [source("a", 500, 7.0), source("b", 200, 2.0), source("c", 50, 1.0)]
    blocks = take(Mixture(sources, 100, Seat(), 0).blocks(), 20)
    counts = Counter(text[0] for text in texts(blocks))
    total = sum(counts.values())
    assert total >= 2000
    for name, share in (("a", 0.7), ("b", 0.2), ("c", 0.1)):
        assert abs(counts[name] - share * total) <= 2 * mixture.CHUNK
    for block in blocks:
        assert [sources[number].name[0] for number in block.sources] == [text[0] for text in block.rows["text"]]


def test_a_source_that_ends_begins_again_in_another_order(source):
    (only,) = [source("a", 200)]
    reader = SourceReader(only, Seat(), 0)
    passes = {}
    for chunk in reader.chunks():
        if reader.passes == 3:
            break
        passes.setdefault(reader.passes, []).extend(chunk["text"])
    assert all(Counter(rows) == {f"a {number}": 1 for number in range(200)} for rows in passes.values())
    assert passes[0] != passes[1] != passes[2] != passes[0]


def test_another_seed_is_another_order(source):
    one, same, other = (texts(take(Mixture([source("a", 300)], 64, Seat(), seed).blocks(), 2)) for seed in (0, 0, 1))
    assert one == same != other


@pytest.mark.parametrize("seat", seldom([Seat(), Seat(1, 3), Seat(40, 41)], Seat(1, 3)), ids=str)
def test_it_goes_on_with_the_rows_that_would_have_come(source, seat):
    """Also across the end of a source, and where readers are more than parts."""
    sources = [source("a", 90), source("b", 700, 3.0)]
    blocks = take(Mixture(sources, 32, seat, 7).blocks(), 40)
    assert max(block.end[0]["passes"] for block in blocks) > 0
    for number in range(40):
        start = json.loads(json.dumps(blocks[number].start))
        again = take(Mixture(sources, 32, seat, 7).blocks(number, start), 3)
        for block, expected in zip(again, blocks[number : number + 3], strict=False):
            assert (block.rows, block.places, block.start, block.end) == (
                expected.rows, expected.places, expected.start, expected.end,
            )  # fmt: skip


@pytest.mark.parametrize("make", ["parquet", "lines"])
@pytest.mark.parametrize("readers", [2, 3, 30])
def test_readers_have_parts_that_are_the_whole(source, tmp_path, make, readers):
    if make == "parquet":
        rows = datasets.Dataset.from_dict({"text": [f"a {number}" for number in range(200)]})
        rows.to_parquet(tmp_path / "a.parquet", batch_size=20)
        (only,) = open_sources(DataRecipe(streaming=True, path=str(tmp_path / "a.parquet")), {"text": "text"})
    else:
        only = source("a", 200)
    found = []
    for number in range(readers):
        reader = SourceReader(only, Seat(number, readers), 0)
        for chunk in reader.chunks():
            if reader.passes:
                break
            found += chunk["text"]
    assert Counter(found) == {f"a {number}": 1 for number in range(200)}


def test_other_readers_go_on_about_where_these_were(source):
    only = source("a", 1000)
    ends = [take(Mixture([only], 100, Seat(number, 2), 0).blocks(), 2)[-1].end for number in range(2)]
    read = sum(end[0]["rows"] for end in ends)
    starts = regrouped(ends, 4)
    assert starts == [{"passes": 0, "rows": 0, "total": read // 4, "skip": read // 4, "state": None}]
    assert regrouped([starts] * 4, 2)[0]["skip"] == 2 * (read // 4)  # changed again before the first row
    rest = []
    for number in range(4):
        reader = SourceReader(only, Seat(number, 4), 0, starts[0])
        for chunk in reader.chunks():
            if reader.passes:
                break
            rest += chunk["text"]
    assert len(rest) == len(set(rest)) == 1000 - 4 * (read // 4)


def test_fewer_rows_than_readers(source):
    with pytest.raises(UserError, match=r"a.jsonl: there are no rows for reader 5 of 5; a stream needs at least one"):
        next(Mixture([source("a", 3)], 10, Seat(4, 5), 0).blocks())


def test_long_texts_end_a_block_early(source, monkeypatch):
    monkeypatch.setattr(mixture, "CHARACTERS", 200)
    (block,) = take(Mixture([source("a", 500)], 1000, Seat(), 0).blocks(), 1)
    assert len(block.places) < 100


def test_a_file_that_is_damaged_on_the_way(write):
    import gzip

    content = gzip.compress("".join(f"line {number * 7919}\n" for number in range(300_000)).encode())
    file = write("a.txt.gz", content[: len(content) // 2])
    (only,) = open_sources(DataRecipe(streaming=True, path=str(file)), {"text": "text"})
    with pytest.raises(UserError, match=r"a.txt.gz: cannot be read on \(Compressed file ended"):
        for _ in SourceReader(only, Seat(), 0).chunks():
            pass


def test_the_start_of_a_stream(source):
    sources = [source("a", 30, 1.0), source("b", 300, 3.0)]
    found = Counter(text[0] for text in sample(sources, ["text"], 100)["text"])
    assert found == {"a": 25, "b": 75}
    assert len(sample(sources, ["text"], 10_000)["text"]) == 330
    broken = Source("c", datasets.Dataset.from_dict({"text": ["a", None, "b"]}).to_iterable_dataset())
    assert sample([broken], ["text"], 3) == {"text": ["a", "b"]}


def test_work_that_is_done_ahead_is_in_order_and_tells_its_mistake():
    def numbers():
        yield 1
        yield 2
        raise UserError("no more")

    found = ahead(numbers())
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(UserError, match="no more"):
        next(found)
