"""Stock checkpoints in and out: the same weights under other names, and the same logits, checked each time."""

import copy
import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    WeightTransform,
    rename_source_key,
    revert_weight_conversion,
)

from .. import modeling
from ..configuration.errors import UserError
from ..data.progress import in_steps
from .architectures import ARCHITECTURES, Architecture
from .architectures.architecture import Options
from .folders import (
    check_vocabulary,
    classes_of,
    is_model_folder,
    load_model,
    load_tokenizer,
    model_folder,
    require_room,
    written_aside,
)
from .stock_checkpoint import has_optional_pooler, load_stock, local_folder, some
from .stock_config import compare_fields, compare_options, flat_options, our_config, stock_config

COPIED_BELOW = 10**9  # parameters; larger models of half precision are compared as they are

Weights = dict[str, torch.Tensor]


@dataclass
class Converted:
    """A checkpoint in its other form.

    Attributes:
        model: The model.
        notes: What is not as it was, without changing what the model computes.
        difference: The largest difference between the outputs of both models on a sequence of random tokens.
    """

    model: PreTrainedModel
    notes: list[str]
    difference: float


def import_stock(source: str | os.PathLike, output: str | os.PathLike, *, overwrite: bool = False) -> Converted:
    """Writes a stock checkpoint as a Trefoil model folder, with its head, tokenizer and generation settings.

    Args:
        source: A folder or Hub id of one of `ARCHITECTURES`.
        output: The folder to write; absent or empty.
        overwrite: Replace `output` if it is a model folder.

    Raises:
        UserError: Trefoil cannot express the checkpoint, or its parts do not fit together.
    """
    target = Path(os.path.abspath(output))
    require_room(target, Path(source), overwrite, is_model_folder, "model")
    with in_steps(f"importing {source}", 3) as begin:
        begin("reading the weights")
        folder = local_folder(source)
        stock, notes = load_stock(folder, str(source))
        tokenizer = load_tokenizer(folder)
        check_vocabulary(tokenizer, stock, str(source))
        begin("converting and comparing")
        converted = to_trefoil(stock, str(source))
        converted.notes[:0] = notes
        begin(f"writing {target}")
        _write(converted, tokenizer, target)
    return converted


def export_stock(
    source: str | os.PathLike, output: str | os.PathLike, to: str, *, overwrite: bool = False
) -> Converted:
    """Writes a Trefoil model as a checkpoint of a stock architecture, with its tokenizer and generation settings.

    Args:
        source: A run's folder, or one that `save_pretrained`, `import_stock` or `publish` wrote.
        output: The folder to write; absent or empty.
        to: A key of `ARCHITECTURES`.
        overwrite: Replace `output` if it is a model folder.

    Raises:
        UserError: That architecture cannot express the model; the message says by which option.
    """
    source, target = Path(source), Path(os.path.abspath(output))
    if to not in ARCHITECTURES:
        close = difflib.get_close_matches(to, ARCHITECTURES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"unknown architecture {to!r}{hint}; there are {', '.join(ARCHITECTURES)}")
    require_room(target, source, overwrite, is_model_folder, "model")
    folder = model_folder(source)
    with in_steps(f"exporting {source}", 3) as begin:
        begin("reading the weights")
        model, tokenizer = read_ours(folder)
        begin("converting and comparing")
        converted = to_stock(model, to, str(folder))
        converted.notes += name_unknown(tokenizer, to)
        begin(f"writing {target}")
        _write(converted, tokenizer, target)
    return converted


