"""Fields, their defaults and checks, saving and loading, and joining two halves."""

import copy
import json
import re

import pytest
from conftest import FAMILIES, tiny_config, tiny_model
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import AutoConfig

from trefoil import (
    TrefoilDecoderConfig,
    TrefoilEncoderConfig,
    TrefoilEncoderDecoderConfig,
    TrefoilRecurrentConfig,
    preset_config,
)
from trefoil.configuration.halves import halves


def test_a_saved_config_loads_as_it_was(family_and_variant, tmp_path):
    config = tiny_config(*family_and_variant, hidden_dropout=0.25, eos_token_id=[2, 5])
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is type(config)
    # `_name_or_path` tells where it came from
    assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict()
    assert "_plan" not in (tmp_path / "config.json").read_text(encoding="utf-8")


def test_defaults_that_follow_other_fields():
    config = TrefoilDecoderConfig(hidden_size=96, num_attention_heads=6)
    assert (config.head_dim, config.num_key_value_heads) == (16, 6)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
    assert TrefoilDecoderConfig(position_embedding_type="learned").rope_parameters is None
    wide = TrefoilDecoderConfig(hidden_size=96, num_attention_heads=5, head_dim=32, num_key_value_heads=1)
    assert (wide.head_dim, wide.num_key_value_heads) == (32, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 0}, "hidden_size=0 must be positive"),
        ({"num_attention_heads": 0}, "num_attention_heads=0 must be positive"),
        ({"max_position_embeddings": -1}, "max_position_embeddings=-1 must be positive"),
        ({"hidden_size": 30, "num_attention_heads": 8}, "hidden_size=30 is not a multiple of num_attention_heads=8"),
        ({"num_key_value_heads": 3}, "num_attention_heads=8 is not a multiple of num_key_value_heads=3"),
        ({"head_dim": 7}, "head_dim=7 must be even with position_embedding_type='rotary'"),
        (
            {"hidden_size": 33, "num_attention_heads": 3, "position_embedding_type": "sinusoidal"},
            "hidden_size=33 must be even with position_embedding_type='sinusoidal'",
        ),
        ({"hidden_dropout": 1.0}, "hidden_dropout=1.0 must lie in [0, 1)"),
        ({"attention_dropout": -0.1}, "attention_dropout=-0.1 must lie in [0, 1)"),
        ({"position_offset": -1}, "position_offset=-1 must not be negative"),
        ({"type_vocab_size": -2}, "type_vocab_size=-2 must not be negative"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar=0 must be positive"),
        ({"attn_logit_softcapping": -1.0}, "attn_logit_softcapping=-1.0 must be positive"),
        ({"classifier_dropout": 1.5}, "classifier_dropout=1.5 must lie in [0, 1)"),
    ],
)
@pytest.mark.parametrize("config_class", [TrefoilEncoderConfig, TrefoilDecoderConfig])
def test_fields_that_do_not_fit_are_named_with_their_values(config_class, fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=re.escape(message)):
        config_class(**fields)


def test_dropout_of_a_classification_head():
    assert TrefoilEncoderConfig(hidden_dropout=0.25).head_dropout == 0.25
    assert TrefoilDecoderConfig(hidden_dropout=0.25, classifier_dropout=0).head_dropout == 0


def test_embeddings_may_be_of_another_width():
    config = TrefoilEncoderConfig(hidden_size=64)
    assert config.embedding_size == 64
    config.hidden_size = 32
    assert config.embedding_size == 32
    config = TrefoilEncoderConfig(hidden_size=64, embedding_size=16)
    config.hidden_size = 32
    assert TrefoilEncoderConfig(**config.to_dict()).embedding_size == 16
    with pytest.raises(StrictDataclassClassValidationError, match="embedding_size=0 must be positive"):
        TrefoilEncoderConfig(embedding_size=0)
    with pytest.raises(StrictDataclassClassValidationError, match="embedding_size=7 must be even"):
        TrefoilEncoderConfig(embedding_size=7, position_embedding_type="sinusoidal")
    half = {"vocab_size": 50, "hidden_size": 64}
    narrow = half | {"embedding_size": 32}
    assert not TrefoilEncoderDecoderConfig(encoder=narrow, decoder=half).share_encoder_decoder_embeddings
    with pytest.raises(StrictDataclassClassValidationError, match="encoder's embedding is 50 x 32"):
        TrefoilEncoderDecoderConfig(encoder=narrow, decoder=half, share_encoder_decoder_embeddings=True)


def test_what_an_encoder_classifies_by():
    assert TrefoilEncoderConfig().classifier_pooling == "cls"
    assert TrefoilEncoderConfig(classifier_pooling="mean").to_dict()["classifier_pooling"] == "mean"
    with pytest.raises(StrictDataclassFieldValidationError, match="classifier_pooling"):
        TrefoilEncoderConfig(classifier_pooling="max")


@pytest.mark.parametrize(
    ("field", "value"), [("vocab_size", "many"), ("norm_type", "batch_norm"), ("num_hidden_layers", 2.5)]
)
def test_a_value_of_a_wrong_type_is_named(field, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=f"'{field}'.*{value}"):
        TrefoilEncoderConfig(**{field: value})


