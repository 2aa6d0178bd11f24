"""`torch.compile` of every family in one graph: the same loss, logits and gradients."""

import shutil

import pytest
import torch
from conftest import FAMILIES, tiny_model


def batch(length):
    ids = torch.randint(3, 67, (2, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    mask[1, -3:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def step(model, parameters, inputs):
    """Loss, logits and gradients."""
    output = model(**inputs)
    return output.loss, output.logits, torch.autograd.grad(output.loss, parameters)


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()


def assert_same(compiled, model, inputs):
    parameters = list(model.parameters())
    torch.testing.assert_close(
        step(compiled, parameters, inputs), step(model, parameters, inputs), atol=1e-5, rtol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_one_graph_gives_the_same_gradients(family):
    """Traced and differentiated ahead of time, with the operators as they are."""
    model = tiny_model(family, num_hidden_layers=1)
    assert_same(torch.compile(model, fullgraph=True, backend="aot_eager"), model, batch(9))


@pytest.mark.slow
def test_one_graph_serves_all_lengths():
    model = tiny_model("decoder", num_hidden_layers=1)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in 9, 14, 11:
            assert_same(compiled, model, batch(length))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_generated_code_gives_the_same_gradients():
    """By inductor, torch's default, for one family and one length: it takes seconds each."""
    model = tiny_model("decoder", num_hidden_layers=1)
    assert_same(torch.compile(model, fullgraph=True), model, batch(9))
