"""The model of a run: from nothing, from a checkpoint of the run, or from weights of another one."""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModel,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.initialization import no_init_weights
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from ..configuration.errors import UserError, reason
from ..configuration.presets import PRESETS, preset_config
from ..data.progress import say
from ..data.tokenizer import load_tokenizer
from ..recipes.schema import Recipe
from ..tasks import TASKS
from ..tasks.preprocessor import Preprocessor, Split, special_token_ids, tell_model, text_configs
from ..tasks.reader import Reader
from ..tasks.task import Task
from .adapters import LOADING_ERRORS, add_adapter
from .run_folder import ModelFolder, best_model
from .strangers import require_loadable, require_memory
from .watch import first_not_finite

# at most so many are compiled: for encoder and decoder, windows or none, each mask or none, one row or more
KINDS_OF_LAYERS = 32


def pretrained_tokenizer(recipe: Recipe, task: Task) -> PreTrainedTokenizerBase | None:
    """The tokenizer that the recipe names, or that of the weights that it starts from; None where it names neither.

    Raises:
        UserError: There is none, or an encoder and a decoder that are to be joined have different ones.
    """
    source = recipe.tokenizer.path or recipe.model.init_from
    if source is None:
        return None
    if isinstance(source, str):
        return load_tokenizer(best_model(source))
    tokenizer, *others = (load_tokenizer(best_model(source[half])) for half in task.text_halves)
    if any(tokenizer.get_vocab() != other.get_vocab() for other in others):
        raise UserError(
            f"model.init_from: the tokenizers of {source['encoder']} and {source['decoder']} differ; train both models "
            "with one (tokenizer.path)"
        )
    return tokenizer


def require_sources(recipe: Recipe) -> None:
    """
    Raises:
        UserError: Weights that the recipe starts from lie in a folder that says what it may not.
    """
    source = recipe.model.init_from
    for place in source.values() if isinstance(source, dict) else [source]:
        folder = Path(best_model(place or ""))
        if place is not None and folder.is_dir():
            require_loadable(folder)


def is_other_tokenizer(tokenizer: PreTrainedTokenizerBase, recipe: Recipe, task: Task) -> bool:
    """Whether the recipe puts another vocabulary in the place of that of the weights that it starts from: what these say of
    token ids is then of other tokens."""
    source = recipe.model.init_from
    if source is None or recipe.tokenizer.path is None:
        return False
    places = [source] if isinstance(source, str) else [source[half] for half in task.text_halves]
    try:
        before = [load_tokenizer(best_model(place)) for place in places]
    except UserError:  # they lie there without a tokenizer, which the recipe names
        return False
    return any(one.get_vocab() != tokenizer.get_vocab() for one in before)


@dataclass(frozen=True)
class Told:
    """What a model is told before it is made.

    Args:
        reader: Of the raw rows, with the recipe and the task.
        tokenizer: Of the texts.
        learned: Fields that the raw training split knows.
    """

    reader: Reader
    tokenizer: PreTrainedTokenizerBase
    learned: dict[str, Any]

    @property
    def task(self) -> Task:
        return self.reader.task

    def tell(self, config: PreTrainedConfig) -> None:
        fields = self.task.preprocessor.model_fields(self.reader, self.tokenizer, config, self.learned)
        tell_model(config, fields)

    def tell_pretrained(self, config: PreTrainedConfig) -> None:
        """The same of a configuration that comes with weights of another run."""
        if is_other_tokenizer(self.tokenizer, self.reader.recipe, self.task):
            tell_model(config, {name: None for name in special_token_ids(config) if hasattr(config, name)})
        self.tell(config)

    def head_is_new(self, config: PreTrainedConfig) -> bool:
        return self.reader.head_is_new(config, self.learned)


def tasks_of(config: PreTrainedConfig) -> list[Task]:
    """The tasks that a model's head is for, by the class that its configuration names; of an encoder-decoder several."""
    names = set(config.architectures or ())
    return [task for task in TASKS.values() if names & _class_names(task.auto_class, type(config))]


def _class_names(auto_class: Any, config_class: type) -> set[str]:
    if not issubclass(auto_class, _BaseAutoModelClass):
        return {auto_class.__name__}
    known = auto_class._model_mapping.get(config_class, None)
    return {kind.__name__ for kind in (known if isinstance(known, tuple) else (known,)) if kind is not None}


def make_model(told: Told, checkpoint: Path | None) -> PreTrainedModel:
    """
    Args:
        checkpoint: Of this run, to go on from.

    Raises:
        UserError: The model does not suit the task or the tokenizer, or the weights do not fit into it.
    """
    recipe = told.reader.recipe
    if checkpoint is not None:
        model = model_of(checkpoint, told, recipe)
        told.tell(model.config)
    elif recipe.model.init_from is not None:
        model, report = _pretrained(recipe, told)
        _say_what_is_new(recipe, report)
    else:
        model = _from_preset(recipe, told)
    _check_token_ids(model.config, told.tokenizer)
    if recipe.training.gradient_checkpointing:
        checkpointed_layers(model)
        model.activation_checkpointing_enable()
    if recipe.training.compile:
        compile_layers(model)
    return model


