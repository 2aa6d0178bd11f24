"""Named settings: published architectures, and modern ones of our own in several sizes."""

import copy
import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever asks for the names only does not wait for transformers
    from transformers import PreTrainedConfig

# Vaswani et al. 2017: table 3, row "base"; §5.4 for the dropout
VASWANI: dict[str, Any] = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8,
    "hidden_act": "relu", "is_gated_act": False, "norm_type": "layer_norm", "norm_position": "post",
    "norm_eps": 1e-5, "position_embedding_type": "sinusoidal", "scale_embedding": True, "mlp_bias": True,
    "max_position_embeddings": 1024, "hidden_dropout": 0.1, "initializer_range": 512**-0.5,
}  # fmt: skip

# Devlin et al. 2019, §3
BERT: dict[str, Any] = {
    "vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "hidden_act": "gelu", "is_gated_act": False, "norm_type": "layer_norm",
    "norm_position": "post", "norm_eps": 1e-12, "embedding_norm": True, "position_embedding_type": "learned",
    "max_position_embeddings": 512, "type_vocab_size": 2, "attention_bias": True, "mlp_bias": True,
    "hidden_dropout": 0.1, "attention_dropout": 0.1,
}  # fmt: skip

# Radford et al. 2019, §2.3
GPT2: dict[str, Any] = {
    "vocab_size": 50257, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "hidden_act": "gelu_new", "is_gated_act": False, "norm_type": "layer_norm",
    "norm_position": "pre", "norm_eps": 1e-5, "position_embedding_type": "learned", "max_position_embeddings": 1024,
    "attention_bias": True, "mlp_bias": True, "hidden_dropout": 0.1, "attention_dropout": 0.1,
    "residual_init": "scaled", "freeze_padding_embedding": False, "pad_token_id": None, "bos_token_id": 50256, "eos_token_id": 50256,
}  # fmt: skip

# Lewis et al. 2020, §2.1
BART: dict[str, Any] = {
    "vocab_size": 50265, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 6,
    "num_attention_heads": 12, "hidden_act": "gelu", "is_gated_act": False, "norm_type": "layer_norm",
    "norm_position": "post", "norm_eps": 1e-5, "embedding_norm": True, "position_embedding_type": "learned",
    "position_offset": 2, "max_position_embeddings": 1024, "attention_bias": True, "mlp_bias": True,
    "lm_head_bias": True, "hidden_dropout": 0.1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip

# Touvron et al. 2023, §2, at the size of TinyLlama (Zhang et al. 2024, table 1)
LLAMA: dict[str, Any] = {
    "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
    "num_attention_heads": 32, "num_key_value_heads": 4, "norm_eps": 1e-5, "max_position_embeddings": 2048,
    "hidden_dropout": 0.0, "tie_word_embeddings": False,
}  # fmt: skip

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4},
    "small": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4},
    "base": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 8},
}  # fmt: skip

ENCODER, DECODER, ENCODER_DECODER = "trefoil_encoder", "trefoil_decoder", "trefoil_encoder_decoder"
RECURRENT, VISION_ENCODER_DECODER = "trefoil_recurrent", "trefoil_vision_encoder_decoder"

# name -> the model_type, and fields of its configuration
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "vaswani-base": (ENCODER_DECODER, VASWANI),
    "bert-base": (ENCODER, BERT),
    "gpt2": (DECODER, GPT2),
    "bart-base": (ENCODER_DECODER, BART),
    "llama-like": (DECODER, LLAMA),
    **{f"encoder-{size}": (ENCODER, fields) for size, fields in SIZES.items()},
    **{f"decoder-{size}": (DECODER, fields) for size, fields in SIZES.items()},
    **{f"encoder-decoder-{size}": (ENCODER_DECODER, fields) for size, fields in SIZES.items()},
    **{f"recurrent-{size}": (RECURRENT, {"hidden_size": fields["hidden_size"]}) for size, fields in SIZES.items()},
    **{f"vision-encoder-decoder-{size}": (VISION_ENCODER_DECODER, fields) for size, fields in SIZES.items()},
}


