"""The configuration of a vision encoder and a decoder: its halves, wherever they come from."""

import pytest
from transformers import AutoConfig, GPT2Config, ViTConfig

from trefoil import TrefoilDecoderConfig, TrefoilVisionEncoderDecoderConfig


def test_its_halves_are_configurations_fields_or_nothing():
    default = TrefoilVisionEncoderDecoderConfig()
    assert (type(default.encoder), type(default.decoder)) == (ViTConfig, TrefoilDecoderConfig)
    encoder = ViTConfig(hidden_size=48)
    fields = {"encoder": {"model_type": "vit", "hidden_size": 48}, "decoder": {"hidden_size": 32}}
    for config in (
        TrefoilVisionEncoderDecoderConfig(**fields),
        TrefoilVisionEncoderDecoderConfig(encoder=encoder, decoder=TrefoilDecoderConfig(hidden_size=32)),
    ):
        assert config.encoder.to_dict() == encoder.to_dict()
        assert (config.decoder.hidden_size, config.decoder.cross_attention_hidden_size) == (32, 48)
        assert config.decoder.add_cross_attention
        assert config.is_encoder_decoder
    assert fields["decoder"] == {"hidden_size": 32}


def test_a_decoder_of_transformers_stays_as_it_is():
    decoder = GPT2Config(n_embd=32, add_cross_attention=True)
    config = TrefoilVisionEncoderDecoderConfig(decoder=decoder.to_dict())
    assert config.decoder.to_dict() == decoder.to_dict()
    with pytest.raises(ValueError, match="of_nobody"):
        TrefoilVisionEncoderDecoderConfig(encoder={"model_type": "of_nobody"})


def test_it_is_saved_and_read_by_its_type(tmp_path):
    config = TrefoilVisionEncoderDecoderConfig(decoder={"hidden_size": 32}, pad_token_id=3)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is TrefoilVisionEncoderDecoderConfig
    assert loaded.to_dict() == config.to_dict() | {"_name_or_path": loaded._name_or_path}
    assert loaded.pad_token_id == 3
