"""What is read and written: rows of every kind, records in every format, and files that a killed command goes on with."""

import csv
import io
import json
import os
import signal
import tracemalloc
from multiprocessing import get_context

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import seldom

from trefoil import records
from trefoil.configuration.errors import UserError
from trefoil.records import Records, batches, rows_of_file, rows_of_texts, write_records

TEXTS = ["세 개의 사과", "", "두 개\t의 배", 'five "six", 👋🏽', "한\\n글"]
COMMAND = {"model": "m", "n_best": None}


def twice(rows):
    """Two answers to each."""
    return [[{"translation": f"{row.asked}{number}", "score": 0.5} for number in (1, 2)] for row in rows]


def once(rows):
    return [[{"translation": row.asked, "score": 0.5}] for row in rows]


def rows_of(texts=TEXTS):
    return rows_of_texts("translation", [f"{text}\n" for text in texts], {})


def written(path, kind="jsonl", rows=None, answer=twice, command=COMMAND):
    rows = rows or rows_of()
    put = Records(kind, "translation", rows.columns, ("translation", "score"))
    write_records(path, rows, put, answer, command)
    return path.read_bytes()


# --- rows


@pytest.mark.parametrize(
    ("task", "fixed", "asked", "columns"),
    [
        ("translation", {}, "a", {"source": "a"}),
        ("text-classification", {}, "a", {"text": "a"}),
        ("image-to-text", {}, "a", {"image": "a"}),
        ("question-answering", {"question": "q"}, {"context": "a", "question": "q"}, {"context": "a", "question": "q"}),
        ("question-answering", {"context": "c"}, {"question": "a", "context": "c"}, {"question": "a", "context": "c"}),
    ],
)
def test_texts(task, fixed, asked, columns):
    rows = rows_of_texts(task, ["a\n", "b"], fixed)
    first, second = rows.after(0)
    assert (first.number, first.place, first.asked, first.columns) == (1, "line 1", asked, columns)
    assert list(rows.after(1)) == [second]
    assert set(rows.columns) == columns.keys()


def test_one_question_of_one_text():
    fixed = {"question": "q", "context": "c"}
    (row,) = rows_of_texts("question-answering", ["never read"], fixed).after(0)
    assert row.asked == row.columns == fixed
    with pytest.raises(UserError, match="needs question and context: give --question or --context, or --input FILE"):
        rows_of_texts("question-answering", ["a"], {})


def test_files_of_every_kind(tmp_path):
    content = [{"id": 7, "q": "몇 개?", "c": "세 개"}, {"id": 8, "q": "누가?", "c": "🍎"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    (tmp_path / "a.csv").write_text("id,q,c\n7,몇 개?,세 개\n8,누가?,🍎\n", encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(content), tmp_path / "a.parquet")
    for name, unit in (("a.jsonl", "line"), ("a.csv", "row"), ("a.parquet", "row")):
        rows = rows_of_file("question-answering", tmp_path / name, {"question": "q", "context": "c"}, {})
        assert (rows.count, list(rows.columns)) == (2, ["id", "q", "c"])
        (second,) = rows.after(1)
        assert second.asked == {"question": "누가?", "context": "🍎"}
        assert second.place == f"{tmp_path / name} {unit} 2"
        assert str(second.columns["id"]) == "8"
    rows = rows_of_file("question-answering", tmp_path / "a.csv", {"context": "c"}, {"question": "언제?"})
    assert next(rows.after(0)).asked == {"context": "세 개", "question": "언제?"}


def test_plain_text_pairs_and_pictures(tmp_path):
    (tmp_path / "a.txt").write_text("하나\n\n둘\n", encoding="utf-8")
    rows = rows_of_file("translation", tmp_path / "a.txt", {}, {})
    assert [row.columns for row in rows.after(0)] == [{"source": "하나"}, {"source": ""}, {"source": "둘"}]
    (tmp_path / "a.csv").write_text("text,text_pair,image\na,b,one.png\n")
    (row,) = rows_of_file("text-classification", tmp_path / "a.csv", {}, {}).after(0)
    assert row.asked == {"text": "a", "text_pair": "b"}
    (row,) = rows_of_file("image-to-text", tmp_path / "a.csv", {}, {}).after(0)
    assert row.asked == str(tmp_path / "one.png")
    assert row.columns["image"] == "one.png"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv: is empty; it needs at least one row"),
        ("a.jsonl", "", "a.jsonl: is empty; it needs at least one row"),
        ("a.csv", "ko,en\na,b\n", "no column 'source'; there are ko, en; name the one with --column source=NAME"),
        ("a.jsonl", '{"source": "a"}\n[]\n', "line 2: a JSON list"),
        ("a.txt", b"\x81\n", "line 1: not UTF-8"),
        ("a.doc", "x", "unknown kind '.doc'; there are .jsonl, "),
    ],
)
def test_files_that_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        rows_of_file("translation", tmp_path / name, {}, {})
    with pytest.raises(UserError, match="no such file"):
        rows_of_file("translation", tmp_path / "none.csv", {}, {})


