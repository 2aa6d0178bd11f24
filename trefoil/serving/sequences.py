"""Texts that are written token by token, each as `generate` would write it alone."""

import asyncio
import contextlib
import copy
import logging
import secrets
from collections.abc import Sequence as Tokens
from itertools import count
from typing import Any

import torch
from transformers import GenerationConfig

from ..configuration.errors import UserError, reason
from ..visualization.asking import MODEL_ERRORS
from .errors import ApiError

STOP, LENGTH = "stop", "length"  # why a text has ended
NUMBERS = count()
Arrivals = asyncio.Queue[tuple[int, int, str | None] | ApiError]  # a text's place, a token, and why it ends with that
SMALLEST_TEMPERATURE = 0.01  # below it the likeliest token is taken, which is the limit, and does not overflow


class Sequence:
    """One text.

    Args:
        model: A decoder.
        config: How it is asked, prepared by `generation_config`.
        prompt: Token ids.
        room: How many may be written.
        arrivals: Is given the tokens, by the event loop that runs.
        index: The text's place in its request.
        seed: Of what the request's first text draws. Default: another each time.

    Attributes:
        name: Tells it from others.
        written: Token ids.
        has_ended: Whether it is whole.
        gone: Whether nobody waits for it any more.
    """

    def __init__(
        self,
        model: Any,
        config: GenerationConfig,
        prompt: Tokens[int],
        room: int,
        arrivals: Arrivals,
        index: int = 0,
        seed: int | None = None,
    ) -> None:
        self.name = str(next(NUMBERS))
        self.prompt, self.room = list(prompt), room
        self.written: list[int] = []
        self.arrivals, self.index = arrivals, index
        self.gone = self.has_ended = False
        self.loop = asyncio.get_running_loop()
        self.device = model.device
        self.ends = set(ends_of(config))
        self.processors = _processors(model, config, len(self.prompt), room)
        self.generator = None
        if config.do_sample:
            seed = secrets.randbits(62) if seed is None else seed
            self.generator = torch.Generator(model.device).manual_seed(seed + index)

    @property
    def tokens(self) -> int:
        return len(self.prompt)

    @property
    def key(self) -> int:
        return self.room

    def next(self, scores: torch.Tensor) -> int:
        """Chooses the next token by `scores (V)` and hands it to the event loop; 0 where no more are wanted."""
        if self.gone or self.has_ended:
            return 0
        try:
            token = self._chosen(scores)
        except Exception as error:  # the other texts have nothing to do with it
            self.fail(error)
            return 0
        self.written.append(token)
        reason = STOP if token in self.ends else LENGTH if len(self.written) == self.room else None
        self.has_ended = reason is not None
        self._hand_over((self.index, token, reason))
        return token

    def fail(self, error: object) -> None:
        if not (self.has_ended or self.gone):
            logging.getLogger(__name__).error("a text failed: %s", error)
            self.has_ended = True
            self._hand_over(ApiError(500, "the model failed to write this text"))

    def _chosen(self, scores: torch.Tensor) -> int:
        scores = scores[None]
        if self.processors:
            scores = self.processors(torch.tensor([self.prompt + self.written], device=self.device), scores)
        if self.generator is None:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(dim=-1), 1, generator=self.generator))

    def _hand_over(self, arrival: tuple[int, int, str | None] | ApiError) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.arrivals.put_nowait, arrival)


def _processors(model: Any, config: GenerationConfig, count: int, room: int) -> Any:
    """What changes the scores of a text behind a prompt of so many tokens."""
    # forced ends and length penalties count from the prompt
    config = copy.copy(config)
    config.max_length = count + room
    return model._get_logits_processor(config, count, device=model.device)


def require_settings(model: Any, defaults: GenerationConfig, name: str) -> None:
    """
    Args:
        defaults: Of the model's files.
        name: What the model is called.

    Raises:
        UserError: No text can be written as they say.
    """
    try:
        _processors(model, generation_config(model, defaults, None, None), 1, 1)
    except MODEL_ERRORS as error:
        raise UserError(f"{name}: no text can be written as generation_config.json says: {reason(error)}") from None


def generation_config(
    model: Any, defaults: GenerationConfig, temperature: float | None, top_p: float | None
) -> GenerationConfig:
    """How `generate` is asked: as the model's files say where nothing is said.

    Args:
        defaults: Of the model's files. Beams are left out: they do not come token by token.
    """
    given = {name: value for name, value in (("temperature", temperature), ("top_p", top_p)) if value is not None}
    draws = bool(defaults.do_sample) if not given else temperature is None or temperature >= SMALLEST_TEMPERATURE
    of_drawing = given if draws else dict.fromkeys(("temperature", "top_p", "top_k"))
    config = copy.deepcopy(defaults)
    config.update(do_sample=draws, num_beams=1, guidance_scale=None, **of_drawing)
    prepared, _ = model._prepare_generation_config(config)
    model._prepare_special_tokens(prepared, device=model.device)
    return prepared


def ends_of(config: GenerationConfig) -> list[int]:
    ends = config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
