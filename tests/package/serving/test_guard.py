"""Who is let in, how much is taken, for how long, and that places come free again."""

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi")

from tests.package.serving.conftest import wait_until
from trefoil.serving.connections import BoundedConnection

KEY = "a-key"
ANSWERED = {"path": "/predict", "status": "200"}
SECONDS = 30


@pytest.fixture(scope="module")
def classifier(folder_of):
    return folder_of("text-classification")


@pytest.fixture(scope="module")
def endless(folder_of):
    """Writes as long as it may."""
    predictor = folder_of("causal-lm", max_position_embeddings=4096)
    predictor.model.generation_config.eos_token_id = None
    return predictor


@pytest.fixture
def held(classifier, monkeypatch):
    """The model works only when this is set."""
    goes_on, answers = threading.Event(), classifier.answers

    def wait_first(*arguments, **options):
        assert goes_on.wait(SECONDS)
        return answers(*arguments, **options)

    monkeypatch.setattr(classifier, "answers", wait_first)
    yield goes_on
    goes_on.set()


def raw(client, content):
    """A connection on which bytes were sent."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port), timeout=SECONDS)
    connection.sendall(content)
    return connection


def head(length, *more):
    lines = ["POST /predict HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def until_the_end(connection):
    with connection:
        content = b""
        while part := connection.recv(65536):
            content += part
    return content


def test_a_key_is_asked_for(classifier, served):
    with served(classifier, key=KEY) as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {KEY}"},
            {"authorization": KEY},
        ):
            answer = client.post("/predict", json={"inputs": "a"}, headers=headers)
            assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
            assert client.get("/metrics", headers=headers).status_code == 401
        allowed = {"authorization": f"Bearer {KEY}"}
        assert client.post("/predict", json={"inputs": "a"}, headers=allowed).status_code == 200
        assert client.get("/health").json() == {"status": "ok", "model": "tiny", "task": "text-classification"}


def test_what_is_too_large_or_broken_is_refused(classifier, served):
    with served(classifier) as client:
        ten_megabytes = b'{"inputs": "' + b"a" * 10 * 2**20 + b'"}'
        answer = client.post("/predict", content=ten_megabytes, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert "larger than 1,048,576 bytes" in answer.json()["error"]["message"]

        def in_pieces():
            for _ in range(160):
                yield b"a" * 2**16

        answer = client.post("/predict", content=in_pieces(), headers={"content-type": "application/json"})
        assert answer.status_code == 413
        for content in (b"{", b"", b'{"inputs": "a"', b"\xff\xfe", b"[" * 100_000, b'{"inputs": "\\ud800"}', b"[]"):
            answer = client.post("/predict", content=content, headers={"content-type": "application/json"})
            assert answer.status_code == 400, content[:20]
            assert answer.json()["error"]["type"] == "invalid_request_error"
        assert client.get("/nowhere").json()["error"]["type"] == "not_found_error"
        assert client.get("/predict").status_code == 405
        assert client.post("/predict", json={"inputs": "a"}).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(classifier, served):
    with served(classifier, body_seconds=0.2) as client:
        answer = until_the_end(raw(client, head(100, "connection: close") + b'{"inputs'))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"].startswith("the request was not whole")


def test_a_full_house_says_when_to_come_again(classifier, served, held):
    with served(classifier, places=2) as client, ThreadPoolExecutor(4) as clients:
        inside = [clients.submit(client.post, "/predict", json={"inputs": "a"}) for _ in range(2)]
        wait_until(lambda: client.service.places.taken == 2)
        answer = client.post("/predict", json={"inputs": "b"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "overloaded"
        held.set()
        assert [each.result().status_code for each in inside] == [200, 200]
        assert client.post("/predict", json={"inputs": "b"}).status_code == 200
        assert client.post("/predict", json={"inputs": ["b"] * 3}).status_code == 400


def test_who_waits_too_long_is_told(classifier, served, held):
    with served(classifier, seconds=0.2) as client:
        answer = client.post("/predict", json={"inputs": "a"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        wait_until(lambda: client.service.places.taken == 0)
        held.set()


def test_who_goes_frees_a_place(classifier, served, held):
    with served(classifier) as client:
        body = b'{"inputs": ["a", "b", "c"]}'
        connection = raw(client, head(len(body)) + body)
        wait_until(lambda: client.service.places.taken == 3)
        connection.close()
        wait_until(lambda: client.service.places.taken == 0)
        held.set()
        assert client.post("/predict", json={"inputs": "a"}).status_code == 200


def test_a_stream_that_is_left_is_no_longer_written(endless, served):
    with served(endless) as client:
        body = {"prompt": "three", "max_tokens": 4000, "stream": True, "temperature": 0}
        with client.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()  # kept: where it is collected, the connection ends
            next(lines)
            wait_until(lambda: client.service.places.taken == 1)
        wait_until(lambda: client.service.places.taken == 0)
        wait_until(lambda: not client.service.worker.sequences)
        written = client.service.metrics.registry.get_sample_value("trefoil_tokens_total", {"kind": "written"})
        assert 0 < written < 4000


@pytest.mark.slow
def test_a_stream_whose_time_is_over_says_so(endless, served):
    with served(endless, seconds=0.3) as client:
        body = {"prompt": "three", "max_tokens": 4000, "stream": True, "temperature": 0}
        with client.stream("POST", "/v1/completions", json=body) as answer:
            last = [line for line in answer.iter_lines() if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        assert client.post("/v1/completions", json=body | {"stream": False}).status_code == 504


def test_a_failure_tells_nothing_of_the_server(classifier, served, monkeypatch, caplog):
    def fails(*arguments, **options):
        raise RuntimeError("/secret/place")

    monkeypatch.setattr(classifier, "answers", fails)
    with served(classifier) as client:
        answer = client.post("/predict", json={"inputs": "a"})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.json()["error"]["type"] == "server_error"
        assert "/secret/place" in caplog.text
        monkeypatch.setattr(client.service.reader, "read", fails)
        answer = client.post("/predict", json={"inputs": "a"})
        assert (answer.status_code, "secret" in answer.text) == (500, False)


def test_a_model_is_asked_for_by_its_whole_name(classifier, served):
    with served(classifier) as client:
        assert client.get("/v1/models/tiny").json() == client.get("/v1/models").json()["data"][0]
        answer = client.get("/v1/models/someone/tiny")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_metrics_count(classifier, served):
    with served(classifier) as client:
        client.post("/predict", json={"inputs": ["a", "b"]})
        client.post("/predict", json={})
        client.get("/somewhere")
        text = client.get("/metrics").text
    assert 'trefoil_requests_total{path="/predict",status="200"} 1.0' in text
    assert 'trefoil_requests_total{path="/predict",status="400"} 1.0' in text
    assert 'trefoil_requests_total{path="other",status="404"} 1.0' in text
    assert "trefoil_step_rows_sum 2.0" in text
    assert "trefoil_places 0.0" in text


def test_who_does_not_read_loses_the_connection(classifier, served, monkeypatch):
    monkeypatch.setattr(BoundedConnection, "read_seconds", 0.2)
    with served(classifier, body=2**25) as client, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((client.base_url.host, client.base_url.port))
        body = json.dumps({"inputs": {"text": "a", "more": "x" * 2**23}}).encode()
        connection.sendall(head(len(body)) + body)
        wait_until(lambda: client.service.metrics.registry.get_sample_value("trefoil_requests_total", ANSWERED))
        wait_until(lambda: client.connections() == 0)


def test_an_unfinished_head_ends_the_connection(classifier, served, monkeypatch):
    monkeypatch.setattr(BoundedConnection, "head_seconds", 0.2)
    with served(classifier) as client:
        begun = time.monotonic()
        for content in (b"", b"GET /health HTT"):
            connection = raw(client, content)
            with contextlib.suppress(ConnectionResetError):
                assert until_the_end(connection) == b""
        assert time.monotonic() - begun < SECONDS
        assert client.get("/health").status_code == 200
