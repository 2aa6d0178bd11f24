"""GPT-2, Llama, Mistral, Qwen2, Qwen3, OLMo 2, Gemma 2, Gemma 3 (text), Phi-3 and SmolLM3."""

from typing import Any

import transformers
from transformers import PreTrainedConfig
from transformers.core_model_loading import Chunk, Transpose, WeightConverter

from .architecture import Architecture, Options, SplitQueryKeyValue, inside, rope_by_layer_type


def read_gpt2(config: PreTrainedConfig) -> Options:
    return {
        "intermediate_size": config.n_inner or 4 * config.n_embd,
        "query_pre_attn_scalar": None if config.scale_attn_weights else 1,
    }


def write_gpt2(options: Options) -> dict[str, Any]:
    inner = options["intermediate_size"]
    return {
        "n_inner": None if inner == 4 * options["hidden_size"] else inner,
        "embd_pdrop": options["hidden_dropout"],
        "resid_pdrop": options["hidden_dropout"],
        "scale_attn_weights": options["query_pre_attn_scalar"] != 1,
    }


def transposed(module: str) -> WeightConverter:
    return WeightConverter(f"{module}.weight", f"{module}.weight", [Transpose(0, 1)])


GPT2 = Architecture(
    model_type="gpt2",
    family="decoder",
    prefix="transformer",
    options={
        "is_gated_act": False,
        "norm_type": "layer_norm",
        "norm_position": "pre",
        "position_embedding_type": "learned",
        "attention_bias": True,
        "mlp_bias": True,
        "freeze_padding_embedding": False,
        "rope_parameters": None,
    },
    fields={
        "vocab_size": "vocab_size",
        "n_positions": "max_position_embeddings",
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "activation_function": "hidden_act",
        "resid_pdrop": "hidden_dropout",
        "attn_pdrop": "attention_dropout",
        "layer_norm_epsilon": "norm_eps",
        "initializer_range": "initializer_range",
        "use_cache": "use_cache",
    },
    read=read_gpt2,
    write=write_gpt2,
    names={
        "transformer.wte": "model.embed_tokens",
        "transformer.wpe": "model.embed_positions",
        "transformer.ln_f": "model.norm",
        **inside(
            "transformer.h.*",
            "model.layers.*",
            {
                "ln_1": "self_attn_norm",
                "attn.c_attn": "self_attn.qkv_proj",
                "attn.c_proj": "self_attn.o_proj",
                "ln_2": "mlp_norm",
                "mlp.c_fc": "mlp.up_proj",
                "mlp.c_proj": "mlp.down_proj",
            },
        ),
    },
    heads={
        "TrefoilDecoderModel": ("GPT2Model", {}),
        "TrefoilDecoderForCausalLM": ("GPT2LMHeadModel", {"lm_head": "lm_head"}),
        "TrefoilDecoderForSequenceClassification": ("GPT2ForSequenceClassification", {"score": "score"}),
        "TrefoilDecoderForTokenClassification": ("GPT2ForTokenClassification", {"classifier": "score"}),
    },
    converters=(
        WeightConverter(
            "self_attn.qkv_proj.weight",
            [f"self_attn.{name}_proj.weight" for name in "qkv"],
            [Transpose(0, 1), Chunk(dim=0)],
        ),
        WeightConverter("self_attn.qkv_proj.bias", [f"self_attn.{name}_proj.bias" for name in "qkv"], [Chunk(dim=0)]),
        transposed("self_attn.o_proj"),
        transposed("mlp.up_proj"),
        transposed("mlp.down_proj"),
    ),
    ignored=frozenset(
        {
            "n_inner",  # none stands for four times the width, and the width is always known here
            "summary_type",
            "summary_use_proj",
            "summary_activation",
            "summary_proj_to_labels",
            "reorder_and_upcast_attn",
        }
    ),
    leftovers=("lm_head",),
    unknown_token=True,
)

LLAMA_OPTIONS: Options = {
    "is_gated_act": True, "norm_type": "rms_norm", "norm_position": "pre", "position_embedding_type": "rotary",
}  # fmt: skip

LLAMA_FIELDS: dict[str, str | tuple[str, ...]] = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "hidden_act": "hidden_act",
    "max_position_embeddings": "max_position_embeddings",
    "initializer_range": "initializer_range",
    "rms_norm_eps": "norm_eps",
    "rope_parameters": "rope_parameters",
    "attention_dropout": "attention_dropout",
    "use_cache": "use_cache",
}

