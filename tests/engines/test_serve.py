"""`transformers serve` answers OpenAI's client from an exported folder."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from exported_models import TEXTS, exported, random_model, small_preset, trained_tokenizer

import trefoil

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
NEW_TOKENS = 24
SECONDS = 120  # until the server answers; it imports all of transformers first


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(address, server, log):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"no answer in {SECONDS} seconds:\n{log.read_text()}")


@pytest.fixture
def serving(tmp_path):
    """A function: folder of a model -> address of a server, which ends with the test."""
    servers = []

    def serve(folder):
        port, log = free_port(), tmp_path / "server.log"
        command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
        with log.open("w") as output:
            server = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
                stdout=output, stderr=subprocess.STDOUT, cwd=tmp_path,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        servers.append(server)
        wait_for(f"http://127.0.0.1:{port}", server, log)
        return f"http://127.0.0.1:{port}"

    yield serve
    for server in servers:
        server.kill()
        server.wait(timeout=30)


@pytest.mark.slow
def test_chat_streams_what_our_model_writes(serving, tmp_path):
    openai = pytest.importorskip("openai")  # here, since importing it takes two seconds
    tokenizer = trained_tokenizer("decoder")
    tokenizer.chat_template = TEMPLATE
    config = small_preset("llama-like", tokenizer, num_key_value_heads=2)
    model = random_model(trefoil.TrefoilDecoderForCausalLM, config)
    folder = exported(model, tokenizer, "llama", tmp_path)
    client = openai.OpenAI(base_url=f"{serving(folder)}/v1", api_key="none", timeout=60, max_retries=0)
    for text in TEXTS[:2]:
        messages = [{"role": "user", "content": text}]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        written = model.generate(**prompt, do_sample=False, max_new_tokens=NEW_TOKENS)[0, prompt.input_ids.shape[1] :]
        chunks = client.chat.completions.create(
            model=str(folder), messages=messages, stream=True, temperature=0, max_tokens=NEW_TOKENS
        )
        pieces = [
            chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content
        ]
        assert len(pieces) > 1
        assert "".join(pieces) == tokenizer.decode(written, skip_special_tokens=True)
