"""Assisted generation: a small model drafts, the large one checks, and the text is the large one's."""

import pytest
import torch
from conftest import seldom, tiny_model

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17]]
LENGTH = 12


@pytest.mark.parametrize("family", seldom(["decoder", "encoder-decoder"], "decoder"))
@pytest.mark.parametrize("attn_implementation", seldom(["eager", "sdpa"], "sdpa"))
def test_a_draft_changes_the_speed_only(family, attn_implementation):
    model = tiny_model(family, attn_implementation=attn_implementation)
    stranger = tiny_model(family, seed=1, attn_implementation=attn_implementation, num_hidden_layers=1)
    twin = tiny_model(family, attn_implementation=attn_implementation)
    for assistant in (stranger, twin):
        assistant.generation_config.update(num_assistant_tokens=4, assistant_confidence_threshold=0.0)
    passes = []
    model.register_forward_hook(lambda *_: passes.append(None))

    def generate(prompt, **options):
        passes.clear()
        options |= {"max_new_tokens": LENGTH, "min_new_tokens": LENGTH, "do_sample": False}
        return model.generate(torch.tensor([prompt]), **options)[0].tolist(), len(passes)

    for prompt in PROMPTS:
        expected, alone = generate(prompt)
        assert alone == LENGTH
        assert generate(prompt, assistant_model=stranger)[0] == expected
        assert generate(prompt, prompt_lookup_num_tokens=3)[0] == expected
        found, checked = generate(prompt, assistant_model=twin)
        assert found == expected
        assert checked <= LENGTH / 3
