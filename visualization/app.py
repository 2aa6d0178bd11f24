"""The page that tries a model in a browser: its task's input, what it answers, and below it where it looked.

`trefoil demo MODEL` opens it. `trefoil publish --space` puts this file beside the weights, where it needs nothing of the
package: run as `app.py` of a Hub Space, or with `python app.py`, it opens the page of the folder that it lies in.
"""

import html
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from transformers import Pipeline
from transformers.utils import logging

if __name__ == "__main__":  # beside a model: what would be compiled is no part of the published folder
    sys.dont_write_bytecode = True

from .answers import TASKS, refusal
from .asking import IMAGE_TO_TEXT, LOADING_ERRORS, MODEL_ERRORS, load_pipe, read_card
from .asking import TASKS as ASKING
from .attention import attention_maps, reason
from .page import attention_page

# fonts of the reader's machine: gradio's own themes bring theirs, or fetch them
THEME = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    input_placeholder_color="*neutral_500", input_placeholder_color_dark="*neutral_400"
)
# the map is as wide as what stands above it, and on a phone both are nearly as wide as the screen
HEAD = """<style>
.html-container { padding: 0 !important }
@media (max-width: 500px) { .app { padding: 12px !important } }
</style>"""
MAP_HEIGHT = 800  # pixels, until the map has said how high it is
# what the page in the frame says is heard by the page around: its height, which no one else can know
FIT_FRAMES = """() => window.addEventListener("message", (event) => {
  const height = event.data && event.data.attentionHeight;
  const frames = [...document.querySelectorAll("iframe")].filter((frame) => frame.contentWindow === event.source);
  if (Number.isFinite(height)) for (const frame of frames) frame.style.height = `${Math.min(height, 20000)}px`;
})"""
MOST_CHARACTERS, LONGEST_TITLE = 20_000, 200
MOST_WEIGHTS = 40_000_000  # of a map, which is drawn anew for every text: 12 layers of 12 heads and 512 tokens


def make_page(
    model: str | os.PathLike, metadata: Mapping[str, Any] | None = None, trust_remote_code: bool = False
) -> gr.Blocks:
    """Loads a model and makes its page.

    Args:
        model: A folder that `save_pretrained` or `trefoil publish` wrote, or a Hub id.
        metadata: What the head of its card would say, instead of the card: `title`, and as the Hub knows them
            `pipeline_tag`, `widget` (examples) and `inference` (arguments of the pipeline).
        trust_remote_code: Let the `.py` files beside the weights run.

    Raises:
        ValueError: The model does not load, or does nothing that a page could show; in one line.
    """
    model = os.fspath(model)
    task, pipe, metadata = load_model(model, metadata, trust_remote_code)
    with gr.Blocks(title=_title(model, metadata), analytics_enabled=False) as page:
        place_model(model, task, pipe, metadata)
    return page


def place_model(
    model: str | os.PathLike, task: str, pipe: Pipeline, metadata: Mapping[str, Any], level: int = 1
) -> None:
    """Puts the parts of a model's page into the page that is being made.

    Args:
        model: What it was loaded from, of which messages speak.
        task, pipe, metadata: What `load_model` gave.
        level: Of its heading, from 1 to 6.
    """
    widget = metadata.get("widget")
    examples = [example for example in (widget if isinstance(widget, list) else []) if isinstance(example, Mapping)]
    if task == IMAGE_TO_TEXT:  # a card is a stranger's word: no file or address that it names is opened
        examples = []
    boxes = dict(TASKS[task].boxes)
    if task == "fill-mask":
        boxes["text"] = f"Text, with {pipe.tokenizer.mask_token} for the word to guess"
    if task == "text-classification" and any("text_pair" in example for example in examples):
        boxes["text_pair"] = "Second text"
    rows = [[example.get(name) for name in boxes] for example in examples]
    rows = [row for row in rows if all(isinstance(text, str) for text in row)]
    inference = metadata.get("inference")  # on the Hub also true or false
    wanted = inference.get("parameters") if isinstance(inference, Mapping) else None
    parameters, left_out = ASKING[task].choose(wanted)
    if left_out:
        print(f"{model}: of the card's parameters these are not used: {', '.join(left_out)}", file=sys.stderr)

    spoken_task = task.replace("-", " ").capitalize()
    heading = f"{'#' * level} {plain(_title(model, metadata))}"
    gr.Markdown(f"{heading}\n{spoken_task} · {pipe.model.num_parameters():,} parameters")
    inputs = [TASKS[task].box(label, number == 0) for number, label in enumerate(boxes.values())]
    choices = []
    if languages := getattr(pipe, "languages", []) if task == "translation" else []:
        first = parameters.get("tgt_lang")
        first = first if first in languages else languages[0]
        choices = [gr.Dropdown(languages, value=first, label="Into the language")]
    button = gr.Button(TASKS[task].button, variant="primary")
    if rows:
        gr.Examples(rows, inputs, cache_examples=False)
    output = TASKS[task].output()
    attention = gr.HTML(label="Attention")
    gr.on(
        [button.click, *(box.submit for box in inputs if isinstance(box, gr.Textbox))],
        make_response(pipe, task, boxes, parameters),
        [*inputs, *choices],
        [output, attention],
        api_name="run",
        concurrency_limit=1,  # drawing the map changes how the model attends, for as long as it takes
    )


