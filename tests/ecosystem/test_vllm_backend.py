"""What vLLM's backend for transformers' models asks of a base model: its guide "Writing custom models".

vLLM itself is not needed: its attention is played by one that, like it, sees the tokens of all requests in one row, keeps
its own keys and values, and finds its layer by `layer_idx`.
"""

import re
from itertools import chain

import pytest
import torch
from conftest import VARIANTS, pairs, tiny_config, tiny_model
from torch import nn
from transformers import AutoModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

FAMILIES = ["encoder", "decoder"]
# not with a bias on the scores, for which its attention has no place, nor with an encoder's windows
SERVED = [
    (family, variant)
    for family in FAMILIES
    for variant in VARIANTS
    if variant != "t5" and (family, variant) != ("encoder", "windows")
]
PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17]]


class RequestAttention:
    """The attention of one layer over requests whose tokens follow each other in one row."""

    def __init__(self, causal, window=None):
        self.causal, self.window = causal, window
        self.cache = {}

    def __call__(self, query, key, value, lengths, scaling, head_dim):
        """`(tokens, heads * head_dim)` each, in and out."""
        outputs = []
        rows = zip(*(states.split(lengths) for states in (query, key, value)), strict=True)
        for request, (queries, keys, values) in enumerate(rows):
            past = self.cache.get(request, (keys[:0], values[:0]))
            keys, values = torch.cat([past[0], keys]), torch.cat([past[1], values])
            if self.causal:
                self.cache[request] = keys, values
            heads = [states.view(len(states), -1, head_dim).transpose(0, 1) for states in (queries, keys, values)]
            groups = len(heads[0]) // len(heads[1])
            scores = heads[0] @ heads[1].repeat_interleave(groups, 0).transpose(-2, -1) * scaling
            if self.causal:
                last = len(keys) - len(queries)
                seen = torch.ones_like(scores[0], dtype=torch.bool).tril(last)
                if self.window is not None:
                    seen = seen.triu(last - self.window + 1)
                scores = scores.masked_fill(~seen, float("-inf"))
            output = scores.softmax(dim=-1) @ heads[2].repeat_interleave(groups, 0)
            outputs.append(output.transpose(0, 1).flatten(1))
        return torch.cat(outputs)


def serving_attention(
    module, query, key, value, attention_mask, scaling=None, attention_instances=None, lengths=None, **kwargs
):
    """Keyword arguments come from the model's caller, through every module."""
    assert attention_mask is None
    attend = attention_instances[module.layer_idx]
    assert attend.causal == module.is_causal
    tokens = [states.transpose(1, 2).reshape(query.shape[-2], -1) for states in (query, key, value)]
    return attend(*tokens, lengths, scaling, query.shape[-1]), None


@pytest.fixture
def serving(monkeypatch):
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "vllm", serving_attention)


def served(model, instances, ids, positions):
    with torch.no_grad():
        return model(
            input_ids=torch.tensor([list(chain(*ids))]),
            position_ids=torch.tensor([list(chain(*positions))]),
            use_cache=False,
            return_dict=False,
            attention_instances=instances,
            lengths=[len(row) for row in ids],
        )[0][0].split([len(row) for row in ids])


def expected(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state[0]


@pytest.mark.parametrize(("family", "variant"), SERVED)
def test_an_attention_with_its_own_cache_serves_all_requests_at_once(family, variant, serving):
    plain = tiny_model(family, variant).base_model
    model = tiny_model(family, variant, attn_implementation="vllm").base_model
    causal = family == "decoder"
    windows = {"full_attention": None, "sliding_attention": model.config.sliding_window}
    instances = {
        place: RequestAttention(causal, windows[layer_type])
        for place, layer_type in enumerate(model.config.layer_types)
    }
    states = served(model, instances, PROMPTS, [list(range(len(prompt))) for prompt in PROMPTS])
    for found, prompt in zip(states, PROMPTS, strict=True):
        torch.testing.assert_close(found, expected(plain, prompt), atol=1e-5, rtol=1e-4)
    if causal:  # and one more token each
        states = served(model, instances, [[20]] * len(PROMPTS), [[len(prompt)] for prompt in PROMPTS])
        for found, prompt in zip(states, PROMPTS, strict=True):
            torch.testing.assert_close(found, expected(plain, [*prompt, 20])[-1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bias_on_the_scores_is_refused(family, serving):
    model = tiny_model(family, "t5", attn_implementation="vllm").base_model
    with pytest.raises(ValueError, match="position_embedding_type='relative'"):
        served(model, {}, PROMPTS, [list(range(len(prompt))) for prompt in PROMPTS])


@pytest.mark.parametrize(("family", "variant"), pairs(*FAMILIES))
def test_what_the_backend_reads_off_the_model(family, variant):
    headed = tiny_model(family, variant)
    config = tiny_config(family, variant)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert type(model) is type(headed.base_model)
    assert model.is_backend_compatible()
    assert config.get_text_config() is config
    assert type(model.get_decoder()) is type(model)
    # one module that is not causal, and the whole model is taken for an encoder
    causal = {part.is_causal for part in model.modules() if hasattr(part, "is_causal")}
    assert causal == {family == "decoder"}
    # a head's weights are the base model's, with one prefix, and its own
    names = {f"model.{name}" for name in model.state_dict()}
    assert names == {name for name in headed.state_dict() if name.startswith("model.")}
    assert headed.base_model_prefix == "model"
    assert isinstance(model.get_input_embeddings(), nn.Embedding)


@pytest.mark.parametrize(("family", "variant"), pairs(*FAMILIES))
def test_plans_name_every_part(family, variant):
    with torch.device("meta"):
        model = AutoModel.from_config(tiny_config(family, variant))
    linear = {name for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    whole = model.config.qk_norm == "projection"  # queries and keys are normed over all heads
    for name in linear:
        styles = [style for plan, style in model.tp_plan.items() if re.match(plan, name)]
        style = "rowwise" if name.endswith(("o_proj", "down_proj")) else "colwise"
        gathered = {"rowwise": "rowwise_split_input", "colwise": "colwise_gather_output"}
        assert styles == [gathered[style] if whole and "self_attn" in name else style]
    for plan, style in model.tp_plan.items():
        assert any(re.match(plan, name) for name in linear) == style.startswith(("colwise", "rowwise"))

    assert model.supports_pp_plan
    stages = [model.get_submodule(name) for name in model._pp_plan]
    assert [isinstance(stage, nn.ModuleList) for stage in stages] == [False, True, False]
    assert len(stages[1]) == model.config.num_hidden_layers
