"""What makes a published folder run as a Hub Space: the page to try the model on, and what the Hub must know of it."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..recipes.schema import load_recipe
from ..training.run_folder import ModelFolder
from .bundle import PACKAGE, flat_module, flat_modules, head_of, read_source
from .card import CardFields, fields_with_recipe
from .folders import classes_of, config_file, load_tokenizer
from .uses import example_of_row, find_use, widget_of

APP = "app.py"
GRADIO_VERSION = "6.31.0"  # the one that is tested; the Hub installs it
PYTHON_VERSION = "3.11"
REQUIREMENTS = ("torch>=2.11", "transformers>=5.17,<6", "safetensors>=0.8")
SENTENCEPIECE = "sentencepiece>=0.2"  # what tokenizers need whose files end in these
SENTENCEPIECE_FILES = ("*.spm", "*.model")

PREFIXES = {"visualization": "visualization_"}
PAGE_ENDINGS = (".js", ".css")  # of files that lie beside a module and have its name


def space_fields(title: str) -> dict[str, Any]:
    """What the head of a Space's `README.md` says beside what every card does."""
    return {
        "title": title,
        "emoji": "☘️",
        "colorFrom": "green",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": GRADIO_VERSION,
        "python_version": PYTHON_VERSION,
        "app_file": APP,
    }


def require_page(source: Path, auto_class: str, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Checks that `app.py` will have something to show.

    Args:
        source: Where the model comes from.
        auto_class: The Auto class that loads it.
        tokenizer: Its own, if it has one.

    Raises:
        UserError: It will not.
    """
    missing = None
    if auto_class == "AutoModel":
        missing = "a model with a head, such as one fine-tuned for a task"
    elif tokenizer is None:
        missing = "a tokenizer beside the weights"
    elif auto_class == "AutoModelForMaskedLM" and tokenizer.mask_token is None:
        missing = "a tokenizer with a mask token"
    if missing is not None:
        raise UserError(f"{source}: a Space needs {missing}; publish this model without --space")


def space_files(folder: Path | None = None) -> dict[str, bytes]:
    """The files that a Space needs beside those of the model: name → content.

    The code is the package's own, only its imports rewritten: `visualization/app.py` becomes `app.py`, which runs as a
    script, and what it imports `visualization_*.py` beside it, with the scripts and styles of the page.

    Args:
        folder: Has the tokenizer, which may need a package more.
    """
    has_sentencepiece = folder is not None and any(any(folder.glob(pattern)) for pattern in SENTENCEPIECE_FILES)
    requirements = [*REQUIREMENTS, *([SENTENCEPIECE] if has_sentencepiece else [])]
    files: dict[str, bytes] = {"requirements.txt": "".join(f"{line}\n" for line in requirements).encode()}
    for module, text in flat_modules([f"{PACKAGE}.visualization.app"], PREFIXES, are_beside="").items():
        flat_name = flat_module(module, PREFIXES)
        files[APP if module.endswith(".app") else f"{flat_name}.py"] = text.encode()
        for ending in PAGE_ENDINGS:
            with suppress(FileNotFoundError):
                files[f"{flat_name}{ending}"] = read_source(module, ending)
    return dict(sorted(files.items()))


def metadata_of_run(folder: Path, title: str) -> dict[str, Any]:
    """What a card would say of how to try a run's model: as `trefoil.visualization.app.make_page` takes it.

    Args:
        folder: Has the model, its tokenizer and `recipe.yaml`.
        title: What the model is called.

    Raises:
        UserError: Something there cannot be read.
    """
    _, model_class = classes_of(folder)
    recipe = load_recipe(folder / "recipe.yaml")
    config = AutoConfig.from_pretrained(config_file(folder), trust_remote_code=False)
    use = find_use(head_of(model_class), config, None, recipe)
    language = next(iter(fields_with_recipe(CardFields(), recipe).language), None)
    mask_token = getattr(load_tokenizer(folder), "mask_token", None)
    first, second = example_of_row(use, ModelFolder(folder).read_example()) or (None, None)
    return {"title": title, "pipeline_tag": use.task} | widget_of(use, language, first, second, mask_token)
