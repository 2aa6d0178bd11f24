"""Runs a service until it is told to stop."""

import ipaddress
import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import uvicorn

from ..configuration.errors import UserError, reason
from ..predict import Predictor
from .app import Service
from .connections import BoundedConnection
from .limits import Limits

KEY = "TREFOIL_KEY"


def serve(predictor: Predictor, name: str, host: str, port: int, limits: Limits, key: str | None, grace: int) -> None:
    """Serves until SIGTERM or Ctrl+C, and then finishes what runs.

    Args:
        port: 0 is a free one.
        grace: Seconds that what runs may take then.

    Raises:
        UserError: The address is none of this machine's, or taken.
    """
    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=limits.requests
        )
    except OSError as error:
        raise UserError(f"cannot serve at {host}, port {port}: {error.strerror or error}") from None
    with listening, ExitStack() as at_the_end:
        service = Service(predictor, name, limits, key)
        at_the_end.callback(service.stop)  # uvicorn leaves it out at a second Ctrl+C; the thread would keep the process
        config = uvicorn.Config(
            service.app,
            http=BoundedConnection,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=grace,
        )
        if key is None and not _is_this_machine(host):
            print(
                f"warning: whoever reaches {host} can use this model; ask for a key with --key-file FILE or {KEY}",
                file=sys.stderr,
            )
        if predictor.task == "text-generation" and not service.is_continuous:
            print(
                f"note: the attention of {name} cannot be paged, so texts are begun together when those before have ended",
                file=sys.stderr,
            )
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        print(f"{name} ({predictor.task}): {address} (Ctrl+C ends it)", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when all is done
        uvicorn.Server(config).run([listening])


def read_key(file: Path | None) -> str | None:
    """The key that clients have to send, of a file or else of the environment.

    Raises:
        UserError: The file cannot be read, or the key is empty or not of one line of ASCII.
    """
    place = KEY if file is None else str(file)
    try:
        key = os.environ.get(KEY) if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UserError(f"{place}: cannot be read ({reason(error)})") from None
    if key is not None and not (key and key.isascii() and key.isprintable()):
        raise UserError(f"{place}: a key is one line of ASCII characters, and not empty")
    return key


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
