"""The page that tries a model: what it shows, and that nothing of it comes from elsewhere."""

import html
import json
import re
import shutil
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch

gradio = pytest.importorskip("gradio")

from transformers import pipeline  # noqa: E402

import trefoil  # noqa: E402
from tests.hub.conftest import tiny_tokenizer  # noqa: E402
from tests.visualization.pages import components, press, response, shown_maps, shown_page, shown_texts  # noqa: E402
from trefoil.visualization import app  # noqa: E402
from trefoil.visualization.app import THEME, draw_attention, load_model, make_page, place_model  # noqa: E402
from trefoil.visualization.asking import read_card  # noqa: E402
from trefoil.visualization.page import SCRIPT  # noqa: E402


@pytest.fixture(scope="module")
def translation_page(published):
    return make_page(published)


def test_it_shows_what_the_pipeline_says_and_where_the_model_looked(translation_page, published):
    answer, attention = press(translation_page, "세 개의 사과")
    assert answer == pipeline("translation", model=str(published), device="cpu")("세 개의 사과")[0]["translation_text"]
    assert "cross-attention" in shown_maps(attention)


def test_a_language_is_chosen_where_there_are_several(source, tmp_path):
    shutil.copytree(source, tmp_path / "both")
    folder = tmp_path / "both"
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<2en>", "<2ko>"]})
    tokenizer.save_pretrained(folder)
    config = trefoil.TrefoilEncoderDecoderConfig.from_pretrained(folder)
    for half in (config.encoder, config.decoder):
        half.vocab_size, half.initializer_range = len(tokenizer), 0.3
    torch.manual_seed(0)
    model = trefoil.TrefoilEncoderDecoderForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 6
    model.save_pretrained(folder)
    page = make_page(folder, {"pipeline_tag": "translation", "inference": {"parameters": {"tgt_lang": "ko"}}})
    (choice,) = components(page, gradio.Dropdown)
    assert ([value for _, value in choice.choices], choice.value) == (["en", "ko"], "ko")
    pipe = pipeline("translation", model=str(folder), device="cpu")
    for language in ("en", "ko"):
        answer, attention = press(page, "세 개의 사과", language)
        assert answer == pipe("세 개의 사과", tgt_lang=language)[0]["translation_text"]
        assert shown_texts(attention)["source"] == html.escape(f"<2{language}>세 개의 사과")


def test_the_answer_stands_there_before_the_map_is_drawn(translation_page):
    first, second = response(translation_page)("세 개의 사과")
    assert first[0] == second[0]
    assert "drawing" in first[1]


def test_title_task_size_and_example_are_those_of_the_card(translation_page, published):
    assert translation_page.title == "tiny"
    count = sum(weight.numel() for weight in pipeline("translation", model=str(published)).model.parameters())
    assert components(translation_page, gradio.Markdown)[0].value == f"# tiny\nTranslation · {count:,} parameters"
    assert components(translation_page, gradio.Dataset)[0].samples == [["세 개의 사과"]]
    assert [box.label for box in components(translation_page, gradio.Textbox)] == ["Text", "Output"]


def test_its_heading_stands_below_those_of_the_page_that_it_is_a_part_of(published):
    with gradio.Blocks() as page:
        place_model(published, *load_model(published), level=3)
    assert components(page, gradio.Markdown)[0].value.startswith("### tiny\n")


NASTY = (
    "<script>alert(1)</script> ![](http://x/y.png) [z](http://x) **b** `c` $d$ &amp; <img src=http://x onerror=y>\n# e"
)


def test_a_card_s_title_is_only_a_text(published):
    page = make_page(published, {"title": NASTY * 2})
    (heading, _) = components(page, gradio.Markdown)[0].value.split("\n")
    bare = re.sub(r"\\([!-/:-@\[-`{-~])", "", heading.removeprefix("# "))
    assert re.fullmatch(r"[\w\s]+", bare)
    assert page.title == " ".join((NASTY * 2).split())[:200]
    assert make_page(published, {"title": [NASTY]}).title == "tiny"


