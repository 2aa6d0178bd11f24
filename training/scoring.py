"""Any language model as a scorer of sentences: of a run, published, or stock without a recipe."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from ..configuration.errors import UserError, reason
from ..data.tokenizer import load_tokenizer
from ..data.whole_files import write_file
from ..recipes.reading import override_mapping
from ..recipes.schema import Recipe, build, load_recipe
from ..tasks import CAUSAL_LM, MASKED_LM, TASKS
from ..tasks.language_modeling import LanguageModelPreprocessor
from ..tasks.minimal_pairs import SENTENCES, accuracies, load_pairs, score_pairs
from ..tasks.sentence_scorer import SentenceScorer
from .measured import require_own_file
from .models import LOADING_ERRORS, Told, tasks_of
from .nodes import in_turns
from .run import load_model, make_accelerator, make_reader
from .run_folder import ModelFolder


def evaluate_minimal_pairs(
    folder: Path | str, file: Path, overrides: Sequence[str] = (), predictions: str | None = None
) -> dict[str, Any]:
    """How often a language model finds the good sentence of a pair likelier than the bad one, in percent.

    Args:
        folder: A folder with a model and its tokenizer, or a Hub id.
        file: Pairs, as `load_pairs` reads them.
        overrides: `key.sub=value` for the recipe; `data.columns` names the file's columns.
        predictions: A file to write the pairs to, each with the log-likelihoods of its sentences in nats.

    Raises:
        UserError: The model is no language model, a pair cannot be read, or a sentence is too long.
    """
    require_own_file(predictions)
    recipe = recipe_for(folder, overrides)
    names, recipe.data.columns = recipe.data.columns, {}
    accelerator = make_accelerator(recipe)
    pairs = in_turns(accelerator, accelerator.is_local_main_process, lambda: load_pairs(file, names))
    scores = score_pairs(load_scorer(folder, recipe, accelerator), pairs, str(file))
    if predictions is not None and accelerator.is_main_process:
        lines = [
            json.dumps({**pair, "prediction": dict(zip(SENTENCES, values, strict=True))}, ensure_ascii=False) + "\n"
            for pair, values in zip(pairs, scores.tolist(), strict=True)
        ]
        write_file(Path(predictions), "".join(lines))
    return accuracies(scores, pairs)


def recipe_for(folder: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a model, without the columns of its data; where there is none, what its class says.

    Raises:
        UserError: It has neither.
    """
    file = ModelFolder(folder).recipe
    if file.is_file():
        return load_recipe(file, ["data.columns={}", *overrides])
    content: dict[str, Any] = {}
    override_mapping(content, overrides)
    return build(Recipe, {"task": _task_of(folder), **content} if "task" not in content else content, str(folder))


def _task_of(folder: Path | str) -> str:
    config = read_config(folder)
    for task in tasks_of(config):
        if task in (CAUSAL_LM, MASKED_LM):
            return task.name
    raise UserError(
        f"{folder}: has no recipe.yaml, and {' or '.join(config.architectures or ['its config.json'])} is neither a causal nor a "
        "masked language model; say what it was trained for, as in task=denoising options.objective=spans"
    )


def read_config(folder: Path | str) -> PreTrainedConfig:
    """
    Raises:
        UserError: There is none.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise UserError(f"{folder}: no model to load ({reason(error)})") from None


def load_preprocessor(folder: Path | str, recipe: Recipe) -> LanguageModelPreprocessor:
    """What encodes sentences for a model.

    Raises:
        UserError: It is no language model.
    """
    reader, config = make_reader(recipe), read_config(folder)
    if reader.task.scorer is None:
        able = ", ".join(task.name for task in TASKS.values() if task.scorer is not None)
        raise UserError(
            f"{folder}: the task {recipe.task} makes no language model, so sentences have no likelihood; {able} do"
        )
    if config.is_encoder_decoder and config.model_type not in reader.task.families:
        raise UserError(f"{folder}: is a stock {config.model_type}; first run trefoil import {folder} FOLDER")
    told = Told(reader, load_tokenizer(folder), learned={})
    told.tell(config)
    recipe.batches.max_source_length = recipe.batches.max_source_length or told.tokenizer.model_max_length
    return reader.task.preprocessor(reader, told.tokenizer, config)  # type: ignore[return-value]


def load_scorer(folder: Path | str, recipe: Recipe, accelerator: Any) -> SentenceScorer:
    preprocessor = load_preprocessor(folder, recipe)
    told = Told(preprocessor.reader, preprocessor.tokenizer, learned={})
    return told.task.scorer(preprocessor, load_model(folder, told, accelerator), accelerator)  # type: ignore[misc]
