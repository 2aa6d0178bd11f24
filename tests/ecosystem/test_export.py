"""`torch.export` of every class, with sizes that the exported program leaves open."""

import pytest
import torch
from conftest import tiny_config
from torch.export import Dim

import trefoil
from trefoil.modeling.auto import AUTO_CLASSES

FAMILIES = {
    "trefoil_encoder": "encoder", "trefoil_decoder": "decoder", "trefoil_encoder_decoder": "encoder-decoder",
}  # fmt: skip
CLASSES = [
    pytest.param(
        model_class,
        FAMILIES[config_class.model_type],
        id=model_class.__name__,
        marks=() if model_class is trefoil.TrefoilDecoderForCausalLM else pytest.mark.slow,
    )
    for config_class, models in AUTO_CLASSES.items()
    for model_class in models.values()
    if config_class.model_type in FAMILIES
]
BATCH, LENGTH, TARGET = (Dim(name, min=1, max=64) for name in ("batch", "length", "target"))


def inputs_of(family, batch, length, target, padded):
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(3, 67, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, length - padded :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family == "encoder-decoder":
        inputs["decoder_input_ids"] = torch.randint(3, 67, (batch, target), generator=generator)
    return inputs


@pytest.mark.parametrize(("model_class", "family"), CLASSES)
def test_an_exported_program_gives_the_same_at_other_sizes(model_class, family):
    torch.manual_seed(0)
    config = tiny_config(family, initializer_range=0.2, num_hidden_layers=1)
    # a cache is Python state, which grows in place; a program has none
    getattr(config, "decoder", config).use_cache = False
    model = model_class(config).eval()
    sizes = {"input_ids": {0: BATCH, 1: LENGTH}, "attention_mask": {0: BATCH, 1: LENGTH}}
    if family == "encoder-decoder":
        sizes["decoder_input_ids"] = {0: BATCH, 1: TARGET}
    # transformers collects hidden states in a context variable, a side effect that strict mode would warn of
    program = torch.export.export(
        model, (), inputs_of(family, 2, 9, 5, padded=3), dynamic_shapes=sizes, strict=False
    ).module()
    for batch, length, target, padded in [(2, 9, 5, 3), (5, 13, 7, 4), (1, 4, 2, 0)]:
        inputs = inputs_of(family, batch, length, target, padded)
        with torch.no_grad():
            found, expected = program(**inputs), model(**inputs)
        assert type(found) is type(expected)
        assert list(found) == list(expected)
        assert "past_key_values" not in found
        torch.testing.assert_close(found.to_tuple(), expected.to_tuple(), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model_class", AUTO_CLASSES[trefoil.TrefoilRecurrentConfig].values())
def test_a_recurrent_program_has_as_many_steps_as_its_example(model_class):
    torch.manual_seed(0)
    config = trefoil.TrefoilRecurrentConfig(vocab_size=67, hidden_size=16, initializer_range=0.3, use_cache=False)
    model = model_class(config).eval()
    sizes = {name: {0: BATCH} for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    example = inputs_of("encoder-decoder", 2, 6, 4, padded=2)
    program = torch.export.export(model, (), example, dynamic_shapes=sizes, strict=False).module()
    for batch in (2, 5):
        inputs = inputs_of("encoder-decoder", batch, 6, 4, padded=1)
        with torch.no_grad():
            found, expected = program(**inputs), model(**inputs)
        assert list(found) == list(expected)
        torch.testing.assert_close(found.to_tuple(), expected.to_tuple(), atol=1e-5, rtol=1e-5)