def test_names_of_labels_are_only_texts(published_head, tmp_path):
    folder = shutil.copytree(published_head("text-classification"), tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": NASTY, "1": "b"}, "label2id": {NASTY: 0, "b": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    page = make_page(folder)
    answer, _ = press(page, "three apples")
    assert answer.keys() == {NASTY, "b"}  # which gradio shows as text
    assert type(components(page, gradio.Label)[0]) is gradio.Label


def test_an_error_is_only_a_text(published, monkeypatch):
    """gradio shows the message of one as HTML."""

    def refuse(*_, **__):
        raise ValueError(NASTY)

    monkeypatch.setattr("trefoil.visualization.answers.ask", refuse)
    with pytest.raises(gradio.Error) as caught:
        press(make_page(published), "세 개의 사과")
    assert caught.value.message == "The model cannot answer this: " + html.escape(NASTY.splitlines()[0], quote=False)


@pytest.mark.parametrize("text", ['<script>"', "&lt; 'y'", "사과 🍎 👩‍👩‍👧", "${1}{{x}}", "</iframe>", "a\n\nb"])
def test_any_text_is_only_text(translation_page, text):
    _, attention = press(translation_page, text)
    assert shown_texts(attention)["source"] == html.escape(text)
    assert shown_page(attention).count("<script>") == 1


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([""], "Nothing is written under “Text”."),
        ([" \n"], "Nothing is written under “Text”."),
        ([None], "Nothing is written under “Text”."),
        (["가" * 20_001], "“Text” has 20,001 characters, but this page takes 20,000 at most."),
    ],
)
def test_texts_that_are_refused(translation_page, texts, message):
    with pytest.raises(gradio.Error) as caught:
        press(translation_page, *texts)
    assert caught.value.message == message
    assert not caught.value.print_exception


def test_what_a_pipeline_refuses_is_one_line(published, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("too many\nbeams")

    monkeypatch.setattr("trefoil.visualization.answers.ask", refuse)
    with pytest.raises(gradio.Error) as caught:
        press(make_page(published), "세 개의 사과")
    assert caught.value.message == "The model cannot answer this: too many"


def test_a_model_without_attention_answers_and_says_why_there_is_no_map(tmp_path):
    tokenizer = tiny_tokenizer()
    half = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 1, "attention_type": "none"}
    torch.manual_seed(0)
    model = trefoil.TrefoilRecurrentForConditionalGeneration(trefoil.TrefoilRecurrentConfig(**half))
    model.generation_config.max_new_tokens = 5
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    answer, attention = press(make_page(tmp_path), "세 개의 사과")
    assert isinstance(answer, str)
    assert attention.startswith("<p>No attention map: TrefoilRecurrentForConditionalGeneration has no attention")


def test_drawing_leaves_the_model_as_it_was(published):
    pipe = pipeline("translation", model=str(published), device="cpu")
    before = pipe.model.config._attn_implementation
    assert draw_attention(pipe, ["세 개의 사과"], "three apples").startswith("<iframe")
    assert pipe.model.config._attn_implementation == before == "sdpa"


def test_a_map_of_too_many_weights_is_not_drawn(translation_page, monkeypatch):
    monkeypatch.setattr(app, "MOST_WEIGHTS", 10)
    answer, attention = press(translation_page, "세 개의 사과")
    assert isinstance(answer, str)
    wanted = r"<p>No attention map: the attention of .* has [\d,]+ weights, but 10 are shown at most; give a shorter text</p>"
    assert re.fullmatch(wanted, attention)


@pytest.mark.parametrize("error", [TypeError, IndexError, ValueError, RuntimeError])
def test_a_map_that_fails_says_why(translation_page, monkeypatch, error):
    def fail(*_):
        raise error("too <odd>")

    monkeypatch.setattr(app, "attention_maps", fail)
    assert press(translation_page, "세 개의 사과")[1] == "<p>No attention map: too &lt;odd&gt;</p>"


def test_models_that_have_no_page(published_head, tmp_path):
    with pytest.raises(ValueError, match="no page for this model: what it does is not known; there are transl"):
        make_page(published_head("bare"))
    with pytest.raises(ValueError, match=r"^nobody/nothing: no page for this model: ") as caught:
        make_page("nobody/nothing")
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "trefoil_encoder"}))
    with pytest.raises(ValueError, match="no page for this model: "):
        make_page(tmp_path, {"pipeline_tag": "fill-mask"})


def corrupt(folder):
    (folder / "model.safetensors").write_bytes(b"no weights")


