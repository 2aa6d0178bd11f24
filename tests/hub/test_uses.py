import re

import pytest
from conftest import seldom
from huggingface_hub import ModelCard
from PIL import Image
from transformers import AutoConfig

import trefoil
from trefoil.hub.card import CardFields, render_card
from trefoil.hub.uses import EXAMPLES, USES, example_calls, find_use, labels_of, widget_of
from trefoil.recipes.schema import Recipe, build

TAGS = {
    "masked-lm": "fill-mask",
    "text-classification": "text-classification",
    "entailment": "text-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "causal-lm": "text-generation",
    "bare": "feature-extraction",
}
CALLS = {
    "masked-lm": 'fill("오늘 오후에 <mask> 만나요.")',
    "text-classification": 'classify("회의는 삼월 십오일',
    "entailment": 'classify({"text": "민수는',
    "token-classification": 'tag("회의는 삼월 십오일',
    "question-answering": 'answer(question="회의는 몇 시에 시작해요?", context="회의는 삼월 십오일',
    "causal-lm": 'write("오늘 아침에")',
    "bare": 'encode("회의는 삼월 십오일',
}


@pytest.mark.parametrize("head", seldom(TAGS, "text-classification", "causal-lm"))
def test_the_card_of_a_published_head_says_what_runs(published_head, head, capsys):
    folder = published_head(head)
    text = (folder / "README.md").read_text()
    assert ModelCard(text).data.pipeline_tag == TAGS[head]
    assert CALLS[head] in text
    assert set(re.findall(r'pipeline\("([\w-]+)"', text)) == {
        TAGS[head],
        *(["zero-shot-classification"] if head == "entailment" else []),
    }
    # what is in the card, but with the folder's place
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        block = block.replace('"tiny"', repr(str(folder)))
        exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_card_of_a_captioner_shows_it_a_picture(published_captioner, tmp_path, monkeypatch, capsys):
    text = (published_captioner / "README.md").read_text()
    assert ModelCard(text).data.pipeline_tag == "image-to-text"
    assert ModelCard(text).data.get("widget") is None
    assert "`transformers`, `torch` and `pillow` installed" in text
    assert "A Trefoil vision encoder-decoder with" in text
    monkeypatch.chdir(tmp_path)
    Image.new("RGBA", (20, 30), "red").save("picture.png")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block.replace('"tiny"', repr(str(published_captioner))), "README.md", "exec"), {})
    (caption,) = capsys.readouterr().out.splitlines()
    assert caption == trefoil.load(published_captioner)("picture.png")["caption"]


@pytest.mark.parametrize(
    ("head", "example"),
    [
        ("masked-lm", {"text": "오늘 오후에 <mask> 만나요."}),
        ("causal-lm", {"text": "오늘 아침에"}),
        ("entailment", {"text": "민수는 사과를 먹었다.", "text_pair": "민수는 과일을 먹었다."}),
        (
            "question-answering",
            {"text": "회의는 몇 시에 시작해요?", "context": "회의는 삼월 십오일 오후 두 시 반에 시작해요."},
        ),
    ],
)
def test_the_head_of_the_card_has_the_example_as_the_hub_knows_it(published_head, head, example):
    assert ModelCard.load(published_head(head) / "README.md").data.get("widget") == [example]


def test_the_head_of_the_card_says_how_tags_are_asked_for(published_head):
    data = ModelCard.load(published_head("token-classification") / "README.md").data
    assert data.get("inference") == {"parameters": {"aggregation_strategy": "first"}}
    assert ModelCard.load(published_head("masked-lm") / "README.md").data.get("inference") is None


def test_without_a_mask_token_there_is_no_example_to_fill():
    use = find_use("AutoModelForMaskedLM", trefoil.TrefoilEncoderConfig(), None, None)
    assert widget_of(use, "en") == {}


@pytest.mark.parametrize("head", ["text-classification", "entailment", "token-classification"])
def test_labels_survive_publishing_and_stand_in_the_card(published_head, head):
    folder = published_head(head)
    config = AutoConfig.from_pretrained(folder)
    labels = [config.id2label[number] for number in range(config.num_labels)]
    assert config.label2id == {label: number for number, label in enumerate(labels)}
    assert (
        labels
        == {
            "text-classification": ["부정", "긍정"],
            "entailment": ["contradiction", "neutral", "Entailment"],
            "token-classification": ["O", "B-시간", "I-시간"],
        }[head]
    )
    spoken = ", ".join(f"`{label}`" for label in labels)
    assert f"It tells apart {len(labels)} labels: {spoken}." in (folder / "README.md").read_text()
    assert labels[-1] in (folder / "config.json").read_text()


