"""OpenAI's completions and conversations: the texts that the model writes alone, whoever else writes beside it."""

import json
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
import torch
from transformers import set_seed

from tests.package.serving.conftest import wait_until
from trefoil.configuration.errors import UserError
from trefoil.serving.sequences import Sequence
from trefoil.visualization import conversations

PROMPTS = ["three", "two pears and three apples", "half past", "세 개의", "다섯 시 반 세 개의 사과와 두"]
NEW_TOKENS = 8


@pytest.fixture(scope="module")
def predictor(folder_of):
    return folder_of("causal-lm")


@pytest.fixture(scope="module")
def expected(predictor):
    """Prompt -> what the model writes greedily, before anything else uses it."""
    return {prompt: written_alone(predictor, prompt) for prompt in PROMPTS}


@pytest.fixture(scope="module")
def client(predictor, expected, served):
    with served(predictor, rows=4) as client:
        assert client.service.is_continuous
        yield client


def written_alone(predictor, prompt, **options):
    ids = predictor.tokenizer(prompt, return_tensors="pt")["input_ids"].to(predictor.model.device)
    written = predictor.model.generate(ids, max_new_tokens=NEW_TOKENS, **{"do_sample": False} | options)[0]
    read = predictor.tokenizer.decode(ids[0], skip_special_tokens=True)
    return predictor.tokenizer.decode(written, skip_special_tokens=True)[len(read) :]