def load_model(
    model: str | os.PathLike, metadata: Mapping[str, Any] | None = None, trust_remote_code: bool = False
) -> tuple[str, Pipeline, Mapping[str, Any]]:
    """A model's task, its pipeline, and what its card says; arguments and errors as of `make_page`."""
    model = os.fspath(model)
    try:
        metadata = read_card(model) if metadata is None else metadata
        task, pipe = load_pipe(model, metadata.get("pipeline_tag"), trust_remote_code, list(TASKS))
    except LOADING_ERRORS as error:
        raise ValueError(f"{model}: no page for this model: {reason(error)}") from error
    return task, pipe, metadata


def open_page(page: gr.Blocks, host: str | None = None, port: int | None = None) -> None:
    """Serves a page until it is interrupted, and says where.

    Args:
        page: The page.
        host: The address to serve at. Default: `GRADIO_SERVER_NAME`, which Spaces set, or this machine only.
        port: Default: the first free one from 7860.

    Raises:
        OSError: The port is taken, or the address is none of this machine's.
    """
    if host is not None:  # gradio would try a hundred ports, and tell of each
        with socket.create_server((host, port or 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        theme=THEME,
        head=HEAD,
        js=FIT_FRAMES,
        footer_links=[],
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f"{page.title}: {address} (Ctrl+C ends it)", flush=True)
    page.block_thread()


def make_response(
    pipe: Pipeline, task: str, boxes: Mapping[str, str], parameters: Mapping[str, Any]
) -> Callable[..., Iterator[tuple[Any, str]]]:
    """A function that takes what stands in the boxes, and the language where one is to be chosen, and gives the answer first,
    then the answer with its map.

    Raises:
        gr.Error: (the function) A text or picture is missing, or is none that the model can answer.
    """

    def respond(*values: Any) -> Iterator[tuple[Any, str]]:
        given, language = dict(zip(boxes, values, strict=False)), values[len(boxes) :]
        if task == IMAGE_TO_TEXT and given["image"] is None:
            raise refusal(f"There is no picture under “{boxes['image']}”.")
        if task != IMAGE_TO_TEXT:
            _require_texts({boxes[name]: text for name, text in given.items()})
        try:
            chosen = dict(parameters) | dict(zip(("tgt_lang",), language, strict=False))
            answer, written = TASKS[task].answer(task, pipe, given, chosen)
        except gr.Error:
            raise
        except MODEL_ERRORS as error:
            raise refusal(f"The model cannot answer this: {reason(error)}") from error
        if task == IMAGE_TO_TEXT:  # maps are of texts
            yield answer, ""
            return
        yield answer, note("drawing the attention …")
        read = [pipe.with_language(text, *language) if language else text for text in given.values()]
        yield answer, draw_attention(pipe, read, written)

    return respond


def _require_texts(texts: Mapping[str, str | None]) -> None:
    """Raises a gr.Error where a box, by its label, has no text, or too long a one."""
    for label, text in texts.items():
        if not text or not text.strip():
            raise refusal(f"Nothing is written under “{label}”.")
        if len(text) > MOST_CHARACTERS:
            raise refusal(f"“{label}” has {len(text):,} characters, but this page takes {MOST_CHARACTERS:,} at most.")


def draw_attention(pipe: Pipeline, texts: list[str], written: str | None) -> str:
    """HTML that shows what attended to what, or says why there is no such map.

    Args:
        pipe: Has the model and its tokenizer.
        texts: What was typed in.
        written: The text that the model wrote, if it writes any.
    """
    source, *rest = texts
    try:
        maps = attention_maps(pipe.model, pipe.tokenizer, source, rest[0] if rest else written, MOST_WEIGHTS)
        text = attention_page(maps, "Attention")
    except MODEL_ERRORS as error:
        return note(f"No attention map: {reason(error)}")
    style = f"width: 100%; height: {MAP_HEIGHT}px; border: 0"
    return f'<iframe title="Attention" sandbox="allow-scripts" style="{style}" srcdoc="{html.escape(text)}"></iframe>'


def _title(model: str | os.PathLike, metadata: Mapping[str, Any]) -> str:
    said = metadata.get("title")
    return " ".join((said if isinstance(said, str) and said else Path(model).name).split())[:LONGEST_TITLE]


def plain(text: str) -> str:
    """Markdown that shows a text as it is: no links, no pictures from elsewhere, no HTML."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def note(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def main() -> None:
    """The page of the folder that this file lies in, or else of `MODEL_ID`, a folder or Hub id."""
    own = Path(__file__).parent
    is_beside_a_model = (own / "config.json").is_file()
    model = str(own) if is_beside_a_model else os.environ.get("MODEL_ID")
    if model is None:
        sys.exit("error: no config.json beside app.py: put it into a published folder, or set MODEL_ID to a model")
    logging.disable_progress_bar()
    try:
        page = make_page(model, trust_remote_code=is_beside_a_model)
    except ValueError as error:
        sys.exit(f"error: {error}")
    open_page(page)


if __name__ == "__main__":
    main()
