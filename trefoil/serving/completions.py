"""OpenAI's `/v1/completions` and `/v1/chat/completions`, for decoders."""

import asyncio
import copy
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from transformers import GenerationConfig

from ..configuration.errors import reason
from ..predict import Predictor
from ..visualization.asking import NEW_TOKENS, longest_input
from ..visualization.conversations import conversation_ids
from .bodies import Body, ChatBody, CompletionBody
from .errors import ApiError, require_model
from .limits import Limits
from .metrics import Metrics
from .places import Places
from .reader import Reader
from .sequences import STOP, Arrivals, Sequence, generation_config
from .texts import Text
from .writers import LONGEST, Writer


@dataclass(frozen=True)
class Form:
    """How the answers of an endpoint look.

    Attributes:
        whole: What a choice says, given its text.
        piece: What a part of it says in a stream.
        first: What a stream says first of each choice.
    """

    prefix: str
    kind: str
    kind_of_stream: str
    whole: Callable[[str], dict[str, Any]]
    piece: Callable[[str], dict[str, Any]]
    first: dict[str, Any] | None = None


COMPLETION = Form(
    "cmpl", "text_completion", "text_completion", lambda text: {"text": text}, lambda text: {"text": text}
)
CHAT = Form(
    "chatcmpl",
    "chat.completion",
    "chat.completion.chunk",
    lambda text: {"message": {"role": "assistant", "content": text}},
    lambda text: {"delta": {"content": text} if text else {}},
    {"delta": {"role": "assistant", "content": ""}},
)


@dataclass
class Choice:
    """A text that is written for a client.

    Attributes:
        ended: Why it has, once it has.
    """

    sequence: Sequence
    text: Text
    ended: str | None = None

    def add(self, token: int, ended: str | None) -> str:
        """The text that is certain with this token."""
        new = "" if token in self.sequence.ends else self.text.add(token)
        if ended and not self.text.is_stopped:
            new += self.text.finish()
        self.ended = STOP if self.text.is_stopped else ended
        return new


class Writing:
    """All choices of a request.

    Args:
        arrivals: Of all of them.
        deadline: By the event loop's clock.
    """

    def __init__(self, choices: list[Choice], arrivals: Arrivals, writer: Writer, deadline: float) -> None:
        self.choices, self.arrivals, self.writer, self.deadline = choices, arrivals, writer, deadline

    async def pieces(self) -> AsyncIterator[tuple[int, str, str | None]]:
        """A choice's number, a part of its text, and why it ends with that, as they come.

        Raises:
            ApiError: The model failed, or it takes too long.
        """
        running = len(self.choices)
        while running:
            try:
                async with asyncio.timeout_at(self.deadline):
                    arrival = await self.arrivals.get()
            except TimeoutError:
                raise ApiError(504, "the time of this request is over", code="timeout") from None
            if isinstance(arrival, ApiError):
                raise arrival
            index, token, ended = arrival
            choice = self.choices[index]
            if choice.ended:  # at a stop string, behind which a token was on its way
                continue
            new = choice.add(token, ended)
            if choice.ended:
                running -= 1
                self.writer.cancel(choice.sequence)
            if new or choice.ended:
                yield index, new, choice.ended

    async def whole(self) -> list[str]:
        texts = [""] * len(self.choices)
        async for index, new, _ in self.pieces():
            texts[index] += new
        return texts