def asked(client, path="completions", **body):
    answer = client.post(f"/v1/{path}", json={"temperature": 0, "max_tokens": NEW_TOKENS, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def text_of(client, **body):
    return asked(client, **body)["choices"][0]["text"]


def events_of(client, path="completions", **body):
    given = {"temperature": 0, "max_tokens": NEW_TOKENS, "stream": True, **body}
    with client.stream("POST", f"/v1/{path}", json=given) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_one_text(client, expected):
    found = asked(client, prompt=PROMPTS[0], model="tiny")
    (choice,) = found["choices"]
    assert choice == {
        "index": 0, "text": expected[PROMPTS[0]], "logprobs": None, "finish_reason": choice["finish_reason"],
    }  # fmt: skip
    assert found["object"] == "text_completion"
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert (usage["completion_tokens"] == NEW_TOKENS) == (choice["finish_reason"] == "length")


def test_texts_are_the_same_alone_and_in_a_crowd(client, expected):
    with ThreadPoolExecutor(15) as clients:
        found = list(clients.map(lambda prompt: text_of(client, prompt=prompt), PROMPTS * 3))
    assert found == [expected[prompt] for prompt in PROMPTS * 3]


def test_several_prompts_and_token_ids(client, expected, predictor):
    ids = [predictor.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    for prompt in (PROMPTS, ids):
        choices = asked(client, prompt=prompt)["choices"]
        assert [choice["text"] for choice in choices] == [expected[prompt] for prompt in PROMPTS]
        assert [choice["index"] for choice in choices] == list(range(len(PROMPTS)))
    assert text_of(client, prompt=ids[1]) == expected[PROMPTS[1]]
    assert isinstance(text_of(client, prompt=""), str)


def test_a_seed_draws_what_generate_draws_alone(client, predictor):
    alone = {}
    for seed in (5, 6, 7):
        set_seed(seed)
        alone[seed] = written_alone(predictor, PROMPTS[1], do_sample=True, temperature=0.9, top_p=0.95)
    options = {"prompt": PROMPTS[1], "temperature": 0.9, "top_p": 0.95}
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda seed: text_of(client, **options, seed=seed), [5, 6, 7, 5]))
    assert found == [alone[seed] for seed in (5, 6, 7, 5)]
    several = asked(client, **options, seed=5, n=3)["choices"]
    assert [choice["text"] for choice in several] == list(alone.values())
    assert len({text_of(client, **options) for _ in range(4)}) > 1


@pytest.mark.parametrize("count", [1, 2])
def test_a_stream_says_the_same(client, expected, count):
    events = events_of(client, prompt=PROMPTS[4], n=count, stream_options={"include_usage": True})
    *pieces, usage = events
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0
    for index in range(count):
        mine = [event["choices"][0] for event in pieces if event["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in mine) == expected[PROMPTS[4]]
        assert len(mine) > 2
        assert [bool(choice["finish_reason"]) for choice in mine] == [False] * (len(mine) - 1) + [True]


def test_a_text_ends_at_a_stop_string(client, expected):
    whole = expected[PROMPTS[1]]
    stop = whole[4:6]
    cut = whole[: whole.index(stop)]
    choice = asked(client, prompt=PROMPTS[1], stop=["nowhere", stop])["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (cut, "stop")
    pieces = [event["choices"][0]["text"] for event in events_of(client, prompt=PROMPTS[1], stop=stop)]
    assert "".join(pieces) == cut
    wait_until(lambda: client.service.places.taken == 0)


def test_a_conversation(client, predictor):
    messages = [{"role": "user", "content": "three"}, {"role": "user", "content": [{"type": "text", "text": "two"}]}]
    plain = [{"role": "user", "content": "three"}, {"role": "user", "content": "two"}]
    prompt = predictor.tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
    expected = text_of(client, prompt=prompt)
    found = asked(client, "chat/completions", messages=messages)
    assert found["object"] == "chat.completion"
    assert found["choices"][0]["message"] == {"role": "assistant", "content": expected}
    first, *others = events_of(client, "chat/completions", messages=messages)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in others) == expected


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("completions", {"prompt": "three " * 90}, 400, "but the model reads 64 at most"),
        ("completions", {"prompt": "a", "max_tokens": 64}, 400, "and 64 are to be written"),
        ("completions", {"prompt": [3, 10**6]}, 400, "the prompt has tokens that are not from 0 to"),
        ("completions", {"prompt": [-1]}, 400, "the prompt has tokens that are not from 0 to"),
        ("completions", {"prompt": "a", "model": "other"}, 404, "there is no such model; this server has tiny"),
        ("completions", {"prompt": "a", "echo": True}, 400, "echo: this server does not support it"),
        ("completions", {"prompt": "a", "temperature": -1}, 400, "temperature: "),
        ("completions", {"prompt": "a", "n": 0}, 400, "n: "),
        ("completions", {"prompt": "a", "stop": ""}, 400, "stop"),
        ("completions", {"prompt": ["a"] * 100, "n": 100}, 400, "10,000 texts are asked for at once"),
        ("completions", {"prompt": "\ud800"}, 400, "prompt"),
        ("completions", {"prompt": 5}, 400, "prompt: Input"),
        ("completions", {}, 400, "prompt: Field required"),
        ("chat/completions", {"messages": []}, 400, "messages"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages"),
        ("chat/completions", {"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, 400, "tools: this"),
    ],
)  # fmt: skip
def test_mistakes(client, path, body, status, message):
    answer = client.post(f"/v1/{path}", content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]["message"]
    wait_until(lambda: client.service.places.taken == 0)


def test_a_template_that_does_not_end_keeps_nobody_waiting(folder_of, served, monkeypatch):
    monkeypatch.setattr(conversations, "SECONDS", 0.3)
    predictor = folder_of("causal-lm")
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    predictor.tokenizer.chat_template = loops
    with served(predictor) as client:
        answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}]})
        assert answer.status_code == 400
        assert (
            answer.json()["error"]["message"]
            == "the template of conversations refuses this: it takes longer than 0.3 s"
        )
        assert text_of(client, prompt="three")


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"repetition_penalty": -1.0}, "strictly positive float"), ({"do_sample": True, "top_k": -1}, "positive integer")],
)
def test_settings_that_no_text_can_follow_are_told_before_it_is_served(folder_of, served, settings, why):
    predictor = folder_of("causal-lm")
    predictor.model.generation_config.update(**settings)
    said = "tiny: no text can be written as generation_config.json says: "
    with pytest.raises(UserError, match=rf"^{said}.*{why}"), served(predictor):
        pass


