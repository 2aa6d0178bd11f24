"""`trefoil serve` as a command: what it says, and how it ends."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip("fastapi")

import uvicorn

from trefoil.cli import main, make_parser
from trefoil.configuration.errors import UserError
from trefoil.serving.limits import Limits
from trefoil.serving.server import read_key, serve

SECONDS = 240


def test_help_fits_a_screen_and_names_an_example(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        make_parser().parse_args(["serve", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert lines[-1].startswith("example: trefoil serve ")


def test_keys(tmp_path, monkeypatch):
    monkeypatch.delenv("TREFOIL_KEY", raising=False)
    assert read_key(None) is None
    monkeypatch.setenv("TREFOIL_KEY", "of the environment")
    assert read_key(None) == "of the environment"
    (tmp_path / "key").write_text("of a file\n")
    assert read_key(tmp_path / "key") == "of a file"
    for content in ("", "\n", "two\nlines", "열쇠"):
        (tmp_path / "key").write_text(content)
        with pytest.raises(UserError, match="key: a key is one line of ASCII characters, and not empty"):
            read_key(tmp_path / "key")
    with pytest.raises(UserError, match="none: cannot be read"):
        read_key(tmp_path / "none")
    monkeypatch.setenv("TREFOIL_KEY", "")
    with pytest.raises(UserError, match="TREFOIL_KEY: a key is one line"):
        read_key(None)


@pytest.fixture
def not_run(monkeypatch):
    """Nothing is served; signals stay as they were."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("host", "key", "warned"), [("127.0.0.1", None, False), ("0.0.0.0", None, True), ("0.0.0.0", "key", False)]
)
def test_what_others_reach_without_a_key_is_warned_of(folder_of, not_run, capsys, host, key, warned):
    serve(folder_of("text-classification"), "tiny", host, 0, Limits(), key, grace=1)
    printed = capsys.readouterr()
    assert re.fullmatch(
        rf"tiny \(text-classification\): http://{re.escape(host)}:\d+ \(Ctrl\+C ends it\)\n", printed.out
    )
    assert bool(printed.err) == warned
    if warned:
        assert re.fullmatch(r"warning: whoever reaches 0\.0\.0\.0 can use this model; .* TREFOIL_KEY\n", printed.err)


@pytest.mark.parametrize("place", ["trefoil.serving.writers._Probe.is_as_expected", "uvicorn.Server.run"])
def test_no_thread_outlives_ctrl_c(folder_of, not_run, monkeypatch, place):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def kept_up():
        return {thread for thread in threading.enumerate() if not thread.daemon}

    monkeypatch.setattr(place, interrupted)
    before = kept_up()
    with pytest.raises(KeyboardInterrupt):
        serve(folder_of("causal-lm"), "tiny", "127.0.0.1", 0, Limits(), None, grace=1)
    assert kept_up() == before


def test_an_address_of_another_machine(folder_of, capsys):
    model = folder_of("text-classification").name
    assert main(["serve", model, "--host", "192.0.2.1", "--port", "0"]) == 2
    assert "error: cannot serve at 192.0.2.1, port 0: " in capsys.readouterr().err


@pytest.mark.slow
def test_sigterm_lets_what_runs_finish(folder_of):
    predictor = folder_of("causal-lm", max_position_embeddings=4096)
    command = [sys.executable, "-m", "trefoil", "serve", predictor.name, "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        watchdog = threading.Timer(SECONDS, server.kill)
        watchdog.start()
        line = server.stdout.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+) ", line)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        body = {"prompt": [7] * 8, "max_tokens": 400, "temperature": 0, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.readline()
        server.send_signal(signal.SIGTERM)
        assert answer.read().endswith(b"data: [DONE]\n\n")
        assert server.wait(SECONDS) == 0
        assert "Traceback" not in server.stderr.read()
        watchdog.cancel()
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()