def pickle(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def misconfigure(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "trefoil_encoder", "hidden_size": "wide"}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (corrupt, "Error while deserializing header"),
        (pickle, "no file named model.safetensors"),
        (misconfigure, "Field 'hidden_size' expected int, got str"),
    ],
)
def test_what_does_not_load_is_said_in_a_line(published, tmp_path, spoil, message):
    folder = shutil.copytree(published, tmp_path / "tiny")
    spoil(folder)
    with pytest.raises(ValueError, match=f"tiny: no page for this model: .*{message}") as caught:
        make_page(folder)
    assert "\n" not in str(caught.value)


def test_the_task_without_a_card(published_head, tmp_path):
    for path in published_head("token-classification").iterdir():
        if path.name != "README.md":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert read_card(str(tmp_path)) == {}
    page = make_page(tmp_path)
    assert page.title == tmp_path.name
    assert len(components(page, gradio.HighlightedText)) == 1


@pytest.mark.parametrize("inference", [True, False, None, {}])
def test_what_cards_of_others_say(published, inference):
    metadata = {"pipeline_tag": "of our own", "widget": [{"src": "sound.flac"}], "inference": inference}
    page = make_page(published, metadata)
    assert components(page, gradio.Dataset) == []
    assert components(page, gradio.Button)[0].value == "Translate"


@pytest.mark.parametrize(
    ("widget", "rows"),
    [
        pytest.param(True, [], marks=pytest.mark.slow),
        pytest.param("hello", [], marks=pytest.mark.slow),
        pytest.param({"text": "a"}, [], marks=pytest.mark.slow),
        (["hello", None, {"text": 3}, {"text": ["a"]}], []),
        (["hello", {"text": "a", "output": {"text": "b"}}], [["a"]]),
    ],
)
def test_only_examples_that_fit_are_shown(published, widget, rows):
    metadata = {"pipeline_tag": ["translation"], "widget": widget, "inference": {"parameters": 3}}
    page = make_page(published, metadata)
    assert [row for block in components(page, gradio.Dataset) for row in block.samples] == rows
    assert isinstance(press(page, "세 개의 사과")[0], str)


def test_nothing_comes_from_elsewhere(translation_page):
    assert translation_page.analytics_enabled is False
    assert THEME._stylesheets == []
    assert not re.search(r"""url\(["']?http|@import""", THEME._get_theme_css())
    _, address, shared = translation_page.launch(theme=THEME, quiet=True, prevent_thread_lock=True, footer_links=[])
    try:
        assert address.startswith("http://127.0.0.1:")
        assert shared is None
        with urlopen(address) as answer:
            shown = answer.read().decode()
        # what a browser fetches by itself; of the tags for other sites' previews it fetches nothing
        fetched = re.findall(r"""(?:src|href)\s*=\s*["']?((?:https?:)?//[^"'\s>]*)|url\(["']?(https?:[^)]*)""", shown)
        assert [one for pair in fetched for one in pair if one and not one.startswith(address)] == []
    finally:
        translation_page.close()


def test_a_frame_says_how_high_it_is_and_the_page_around_listens(translation_page, monkeypatch):
    told = {}
    monkeypatch.setattr(translation_page, "launch", lambda **options: told.update(options) or (None, "here", None))
    monkeypatch.setattr(translation_page, "block_thread", lambda: None)
    app.open_page(translation_page)
    assert told["js"] == app.FIT_FRAMES
    (name,) = set(re.findall(r"event\.data\.(\w+)", app.FIT_FRAMES))
    assert f"postMessage({{ {name}: " in SCRIPT


def test_run_beside_no_model_it_says_what_it_needs(monkeypatch):
    monkeypatch.delenv("MODEL_ID", raising=False)
    assert not Path(app.__file__).with_name("config.json").exists()
    with pytest.raises(SystemExit, match=r"error: no config.json beside app.py: .* set MODEL_ID"):
        app.main()


def test_model_id_names_a_model_elsewhere(published, monkeypatch):
    opened = []
    monkeypatch.setenv("MODEL_ID", str(published))
    monkeypatch.setattr(app, "open_page", opened.append)
    app.main()
    assert [page.title for page in opened] == ["tiny"]
    monkeypatch.setenv("MODEL_ID", "nobody/nothing")
    with pytest.raises(SystemExit, match="error: nobody/nothing: no page for this model: "):
        app.main()
