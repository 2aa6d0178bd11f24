"""One model of several directions, of several sources: examples, tags, scores, and what a user sees of it."""

import json

import pytest
from conftest import tiny_config
from task_parts import preprocessor_for, reader_for
from training_runs import merged, tiny_content
from transformers import pipeline

from trefoil.configuration.errors import UserError
from trefoil.data.batching import Share
from trefoil.data.loading import load_rows
from trefoil.data.mixture import Mixture, Seat
from trefoil.data.streaming import SOURCE, open_sources
from trefoil.data.tokenizer import train_tokenizer
from trefoil.hub.check import check_published
from trefoil.hub.publish import publish
from trefoil.recipes.schema import Recipe, TokenizerRecipe, build, validate
from trefoil.tasks.translation import TranslationEvaluator
from trefoil.training.run import evaluate, train
from trefoil.training.training_data import StreamData, _ReaderDataset

BOTH = {"directions": [["ko", "en"], ["en", "ko"]]}
KO = ["세 시 반에 만나요", "두 개 주세요 👋🏽", "다섯 명이 왔어요", "열 번 봤어요", "삼월 이일이에요", "칠십 원이에요"]
EN = [
    "at half past three",
    "two please 👋🏽",
    "five people came",
    "I saw it ten times",
    "it is 2 March",
    "it is 70 won",
]


def lines(columns, count, start=0):
    return "".join(
        json.dumps({columns[0]: f"{KO[at % 6]} {at}", columns[1]: f"{EN[at % 6]} {at}"}, ensure_ascii=False) + "\n"
        for at in range(start, start + count)
    )


@pytest.fixture
def sources(write, tmp_path):
    """Three: two with all splits, of which one names its columns otherwise, and a file of texts that were translated back."""
    for split, count in (("train", 40), ("validation", 4), ("test", 6)):
        write(f"talk/{split}.jsonl", lines(("ko", "en"), count))
        write(f"help/{split}.jsonl", lines(("korean", "english"), 2 * count, 100))
    back = write("back.jsonl", lines(("translation", "source"), 20, 500))
    return [
        {"path": str(tmp_path / "data" / "talk")},
        {"path": str(tmp_path / "data" / "help"), "columns": {"ko": "korean", "en": "english"}},
        {
            "path": str(back),
            "columns": {"ko": "translation", "en": "source"},
            "tag": "bt",
            "directions": [["ko", "en"]],
        },
    ]


@pytest.fixture
def recipe(tmp_path, sources):
    """A function: changes -> a recipe of 20 steps on all three."""

    def make(name="run", **changes):
        content = tiny_content(tmp_path / name, options=changes.pop("options", BOTH), language=["ko", "en"])
        content["data"] = {"sources": sources} | changes.pop("data", {})
        made = build(Recipe, merged(content, changes), "tiny.yaml")
        validate(made, "tiny.yaml")
        return made

    return make


def prepared(made):
    """The preprocessor, and the joined rows."""
    reader = reader_for(made)
    rows = load_rows(made.data, "train", reader.column_names(), "translation", 0, to_train=True)
    tokenizer = train_tokenizer(reader.texts(rows), made.tokenizer, reader.template)
    return preprocessor_for(made, None, tokenizer, tiny_config("encoder-decoder", vocab_size=len(tokenizer))), rows


def refused(made, work=reader_for):
    with pytest.raises(UserError) as error:
        work(made)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- examples


def test_a_row_is_an_example_in_each_direction_and_tags_come_first(recipe):
    preprocessor, rows = prepared(recipe())
    split = preprocessor.encode(rows, "train")
    assert len(rows) == 40 + 80 + 20
    assert len(split.examples) == 2 * (40 + 80) + 20
    decode = preprocessor.tokenizer.decode
    texts = [(decode(one["input_ids"]), decode(one["labels"])) for one in split.examples]
    assert texts[:2] == [(f"<2en>{KO[0]} 0</s>", f"{EN[0]} 0</s>"), (f"<2ko>{EN[0]} 0</s>", f"{KO[0]} 0</s>")]
    # what was translated back is a source only
    assert texts[-1] == (f"<2en><bt>{KO[519 % 6]} 519</s>", f"{EN[519 % 6]} 519</s>")
    assert sum("<bt>" in source for source, _ in texts) == 20
    for tag in ("<2en>", "<2ko>", "<bt>"):
        assert tag in preprocessor.tokenizer.all_special_tokens


