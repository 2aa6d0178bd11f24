"""Recipes: everything that a run depends on, as one typed tree, read from YAML and overridable on the command line."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from ..configuration.errors import UserError
from ..configuration.presets import PRESETS
from .reading import read_mapping, write_yaml
from .settings import Settings, build, name_of_a, nearest, not_negative, positive, share, that

__all__ = ["Recipe", "build", "load_recipe", "nearest", "validate"]


# of transformers, those that ask for nothing but the step; a list, so that a recipe is checked before that is imported
SCHEDULES = [
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
    "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay",
]  # fmt: skip


def is_encoding(name: str) -> bool:
    try:
        return "".encode(name) is not None  # of text, which not all are that Python knows
    except LookupError:
        return False


STREAM_KEYS = ("streaming", "shuffle_buffer")  # of data, which say nothing where it is no stream
LORA_KEYS = ("r", "alpha", "dropout")  # of adapter, which IA3 has not
ON_HUB, FOLDER = "on the Hub or a folder", "a folder"


def source_names(sources: Sequence["SourceRecipe"]) -> list[str]:
    """What sources are called in messages, in the log and in results: as their last folder or file is, each by another name."""
    names: list[str] = []
    for source in sources:
        name = str(source.name) if source.path is None else Path(source.path).name
        same = sum(other.split(" #")[0] == name for other in names)
        names.append(f"{name} #{same + 1}" if same else name)
    return names


def is_place(one: dataclasses.Field) -> str | None:
    """Whether a field says where something lies, ON_HUB or as a FOLDER."""
    return one.metadata.get("place")


@strict
@dataclass
class SourceRecipe(Settings):
    """One of what the training rows are joined of, or a stream is mixed of."""

    name: str | None = field(default=None, metadata={"place": ON_HUB})  # a data set on the Hub
    config: str | None = None
    revision: str | None = None
    # a file, or a folder with those of the split: train.jsonl … Of a stream also a pattern such as corpus/*.jsonl.gz, and
    # several files of a split, train-0001.jsonl …
    path: str | None = field(default=None, metadata={"place": FOLDER})
    split: str = "train"
    weight: float = positive(1.0)  # of a stream: its share of the rows, of the sum of all weights
    columns: dict[str, str] = field(default_factory=dict)  # where they have other names than data.columns says
    # of text to text: bt puts <bt> before each source, by which a model knows texts that were translated back (Caswell et al.
    # 2019)
    tag: str | None = that(lambda tag: re.fullmatch(r"[\w-]+", tag) is not None, "must be one word")
    directions: list[list[str]] | None = (
        None  # of translation: those of options.directions that it is for; default: all
    )


@strict
@dataclass
class SplitRecipe(Settings):
    """Which shares of the rows to train on are the splits that have no rows of their own; by what the rows hold and the seed,
    whatever their order."""

    validation: float | None = share()
    test: float | None = share()
    stratify: str | None = None  # a column of whose values all have like shares; default: the label, where there is one
    group: str | None = None  # a column whose values are not divided between splits: a speaker, a document


@strict
@dataclass
class DataRecipe(Settings):
    """Where the examples come from: `embedded`, or `path`, or `name` where no path is given."""

    name: str | None = field(default=None, metadata={"place": ON_HUB})  # a data set on the Hub
    config: str | None = None  # its configuration
    revision: str | None = None
    # a folder with a file for each split: JSON lines, CSV, TSV, Excel, Parquet, CoNLL, TMX, text, also gzipped
    path: str | None = field(default=None, metadata={"place": FOLDER})
    embedded: bool = False  # the data set that the package generates
    embedded_sizes: dict[str, int] | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    test_split: str | None = "test"  # of each split a part can be taken: train[:90%], train[90%:]
    split: SplitRecipe = field(default_factory=SplitRecipe)  # cuts the two from the train split, or from the one file
    columns: dict[str, str] = field(default_factory=dict)  # what the task wants: the column's name, where it is another
    # of CSV and TSV, default: what a file is found to have, which is said where it is not the usual
    delimiter: str | None = that(
        lambda value: len(value) == 1 and value not in '"\r\n',
        'must be one character, such as ";" or, in quotes, "\\t"',
    )
    encoding: str | None = that(is_encoding, "is no encoding; utf-8, utf-16, cp1252 and cp949 are")  # also of text
    header: list[str] | None = None  # the names of the columns, where a file does not begin with them; also of Excel
    max_train_examples: int | None = positive()
    streaming: bool = False  # read training rows as they are needed, from files row by row or from the Hub
    # of the training rows; default: the train split of path or name. Where these are not given, the rows for validation and
    # test are joined of the sources that have such a split
    sources: list[SourceRecipe] = field(default_factory=list)
    shuffle_buffer: int = positive(10_000)  # rows of a stream that are read, shuffled and packed together
    invalid_examples: Literal["error", "skip"] = "error"  # empty texts, unknown labels, texts that are too long

    @property
    def shares(self) -> dict[str, float]:
        """Of the splits that are cut from the rows to train on: the name of each, and its share of them."""
        names = {"validation": self.validation_split, "test": self.test_split}
        return {str(name): part for kind, name in names.items() if (part := getattr(self.split, kind))}

    @property
    def is_joined(self) -> bool:
        """Whether the rows for validation and test come from the sources."""
        return self.name is None and self.path is None and bool(self.sources)


@strict
@dataclass
class TokenizerRecipe(Settings):
    # a folder or Hub id to take the tokenizer from; else one is trained on the train split
    path: str | None = field(default=None, metadata={"place": ON_HUB})
    kind: Literal["byte_bpe", "wordpiece", "unigram", "characters"] = "byte_bpe"
    vocab_size: int = positive(8000)  # of characters: at most
    lowercase: bool = False
    min_frequency: int = positive(2)  # of a token; not of unigram's, nor of characters
    special_tokens: list[str] | None = (
        None  # beside those of the task, for what the model is to learn later: <2ko>, <bt>
    )
    stream_examples: int = positive(20_000)  # of a stream: the first so many rows, on which it is trained


@strict
@dataclass
class ModelRecipe(Settings):
    preset: str | None = name_of_a("preset", lambda: list(PRESETS))  # to start from nothing
    init_from: str | dict[str, str] | None = that(
        lambda place: isinstance(place, str) or place.keys() == {"encoder", "decoder"},
        "must name one encoder and one decoder, or be the place of one model",
        place=ON_HUB,
    )  # to start from weights: a folder or Hub id; or one as encoder, one as decoder
    config: dict[str, Any] = field(default_factory=dict)  # fields of the configuration to change
    attn_implementation: str | None = None  # eager, sdpa, flash_attention_2 …; default: transformers' choice


@strict
@dataclass
class AdapterRecipe(Settings):
    """What is trained in place of all weights of `model.init_from`, which stay as they are; see training/adapters.py."""

    kind: Literal["lora", "dora", "ia3"] | None = None  # default: all weights are trained
    r: int = positive(16)  # the rank of an update
    alpha: int = positive(32)  # an update is multiplied by alpha / r
    dropout: float = share(0.05)  # of what an update reads
    # the ends of names of linear layers, or all of them but heads and the output projection
    targets: str | list[str] = that(bool, "must name linear layers, or be all-linear", "all-linear")
    load_in: Literal["int8", "nf4"] | None = None  # of lora: the base in 8 or 4 bits while training; default: as it is


@strict
@dataclass
class BatchRecipe(Settings):
    tokens_per_batch: int = positive(4096)  # padded source and target tokens of one optimiser step, over all processes
    tokens_per_device: int | None = positive()  # at most so many at once on one device; more are accumulated
    max_source_length: int | None = positive()  # of the source or only text, in tokens; default: the model's positions
    max_target_length: int | None = positive()
    truncate: bool = False  # cut what is longer, rather than count it as invalid
    token_dropout: float = share(0.0)  # so many of the source's tokens, others each time, are hidden while training
    workers: int = not_negative(0)  # processes that prepare batches, for each training process


@strict
@dataclass
class OptimizationRecipe(Settings):
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = positive(1e-3)
    weight_decay: float = not_negative(0.01)
    beta1: float = share(0.9)
    beta2: float = share(0.98)
    epsilon: float = not_negative(1e-9)
    schedule: str = name_of_a(
        "schedule", lambda: SCHEDULES, "inverse_sqrt"
    )  # a name that transformers.get_scheduler knows
    schedule_options: dict[str, Any] = field(default_factory=dict)
    warmup_steps: int | None = not_negative()  # default: 400, or a tenth of a run that is shorter than ten times that
    max_grad_norm: float | None = positive(1.0)
    label_smoothing: float = share(0.0)
    z_loss: float = not_negative(0.0)  # of tokens' logits: 1e-4 keeps them from drifting


@strict
@dataclass
class TrainingRecipe(Settings):
    max_steps: int | None = positive()  # at least one of the first three
    max_epochs: int | None = positive()
    max_minutes: float | None = positive()  # of training, over all resumptions; evaluation not counted
    # default: the launcher's, without one no; auto: the launcher's, without one bf16 where the device is made for it
    mixed_precision: Literal["no", "auto", "tf32", "bf16", "fp16", "fp8"] | None = None
    # false: layers keep what they compute for the backward pass; true: they compute it again; or as many as the GB ask for
    gradient_checkpointing: bool | float = that(
        lambda value: isinstance(value, bool) or 0 < value < math.inf,
        "must be true, false, or the GB of activations to keep",
        False,
    )
    compile: bool = False
    log_every: int = positive(10)
    # steps; default: ten times in a run, by whichever of the first three ends it, and at most 500 steps apart
    evaluate_every: int | None = positive()
    save_every: int | None = positive()  # steps; default, without save_minutes: when it is evaluated
    save_minutes: float | None = positive()  # of training
    keep_every: int | None = positive()  # checkpoints of steps that it divides stay for good; of others the newest two
    # a step is left out where its loss is not finite, or so many standard deviations above the mean of the last 128
    max_loss_sigmas: float | None = positive(6.0)  # and one nat at least; null: however high it is
    max_skipped_steps: int = not_negative(10)  # of the last 128; one more ends the run
    patience: int | None = positive()  # stop after so many evaluations without a better metric
    average_checkpoints: int = positive(1)  # average the weights of the last so many saved checkpoints
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])


@strict
@dataclass
class EvaluationRecipe(Settings):
    metric: str | None = None  # by which the best model is chosen; default: the task's first
    max_examples: int | None = positive()  # of the validation split, while training
    tokens_per_batch: int = positive(8192)
    num_beams: int = positive(5)  # for the final evaluation and in the published generation config
    num_beams_while_training: int = positive(1)
    length_penalty: float = 1.0
    max_new_tokens: int | None = positive()  # default: the model's positions


# what other trainers call the keys
OTHER_NAMES = {
    "batch_size": "batches.tokens_per_batch", "train_batch_size": "batches.tokens_per_batch",
    "per_device_train_batch_size": "batches.tokens_per_device", "gradient_accumulation_steps": "batches.tokens_per_device",
    "max_length": "batches.max_source_length", "max_seq_length": "batches.max_source_length",
    "lr": "optimization.learning_rate", "warmup": "optimization.warmup_steps", "lr_scheduler_type": "optimization.schedule",
    "scheduler": "optimization.schedule", "label_smoothing_factor": "optimization.label_smoothing",
    "epochs": "training.max_epochs", "num_epochs": "training.max_epochs", "num_train_epochs": "training.max_epochs",
    "steps": "training.max_steps", "minutes": "training.max_minutes", "early_stopping": "training.patience",
    "fp16": "training.mixed_precision", "bf16": "training.mixed_precision", "precision": "training.mixed_precision",
    "eval_steps": "training.evaluate_every", "save_steps": "training.save_every", "logging_steps": "training.log_every",
    "beams": "evaluation.num_beams", "dropout": "model.config.hidden_dropout", "hidden_dropout": "model.config.hidden_dropout",
    "hidden_size": "model.config.hidden_size", "num_hidden_layers": "model.config.num_hidden_layers",
    "lora": "adapter.kind", "lora_r": "adapter.r", "lora_alpha": "adapter.alpha", "lora_dropout": "adapter.dropout",
    "rank": "adapter.r", "target_modules": "adapter.targets", "load_in_8bit": "adapter.load_in", "load_in_4bit": "adapter.load_in",
    "sep": "data.delimiter", "separator": "data.delimiter", "labels": "options.names",
}  # fmt: skip


@strict
@dataclass
class Recipe(Settings):
    other_names: ClassVar[dict[str, str]] = OTHER_NAMES
    task: str = "translation"
    options: dict[str, Any] = field(default_factory=dict)  # the task's own, see tasks/
    language: list[str] = field(
        default_factory=list
    )  # for the model card: ISO 639 codes; of translation the source's, then the target's
    seed: int = that(lambda seed: 0 <= seed < 2**32, "must lie in [0, 2**32)", 0)
    output_dir: str = field(default="runs/run", metadata={"place": FOLDER})
    overwrite: bool = False  # delete another or a finished run that output_dir holds
    data: DataRecipe = field(default_factory=DataRecipe)
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    adapter: AdapterRecipe = field(default_factory=AdapterRecipe)
    batches: BatchRecipe = field(default_factory=BatchRecipe)
    optimization: OptimizationRecipe = field(default_factory=OptimizationRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)

    def to_dict(self) -> dict[str, Any]:
        content = dataclasses.asdict(self)
        if not self.data.streaming:
            for key in STREAM_KEYS:
                del content["data"][key]
            if not self.data.sources:
                del content["data"]["sources"]
            del content["tokenizer"]["stream_examples"]
        if self.adapter.kind is None:
            del content["adapter"]
        elif self.adapter.kind == "ia3":
            for key in LORA_KEYS:
                del content["adapter"][key]
        if self.ready_tokenizer() is not None:  # nor do those of a tokenizer to be trained
            content["tokenizer"] = {"path": self.tokenizer.path}
        return content

    def to_yaml(self) -> str:
        return write_yaml(self.to_dict())

    def ready_tokenizer(self) -> str | None:
        """The key that says where a tokenizer comes from that is trained already."""
        keys = {"tokenizer.path": self.tokenizer.path, "model.init_from": self.model.init_from}
        return next((key for key, place in keys.items() if place is not None), None)


def load_recipe(path: str | PathLike | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file, the name of a recipe that comes with the package, or what such a file would say.
        overrides: `key.sub=value`, the value in YAML.

    Raises:
        UserError: An unreadable file, an unknown key (with the nearest right one), a value of a wrong type or range,
            keys that do not go together.
    """
    content, where = read_mapping(path, overrides)
    recipe = build(Recipe, content, where)
    validate(recipe, where)
    return recipe


