"""Reads requests in a thread of its own: tokenizers of long texts would stop the event loop, and bear one thread at a time."""

import asyncio
import copy
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class Reader:
    """
    Args:
        pipe: Of a model. The one that reads has another tokenizer, so that the model's own thread can use that one.

    Attributes:
        pipe: To read with.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = copy.copy(pipe)
        self.pipe.tokenizer = copy.deepcopy(pipe.tokenizer)
        self.waiting: SimpleQueue[tuple[asyncio.Future, Callable[[], Any]]] = SimpleQueue()
        threading.Thread(target=self._run, name="trefoil-serve-reader", daemon=True).start()

    async def read(self, function: Callable[..., Result], *arguments: Any) -> Result:
        future = asyncio.get_running_loop().create_future()
        self.waiting.put((future, lambda: function(*arguments)))
        return await future

    def _run(self) -> None:
        while True:
            future, function = self.waiting.get()
            if future.cancelled():
                continue
            try:
                settle(future, function())
            except Exception as error:
                settle(future, error)


def settle(future: asyncio.Future, result: Any) -> None:
    """Gives a future of another thread's event loop its result, or its error, if somebody still waits for it."""

    def hand_over() -> None:
        if not future.done():
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    if not future.get_loop().is_closed():
        future.get_loop().call_soon_threadsafe(hand_over)
