"""Every combination of options that a configuration takes makes a model that runs, and that writes the same with and without a
cache; every other one is refused in a line."""

import pytest
import torch
from conftest import FAMILIES
from fuzzing import FEW, MANY, hypothesis, times
from huggingface_hub.errors import StrictDataclassError
from hypothesis import strategies as st

from trefoil.configuration.positions import POSITION_KINDS

SIZES = {"vocab_size": 31, "max_position_embeddings": 32, "initializer_range": 0.2}
FIELDS = {
    "hidden_size": st.sampled_from([8, 12, 16]),
    "intermediate_size": st.integers(1, 24),
    "num_hidden_layers": st.integers(1, 3),
    "num_attention_heads": st.sampled_from([1, 2, 4]),
    "num_key_value_heads": st.sampled_from([None, 1, 2]),
    "head_dim": st.sampled_from([None, 2, 4, 6]),
    "hidden_act": st.sampled_from(["silu", "relu", "gelu"]),
    "is_gated_act": st.booleans(),
    "norm_type": st.sampled_from(["rms_norm", "layer_norm", "zero_centered_rms_norm"]),
    "norm_position": st.sampled_from(["pre", "post", "output", "sandwich"]),
    "norm_bias": st.booleans(),
    "embedding_norm": st.booleans(),
    "skip_first_norm": st.booleans(),
    "scale_embedding": st.booleans(),
    "position_embedding_type": st.sampled_from([*POSITION_KINDS]),
    "position_offset": st.sampled_from([0, 2]),
    "type_vocab_size": st.sampled_from([0, 2]),
    "sliding_window": st.sampled_from([None, None, 3]),
    "attention_bias": st.booleans(),
    "attention_output_bias": st.sampled_from([None, True, False]),
    "attn_logit_softcapping": st.sampled_from([None, 5.0]),
    "qk_norm": st.sampled_from(["none", "head", "projection"]),
    "mlp_bias": st.booleans(),
    "tie_word_embeddings": st.booleans(),
    "lm_head_bias": st.booleans(),
    "freeze_padding_embedding": st.booleans(),
}
OPTIONS = st.fixed_dictionaries({}, optional=FIELDS)


def model_of(family, options, seed):
    """None where the configuration refuses the options."""
    config_class, model_class = FAMILIES[family]
    fields = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    fields |= SIZES | options
    try:
        config = config_class(**fields) if family != "encoder-decoder" else config_class(encoder=fields, decoder=fields)
    except StrictDataclassError:
        return None
    torch.manual_seed(seed)
    config._attn_implementation = "eager"
    return model_class(config).eval()


@pytest.mark.parametrize("more", [FEW, MANY])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_refused_runs(family, more):
    built = []

    @hypothesis.given(OPTIONS, st.integers(0, 9))
    @torch.no_grad()
    def check(options, seed):
        model = model_of(family, options, seed)
        if model is None:
            return
        built.append(options)
        ids = torch.randint(3, SIZES["vocab_size"], (2, 5), generator=torch.Generator().manual_seed(seed))
        more_inputs = {"decoder_input_ids": ids} if family == "encoder-decoder" else {}
        logits = model(input_ids=ids, **more_inputs).logits
        assert logits.shape == (2, 5, SIZES["vocab_size"])
        assert torch.isfinite(logits).all()
        if family == "encoder":
            return
        options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
        with_cache, without = (model.generate(ids, use_cache=use_cache, **options) for use_cache in (True, False))
        assert torch.equal(with_cache, without)

    times(check, 15, more)
    assert built
