"""What the page does for each task, on untrained models."""

import html
import inspect

import pytest

gradio = pytest.importorskip("gradio")

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import ByT5Tokenizer, pipeline  # noqa: E402

import trefoil  # noqa: E402
from tests.hub.conftest import HEADS, SIZES, tiny_tokenizer  # noqa: E402
from tests.visualization.pages import components, press, response, shown_maps, shown_texts  # noqa: E402
from trefoil.visualization.answers import TASKS  # noqa: E402
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


@pytest.fixture
def page_with(tmp_path):
    """A function: name in HEADS of tests/hub, tokenizer, fields of the configuration -> page of a random model."""

    def make(name, tokenizer, **fields):
        model_class, own = HEADS[name]
        fields = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 64} | own | fields
        if labels := fields.get("id2label"):
            fields["label2id"] = {label: number for number, label in labels.items()}
        torch.manual_seed(0)
        model_class(model_class.config_class(**fields)).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return make_page(tmp_path)

    return make


def labels(page):
    return [box.label for box in components(page, gradio.Textbox)]


def pipe_of(page):
    return inspect.getclosurevars(response(page)).nonlocals["pipe"]


def refused(page, *texts):
    with pytest.raises(gradio.Error) as caught:
        press(page, *texts)
    return caught.value.message


@pytest.mark.slow
def test_every_task_s_example_can_be_pressed(page_of):
    """The example that stands in the card, in each of the boxes."""
    for name in ("masked-lm", "text-classification", "entailment", "token-classification", "question-answering"):
        page = page_of(name)
        ((*texts,),) = components(page, gradio.Dataset)[0].samples
        answer, attention = press(page, *texts)
        assert answer
        kind = "decoder self-attention" if name == "entailment" else "encoder self-attention"
        assert shown_maps(attention).keys() == {kind}
        is_pair = len(texts) == 2 and name != "entailment"  # of which a decoder makes one
        assert shown_texts(attention).keys() == ({"first text", "second text"} if is_pair else {"text"})


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


def test_a_tokenizer_without_padding_tags_what_is_short(page_with):
    tokenizer = tiny_tokenizer("<s> ")
    tokenizer.pad_token = None
    page = page_with("token-classification", tokenizer)
    pieces, _ = press(page, TEXT)
    assert "".join(piece for piece, _ in pieces) == TEXT
    assert "but the model reads 64 at most: shorten it." in refused(page, TEXT * 20)


def test_a_slow_tokenizer_tags_what_is_short(page_with):
    page = page_with("token-classification", ByT5Tokenizer(extra_ids=0))
    for parameters in ({}, {"aggregation_strategy": "first"}):
        (pieces, _) = TASKS["token-classification"].answer(
            "token-classification", pipe_of(page), {"text": TEXT}, parameters
        )
        assert "".join(piece for piece, _ in pieces) == TEXT
        assert {label for _, label in pieces} == {None, "시간"}
    assert refused(page, TEXT * 9).endswith("but the model reads 64 at most: shorten it.")


def test_question_answering(page_of):
    page = page_of("question-answering")
    assert labels(page) == ["Question", "Context"]
    answer, attention = press(page, "몇 개?", TEXT)
    assert all(text in TEXT or text == "(no answer)" for text in answer)
    assert len(answer) >= 2
    assert shown_texts(attention) == {"first text": "몇 개?", "second text": TEXT}
    assert shown_maps(attention)["encoder self-attention"]["keys"].count("</s>") == 2
    assert refused(page, "", TEXT) == "Nothing is written under “Question”."


def test_fill_mask_wants_one_mask(page_of):
    page = page_of("masked-lm")
    assert labels(page) == ["Text, with <mask> for the word to guess"]
    answer, _ = press(page, "세 개의 <mask>")
    assert 1 <= len(answer) <= 5
    assert 0 < sum(answer.values()) <= 1
    wanted = "Write &lt;mask&gt; once, for the word to guess: the text has it {} times."
    assert refused(page, TEXT) == wanted.format(0)
    assert refused(page, "<mask> <mask>") == wanted.format(2)
    assert "but the model reads 64 at most: shorten it." in refused(page, "<mask>" + " 사과" * 100)


def test_text_generation_keeps_to_the_model_s_length(page_of, published_head):
    page = page_of("causal-lm")
    tokenizer = pipeline("text-generation", model=str(published_head("causal-lm")), device="cpu").tokenizer
    answer, attention = press(page, "세 개의")
    assert answer.strip()
    assert shown_maps(attention).keys() == {"decoder self-attention"}
    assert shown_texts(attention) == {"text": html.escape(f"세 개의{answer}")}
    prompt = "three"
    while len(tokenizer(prompt + " three")["input_ids"]) < 64:
        prompt += " three"
    assert isinstance(press(page, prompt)[0], str)
    assert "but the model reads 63 at most: shorten it." in refused(page, prompt + " three" * 9)


