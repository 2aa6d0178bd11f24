"""The page for those who would rather not type: data, a look at it, training, trying, publishing. `trefoil demo` without a
model opens it; each of its steps does what a command does, and what it writes, commands go on with."""

import atexit
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from huggingface_hub import ModelCard

from .configuration.errors import UserError
from .hub.card import CardFields
from .hub.check import check_published
from .hub.publish import must_be_merged, publish
from .hub.space import metadata_of_run
from .new import find_data, new_recipe
from .predict import model_folder
from .recipes.schema import load_recipe
from .runs import shown_scores
from .tasks import TASKS
from .training.adapters import whole_model
from .training.plot import LOSS_UNIT, TRAINING, VALIDATION, name_of, read_log
from .training.run_folder import ModelFolder, RunFolder
from .visualization.answers import refusal
from .visualization.app import load_model, place_model, plain

PREVIEWED = 5  # rows
SHOWN_LINES = 12  # of what a training says
EVERY = 1.0  # seconds from one look at a training to the next
GRACE = 30  # seconds that a training is given to write its checkpoint when the page ends
AS_UPLOADED = tuple(name for name, task in TASKS.items() if "image" not in task.roles)


@dataclass
class Training:
    """A `trefoil train` in a process of its own, of which the page shows what its files say.

    Attributes:
        number: Of the page's trainings, counted from 1.
    """

    number: int
    recipe: Path
    run: RunFolder
    metric: str
    process: subprocess.Popen

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def said(self) -> list[str]:
        file = _said(self.recipe)
        return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []


