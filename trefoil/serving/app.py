"""The application: which paths a model of each task has."""

import copy
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import takewhile
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from ..configuration.errors import UserError
from ..configuration.version import __version__
from ..predict import Predictor
from .completions import Completions
from .errors import ApiError, require_model
from .guard import Guard
from .limits import Limits
from .metrics import Metrics
from .places import Places
from .predictions import Answering, prediction_routes
from .reader import Reader
from .sequences import require_settings
from .writers import Writer, start_writer

STOP_SECONDS = 10.0  # that a step of the model may take, when the server ends


class Service:
    """A model that is served.

    Args:
        predictor: Of the model; it is used by nothing else.
        name: As clients call it.
        key: That they have to send. Default: they need none.

    Raises:
        UserError: The model's files ask for texts as none can be written.

    Attributes:
        app: To be run by an ASGI server.
        is_continuous: Whether texts are written by continuous batching.
    """

    def __init__(self, predictor: Predictor, name: str, limits: Limits, key: str | None = None) -> None:
        self.name, self.limits, self.started = name, limits, int(time.time())
        self.places = Places(limits.places)
        self.metrics = Metrics(lambda: self.places.taken)
        self.reader = Reader(predictor.pipe)
        self.is_continuous = False
        api = FastAPI(title=name, version=__version__, docs_url=None, redoc_url=None, lifespan=self._lifespan)
        if predictor.task == "text-generation":
            defaults = copy.deepcopy(predictor.model.generation_config)
            require_settings(predictor.model, defaults, name)
            writer = start_writer(predictor.model, limits, self.metrics.rows.observe)
            completions = Completions(name, predictor, writer, defaults, self.reader, self.places, limits, self.metrics)
            self.worker: Writer | Answering = writer
            self.is_continuous = writer.is_continuous
            api.include_router(completions.routes())
        else:
            self.worker = Answering(predictor, limits, self.metrics)
            api.include_router(prediction_routes(name, predictor, self.worker, self.reader, self.places, self.metrics))
        self._add_common_routes(api, predictor.task)
        for kind, handler in HANDLERS.items():
            api.add_exception_handler(kind, handler)
        self.app = Guard(api, limits, self.metrics, key)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        yield
        self.stop()

    def stop(self) -> None:
        """Ends the model's thread; nothing where it has ended."""
        self.worker.stop(STOP_SECONDS)

    def _add_common_routes(self, api: FastAPI, task: str) -> None:
        @api.get("/health")
        async def health() -> Response:
            if not self.worker.is_alive():
                raise ApiError(503, "the model has stopped")
            return JSONResponse({"status": "ok", "model": self.name, "task": task})

        @api.get("/metrics")
        async def metrics() -> Response:
            return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

        @api.get("/v1/models")
        async def models() -> Response:
            return JSONResponse({"object": "list", "data": [self._card(task)]})

        @api.get("/v1/models/{name:path}")
        async def model(name: str) -> Response:
            require_model(name, self.name)
            return JSONResponse(self._card(task))

    def _card(self, task: str) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self.started, "owned_by": "trefoil", "task": task}


def _told(error: ApiError) -> Response:
    return JSONResponse(error.content, error.status, error.headers)


async def _api_error(_: Request, error: Any) -> Response:
    return _told(error)


async def _users_error(_: Request, error: Any) -> Response:
    return _told(ApiError(400, str(error)))


async def _invalid(_: Request, error: Any) -> Response:
    first = error.errors()[0]
    if first["type"] == "json_invalid" or first["loc"] == ("body",):
        return _told(ApiError(400, "send a JSON object, with content-type: application/json"))
    # behind the field's name stands which of the types that it may have was tried
    fields = takewhile(lambda part: isinstance(part, int) or part.isidentifier(), first["loc"])
    place = ".".join(str(part) for part in fields if part != "body")
    return _told(ApiError(400, f"{place}: {first['msg']}" if place else first["msg"], place or None))


async def _refused(_: Request, error: Any) -> Response:
    return _told(ApiError(error.status_code, str(error.detail)))


async def _failed(_: Request, error: Any) -> Response:
    return _told(ApiError(500, "the server failed to answer this"))


HANDLERS: dict[type[Exception], Any] = {
    ApiError: _api_error,
    UserError: _users_error,
    RequestValidationError: _invalid,
    HTTPException: _refused,
    Exception: _failed,
}
