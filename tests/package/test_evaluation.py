"""Any model on a labelled file: what it is for, which column is what, and that scores are those of its own answers."""

import json
import random
import shutil

import datasets
import pytest
import torch
from ecosystem_helpers import small_tokenizer
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

import trefoil
from trefoil.cli import main
from trefoil.data.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, TEXT_TO_TEXT

WORDS = ["영화", "정말", "좋다", "나쁜", "배우", "음악"]
TEXTS = [" ".join(random.Random(number).choices(WORDS, k=2 + number % 5)) for number in range(24)]
LABELS = ["긍정" if number % 3 else "부정" for number in range(24)]
NUMBERS = ["01"[label == "긍정"] for label in LABELS]
SIZES = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 64, "initializer_range": 0.4}  # fmt: skip


@pytest.fixture
def stock(tmp_path):
    """A function: a model of transformers, its configuration -> its folder, with a tokenizer and no recipe."""

    def save(kind, config, template=BIDIRECTIONAL):
        torch.manual_seed(0)
        folder = tmp_path / "stock"
        kind(config).save_pretrained(folder)
        small_tokenizer([*TEXTS, "abcdefgh ?"], template, vocab_size=60).save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def classifier(stock):
    return stock(BertForSequenceClassification, BertConfig(**SIZES, id2label={0: "부정", 1: "긍정"}))


@pytest.fixture
def told(capsys):
    """A function: evaluate a model on a file -> its results, and the lines on standard error."""

    def evaluate(model, file, *more):
        code = main(["evaluate", str(model), "--data", str(file), "--json", *map(str, more)])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return json.loads(shown.out), shown.err

    return evaluate