def test_a_tag_of_a_source_needs_no_directions(recipe, sources):
    own = {"columns": {"source": "ko", "target": "en"}}
    tagged = [{"path": sources[0]["path"]}, {"path": sources[0]["path"], "tag": "talk"}]
    preprocessor, rows = prepared(recipe(options={}, data={"sources": tagged, **own}))
    examples = preprocessor.encode(rows, "train").examples
    texts = [preprocessor.tokenizer.decode(ids) for ids in examples["input_ids"]]
    assert len(texts) == 80
    assert texts[40:] == [f"<talk>{text}" for text in texts[:40]]


def test_of_a_row_that_is_wrong_no_direction_is_learned(recipe, write):
    write("talk/train.jsonl", lines(("ko", "en"), 3) + json.dumps({"ko": "하나", "en": " "}) + "\n")
    made = recipe(data={"invalid_examples": "skip"})
    preprocessor, rows = prepared(made)
    split = preprocessor.encode(rows, "train")
    assert (split.skipped, len(split.examples)) == (1, 2 * (3 + 80) + 20)
    assert "talk example 4, column 'en' is empty" in split.first_skipped
    assert refused(recipe(), lambda strict: prepared(strict)[0].encode(rows, "train")).startswith(
        "train, talk example 4: column 'en' is empty"
    )


def test_a_source_that_is_too_long_counts_its_tag(recipe):
    preprocessor, rows = prepared(recipe())
    lengths = [len(ids) for ids in preprocessor.encode(rows, "train").examples["input_ids"]]
    preprocessor.max_source_length = max(lengths) - 1
    with pytest.raises(UserError, match=rf"column '(ko|en)' has {max(lengths)} tokens, more than"):
        preprocessor.encode(rows, "train")


def test_rows_of_a_stream_are_tagged_alike(recipe):
    made = recipe(data={"streaming": True, "shuffle_buffer": 1000})
    preprocessor, rows = prepared(recipe())
    sources = open_sources(made.data, preprocessor.reader.column_names())
    data = StreamData(preprocessor, sources, Share())
    block = next(Mixture(sources, 1000, Seat(), 0).blocks())
    _, split, _ = _ReaderDataset(data).encoded(block)
    streamed, whole = (
        {preprocessor.tokenizer.decode(ids) for ids in examples["input_ids"]}
        for examples in (split.examples, preprocessor.encode(rows, "train").examples)
    )
    assert streamed == whole


def test_a_stream_of_one_place_has_no_tags(recipe, sources):
    own = {"path": sources[0]["path"], "sources": [], "columns": {"source": "ko", "target": "en"}}
    made = recipe(options={}, data={"streaming": True, "shuffle_buffer": 20, **own}, training={"max_steps": 4})
    assert train(made)["steps"] == 4


# --- scores


class Telling(TranslationEvaluator):
    """Says the references, but into Korean of one source only."""

    def evaluate(self, model, final):
        decode = self.preprocessor.tokenizer.decode
        texts = [decode(one["labels"], skip_special_tokens=True) for one in self.split.examples]
        into_korean = [self.reader.directions[number][1] == "ko" for number in self.split.examples["direction"]]
        of_help = [self.split.rows[row][SOURCE] == 1 for row in self.split.examples["example"]]
        wrong = zip(texts, into_korean, of_help, strict=True)
        return self.compared(["틀렸어요" if korean and of else text for text, korean, of in wrong])


