"""BART, mBART, Marian, M2M-100, Pegasus and T5."""

from typing import Any

from transformers import PreTrainedConfig
from transformers.core_model_loading import WeightConverter

from .architecture import (
    HALVES,
    Architecture,
    DropLeadingDimension,
    Names,
    Options,
    after_padding,
    both,
    inside,
    of_both,
)

BART_FIELDS: dict[str, str | tuple[str, ...]] = {
    "vocab_size": both("vocab_size"),
    "max_position_embeddings": both("max_position_embeddings"),
    "d_model": both("hidden_size"),
    **{
        f"{half}_{stock}": f"{half}.{ours}"
        for half in HALVES
        for stock, ours in {
            "layers": "num_hidden_layers",
            "ffn_dim": "intermediate_size",
            "attention_heads": "num_attention_heads",
        }.items()
    },
    "activation_function": both("hidden_act"),
    "dropout": both("hidden_dropout"),
    "attention_dropout": both("attention_dropout"),
    "activation_dropout": both("activation_dropout"),
    "init_std": both("initializer_range"),
    "scale_embedding": both("scale_embedding"),
    "use_cache": "decoder.use_cache",
    "decoder_start_token_id": "decoder_start_token_id",
}

BART_OPTIONS: Options = of_both(
    is_gated_act=False, norm_type="layer_norm", norm_eps=1e-5, attention_bias=True, mlp_bias=True,
    position_embedding_type="learned", position_offset=2, embedding_norm=True, rope_parameters=None,
)  # fmt: skip


def bart_names() -> Names:
    layer = {
        **{f"self_attn.{name}": f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")},
        "self_attn.out_proj": "self_attn.o_proj",
        "self_attn_layer_norm": "self_attn_norm",
        "fc1": "mlp.up_proj",
        "fc2": "mlp.down_proj",
        "final_layer_norm": "mlp_norm",
    }
    cross = {
        **{f"encoder_attn.{name}": f"cross_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")},
        "encoder_attn.out_proj": "cross_attn.o_proj",
        "encoder_attn_layer_norm": "cross_attn_norm",
    }
    stack = {
        "embed_tokens": "embed_tokens",
        "embed_positions": "embed_positions",
        "layernorm_embedding": "embed_norm",
        "layer_norm": "norm",
    }
    return {
        **{name: other for half in HALVES for name, other in inside(f"model.{half}", f"model.{half}", stack).items()},
        **inside("model.encoder.layers.*", "model.encoder.layers.*", layer),
        **inside("model.decoder.layers.*", "model.decoder.layers.*", layer | cross),
    }


def bart_kind(stock: str, model_type: str, head: str = "ForConditionalGeneration", **table: Any) -> Architecture:
    """BART and its relatives, most of whose logits have a bias of their own."""
    heads = {
        "TrefoilEncoderDecoderModel": (f"{stock}Model", {}),
        "TrefoilEncoderDecoderForConditionalGeneration": (f"{stock}{head}", {"lm_head": "lm_head"}),
    }
    bias = WeightConverter(r"^final_logits_bias", "lm_head.bias", [DropLeadingDimension()])
    return Architecture(
        model_type=model_type,
        family="encoder-decoder",
        prefix="model",
        heads=heads,
        names=bart_names(),
        duplicates={"model.shared.weight": "model.encoder.embed_tokens.weight"},
        unknown_token=True,
        ignored=frozenset({"is_encoder_decoder", "forced_eos_token_id", "encoder_layerdrop", "decoder_layerdrop"}),
        **({"fields": BART_FIELDS, "converters": (bias,)} | table),
    )


def shared(config: PreTrainedConfig) -> Options:
    return {"share_encoder_decoder_embeddings": config.tie_word_embeddings}


# fields of the published checkpoints that transformers no longer has, and that CTranslate2 reads
def write_bart(_: Options) -> dict[str, Any]:
    return {"normalize_before": False, "normalize_embedding": True}


def write_mbart(_: Options) -> dict[str, Any]:
    return {"normalize_before": True, "normalize_embedding": True}


BART = bart_kind(
    "Bart",
    "bart",
    options=BART_OPTIONS | of_both(norm_position="post") | {"decoder.lm_head_bias": True},
    read=shared,
    write=write_bart,
)

MBART = bart_kind(
    "MBart",
    "mbart",
    options=BART_OPTIONS | of_both(norm_position="pre") | {"decoder.lm_head_bias": True, "start_from_labels": True},
    read=shared,
    write=write_mbart,
)


def read_marian(config: PreTrainedConfig) -> Options:
    return {
        "decoder.vocab_size": config.vocab_size
        if config.share_encoder_decoder_embeddings
        else config.decoder_vocab_size
    }


def write_marian(options: Options) -> dict[str, Any]:
    return {"vocab_size": options["encoder.vocab_size"], "decoder_vocab_size": options["decoder.vocab_size"]}


SINUSOIDAL: Options = {
    "is_gated_act": False, "norm_type": "layer_norm", "norm_eps": 1e-5, "attention_bias": True, "mlp_bias": True,
    "position_embedding_type": "sinusoidal", "interleave_sinusoids": False, "rope_parameters": None,
}  # fmt: skip