def test_questions_in_the_form_of_squad(tmp_path):
    file = tmp_path / "dev.JSON"
    qas = [{"question": question, "answers": []} for question in ("어디?", "언제?")]
    file.write_text(json.dumps({"version": "1", "data": [{"paragraphs": [{"context": "서울에서 세 시", "qas": qas}]}]}))
    rows = rows_of_file("question-answering", file, {}, {})
    assert [row.asked for row in rows.after(0)] == [
        {"question": question, "context": "서울에서 세 시"} for question in ("어디?", "언제?")
    ]


def test_tokens_are_no_texts(tmp_path):
    (tmp_path / "a.conll").write_text("Kim B-PER\ncame O\n\n")
    with pytest.raises(
        UserError, match=r"a\.conll: holds tokens, not texts; `trefoil evaluate MODEL --data .*a\.conll -o FOLDER`"
    ):
        rows_of_file("token-classification", tmp_path / "a.conll", {}, {})


# --- records


def test_every_format(tmp_path):
    lines = [json.loads(line) for line in written(tmp_path / "a.jsonl").decode().splitlines()]
    assert [line["line"] for line in lines] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert lines[7] == {"line": 4, "source": TEXTS[3], "translation": f"{TEXTS[3]}2", "score": 0.5}
    for kind, delimiter in (("csv", ","), ("tsv", "\t")):
        table = csv.DictReader(
            io.StringIO(written(tmp_path / f"a.{kind}", kind).decode(), newline=""), delimiter=delimiter
        )
        assert list(table) == [{name: str(value) for name, value in line.items()} for line in lines]
    text = written(tmp_path / "a.txt", "text").decode().split("\n")
    assert text[3] == f"{TEXTS[3]}1\t{TEXTS[3]}2"
    assert text[2] == "두 개 의 배1\t두 개 의 배2"  # tabs are between answers
    assert len(text) == len(TEXTS) + 1


def test_no_column_is_lost_to_an_answer_of_its_name():
    (row,) = batches(rows_of(["a"]).after(0), 2)
    put = Records("jsonl", "translation", ["line", "translation"], ("translation",))
    row[0].columns.update({"line": 9, "translation": "mine"})
    assert json.loads(put.of(row[0], [{"translation": "b"}])) == {
        "predicted_line": 1, "source": "a", "line": 9, "translation": "mine", "predicted_translation": "b",
    }  # fmt: skip


def test_lists_and_nothing_in_tables():
    rows = rows_of_texts("token-classification", ["a"], {})
    put = Records("csv", "token-classification", rows.columns, ("entities",))
    (row,) = rows.after(0)
    assert put.start() + put.of(row, [{"entities": [{"text": "가"}]}]) == (
        'line,text,entities\n1,a,"[{""text"": ""가""}]"\n'
    )
    assert put.of(row, [{"entities": None}]) == "1,a,\n"
    assert Records("text", "token-classification", ["text"], ("entities",)).of(row, [{"entities": None}]) == "\n"


def test_what_json_has_no_word_for_is_null():
    (row,) = rows_of_texts("translation", ["a"], {}).after(0)
    row.columns["mine"] = [float("inf"), {"x": (1.5, float("-inf"))}]
    line = Records("jsonl", "translation", ["source", "mine"], ("score",)).of(row, [{"score": float("nan")}])
    assert json.loads(line, parse_constant=pytest.fail) == {
        "line": 1, "source": "a", "mine": [None, {"x": [1.5, None]}], "score": None,
    }  # fmt: skip


# --- files


