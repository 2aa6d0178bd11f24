import pytest

from trefoil.tasks.metrics import AnswerQuality
from trefoil.tasks.metrics.question_answering import normalize_korquad, normalize_squad


def compute(predictions, references):
    return AnswerQuality(keep_in_memory=True).compute(predictions=predictions, references=references)


def one(prediction, *golds):
    scores = compute([prediction], [list(golds)])
    return scores["exact_match"], scores["f1"], scores["character_f1"]


@pytest.mark.parametrize(
    ("text", "squad", "korquad"),
    [
        ("The Eiffel Tower.", "eiffel tower", "the eiffel tower"),
        ("  a  cat, an owl\tand the dog! ", "cat owl and dog", "a cat an owl and the dog"),
        ("there another", "there another", "there another"),
        ("U.S.-led", "usled", "usled"),
        ("don't", "dont", "don t"),
        ("《춘향전》의 이몽룡", "《춘향전》의 이몽룡", "춘향전 의 이몽룡"),
        ("35,000원(삼만 오천 원)", "35000원삼만 오천 원", "35000원 삼만 오천 원"),
        ("the", "", "the"),
        ("👋!", "👋", "👋"),
        ("", "", ""),
    ],
)
def test_normalization_by_hand(text, squad, korquad):
    assert (normalize_squad(text), normalize_korquad(text)) == (squad, korquad)


@pytest.mark.parametrize(
    ("prediction", "gold", "scores"),
    [
        ("오후 2시 30분", "오후 2시 30분", (100, 100, 100)),
        # one of 2 and one of 3 tokens: 2 * 1 / (2 + 3); characters 오후2시 (4) of 오후2시30분 (7): 2 * 4 / (4 + 7)
        ("오후 2시", "오후 2시 30분", (0, 80, 800 / 11)),
        # the particle: no token is the same, 3 of 4 characters are: 2 * 3 / (4 + 3)
        ("강남역에", "강남역", (0, 0, 600 / 7)),
        # a token counts once for each time that it is there: 2 * 1 / (3 + 1)
        ("세 세 세", "세", (0, 50, 50)),
        ("The cat", "a CAT!", (100, 100, 100 * 2 * 3 / (6 + 4))),
        ("👋", "👋", (100, 100, 100)),
        ("", "민수", (0, 0, 0)),
        ("...", "민수", (0, 0, 0)),
        ("지훈", "민수", (0, 0, 0)),
    ],
)
def test_scores_by_hand(prediction, gold, scores):
    assert one(prediction, gold) == pytest.approx(scores)


def test_the_best_reference_counts_for_each_score():
    assert one("3만 5천 원", "35,000원", "3만 5천 원") == (100, 100, 100)
    # tokens fit the first better, 2 * 1 / (1 + 2); characters the second, 2 * 3 / (3 + 4)
    assert one("abc", "abc defghijk", "abcx") == pytest.approx((0, 200 / 3, 600 / 7))


@pytest.mark.parametrize(("prediction", "score"), [("", 100), ("  ", 100), ("!", 100), ("없음", 0), ("내일", 0)])
def test_no_answer_is_right_if_empty(prediction, score):
    assert one(prediction) == (score, score, score)


def test_a_reference_that_normalization_empties_does_not_count():
    assert one("", "The", "")[:2] == (100, 100)
    assert one("", "...", "답")[:2] == (0, 0)


def test_both_kinds_of_question_are_told_apart():
    scores = compute(["민수", "", "", "지훈"], [["민수"], ["내일"], [], []])
    assert scores["exact_match"] == 50
    assert (scores["has_answer_exact_match"], scores["no_answer_exact_match"]) == (50, 50)
    scores = compute(["민수", "내일", "지훈"], [["민수"], ["내일"], []])
    assert (scores["has_answer_exact_match"], scores["no_answer_exact_match"]) == (100, 0)


@pytest.mark.parametrize("references", [[["민수"], ["내일"]], [[], []]])
def test_one_kind_of_question_is_not_split(references):
    assert not any("answer_" in name for name in compute(["민수", ""], references))


def test_all_scores_are_averages_over_the_questions():
    scores = compute(["오후 2시", "강남역", ""], [["오후 2시 30분"], ["강남역", "역"], ["민수"]])
    assert [scores[name] for name in ("exact_match", "f1", "character_f1")] == pytest.approx(
        [100 / 3, (80 + 100 + 0) / 3, (800 / 11 + 100 + 0) / 3]
    )


def test_the_signatures_say_how_it_was_measured():
    scores = compute(["민수", ""], [["민수"], []])
    for name in ("exact_match", "f1", "has_answer_exact_match", "no_answer_exact_match"):
        assert scores[f"{name}_signature"] == "normalization:squad|golds:max"
        assert type(scores[name]) is float
    assert scores["character_f1_signature"] == "normalization:korquad-1.0|golds:max"
    assert len(scores) == 10


def test_nothing_to_score():
    with pytest.raises(ValueError, match="nothing to score"):
        compute([], [])