def preset_config(name: str, **overrides: Any) -> "PreTrainedConfig":
    """The configuration that a preset names, with some fields changed.

    Args:
        name: A key of `PRESETS`.
        overrides: Fields to change. For an encoder-decoder, fields of a stack go to both halves; `encoder` and
            `decoder` take dicts with fields for one half. A vision encoder is transformers' ViT, or what
            `encoder.model_type` names, with that one's fields.

    Raises:
        ValueError: An unknown preset or field; the message lists what there is.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    model_type, fields = PRESETS[name]
    fields, overrides = copy.deepcopy(fields), copy.deepcopy(overrides)
    if model_type == VISION_ENCODER_DECODER:
        return _behind_vision(name, fields | overrides)
    config_class = _config_class(model_type)
    halves = getattr(config_class, "sub_configs", {})
    allowed = set(config_class.__dataclass_fields__)
    stack_fields = set(_config_class(DECODER).__dataclass_fields__) if halves else allowed
    nested = set().union(*(set(overrides.get(half) or {}) for half in halves)) - stack_fields
    _refuse_unknown(
        name, (set(overrides) - allowed - stack_fields) | nested, allowed | stack_fields, config_class.__name__
    )
    if not halves:
        return config_class(**(fields | overrides))
    per_half = {half: overrides.pop(half, None) or {} for half in halves}
    shared = {key: value for key, value in (fields | overrides).items() if key in stack_fields}
    whole = {key: value for key, value in fields.items() if key not in stack_fields}
    whole |= {key: value for key, value in overrides.items() if key in allowed}
    return config_class(**whole, **{half: shared | per_half[half] for half in halves})


def _config_class(model_type: str) -> Any:
    from transformers import CONFIG_MAPPING

    from . import auto  # noqa: F401  # registers ours

    return CONFIG_MAPPING[model_type]


def _refuse_unknown(name: str, unknown: set[str], known: set[str], where: str) -> None:
    if unknown:
        close = difflib.get_close_matches(min(unknown), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{name}: unknown field {min(unknown)!r} of {where}{hint}")


def _behind_vision(name: str, fields: dict[str, Any]) -> "PreTrainedConfig":
    """Our decoder behind a vision encoder of transformers; a field goes to whichever of them has it."""
    from transformers import CONFIG_MAPPING

    from .halves import reads_patches

    encoder_fields, decoder_fields = (fields.pop(half, None) or {} for half in ("encoder", "decoder"))
    for half, own in (("encoder", encoder_fields), ("decoder", decoder_fields)):
        if not isinstance(own, dict):
            raise ValueError(f"{name}: {half}={own!r} must hold fields, such as {{model_type: vit}}")
    model_type = encoder_fields.pop("model_type", "vit")
    if model_type not in CONFIG_MAPPING:
        raise ValueError(f"{name}: encoder.model_type={model_type!r} is no model of transformers; the usual one is vit")
    classes = [_config_class(model_type), _config_class(DECODER)]
    known = [set(config_class.__dataclass_fields__) for config_class in classes]
    for given, allowed, where in (
        (encoder_fields, known[0], classes[0].__name__),
        (decoder_fields, known[1], classes[1].__name__),
        (fields, known[0] | known[1], " and ".join(config_class.__name__ for config_class in classes)),
    ):
        _refuse_unknown(name, given.keys() - allowed, allowed, where)
    encoder, decoder = (
        config_class(**{key: value for key, value in fields.items() if key in allowed} | own)
        for config_class, allowed, own in zip(classes, known, (encoder_fields, decoder_fields), strict=True)
    )
    if not reads_patches(encoder):
        raise ValueError(f"{name}: a {model_type} does not read pictures in patches; the usual encoder is vit")
    return _config_class(VISION_ENCODER_DECODER)(encoder=encoder, decoder=decoder)
