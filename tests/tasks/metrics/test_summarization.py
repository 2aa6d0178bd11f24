from importlib.metadata import version
from random import Random
from string import printable

import pytest
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from trefoil.tasks.metrics import SummaryQuality
from trefoil.tasks.metrics.summarization import ROUGE_TYPES, words

REFERENCES = [
    "The meeting on March 15 was moved.\nIt costs 35,000 won.",
    "police killed the gunman",
    "Let's meet at half-past three",
]
PREDICTIONS = [
    "The meeting was moved to March 15.\nIt costs 30,000 won in total.",
    "the gunman police killed",
    "snake_case & e-mail",
]


def compute(predictions, references):
    return SummaryQuality(keep_in_memory=True).compute(predictions=predictions, references=references)


def rouge(prediction, reference):
    scores = compute([prediction], [reference])
    return [scores[name] for name in ROUGE_TYPES]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The U.S. e-mail, 35,000 won!", "the u s e mail 35 000 won"),
        ("snake_case", "snake case"),
        ("회의: 3월 15일 오후 2시 30분", "회의 3월 15일 오후 2시 30분"),
        ("택시비는(3만 5천 원)", "택시비는 3만 5천 원"),
        ("Größe Ελλάδα МОСКВА", "größe ελλάδα москва"),
        ("हिन्दी में", "हिन्दी में"),
        ("안녕 👋🏽 ❤️ 끝", "안녕 끝"),
        ("❤️그리고", "그리고"),
        ("", ""),
        (" \n\t…", ""),
    ],
)
def test_words_by_hand(text, expected):
    assert words(text) == expected.split()


def test_composed_and_decomposed_letters_are_the_same():
    assert words("\u1112\u116c\u110b\u1174") == ["회의"]
    assert words("cafe\u0301") == words("café") == ["café"]


def test_words_of_ascii_text_are_rouge_scores():
    rng = Random(0)
    texts = ["".join(rng.choices(printable, k=rng.randrange(80))) for _ in range(2_000)]
    texts += [chr(code) for code in range(128)]
    default = DefaultTokenizer(use_stemmer=False)
    for text in texts:
        assert words(text) == default.tokenize(text)


def test_scores_of_ascii_text_are_rouge_scores():
    scorer = RougeScorer(ROUGE_TYPES, use_stemmer=False)
    expected = [scorer.score(*pair) for pair in zip(REFERENCES, PREDICTIONS, strict=True)]
    scores = compute(PREDICTIONS, REFERENCES)
    for name in ROUGE_TYPES:
        assert scores[name] == pytest.approx(100 * sum(each[name].fmeasure for each in expected) / 3)
        assert type(scores[name]) is float
    assert 0 < scores["rouge2"] < scores["rougeL"] < scores["rouge1"] < 100


def test_korean_worked_by_hand():
    # 회의 3월 15일 against 회의 3월 16일 15일: 3 of 3 and 4 words, 1 of 2 and 3 pairs, in order 3
    scores = rouge("회의 3월 15일", "회의: 3월 16일 / 15일")
    assert scores == pytest.approx([600 / 7, 200 / 5, 600 / 7, 600 / 7])
    # rouge-score's own words would be 3, 15 and 3, 16, 15
    assert words("회의 3월 15일") != DefaultTokenizer().tokenize("회의 3월 15일")


def test_order_counts_for_the_longest_common_subsequence():
    # Lin (2004, section 3.1): all words are there, two of four in order
    assert rouge("the gunman police killed", "police killed the gunman") == pytest.approx([100, 200 / 3, 50, 50])


def test_lines_are_the_sentences_of_rouge_lsum():
    *_, longest, longest_of_lines = rouge("둘째 줄\n첫째 글", "첫째 글\n둘째 줄")
    assert (longest, longest_of_lines) == pytest.approx((50, 100))


def test_a_perfect_summary():
    assert rouge("배송비 3만 5천 원", "배송비 3만 5천 원") == pytest.approx([100] * 4)


@pytest.mark.parametrize(
    ("prediction", "reference"), [("", "회의"), ("회의", ""), ("", ""), ("👋", "👋"), ("발표", "회의")]
)
def test_nothing_in_common(prediction, reference):
    assert rouge(prediction, reference) == [0] * 4


@pytest.mark.parametrize(
    ("prediction", "reference", "match"),
    [
        ("회의: 3월", "회의: 3월", 1),
        (" 회의\n", "회의", 1),
        ("회의", "회의:", 0),
        ("", "", 1),
        ("👋", "👋", 1),
        ("A", "a", 0),
    ],
)
def test_exact_match(prediction, reference, match):
    assert compute([prediction, "같음"], [reference, "같음"])["exact_match"] == 50 * (match + 1)


def test_the_signatures_say_how_it_was_measured():
    scores = compute(PREDICTIONS, REFERENCES)
    for name in ROUGE_TYPES:
        signature = f"rouge-score:{version('rouge-score')}|tok:unicode-words|case:lower|stem:no"
        assert scores[f"{name}_signature"] == signature
    assert len(scores) == 9


def test_nothing_to_score():
    with pytest.raises(ValueError, match="nothing to score"):
        compute([], [])


def test_of_several_references_the_best_counts_for_each_figure():
    several = [["a b c d", "c x", "b c"], ["one"]]
    scores = compute(["b c", "two"], several)
    assert scores["rouge1"] == scores["exact_match"] == 50
    assert scores["rouge1_signature"].endswith("|refs:best")
    assert compute(["b x"], [["a b", "x y b"]])["rouge1"] == pytest.approx(
        100 * 2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3)
    )
    assert compute(PREDICTIONS, [[one] for one in REFERENCES])["rougeL"] == compute(PREDICTIONS, REFERENCES)["rougeL"]
