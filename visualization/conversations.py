"""Token ids of a conversation, by the tokenizer's template: a program of whoever made the model, which need not end."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

SECONDS = 10.0  # that a template may take


def conversation_ids(tokenizer: Any, conversation: Sequence[Mapping[str, str]]) -> list[int]:
    """
    Args:
        conversation: `{"role": …, "content": …}`, one after the other.

    Raises:
        TimeoutError: The template takes longer than `SECONDS`. It may also fail in any other way.
    """
    with _ended_after(SECONDS):
        found = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=True)
    ids: list[int] = found["input_ids"]
    return ids


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """Ends what is written in Python and takes longer, in whichever thread; a single operation of Python's own is not ended."""
    end = time.monotonic() + seconds

    def look(*_: Any) -> Any:
        if time.monotonic() > end:
            raise TimeoutError(f"it takes longer than {seconds:g} s")
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)
