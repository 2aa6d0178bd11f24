"""What the page does for each task, on untrained models."""

import pytest

gradio = pytest.importorskip("gradio")

from transformers import pipeline  # noqa: E402

from tests.visualization.pages import components, press, shown_page  # noqa: E402
from trefoil.visualization.answers import TASKS, marked  # noqa: E402
from trefoil.visualization.app import make_page  # noqa: E402

TEXT = "세 개의 사과와 두 개의 배 🍎"


@pytest.fixture(scope="module")
def page_of(published_head):
    """A function: name in HEADS of tests/hub -> its page."""
    pages = {}

    def make(name):
        if name not in pages:
            pages[name] = make_page(published_head(name))
        return pages[name]

    return make


def labels(page):
    return [box.label for box in components(page, gradio.Textbox)]


def refused(page, *texts):
    with pytest.raises(gradio.Error) as caught:
        press(page, *texts)
    return caught.value.message


def test_every_task_s_example_can_be_pressed(page_of):
    """The example that stands in the card, in each of the boxes."""
    for name in ("masked-lm", "text-classification", "entailment", "token-classification", "question-answering"):
        page = page_of(name)
        ((*texts,),) = components(page, gradio.Dataset)[0].samples
        answer, attention = press(page, *texts)
        assert answer
        assert "encoder self-attention" in shown_page(attention) or name == "entailment"


def test_text_classification(page_of, published_head):
    answer, _ = press(page_of("text-classification"), TEXT)
    expected = pipeline("text-classification", model=str(published_head("text-classification")), device="cpu")(TEXT)
    assert answer.keys() == {"부정", "긍정"}
    assert sum(answer.values()) == pytest.approx(1)
    assert answer[expected[0]["label"]] == pytest.approx(expected[0]["score"])


def test_pairs_of_texts_have_two_boxes(page_of):
    page = page_of("entailment")
    assert labels(page) == ["Text", "Second text"]
    first, second = (
        press(page, "민수는 사과를 먹었다.", text)[0] for text in ("민수는 과일을 먹었다.", "half past five")
    )
    assert first != second
    assert refused(page, TEXT, "") == "Nothing is written under “Second text”."


def test_token_classification_marks_the_text(page_of):
    pieces, _ = press(page_of("token-classification"), TEXT)
    assert "".join(piece for piece, _ in pieces) == TEXT
    assert {label for _, label in pieces} <= {None, "시간"}


def test_a_long_text_is_tagged_to_its_end(page_of, published_head):
    pipe = pipeline("token-classification", model=str(published_head("token-classification")), device="cpu")
    limit = pipe.model.config.max_position_embeddings
    text = " ".join(["세 개의 사과와"] * limit)
    assert len(pipe.tokenizer(text)["input_ids"]) > 3 * limit
    pieces, attention = press(page_of("token-classification"), text)
    assert "".join(piece for piece, _ in pieces) == text
    assert attention.startswith("<p>No attention map: the text has ")


def test_question_answering(page_of):
    page = page_of("question-answering")
    assert labels(page) == ["Question", "Context"]
    answer, attention = press(page, "몇 개?", TEXT)
    assert all(text in TEXT or text == "(no answer)" for text in answer)
    assert len(answer) >= 2
    assert "몇" in shown_page(attention) or "\\ubabd" in shown_page(attention)
    assert refused(page, "", TEXT) == "Nothing is written under “Question”."


def test_fill_mask_wants_one_mask(page_of):
    page = page_of("masked-lm")
    assert labels(page) == ["Text, with <mask> for the word to guess"]
    answer, _ = press(page, "세 개의 <mask>")
    assert 1 <= len(answer) <= 5
    assert 0 < sum(answer.values()) <= 1
    wanted = "Write <mask> once, for the word to guess: the text has it {} times."
    assert refused(page, TEXT) == wanted.format(0)
    assert refused(page, "<mask> <mask>") == wanted.format(2)
    assert "but the model reads 64 at most: shorten it." in refused(page, "<mask>" + " 사과" * 100)


def test_text_generation_keeps_to_the_model_s_length(page_of, published_head):
    page = page_of("causal-lm")
    tokenizer = pipeline("text-generation", model=str(published_head("causal-lm")), device="cpu").tokenizer
    answer, attention = press(page, "세 개의")
    assert isinstance(answer, str)
    assert "decoder self-attention" in shown_page(attention) or not answer.strip()
    prompt = "three"
    while len(tokenizer(prompt + " three")["input_ids"]) < 64:
        prompt += " three"
    assert isinstance(press(page, prompt)[0], str)
    assert "but the model reads 63 at most: shorten it." in refused(page, prompt + " three" * 9)


def test_a_text_that_is_cut_is_warned_of(published, page_of):
    for page in (make_page(published), page_of("text-classification")):
        with pytest.warns(UserWarning, match=r"The text has \d+ tokens, of which the model reads the first (24|64)\."):
            answer, attention = press(page, "세 개의 사과와 " * 60)
        assert answer or answer == ""
        assert attention.startswith("<p>No attention map: ")


def test_summarization_is_a_matter_of_the_card(published):
    page = make_page(published, {"pipeline_tag": "summarization"})
    assert components(page, gradio.Button)[0].value == "Summarize"
    expected = pipeline("summarization", model=str(published), device="cpu")(TEXT)[0]["summary_text"]
    assert press(page, TEXT)[0] == expected


def test_a_regression_is_a_number(tmp_path):
    import trefoil
    from tests.hub.conftest import SIZES, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    fields = SIZES | {"vocab_size": len(tokenizer), "num_labels": 1, "problem_type": "regression"}
    trefoil.TrefoilEncoderForSequenceClassification(trefoil.TrefoilEncoderConfig(**fields)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected = pipeline("text-classification", model=str(tmp_path), device="cpu")(TEXT)[0]["score"]
    assert float(press(make_page(tmp_path), TEXT)[0]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("spans", "pieces"),
    [
        ([], [("abcdef", None)]),
        ([(0, 6)], [("abcdef", "X")]),
        ([(2, 3), (0, 1)], [("a", "X"), ("b", None), ("c", "X"), ("def", None)]),
        ([(0, 4), (2, 6)], [("abcd", "X"), ("ef", "X")]),
        ([(0, 4), (1, 3)], [("abcd", "X"), ("ef", None)]),
    ],
)
def test_marked(spans, pieces):
    assert marked("abcdef", [{"start": start, "end": end, "entity_group": "X"} for start, end in spans]) == pieces


def test_every_task_shows_something():
    with gradio.Blocks(analytics_enabled=False):
        kinds = {type(task.output()) for task in TASKS.values()}
    assert kinds == {gradio.Textbox, gradio.Label, gradio.HighlightedText}
