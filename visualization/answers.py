"""What the demo page does for each task: what is typed in, and how the model's answer is shown."""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from transformers import Pipeline

from .asking import (
    IMAGE_TO_TEXT,
    SHOWN,
    TEXT_TO_TEXT,
    Answer,
    UnanswerableError,
    ask,
    count_tokens,
    longest_input,
    marked,
)
from .asking import TASKS as ASKING

Given = dict[str, Any]


def textbox(label: str, is_first: bool) -> gr.Textbox:
    return gr.Textbox(label=label, lines=2, max_lines=12, autofocus=is_first)


def picture_box(label: str, is_first: bool) -> gr.Image:
    return gr.Image(label=label, type="pil", sources=["upload", "clipboard"])


@dataclass(frozen=True)
class Task:
    """How a task looks on the page.

    Args:
        boxes: What is typed in, or shown: the name that the Hub's examples call it by → what the page calls it.
        button: What the button says.
        output: Makes the component that shows the answer.
        shown: What that component shows of the text and the best answers.
        defaults: Parameters, where the card chooses no others.
        box: Makes a component to type into, of its label and whether it is the first.
        is_cut: Whether a text that is too long is cut, with a warning, rather than refused.
    """

    boxes: Mapping[str, str]
    button: str
    output: Callable[[], gr.components.Component]
    shown: Callable[[str, list[Answer]], Any]
    defaults: Mapping[str, Any] | None = None
    box: Callable[[str, bool], gr.components.Component] = textbox
    is_cut: bool = False

    def answer(self, name: str, pipe: Pipeline, given: Given, parameters: dict[str, Any]) -> tuple[Any, str | None]:
        """What the component shows, and the text that the model wrote, if it writes any.

        Args:
            name: Of the task.
            given: What stands in the boxes.
            pipe, parameters: As of `ask`.

        Raises:
            gr.Error: The model cannot answer.
        """
        if self.is_cut and (count := count_tokens(pipe, [given])[0]) > (limit := longest_input(pipe)):
            gr.Warning(f"The text has {count:,} tokens, of which the model reads the first {limit:,}.")
        try:
            (answers,) = ask(
                name, pipe, [_input(name, given)], truncate=self.is_cut, **{**(self.defaults or {}), **parameters}
            )
        except UnanswerableError as error:
            raise refusal(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
        shown = self.shown(next(iter(given.values())), answers)
        return shown, shown if self.output is _written else None


def _input(name: str, given: Given) -> Any:
    if name == "question-answering":
        return {"question": given["text"], "context": given["context"]}
    return given if len(given) > 1 else next(iter(given.values()))


def refusal(text: str) -> gr.Error:
    return gr.Error(html.escape(text, quote=False), print_exception=False)  # gradio takes it for HTML


def _text(given: Any, answers: list[Answer]) -> str:
    return next(iter(answers[0].values()))


def _pieces(text: str, answers: list[Answer]) -> list[tuple[str, str | None]]:
    return marked(text, answers[0]["entities"])


def _likely(text: str, answers: list[Answer]) -> dict[str, float] | str:
    """Answer → score; the better score where an answer stands there twice. Numbers, of a regression."""
    if answers[0].keys() & {"value", "values"}:
        return ASKING["text-classification"].line(text, answers[0])
    scores: dict[str, float] = {}
    for answer in answers:
        name = answer.get("label", answer.get("token", answer.get("answer")))
        shown = name or ("␣" if "token" in answer else "(no answer)")
        scores[shown] = max(answer["score"], scores.get(shown, 0.0))
    return scores


def _written() -> gr.Textbox:
    return gr.Textbox(label="Output", lines=2, interactive=False, buttons=["copy"])


def _labels() -> gr.Label:
    return gr.Label(label="Output", num_top_classes=SHOWN)


def _entities() -> gr.HighlightedText:
    return gr.HighlightedText(label="Output", show_legend=True)


TEXT = {"text": "Text"}
TASKS = {
    "translation": Task(TEXT, "Translate", _written, _text, is_cut=True),
    "summarization": Task(TEXT, "Summarize", _written, _text, is_cut=True),
    TEXT_TO_TEXT: Task({"text": "Text with gaps, or its beginning"}, "Complete", _written, _text, is_cut=True),
    "text-generation": Task(
        {"text": "Beginning of a text"}, "Continue", _written, _text, {"chat": False, "do_sample": True}
    ),
    "fill-mask": Task(TEXT, "Guess", _labels, _likely),
    "text-classification": Task(TEXT, "Classify", _labels, _likely, {"top_k": None}, is_cut=True),
    "token-classification": Task(TEXT, "Tag", _entities, _pieces),
    "question-answering": Task(
        {"text": "Question", "context": "Context"}, "Answer", _labels, _likely, {"top_k": SHOWN}
    ),
    IMAGE_TO_TEXT: Task({"image": "Picture"}, "Caption", _written, _text, box=picture_box),
}
