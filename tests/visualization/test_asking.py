"""How each task's model is asked, on untrained models; what is the same on the page stands in test_answers.py."""

import json

import pytest
import torch
from PIL import Image
from transformers import pipeline

import trefoil
from tests.hub.conftest import HEADS, SIZES, save_captioner, tiny_config, tiny_tokenizer
from trefoil.pipelines.by_length import predict_by_length
from trefoil.visualization.asking import (
    TASKS,
    TooLongError,
    UnanswerableError,
    _found,
    ask,
    load_pipe,
    marked,
    read_card,
)

TEXT = "세 개의 사과와 두 개의 배 🍎"
TEXTS = [TEXT, "three apples", "배", "두 개의 배 " * 4]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """A function: name in HEADS of tests/hub, or `seq2seq`, and fields of the configuration -> folder of a random model."""
    folders = {}

    def make(name, **fields):
        key = json.dumps([name, fields])
        if key not in folders:
            folders[key] = folder = tmp_path_factory.mktemp("model")
            tokenizer = tiny_tokenizer("" if name == "causal-lm" else "<s> ")
            tokenizer.save_pretrained(folder)
            torch.manual_seed(0)
            if name == "seq2seq":
                config = tiny_config(len(tokenizer))
                config.encoder.initializer_range = config.decoder.initializer_range = 0.5
                model = trefoil.TrefoilEncoderDecoderForConditionalGeneration(config)
                model.generation_config.max_new_tokens = 6
            else:
                model_class, own = HEADS[name]
                sizes = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "initializer_range": 0.5}
                model = model_class(model_class.config_class(**sizes | own | fields))
            model.save_pretrained(folder)
        return folders[key]

    return make


@pytest.fixture
def loaded(folder_of):
    """A function: as of `folder_of` -> task and pipeline."""
    return lambda name, tag=None, **fields: load_pipe(str(folder_of(name, **fields)), tag)


@pytest.mark.parametrize(
    ("name", "tag", "inputs", "options"),
    [
        ("seq2seq", None, TEXTS, {}),
        ("seq2seq", "summarization", TEXTS, {"n_best": 2, "scores": True}),
        ("seq2seq", "text-generation", [f"{text} <mask>" for text in TEXTS], {"n_best": 2}),
        ("causal-lm", None, TEXTS, {"max_new_tokens": 5}),
        ("masked-lm", None, [f"{text} <mask>" for text in TEXTS], {}),
        ("masked-lm", None, ["<mask>"], {"top_k": 1}),
        ("text-classification", None, TEXTS, {"top_k": 2}),
        ("entailment", None, [{"text": text, "text_pair": TEXT} for text in TEXTS], {}),
        ("token-classification", None, TEXTS, {}),
        ("question-answering", None, [{"question": "몇 개?", "context": text} for text in TEXTS], {"top_k": 2}),
    ],
)
def test_many_are_answered_as_each_alone(loaded, name, tag, inputs, options):
    task, pipe = loaded(name, tag)
    many = ask(task, pipe, inputs, predict_by_length, **options)
    assert len(many) == len(inputs)
    for text, answers in zip(inputs, many, strict=True):
        (alone,) = ask(task, pipe, [text], **options)
        wanted = options.get("top_k", options.get("n_best", 5 if task == "fill-mask" else 1))
        assert len(alone) == wanted or (task == "question-answering" and text["context"] == "배")  # has no more
        for answer, other in zip(answers, alone, strict=True):
            fields = (*TASKS[task].fields(pipe, "top_k" in options), *(["score"] if "scores" in options else []))
            assert tuple(answer) == fields
            assert TASKS[task].line(text, answer)
            assert [_rounded(value) for value in answer.values()] == [_rounded(value) for value in other.values()]


def _rounded(value):
    if isinstance(value, list):
        return [{name: _rounded(one) for name, one in each.items()} for each in value]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value


def test_a_conversation_is_answered_by_the_template(loaded):
    task, pipe = loaded("causal-lm")
    assert ask(task, pipe, ["apples"], chat=None) == ask(task, pipe, ["apples"], chat=False)
    pipe.tokenizer.chat_template = "{% for message in messages %}two {{ message.content }} {% endfor %}three</s>"
    conversation = [{"role": "user", "content": "apples"}]
    answers = ask(task, pipe, [conversation, conversation], predict_by_length, max_new_tokens=6)
    assert answers == ask(task, pipe, ["apples"], max_new_tokens=6) * 2
    assert answers == ask(task, pipe, ["two apples three"], chat=False, max_new_tokens=6) * 2
    assert answers != ask(task, pipe, ["apples"], chat=False, max_new_tokens=6) * 2
    with pytest.raises(TooLongError, match="but the model reads 63 at most"):
        ask(task, pipe, [[{"role": "user", "content": "apples " * 60}]])
    assert ask(task, pipe, [[{"role": "user", "content": "apples " * 60}]], truncate=True, max_new_tokens=6)[0][0][
        "generated_text"
    ]


