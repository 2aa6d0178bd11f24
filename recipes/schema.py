"""Recipes: everything that a run depends on, as one typed tree, read from YAML and overridable on the command line."""

import dataclasses
import difflib
import math
import os
import types
import typing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassFieldValidationError

from .. import recipes
from ..configuration.errors import UserError
from ..configuration.presets import PRESETS

ON_HUB, FOLDER = "on the Hub or a folder", "a folder"


def is_place(one: dataclasses.Field) -> str | None:
    """Whether a field says where something lies, ON_HUB or as a FOLDER."""
    return one.metadata.get("place")


@strict
@dataclass
class DataRecipe:
    """Where the examples come from: `embedded`, or `path`, or `name` where no path is given."""

    name: str | None = field(default=None, metadata={"place": ON_HUB})  # a data set on the Hub
    config: str | None = None  # its configuration
    revision: str | None = None
    # a folder with a file for each split: JSON lines, CSV, TSV, Parquet, text, also gzipped
    path: str | None = field(default=None, metadata={"place": FOLDER})
    embedded: bool = False  # the data set that the package generates
    embedded_sizes: dict[str, int] | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    test_split: str | None = "test"  # of each split a part can be taken: train[:90%], train[90%:]
    columns: dict[str, str] = field(default_factory=dict)  # what the task wants: the column's name, where it is another
    max_train_examples: int | None = None
    invalid_examples: Literal["error", "skip"] = "error"  # empty texts, unknown labels, texts that are too long


@strict
@dataclass
class TokenizerRecipe:
    # a folder or Hub id to take the tokenizer from; else one is trained on the train split
    path: str | None = field(default=None, metadata={"place": ON_HUB})
    kind: Literal["byte_bpe", "wordpiece", "unigram", "characters"] = "byte_bpe"
    vocab_size: int = 8000  # of characters: at most
    lowercase: bool = False
    min_frequency: int = 2  # of a token; not of unigram's, nor of characters


@strict
@dataclass
class ModelRecipe:
    preset: str | None = None
    # folder or Hub id with weights; or one as encoder, one as decoder
    init_from: str | dict[str, str] | None = field(default=None, metadata={"place": ON_HUB})
    config: dict[str, Any] = field(default_factory=dict)  # fields of the preset's configuration to change
    attn_implementation: str | None = None  # eager, sdpa, flash_attention_2 …; default: transformers' choice


@strict
@dataclass
class BatchRecipe:
    tokens_per_batch: int = 4096  # padded source and target tokens of one optimiser step, over all processes
    tokens_per_device: int | None = None  # at most so many at once on one device; more are accumulated
    max_source_length: int | None = None  # of the source, or the only text, in tokens; default: the model's positions
    max_target_length: int | None = None
    truncate: bool = False  # cut what is longer, rather than count it as invalid
    workers: int = 0  # processes that prepare batches, for each training process


@strict
@dataclass
class OptimizationRecipe:
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-9
    schedule: str = "inverse_sqrt"  # a name that transformers.get_scheduler knows
    schedule_options: dict[str, Any] = field(default_factory=dict)
    warmup_steps: int = 400
    max_grad_norm: float | None = 1.0
    label_smoothing: float = 0.0


@strict
@dataclass
class TrainingRecipe:
    max_steps: int | None = None  # at least one of the first three
    max_epochs: int | None = None
    max_minutes: float | None = None  # of training, over all resumptions; evaluation not counted
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    compile: bool = False
    log_every: int = 10
    evaluate_every: int = 500
    save_every: int | None = None  # default: evaluate_every
    patience: int | None = None  # stop after so many evaluations without a better metric
    average_checkpoints: int = 1  # average the weights of the last so many saved checkpoints
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])


@strict
@dataclass
class EvaluationRecipe:
    metric: str | None = None  # by which the best model is chosen; default: the task's first
    max_examples: int | None = None  # of the validation split, while training
    tokens_per_batch: int = 8192
    num_beams: int = 5  # for the final evaluation and in the published generation config
    num_beams_while_training: int = 1
    length_penalty: float = 1.0
    max_new_tokens: int | None = None  # default: the model's positions


