"""What stands before the application: who may ask, how much, and for how long."""

import asyncio
import hmac
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from .errors import ApiError
from .limits import Limits
from .metrics import Metrics

COUNTED = {"/predict", "/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/metrics"}
OPEN = {"/health"}  # for what watches the server, which has no key
LATE_SECONDS = 5.0  # in which an answer that has begun may say that its time is over

Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]


class Guard:
    """An ASGI application around another, whose requests it reads wholly first, and cancels where nobody waits for the answer.

    `scope["held"]` is an `ExitStack` that is closed when the request ends, however it ends.

    Args:
        app: The application.
        key: That clients have to send. Default: they need none.
    """

    def __init__(self, app: Any, limits: Limits, metrics: Metrics, key: str | None = None) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self.expected = None if key is None else f"Bearer {key}".encode()
        self.running = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, answer = time.perf_counter(), _Answer(send)
        self.running += 1
        try:
            with ExitStack() as scope["held"]:
                await self._answer(scope, receive, answer)
        except ApiError as error:
            await answer.refuse(error)
        finally:
            self.running -= 1
            path = scope["path"] if scope["path"] in COUNTED else "other"
            self.metrics.requests.labels(path, answer.status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def _answer(self, scope: dict[str, Any], receive: Receive, answer: "_Answer") -> None:
        headers = dict(scope["headers"])
        if self.expected is not None and scope["path"] not in OPEN:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self.expected):
                raise ApiError(401, "a key is needed: Authorization: Bearer KEY", code="invalid_api_key")
        if self.running > self.limits.requests:
            raise ApiError(503, "too many requests at a time: try again later", code="overloaded")
        body = await self._body(headers, receive)
        work = asyncio.ensure_future(self.app(scope, _replay(body), answer))
        gone = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not gone.done():
                if not answer.has_begun:
                    raise ApiError(504, f"no answer within {self.limits.seconds:g} seconds", code="timeout")
                await asyncio.wait({work, gone}, timeout=LATE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not work.done() and not gone.done():  # the client does not read
                    scope.get("state", {}).get("abort", _nothing)()
            if answer.is_whole:  # which also looks as if the client were gone
                await work
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if not work.cancelled():
            work.result()

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """
        Raises:
            ApiError: It is too large, or does not come in time.
        """
        most = self.limits.body
        too_large = ApiError(413, f"the request is larger than {most:,} bytes, the most that this server takes")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the request ended before it was whole")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise ApiError(408, f"the request was not whole within {self.limits.body_seconds:g} seconds") from None


class _Answer:
    """Sends on, and knows how far that is.

    Attributes:
        status: Of HTTP; 499 where the client went before there was one.
    """

    def __init__(self, send: Send) -> None:
        self.send, self.status, self.has_begun, self.is_whole = send, "499", False, False

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.has_begun = str(message["status"]), True
        elif not message.get("more_body", False):
            self.is_whole = True
        await self.send(message)

    async def refuse(self, error: ApiError) -> None:
        if self.has_begun:
            return
        headers = {"content-type": "application/json", "content-length": str(len(error.body)), **error.headers}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": error.status, "headers": encoded})
        await self({"type": "http.response.body", "body": error.body})


def _replay(body: bytes) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()  # type: ignore[return-value]  # the guard sees when the client goes

    return receive


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _nothing() -> None:
    pass
