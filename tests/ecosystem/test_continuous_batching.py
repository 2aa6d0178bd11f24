"""transformers' continuous batching on the decoder: prompts of any length share every forward pass."""

import pytest
import torch
from conftest import tiny_model
from transformers import GenerationConfig
from transformers.generation import ContinuousBatchingConfig

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17], [18]]


@pytest.mark.parametrize("variant", ["modern", "vaswani", "bert", "windows"])
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_a_shared_batch_gives_what_each_prompt_gives_alone(variant, attn_implementation):
    model = tiny_model("decoder", variant, attn_implementation=attn_implementation)
    generation = GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=2, pad_token_id=0)
    # two requests at a time, so that the later ones join a running batch; the default cache takes most of the memory
    batching = ContinuousBatchingConfig(page_size=4, num_blocks=16, max_batch_tokens=12, max_requests_per_batch=2)
    found = model.generate_batch(PROMPTS, generation_config=generation, continuous_batching_config=batching)
    assert [output.error for output in found.values()] == [None] * len(PROMPTS)

    assert model.config._attn_implementation == attn_implementation
    alone = [model.generate(torch.tensor([prompt]), generation_config=generation)[0] for prompt in PROMPTS]
    expected = [row[len(prompt) :].tolist() for row, prompt in zip(alone, PROMPTS, strict=True)]
    assert [output.generated_tokens for output in found.values()] == expected
    assert len({tuple(row) for row in expected}) == len(PROMPTS)