def test_other_heads_have_no_labels(published_head):
    for head in ("masked-lm", "question-answering", "bare"):
        assert "tells apart" not in (published_head(head) / "README.md").read_text()
    assert (
        labels_of("AutoModelForSequenceClassification", trefoil.TrefoilEncoderConfig(problem_type="regression")) == []
    )


def test_what_is_no_single_label_is_shown_as_logits():
    head = "AutoModelForSequenceClassification"
    pairs = build(Recipe, {"data": {"columns": {"text_pair": "b"}}}, "r")
    for fields in ({"problem_type": "multi_label_classification"}, {"problem_type": "regression"}, {"num_labels": 1}):
        use = find_use(head, trefoil.TrefoilEncoderConfig(**fields), None, pairs)
        _, lines = example_calls(use, [], "en")
        assert lines[-1] == "print(model(**inputs).logits)"
        assert "A man eats a fruit." in lines[0]


def test_tags_are_asked_for_as_they_were_learned():
    def call(recipe):
        recipe = build(Recipe, recipe, "r")
        use = find_use("AutoModelForTokenClassification", trefoil.TrefoilEncoderConfig(), None, recipe)
        return example_calls(use, [], "en", example="a")[0][0].call

    recipe = {"task": "token-classification"}
    assert call({}) == 'tag("a")'
    assert call(recipe) == 'tag("a", aggregation_strategy="first")'
    assert call(recipe | {"options": {"label_all_subwords": True}}) == 'tag("a", aggregation_strategy="simple")'


@pytest.mark.parametrize(
    ("objective", "example"),
    [
        ("spans", "We will meet at <extra_id_0> today."),
        ("infilling", "We will meet at <mask> today."),
        ("ul2", "[R] We will meet at <extra_id_0> today."),
        ("prefix", "This morning"),
    ],
)
def test_a_denoiser_mends_what_it_learned_to_mend(objective, example):
    recipe = build(Recipe, {"task": "denoising", "language": ["en"], "options": {"objective": objective}}, "r")
    config = trefoil.TrefoilEncoderDecoderConfig()
    names = {"model_id": "m", "version": "1", "recipe": recipe, "mask_token": "<mask>"}
    card = ModelCard(render_card(config, "AutoModelForSeq2SeqLM", **names, fields=CardFields(tags=["x"])))
    assert (card.data.pipeline_tag, card.data.tags) == ("text-generation", ["trefoil", "text2text-generation", "x"])
    assert card.data.get("widget") == [{"text": example}]
    assert f'inputs = tokenizer("{example}", return_tensors="pt")' in card.text
    assert "pipeline(" not in card.text


def test_every_use_has_an_example_in_every_language():
    kinds = {use.example for uses in USES.values() for use in uses} | {"pair", "topic", "spans", "ul2"}
    assert {language: examples.keys() for language, examples in EXAMPLES.items()} == dict.fromkeys(EXAMPLES, kinds)


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (None, "We will meet at [MASK] today."),
        ("a [MASK] c", "a [MASK] c"),
        ("a", "a [MASK]"),
        ("a {mask}", "a [MASK]"),
    ],
)
def test_the_mask_is_the_tokenizer_s(example, expected):
    use = find_use("AutoModelForMaskedLM", trefoil.TrefoilEncoderConfig(), None, None)
    (call,), _ = example_calls(use, [], "fr", example=example, mask_token="[MASK]")
    assert call.call == f'fill("{expected}")'
    assert example_calls(use, [], "fr", example=example)[0] == []


def test_an_example_of_one_s_own():
    fields = CardFields(example='말 "세 개"', question="몇 개?", language=["en", "ko"])
    text = render_card(
        trefoil.TrefoilEncoderConfig(), "AutoModelForQuestionAnswering", model_id="m", version="1", fields=fields
    )
    assert r'print(answer(question="몇 개?", context="말 \"세 개\""))' in text
    assert r'inputs = tokenizer("몇 개?", "말 \"세 개\"", return_tensors="pt")' in text
