"""BERT, RoBERTa, XLM-RoBERTa, ELECTRA, DistilBERT and ModernBERT."""

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedConfig
from transformers.core_model_loading import Chunk, WeightConverter

from .architecture import Architecture, Names, Options, after_padding, inside, rope_by_layer_type

POST_NORM: Options = {
    "is_gated_act": False, "norm_type": "layer_norm", "norm_position": "post", "embedding_norm": True,
    "position_embedding_type": "learned", "attention_bias": True, "mlp_bias": True, "rope_parameters": None,
}  # fmt: skip

BERT_FIELDS: dict[str, str | tuple[str, ...]] = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_act": "hidden_act",
    "hidden_dropout_prob": "hidden_dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "initializer_range": "initializer_range",
    "layer_norm_eps": "norm_eps",
    "classifier_dropout": "classifier_dropout",
}


def bert_names(prefix: str) -> Names:
    layer = {
        "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.o_proj",
        "attention.output.LayerNorm": "self_attn_norm",
        "intermediate.dense": "mlp.up_proj",
        "output.dense": "mlp.down_proj",
        "output.LayerNorm": "mlp_norm",
    }
    return {
        f"{prefix}.embeddings.word_embeddings": "model.embed_tokens",
        f"{prefix}.embeddings.position_embeddings": "model.embed_positions",
        f"{prefix}.embeddings.token_type_embeddings": "model.embed_types",
        f"{prefix}.embeddings.LayerNorm": "model.embed_norm",
        f"{prefix}.pooler.dense": "pooler.classifier",
        **inside(f"{prefix}.encoder.layer.*", "model.layers.*", layer),
    }


# a field of the published checkpoints that transformers no longer has, and that CTranslate2 reads
ABSOLUTE = {"position_embedding_type": "absolute"}


def write_bert(options: Options) -> dict[str, Any]:
    return ABSOLUTE | {"type_vocab_size": max(1, options["type_vocab_size"])}


def write_head_dropout(name: str) -> Callable[[Options], dict[str, Any]]:
    """For a head whose dropout has no default."""

    def write(options: Options) -> dict[str, Any]:
        given = options["classifier_dropout"]
        return {name: options["hidden_dropout"] if given is None else given}

    return write


BERT = Architecture(
    model_type="bert",
    family="encoder",
    unknown_token=True,
    prefix="bert",
    options=POST_NORM,
    fields=BERT_FIELDS,
    write=write_bert,
    names=bert_names("bert"),
    heads={
        "TrefoilEncoderModel": ("BertModel", {}),
        "TrefoilEncoderForMaskedLM": (
            "BertForMaskedLM",
            {
                "cls.predictions.transform.dense": "transform.dense",
                "cls.predictions.transform.LayerNorm": "transform.norm",
                "cls.predictions.decoder": "lm_head",
            },
        ),
        "TrefoilEncoderForSequenceClassification": ("BertForSequenceClassification", {"classifier": "score"}),
        "TrefoilEncoderForTokenClassification": ("BertForTokenClassification", {"classifier": "score"}),
        "TrefoilEncoderForQuestionAnswering": ("BertForQuestionAnswering", {"qa_outputs": "qa_outputs"}),
    },
    duplicates={"cls.predictions.bias": "cls.predictions.decoder.bias"},
    aliases={"BertForPreTraining": "BertForMaskedLM"},
    leftovers=("cls.seq_relationship", "bert.pooler", "cls.predictions"),
)


def read_roberta(config: PreTrainedConfig) -> Options:
    offset = after_padding(config)
    return {"position_offset": offset, "max_position_embeddings": config.max_position_embeddings - offset}


def write_roberta(options: Options) -> dict[str, Any]:
    positions = options["max_position_embeddings"] + options["position_offset"]
    return write_bert(options) | {"max_position_embeddings": positions}


