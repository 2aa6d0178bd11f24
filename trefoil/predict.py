"""`trefoil.load`: a model of any task as one object that is called with texts; the command line asks it, too."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .configuration.errors import UserError, reason
from .data.progress import say
from .pipelines.by_length import predict_by_length
from .pipelines.translation import languages_of, with_language
from .recipes.reading import parse_yaml
from .tasks.reader import shortened
from .training.adapters import whole_model
from .training.run_folder import ModelFolder, best_model
from .training.strangers import require_loadable
from .training.watch import first_not_finite
from .visualization.asking import (
    LOADING_ERRORS,
    MODEL_ERRORS,
    SHOWN,
    TASKS,
    Answer,
    TooLongError,
    UnanswerableError,
    ask,
    load_pipe,
    read_card,
)
from .visualization.attention import CROSS, attention_maps

OF_RECIPES = {"denoising": "text-generation"}  # tasks that the Hub calls otherwise, and the model's head does not tell
PICTURES_AT_ONCE = 16


class Predictor:
    """A model and what it takes to ask it.

    Attributes:
        task: As the Hub calls it.
        model: A `PreTrainedModel`.
        tokenizer: Its own.
        pipe: The pipeline of the task.
        name: Where it comes from.
    """

    def __init__(self, task: str, pipe: Any, name: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.task, self.pipe, self.name = task, pipe, name
        self.model, self.tokenizer = pipe.model, pipe.tokenizer
        self.defaults = dict(defaults or {})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, task={self.task!r}, {type(self.model).__name__})"

    def __call__(self, inputs: Any, *, truncate: bool = False, batch_size: int | None = None, **options: Any) -> Any:
        """Answers each of many inputs, those of like length together.

        | task | an input | an answer |
        |---|---|---|
        | `text-classification` | a text, or `{"text": …, "text_pair": …}` | `label`, `score` (its probability); of a model of several labels at once `labels` and `scores`; of a regression `value`, or `values` by their labels |
        | `token-classification` | a text | `entities`: each with `text`, `start`, `end`, `label`, `score`; it is the slice `[start:end]` |
        | `question-answering` | `{"question": …, "context": …}` | `answer`, `score`, `start`, `end`: the slice of the context |
        | `translation` | a text | `translation`; with `scores` also `score`, with `alignments` also `alignment` |
        | `summarization` | a text | `summary`; with `scores` also `score` |
        | `text-generation` | a text, or a conversation: `[{"role": "user", "content": …}, …]` | `generated_text`, without the text |
        | `text2text-generation` | a text with gaps | `generated_text` |
        | `fill-mask` | a text with the mask token | the 5 best `token`, each with `score` and `filled_text` |
        | `image-to-text` | the name of a picture's file, or a `PIL.Image` | `caption` |

        Args:
            inputs: One, or a list of them.
            truncate: Cut a text that is longer than the model reads. Tagging and question answering read long texts in parts.
            batch_size: Inputs at a time. Default: as many of like length as have 2,048 tokens.
            options: `top_k` (labels, answers, tokens), `n_best` (of what is generated, by beam search), and what else
                `trefoil.visualization.asking.TASKS` lists as the task's parameters, such as `max_new_tokens`.

        Returns:
            For one input a dict; for a list of inputs a list of dicts, in their order. Where several answers are asked for,
            a list of dicts, the best first, in place of each. Of a blank text, all is None.

        Raises:
            UserError: An option is none of the task, or an input cannot be answered; names its place.
        """
        is_one = isinstance(inputs, str | os.PathLike | Mapping) or not isinstance(inputs, Sequence) or _is_chat(inputs)
        given = [inputs] if is_one else list(inputs)
        found = self.answers(given, truncate=truncate, batch_size=batch_size, **options)
        answers = [each if self._gives_several(options) else each[0] for each in found]
        return answers[0] if is_one else answers

    def _gives_several(self, options: Mapping[str, Any]) -> bool:
        if "n_best" in TASKS[self.task].parameters:
            return options.get("n_best", 1) != 1
        usual = SHOWN if self.task == "fill-mask" else 1
        return self.task != "text-generation" and options.get("top_k", usual) != 1

    def answers(
        self,
        inputs: Sequence[Any],
        places: Sequence[str] | None = None,
        *,
        truncate: bool = False,
        batch_size: int | None = None,
        streamer: Any = None,
        **options: Any,
    ) -> list[list[Answer]]:
        """As of a call with a list, but always lists of answers.

        Args:
            places: What messages call the inputs.
            streamer: Of transformers; is given the tokens of one text as they are generated.
        """
        alignments = options.pop("alignments", False)
        self.require_options(options, alignments)
        places = [f"inputs[{index}]" for index in range(len(inputs))] if places is None else places
        asked = [index for index, each in enumerate(inputs) if not self.is_blank(each, places[index])]
        fields = TASKS[self.task].fields(self.pipe, "top_k" in options)
        answers: list[list[Answer]] = [[dict.fromkeys(fields)] for _ in inputs]
        way = self._way(batch_size if streamer is None else 1)
        chosen = self.defaults | options | ({} if streamer is None else {"streamer": streamer})
        try:
            found = (
                ask(self.task, self.pipe, [inputs[index] for index in asked], way, truncate, **chosen) if asked else []
            )
        except UnanswerableError as error:
            remedy = ", or let truncate cut it" if isinstance(error, TooLongError) else ""
            raise UserError(f"{places[asked[error.index]]}: {error}{remedy}") from None
        except ValueError as error:
            raise UserError(reason(error)) from None
        except MODEL_ERRORS as error:  # of settings that its files have, such as token ids that there are not
            raise UserError(f"{self.name}: the model cannot answer: {reason(error)}") from None
        for index, each in zip(asked, found, strict=True):
            if _holds_nan(each):
                raise UserError(
                    f"{places[index]}: what {self.name} computes is not a number (nan): its weights hold NaN, or need more precision"
                )
            answers[index] = each
            if alignments:
                for answer in each:
                    answer["alignment"] = self._alignment(
                        places[index], inputs[index], answer["translation"], options.get("tgt_lang")
                    )
        return answers

    def require_options(self, options: Mapping[str, Any], alignments: bool = False) -> None:
        """
        Raises:
            UserError: One is none of the task, or has a value that it cannot have.
        """
        known = TASKS[self.task].parameters
        if alignments and self.task != "translation":
            options = {**options, "alignments": True}
        for name, value in options.items():
            if name not in known:
                raise UserError(f"{name}: is no option of {self.task}; there are {', '.join(sorted(known))}")
            if not known[name](value) and not (name == "top_k" and value is None):
                raise UserError(f"{name}={value!r}: is out of range, or of another kind")
        language = options.get("tgt_lang")
        knows_itself = hasattr(self.tokenizer, "_build_translation_inputs")
        if language is not None and not (languages_of(self.tokenizer) or knows_itself):
            raise UserError(
                f"tgt_lang={language}: this model has no tags for languages, and translates one way; leave it out"
            )

    def is_blank(self, each: Any, place: str) -> bool:
        """Whether there is nothing to answer.

        Raises:
            UserError: It is no input of the task.
        """
        names = TASKS[self.task].inputs
        if isinstance(each, Mapping):
            if missing := [name for name in names if name not in each]:
                raise UserError(f"{place}: there is no {missing[0]!r}; {self.task} needs {' and '.join(names)}")
            texts = list(each.values())
        elif len(names) > 1:
            raise UserError(
                f"{place}: {self.task} needs a dict with {' and '.join(names)}, not {shortened(repr(each))}"
            )
        else:
            texts = [each]
        if self.task == "image-to-text" or (self.task == "text-generation" and isinstance(each, list)):
            return each in ("", None)
        for text in texts:
            if text is not None and not isinstance(text, str):
                raise UserError(f"{place}: {shortened(repr(text))} is not a text")
            if text is not None and any("\udc80" <= character <= "\udcff" for character in text):
                raise UserError(f"{place}: is not UTF-8; convert the text to UTF-8")  # what Python makes of other bytes
        return any(text is None or not text.strip() for text in texts)

    def _way(self, batch_size: int | None) -> Callable[..., list[Any]]:
        if self.task == "image-to-text":
            batch_size = batch_size or PICTURES_AT_ONCE
        elif batch_size is None and self.tokenizer.pad_token_id is not None:
            return predict_by_length
        size = batch_size or 1

        def in_batches(pipe: Any, inputs: list[Any], **options: Any) -> list[Any]:
            found: list[Any] = []
            for start in range(0, len(inputs), size):
                found += pipe(inputs[start : start + size], batch_size=size, **options)
            return found

        return in_batches

    def _alignment(self, place: str, source: str, translation: str, language: str | None) -> str | None:
        """As Pharaoh wrote it: pairs of words, `0-0 1-2`, source and target. None where it cannot be known."""
        if not translation.strip():
            return ""
        try:
            read = with_language(self.tokenizer, source, tgt_lang=language)
            pairs = attention_maps(self.model, self.tokenizer, read, translation)[CROSS].word_alignment()
        except ValueError as error:
            say(f"{place}: no alignment: {reason(error)}")
            return None
        return " ".join(f"{of_source}-{of_target}" for of_source, of_target in pairs)


def load(model: str | os.PathLike, task: str | None = None, trust_remote_code: bool = False) -> Predictor:
    """A model that answers texts: `trefoil.load("runs/my-model")("a text")`.

    Args:
        model: A run's folder, of which the best model is taken, a published one, a stock one, or a Hub id.
        task: As the Hub calls it. Default: what the recipe or the card beside it says, else what such a head usually does.
        trust_remote_code: Let code that lies beside the weights run. The package's own classes need none.

    Raises:
        UserError: There is no such model, it does not load, or does none of the tasks.
    """
    folder = str(model_folder(os.fspath(model)))
    recipe = _recipe_of(folder)
    if task is not None and task not in TASKS:
        raise UserError(f"task={task!r}: unknown; there are {', '.join(TASKS)}")
    of_recipe = str(recipe.get("task") or "")
    said = task or OF_RECIPES.get(of_recipe, of_recipe) or read_card(folder).get("pipeline_tag")
    try:
        with whole_model(folder) as place:
            found, pipe = load_pipe(str(place), said, trust_remote_code)
    except LOADING_ERRORS as error:
        missing = "" if Path(folder).is_dir() else "no such folder, and no Hub id that can be loaded: "
        raise UserError(f"{folder}: {missing}{reason(error)}") from None
    if (name := first_not_finite(pipe.model.named_parameters())) is not None:  # it would write nothing, or anything
        raise UserError(f"{folder}: {name} holds NaN or an infinity, so it can answer nothing; train it anew")
    if task is not None and found != task:
        raise UserError(f"{folder}: the head of the model is for {found}, not for {task}")
    defaults = {}
    if found == of_recipe == "token-classification":
        # what is not the first sub-word of its word may never have been trained
        options = recipe.get("options")
        all_subwords = isinstance(options, dict) and options.get("label_all_subwords")
        defaults = {"aggregation_strategy": "simple" if all_subwords else "first"}
    return Predictor(found, pipe, folder, defaults)


def model_folder(folder: str) -> Path | str:
    """A run's best model, or the folder or Hub id itself.

    Raises:
        UserError: The folder holds no model, or one that could not be loaded.
    """
    best = Path(best_model(folder))
    if not best.is_dir():
        return folder
    if best == Path(folder) and not ModelFolder(best).holds_model:
        raise UserError(f"{folder}: no model; give a run's folder that has best/, or a folder with config.json")
    require_loadable(best)
    return best


def _recipe_of(folder: str) -> dict[str, Any]:
    try:
        content = parse_yaml(ModelFolder(folder).recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _holds_nan(answer: Any) -> bool:
    if isinstance(answer, dict | list):
        return any(_holds_nan(each) for each in (answer.values() if isinstance(answer, dict) else answer))
    return isinstance(answer, float) and math.isnan(answer)


def _is_chat(inputs: Sequence[Any]) -> bool:
    return bool(inputs) and isinstance(inputs[0], Mapping) and {"role", "content"} <= inputs[0].keys()