@strict
@dataclass
class Recipe:
    task: str = "translation"
    options: dict[str, Any] = field(default_factory=dict)  # the task's own, see tasks/
    language: list[str] = field(default_factory=list)  # for the model card: ISO 639 codes
    seed: int = 0
    output_dir: str = field(default="runs/run", metadata={"place": FOLDER})
    overwrite: bool = False  # delete another or a finished run that output_dir holds
    data: DataRecipe = field(default_factory=DataRecipe)
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    batches: BatchRecipe = field(default_factory=BatchRecipe)
    optimization: OptimizationRecipe = field(default_factory=OptimizationRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def save(self, path: Path) -> None:
        aside = path.with_name(f".{path.name}.writing")
        aside.write_text(self.to_yaml(), encoding="utf-8")
        os.replace(aside, path)


def load_recipe(path: str | Path, overrides: typing.Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file, or the name of a recipe that comes with the package.
        overrides: `key.sub=value`, the value in YAML.

    Raises:
        UserError: An unreadable file, an unknown key (with the nearest right one), a value of a wrong type or range.
    """
    path = Path(path)
    packaged = Path(str(resources.files(recipes))) / f"{path.name.removesuffix('.yaml')}.yaml"
    if not path.exists() and len(path.parts) == 1 and packaged.exists():
        path = packaged
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in packaged.parent.glob("*.yaml")))
        raise UserError(f"{path}: no such recipe; give a YAML file or one of {names}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not a recipe; give a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the recipe as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise UserError(f"{path}:{line} not YAML: {getattr(error, 'problem', error)}") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, not a {type(content).__name__}")
    for override in overrides:
        _apply_override(content, override)
    recipe = build(Recipe, content, str(path))
    validate(recipe, str(path))
    return recipe


def _apply_override(content: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"{override!r}: an override is key=value, for example training.max_steps=100")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{override!r}: {text!r} is not a YAML value") from None
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(content, dict):
            break
        if content.get(parent) is None:
            content[parent] = {}
        content = content[parent]
    if not isinstance(content, dict):
        raise UserError(f"{override!r}: {'.'.join(parents)} is a value, it has no keys")
    content[last] = value


def build(kind: Any, content: Any, where: str, prefix: str = "") -> Any:
    """A dataclass from nested mappings, every key and type checked.

    Raises:
        UserError: Names the file, the key and what would be right.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where}: {prefix.rstrip('.') or 'the recipe'} must be a mapping, not {content!r}")
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in content.items():
        if key not in hints:
            raise UserError(f"{where}: unknown key {prefix}{key}{nearest(str(key), list(hints))}")
        hint = hints[key]
        values[key] = (
            build(hint, value, where, f"{prefix}{key}.") if dataclasses.is_dataclass(hint) else _number(value, hint)
        )
    try:
        return kind(**values)
    except StrictDataclassFieldValidationError as error:
        name = getattr(error, "field", None) or str(error).split("'")[1]
        raise UserError(f"{where}: {prefix}{name}={values.get(name)!r} is not {_describe(hints.get(name))}") from None


def _number(value: Any, hint: Any) -> Any:
    """YAML reads 1e-4 as a string, 1 as an integer and no as false; what is wanted says what they are."""
    if value is False and "no" in typing.get_args(hint):
        return "no"  # which YAML reads as false
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in kinds and not isinstance(value, bool):
        if isinstance(value, int):
            return float(value)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                return value
    return value


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    return "of type " + (getattr(hint, "__name__", None) or str(hint)) if isinstance(hint, type) else f"{hint}"


def nearest(key: str, names: typing.Sequence[str]) -> str:
    """The end of a message about an unknown name: the one that was meant, or all that there are."""
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"


def validate(recipe: Recipe, where: str) -> None:
    """What types cannot say.

    Raises:
        UserError: Names the file, the key, its value and what would be right.
    """

    def refuse(key: str, value: Any, right: str) -> None:
        raise UserError(f"{where}: {key}={value!r} {right}")

    data = recipe.data
    sources = [name for name in ("name", "path", "embedded") if getattr(data, name)]
    if not sources:
        raise UserError(f"{where}: data needs one of name (a Hub data set), path (local files) or embedded: true")
    if len(sources) > 1 and "embedded" in sources:
        raise UserError(f"{where}: data.embedded excludes data.{sources[0]}; set one of them")
    training = recipe.training
    if training.max_steps is None and training.max_epochs is None and training.max_minutes is None:
        raise UserError(f"{where}: training needs max_steps, max_epochs or max_minutes, or it would never end")
    preset = recipe.model.preset
    if preset is None and recipe.model.init_from is None:
        raise UserError(f"{where}: model needs preset (to start from nothing) or init_from (to start from weights)")
    if preset is not None and preset not in PRESETS:
        refuse("model.preset", preset, f"is no preset{nearest(preset, list(PRESETS))}")
    source = recipe.model.init_from
    if isinstance(source, dict) and source.keys() != {"encoder", "decoder"}:
        refuse("model.init_from", source, "must name one encoder and one decoder, or be the place of one model")
    positive = {
        "training": ("max_steps", "max_epochs", "max_minutes", "log_every", "evaluate_every", "save_every", "patience",
                     "average_checkpoints"),
        "batches": ("tokens_per_batch", "tokens_per_device", "max_source_length", "max_target_length"),
        "optimization": ("learning_rate", "max_grad_norm"),
        "evaluation": ("max_examples", "tokens_per_batch", "num_beams", "num_beams_while_training", "max_new_tokens"),
        "tokenizer": ("vocab_size", "min_frequency"),
        "data": ("max_train_examples",),
    }  # fmt: skip
    for section, keys in positive.items():
        for key in keys:
            value = getattr(getattr(recipe, section), key)
            if value is not None and not 0 < value < math.inf:
                refuse(f"{section}.{key}", value, "must be positive")
    optimization = recipe.optimization
    for key in ("weight_decay", "epsilon", "warmup_steps"):
        if not 0 <= getattr(optimization, key) < math.inf:
            refuse(f"optimization.{key}", getattr(optimization, key), "must not be negative")
    if recipe.batches.workers < 0:
        refuse("batches.workers", recipe.batches.workers, "must not be negative")
    if not 0 <= recipe.seed < 2**32:
        refuse("seed", recipe.seed, "must lie in [0, 2**32)")
    if not 0 <= optimization.label_smoothing < 1:
        refuse("optimization.label_smoothing", optimization.label_smoothing, "must lie in [0, 1)")
    for key in ("beta1", "beta2"):
        if not 0 <= getattr(optimization, key) < 1:
            refuse(f"optimization.{key}", getattr(optimization, key), "must lie in [0, 1)")
    from transformers.trainer_utils import SchedulerType

    schedules = [kind.value for kind in SchedulerType if kind.value not in ("reduce_lr_on_plateau", "greedy")]
    if optimization.schedule not in schedules:
        refuse(
            "optimization.schedule",
            optimization.schedule,
            f"is no schedule{nearest(optimization.schedule, schedules)}",
        )