@pytest.mark.parametrize("fields", [{}, {"is_gated_act": False}])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_pattern_of_the_parallel_plan_matches_a_module(family, fields):
    model = tiny_model(family, **fields)
    modules = {re.sub(r"\d+", "*", name) for name, _ in model.named_modules()}
    plan = model.tp_plan
    assert sum(".mlp." in name for name in plan) == (3 if not fields else 2) * (2 if family == "encoder-decoder" else 1)
    assert any("cross_attn" in name for name in plan) == (family == "encoder-decoder")
    assert set(plan) <= modules


def test_what_is_added_to_the_parallel_plan_stays_and_is_not_saved():
    config = TrefoilDecoderConfig()
    before = dict(config.base_model_tp_plan)
    config.base_model_tp_plan = {**before, "embed_tokens": "embedding_rowwise"}
    config.add_cross_attention = True
    assert before.items() < copy.deepcopy(config).base_model_tp_plan.items()
    assert config.base_model_tp_plan["embed_tokens"] == "embedding_rowwise"
    assert config.base_model_tp_plan["layers.*.cross_attn.q_proj"] == "colwise"
    assert not any("plan" in key for key in config.to_dict())
    assert "plan" not in json.dumps(config.to_diff_dict())


def test_two_halves_become_one():
    encoder = TrefoilEncoderConfig(vocab_size=50, hidden_size=64, num_hidden_layers=3)
    decoder = TrefoilDecoderConfig(vocab_size=70, hidden_size=32, num_hidden_layers=1, eos_token_id=9)
    config = TrefoilEncoderDecoderConfig(encoder=encoder, decoder=decoder)
    assert config.decoder.add_cross_attention
    assert config.decoder.cross_attention_hidden_size == 64
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (70, 32, 1)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 9)
    assert config.decoder_start_token_id == 1
    assert not config.share_encoder_decoder_embeddings
    config.vocab_size = 80
    assert (config.encoder.vocab_size, config.decoder.vocab_size) == (50, 80)


def test_a_decoder_moves_to_another_encoder():
    decoder = TrefoilDecoderConfig(hidden_size=32)
    for hidden_size in (64, 32):
        config = TrefoilEncoderDecoderConfig(encoder={"hidden_size": hidden_size}, decoder=decoder)
        assert (config.decoder.cross_attention_hidden_size or config.decoder.hidden_size) == hidden_size


def test_halves_of_one_size_share_embeddings_unless_told_otherwise():
    fields = {"vocab_size": 50, "hidden_size": 64}
    config = TrefoilEncoderDecoderConfig(encoder=fields, decoder=fields)
    assert config.share_encoder_decoder_embeddings
    config.vocab_size = 80
    assert (config.encoder.vocab_size, config.decoder.vocab_size) == (80, 80)
    for option in ("tie_word_embeddings", "share_encoder_decoder_embeddings"):
        config = TrefoilEncoderDecoderConfig(encoder=fields, decoder=fields, **{option: False})
        assert not config.share_encoder_decoder_embeddings


@pytest.mark.parametrize("other", [{"vocab_size": 70}, {"hidden_size": 32}])
def test_halves_of_two_sizes_cannot_share_embeddings(other):
    fields = {"vocab_size": 50, "hidden_size": 64}
    sizes = "50 x 64 and the decoder's {vocab_size} x {hidden_size}".format(**fields | other)
    with pytest.raises(StrictDataclassClassValidationError, match=sizes):
        TrefoilEncoderDecoderConfig(encoder=fields, decoder=fields | other, share_encoder_decoder_embeddings=True)


def test_a_half_that_is_no_configuration_is_named():
    with pytest.raises(StrictDataclassFieldValidationError, match=r"'encoder'.*'small'"):
        TrefoilEncoderDecoderConfig(encoder="small")


def test_layers_that_are_all_alike_stay_so_when_the_depth_changes():
    config = TrefoilDecoderConfig(num_hidden_layers=2, sliding_window=4)
    config.num_hidden_layers = 3
    assert config.layer_types == ["sliding_attention"] * 3
    config.validate_architecture()
    config.sliding_window = None
    assert config.layer_types == ["full_attention"] * 3
    config.sliding_window = 5
    assert config.layer_types == ["sliding_attention"] * 3
    mixed = TrefoilDecoderConfig(
        num_hidden_layers=2, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
    )
    mixed.num_hidden_layers = 1
    assert mixed.layer_types == ["sliding_attention"]
    mixed = TrefoilDecoderConfig(
        num_hidden_layers=2, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
    )
    mixed.num_hidden_layers = 3
    with pytest.raises(ValueError, match="layer_types names 2 layers, but num_hidden_layers=3"):
        mixed.validate_architecture()


@pytest.mark.parametrize(("former", "now"), [(True, "head"), (False, "none")])
def test_fields_of_former_releases_load(former, now, tmp_path):
    TrefoilDecoderConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    del fields["query_pre_attn_scalar"]
    path.write_text(json.dumps(fields | {"qk_norm": former, "scale_attention": former}))
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.qk_norm == now
    assert config.query_pre_attn_scalar == (config.head_dim if former else 1)
    assert not hasattr(config, "scale_attention")
    config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    config.qk_norm = former
    assert config.qk_norm == now


def test_the_halves_of_a_configuration():
    whole = TrefoilEncoderDecoderConfig()
    assert halves(whole) == {"encoder": whole.encoder, "decoder": whole.decoder}
    vision = preset_config("vision-encoder-decoder-tiny")
    assert halves(vision) == {"encoder": vision.encoder, "decoder": vision.decoder}
    assert halves(whole.encoder) == halves(AutoConfig.for_model("bert")) == halves(TrefoilRecurrentConfig()) == {}