def roberta_kind(stock: str, model_type: str) -> Architecture:
    """RoBERTa and XLM-RoBERTa (Conneau et al. 2020), which differ in their data and tokenizers only."""
    return Architecture(
        model_type=model_type,
        family="encoder",
        unknown_token=True,
        prefix="roberta",
        options=POST_NORM | {"transform_act": "gelu"},
        fields=BERT_FIELDS,
        read=read_roberta,
        write=write_roberta,
        names=bert_names("roberta"),
        heads={
            "TrefoilEncoderModel": (f"{stock}Model", {}),
            "TrefoilEncoderForMaskedLM": (
                f"{stock}ForMaskedLM",
                {
                    "lm_head.dense": "transform.dense",
                    "lm_head.layer_norm": "transform.norm",
                    "lm_head.decoder": "lm_head",
                },
            ),
            "TrefoilEncoderForSequenceClassification": (
                f"{stock}ForSequenceClassification",
                {"classifier.dense": "pooler.classifier", "classifier.out_proj": "score"},
            ),
            "TrefoilEncoderForTokenClassification": (f"{stock}ForTokenClassification", {"classifier": "score"}),
            "TrefoilEncoderForQuestionAnswering": (f"{stock}ForQuestionAnswering", {"qa_outputs": "qa_outputs"}),
        },
        duplicates={"lm_head.bias": "lm_head.decoder.bias"},
        leftovers=("roberta.pooler", "lm_head"),
    )


ROBERTA = roberta_kind("Roberta", "roberta")
XLM_ROBERTA = roberta_kind("XLMRoberta", "xlm-roberta")

ELECTRA = Architecture(
    model_type="electra",
    family="encoder",
    prefix="electra",
    options=POST_NORM | {"transform_act": "gelu", "pooler_act": "gelu"},
    fields=BERT_FIELDS | {"embedding_size": "embedding_size"},
    write=write_bert,
    names=bert_names("electra") | {"electra.embeddings_project": "model.embed_proj"},
    heads={
        "TrefoilEncoderModel": ("ElectraModel", {}),
        "TrefoilEncoderForMaskedLM": (
            "ElectraForMaskedLM",
            {
                "generator_predictions.dense": "transform.dense",
                "generator_predictions.LayerNorm": "transform.norm",
                "generator_lm_head": "lm_head",
            },
        ),
        "TrefoilEncoderForSequenceClassification": (
            "ElectraForSequenceClassification",
            {"classifier.dense": "pooler.classifier", "classifier.out_proj": "score"},
        ),
        "TrefoilEncoderForTokenClassification": ("ElectraForTokenClassification", {"classifier": "score"}),
        "TrefoilEncoderForQuestionAnswering": ("ElectraForQuestionAnswering", {"qa_outputs": "qa_outputs"}),
    },
    # of the summary that chooses between several texts
    ignored=frozenset({"summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"}),
    aliases={"ElectraForPreTraining": "ElectraModel"},  # the discriminator
    leftovers=("discriminator_predictions", "generator_predictions", "generator_lm_head"),
)

DISTILBERT = Architecture(
    model_type="distilbert",
    family="encoder",
    unknown_token=True,
    prefix="distilbert",
    options=POST_NORM | {"norm_eps": 1e-12, "pooler_act": "relu"},
    fields={
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "hidden_dim": "intermediate_size",
        "activation": ("hidden_act", "transform_act"),
        "dropout": "hidden_dropout",
        "attention_dropout": "attention_dropout",
        "max_position_embeddings": "max_position_embeddings",
        "initializer_range": "initializer_range",
        "seq_classif_dropout": "classifier_dropout",
    },
    names={
        "distilbert.embeddings.word_embeddings": "model.embed_tokens",
        "distilbert.embeddings.position_embeddings": "model.embed_positions",
        "distilbert.embeddings.LayerNorm": "model.embed_norm",
        **inside(
            "distilbert.transformer.layer.*",
            "model.layers.*",
            {
                "attention.q_lin": "self_attn.q_proj",
                "attention.k_lin": "self_attn.k_proj",
                "attention.v_lin": "self_attn.v_proj",
                "attention.out_lin": "self_attn.o_proj",
                "sa_layer_norm": "self_attn_norm",
                "ffn.lin1": "mlp.up_proj",
                "ffn.lin2": "mlp.down_proj",
                "output_layer_norm": "mlp_norm",
            },
        ),
    },
    heads={
        "TrefoilEncoderModel": ("DistilBertModel", {}),
        "TrefoilEncoderForMaskedLM": (
            "DistilBertForMaskedLM",
            {
                "vocab_transform": "transform.dense",
                "vocab_layer_norm": "transform.norm",
                "vocab_projector": "lm_head",
            },
        ),
        "TrefoilEncoderForSequenceClassification": (
            "DistilBertForSequenceClassification",
            {"pre_classifier": "pooler.classifier", "classifier": "score"},
        ),
        "TrefoilEncoderForTokenClassification": ("DistilBertForTokenClassification", {"classifier": "score"}),
        "TrefoilEncoderForQuestionAnswering": ("DistilBertForQuestionAnswering", {"qa_outputs": "qa_outputs"}),
    },
    write=write_head_dropout("seq_classif_dropout"),
    ignored=frozenset({"sinusoidal_pos_embds"}),  # how the table of positions was made, which is among the weights
    leftovers=("vocab_transform", "vocab_layer_norm", "vocab_projector", "pre_classifier"),
)