class Completions:
    """
    Args:
        name: Of the model, as clients call it.
        predictor: Of a decoder.
        writer: Writes by its model.
        defaults: How the model's files say it is asked.
    """

    def __init__(
        self,
        name: str,
        predictor: Predictor,
        writer: Writer,
        defaults: GenerationConfig,
        reader: Reader,
        places: Places,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.name, self.model, self.writer, self.defaults = name, predictor.model, writer, defaults
        self.reader, self.places, self.limits, self.metrics = reader, places, limits, metrics
        self.tokenizer = copy.deepcopy(predictor.tokenizer)  # of the event loop's thread
        self.longest = min(longest_input(predictor.pipe), LONGEST)
        self.vocabulary = self.model.get_input_embeddings().num_embeddings

    def routes(self) -> APIRouter:
        router = APIRouter(prefix="/v1")

        @router.post("/completions")
        async def completions(body: CompletionBody, request: Request) -> Response:
            return await self._complete(body, request, COMPLETION, len(body.prompts), self._encoded, body.prompts)

        @router.post("/chat/completions")
        async def chat(body: ChatBody, request: Request) -> Response:
            if self.tokenizer.chat_template is None:
                raise ApiError(
                    400, f"{self.name} has no template of conversations: use /v1/completions", code="no_chat_template"
                )
            return await self._complete(body, request, CHAT, 1, self._templated, body.conversation)

        return router

    async def _complete(
        self, body: Body, request: Request, form: Form, count: int, encode: Callable[..., list[list[int]]], given: Any
    ) -> Response:
        deadline = asyncio.get_running_loop().time() + self.limits.seconds
        require_model(body.model, self.name)
        body.require_known()
        held = request.scope["held"]
        held.enter_context(self.places.take(count * body.n))
        prompts = await self.reader.read(encode, given)
        config = generation_config(self.model, self.defaults, body.temperature, body.top_p)
        arrivals: Arrivals = asyncio.Queue()
        asked = [(prompt, self._room(len(prompt), body.wanted)) for prompt in prompts for _ in range(body.n)]
        sequences = [
            Sequence(self.model, config, prompt, room, arrivals, index, body.seed)
            for index, (prompt, room) in enumerate(asked)
        ]
        read = sum(map(len, prompts))
        self.metrics.tokens.labels("read").inc(read)
        for sequence in sequences:
            held.callback(self._let_go, sequence)
            self.writer.add(sequence)
        choices = [Choice(each, Text(self.tokenizer, each.prompt, body.stops)) for each in sequences]
        writing = Writing(choices, arrivals, self.writer, deadline)
        head = {"id": f"{form.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.name}
        if body.stream:
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            events = _events(form, head | {"object": form.kind_of_stream}, writing, read if with_usage else None)
            return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        texts = await writing.whole()
        told = [
            _choice(index, form.whole(text), choice.ended)
            for index, (text, choice) in enumerate(zip(texts, choices, strict=True))
        ]
        return JSONResponse(head | {"object": form.kind, "choices": told, "usage": _usage(read, sequences)})

    def _let_go(self, sequence: Sequence) -> None:
        self.writer.cancel(sequence)
        self.metrics.tokens.labels("written").inc(len(sequence.written))

    def _encoded(self, prompts: list[str | list[int]]) -> list[list[int]]:
        tokenizer = self.reader.pipe.tokenizer
        found = [tokenizer(each, verbose=False)["input_ids"] if isinstance(each, str) else each for each in prompts]
        return [
            self._checked(ids or [token for token in [tokenizer.bos_token_id] if token is not None]) for ids in found
        ]

    def _templated(self, conversation: list[dict[str, str]]) -> list[list[int]]:
        tokenizer = self.reader.pipe.tokenizer
        try:
            ids = conversation_ids(tokenizer, conversation)
        except (jinja2.TemplateError, ValueError, TypeError, TimeoutError) as error:
            raise ApiError(400, f"the template of conversations refuses this: {reason(error)}", "messages") from None
        return [self._checked(ids)]

    def _checked(self, ids: list[int]) -> list[int]:
        if not ids:
            raise ApiError(400, "the prompt is empty", "prompt")
        if not 0 <= min(ids) <= max(ids) < self.vocabulary:
            raise ApiError(400, f"the prompt has tokens that are not from 0 to {self.vocabulary - 1:,}", "prompt")
        return ids

    def _room(self, count: int, wanted: int | None) -> int:
        """How many tokens are written.

        Raises:
            ApiError: There is no room for so many.
        """
        if count + (wanted or 1) > self.longest:
            raise ApiError(
                400,
                f"the prompt has {count:,} tokens and {wanted or 1:,} are to be written, but the model reads "
                f"{self.longest:,} at most",
                "prompt" if wanted is None else "max_tokens",
                "context_length_exceeded",
            )
        return wanted or min(self.defaults.max_new_tokens or NEW_TOKENS, self.longest - count)


async def _events(form: Form, head: dict[str, Any], writing: Writing, read: int | None) -> AsyncIterator[bytes]:
    """A stream of server-sent events; with the number of tokens that were read, usage is told at its end."""
    try:
        if form.first is not None:
            for index in range(len(writing.choices)):
                yield _event(head | {"choices": [_choice(index, form.first, None)]})
        async for index, new, ended in writing.pieces():
            yield _event(head | {"choices": [_choice(index, form.piece(new), ended)]})
        if read is not None:
            usage = _usage(read, [choice.sequence for choice in writing.choices])
            yield _event(head | {"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"
    except ApiError as error:
        yield _event(error.content)


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()


def _choice(index: int, said: dict[str, Any], ended: str | None) -> dict[str, Any]:
    return {"index": index, **said, "logprobs": None, "finish_reason": ended}


def _usage(read: int, sequences: Iterable[Sequence]) -> dict[str, int]:
    written = sum(len(sequence.written) for sequence in sequences)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