def validate(recipe: Recipe, where: str) -> None:
    """What no field says alone: which keys are needed, and which exclude each other.

    Raises:
        UserError: Names the file and, of each mistake in a line, the keys and what would be right.
    """
    if mistakes := [*_mistakes(recipe)]:
        raise UserError("\n".join(f"{where}: {mistake}" for mistake in mistakes))


def _mistakes(recipe: Recipe) -> Iterator[str]:
    data, model, training = recipe.data, recipe.model, recipe.training
    places = [name for name in ("name", "path", "sources", "embedded") if getattr(data, name)]
    if not places:
        yield (
            "data needs one of name (a Hub data set), path (local files), sources (several of them) or embedded: true"
        )
    yield from _mistakes_of_split(data)
    yield from _mistakes_of_stream(data, training)
    if len(places) > 1 and data.embedded:
        yield (f"data.embedded excludes data.{places[0]}; set one of them")
    for number, source in enumerate(data.sources):
        if (source.name is None) == (source.path is None):
            yield (f"data.sources[{number}] needs one of name (a Hub data set) and path (local files)")
        if source.weight != 1 and not data.streaming:
            yield (
                f"data.sources[{number}].weight is for a stream, and joined rows all come once in an epoch; set "
                "data.streaming=true, or leave it out"
            )
    if training.max_steps is None and training.max_epochs is None and training.max_minutes is None:
        yield ("training needs max_steps, max_epochs or max_minutes, or it would never end")
    if model.preset is None and model.init_from is None:
        yield ("model needs preset (to start from nothing) or init_from (to start from weights)")
    if model.preset is not None and model.init_from is not None:
        yield (
            f"model.preset={model.preset!r} starts from nothing and model.init_from={model.init_from!r} from "
            "weights; set one of them (on the command line model.preset=null)"
        )
    yield from _mistakes_of_adapter(recipe)
    tokenizer = recipe.tokenizer
    if (bringer := recipe.ready_tokenizer()) and (idle := sorted(tokenizer.given - {"path"})):
        kept = "" if tokenizer.path is None else f"path: {tokenizer.path}"
        yield (
            f"tokenizer.{idle[0]}={getattr(tokenizer, idle[0])!r} does nothing, because {bringer} brings a tokenizer; "
            f"leave it out (on the command line tokenizer='{{{kept}}}')"
        )


