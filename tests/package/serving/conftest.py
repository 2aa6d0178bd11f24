"""Small random models behind a server on a free port of this machine."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import torch
from tokenizers import processors

from tests.hub.conftest import HEADS, SIZES, tiny_tokenizer
from trefoil.predict import load

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from trefoil.serving.app import Service  # noqa: E402
from trefoil.serving.connections import BoundedConnection  # noqa: E402
from trefoil.serving.limits import Limits  # noqa: E402

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SECONDS = 30


def make_predictor(folder, name, **fields):
    tokenizer = tiny_tokenizer("" if name == "causal-lm" else "<s> ")
    if name == "causal-lm":
        tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
            single="$A", pair="$A $B", special_tokens=[]
        )
        tokenizer.chat_template = TEMPLATE
    model_class, own = HEADS[name]
    torch.manual_seed(0)
    sizes = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "initializer_range": 0.5}
    model_class(model_class.config_class(**sizes | own | fields)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load(folder)


@contextmanager
def running(service):
    """Its address, and a function that tells how many connections there are."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            service.app, http=BoundedConnection, ws="none", lifespan="on", log_level="critical", server_header=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", lambda: len(server.server_state.connections)
        finally:
            server.should_exit = True
            thread.join(SECONDS)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """A function: name in HEADS of tests/hub, and fields of its configuration -> a loaded random model."""
    return lambda name, **fields: make_predictor(tmp_path_factory.mktemp("model"), name, **fields)


@pytest.fixture(scope="module")
def served():
    """A context manager: a model, limits and perhaps a key -> a client."""

    @contextmanager
    def serve(predictor, key=None, **limits):
        service = Service(predictor, "tiny", Limits(**limits), key)
        with running(service) as (address, connections), httpx.Client(base_url=address, timeout=SECONDS) as client:
            client.service, client.connections = service, connections
            yield client

    return serve


def wait_until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