def test_a_text_that_is_cut_is_warned_of(published, published_head, page_of):
    text = "세 개의 사과와 " * 60
    for page, task, folder, limit in (
        (make_page(published), "translation", published, 24),
        (page_of("text-classification"), "text-classification", published_head("text-classification"), 64),
    ):
        with pytest.warns(UserWarning, match=rf"The text has \d+ tokens, of which the model reads the first {limit}\."):
            answer, attention = press(page, text)
        pipe = pipeline(task, model=str(folder), device="cpu")
        pipe.tokenizer.model_max_length = limit
        (expected,) = pipe(text, truncation=True)
        if task == "translation":
            assert answer == expected["translation_text"]
        else:
            assert answer[expected["label"]] == pytest.approx(expected["score"])
        assert attention.startswith("<p>No attention map: the ")


@pytest.mark.parametrize("name", ["text-classification", "token-classification", "question-answering"])
def test_a_limit_that_only_the_configuration_knows_is_kept(page_with, name):
    tokenizer = tiny_tokenizer("<s> ")
    assert tokenizer.model_max_length > 10**9
    page = page_with(name, tokenizer, position_embedding_type="learned")
    assert pipe_of(page).tokenizer.model_max_length == 64
    if name == "text-classification":
        with pytest.warns(UserWarning, match="reads the first 64"):
            answer, _ = press(page, TEXT * 20)
        assert sum(answer.values()) == pytest.approx(1)
    elif name == "token-classification":
        assert "".join(piece for piece, _ in press(page, TEXT * 20)[0]) == TEXT * 20
    else:
        assert press(page, "몇 개?", TEXT * 20)[0]


def test_a_picture_has_a_caption_and_no_map(published_captioner):
    page = make_page(published_captioner)
    (box,) = components(page, gradio.Image)
    assert (box.label, box.type) == ("Picture", "pil")
    picture = Image.new("RGB", (30, 20), "red")
    caption, attention = press(page, picture)
    assert caption == trefoil.load(published_captioner)(picture)["caption"]
    assert attention == ""
    assert refused(page, None) == "There is no picture under “Picture”."
    example = {"pipeline_tag": "image-to-text", "widget": [{"image": "somewhere.png"}]}
    assert not components(make_page(published_captioner, example), gradio.Dataset)


def test_summarization_is_a_matter_of_the_card(published):
    page = make_page(published, {"pipeline_tag": "summarization"})
    assert components(page, gradio.Button)[0].value == "Summarize"
    expected = pipeline("summarization", model=str(published), device="cpu")(TEXT)[0]["summary_text"]
    assert press(page, TEXT)[0] == expected


def test_what_mends_texts_completes_them_and_shows_the_tokens_that_stand_for_gaps(published, monkeypatch):
    page = make_page(published, {"pipeline_tag": "text-generation", "widget": [{"text": "세 <mask> 사과와"}]})
    assert components(page, gradio.Button)[0].value == "Complete"
    assert labels(page) == ["Text with gaps, or its beginning", "Output"]
    answer, attention = press(page, "세 <mask> 사과와")
    assert isinstance(answer, str)
    assert "cross-attention" in shown_maps(attention)
    pipe = pipe_of(page)
    said = pipe.tokenizer("세 <mask> 사과와")["input_ids"]  # and the end
    assert said[-1] == pipe.tokenizer.eos_token_id
    generated = torch.tensor([[pipe.model.config.decoder_start_token_id, *said, pipe.tokenizer.pad_token_id]])
    monkeypatch.setattr(pipe.model, "generate", lambda *_, **__: generated)
    answer, attention = press(page, "세 <mask> 사과와")
    assert answer.split() == ["세", "<mask>", "사과와"]
    assert shown_texts(attention)["target"] == html.escape(answer)


def test_a_regression_is_a_number(tmp_path):
    tokenizer = tiny_tokenizer()
    fields = SIZES | {"vocab_size": len(tokenizer), "num_labels": 1, "problem_type": "regression"}
    trefoil.TrefoilEncoderForSequenceClassification(trefoil.TrefoilEncoderConfig(**fields)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected = pipeline("text-classification", model=str(tmp_path), device="cpu")(TEXT)[0]["score"]
    assert float(press(make_page(tmp_path), TEXT)[0]) == pytest.approx(expected, rel=1e-3)


def test_each_number_of_a_regression_has_its_name():
    answers = [{"values": {"joy": 0.51234, "anger": -1.0}}]
    assert TASKS["text-classification"].shown("a text", answers) == "joy 0.5123, anger -1"


def test_every_task_shows_something():
    with gradio.Blocks(analytics_enabled=False):
        kinds = {type(task.output()) for task in TASKS.values()}
    assert kinds == {gradio.Textbox, gradio.Label, gradio.HighlightedText}
