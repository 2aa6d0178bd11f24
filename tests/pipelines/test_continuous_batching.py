"""Rows that have ended are replaced by prompts that wait, and every prompt is answered as it is alone."""

import pytest
import torch
from conftest import SMALL, VARIANTS, seldom, tiny_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, StoppingCriteria, pipeline

import trefoil
from trefoil.data.tokenizer import LEFT_TO_RIGHT, STREAM, train_tokenizer
from trefoil.pipelines.continuous_batching import NotContinuous, continuous_batching
from trefoil.recipes.schema import TokenizerRecipe

LENGTHS = [4, 2, 7, 1, 12, 3, 3, 9]
NEW_TOKENS, LONGEST = 16, max(LENGTHS)
# many tokens that end a text, so that random models end theirs at different places
GENERATION = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=[*range(2, 9)], pad_token_id=0)
ROWS = LONGEST + NEW_TOKENS  # tokens that one row may need
TEXTS = [
    "하나 둘",
    "one two three four five six seven",
    "two 🙂",
    "three 🙂🙂 넷 four",
    "넷",
    "five six",
    "ten 👩‍👩‍👧 열",
]


def prompts(seed=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(9, SMALL["vocab_size"], (length,), generator=generator).tolist() for length in LENGTHS]


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def alone(model, row, **options):
    return model.generate(torch.tensor([row]), generation_config=GENERATION, **options)[0, len(row) :].tolist()


def together(model, rows, cached_tokens=3 * ROWS, generation_config=GENERATION, **options):
    return model.generate(
        **padded(rows),
        generation_config=generation_config,
        custom_generate=continuous_batching,
        cached_tokens=cached_tokens,
        **options,
    )


def answers(sequences, expected):
    """Without the padding after the end."""
    found = sequences[:, LONGEST:].tolist()
    assert not any(any(row[len(answer) :]) for row, answer in zip(found, expected, strict=True))
    return [row[: len(answer)] for row, answer in zip(found, expected, strict=True)]


class Counter:
    """Forward passes of a model."""

    def __init__(self, model):
        self.passes, self.rows = 0, []
        model.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, model, arguments, options):
        self.passes += 1
        self.rows.append(len(options["input_ids"]))


class EndsAt(StoppingCriteria):
    """Texts end after as many tokens as the last token of their prompt says."""

    def __init__(self, width):
        self.width = width

    def __call__(self, input_ids, scores, **options):
        return input_ids.shape[1] - self.width >= input_ids[:, self.width - 1]


@pytest.mark.parametrize("attn_implementation", seldom(["eager", "sdpa"], "sdpa"))
@pytest.mark.parametrize("variant", seldom(VARIANTS, "windows", "t5"))
def test_each_prompt_is_answered_as_it_is_alone(variant, attn_implementation):
    model = tiny_model("decoder", variant, attn_implementation=attn_implementation)
    expected = [alone(model, row) for row in prompts()]
    for rows in (1, 3, 100):
        assert answers(together(model, prompts(), rows * ROWS), expected) == expected, rows


def test_alibi():
    model = tiny_model("decoder", position_embedding_type="alibi")
    expected = [alone(model, row) for row in prompts()]
    assert answers(together(model, prompts()), expected) == expected


def test_a_stock_model():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SMALL, initializer_range=0.2)).eval()
    expected = [alone(model, row) for row in prompts()]
    assert len(set(map(len, expected))) > 3
    assert answers(together(model, prompts()), expected) == expected


def test_rows_that_have_ended_make_room():
    model = tiny_model("decoder", max_position_embeddings=256)
    ends = [60, 2, 3, 2, 4, 3, 2, 3, 5, 60, 2, 2, 3, 4, 2, 3]
    rows = [[11, 12, 13, end] for end in ends]
    options = {
        "max_new_tokens": 66,
        "do_sample": False,
        "pad_token_id": 0,
        "suppress_tokens": [0, 2],
        "stopping_criteria": [EndsAt(4)],
    }
    in_batches, counter = 0, Counter(model)
    for start in range(0, 16, 4):
        model.generate(**padded(rows[start : start + 4]), **options)
        in_batches, counter.passes = in_batches + counter.passes, 0
    assert in_batches == 60 + 4 + 60 + 4
    counter.rows = []
    sequences = model.generate(
        **padded(rows), **options, custom_generate=continuous_batching, cached_tokens=4 * (4 + 66)
    )
    assert [int(row[4:].ne(0).sum()) for row in sequences] == ends
    assert max(counter.rows) <= 4
    assert counter.passes <= 60 + 16 + 8  # both long rows side by side or one soon after the other, and what is read
    assert sum(counter.rows) == sum(ends)  # no row is computed that has ended


