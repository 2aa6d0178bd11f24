"""What a stock architecture is, seen from here: which options it stands for, and what it calls its weights."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.core_model_loading import Concatenate, ConversionOps, WeightConverter, WeightRenaming, WeightTransform

from ...configuration.decoder import TrefoilDecoderConfig
from ...configuration.encoder import TrefoilEncoderConfig
from ...configuration.encoder_decoder import TrefoilEncoderDecoderConfig

Options = dict[str, Any]  # fields of a Trefoil configuration; those of the halves as `encoder.hidden_size`
Names = dict[str, str]  # a stock module's name to ours, with `*` for a layer's number

CONFIGS = {
    "encoder": TrefoilEncoderConfig,
    "decoder": TrefoilDecoderConfig,
    "encoder-decoder": TrefoilEncoderDecoderConfig,
}
HALVES = tuple(TrefoilEncoderDecoderConfig.sub_configs)


def nothing(_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Architecture:
    """A stock architecture as a table.

    Attributes:
        model_type: Its `model_type`.
        family: `encoder`, `decoder` or `encoder-decoder`.
        prefix: What stands before the names of the bare model's weights in a model with a head.
        options: The options that it always has.
        fields: A stock field to the option (or options) that hold its value.
        read: A stock configuration to further options.
        write: Options to further stock fields.
        names: Modules of the bare model; where they depend on the options, a function of these.
        heads: A Trefoil class to the stock class, and the modules of its head.
        converters: What is done to weights besides giving them other names; after that, on the way in.
        ignored: Stock fields that change nothing that a trained model computes.
        computed: Weights of a stock class that are not learned; a checkpoint may do without them.
        duplicates: Weights that a stock class keeps twice: the one that is left behind, and the one that it is like.
        rope_by_layer_type: Whether rotary settings may differ between layer types.
        partial_rope: Whether rotary positions may turn a part of each head.
        unknown_token: Whether tools want its tokenizers to name an unknown token.
        ties_by_weights: Whether weights that are alike are tied, whatever the configuration says.
        aliases: Former names of stock classes.
        leftovers: Beginnings of the names of weights that may lie in a checkpoint without being part of its class.
    """

    model_type: str
    family: str
    prefix: str
    options: Options
    fields: dict[str, str | tuple[str, ...]]
    names: Names | Callable[[Options], Names]
    heads: dict[str, tuple[str, Names]]
    read: Callable[[PreTrainedConfig], Options] = nothing
    write: Callable[[Options], dict[str, Any]] = nothing
    converters: tuple[WeightConverter, ...] = ()
    ignored: frozenset[str] = frozenset()
    computed: tuple[str, ...] = ()
    duplicates: dict[str, str] = field(default_factory=dict)
    rope_by_layer_type: bool = False
    partial_rope: bool = False
    unknown_token: bool = False
    ties_by_weights: bool = False
    aliases: dict[str, str] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()

    @property
    def bare(self) -> str:
        """The stock class without a head."""
        return next(stock for ours, (stock, _) in self.heads.items() if ours.endswith("Model"))

    def is_computed(self, weight: str) -> bool:
        """Whether a weight, as the bare model or one with a head calls it, is not learned."""
        return f"{self.prefix}.{weight.removeprefix(f'{self.prefix}.')}" in self.computed

    def to_options(self, config: PreTrainedConfig) -> Options:
        """The options that a stock configuration stands for."""
        options = dict(self.options)
        for name, ours in self.fields.items():
            for option in (ours,) if isinstance(ours, str) else ours:
                options[option] = getattr(config, name)
        return options | self.read(config)

    def to_fields(self, options: Options) -> dict[str, Any]:
        """The stock fields that come closest to all of a configuration's options."""
        first = {name: ours if isinstance(ours, str) else ours[0] for name, ours in self.fields.items()}
        return {name: options[option] for name, option in first.items()} | self.write(options)

    def transforms(self, model_class: str, options: Options) -> list[WeightTransform]:
        """The way in of the weights of a Trefoil class; transformers also finds the way out from it."""
        names = self.names(options) if callable(self.names) else self.names
        names = names | self.heads[model_class][1]
        renamings = [
            WeightRenaming(
                "^" + stock.replace(".", r"\.").replace("*", r"(\d+)") + r"\.", ours.replace("*", r"\1") + "."
            )
            for stock, ours in names.items()
        ]
        return [*renamings, *self.converters]


def inside(stock: str, ours: str, names: Names) -> Names:
    """Names of modules that lie in others."""
    return {f"{stock}.{name}": f"{ours}.{other}" for name, other in names.items()}


def both(option: str) -> tuple[str, ...]:
    """An option that both halves have; read from the decoder."""
    return tuple(f"{half}.{option}" for half in reversed(HALVES))


def after_padding(config: PreTrainedConfig) -> int:
    """What positions count from where the padding token's id is its position, too (fairseq)."""
    if config.pad_token_id is None:
        raise ValueError("pad_token_id=None: positions count from it")
    return config.pad_token_id + 1


def of_both(**options: Any) -> Options:
    """Options that both halves have."""
    return {f"{half}.{name}": value for half in HALVES for name, value in options.items()}


def rope_by_layer_type(options: Options) -> dict[str, dict[str, Any]]:
    """The rotary settings of each layer type, also where there is one setting for all layers."""
    types = ("full_attention", "sliding_attention")
    rope = options["rope_parameters"] or {}
    return rope if set(rope) & set(types) else {layer_type: dict(rope) for layer_type in types}


class SplitQueryKeyValue(ConversionOps):
    """One projection to queries, keys and values into three, by the number of heads of each."""

    def convert(self, input_dict: dict, source_patterns: list[str], target_patterns: list[str], **kwargs: Any) -> dict:
        (tensors,) = input_dict.values()
        config = kwargs["config"]
        heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
        parts = tensors[0].split([count * config.head_dim for count in heads])
        return {target: part.contiguous() for target, part in zip(target_patterns, parts, strict=True)}

    @property
    def reverse_op(self) -> ConversionOps:
        return Concatenate(dim=0)


class AddLeadingDimension(ConversionOps):
    """`(n)` to `(1, n)`."""

    def convert(self, input_dict: dict, source_patterns: list[str], target_patterns: list[str], **kwargs: Any) -> dict:
        (tensors,) = input_dict.values()
        return {target_patterns[0]: tensors[0][None]}

    @property
    def reverse_op(self) -> ConversionOps:
        return DropLeadingDimension()


class DropLeadingDimension(ConversionOps):
    """`(1, n)` to `(n)`."""

    def convert(self, input_dict: dict, source_patterns: list[str], target_patterns: list[str], **kwargs: Any) -> dict:
        (tensors,) = input_dict.values()
        return {target_patterns[0]: torch.squeeze(tensors[0], 0)}

    @property
    def reverse_op(self) -> ConversionOps:
        return AddLeadingDimension()