TABLES = tuple(f"model.{half}.embed_positions.weight" for half in HALVES)

MARIAN = bart_kind(
    "Marian",
    "marian",
    head="MTModel",
    options=of_both(**SINUSOIDAL, norm_position="post") | {"decoder.lm_head_bias": True},
    fields=BART_FIELDS | {"share_encoder_decoder_embeddings": "share_encoder_decoder_embeddings"},
    read=read_marian,
    write=write_marian,
    computed=TABLES,
)


def read_m2m(config: PreTrainedConfig) -> Options:
    return shared(config) | of_both(position_offset=after_padding(config))


M2M_100 = bart_kind(
    "M2M100",
    "m2m_100",
    options=of_both(**SINUSOIDAL, norm_position="pre", inclusive_sinusoids=True),
    read=read_m2m,
    converters=(),
)


def write_pegasus(_: Options) -> dict[str, Any]:
    return {"normalize_before": True, "normalize_embedding": False}


PEGASUS = bart_kind(
    "Pegasus",
    "pegasus",
    options=of_both(**SINUSOIDAL, norm_position="pre") | {"decoder.lm_head_bias": True},
    read=shared,
    write=write_pegasus,
    computed=TABLES,
)


def read_t5(config: PreTrainedConfig) -> Options:
    return of_both(hidden_act=config.dense_act_fn, is_gated_act=config.is_gated_act) | {
        "decoder.scale_lm_head": config.scale_decoder_outputs,
        "decoder_start_token_id": getattr(config, "decoder_start_token_id", None),
    }


def write_t5(options: Options) -> dict[str, Any]:
    act = options["decoder.hidden_act"]
    gated = options["decoder.is_gated_act"]
    # T5's name for the gated approximation of GELU
    projection = ("gated-" if gated else "") + ("gelu" if gated and act == "gelu_new" else act)
    return {
        "feed_forward_proj": projection,
        # T5's way of saying whether the hidden states are scaled before the output projection
        "tie_word_embeddings": options["decoder.scale_lm_head"],
        "decoder_start_token_id": options["decoder_start_token_id"],
    }


def t5_names(options: Options) -> Names:
    gated = options["decoder.is_gated_act"]
    feed_forward = {"wi_0": "gate_proj", "wi_1": "up_proj"} if gated else {"wi": "up_proj"}
    attention = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"}
    names: Names = {}
    for half in HALVES:
        stock, ours = f"{half}.block.*.layer", f"model.{half}.layers.*"
        last = 1 if half == "encoder" else 2
        names |= {
            f"{half}.embed_tokens": f"model.{half}.embed_tokens",
            f"{half}.final_layer_norm": f"model.{half}.norm",
            f"{half}.block.0.layer.0.SelfAttention.relative_attention_bias": f"model.{half}.score_positions",
            **inside(f"{stock}.0.SelfAttention", f"{ours}.self_attn", attention),
            f"{stock}.0.layer_norm": f"{ours}.self_attn_norm",
            **inside(
                f"{stock}.{last}.DenseReluDense",
                f"{ours}.mlp",
                feed_forward | {"wo": "down_proj"},
            ),
            f"{stock}.{last}.layer_norm": f"{ours}.mlp_norm",
        }
    names |= inside("decoder.block.*.layer.1.EncDecAttention", "model.decoder.layers.*.cross_attn", attention)
    return names | {"decoder.block.*.layer.1.layer_norm": "model.decoder.layers.*.cross_attn_norm"}


T5 = Architecture(
    model_type="t5",
    family="encoder-decoder",
    unknown_token=True,
    prefix="",
    options=of_both(
        norm_type="rms_norm", norm_position="pre", position_embedding_type="relative", query_pre_attn_scalar=1,
        freeze_padding_embedding=False, rope_parameters=None,
    )
    | {"share_encoder_decoder_embeddings": True},
    fields={
        "vocab_size": both("vocab_size"),
        "d_model": both("hidden_size"),
        "d_kv": both("head_dim"),
        "d_ff": both("intermediate_size"),
        "num_layers": "encoder.num_hidden_layers",
        "num_decoder_layers": "decoder.num_hidden_layers",
        "num_heads": both("num_attention_heads"),
        "relative_attention_num_buckets": both("relative_attention_num_buckets"),
        "relative_attention_max_distance": both("relative_attention_max_distance"),
        "dropout_rate": tuple(
            option for name in ("hidden", "attention", "activation") for option in both(f"{name}_dropout")
        ),
        "layer_norm_epsilon": both("norm_eps"),
        "use_cache": "decoder.use_cache",
    },
    read=read_t5,
    write=write_t5,
    names=t5_names,
    heads={
        "TrefoilEncoderDecoderModel": ("T5Model", {}),
        "TrefoilEncoderDecoderForConditionalGeneration": ("T5ForConditionalGeneration", {"lm_head": "lm_head"}),
    },
    ignored=frozenset({"initializer_factor", "is_encoder_decoder", "dense_act_fn", "is_gated_act"}),
    duplicates={"shared.weight": "encoder.embed_tokens.weight"},
    ties_by_weights=True,
    aliases={"T5WithLMHeadModel": "T5ForConditionalGeneration"},
)  # fmt: skip