@pytest.mark.slow
def test_a_model_without_a_template_does_not_converse(folder_of, served):
    predictor = folder_of("causal-lm")
    predictor.tokenizer.chat_template = None
    with served(predictor) as client:
        answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}]})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "no_chat_template"


@pytest.mark.parametrize("positions", ["relative", pytest.param("alibi", marks=pytest.mark.slow)])
def test_attention_that_cannot_be_paged(folder_of, served, positions):
    predictor = folder_of("causal-lm", position_embedding_type=positions)
    expected = [written_alone(predictor, prompt) for prompt in PROMPTS[:3]]
    with served(predictor) as client, ThreadPoolExecutor(8) as clients:
        assert not client.service.is_continuous
        assert list(clients.map(lambda prompt: text_of(client, prompt=prompt), PROMPTS[:3])) == expected
        pieces = events_of(client, prompt=PROMPTS[0])
        assert len(pieces) > 2
        assert "".join(event["choices"][0]["text"] for event in pieces) == expected[0]


@pytest.mark.slow
def test_scores_that_are_no_numbers_fail_one_text_and_not_the_server(folder_of, served):
    predictor = folder_of("causal-lm")
    with torch.no_grad():
        predictor.model.get_input_embeddings().weight[7] = float("nan")
    with served(predictor) as client:
        answer = client.post("/v1/completions", json={"prompt": [7], "temperature": 1, "max_tokens": 4})
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert client.get("/health").status_code == 200


def test_a_text_that_failed_leaves_the_batch(folder_of, served, monkeypatch):
    predictor = folder_of("causal-lm", max_position_embeddings=4096)
    predictor.model.generation_config.eos_token_id = None
    monkeypatch.setattr(Sequence, "_chosen", Mock(side_effect=RuntimeError("no number can be drawn")))
    with served(predictor) as client:
        assert client.post("/v1/completions", json={"prompt": "three", "max_tokens": 4000}).status_code == 500
        wait_until(lambda: not client.service.worker.manager.batch_processor.has_pending_requests())
        assert client.service.metrics.registry.get_sample_value("trefoil_step_rows_count") < 4000


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
def test_whatever_fails_a_text_does_not_end_the_server(folder_of, served, monkeypatch, positions):
    predictor = folder_of("causal-lm", position_embedding_type=positions)
    body, fails = {"prompt": "three", "max_tokens": 4}, Mock(side_effect=KeyError("what no one thought of"))
    with served(predictor) as client:
        for place, name in ((Sequence, "_chosen"), (predictor.model, "generate")):
            if name == "_chosen" or not client.service.is_continuous:
                with monkeypatch.context() as broken:
                    broken.setattr(place, name, fails)
                    assert client.post("/v1/completions", json=body).status_code == 500
        assert client.get("/health").status_code == 200
        assert client.post("/v1/completions", json=body).status_code == 200


@pytest.mark.slow
def test_openai_s_client_streams(client, expected):
    openai = pytest.importorskip("openai")
    asking = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none", timeout=30, max_retries=0)
    assert [model.id for model in asking.models.list()] == ["tiny"]
    assert asking.models.retrieve("tiny").id == "tiny"
    options = {"model": "tiny", "temperature": 0, "max_tokens": NEW_TOKENS}
    stream = asking.completions.create(prompt=PROMPTS[1], stream=True, **options)
    pieces = [chunk.choices[0].text for chunk in stream]
    assert len(pieces) > 2
    assert "".join(pieces) == expected[PROMPTS[1]]
    messages = [{"role": "user", "content": "three"}]
    whole = asking.chat.completions.create(messages=messages, **options).choices[0].message.content
    stream = asking.chat.completions.create(messages=messages, stream=True, **options)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole
    with pytest.raises(openai.BadRequestError, match="echo: this server does not support it"):
        asking.completions.create(prompt="a", echo=True, **options)
