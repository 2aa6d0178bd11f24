"""Configurations there and back: what a stock configuration stands for, and what one side cannot express."""

import copy
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel

from ..configuration.errors import UserError, reason
from ..configuration.halves import halves
from ..configuration.positions import POSITION_KINDS
from .architectures import Architecture
from .architectures.architecture import CONFIGS, HALVES, Options

# what all configurations have, and call the same
COMMON = ("pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings", "id2label", "label2id", "problem_type")

# what pipelines read, where it is there
CARRIED = ("prefix", "task_specific_params")

# how weights were first drawn, and what callers may change at any time
FREE_OPTIONS = {
    "initializer_range",
    "residual_init",
    "use_cache",
    "init_std",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
}

# an option counts only where another has one of these values, or in these heads
COUNTS_WITH = {
    "norm_bias": ("norm_type", {"layer_norm"}),
    **{
        option: ("position_embedding_type", {name for name, kind in POSITION_KINDS.items() if option in kind.fields})
        for option in {option for kind in POSITION_KINDS.values() for option in kind.fields}
    },
}
COUNTS_IN = {
    "lm_head_bias": ("MaskedLM", "CausalLM", "ConditionalGeneration"),
    "scale_lm_head": ("CausalLM", "ConditionalGeneration"),
    "final_logit_softcapping": ("CausalLM", "ConditionalGeneration"),
    "classifier_pooling": ("SequenceClassification",),
    "pooler_act": ("SequenceClassification",),
    "classifier_crf": ("TokenClassification",),
    "classifier_ngram_sizes": ("Classification",),
    "classifier_ngram_vocab_size": ("Classification",),
    "classifier_transform": ("Classification", "QuestionAnswering"),
    "transform_act": ("MaskedLM",),
    "transform_bias": ("MaskedLM",),
    "add_pooler": (),  # seen by its weights
    "decoder_start_token_id": ("ConditionalGeneration",),
    "start_from_labels": ("ConditionalGeneration",),
}


def flat_options(config: PreTrainedConfig) -> Options:
    """The fields of a Trefoil configuration; those of its halves under names such as `encoder.hidden_size`."""
    options: Options = {}
    parts = halves(config)
    for name in type(config).__dataclass_fields__:
        if name in parts:
            options |= {f"{name}.{key}": value for key, value in flat_options(parts[name]).items()}
        else:
            options[name] = getattr(config, name)
    return options


def _carried(config: PreTrainedConfig) -> dict[str, Any]:
    return {name: value for name in CARRIED if (value := getattr(config, name, None)) is not None}