def _mistakes_of_adapter(recipe: Recipe) -> Iterator[str]:
    adapter, source = recipe.adapter, recipe.model.init_from
    if adapter.kind is None:
        if idle := sorted(adapter.given - {"kind"}):
            yield (
                f"adapter.{idle[0]}={getattr(adapter, idle[0])!r} does nothing without a kind; set adapter.kind=lora"
            )
        return
    if source is None:
        yield (
            f"adapter.kind={adapter.kind!r} is added to weights that are trained already; set model.init_from to their "
            "place (on the command line model.preset=null)"
        )
    elif not isinstance(source, str):
        yield (
            f"adapter.kind={adapter.kind!r} is added to one model, and model.init_from joins two; join them in a run "
            "without an adapter, and start from that"
        )
    if adapter.load_in is not None:
        if adapter.kind != "lora":
            yield (
                f"adapter.load_in={adapter.load_in!r} is for lora, and not for {adapter.kind}; set adapter.kind=lora, or "
                "leave it out"
            )
        if recipe.training.compile:
            yield (f"adapter.load_in={adapter.load_in!r} is not compiled; set training.compile=false")
    if adapter.kind != "ia3":
        return
    if idle := sorted(adapter.given & {*LORA_KEYS}):
        yield (
            f"adapter.{idle[0]}={getattr(adapter, idle[0])!r} is of lora and dora; with adapter.kind=ia3 leave it out"
        )
    if recipe.optimization.optimizer == "muon":
        yield (
            "optimization.optimizer='muon' is for matrices, and ia3 trains vectors; set optimization.optimizer=adamw"
        )


