"""Files of translations: what is in them, and that a killed command goes on with them."""

import io
import itertools
import json
import tracemalloc

import pytest
import torch
from transformers import pipeline

from tests.hub.conftest import tiny_config, tiny_tokenizer
from trefoil import TrefoilEncoderDecoderForConditionalGeneration, translate
from trefoil.configuration.errors import UserError
from trefoil.translate import Translations, batches, numbered, write_lines
from trefoil.visualization.attention import CROSS, attention_maps

TEXTS = ["세 개의 사과", "", "두 개의 배", "다섯 시 반", " ", "세 개의 배 👋🏽", "두 시"]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    """Of a random model of two languages."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<2en>", "<2ko>"]})
    tokenizer.save_pretrained(folder)
    config = tiny_config(len(tokenizer))
    config.encoder.initializer_range = config.decoder.initializer_range = 0.5
    torch.manual_seed(0)
    model = TrefoilEncoderDecoderForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 6
    model.save_pretrained(folder)
    return pipeline("translation", model=str(folder), device="cpu")


@pytest.fixture
def into_english(pipe):
    return Translations(pipe, {"tgt_lang": "en"}, n_best=2, scores=True)


def records_of(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def lines(texts=TEXTS):
    return numbered(io.StringIO("".join(f"{text}\n" for text in texts)))


def test_a_file_has_the_best_of_every_line_that_is_not_blank(into_english, pipe, tmp_path):
    write_lines(tmp_path / "out.jsonl", lines(), into_english)
    records = records_of(tmp_path / "out.jsonl")
    assert [record["line"] for record in records] == [1, 1, 3, 3, 4, 4, 6, 6, 7, 7]
    assert [record["source"] for record in records[::2]] == [text for text in TEXTS if text.strip()]
    best = pipe(TEXTS[5], tgt_lang="en", num_beams=4)
    assert records[6]["translation"] == best[0]["translation_text"]
    assert "👋🏽" in (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert all(first["score"] >= second["score"] for first, second in zip(records[::2], records[1::2], strict=True))


def test_killed_at_any_byte_it_goes_on_to_the_same_file(into_english, tmp_path, monkeypatch):
    monkeypatch.setattr(translate, "LINES_AT_ONCE", 2)
    file = tmp_path / "out.jsonl"
    write_lines(file, lines(), into_english)
    whole = file.read_bytes()
    translated = []
    call = Translations.__call__
    monkeypatch.setattr(Translations, "__call__", lambda self, batch: translated.extend(batch) or call(self, batch))
    starts = {0, *itertools.accumulate(map(len, whole.splitlines(keepends=True)))}
    for size in sorted({*range(0, len(whole), 211), *starts}):
        if 0 < size < min(starts - {0}):
            continue  # nothing tells what it is
        file.write_bytes(whole[:size])
        translated.clear()
        write_lines(file, lines(), into_english)
        assert records_of(file) == [
            record | {"score": pytest.approx(record["score"], abs=1e-5)}
            for record in map(json.loads, whole.splitlines())
        ]
        assert len(translated) == 5 - sum(start <= size for start in sorted(starts)[2::2])


def test_other_files_are_left_as_they_are(into_english, tmp_path):
    file = tmp_path / "out.jsonl"
    for content, message in [
        ("my thesis", "holds something else than translations"),
        ('{"ko": "하나"}\n', "holds something else than translations"),
        ('{"line": 1, "source": "a"}\n' * 2 + "thesis\n", "holds something else than translations"),
        ('{"line": 1, "source": "a"}\n{"line": 2, "source": "b"}\n', "was not written with --n-best 2"),
        ('{"line": 1, "source": "a"}\n' * 3, "was not written with --n-best 2"),
        ('{"line": 3, "source": "a"}\n' * 2, "line 3 that was translated there is another one"),
        ('{"line": 30, "source": "a"}\n' * 2, "line 30 that was translated there is another one"),
    ]:
        file.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            write_lines(file, lines(), into_english)
        assert file.read_text(encoding="utf-8") == content


def test_memory_does_not_grow_with_the_text(tmp_path):
    class Same:
        n_best = 1

        def __call__(self, batch):
            return [{"line": number, "source": text, "translation": text} for number, text in batch]

    peaks = []
    for count in (2_000, 40_000):
        tracemalloc.start()
        write_lines(tmp_path / f"{count}", numbered(f"문장 {number}" for number in range(count)), Same())
        write_lines(tmp_path / f"{count}", numbered(f"문장 {number}" for number in range(count + 1)), Same())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len((tmp_path / f"{count}").read_bytes().splitlines()) == count + 1
    assert peaks[1] < 1.5 * peaks[0]


def test_alignments_are_those_of_cross_attention(pipe):
    aligned = Translations(pipe, {"tgt_lang": "ko"}, alignments=True)
    (record,) = aligned([(1, TEXTS[0])])
    cross = attention_maps(pipe.model, pipe.tokenizer, f"<2ko>{TEXTS[0]}", record["translation"])[CROSS]
    assert record["alignment"] == " ".join(f"{source}-{target}" for source, target in cross.word_alignment())
    pairs = [tuple(map(int, pair.split("-"))) for pair in record["alignment"].split()]
    assert [target for _, target in pairs] == list(range(len(record["translation"].split())))
    assert {source for source, _ in pairs} <= {0, 1, 2}
    assert aligned([(1, " ")])[0]["alignment"] == ""


def test_what_is_too_long_has_no_alignment_and_is_told_of(pipe, capsys):
    (record,) = Translations(pipe, {"tgt_lang": "ko"}, alignments=True)([(7, "세 개의 사과 " * 9)])
    assert record["alignment"] is None
    assert "line 7: no alignment: the source has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        ({}, "세 개", "language to translate into is needed: --to must be one of en, ko"),
        ({"tgt_lang": "fr"}, "세 개", "language to translate into 'fr' is unknown: --to must be one of en, ko"),
        ({"tgt_lang": "en"}, "\udcea\udcb0", "line 1: is not UTF-8"),
    ],
)
def test_mistakes(pipe, options, text, message):
    with pytest.raises(UserError, match=message):
        Translations(pipe, options)([(1, text)])


def test_batches():
    assert list(batches(numbered("abcde"), 2)) == [[(1, "a"), (2, "b")], [(3, "c"), (4, "d")], [(5, "e")]]
    assert list(batches(numbered([]), 2)) == []
