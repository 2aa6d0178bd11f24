"""Connections of uvicorn that end where a client is too slow, which it does not watch itself."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedConnection(H11Protocol):
    """
    Attributes:
        head_seconds: In which a request's head has to come.
        read_seconds: In which a client has to read what waits for it, once that is more than a little.
    """

    head_seconds = 10.0
    read_seconds = 60.0
    head_timer: asyncio.TimerHandle | None = None
    read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": transport.abort}
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()
        elif self.head_timer is None:  # of the next request; or what is left of one that was refused
            self._await_head()

    def on_response_complete(self) -> None:
        self._forget_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.read_timer = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.read_timer is not None:
            self.read_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        if self.read_timer is not None:
            self.read_timer.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self.head_timer = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _forget_head(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None