def _mistakes_of_split(data: DataRecipe) -> Iterator[str]:
    if not data.shares:
        if idle := [key for key in ("group", "stratify") if getattr(data.split, key) is not None]:
            yield (f"data.split.{idle[0]} does nothing without a share; set data.split.validation=0.1")
        return
    if sum(data.shares.values()) >= 1:
        yield ("data.split leaves nothing to train on; the shares must come to less than 1")
    if data.split.test and data.test_split is None:
        yield (f"data.split.test={data.split.test} and data.test_split=null; set one of them")
    if data.streaming or data.sources:
        what = "sources" if data.sources else "streaming"
        yield (f"data.split is for rows of one place that ends, not for data.{what}; leave it out")
    if data.train_split.endswith("]"):
        yield (f"data.split cuts a whole split, and {data.train_split!r} is a part; leave one of them out")


def _mistakes_of_stream(data: DataRecipe, training: TrainingRecipe) -> Iterator[str]:
    if not data.streaming:
        if "shuffle_buffer" in data.given:
            yield ("data.shuffle_buffer is for a stream; set data.streaming=true, or leave it out")
        return
    refused = {
        "data.embedded": (data.embedded, "is made in memory"),
        "data.max_train_examples": (data.max_train_examples, "is for data that ends"),
        "training.max_epochs": (training.max_epochs, "counts passes, and a stream has no length"),
    }
    for key, (value, why) in refused.items():
        if value:
            yield (f"{key} {why}; with data.streaming=true leave it out, and set training.max_steps")
    for split in [source.split for source in data.sources] or [data.train_split]:
        if split.endswith("]"):
            yield (f"the split {split!r} is a part, and a stream has no length; name a whole split")