def read_ours(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """The model of a folder and its tokenizer.

    Raises:
        UserError: There is none, or it does not load.
    """
    _, model_class = classes_of(folder)
    tokenizer = load_tokenizer(folder)
    return load_model(model_class, folder, tokenizer), tokenizer


def name_unknown(tokenizer: PreTrainedTokenizerBase | None, to: str) -> list[str]:
    """Let a tokenizer name an unknown token where tools for a stock architecture want one; notes on that."""
    if tokenizer is None or tokenizer.unk_token is not None or not ARCHITECTURES[to].unknown_token:
        return []
    # as in GPT-2, where no text has unknown tokens either; CTranslate2 reads no such model without one
    tokenizer.unk_token = tokenizer.eos_token
    return [f"the tokenizer has no unknown token; the checkpoint's is {tokenizer.eos_token}"]


def to_trefoil(stock: PreTrainedModel, origin: str = "the model") -> Converted:
    """A stock model as a Trefoil model, which may share its memory.

    Raises:
        UserError: A setting of it has no counterpart; the message names it.
    """
    architecture = ARCHITECTURES[stock.config.model_type]
    classes = {name: ours for ours, (name, _) in architecture.heads.items()}
    model_class = getattr(modeling, classes[type(stock).__name__])
    config = our_config(architecture, stock.config, _seen_in_weights(stock, architecture), origin)
    notes = compare_fields(architecture, stock.config, config, origin)

    weights = trefoil_weights(stock, model_class, config, stock.state_dict())
    model = _fill(model_class, config, weights, stock.dtype, architecture, origin)
    _require_computed(architecture, stock, model, origin)
    if stock.can_generate():
        model.generation_config = copy.deepcopy(stock.generation_config)
    return Converted(model, notes, _difference(model, stock, origin))


def trefoil_weights(
    stock: PreTrainedModel, model_class: type[PreTrainedModel], config: PreTrainedConfig, weights: Weights
) -> Weights:
    """What belongs to the weights of a stock model (they themselves, or their gradients) under our names.

    Args:
        model_class: Ours.
        config: Ours.
        weights: By the stock model's names.
    """
    architecture = ARCHITECTURES[stock.config.model_type]
    prefix = _prefix(architecture, type(stock).__name__)
    weights = {
        prefix + name: weight
        for name, weight in weights.items()
        if not architecture.is_computed(name) and prefix + name not in architecture.duplicates
    }
    weights = _rename(weights, architecture.transforms(model_class.__name__, flat_options(config)), config)
    if _is_bare(model_class.__name__):
        weights = {name.removeprefix("model."): weight for name, weight in weights.items()}
    return weights


def to_stock(model: PreTrainedModel, to: str, origin: str = "the model") -> Converted:
    """A Trefoil model as a model of a stock architecture, which may share its memory.

    Args:
        to: A key of `ARCHITECTURES`.

    Raises:
        UserError: That architecture cannot express the model; the message says by which option.
    """
    architecture, name = ARCHITECTURES[to], type(model).__name__
    if name not in architecture.heads:
        fitting = [one.model_type for one in ARCHITECTURES.values() if name in one.heads]
        where = f"there is one in {', '.join(fitting)}" if fitting else "nor has any other"
        raise UserError(f"{origin}: {to} has no counterpart of {name}; {where}")
    stock_class = getattr(transformers, architecture.heads[name][0])
    options = flat_options(model.config)
    config = stock_config(architecture, stock_class.config_class, model.config, origin)
    notes = compare_options(architecture, model, config, origin)

    weights = dict(model.state_dict())
    if _is_bare(name):
        weights = {key if key.startswith("pooler.") else f"model.{key}": weight for key, weight in weights.items()}
    transforms = architecture.transforms(name, options)
    weights = revert_weight_conversion(SimpleNamespace(_weight_conversions=transforms, config=config), weights)
    with torch.device("meta"):
        expected = stock_class(config).state_dict()
    prefix = _prefix(architecture, stock_class.__name__)
    for copied, original in architecture.duplicates.items():
        if copied.removeprefix(prefix) in expected and original in weights:
            weights[copied] = weights[original].clone()  # what shares memory is written once only
    weights = {key.removeprefix(prefix): weight for key, weight in weights.items()}
    parts = {}
    if has_optional_pooler(stock_class) and not options["add_pooler"]:
        parts["add_pooling_layer"] = False
        notes.append("the model has no pooler; transformers draws one at random wherever it loads the checkpoint")
    # some classes keep a part in float32, which is not what was given
    stock = _fill(stock_class, config, weights, model.dtype, architecture, origin, **parts).to(model.dtype)
    if model.can_generate():
        stock.generation_config = copy.deepcopy(model.generation_config)
    return Converted(stock, notes, _difference(model, stock, origin))


def _seen_in_weights(stock: PreTrainedModel, architecture: Architecture) -> Options:
    """What a configuration does not say, or says wrongly where weights that it calls tied were stored apart."""
    seen: Options = {}
    if type(stock).__name__ == architecture.bare and architecture.family == "encoder":
        seen["add_pooler"] = any(name.startswith("pooler.") for name in stock.state_dict())
    head = stock.get_output_embeddings()
    if stock.config.tie_word_embeddings and head is not None:
        weights = stock.state_dict(keep_vars=True)
        tied = [name for name, weight in weights.items() if weight is head.weight]
        seen["tie_word_embeddings"] = len(tied) > 1
    return seen


def _is_bare(model_class: str) -> bool:
    return model_class.endswith("Model")


def _prefix(architecture: Architecture, stock_class: str) -> str:
    """What the names of a bare stock model's weights lack."""
    return f"{architecture.prefix}." if stock_class == architecture.bare and architecture.prefix else ""


def _rename(weights: Weights, transforms: Sequence[WeightTransform], config: PreTrainedConfig) -> Weights:
    """The way in: names first, then what is done to the weights under their new names."""
    renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
    converters = [one for one in transforms if isinstance(one, WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    steps: dict[str, WeightTransform] = {}
    for name, weight in weights.items():
        new, pattern = rename_source_key(name, renamings, converters)
        fresh = WeightRenaming(name, new) if pattern is None else copy.deepcopy(by_pattern[pattern])
        steps.setdefault(new, fresh).add_tensor(new, name, pattern or name, weight)
    renamed: Weights = {}
    for name, step in steps.items():
        for new, weight in step.convert(name, config=config).items():
            renamed[new] = weight[0] if isinstance(weight, list) else weight
    return renamed


def _fill(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: Weights,
    dtype: torch.dtype,
    architecture: Architecture,
    origin: str,
    **parts: bool,
) -> PreTrainedModel:
    """A model of these weights, all of which it has and which, but for what it computes, are all that it has."""
    model, report = model_class.from_pretrained(
        None, config=config, state_dict=weights, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True,
        **parts,
    )  # fmt: skip
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := sorted(key for key in map(str, report[problem]) if not architecture.is_computed(key)):
            raise UserError(f"{origin}: weights do not fit {model_class.__name__}: {problem[:-5]} {some(keys)}")
    return model


@torch.no_grad()
def _require_computed(architecture: Architecture, stock: PreTrainedModel, model: PreTrainedModel, origin: str) -> None:
    """Raises a UserError where a stock model's positions are not those that its architecture computes."""
    for name, table in stock.state_dict().items():
        if not architecture.is_computed(name):
            continue
        positions = model.get_submodule(name.removesuffix(".weight"))(torch.arange(len(table))[None])[0]
        if not torch.allclose(table.float(), positions, rtol=0, atol=4 * torch.finfo(table.dtype).eps):
            raise UserError(f"{origin}: {name} are not the sinusoids that {architecture.model_type} computes")


@torch.no_grad()
def _difference(model: PreTrainedModel, stock: PreTrainedModel, origin: str) -> float:
    """The largest difference between the outputs of both on a sequence of random tokens.

    Raises:
        UserError: They do not compute the same, which is an error of ours.
    """
    ids = random_ids(model)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    exact = model.dtype in (torch.float32, torch.float64)
    if not exact and model.num_parameters() < COPIED_BELOW:
        model, stock, exact = _in_float32(model), _in_float32(stock), True
    ours, theirs = (one.eval()(**inputs)[0].float() for one in (model, stock))
    difference = (ours - theirs).abs().max().item()
    if not difference <= (1e-4 if exact else 5e-2) * theirs.abs().max().item():
        raise UserError(
            f"{origin}: the {type(model).__name__} and the {type(stock).__name__} differ by {difference:.1e}: "
            "this checkpoint uses something that is not told apart; please report it with its config.json"
        )
    return difference


def random_ids(model: PreTrainedModel, length: int = 16) -> torch.Tensor:
    """Random tokens, `(1, at most length)`, which each embedding of a Trefoil model has, and no padding."""
    options = flat_options(model.config)
    vocabulary = min(size for name, size in options.items() if name.split(".")[-1] == "vocab_size")
    positions = [size for name, size in options.items() if name.split(".")[-1] == "max_position_embeddings"]
    ids = torch.randint(vocabulary, (1, min(length, *positions)), generator=torch.Generator().manual_seed(0))
    if model.config.pad_token_id is not None:
        ids = ids.where(ids != model.config.pad_token_id, (ids + 1) % vocabulary)
    return ids


def _in_float32(model: PreTrainedModel) -> PreTrainedModel:
    """A copy; what is computed and not stored (M2M-100's positions) is not as it had been rounded."""
    model = copy.deepcopy(model).float()
    for module in model.modules():
        if module._non_persistent_buffers_set and not module._parameters:
            model._init_weights(module)
    return model


def _write(converted: Converted, tokenizer: PreTrainedTokenizerBase | None, target: Path) -> None:
    with written_aside(target) as new:
        converted.model.save_pretrained(new)
        if tokenizer is not None:
            tokenizer.save_pretrained(new)