def read_modernbert(config: PreTrainedConfig) -> Options:
    return {"sliding_window": config.local_attention // 2 if "sliding_attention" in config.layer_types else None}


def write_modernbert(options: Options) -> dict[str, Any]:
    window = options["sliding_window"]
    fields = write_head_dropout("classifier_dropout")(options) | {"rope_parameters": rope_by_layer_type(options)}
    return fields if window is None else fields | {"local_attention": 2 * window}


TRANSFORM = {"head.dense": "transform.dense", "head.norm": "transform.norm"}

MODERNBERT = Architecture(
    model_type="modernbert",
    family="encoder",
    rope_by_layer_type=True,
    prefix="model",
    options={
        "is_gated_act": True,
        "norm_type": "layer_norm",
        "norm_position": "pre",
        "embedding_norm": True,
        "skip_first_norm": True,
        "position_embedding_type": "rotary",
        "classifier_transform": True,
    },
    fields={
        "vocab_size": "vocab_size",
        "hidden_size": "hidden_size",
        "intermediate_size": "intermediate_size",
        "num_hidden_layers": "num_hidden_layers",
        "num_attention_heads": "num_attention_heads",
        "hidden_activation": "hidden_act",
        "max_position_embeddings": "max_position_embeddings",
        "initializer_range": "initializer_range",
        "norm_eps": "norm_eps",
        "norm_bias": "norm_bias",
        "attention_bias": "attention_bias",
        "attention_dropout": "attention_dropout",
        "embedding_dropout": "hidden_dropout",
        "mlp_bias": "mlp_bias",
        "mlp_dropout": "activation_dropout",
        "layer_types": "layer_types",
        "rope_parameters": "rope_parameters",
        "decoder_bias": "lm_head_bias",
        "classifier_pooling": "classifier_pooling",
        "classifier_dropout": "classifier_dropout",
        "classifier_bias": "transform_bias",
        "classifier_activation": "transform_act",
    },
    read=read_modernbert,
    write=write_modernbert,
    names={
        "model.embeddings.tok_embeddings": "model.embed_tokens",
        "model.embeddings.norm": "model.embed_norm",
        "model.final_norm": "model.norm",
        **inside(
            "model.layers.*",
            "model.layers.*",
            {
                "attn_norm": "self_attn_norm",
                "attn.Wqkv": "self_attn.qkv_proj",
                "attn.Wo": "self_attn.o_proj",
                "mlp_norm": "mlp_norm",
                "mlp.Wi": "mlp.gate_up_proj",
                "mlp.Wo": "mlp.down_proj",
            },
        ),
    },
    heads={
        "TrefoilEncoderModel": ("ModernBertModel", {}),
        "TrefoilEncoderForMaskedLM": ("ModernBertForMaskedLM", TRANSFORM | {"decoder": "lm_head"}),
        "TrefoilEncoderForSequenceClassification": (
            "ModernBertForSequenceClassification",
            TRANSFORM | {"classifier": "score"},
        ),
        "TrefoilEncoderForTokenClassification": (
            "ModernBertForTokenClassification",
            TRANSFORM | {"classifier": "score"},
        ),
        "TrefoilEncoderForQuestionAnswering": (
            "ModernBertForQuestionAnswering",
            TRANSFORM | {"classifier": "qa_outputs"},
        ),
    },
    converters=tuple(
        converter
        for part in ("weight", "bias")
        for converter in (
            WeightConverter(
                f"self_attn.qkv_proj.{part}", [f"self_attn.{name}_proj.{part}" for name in "qkv"], [Chunk(dim=0)]
            ),
            WeightConverter(
                f"mlp.gate_up_proj.{part}", [f"mlp.{name}_proj.{part}" for name in ("gate", "up")], [Chunk(dim=0)]
            ),
        )
    ),
    ignored=frozenset(
        {
            "initializer_cutoff_factor",
            "deterministic_flash_attn",
            "sparse_prediction",
            "sparse_pred_ignore_index",
            "cls_token_id",
            "local_attention",  # read where there are layers that it counts in
            "sep_token_id",
        }
    ),
    leftovers=("head", "decoder"),
)
