"""`/predict` answers as `trefoil predict` does, whoever asks beside it."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

import trefoil
from tests.hub.conftest import tiny_config, tiny_tokenizer
from trefoil.cli import main
from trefoil.predict import load

pytest.importorskip("fastapi")

from trefoil.serving.errors import ApiError
from trefoil.serving.predictions import MOST_PIXELS, _picture

TEXTS = ["세 개의 사과", "two pears", "다섯 시 반", "half past five and two pears and three apples", "", "three"]


@pytest.fixture(scope="module")
def classifier(folder_of):
    return folder_of("text-classification")


@pytest.fixture(scope="module")
def client(classifier, served):
    with served(classifier) as client:
        yield client


def records_of(client, **body):
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["records"]


def written_by_the_command(folder, tmp_path, rows, *options):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["predict", folder, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "--quiet", *options]
    assert main([str(argument) for argument in arguments]) == 0
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]


def nearly(records):
    return [
        {name: pytest.approx(each, abs=1e-4) if isinstance(each, float) else each for name, each in record.items()}
        for record in records
    ]


def test_records_are_those_of_the_command(client, classifier, tmp_path):
    rows = [{"id": number, "text": text} for number, text in enumerate(TEXTS)]
    expected = written_by_the_command(classifier.name, tmp_path, rows, "--top-k", "2")
    assert records_of(client, inputs=rows, top_k=2) == nearly(expected)
    assert records_of(client, inputs=TEXTS[0])[0].keys() == {"line", "text", "label", "score"}


def test_an_answer_is_the_same_alone_and_in_a_crowd(client):
    alone = {text: records_of(client, inputs=text) for text in TEXTS}
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda text: (text, records_of(client, inputs=text)), TEXTS * 4))
    for text, records in found:
        assert records == nearly(alone[text])


@pytest.mark.parametrize(
    "name", ["token-classification", "question-answering", pytest.param("masked-lm", marks=pytest.mark.slow)]
)
def test_the_other_tasks(name, folder_of, served, tmp_path):
    predictor = folder_of(name)
    rows = {
        "token-classification": [{"text": text} for text in TEXTS],
        "question-answering": [{"question": "몇 개?", "context": text} for text in TEXTS if text],
        "masked-lm": [{"text": "세 개의 <mask>"}, {"text": "<mask> pears"}],
    }[name]
    expected = written_by_the_command(predictor.name, tmp_path, rows)
    with served(predictor) as client:
        found = records_of(client, inputs=rows)
        assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 404
    if name == "token-classification":  # scores stand inside
        assert [record["line"] for record in found] == [record["line"] for record in expected]
        assert [[(each["start"], each["label"]) for each in record["entities"] or []] for record in found] == [
            [(each["start"], each["label"]) for each in record["entities"] or []] for record in expected
        ]
    else:
        assert found == nearly(expected)


def test_what_is_sent_beside_and_is_no_number_comes_back_as_json(client):
    sent = '{"inputs": {"text": "three", "mine": NaN, "more": -Infinity}}'
    answer = client.post("/predict", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    (record,) = json.loads(answer.text, parse_constant=pytest.fail)["records"]
    assert (record["mine"], record["more"]) == (None, None)


def test_a_model_that_computes_no_number_says_so(folder_of, served):
    predictor = folder_of("text-classification")
    with torch.no_grad():
        next(predictor.model.parameters()).fill_(torch.nan)
    with served(predictor) as client:
        answer = client.post("/predict", json={"inputs": ["three", ""]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("inputs[0]: what ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": ["three", "three " * 90]}, r"inputs[1]: the text has"),
        ({"inputs": "three " * 90}, "but the model reads 64 at most"),
        ({"inputs": ["a", {"txt": "b"}]}, "inputs[1]: there is no 'text'"),
        ({"inputs": 3}, "inputs"),
        ({"inputs": {"text": 3}}, "inputs[0]: 3 is not a text"),
        ({"inputs": "a", "topk": 3}, "topk: is no option of text-classification; there are"),
        ({"inputs": "a", "batch_size": 3}, "batch_size: is no option"),
        ({"inputs": "a", "top_k": 0}, "top_k=0: is out of range"),
        ({}, "inputs: Field required"),
        ([], "send a JSON object, with content-type: application/json"),
    ],
)
def test_mistakes(client, body, message):
    answer = client.post("/predict", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_long_text_is_cut_where_that_is_asked_for(client):
    assert records_of(client, inputs="three " * 90, truncate=True)[0]["label"]


def test_one_that_cannot_be_answered_does_not_touch_its_neighbours(folder_of, served):
    with served(folder_of("masked-lm")) as client, ThreadPoolExecutor(8) as clients:
        texts = ["세 개의 <mask>", "no mask", "two <mask>"] * 3
        answers = list(clients.map(lambda text: client.post("/predict", json={"inputs": text}), texts))
    assert [answer.status_code for answer in answers] == [200, 400, 200] * 3
    assert "write <mask> once" in answers[1].json()["error"]["message"]


@pytest.mark.slow
def test_what_is_drawn_follows_the_seed_and_no_neighbour(served, tmp_path):
    tokenizer = tiny_tokenizer()
    config = tiny_config(len(tokenizer))
    config.encoder.initializer_range = config.decoder.initializer_range = 0.5
    torch.manual_seed(0)
    trefoil.TrefoilEncoderDecoderForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    body = {"inputs": "두 개", "do_sample": True, "num_beams": 1, "max_new_tokens": 8}
    with served(load(tmp_path)) as client, ThreadPoolExecutor(8) as clients:
        alone = {seed: records_of(client, **body, seed=seed) for seed in (1, 2)}
        assert alone[1] != alone[2]
        found = list(clients.map(lambda seed: (seed, records_of(client, **body, seed=seed)), [1, 2] * 6))
    assert all(records == alone[seed] for seed, records in found)


def test_pictures_come_in_the_request_and_from_nowhere_else(tmp_path):
    kept = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(kept, "PNG")
    text = base64.b64encode(kept.getvalue()).decode()
    assert _picture(f"data:image/png;base64,{text}", "inputs[0]").size == _picture(text, "inputs[0]").size == (3, 2)
    Image.new("RGB", (3, 2)).save(tmp_path / "there.png")
    for wrong in (str(tmp_path / "there.png"), "http://127.0.0.1/x.png", "YWJj", "", 3):
        with pytest.raises(ApiError, match=r"inputs\[0\]: is no picture; send a PNG or JPEG file as base64"):
            _picture(wrong, "inputs[0]")
    kept = io.BytesIO()
    Image.new("1", (MOST_PIXELS // 100 + 1, 100)).save(kept, "PNG")
    with pytest.raises(ApiError, match="pixels"):
        _picture(base64.b64encode(kept.getvalue()).decode(), "inputs[0]")