def test_scores_of_each_direction_and_source(recipe):
    preprocessor, rows = prepared(recipe())
    rows = load_rows(recipe().data, "test", preprocessor.reader.column_names(), "translation", 0)
    scores = Telling(preprocessor, preprocessor.encode(rows, "test", is_scored=True), None).evaluate(None, True)
    parts = ["ko-en", "ko-en/talk", "ko-en/help", "en-ko", "en-ko/talk", "en-ko/help"]
    exact = {part: scores[f"exact_match/{part}"] for part in parts}
    assert exact == pytest.approx(dict(zip(parts, [100, 100, 100, 100 / 3, 100, 0], strict=True)))
    assert scores["exact_match"] == pytest.approx((100 + 100 / 3) / 2)
    assert scores["bleu"] == pytest.approx((scores["bleu/ko-en"] + scores["bleu/en-ko"]) / 2)
    assert "tok:13a" in scores["bleu_signature/ko-en"]
    assert "tok:13a" not in scores["bleu_signature/en-ko/talk"]
    assert scores["bleu_signature"] == (
        f"mean of ko-en ({scores['bleu_signature/ko-en']}) and en-ko ({scores['bleu_signature/en-ko']})"
    )
    assert len(scores["predictions"]) == len(rows) == 18
    assert scores["predictions"][0] == {"ko-en": f"{EN[0]} 0", "en-ko": f"{KO[0]} 0"}


def test_one_way_is_scored_as_ever_by_the_words_of_its_target(recipe, sources):
    data = {"sources": sources[:1], "columns": {"source": "en", "target": "ko"}}
    preprocessor, rows = prepared(recipe(options={}, data=data, language=["en", "ko"]))

    class Right(TranslationEvaluator):
        def evaluate(self, model, final):
            return self.compared(list(self.split.rows["ko"]))

    scores = Right(preprocessor, preprocessor.encode(rows, "test", is_scored=True), None).evaluate(None, True)
    assert scores.keys() == {"bleu", "chrf", "exact_match", "bleu_signature", "chrf_signature", "predictions"}
    assert "tok:13a" not in scores["bleu_signature"]
    assert scores["predictions"][1] == f"{KO[1]} 1"


# --- a run, and what becomes of it


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    for name, start in (("talk", 0), ("help", 100)):
        (folder / name).mkdir()
        for split, count in (("train", 60), ("validation", 4), ("test", 4)):
            (folder / name / f"{split}.jsonl").write_text(lines(("ko", "en"), count, start), encoding="utf-8")
    content = tiny_content(folder / "run", options=BOTH, language=["ko", "en"])
    content["data"] = {"sources": [{"path": str(folder / name)} for name in ("talk", "help")]}
    train(build(Recipe, content, "tiny.yaml"))
    return folder / "run"


@pytest.fixture(scope="module")
def published(trained, tmp_path_factory):
    return publish(trained, tmp_path_factory.mktemp("published") / "both")