LLAMA_NAMES = {
    "model.embed_tokens": "model.embed_tokens",
    "model.norm": "model.norm",
    **inside(
        "model.layers.*",
        "model.layers.*",
        {
            "input_layernorm": "self_attn_norm",
            "post_attention_layernorm": "mlp_norm",
            **{f"self_attn.{name}": f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")},
            **{f"mlp.{name}": f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")},
        },
    ),
}


QK_NORM_NAMES = inside("model.layers.*.self_attn", "model.layers.*.self_attn", {"q_norm": "q_norm", "k_norm": "k_norm"})


def llama_kind(stock: str, model_type: str, **table: Any) -> Architecture:
    """Llama and its relatives, which differ in their options and in how their norms are called."""
    heads = {
        "TrefoilDecoderModel": (f"{stock}Model", {}),
        "TrefoilDecoderForCausalLM": (f"{stock.removesuffix('Text')}ForCausalLM", {"lm_head": "lm_head"}),
        "TrefoilDecoderForSequenceClassification": (f"{stock}ForSequenceClassification", {"score": "score"}),
        "TrefoilDecoderForTokenClassification": (f"{stock}ForTokenClassification", {"score": "score"}),
    }
    heads = {name: head for name, head in heads.items() if hasattr(transformers, head[0])}
    defaults = {"options": LLAMA_OPTIONS, "fields": LLAMA_FIELDS, "names": LLAMA_NAMES, "leftovers": ("lm_head",)}
    return Architecture(model_type=model_type, family="decoder", prefix="model", heads=heads, **(defaults | table))


LLAMA = llama_kind(
    "Llama",
    "llama",
    fields=LLAMA_FIELDS
    | {
        "head_dim": "head_dim",
        "attention_bias": ("attention_bias", "attention_output_bias"),
        "mlp_bias": "mlp_bias",
    },
    ignored=frozenset({"pretraining_tp"}),
)


MISTRAL = llama_kind(
    "Mistral",
    "mistral",
    fields=LLAMA_FIELDS | {"head_dim": "head_dim", "sliding_window": "sliding_window"},
)


def read_windows(config: PreTrainedConfig) -> Options:
    slides = "sliding_attention" in config.layer_types
    return {"sliding_window": config.sliding_window if slides else None}


def write_windows(options: Options) -> dict[str, Any]:
    types = options["layer_types"]
    if "sliding_attention" not in types:
        return {"use_sliding_window": False}
    return {
        "use_sliding_window": True,
        "sliding_window": options["sliding_window"],
        "max_window_layers": types.index("sliding_attention"),
    }


# read through `layer_types`, which they make
WINDOWS = frozenset({"use_sliding_window", "sliding_window", "max_window_layers"})

QWEN2 = llama_kind(
    "Qwen2",
    "qwen2",
    options=LLAMA_OPTIONS | {"attention_bias": True, "attention_output_bias": False},
    fields=LLAMA_FIELDS | {"layer_types": "layer_types"},
    read=read_windows,
    write=write_windows,
    ignored=WINDOWS,
    unknown_token=True,
)

QWEN3 = llama_kind(
    "Qwen3",
    "qwen3",
    options=LLAMA_OPTIONS | {"qk_norm": "head"},
    fields=LLAMA_FIELDS
    | {
        "head_dim": "head_dim",
        "layer_types": "layer_types",
        "attention_bias": ("attention_bias", "attention_output_bias"),
    },
    names=LLAMA_NAMES | QK_NORM_NAMES,
    read=read_windows,
    write=write_windows,
    ignored=WINDOWS,
)

OLMO2 = llama_kind(
    "Olmo2",
    "olmo2",
    options=LLAMA_OPTIONS | {"norm_position": "output", "qk_norm": "projection"},
    fields=LLAMA_FIELDS | {"attention_bias": ("attention_bias", "attention_output_bias")},
    names=LLAMA_NAMES
    | QK_NORM_NAMES
    | inside(
        "model.layers.*",
        "model.layers.*",
        {"post_attention_layernorm": "self_attn_norm", "post_feedforward_layernorm": "mlp_norm"},
    ),
)

GEMMA_OPTIONS = LLAMA_OPTIONS | {
    "norm_type": "zero_centered_rms_norm", "norm_position": "sandwich", "scale_embedding": True,
}  # fmt: skip

GEMMA_FIELDS = {name: ours for name, ours in LLAMA_FIELDS.items() if name != "hidden_act"} | {
    "hidden_activation": "hidden_act",
    "head_dim": "head_dim",
    "attention_bias": ("attention_bias", "attention_output_bias"),
    "layer_types": "layer_types",
    "sliding_window": "sliding_window",
    "query_pre_attn_scalar": "query_pre_attn_scalar",
    "final_logit_softcapping": "final_logit_softcapping",
}

GEMMA_NAMES = LLAMA_NAMES | inside(
    "model.layers.*",
    "model.layers.*",
    {
        "post_attention_layernorm": "self_attn_output_norm",
        "pre_feedforward_layernorm": "mlp_norm",
        "post_feedforward_layernorm": "mlp_output_norm",
    },
)

GEMMA2 = llama_kind(
    "Gemma2",
    "gemma2",
    options=GEMMA_OPTIONS,
    fields=GEMMA_FIELDS | {"attn_logit_softcapping": "attn_logit_softcapping"},
    names=GEMMA_NAMES,
)


def write_gemma3(options: Options) -> dict[str, Any]:
    return {"rope_parameters": rope_by_layer_type(options)}


GEMMA3 = llama_kind(
    "Gemma3Text",
    "gemma3_text",
    options=GEMMA_OPTIONS | {"qk_norm": "head"},
    fields=GEMMA_FIELDS,
    names=GEMMA_NAMES | QK_NORM_NAMES,
    write=write_gemma3,
    rope_by_layer_type=True,
    ignored=frozenset({"attn_logit_softcapping"}),  # of Gemma 2; no attention reads it
)


def read_phi3(config: PreTrainedConfig) -> Options:
    rope = {
        name: value for name, value in config.rope_parameters.items() if (name, value) != ("partial_rotary_factor", 1.0)
    }
    return {"rope_parameters": rope}


def write_phi3(options: Options) -> dict[str, Any]:
    rope = options["rope_parameters"] or {}
    pretrained = rope.get("original_max_position_embeddings", options["max_position_embeddings"])
    return {"embd_pdrop": options["hidden_dropout"], "original_max_position_embeddings": pretrained}


PHI3 = llama_kind(
    "Phi3",
    "phi3",
    fields=LLAMA_FIELDS | {"resid_pdrop": "hidden_dropout", "sliding_window": "sliding_window"},
    names={
        name: ours
        for name, ours in LLAMA_NAMES.items()
        if not name.endswith(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"))
    }
    | inside(
        "model.layers.*",
        "model.layers.*",
        {"self_attn.qkv_proj": "self_attn.qkv_proj", "mlp.gate_up_proj": "mlp.gate_up_proj"},
    ),
    read=read_phi3,
    write=write_phi3,
    converters=(
        WeightConverter(
            "self_attn.qkv_proj.weight", [f"self_attn.{name}_proj.weight" for name in "qkv"], [SplitQueryKeyValue()]
        ),
        WeightConverter(
            "mlp.gate_up_proj.weight", [f"mlp.{name}_proj.weight" for name in ("gate", "up")], [Chunk(dim=0)]
        ),
    ),
    partial_rope=True,
    ignored=frozenset({"original_max_position_embeddings"}),  # read where rotary settings have it
)


def read_smollm3(config: PreTrainedConfig) -> Options:
    turned = config.no_rope_layers[: config.num_hidden_layers]
    return read_windows(config) | {"no_rope_layers": None if all(turned) else turned}


def write_smollm3(options: Options) -> dict[str, Any]:
    return {
        "no_rope_layers": options["no_rope_layers"] or [1] * options["num_hidden_layers"],
        "use_sliding_window": "sliding_attention" in options["layer_types"],
        "sliding_window": options["sliding_window"],
    }


SMOLLM3 = llama_kind(
    "SmolLM3",
    "smollm3",
    fields=LLAMA_FIELDS
    | {
        "layer_types": "layer_types",
        "attention_bias": ("attention_bias", "attention_output_bias"),
        "mlp_bias": "mlp_bias",
    },
    read=read_smollm3,
    write=write_smollm3,
    # of the last, what is beyond the last layer
    ignored=frozenset({"use_sliding_window", "sliding_window", "no_rope_layer_interval", "no_rope_layers"}),
)