def test_what_a_text_has_room_for_depends_on_no_other(loaded):
    task, pipe = loaded("causal-lm")
    long = "three " * 20
    many = ask(task, pipe, [long, "three"], predict_by_length, max_new_tokens=40)
    for text, answers in zip([long, "three"], many, strict=True):
        assert answers == ask(task, pipe, [text], max_new_tokens=40)[0]


@pytest.mark.parametrize("name", ["seq2seq", "causal-lm", "text-classification", "masked-lm"])
def test_a_text_that_is_too_long_is_named_or_cut(loaded, name):
    task, pipe = loaded(name)
    inputs = ["<mask> " * (name == "masked-lm") + text for text in ("사과", "three apples " * 60)]
    with pytest.raises(
        TooLongError, match=r"the text has [\d,]+ tokens, but the model reads \d+ at most: sh"
    ) as caught:
        ask(task, pipe, inputs)
    assert caught.value.index == 1
    first, second = ask(task, pipe, inputs, predict_by_length, truncate=True)
    assert first
    assert second
    if name == "masked-lm":
        with pytest.raises(UnanswerableError, match="<mask> stands behind the 64 tokens that the model reads"):
            ask(task, pipe, ["three apples " * 60 + "<mask>"], truncate=True)


def test_a_long_prompt_is_continued_from_its_end(loaded):
    task, pipe = loaded("causal-lm")
    end = " half past five"
    cut = [ask(task, pipe, [start * 60 + end], truncate=True, max_new_tokens=50) for start in ("three ", "apples ")]
    assert pipe.tokenizer.truncation_side == "left"
    assert cut[0] != cut[1]  # of 64 tokens, half are left of the prompt
    assert len(pipe.tokenizer(cut[0][0][0]["generated_text"])["input_ids"]) <= 64


def test_what_is_drawn_is_asked_for(loaded):
    task, pipe = loaded("causal-lm")
    drawn = set()
    for seed in range(4):
        torch.manual_seed(seed)
        drawn.add(ask(task, pipe, [TEXT], temperature=5.0, max_new_tokens=5)[0][0]["generated_text"])
    assert len(drawn) > 1
    pipe.model.generation_config.do_sample = True
    torch.manual_seed(0)
    assert len({ask(task, pipe, [TEXT])[0][0]["generated_text"] for _ in range(4)}) > 1


def test_several_labels_at_once_and_numbers(loaded):
    labels = {"id2label": {0: "a", 1: "b", 2: "c"}}
    task, pipe = loaded("text-classification", problem_type="multi_label_classification", **labels)
    (((answer,),), best) = (ask(task, pipe, [TEXT]), ask(task, pipe, [TEXT], top_k=3)[0])
    assert answer["labels"] == [each["label"] for each in best if each["score"] >= 0.5]
    assert answer["scores"] == {each["label"]: each["score"] for each in best}
    assert all(0 < score < 1 for score in answer["scores"].values())
    task, pipe = loaded("text-classification", problem_type="regression", id2label={0: "stars"})
    ((number,),) = ask(task, pipe, [TEXT])
    with torch.no_grad():
        assert number == {"value": pytest.approx(pipe.model(**pipe.tokenizer(TEXT, return_tensors="pt")).logits.item())}
    task, pipe = loaded("text-classification", problem_type="regression", **labels)
    assert ask(task, pipe, [TEXT])[0][0]["values"].keys() == {"a", "b", "c"}


def test_entities_are_slices_of_the_text(loaded):
    task, pipe = loaded("token-classification")
    text = f"  {TEXT} 👨‍👩‍👧 " * 9  # in windows
    ((answer,),) = ask(task, pipe, [text], predict_by_length)
    assert answer["entities"]
    for entity in answer["entities"]:
        assert entity["text"] == text[entity["start"] : entity["end"]] == entity["text"].strip() != ""
        assert entity["label"] == "시간"
    assert answer["entities"][-1]["end"] > len(text) / 2