def test_a_run_tells_all_scores_and_is_measured_again_alike(trained):
    results = json.loads((trained / "best" / "results.json").read_text(encoding="utf-8"))
    assert {"bleu", "bleu/ko-en", "chrf/en-ko/help", "exact_match/ko-en/talk"} <= results["test"].keys()
    assert {one["name"] for one in results["metrics"]} >= {"bleu", "bleu/ko-en", "chrf/en-ko/help"}
    assert {one["type"] for one in results["metrics"]} == {"bleu", "chrf", "exact_match"}
    assert all(one["signature"] for one in results["metrics"] if one["type"] != "exact_match")
    assert evaluate(trained / "best") == results["test"]
    first = json.loads((trained / "predictions.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert (first["ko"], first["prediction"].keys()) == (f"{KO[0]} 0", {"ko-en", "en-ko"})
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert any("validation_chrf/en-ko" in entry for entry in log)


def test_what_a_source_lacks_is_said(recipe, capsys):
    train(recipe(training={"max_steps": 4}))
    said = capsys.readouterr().err
    assert said.count("back.jsonl has no split 'validation', and is left out of it\n") == 1
    assert said.count("has no split") == 2


def test_the_published_model_translates_both_ways(published, trained):
    own = pipeline("translation", model=str(trained / "best"))
    pipe = pipeline("translation", model=str(published))
    assert pipe.languages == ["en", "ko"]
    texts = {language: own(f"<2{language}>{KO[0]}")[0]["translation_text"] for language in pipe.languages}
    for language, text in texts.items():
        assert pipe(KO[0], tgt_lang=language) == [{"translation_text": text}]
        assert pipe([KO[0], KO[0]], tgt_lang=language) == [{"translation_text": text}] * 2
    assert pipe(KO[0], src_lang="ko") == pipe(KO[0], tgt_lang="en")
    named = pipeline("translation_ko_to_en", model=str(published))
    assert named(KO[0]) == pipe(KO[0], tgt_lang="en")


@pytest.mark.slow
def test_the_published_folder_holds_in_a_clean_process(published):
    assert [check for check in check_published(published) if not check.ok] == []


def test_the_card_shows_the_direction_and_all_scores(published):
    card = (published / "README.md").read_text(encoding="utf-8")
    assert 'src_lang="ko", tgt_lang="en"' in card
    assert 'tokenizer("<2en>" + "회의' in card
    assert "| bleu/en-ko/help |" in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "the language to translate into is needed: tgt_lang must be one of en, ko"),
        ({"tgt_lang": "fr"}, "the language to translate into 'fr' is unknown: tgt_lang must be one of en, ko"),
        ({"src_lang": "fr"}, "is needed"),
    ],
)
def test_a_language_must_be_known(published, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipeline("translation", model=str(published))(KO[0], **arguments)


# --- what is refused


@pytest.mark.parametrize(
    "directions",
    [
        [],
        [["ko", "en"], ["ko", "en"]],
        [["ko"]],
        [["ko", "ko"]],
        [["ko", "한국어"]],
    ],
)
def test_directions_that_are_none(recipe, directions):
    with pytest.raises(UserError, match=r"options.directions=.* must be pairs of two languages, each once, such as"):
        reader_for(recipe(options={"directions": directions}))


def test_what_sources_cannot_say(recipe, sources, tmp_path):
    back = sources[2]
    other = [*sources[:2], {**back, "directions": [["ko", "de"]]}]
    assert "data.sources[2].directions: ['ko', 'de'] is none of" in refused(recipe(data={"sources": other}))
    assert "<s> has a meaning of its own" in refused(recipe(data={"sources": [{**back, "tag": "s"}]}))
    with pytest.raises(UserError, match=r"data.sources\[0\].tag='b t' must be one word"):
        recipe(data={"sources": [{**back, "tag": "b t"}]})
    plain = {"path": back["path"], "tag": "bt"}
    lm = recipe(task="causal-lm", options={}, evaluation={"metric": None}, data={"sources": [plain]})
    assert "data.sources[0].tag: the task causal-lm has none" in refused(lm)
    assert "none has the split 'validation'" in refused(recipe(data={"sources": [back]}), train)


def test_a_tokenizer_without_the_tags_is_refused_and_one_that_was_told_of_them_is_taken(recipe):
    made = recipe()
    _, rows = prepared(made)
    texts = list(reader_for(made).texts(rows))
    config = tiny_config("encoder-decoder", vocab_size=400)
    for wanted, missing in ((["<2en>", "<bt>"], "<2ko>"), (["<2en>", "<2ko>", "<bt>"], None)):
        tokenizer = train_tokenizer(texts, TokenizerRecipe(vocab_size=300, special_tokens=wanted))
        if missing is None:
            assert preprocessor_for(made, None, tokenizer, config)
        else:
            with pytest.raises(UserError, match=f"has no {missing}, .* tokenizer.special_tokens="):
                preprocessor_for(made, None, tokenizer, config)
