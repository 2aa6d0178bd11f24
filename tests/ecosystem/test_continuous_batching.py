"""transformers' continuous batching on the decoder: prompts of any length share every forward pass."""

import pytest
import torch
from conftest import seldom, tiny_model
from transformers import GenerationConfig
from transformers.generation import ContinuousBatchingConfig

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17], [18]]


GENERATION = GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=2, pad_token_id=0)
# two requests at a time, so that the later ones join a running batch; the default cache takes most of the memory
BATCHING = ContinuousBatchingConfig(page_size=4, num_blocks=16, max_batch_tokens=12, max_requests_per_batch=2)


def generated(model):
    found = model.generate_batch(PROMPTS, generation_config=GENERATION, continuous_batching_config=BATCHING)
    assert len(found) == len(PROMPTS)
    return found.values()


@pytest.mark.parametrize("variant", seldom(["modern", "vaswani", "bert", "windows"], "modern", "windows"))
@pytest.mark.parametrize("attn_implementation", seldom(["eager", "sdpa"], "sdpa"))
def test_a_shared_batch_gives_what_each_prompt_gives_alone(variant, attn_implementation):
    model = tiny_model("decoder", variant, attn_implementation=attn_implementation)
    found = generated(model)
    assert [output.error for output in found] == [None] * len(PROMPTS)

    assert model.config._attn_implementation == attn_implementation
    alone = [model.generate(torch.tensor([prompt]), generation_config=GENERATION)[0] for prompt in PROMPTS]
    expected = [row[len(prompt) :].tolist() for row, prompt in zip(alone, PROMPTS, strict=True)]
    assert [output.generated_tokens for output in found] == expected
    assert len({tuple(row) for row in expected}) == len(PROMPTS)


@pytest.mark.parametrize("positions", ["relative", "alibi"])
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_a_bias_on_the_scores_is_refused(positions, attn_implementation):
    """Paged attention would leave it out and generate other tokens."""
    model = tiny_model("decoder", position_embedding_type=positions, attn_implementation=attn_implementation)
    for output in generated(model):
        assert f"cannot add positions to the scores, as position_embedding_type={positions!r}" in str(output.error)
        assert str(output.error).endswith("use generate()")


def test_a_cap_on_the_scores_is_refused():
    model = tiny_model("decoder", "gemma", attn_logit_softcapping=0.1, attn_implementation="eager")
    assert all("cannot cap scores" in str(output.error) for output in generated(model))
    model.config._attn_implementation = "sdpa"  # which set_attn_implementation refuses
    assert all("cannot cap scores" in str(output.error) for output in generated(model))