class Studio:
    """What the page knows: one training at a time, whoever looks at it, also after the page was loaded anew.

    Args:
        folder: Where data, recipes, runs and published models lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.training: Training | None = None
        self.lock = threading.Lock()
        atexit.register(self.end)

    def look(self, files: Sequence[str], task: str, minutes: float) -> tuple[str, pd.DataFrame, str]:
        """Copies the files to `folder` and writes a recipe for them: its text, the first rows, and what was taken for what.

        Raises:
            UserError: Data that cannot be read, or no telling which column is which.
        """
        name = self._free(Path(files[0]).name.partition(".")[0])
        data = self.folder / f"{name}-data"
        data.mkdir(parents=True)
        for file in files:
            shutil.copy(file, data / Path(file).name)
        path, recipe = str(data / Path(files[0]).name) if len(files) == 1 else str(data), self.folder / f"{name}.yaml"
        try:
            notes = new_recipe(task, path, minutes, recipe, [f"output_dir={self.folder / name}"])
            rows = find_data(TASKS[task], path, {}).rows
        except UserError:
            shutil.rmtree(data)
            raise
        first = rows.select(range(min(PREVIEWED, len(rows))))
        shown = pd.DataFrame({column: [_cell(value) for value in first[column]] for column in first.column_names})
        return recipe.read_text(encoding="utf-8"), shown, "\n".join(f"- {plain(note)}" for note in notes)

    def train(self, text: str) -> None:
        """Starts the training of a recipe, given as YAML.

        Raises:
            UserError: A mistake in the recipe, or another training is at work.
        """
        with self.lock:
            if self.training is not None and self.training.is_running:
                raise UserError("a training is at work; stop it first, or wait for it")
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = self.folder / ".draft.yaml"
            draft.write_text(text, encoding="utf-8")
            try:
                recipe = load_recipe(draft)
            except UserError as error:
                raise UserError(str(error).replace(str(draft), "the recipe")) from None
            run = RunFolder(recipe.output_dir)
            file = run.path.with_name(f"{run.path.name}.yaml")
            file.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(file)
            metric = recipe.evaluation.metric or TASKS[recipe.task].metrics[0]
            with _said(file).open("wb") as said:
                command = [sys.executable, "-m", __package__, "train", str(file)]
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
            number = 1 if self.training is None else self.training.number + 1
            self.training = Training(number, file, run, metric, process)

    def stop(self) -> None:
        """Asks the training to stop; what it has learned is kept, and training the same recipe goes on from there."""
        if self.training is not None and self.training.is_running:
            self.training.process.terminate()

    def end(self) -> None:
        self.stop()
        if self.training is not None:
            try:
                self.training.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.training.process.kill()

    def publish(self, target: str, title: str, license: str) -> tuple[Path, list[str]]:
        """Publishes what was trained last, and checks what was published: the folder, and a line of what its card shows and of
        each check.

        Raises:
            UserError: Nothing was trained, or publishing refuses.
        """
        if self.training is None or self.training.is_running:
            raise UserError("nothing is trained yet")
        if not target.strip():
            raise UserError("name the folder to publish into")
        card = CardFields(title=title.strip() or None, license=license.strip() or None)
        run = self.training.run.path
        folder = publish(run, self.folder / target.strip(), card=card, merge=must_be_merged(run))
        widget = ModelCard.load(folder / "README.md").data.get("widget") or []
        shown = [f"the card shows as an example: “{'” and “'.join(example.values())}”" for example in widget]
        return folder, [*shown, *(str(check) for check in check_published(folder))]

    def _free(self, name: str) -> str:
        names = (name if number == 1 else f"{name}-{number}" for number in range(1, 10**6))
        taken = lambda one: any((self.folder / f"{one}{end}").exists() for end in ("", ".yaml", "-data"))  # noqa: E731
        return next(one for one in names if not taken(one))


def make_studio(folder: Path) -> gr.Blocks:
    """The page.

    Args:
        folder: Where what is uploaded, trained and published here lies.
    """
    studio = Studio(folder)
    with gr.Blocks(title="Trefoil", analytics_enabled=False) as page:
        gr.Markdown(f"# Train a model\nAll that is made here lies in `{studio.folder}`.")
        gr.Markdown("## 1 · Data")
        files = gr.File(
            label="A table or text file; or one for each split: train, validation, test", file_count="multiple"
        )
        with gr.Row():
            choices = [(f"{name.replace('-', ' ')}: {', '.join(TASKS[name].roles)}", name) for name in AS_UPLOADED]
            task = gr.Dropdown(
                choices, value="text-classification", label="Task, and what it wants of the data", min_width=320
            )
            minutes = gr.Slider(1, 240, value=5, step=1, label="Minutes to train")
        look = gr.Button("Look at the data", variant="primary")
        notes, rows = gr.Markdown(), gr.Dataframe(visible=False, interactive=False, wrap=True, label="First rows")
        gr.Markdown("## 2 · Training")
        recipe = gr.Code(language="yaml", label="Recipe, which may be changed", lines=6, max_lines=30, wrap_lines=True)
        with gr.Row():
            train = gr.Button("Train", variant="primary")
            stop = gr.Button("Stop")
        status = gr.Markdown()
        with gr.Row():
            losses = gr.LinePlot(
                x="step", y="value", color="of", title="Loss", x_title="optimiser step", y_title=LOSS_UNIT,
                color_title="loss of", color_map={"training": TRAINING, "validation": VALIDATION}, visible=False,
            )  # fmt: skip
            scores = gr.LinePlot(x="step", y="value", x_title="optimiser step", visible=False)
        said = gr.Textbox(label="What it says", lines=4, max_lines=SHOWN_LINES, visible=False)
        gr.Markdown("## 3 · Trying")
        ended, trained = gr.State(), gr.State()

        @gr.render(inputs=[trained])
        def trying(model: tuple[str, int] | None) -> None:
            if model is None:
                gr.Markdown("When a model is trained, it is tried here.")
                return
            run, _ = model
            with for_page(run) as found:
                loaded = load_model(*found)
            place_model(run, *loaded, level=3)

        gr.Markdown("## 4 · Publishing")
        with gr.Row():
            target = gr.Textbox("published", label="Folder")
            title = gr.Textbox(label="Title", placeholder="the folder's name")
            license = gr.Textbox(label="License", placeholder="apache-2.0, cc-by-4.0 …")
        button, published = gr.Button("Publish"), gr.Markdown()

        def looked(files: list[str] | None, task: str, minutes: float) -> tuple[Any, ...]:
            if not files:
                raise refusal("Choose a file first.")
            text, first, found = _refusing(studio.look, files, task, minutes)
            return text, gr.Dataframe(first, visible=True), found

        def progress(seen: int | None) -> tuple[Any, ...]:
            return progress_of(studio.training, seen)

        def publishing(target: str, title: str, license: str) -> str:
            folder, checks = _refusing(studio.publish, target, title, license)
            return "\n".join([f"Published in `{folder}`:", "", *(f"- {plain(check)}" for check in checks)])

        look.click(looked, [files, task, minutes], [recipe, rows, notes], api_name="look")
        train.click(lambda text: _refusing(studio.train, text), recipe, api_name="train")
        stop.click(studio.stop, api_name="stop")
        button.click(publishing, [target, title, license], published, api_name="publish")
        shown = [status, losses, scores, said, ended, trained]
        gr.Timer(EVERY).tick(progress, ended, shown, show_progress="hidden", api_name="progress")
    return page


@contextmanager
def for_page(name: str) -> Iterator[tuple[Path | str, Mapping[str, Any] | None]]:
    """What a page loads a model from, an adapter merged into its base, and what a card would say of a run, which has none.

    Args:
        name: A run's folder, a published one, or a Hub id.

    Raises:
        UserError: There is no model, or what lies beside it cannot be read.
    """
    with whole_model(model_folder(name)) as model:
        metadata = None
        if isinstance(model, Path) and ModelFolder(model).recipe.is_file() and not (model / "README.md").is_file():
            metadata = metadata_of_run(model, title=Path(name).resolve().name)
        yield model, metadata


def progress_of(training: Training | None, seen: int | None) -> tuple[Any, ...]:
    """What the page shows of a training: its state, losses, scores, last lines; once it has ended its number and, where there
    is a model to try, the run with the number. Nothing new once that was seen.

    Args:
        seen: The number of the training whose end is shown already.
    """
    if training is None:
        return ("Nothing is trained yet.", *[gr.skip()] * 5)
    if training.number == seen:
        return (gr.skip(),) * 6
    has_ended = not training.is_running  # asked before its files are read
    entries, lines = read_log(training.run.log), training.said
    points = [
        {"step": entry["step"], "value": entry[key], "of": of}
        for key, of in (("loss", "training"), ("validation_loss", "validation"))
        for entry in entries
        if key in entry
    ]
    key = f"validation_{training.metric}"
    scores = [{"step": entry["step"], "value": entry[key]} for entry in entries if key in entry]
    name = name_of(training.metric)
    state, ended, trained = "**Training** …", gr.skip(), gr.skip()
    if has_ended:
        best, last = training.run.best, next(iter(lines[::-1]), "without a word")
        found = f"**Done**: {plain(shown_scores(best.read_results(), training.metric))}"
        state, ended = f"**Stopped**: {plain(last)}" if training.process.returncode else found, training.number
        trained = (str(training.run.path), training.number) if best.holds_model else gr.skip()
    return (
        state,
        gr.LinePlot(pd.DataFrame(points), visible=True) if points else gr.LinePlot(visible=False),
        gr.LinePlot(pd.DataFrame(scores), visible=True, title=f"Validation {name}", y_title=name)
        if scores
        else gr.LinePlot(visible=False),
        gr.Textbox("\n".join(lines[-SHOWN_LINES:]), visible=True),
        ended,
        trained,
    )


def _refusing(action: Any, *values: Any) -> Any:
    try:
        return action(*values)
    except UserError as error:
        raise refusal(str(error)) from None


def _said(recipe: Path) -> Path:
    return recipe.with_suffix(".log")


def _cell(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