def our_config(architecture: Architecture, stock: PreTrainedConfig, seen: Options, origin: str) -> PreTrainedConfig:
    """What a stock configuration stands for, and whatever else has been seen, as a Trefoil configuration.

    Raises:
        UserError: There is no such configuration.
    """
    _require_plain_rope(architecture, {"rope_parameters": getattr(stock, "rope_parameters", None)}, origin)
    common = {name: getattr(stock, name, None) for name in COMMON}
    options = common | _carried(stock) | architecture.to_options(stock) | seen
    whole = {name: value for name, value in options.items() if "." not in name}
    if architecture.family == "encoder-decoder":
        tokens = {name: options[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        for half in HALVES:
            marked = {name: value for name, value in options.items() if name.startswith(f"{half}.")}
            whole[half] = tokens | {name.removeprefix(f"{half}."): value for name, value in marked.items()}
    try:
        return CONFIGS[architecture.family](**copy.deepcopy(whole))
    except (StrictDataclassError, ValueError) as error:
        raise UserError(f"{origin}: {reason(error)}") from error


def stock_fields(architecture: Architecture, config: PreTrainedConfig) -> dict[str, Any]:
    """The fields of the stock configuration that comes closest to a Trefoil configuration."""
    common = {name: getattr(config, name) for name in COMMON} | _carried(config)
    return copy.deepcopy(common | architecture.to_fields(flat_options(config)))


def stock_config(
    architecture: Architecture, config_class: type[PreTrainedConfig], config: PreTrainedConfig, origin: str
) -> PreTrainedConfig:
    """The stock configuration that comes closest to a Trefoil configuration.

    Raises:
        UserError: There is none.
    """
    _require_plain_rope(architecture, flat_options(config), origin)
    try:
        return config_class(**stock_fields(architecture, config))
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise UserError(f"{origin}: {architecture.model_type} cannot express this model: {reason(error)}") from error


def _require_plain_rope(architecture: Architecture, options: Options, origin: str) -> None:
    for name, rope in options.items():
        if name.split(".")[-1] != "rope_parameters" or not rope:
            continue
        by_type = [one for one in rope.values() if isinstance(one, dict)]
        if by_type and not architecture.rope_by_layer_type:
            raise UserError(
                f"{origin}: {architecture.model_type} cannot express {name} that differ between layer types"
            )
        if architecture.partial_rope:
            continue
        if any(one.get("partial_rotary_factor", 1.0) != 1.0 for one in by_type or [rope]):
            raise UserError(f"{origin}: {architecture.model_type} cannot express {name} with a partial_rotary_factor")


def compare_fields(
    architecture: Architecture, stock: PreTrainedConfig, config: PreTrainedConfig, origin: str
) -> list[str]:
    """Notes on the stock fields that the way there and back changes.

    Raises:
        UserError: One of them matters.
    """
    back = stock_config(architecture, type(stock), config, origin)
    names = set(type(stock).__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
    names -= FREE_OPTIONS | architecture.ignored | {"tie_word_embeddings"}
    changed = {
        name: (getattr(stock, name), getattr(back, name))
        for name in sorted(names)
        if getattr(stock, name) != getattr(back, name)
    }
    return _notes(changed, f"{origin}: Trefoil's {architecture.model_type} cannot express")


def compare_options(
    architecture: Architecture, model: PreTrainedModel, stock: PreTrainedConfig, origin: str
) -> list[str]:
    """Notes on the options that the way there and back changes.

    Raises:
        UserError: One of them matters.
    """
    there = flat_options(model.config)
    seen = {"tie_word_embeddings": there["tie_word_embeddings"]} if architecture.ties_by_weights else {}
    back = flat_options(our_config(architecture, stock, seen, origin))
    changed = {
        name: (there[name], back[name])
        for name in there
        if there[name] != back[name] and _counts(name, there, back, type(model).__name__)
    }
    if there.get("classifier_dropout", 0) is None and back["classifier_dropout"] == model.config.head_dropout:
        changed.pop("classifier_dropout", None)  # the same, said
    return _notes(changed, f"{origin}: {architecture.model_type} cannot express")


def _notes(changed: dict[str, tuple[Any, Any]], refusal: str) -> list[str]:
    """Notes on values, old and new, that matter in training only.

    Raises:
        UserError: Others changed, too.
    """
    training = {name for name in changed if "drop" in name or name.endswith("freeze_padding_embedding")}
    if matter := [f"{name}={old!r} (it has {new!r})" for name, (old, new) in changed.items() if name not in training]:
        raise UserError(f"{refusal} {', '.join(matter)}")
    return [
        f"{name}={changed[name][0]} becomes {changed[name][1]}, which matters in further training only"
        for name in changed
    ]


def _counts(name: str, there: Options, back: Options, model_class: str) -> bool:
    half, _, option = name.rpartition(".")
    if option in FREE_OPTIONS or option in PreTrainedConfig.__dataclass_fields__:
        return False
    if half and option == "tie_word_embeddings":  # the whole decides
        return False
    if option in COUNTS_WITH:
        other, values = COUNTS_WITH[option]
        key = f"{half}.{other}" if half else other
        return bool(values & {there[key], back[key]})
    return not (option in COUNTS_IN and not model_class.endswith(COUNTS_IN[option]))