def test_pictures_have_captions(tmp_path):
    save_captioner(tmp_path)
    pictures = [Image.new("RGB", (20, 20), color) for color in ("red", "white", "black")]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_text("no picture")
    task, pipe = load_pipe(str(tmp_path))
    assert task == "image-to-text"
    files = [str(tmp_path / f"{number}.png") for number in range(3)]
    captions = ask(task, pipe, files, max_new_tokens=5)
    assert captions == [ask(task, pipe, [picture], max_new_tokens=5)[0] for picture in pictures]
    assert [list(answer) for (answer,) in captions] == [["caption"]] * 3
    assert len(ask(task, pipe, files[:1], n_best=3, max_new_tokens=5)[0]) == 3
    for file, message in (("none.png", "no such file"), ("bad.png", "cannot be read as a picture")):
        with pytest.raises(UnanswerableError, match=f"{file}: {message}") as caught:
            ask(task, pipe, [files[0], str(tmp_path / file)])
        assert caught.value.index == 1


def test_entities_are_found_where_a_tokenizer_does_not_tell():
    words = [{"word": " 사과"}, {"word": "배 "}, {"word": "사과"}]
    placed = _found("사과 배 사과", words, 0)
    assert [(one["start"], one["end"]) for one in placed] == [(0, 2), (3, 4), (5, 7)]
    with pytest.raises(UnanswerableError, match="the model finds “사과”, but its tokenizer does not tell where"):
        _found("사과 배", [{"word": "배"}, {"word": "사과"}], 0)


@pytest.mark.parametrize(
    ("name", "tag", "task"),
    [
        ("causal-lm", "fill-mask", "text-generation"),  # the weights have no such head
        ("causal-lm", ["odd"], "text-generation"),
        ("masked-lm", None, "fill-mask"),
        ("seq2seq", "translation", "translation"),
        ("seq2seq", "text-generation", "text2text-generation"),
        ("seq2seq", "question-answering", "translation"),
    ],
)
def test_the_task_is_one_that_the_head_does(loaded, name, tag, task):
    found, pipe = loaded(name, tag)
    assert found == task
    assert pipe.tokenizer.model_max_length == (24 if name == "seq2seq" else 64)


def test_what_has_no_task_is_refused(folder_of):
    with pytest.raises(ValueError, match="what it does is not known; there are translation, summarization, "):
        load_pipe(str(folder_of("bare")))
    with pytest.raises(ValueError, match=r"what it does is not known; there are translation$"):
        load_pipe(str(folder_of("masked-lm")), tasks=["translation"])


def test_the_pipeline_is_that_of_transformers(folder_of):
    task, pipe = load_pipe(str(folder_of("text-classification")))
    expected = pipeline(task, model=str(folder_of("text-classification")), device="cpu")(TEXT)[0]
    assert ask(task, pipe, [TEXT])[0][0] == {"label": expected["label"], "score": pytest.approx(expected["score"])}


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
    assert marked("abcdef", [{"start": start, "end": end, "label": "X"} for start, end in spans]) == pieces


@pytest.mark.parametrize(
    ("task", "wanted", "chosen"),
    [
        ("translation", {"num_beams": 3, "max_new_tokens": 9, "tgt_lang": "ko_KR"}, ["num_beams", "max_new_tokens", "tgt_lang"]),
        ("translation", {"num_beams": True, "max_new_tokens": "9", "tgt_lang": "../x", "num_beam_groups": 2}, []),
        ("summarization", {"num_beams": 10**6, "max_new_tokens": -1, "temperature": float("nan"), "do_sample": 1}, []),
        ("text-generation", {"custom_generate": "a/b", "trust_remote_code": True, "do_sample": True}, ["do_sample"]),
        ("text-generation", {"temperature": 0.7, "top_p": 1, "top_k": 0}, ["temperature", "top_p", "top_k"]),
        ("token-classification", {"aggregation_strategy": "max", "top_k": 1}, ["aggregation_strategy"]),
        ("token-classification", {"aggregation_strategy": ["max"]}, []),
        ("question-answering", {"top_k": 1, "handle_impossible_answer": True}, ["top_k", "handle_impossible_answer"]),
        ("fill-mask", "custom_generate", []),
        ("fill-mask", {3: 4}, []),
    ],
)  # fmt: skip
def test_a_card_chooses_plain_numbers_and_switches_only(task, wanted, chosen):
    used, left_out = TASKS[task].choose(wanted)
    assert used == {name: wanted[name] for name in chosen}
    assert left_out == [str(name) for name in (wanted if isinstance(wanted, dict) else {}) if name not in chosen]


@pytest.mark.parametrize("head", ["title: [a", "title: b\ntags: 3", "3: 4", "- a"])
def test_a_card_that_cannot_be_read_is_as_none(tmp_path, head):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n# x\n")
    assert read_card(str(tmp_path)) == {}