def test_processors_and_criteria_see_what_a_padded_batch_shows_them():
    model = tiny_model("decoder")
    options = {"repetition_penalty": 2.0, "min_new_tokens": 4, "no_repeat_ngram_size": 2}
    expected = model.generate(**padded(prompts()), generation_config=GENERATION, **options)
    assert torch.equal(together(model, prompts(), **options), expected)


def test_sampling_draws_from_what_the_model_says():
    model = tiny_model("decoder")
    options = {"do_sample": True, "max_new_tokens": 3, "num_return_sequences": 2}
    torch.manual_seed(0)
    sampled = together(model, prompts(), **options)
    assert len(sampled) == 2 * len(LENGTHS)
    assert torch.equal(sampled[::2, :LONGEST], sampled[1::2, :LONGEST])
    assert not torch.equal(sampled[::2], sampled[1::2])
    greedy = together(model, prompts(), max_new_tokens=3)
    assert torch.equal(together(model, prompts(), do_sample=True, top_k=1, max_new_tokens=3), greedy)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_beams": 2}, "beam_search"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate"),
        ({"use_cache": False}, "use_cache"),
        ({"cache_implementation": "static"}, "cache_implementation"),
        ({"prefix_allowed_tokens_fn": lambda row, ids: [5]}, "PrefixConstrainedLogitsProcessor"),
        ({"encoder_hidden_states": torch.zeros(8, 2, 32)}, "encoder_hidden_states"),
    ],
)
def test_what_needs_rows_that_stay_is_refused(options, named):
    with pytest.raises(NotContinuous, match=named):
        together(tiny_model("decoder"), prompts(), **options)


def test_a_prompt_that_is_too_long_is_named():
    model = tiny_model("decoder", "bert", max_position_embeddings=8)
    with pytest.raises(ValueError, match=r"prompt 4, of 12 tokens, needs 12 positions.*max_position_embeddings=8"):
        together(model, prompts())
    model = tiny_model("decoder", "bert", max_position_embeddings=14)
    with pytest.raises(ValueError, match="prompt 4, of 12 tokens, needs 15 positions"):
        together(model, prompts(), eos_token_id=None)


def text_generation(template):
    tokenizer = train_tokenizer([TEXTS] * 20, TokenizerRecipe(vocab_size=300), template)
    torch.manual_seed(0)
    config = trefoil.TrefoilDecoderConfig(
        **SMALL | {"vocab_size": len(tokenizer)}, position_embedding_type="learned", initializer_range=0.2
    )
    model = trefoil.TrefoilDecoderForCausalLM(config).eval()
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(5, len(tokenizer), 9)]
    return pipeline("text-generation", model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def pipe():
    return text_generation(LEFT_TO_RIGHT)


@pytest.mark.parametrize("tokens", [1, 16, 2048])
def test_a_pipeline_of_many_prompts(pipe, tokens):
    options = {"do_sample": False, "max_new_tokens": 12}
    expected = [pipe(text, **options) for text in TEXTS]
    counter = Counter(pipe.model)
    assert trefoil.predict_by_length(pipe, TEXTS, tokens, **options) == expected
    assert (max(counter.rows) == 1) == (tokens == 1)
    assert len({len(answer[0]["generated_text"]) - len(text) for answer, text in zip(expected, TEXTS, strict=True)}) > 2


def test_a_pipeline_of_few_prompts(pipe):
    options = {"do_sample": False, "max_new_tokens": 4, "return_full_text": False}
    assert trefoil.predict_by_length(pipe, [], **options) == []
    assert trefoil.predict_by_length(pipe, TEXTS[:1], **options) == [pipe(TEXTS[0], **options)]


def test_prompts_without_tokens():
    pipe, texts = text_generation(STREAM), ["", TEXTS[0], "", TEXTS[1]]
    options = {"do_sample": False, "max_new_tokens": 4}
    assert trefoil.predict_by_length(pipe, texts, **options) == [pipe(text, **options) for text in texts]


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"max_length": 20}, {"stop_sequence": "e"}])
def test_what_is_not_continuous_goes_in_batches(pipe, options):
    options = {"do_sample": False, "max_new_tokens": 6} | options
    expected = [pipe(text, **options) for text in TEXTS]
    assert trefoil.predict_by_length(pipe, TEXTS, **options) == expected


def test_a_pipeline_names_the_prompt_that_is_too_long(pipe):
    texts = [TEXTS[0], "one two three " * 40, TEXTS[1]]
    with pytest.raises(ValueError, match=r"prompt 1, of .* max_position_embeddings=64"):
        trefoil.predict_by_length(pipe, texts, do_sample=False, max_new_tokens=2)
