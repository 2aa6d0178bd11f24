"""`trefoil.load`: one object for a run, a stock folder and one of its own, and what it answers."""

import copy

import pytest
import torch
import yaml
from transformers import BertConfig, BertForSequenceClassification, pipeline

import trefoil
from tests.hub.conftest import HEADS, SIZES, tiny_config, tiny_tokenizer
from trefoil.configuration.errors import UserError
from trefoil.predict import OF_RECIPES, Predictor, load
from trefoil.tasks import TASKS as OF_TRAINING
from trefoil.visualization.asking import HEADS as USUAL
from trefoil.visualization.asking import TASKS
from trefoil.visualization.attention import CROSS, attention_maps

TEXTS = ["세 개의 사과", "", "two pears 👋🏽", "다섯 시 반"]


def save(model, tokenizer, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def of_task(tmp_path_factory):
    """A function: name in HEADS of tests/hub -> a loaded random model."""
    loaded = {}

    def make(name):
        if name not in loaded:
            tokenizer = tiny_tokenizer("" if name == "causal-lm" else "<s> ")
            model_class, own = HEADS[name]
            torch.manual_seed(0)
            sizes = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "initializer_range": 0.5}
            model = model_class(model_class.config_class(**sizes | own))
            loaded[name] = load(save(model, tokenizer, tmp_path_factory.mktemp("model")))
        return loaded[name]

    return make


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """Of two languages."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<2en>", "<2ko>"]})
    config = tiny_config(len(tokenizer))
    config.encoder.initializer_range = config.decoder.initializer_range = 0.5
    torch.manual_seed(0)
    model = trefoil.TrefoilEncoderDecoderForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 6
    return load(save(model, tokenizer, tmp_path_factory.mktemp("translator")))


def test_one_text_has_one_answer_and_a_list_a_list(of_task):
    model = of_task("text-classification")
    assert (model.task, type(model)) == ("text-classification", Predictor)
    assert model.tokenizer.is_fast
    one = model(TEXTS[0])
    assert one.keys() == {"label", "score"}
    many = model(TEXTS)
    assert many[0] == {"label": one["label"], "score": pytest.approx(one["score"])}
    assert many[1] == {"label": None, "score": None}
    assert [each["label"] for each in model(TEXTS, batch_size=2)] == [each["label"] for each in many]
    both = model(TEXTS[0], top_k=2)
    assert [set(each) for each in both] == [{"label", "score"}] * 2
    assert sum(each["score"] for each in both) == pytest.approx(1)
    assert model([]) == []
    assert repr(model).endswith("task='text-classification', TrefoilEncoderForSequenceClassification)")


def test_the_other_tasks(of_task):
    assert of_task("token-classification")(TEXTS)[1] == {"entities": None}
    answer = of_task("question-answering")({"question": "몇 개?", "context": TEXTS[0]})
    assert answer["answer"] == TEXTS[0][answer["start"] : answer["end"]]
    guesses = of_task("masked-lm")("세 개의 <mask>")
    assert [set(each) for each in guesses] == [{"token", "score", "filled_text"}] * 5
    best = of_task("masked-lm")("세 개의 <mask>", top_k=1)
    assert best == guesses[0] | {"score": pytest.approx(guesses[0]["score"])}
    assert isinstance(of_task("causal-lm")("three", max_new_tokens=3)["generated_text"], str)
    assert of_task("entailment")({"text": "a", "text_pair": "b"}) != of_task("entailment")(
        {"text": "a", "text_pair": "five"}
    )


def test_translation_scores_alignments_and_the_n_best(translator):
    found = translator(TEXTS, tgt_lang="en", n_best=2, scores=True, alignments=True)
    assert found[1] == [{"translation": None}]
    pipe = pipeline("translation", model=translator.name, device="cpu")
    expected = pipe([TEXTS[0]], tgt_lang="en", num_beams=4, num_return_sequences=2, return_scores=True)[0]
    assert [each["translation"] for each in found[0]] == [each["translation_text"] for each in expected]
    assert [each["score"] for each in found[0]] == pytest.approx([each["score"] for each in expected], abs=1e-4)
    text, best = TEXTS[0], found[0][0]
    cross = attention_maps(translator.model, translator.tokenizer, f"<2en>{text}", best["translation"])[CROSS]
    assert best["alignment"] == " ".join(f"{source}-{target}" for source, target in cross.word_alignment())


def test_what_is_too_long_to_align_is_told_of(translator, capsys):
    answer = translator("세 개의 사과 " * 9, tgt_lang="en", alignments=True, truncate=True)
    assert answer["alignment"] is None
    assert "inputs[0]: no alignment: the source has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("text-classification", "세 개의 사과"),
        ("token-classification", "세 개의 사과"),
        ("token-classification", "세 개의 사과 " * 30),  # in windows
        ("question-answering", {"question": "몇 개?", "context": "세 개의 사과"}),
        ("masked-lm", "세 개의 <mask>"),
    ],
)
def test_what_is_no_number_is_no_answer(of_task, tmp_path, name, text):
    usual = of_task(name)
    broken = load(save(usual.model, usual.tokenizer, tmp_path / "model"))
    with torch.no_grad():
        next(broken.model.parameters()).fill_(torch.nan)
    with pytest.raises(
        UserError, match=r"inputs\[1\]: what \S+ computes is not a number \(nan\): its weights hold NaN, or"
    ):
        broken([dict.fromkeys(text, "") if isinstance(text, dict) else "", text])


@pytest.mark.parametrize(
    ("name", "inputs", "options", "message"),
    [
        (
            "text-classification",
            ["a", "three " * 90],
            {},
            r"^inputs\[1\]: the text has \d+ tokens, but the model reads 64",
        ),
        ("text-classification", ["a", 3], {}, r"inputs\[1\]: 3 is not a text"),
        ("text-classification", ["\udcea"], {}, r"inputs\[0\]: is not UTF-8; convert"),
        ("text-classification", ["a"], {"topk": 3}, "topk: is no option of text-classification; there are function_to"),
        ("text-classification", ["a"], {"top_k": 0}, "top_k=0: is out of range, or of another kind"),
        ("text-classification", ["a"], {"alignments": True}, "alignments: is no option of text-classification"),
        ("question-answering", ["a"], {}, r"inputs\[0\]: question-answering needs a dict with question and context"),
        ("question-answering", [{"question": "a"}], {}, r"inputs\[0\]: there is no 'context'"),
        ("masked-lm", ["", "a"], {}, r"inputs\[1\]: write <mask> once"),
        ("causal-lm", ["a"], {"custom_generate": "a/b"}, "custom_generate: is no option of text-generation"),
    ],
)
def test_mistakes(of_task, name, inputs, options, message):
    with pytest.raises(UserError, match=message):
        of_task(name)(inputs, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "language to translate into is needed: tgt_lang must be one of en, ko"),
        ({"tgt_lang": "fr"}, "language to translate into 'fr' is unknown"),
    ],
)
def test_mistakes_about_languages(translator, options, message):
    with pytest.raises(UserError, match=message):
        translator("세 개", **options)


def test_a_run_s_folder_and_its_recipe(tmp_path, of_task):
    tagger = of_task("token-classification")
    best = save(tagger.model, tagger.tokenizer, tmp_path / "run" / "best")
    for all_subwords, strategy in ((False, "first"), (True, "simple")):
        recipe = {"task": "token-classification", "options": {"label_all_subwords": all_subwords}}
        (best / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        model = load(tmp_path / "run")
        assert model.defaults == {"aggregation_strategy": strategy}
        assert (model.task, model.name) == ("token-classification", str(best))
    (best / "recipe.yaml").write_text("- [")
    assert load(str(best)).task == "token-classification"


@pytest.mark.parametrize(
    ("recipe", "card", "wanted", "task"),
    [
        ("summarization", None, None, "summarization"),
        ("denoising", None, None, "text2text-generation"),
        ("of another package", None, None, "translation"),
        (None, "summarization", None, "summarization"),
        (None, "fill-mask", None, "translation"),
        ("summarization", None, "translation", "translation"),
        (None, None, None, "translation"),
    ],
)
def test_the_task_of_an_encoder_decoder(translator, tmp_path, recipe, card, wanted, task):
    folder = save(translator.model, translator.tokenizer, tmp_path / "model")
    if recipe is not None:
        (folder / "recipe.yaml").write_text(yaml.safe_dump({"task": recipe}))
    if card is not None:
        (folder / "README.md").write_text(f"---\npipeline_tag: {card}\n---\n# x\n")
    assert load(folder, wanted).task == task


def test_every_task_that_is_trained_is_one_that_is_asked():
    usual = {"causal-lm": "ForCausalLM", "masked-lm": "ForMaskedLM", "image-captioning": "VisionEncoderDecoderModel"}
    for name, task in OF_TRAINING.items():
        found = USUAL[usual[name]] if name in usual else OF_RECIPES.get(name, name)
        assert found in TASKS
        assert found == task.pipeline_tag


def test_a_stock_model(tmp_path):
    tokenizer = tiny_tokenizer("<s> ")
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SIZES, vocab_size=len(tokenizer), id2label={0: "a", 1: "b"}))
    answer = load(save(model, tokenizer, tmp_path))(TEXTS[0])
    expected = pipeline("text-classification", model=str(tmp_path), device="cpu")(TEXTS[0])[0]
    assert answer == {"label": expected["label"], "score": pytest.approx(expected["score"])}


def test_models_that_are_refused(tmp_path, of_task, translator):
    broken = copy.deepcopy(translator.model)
    with torch.no_grad():
        broken.model.decoder.norm.weight[3] = torch.nan
    for model, task, message in [
        (tmp_path / "none", None, "none: no such folder, and no Hub id that can be loaded: "),
        (tmp_path, None, "no model; give a run's folder that has best/"),
        ("nobody/nothing", None, "nobody/nothing: no such folder, and no Hub id"),
        (of_task("causal-lm").name, "fill-mask", "the head of the model is for text-generation, not for fill-mask"),
        (of_task("causal-lm").name, "guess", "task='guess': unknown; there are translation, "),
        (
            save(broken, translator.tokenizer, tmp_path / "nan"),
            None,
            r"nan: model\.\S+ holds NaN or an infinity, so it can",
        ),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            load(model, task)
        assert "\n" not in str(caught.value)