def compile_layers(model: PreTrainedModel) -> None:
    """Compile each kind of layer once, for batches of every shape. It is done in place, so weights keep their names and
    whatever lays the layers over processes finds them as they were.

    Raises:
        UserError: The model has no such layers.
    """
    layers = _layers(model, "training.compile=true compiles")
    torch._dynamo.config.recompile_limit = max(KINDS_OF_LAYERS, torch._dynamo.config.recompile_limit)
    for layer in layers:
        layer.compile(dynamic=True)


def checkpointed_layers(model: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    """Those that can compute again, for the backward pass, what they do not keep; an encoder's before a decoder's.

    Raises:
        UserError: The model has no such layers.
    """
    return _layers(model, "training.gradient_checkpointing is for")


def _layers(model: PreTrainedModel, wanted: str) -> list[GradientCheckpointingLayer]:
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(
            f"{wanted} the layers of transformers, which a {model.config.model_type} has not; set it to false"
        )
    return layers


def model_of(checkpoint: Path, told: Told, recipe: Recipe) -> PreTrainedModel:
    """The model that a checkpoint is of, its weights not yet read; with adapters, those of its base are.

    Raises:
        UserError: What the checkpoint says of it cannot be read.
    """
    if recipe.adapter.kind is not None:
        return _pretrained(recipe, told)[0]
    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        with no_init_weights():
            model = told.task.auto_class.from_config(config, **_attention(recipe))
        model.tie_weights()  # which is left out with the initialization
        if model.can_generate():
            settings = (checkpoint / "generation_config.json").read_text(encoding="utf-8")
            model.generation_config = GenerationConfig.from_dict(json.loads(settings))
    except LOADING_ERRORS as error:
        raise UserError(f"{checkpoint}: the model does not load: {reason(error)}; delete this folder") from None
    return model


def set_generation(model: PreTrainedModel, preprocessor: Preprocessor, train: Split) -> None:
    """The task's settings, over those that pretrained weights came with, such as words that are never said."""
    if not model.can_generate():
        return
    recipe, task = preprocessor.recipe, preprocessor.reader.task
    wanted = preprocessor.generation_config(model.config, train)
    if recipe.model.init_from is None or is_other_tokenizer(preprocessor.tokenizer, recipe, task):
        model.generation_config = wanted
        return
    settings = copy.deepcopy(model.generation_config)
    settings.max_length = None  # tasks count new tokens
    if not wanted.do_sample:
        settings.do_sample = settings.temperature = settings.top_k = settings.top_p = None
    for name, value in wanted.to_dict().items():
        said = getattr(settings, name, None)
        if value is not None and not (isinstance(said, list) and value in said):  # further ends of a text stay
            setattr(settings, name, value)
    model.generation_config = settings


def _attention(recipe: Recipe) -> dict[str, str]:
    chosen = recipe.model.attn_implementation
    return {} if chosen is None else {"attn_implementation": chosen}


def config_of_preset(recipe: Recipe, task: Task, vocab_size: int) -> PreTrainedConfig:
    """
    Raises:
        UserError: A field that the preset's configuration has not, or a value that it may not have; a preset of another family
            than the task's.
    """
    fields = {"vocab_size": vocab_size, **recipe.model.config}
    require_memory(PRESETS[str(recipe.model.preset)][1] | fields, "model")
    try:
        config = preset_config(str(recipe.model.preset), **fields)
    except (StrictDataclassError, ValueError) as error:
        raise UserError(f"model: {reason(error)}") from None
    _check_family(config, task, f"model.preset={recipe.model.preset!r}")
    return config


def _from_preset(recipe: Recipe, told: Told) -> PreTrainedModel:
    config = config_of_preset(recipe, told.task, len(told.tokenizer))
    told.tell(config)
    try:
        return told.task.auto_class.from_config(config, **_attention(recipe))
    # an attention that is not installed, memory that is not there
    except (ValueError, ImportError, RuntimeError) as error:
        raise UserError(f"model: {reason(error)}") from None


Report = dict[str, set[str]]  # names of weights: those that are new, and those that are not used


def _pretrained(recipe: Recipe, told: Told) -> tuple[PreTrainedModel, Report]:
    source, fields = recipe.model.init_from, dict(recipe.model.config)
    for place in source.values() if isinstance(source, dict) else [source]:
        if ModelFolder(best_model(str(place))).is_adapter:
            raise UserError(
                f"model.init_from={source!r}: {place} is an adapter; trefoil publish {place} FOLDER --merge makes a whole "
                "model of it"
            )
    try:
        if isinstance(source, dict):
            model, report = _joined(source, told, fields)
            if recipe.model.attn_implementation is not None:
                model.set_attn_implementation(recipe.model.attn_implementation)
        else:
            model, report = _loaded(best_model(str(source)), told, fields, _attention(recipe))
    except LOADING_ERRORS as error:
        raise UserError(f"model.init_from={source!r}: {reason(error)}") from None
    if (name := first_not_finite(model.named_parameters())) is not None:
        raise UserError(
            f"model.init_from={source!r}: {name} holds NaN or an infinity; give weights that are all numbers"
        )
    if recipe.adapter.kind is not None:
        add_adapter(model, recipe.adapter, best_model(str(source)), told.task.auto_class, report["new"])
    return model, report


def _say_what_is_new(recipe: Recipe, report: Report) -> None:
    source = recipe.model.init_from
    if report["new"]:
        say(f"new weights, not in {source}: {', '.join(sorted(report['new']))}")
    if report["unused"]:
        say(f"weights of {source} that are not used: {', '.join(sorted(report['unused']))}")


def _loaded(
    source: str, told: Told, fields: dict[str, Any], attention: dict[str, str]
) -> tuple[PreTrainedModel, Report]:
    """The task's model with the weights of `source`, as far as it has them, and which are new and which not used."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    _check_family(config, told.task, f"model.init_from={source!r}")
    _change_fields(config, fields)
    head_is_new = told.head_is_new(config)
    told.tell_pretrained(config)
    auto_class = AutoModel if head_is_new else told.task.auto_class
    loaded, report = auto_class.from_pretrained(
        source,
        config=config,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        trust_remote_code=False,
        **attention,
    )
    _check_sizes(report["mismatched_keys"], source)
    new, unused = set(report["missing_keys"]), set(report["unexpected_keys"])
    if not head_is_new:
        return loaded, {"new": new, "unused": unused}
    model = told.task.auto_class.from_config(config, **attention)
    prefix = f"{model.base_model_prefix}."
    weights = loaded.state_dict()
    pooler = {name: weights.pop(name) for name in [*weights] if name.startswith("pooler.")}
    model.base_model.load_state_dict(weights)
    # a head that has a pooler of its own takes over that of a bare model
    not_taken = set(model.load_state_dict(pooler, strict=False).unexpected_keys)
    taken = pooler.keys() - not_taken - new
    head = {name for name, _ in model.named_parameters() if not name.startswith(prefix)}
    unused |= not_taken - new
    new = {f"{prefix}{name}" for name in new - pooler.keys()} | (head - taken)
    return model, {"new": new, "unused": unused}


def _joined(source: dict[str, str], told: Told, fields: dict[str, Any]) -> tuple[PreTrainedModel, Report]:
    """An encoder-decoder whose halves were trained apart."""
    halves = {half: best_model(folder) for half, folder in source.items()}
    joined_class = told.task.joined_class
    of_both = joined_class.config_class.__dataclass_fields__.keys() - halves.keys()
    model, report = joined_class.from_encoder_decoder_pretrained(
        halves["encoder"],
        halves["decoder"],
        output_loading_info=True,
        **{name: fields.pop(name) for name in of_both & fields.keys()},
    )
    new, unused = set(report["missing_keys"]), set()
    if fields:  # of the halves
        _change_fields(model.config, fields)
        weights, model = model.state_dict(), joined_class(model.config)
        here = model.state_dict()
        sizes = [(name, weights[name].shape, here[name].shape) for name in weights.keys() & here.keys()]
        _check_sizes([size for size in sizes if size[1] != size[2]], source)
        loaded = model.load_state_dict(weights, strict=False)
        new, unused = new | set(loaded.missing_keys), set(loaded.unexpected_keys)
    _check_family(model.config, told.task, f"model.init_from={source!r}")
    told.tell_pretrained(model.config)
    return model, {"new": new, "unused": unused}


def _change_fields(config: PreTrainedConfig, fields: dict[str, Any]) -> None:
    """As with presets: fields of a stack go to both halves of an encoder-decoder."""
    halves = {name: getattr(config, name) for name in config.sub_configs}
    for key, value in fields.items():
        if key in halves:
            _change_fields(halves[key], value)
            continue
        parts = [part for part in (config, *halves.values()) if key in part.__dataclass_fields__]
        if not parts:
            raise ValueError(f"unknown field {key!r} of {type(config).__name__}")
        for part in parts:
            setattr(part, key, value)


def _check_sizes(mismatched: Iterable[tuple], source: str | dict[str, str]) -> None:
    for name, there, here in sorted(mismatched):
        raise UserError(f"model.init_from={source!r}: {name} is {tuple(there)} there, and {tuple(here)} in this model")


def _check_family(config: PreTrainedConfig, task: Task, where: str) -> None:
    if config.model_type in task.families:
        return
    problem = f"{where} is a {config.model_type}; the task {task.name} needs {' or '.join(task.families)}"
    if not config.model_type.startswith("trefoil_"):
        problem += "; trefoil import SOURCE FOLDER makes such a model of many a stock one"
    raise UserError(problem)


def _check_token_ids(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    largest = max(tokenizer.get_vocab().values())
    size = min(part.vocab_size for part in text_configs(config))
    if largest >= size:
        raise UserError(
            f"token id {largest} ({tokenizer.convert_ids_to_tokens(largest)!r}) is out of range: "
            f"the model's vocab_size is {size}; it must be at least {largest + 1}"
        )
