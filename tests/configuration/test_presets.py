"""Presets have the size and the settings of what they are named after."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)

from trefoil import PRESETS, preset_config

BART_BASE = {
    "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 12,
    "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072,
}  # fmt: skip

# preset: head, their configuration (BERT's and GPT-2's defaults are the base models), how many parameters ours has,
# and how many more theirs. The bias of BART's logits is a parameter here and a buffer there.
STOCK = {
    "bert-base": (AutoModelForMaskedLM, AutoConfig.for_model("bert"), 109_514_298, 0),
    "gpt2": (AutoModelForCausalLM, AutoConfig.for_model("gpt2"), 124_439_808, 0),
    "bart-base": (AutoModelForSeq2SeqLM, AutoConfig.for_model("bart", **BART_BASE), 139_470_681, -50265),
}


def count(config, head=AutoModel):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in head.from_config(config).parameters())


@pytest.mark.parametrize("preset", STOCK)
def test_as_many_parameters_as_the_stock_model(preset):
    head, theirs, ours, more = STOCK[preset]
    assert count(preset_config(preset), head) == ours
    assert count(theirs, head) == ours + more


def test_bert_of_the_paper_has_a_pooler_besides():
    pooler = 768 * 768 + 768
    assert count(preset_config("bert-base")) + pooler == count(AutoConfig.for_model("bert")) == 109_482_240


def test_llama_like_has_the_size_of_tinyllama():
    assert count(preset_config("llama-like"), AutoModelForCausalLM) == 1_100_048_384


def test_vaswani_base_is_the_sum_of_the_matrices_in_the_paper():
    width, inner, layers, vocabulary = 512, 2048, 6, 37_000  # table 3, row "base"; §5.1
    attention = 4 * width**2
    feed_forward = 2 * width * inner + inner + width
    norm = 2 * width
    encoder_layer = attention + feed_forward + 2 * norm
    decoder_layer = 2 * attention + feed_forward + 3 * norm
    total = vocabulary * width + layers * (encoder_layer + decoder_layer)
    assert count(preset_config("vaswani-base", vocab_size=vocabulary), AutoModelForSeq2SeqLM) == total
    assert total == pytest.approx(65e6, rel=0.04)  # what the paper gives, in millions


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("bert-base", {"hidden_dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob",
                       "norm_eps": "layer_norm_eps", "hidden_act": "hidden_act", "vocab_size": "vocab_size",
                       "max_position_embeddings": "max_position_embeddings", "type_vocab_size": "type_vocab_size"}),
        ("gpt2", {"hidden_dropout": "resid_pdrop", "attention_dropout": "attn_pdrop", "norm_eps": "layer_norm_epsilon",
                  "hidden_act": "activation_function", "max_position_embeddings": "n_positions",
                  "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "pad_token_id"}),
        ("bart-base", {"hidden_dropout": "dropout", "attention_dropout": "attention_dropout",
                       "activation_dropout": "activation_dropout", "scale_embedding": "scale_embedding",
                       "hidden_act": "activation_function", "max_position_embeddings": "max_position_embeddings",
                       "pad_token_id": "pad_token_id", "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id"}),
    ],
)  # fmt: skip
def test_settings_are_those_of_the_stock_model(preset, names):
    ours, theirs = preset_config(preset), STOCK[preset][1]
    for half in [ours.encoder, ours.decoder] if preset == "bart-base" else [ours]:
        assert {name: getattr(half, name) for name in names} == {
            name: getattr(theirs, other) for name, other in names.items()
        }


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_builds_a_model(preset):
    assert count(preset_config(preset), head_of(preset)) > 0


def head_of(preset):
    return AutoModelForImageTextToText if preset.startswith("vision") else AutoModel


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder", "vision-encoder-decoder"])
def test_sizes_grow(family):
    presets = [f"{family}-{size}" for size in ("tiny", "small", "base")]
    tiny, small, base = (count(preset_config(preset), head_of(preset)) for preset in presets)
    assert tiny < small < base


def test_a_vision_encoder_is_of_any_kind_and_what_is_not_its_is_the_decoder_s():
    config = preset_config(
        "vision-encoder-decoder-tiny",
        vocab_size=99,
        num_hidden_layers=2,
        encoder={"image_size": 48, "patch_size": 8},
        decoder={"hidden_size": 64},
    )
    assert (config.encoder.model_type, config.decoder.model_type) == ("vit", "trefoil_decoder")
    assert (config.encoder.image_size, config.encoder.patch_size, config.decoder.vocab_size) == (48, 8, 99)
    assert (config.encoder.num_hidden_layers, config.decoder.num_hidden_layers) == (2, 2)
    assert (config.encoder.hidden_size, config.decoder.hidden_size) == (128, 64)
    assert (config.decoder.add_cross_attention, config.decoder.cross_attention_hidden_size) == (True, 128)
    other = preset_config("vision-encoder-decoder-tiny", encoder={"model_type": "deit"})
    assert other.encoder.model_type == "deit"
    with pytest.raises(ValueError, match="unknown field 'patch_sise' of ViTConfig; did you mean patch_size"):
        preset_config("vision-encoder-decoder-tiny", encoder={"patch_sise": 8})
    with pytest.raises(
        ValueError, match=r"'hiden_size' of ViTConfig and TrefoilDecoderConfig; did you mean hidden_size"
    ):
        preset_config("vision-encoder-decoder-tiny", hiden_size=8)
    with pytest.raises(ValueError, match="encoder='vit' must hold fields"):
        preset_config("vision-encoder-decoder-tiny", encoder="vit")
    with pytest.raises(ValueError, match="a bert does not read pictures in patches; the usual encoder is vit"):
        preset_config("vision-encoder-decoder-tiny", encoder={"model_type": "bert"})
    with pytest.raises(ValueError, match=r"encoder\.model_type='vitt' is no model of transformers"):
        preset_config("vision-encoder-decoder-tiny", encoder={"model_type": "vitt"})


def test_fields_of_a_stack_go_to_both_halves_and_those_of_a_half_to_one():
    config = preset_config("vaswani-base", vocab_size=100, encoder={"num_hidden_layers": 12}, decoder_start_token_id=7)
    assert (config.encoder.vocab_size, config.decoder.vocab_size) == (100, 100)
    assert (config.encoder.num_hidden_layers, config.decoder.num_hidden_layers) == (12, 6)
    assert config.decoder_start_token_id == 7
    assert preset_config("vaswani-base").encoder.num_hidden_layers == 6


def test_unknown_names_are_told():
    with pytest.raises(ValueError, match=r"unknown preset 'bert-bas'; there are .*bert-base"):
        preset_config("bert-bas")
    with pytest.raises(ValueError, match="gpt2: unknown field 'hiden_size' of TrefoilDecoderConfig"):
        preset_config("gpt2", hiden_size=8)


def test_bart_starts_with_its_end_token():
    config = preset_config("bart-base")
    assert (config.decoder_start_token_id, config.pad_token_id) == (2, 1)


def test_a_field_of_the_whole_is_refused_in_a_half():
    with pytest.raises(ValueError, match="unknown field 'share_encoder_decoder_embeddings'"):
        preset_config("encoder-decoder-tiny", encoder={"share_encoder_decoder_embeddings": True})


@pytest.mark.parametrize("fields", [{"hiden_size": 8}, {"encoder": {"hiden_size": 8}}])
def test_a_misspelt_field_is_refused_wherever_it_stands(fields):
    with pytest.raises(ValueError, match=r"unknown field 'hiden_size'.*did you mean hidden_size"):
        preset_config("encoder-decoder-tiny", **fields)


def test_an_unknown_activation_is_refused():
    with pytest.raises(Exception, match="hidden_act='nope' is no activation"):
        preset_config("encoder-tiny", hidden_act="nope")
