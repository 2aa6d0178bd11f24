"""`/predict`: the records that `trefoil predict` writes, for every task that does not write token by token."""

import asyncio
import base64
import io
import json
import logging
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from fastapi import APIRouter, Request, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from ..configuration.errors import UserError
from ..predict import Predictor
from ..records import Records, Row, as_json
from ..visualization.asking import TASKS, Answer, TooLongError, count_tokens, longest_input, require_length
from .batches import Worker
from .bodies import Said
from .errors import ApiError, require_model
from .limits import Limits
from .metrics import Metrics
from .places import Places
from .reader import Reader, settle

MOST_PIXELS = 4_000_000
READ_IN_PARTS = {"token-classification", "question-answering"}
Item = Said | dict[Said, Said | int | float | bool | None]


class PredictBody(BaseModel):
    """What else it says are options of the task, as `trefoil.load(…)(inputs, **options)` takes them."""

    model_config = ConfigDict(extra="allow")
    inputs: Item | list[Item]
    truncate: bool = False
    alignments: bool = False
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    model: str | None = None


@dataclass(eq=False)
class Question:
    """An input, and who waits for its answers."""

    row: Row
    tokens: int
    options: dict[str, Any]
    key: Hashable
    seed: int | None
    answers: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    gone: bool = False

    def let_go(self) -> None:
        self.gone = True
        self.answers.cancel()


class _GoneError(Exception):
    """Nobody waits for what the model does."""


class Answering:
    """Answers the questions of all requests, those of like length that are asked alike together.

    Args:
        predictor: Is asked by one thread.
    """

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics) -> None:
        self.predictor, self.metrics = predictor, metrics
        self.running: list[Question] = []
        predictor.model.register_forward_pre_hook(self._require_listener)
        self.worker: Worker[Question] = Worker(self._answer, limits.rows, limits.tokens)
        self.worker.start()

    def is_alive(self) -> bool:
        return self.worker.thread.is_alive()

    def stop(self, seconds: float) -> None:
        for question in self.worker.waiting:
            question.gone = True
        self.worker.stop(seconds)

    def _require_listener(self, *_: Any) -> None:
        if self.running and all(question.gone for question in self.running):
            raise _GoneError

    def _answer(self, batch: list[Question]) -> None:
        self.metrics.rows.observe(len(batch))
        try:
            found = self._asked(batch)
        except _GoneError:
            return
        except Exception as error:
            if len(batch) > 1:  # the others have nothing to do with it
                for question in batch:
                    self._answer([question])
                return
            if not isinstance(error, UserError):
                logging.getLogger(__name__).exception("an answer failed")
                error = ApiError(500, "the model failed to answer this")
            settle(batch[0].answers, error)
        else:
            for question, answers in zip(batch, found, strict=True):
                settle(question.answers, answers)

    def _asked(self, batch: list[Question]) -> list[list[Answer]]:
        options, seed = batch[0].options, batch[0].seed
        if seed is not None:
            torch.manual_seed(seed)
        rows = [question.row for question in batch]
        self.running = batch
        try:
            return self.predictor.answers([row.asked for row in rows], [row.place for row in rows], **options)
        finally:
            self.running = []


def prediction_routes(
    name: str, predictor: Predictor, answering: Answering, reader: Reader, places: Places, metrics: Metrics
) -> APIRouter:
    router, task = APIRouter(), predictor.task

    @router.post("/predict")
    async def predict(body: PredictBody, request: Request) -> Response:
        require_model(body.model, name)
        options = dict(body.model_extra or {})
        predictor.require_options(options, body.alignments)
        fields = list(TASKS[task].fields(predictor.pipe, "top_k" in options))
        fields += ["score"] * bool(options.get("scores")) + ["alignment"] * body.alignments
        options |= {"truncate": body.truncate, "alignments": body.alignments}
        given = body.inputs if isinstance(body.inputs, list) else [body.inputs]
        held = request.scope["held"]
        held.enter_context(places.take(len(given)))
        rows, counts = await reader.read(_read, reader.pipe, predictor, given, body.truncate)
        asked_alike = json.dumps(options, sort_keys=True)
        questions = [
            # what is drawn by a seed is drawn alone
            Question(row, count, options, asked_alike if body.seed is None else object(), body.seed)
            for row, count in zip(rows, counts, strict=True)
        ]
        for question in questions:
            held.callback(question.let_go)
        answering.worker.add(questions)
        found = await asyncio.gather(*(question.answers for question in questions))
        metrics.tokens.labels("read").inc(sum(counts))
        columns = list(dict.fromkeys(column for row in rows for column in row.columns))
        records = Records("jsonl", task, columns, fields)
        told = [record for row, answers in zip(rows, found, strict=True) for record in records.rows(row, answers)]
        return Response(as_json({"task": task, "records": told}), media_type="application/json")

    return router


def _row(task: str, number: int, given: Item) -> Row:
    names, place = (*TASKS[task].inputs, *TASKS[task].optional), f"inputs[{number - 1}]"
    columns: dict[str, Any] = dict(given) if isinstance(given, dict) else {names[0]: given}
    known = {name: columns[name] for name in names if name in columns}
    asked: Any = known[names[0]] if known.keys() == {names[0]} else known
    if task == "image-to-text":
        asked = _picture(columns.pop(names[0], None), place)  # nobody wants it back
    return Row(number, place, columns, asked)


def _picture(text: Any, place: str) -> Image.Image:
    """Of base64, perhaps as a data URL; names of files and places in the network are none."""
    try:
        content = base64.b64decode(str(text).rpartition(",")[2], validate=True)
        picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        if picture.width * picture.height > MOST_PIXELS:
            raise ApiError(400, f"{place}: has more than {MOST_PIXELS:,} pixels", "inputs")
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ApiError(400, f"{place}: is no picture; send a PNG or JPEG file as base64", "inputs") from None
    return picture


def _read(pipe: Any, predictor: Predictor, given: list[Item], truncate: bool) -> tuple[list[Row], list[int]]:
    """Rows, and how many tokens each has.

    Raises:
        ApiError, UserError: One is none that the model can answer.
    """
    rows = [_row(predictor.task, number, each) for number, each in enumerate(given, start=1)]
    return rows, [_tokens_of(pipe, predictor, row, truncate) for row in rows]


def _tokens_of(pipe: Any, predictor: Predictor, row: Row, truncate: bool) -> int:
    if predictor.is_blank(row.asked, row.place) or predictor.task == "image-to-text":
        return 0
    limit = longest_input(pipe)
    if truncate:
        return min(count_tokens(pipe, [row.asked])[0], limit)
    if predictor.task in READ_IN_PARTS:
        return count_tokens(pipe, [row.asked])[0]
    try:
        return require_length(pipe, [row.asked], limit)[0]
    except TooLongError as error:
        raise UserError(f"{row.place}: {error}, or let truncate cut it") from None