@pytest.fixture
def refused(capsys):
    def evaluate(model, file, *more):
        assert main(["evaluate", str(model), "--data", str(file), *map(str, more)]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        return shown.err.splitlines()[-1]

    return evaluate


def accuracy(model, texts, labels):
    answers = trefoil.load(model)(texts)
    return 100 * sum(answer["label"] == label for answer, label in zip(answers, labels, strict=True)) / len(labels)


def table(header, *columns, delimiter=","):
    return "".join(delimiter.join(map(str, row)) + "\n" for row in [header, *zip(*columns, strict=True)])


# --- which task, which column


@pytest.mark.parametrize("kind", ["csv", "xlsx", "jsonl", "parquet", "no header"])
def test_a_classifier_that_is_stock_on_a_file_of_any_kind(classifier, told, write, tmp_path, kind):
    rows = datasets.Dataset.from_dict({"내용": TEXTS, "감정": LABELS})
    file = tmp_path / f"reviews.{kind}"
    if kind == "csv":
        file = write("reviews.csv", table(["내용", "감정"], TEXTS, LABELS, delimiter=";").encode("cp949"))
    elif kind == "no header":
        file = write("reviews.csv", table([TEXTS[0], LABELS[0]], TEXTS[1:], LABELS[1:]))
    elif kind == "xlsx":
        sheet = pytest.importorskip("openpyxl").Workbook()
        for row in [["내용", "감정"], *zip(TEXTS, LABELS, strict=True)]:
            sheet.active.append(row)
        sheet.save(file)
    else:
        (rows.to_json if kind == "jsonl" else rows.to_parquet)(file)
    found, notes = told(classifier, file)
    assert (found["task"], found["examples"], found["data"]) == ("text-classification", 24, str(file))
    assert found["scores"]["accuracy"] == pytest.approx(accuracy(classifier, TEXTS, LABELS))
    assert 0 < found["scores"]["accuracy"] < 100
    if kind == "no header":
        assert "the first row is no header" in notes
    else:
        assert "label is the column '감정', by its name (--column label)" in notes


def test_a_column_that_is_said(classifier, told, refused, write):
    file = write("a.csv", table(["text", "label", "mood"], TEXTS, ["x"] * 24, LABELS))
    found, _ = told(classifier, file, "--column", "label=mood", "evaluation.tokens_per_batch=64")
    assert found["scores"]["accuracy"] == pytest.approx(accuracy(classifier, TEXTS, LABELS))
    assert "--column label: no column 'moood'; there are text, label, mood" in refused(
        classifier, file, "--column", "label=moood"
    )


def test_labels_that_are_numbers_are_those_of_the_model_in_its_order(classifier, told, refused, write):
    file = write("a.csv", table(["text", "label"], TEXTS, NUMBERS))
    found, notes = told(classifier, file)
    assert found["scores"]["accuracy"] == pytest.approx(accuracy(classifier, TEXTS, LABELS))
    assert "numbers are the model's labels in its order: 0 부정, 1 긍정 (options.names)" in notes
    turned, notes = told(classifier, file, "options.names={0: 긍정, 1: 부정}")
    assert turned["scores"]["accuracy"] == pytest.approx(100 - found["scores"]["accuracy"])
    assert "in its order" not in notes
    line = refused(classifier, write("b.csv", table(["text", "label"], TEXTS, [*NUMBERS[1:], "2"])))
    assert "'2' (1)" in line


def test_labels_that_the_model_has_not_are_named(classifier, told, refused, write):
    file = write("a.csv", table(["text", "label"], TEXTS, [*LABELS[:21], "중립", "중립", "positive"]))
    line = refused(classifier, file)
    assert line == (
        f"error: {file}: column 'label' has labels that the model has not: '중립' (2), 'positive' (1); it has 부정, 긍정; "
        "options.names={중립: 부정} says which is which"
    )
    found, _ = told(classifier, file, "options.names={positive: 긍정, 중립: 부정}")
    assert found["examples"] == 24
    found, notes = told(classifier, file, "data.invalid_examples=skip")
    assert found["examples"] == 21
    assert "skipped 3 invalid examples" in notes


def test_one_output_estimates_a_number(stock, told, write):
    folder = stock(BertForSequenceClassification, BertConfig(**SIZES, num_labels=1))
    file = write("a.csv", table(["text", "rating"], TEXTS, [number / 2 for number in range(24)]))
    found, _ = told(folder, file)
    model, tokenizer = BertForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    values = [float(model(**tokenizer(text, return_tensors="pt")).logits) for text in TEXTS]
    errors = [(value - number / 2) ** 2 for number, value in enumerate(values)]
    assert found["scores"]["mean_squared_error"] == pytest.approx(sum(errors) / 24, rel=1e-4)


def test_texts_of_a_pair_are_told_apart_as_the_pipeline_does(classifier, told, write):
    tokenizer = json.loads((classifier / "tokenizer_config.json").read_text())
    tokenizer["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (classifier / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    pairs = [{"text": one, "text_pair": other} for one, other in zip(TEXTS, TEXTS[::-1], strict=True)]
    answers = [answer["label"] for answer in trefoil.load(classifier)(pairs)]
    file = write("a.csv", table(["premise", "hypothesis", "label"], TEXTS, TEXTS[::-1], answers))
    found, _ = told(classifier, file)
    assert found["scores"]["accuracy"] == 100


def test_tags(stock, told, refused, write):
    names = {0: "O", 1: "B-PER", 2: "I-PER"}
    folder = stock(BertForTokenClassification, BertConfig(**SIZES, id2label=names))
    words = [text.split() for text in TEXTS]
    lines = "\n".join("".join(f"{word}\tO\n" for word in one[1:]) + f"{one[0]}\tB-PER\n" for one in words)
    found, _ = told(folder, write("a.conll", lines))
    assert found["task"] == "token-classification"
    assert 0 < found["scores"]["token_accuracy"] < 100
    rows = [{"words": one, "ner_tags": [1] + [0] * (len(one) - 1)} for one in words]
    found, notes = told(folder, write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert "numbers are the model's labels in its order: 0 O, 1 B-PER, 2 I-PER" in notes
    assert "'B-ORG' (24)" in refused(folder, write("b.conll", lines.replace("PER", "ORG")))
    folder = stock(BertForTokenClassification, BertConfig(**SIZES))
    assert "the model marks no entities by BIO2 tags; its labels are LABEL_0, LABEL_1" in refused(
        folder, write("c.conll", lines)
    )


def test_weights_that_are_no_numbers_have_no_score(stock, refused, write):
    folder = stock(BertForTokenClassification, BertConfig(**SIZES, id2label={0: "O", 1: "B-PER", 2: "I-PER"}))
    model = BertForTokenClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias[1] = torch.nan
    model.save_pretrained(folder)
    line = refused(folder, write("a.conll", f"{WORDS[0]} O\n{WORDS[1]} B-PER\n"))
    assert line == f"error: {folder}: classifier.bias holds NaN or an infinity, so nothing is measured; train it anew"


@pytest.mark.parametrize("model", ["bert", "distilbert"])
def test_questions_in_the_form_of_squad(stock, told, write, model):
    kinds = {
        "bert": (BertForQuestionAnswering, BertConfig(**SIZES)),
        "distilbert": (
            DistilBertForQuestionAnswering,
            DistilBertConfig(vocab_size=60, dim=16, hidden_dim=16, n_layers=1, n_heads=2, max_position_embeddings=64),
        ),
    }
    folder = stock(*kinds[model])
    qas = [{"id": str(n), "question": f"{n}?", "answers": [{"text": "영화", "answer_start": 0}]} for n in range(4)]
    content = {"data": [{"paragraphs": [{"context": "영화 정말 좋다", "qas": qas}]}]}
    found, _ = told(folder, write("dev.json", json.dumps(content)))
    assert (found["task"], found["examples"]) == ("question-answering", 4)


def test_a_running_text(stock, told, write):
    folder = stock(
        GPT2LMHeadModel, GPT2Config(vocab_size=60, n_positions=64, n_embd=16, n_layer=1, n_head=2), LEFT_TO_RIGHT
    )
    found, _ = told(folder, write("a.txt", "\n".join(TEXTS)))
    assert found["task"] == "causal-lm"
    assert found["scores"]["word_perplexity"] > 1
    assert found.keys() == {"model", "task", "data", "examples", "scores"}


UNIT = '<tu><tuv xml:lang="en"><seg>abc</seg></tuv><tuv xml:lang="ko"><seg>{}</seg></tuv></tu>'


def test_an_architecture_for_several_tasks_wants_to_be_told_which(stock, told, refused, write):
    config = T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    folder = stock(T5ForConditionalGeneration, config, TEXT_TO_TEXT)
    file = write("a.tmx", f"<tmx>{''.join(UNIT.format(text) for text in TEXTS[:4])}</tmx>")
    line = refused(folder, file)
    assert line == (
        f"error: {folder}: T5ForConditionalGeneration does not say what it was trained for; say it with --task: denoising, "
        "translation, summarization"
    )
    found, _ = told(folder, file, "--task", "translate", "--column", "source=ko", "evaluation.max_new_tokens=5")
    assert (found["task"], found["examples"]) == ("translation", 4)
    (folder / "README.md").write_text("---\npipeline_tag: translation\n---\n# A model\n")
    of_card, _ = told(folder, file, "--column", "source=ko", "evaluation.max_new_tokens=5")
    assert of_card == found


def test_what_is_refused(classifier, refused, write, tmp_path):
    file = write("a.csv", table(["text", "label"], TEXTS, LABELS))
    assert "BertForSequenceClassification is for text-classification, not for token-classification" in refused(
        classifier, file, "--task", "ner"
    )
    assert refused(classifier, tmp_path / "none.csv").endswith("none.csv: no such file")
    assert refused(classifier, tmp_path).endswith("is a folder; name a file in it")
    assert "no model to load" in refused(tmp_path / "nowhere", file)
    assert refused(classifier, file, "--split", "test").startswith(
        "error: trefoil evaluate: give one of --split, --data"
    )
    assert "no telling which column is 'text' of label; say it: --column text=NAME" in refused(
        classifier, write("b.csv", table(["label"], LABELS))
    )
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path / "bare")
    assert "BertModel has no head for any task; there are masked-lm, causal-lm," in refused(tmp_path / "bare", file)
    long = write("c.csv", table(["text", "label"], ["영" * 99], ["긍정"]))
    assert "101 tokens are more than the model's 64" in refused(classifier, long)


def test_an_argument_that_is_no_column(classifier, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(classifier), "--data", "a.csv", "--column", "mood"])
    assert "'mood' is not ROLE=NAME, such as label=mood" in capsys.readouterr().err


# --- a model of ours


def test_a_run_knows_its_columns_and_its_languages(finished_run, told, write):
    text = json.dumps({"en": "two apples", "de": "zwei", "ko": "사과 두 개"}, ensure_ascii=False) + "\n"
    found, notes = told(finished_run, write("a.jsonl", text * 3))
    assert found["scores"]["chrf_signature"]
    assert "source is the column 'ko', by its name (--column source)" in notes
    assert "target is the column 'en', by its name (--column target)" in notes
    found, notes = told(finished_run, write("b.jsonl", text.replace("ko", "src").replace('"en"', '"tgt"')))
    assert "source is the column 'src'" in notes


def test_without_its_recipe_it_says_the_same(finished_run, told, refused, write, tmp_path):
    folder = shutil.copytree(finished_run / "best", tmp_path / "bare")
    (folder / "recipe.yaml").unlink()
    file = write("a.csv", table(["ko", "en"], ["사과 두 개", "세 시"], ["two apples", "three o'clock"]))
    assert "say it with --task" in refused(folder, file)
    bare, _ = told(folder, file, "--task", "translation")
    whole, _ = told(finished_run / "best", file)
    assert bare["scores"]["chrf"] == whole["scores"]["chrf"]