@pytest.mark.parametrize("kind", seldom(["jsonl", "csv", "text"], "jsonl"))
def test_killed_at_any_time_it_goes_on_to_the_same_file(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(records, "ROWS_AT_ONCE", 2)
    whole = written(tmp_path / "whole", kind)
    for place in ("before", "answering", "written"):
        for after in range(3):
            path = tmp_path / f"{place}{after}"
            child = get_context("fork").Process(target=_write_and_die, args=(path, kind, place, after))
            child.start()
            child.join()
            assert child.exitcode == -signal.SIGKILL
            answered = []
            assert (
                written(path, kind, answer=lambda rows, answered=answered: answered.extend(rows) or twice(rows))
                == whole
            )
            assert len(answered) == len(TEXTS) - 2 * after
    assert {path.name for path in tmp_path.iterdir()} == {
        "whole", *(f"{place}{after}" for place in ("before", "answering", "written") for after in range(3))
    }  # fmt: skip


def _write_and_die(path, kind, place, after):
    count = 0

    def die():
        if count == after:
            os.kill(os.getpid(), signal.SIGKILL)

    def answer(rows):
        nonlocal count
        if place != "written":
            die()
        count += 1
        return twice(rows)

    keep = records._keep

    def keep_late(path, file, *rest):
        file.flush()  # what is written is there, and nobody has been told
        nonlocal count
        count -= 1
        die()
        count += 1
        keep(path, file, *rest)

    if place == "written":
        records._keep = keep_late
    if place == "before" and after == 0:
        records.Records.start = lambda self: die()
    written(path, kind, answer=answer)


def test_what_is_not_its_own_is_left_as_it_is(tmp_path, monkeypatch):
    file = tmp_path / "a.jsonl"
    file.write_text("my thesis")
    with pytest.raises(UserError, match="exists already; name another file"):
        written(file)
    assert file.read_text() == "my thesis"
    monkeypatch.setattr(records, "ROWS_AT_ONCE", 1)

    def stop(rows):
        if rows[0].number == 3:
            raise KeyboardInterrupt
        return once(rows)

    file = tmp_path / "b.jsonl"
    with pytest.raises(KeyboardInterrupt):
        written(file, answer=stop)
    begun = file.read_bytes()
    for rows, command, message in [
        (rows_of(), COMMAND | {"n_best": 3}, "was begun with n_best=None, not 3; name another file"),
        (rows_of(["x"] * 5), COMMAND, "line 2 that was answered there is another one"),
        (rows_of(["x"]), COMMAND, "line 2 that was answered there is another one"),
    ]:
        with pytest.raises(UserError, match=message):
            written(file, rows=rows, command=command)
        assert file.read_bytes() == begun
    with (
        filelock.FileLock(tmp_path / ".b.jsonl.trefoil-lock"),
        pytest.raises(UserError, match="another process writes"),
    ):
        written(file)
    assert file.read_bytes() == begun
    assert len(written(file, answer=once).splitlines()) == 5


def test_a_file_that_was_deleted_meanwhile_is_begun_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROWS_AT_ONCE", 1)
    whole = written(tmp_path / "whole")
    child = get_context("fork").Process(target=_write_and_die, args=(tmp_path / "a", "jsonl", "answering", 2))
    child.start()
    child.join()
    (tmp_path / "a").unlink()
    assert written(tmp_path / "a") == whole


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "sync", lambda path: None)
    peaks = []
    for count in (2_000, 10_000):
        rows = rows_of_texts("translation", (f"문장 {number}\n" for number in range(count)), {})
        tracemalloc.start()
        assert written(tmp_path / f"{count}", rows=rows, answer=once).count(b"\n") == count
        peaks.append(tracemalloc.get_traced_memory()[1] - (tmp_path / f"{count}").stat().st_size)
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def refuse(rows):
    raise UserError("too long")


def test_a_command_whose_first_rows_fail_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(UserError, match="too long"):
        written(path, answer=refuse)
    assert not list(tmp_path.iterdir())
    assert written(path, command=COMMAND | {"truncate": True})


def test_of_a_command_killed_in_its_first_rows_the_file_is_its_own_and_anothers_is_not(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"half a ro")
    journal = tmp_path / ".a.jsonl.trefoil-progress"
    state = {"rows": 0, "bytes": 0, "last": None, "command": {}, "file": records._identity(path)}
    journal.write_text(json.dumps(state))
    whole = written(path)
    assert b"half" not in whole
    path.write_bytes(b"precious")
    journal.write_text(json.dumps(state | {"file": [0, 0]}))
    with pytest.raises(UserError, match="exists already; name another file"):
        written(path)
    assert path.read_bytes() == b"precious"


def test_answers_to_answers_lose_no_column():
    columns = ["line", "label", "predicted_line", "predicted_label"]
    put = Records("csv", "text-classification", columns, ("label", "score"))
    assert put.header == [
        "predicted_predicted_line", *columns, "predicted_predicted_label", "score",
    ]  # fmt: skip


def test_json_has_null_for_what_is_no_number():
    told = records.as_json({"loss": float("nan"), "scores": [1.0, float("inf")]}, indent=2)
    assert json.loads(told, parse_constant=pytest.fail) == {"loss": None, "scores": [1.0, None]}
    assert told.startswith('{\n  "loss"')
