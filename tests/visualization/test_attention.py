"""Attention maps of all families and of stock models, against what the models give; and what is refused."""

import pytest
import torch
from stock_checkpoints import Case, stock_model
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, BertTokenizerFast

import trefoil
from trefoil.visualization.attention import (
    CROSS,
    DECODER,
    ENCODER,
    AttentionMap,
    attention_maps,
    load_for_attention,
    reason,
)

SOURCE, TARGET = "오후 세 시 반", "half past three"


def check(maps, layers=2, heads=4):
    for one in maps:
        queries, keys = len(one.query_tokens), len(one.key_tokens)
        assert one.weights.shape == (layers, heads, queries, keys)
        assert one.weights.dtype == torch.float32
        assert one.weights.device.type == "cpu"
        for weights in (one.weights, one.average(), one.average(layer=0), one.average(head=0), one.rollout()):
            assert weights.shape[-2:] == (queries, keys)
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
        assert one.weights.triu(1).any() == (one.kind != DECODER)


def test_encoder(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer("encoder")
    maps = attention_maps(model, tokenizer, SOURCE)
    assert [one.kind for one in maps] == [ENCODER]
    check(maps)
    model.set_attn_implementation("eager")
    expected = model(**tokenizer(SOURCE, return_tensors="pt"), output_attentions=True).attentions
    torch.testing.assert_close(maps[ENCODER].weights, torch.cat(expected))
    assert maps[ENCODER].query_tokens[0] == "<s>"
    assert maps.target is None


def test_a_pair_of_texts(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer("encoder")
    maps = attention_maps(model, tokenizer, SOURCE, TARGET)
    check(maps)
    assert maps[ENCODER].key_tokens.count("</s>") == 2
    assert len(maps[ENCODER].key_tokens) == len(tokenizer(SOURCE, TARGET)["input_ids"])


def test_decoder(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer("decoder")
    for target in (None, " " + TARGET):
        maps = attention_maps(model, tokenizer, SOURCE, target)
        assert [one.kind for one in maps] == [DECODER]
        check(maps)
        assert len(maps[DECODER].key_tokens) == len(tokenizer(SOURCE + (target or ""))["input_ids"])


@pytest.mark.parametrize("target", [TARGET, None])
def test_encoder_decoder(model_and_tokenizer, target):
    model, tokenizer = model_and_tokenizer("encoder-decoder")
    maps = attention_maps(model, tokenizer, SOURCE, target)
    assert [one.kind for one in maps] == [ENCODER, DECODER, CROSS]
    check(maps)
    source = tokenizer(SOURCE, return_tensors="pt")
    if target is None:
        generated = model.generate(**source, num_beams=1, do_sample=False)
        labels = generated[:, 1:]
        assert maps.target == tokenizer.decode(generated[0], skip_special_tokens=True)
    else:
        labels = tokenizer(TARGET, return_tensors="pt")["input_ids"]
        assert maps.target == TARGET
    model.set_attn_implementation("eager")
    outputs = model(**source, labels=labels, output_attentions=True)
    for kind, expected in (
        (ENCODER, outputs.encoder_attentions),
        (DECODER, outputs.decoder_attentions),
        (CROSS, outputs.cross_attentions),
    ):
        torch.testing.assert_close(maps[kind].weights, torch.cat(expected))
    # rows of cross-attention are named by what is written there, those of self-attention by what is read
    assert maps[DECODER].query_tokens == ["<s>", *maps[CROSS].query_tokens[:-1]]
    assert maps[CROSS].key_tokens == maps[ENCODER].key_tokens


@pytest.mark.parametrize("attention_type", ["dot", "general", "concat"])
@pytest.mark.parametrize("target", [TARGET, None])
def test_recurrent(model_and_tokenizer, attention_type, target):
    model, tokenizer = model_and_tokenizer("recurrent", attention_type=attention_type)
    maps = attention_maps(model, tokenizer, SOURCE, target)
    assert [one.kind for one in maps] == [CROSS]
    check(maps, layers=1, heads=1)
    assert not maps[CROSS].rolls_out


def test_heads_halves_and_joined_models(model_and_tokenizer):
    tokenizer = model_and_tokenizer("encoder")[1]
    for name in ("SequenceClassification", "TokenClassification", "QuestionAnswering"):
        config = model_and_tokenizer("encoder")[0].config
        check(attention_maps(getattr(trefoil, f"TrefoilEncoderFor{name}")(config), tokenizer, SOURCE))
    whole, tokenizer = model_and_tokenizer("encoder-decoder")
    check(attention_maps(whole.model, tokenizer, SOURCE, TARGET))
    check(attention_maps(whole.model.encoder, tokenizer, SOURCE))


def test_grouped_heads_windows_and_position_biases(model_and_tokenizer):
    for variant in ("t5", "windows"):
        for family in ("encoder", "decoder", "encoder-decoder"):
            model, tokenizer = model_and_tokenizer(family, variant=variant)
            check(attention_maps(model, tokenizer, SOURCE, TARGET))


def test_average():
    weights = torch.rand(3, 2, 4, 5)
    one = trefoil.visualization.attention.AttentionMap(CROSS, weights, list("abcd"), list("abcde"))
    torch.testing.assert_close(one.average(), weights.mean(dim=(0, 1)))
    torch.testing.assert_close(one.average(layer=1), weights[1].mean(dim=0))
    torch.testing.assert_close(one.average(head=1), weights[:, 1].mean(dim=0))
    torch.testing.assert_close(one.average(2, 1), weights[2, 1])


def test_the_model_stays_as_it_was(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer("encoder-decoder")
    model.set_attn_implementation({"": "sdpa", "encoder": "sdpa", "decoder": "eager"})
    model.train()
    attention_maps(model, tokenizer, SOURCE)
    config = model.config
    found = [one._attn_implementation for one in (config, config.encoder, config.decoder)]
    assert found == ["sdpa", "sdpa", "eager"]
    assert model.training
    with pytest.raises(ValueError, match="tokens"):
        attention_maps(model, tokenizer, "세 " * 80)
    assert model.config._attn_implementation == "sdpa"


def test_dropout_is_off(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer("encoder", attention_dropout=0.5, hidden_dropout=0.5)
    model.train()
    first, second = (attention_maps(model, tokenizer, SOURCE)[ENCODER].weights for _ in range(2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_half_precision(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer("encoder")
    weights = attention_maps(model.to(torch.bfloat16), tokenizer, SOURCE)[ENCODER].weights
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]), atol=0.02, rtol=0)


def test_settings_of_beam_search_and_sampling_do_not_disturb(model_and_tokenizer, caplog):
    model, tokenizer = model_and_tokenizer("encoder-decoder")
    expected = attention_maps(model, tokenizer, SOURCE).target
    model.generation_config.update(num_beams=4, early_stopping=True, length_penalty=2.0, num_return_sequences=2)
    model.generation_config.update(do_sample=True, temperature=3.0, top_k=3, top_p=0.5)
    model.generation_config.update(output_attentions=True, return_dict_in_generate=True)
    assert attention_maps(model, tokenizer, SOURCE).target == expected
    assert caplog.records == []
    assert model.generation_config.num_beams == 4


def test_without_a_length_generation_ends_where_positions_do(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer("encoder-decoder")
    model.generation_config.max_new_tokens = None
    model.generation_config.eos_token_id = None
    maps = attention_maps(model, tokenizer, SOURCE)
    assert len(maps[CROSS].query_tokens) == 63


# --- stock models


@pytest.mark.parametrize(
    ("architecture", "head", "kinds"),
    [
        ("bert", "ForSequenceClassification", [ENCODER]),
        ("roberta", "ForMaskedLM", [ENCODER]),
        ("xlm-roberta", "Model", [ENCODER]),
        ("electra", "ForTokenClassification", [ENCODER]),
        ("distilbert", "ForQuestionAnswering", [ENCODER]),
        ("modernbert", "Model", [ENCODER]),
        ("gpt2", "LMHeadModel", [DECODER]),
        ("llama", "ForCausalLM", [DECODER]),
        ("qwen3", "ForSequenceClassification", [DECODER]),
        ("bart", "ForConditionalGeneration", [ENCODER, DECODER, CROSS]),
        ("mbart", "ForConditionalGeneration", [ENCODER, DECODER, CROSS]),
        ("marian", "MTModel", [ENCODER, DECODER, CROSS]),
        ("m2m_100", "ForConditionalGeneration", [ENCODER, DECODER, CROSS]),
        ("pegasus", "ForConditionalGeneration", [ENCODER, DECODER, CROSS]),
        ("t5", "ForConditionalGeneration", [ENCODER, DECODER, CROSS]),
    ],
)
def test_stock_models(tokenizer, architecture, head, kinds):
    fields = {"num_labels": 5} if "Classification" in head else {}
    model = stock_model(Case(architecture, head, "", fields))
    used = tokenizer("characters", "encoder-decoder" if CROSS in kinds else "encoder")
    for target in (TARGET, None):
        if CROSS in kinds and target is None:
            model.generation_config.max_new_tokens = 5
        maps = attention_maps(model, used, SOURCE, target)
        assert [one.kind for one in maps] == kinds
        check(maps, layers=maps.maps[0].weights.shape[0])


def test_token_types_reach_the_model(tmp_path, tokenizer):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "세", "시"]))
    model = stock_model(Case("bert", "Model", ""))
    used = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    weights = attention_maps(model, used, "세 시", "세")[ENCODER].weights
    model.set_attn_implementation("eager")
    given = used("세 시", "세", return_tensors="pt")
    assert given["token_type_ids"].any()
    torch.testing.assert_close(weights, torch.cat(model(**given, output_attentions=True).attentions))


# --- what is refused


@pytest.mark.parametrize(
    ("family", "source", "target", "message"),
    [
        ("encoder", "", None, "the source is empty"),
        ("encoder", " \n", None, "the source is empty"),
        ("encoder-decoder", SOURCE, "", "the target is empty"),
        ("encoder", "세 " * 100, None, r"the text has \d\d\d tokens, but the model reads 64 at most"),
        ("encoder", "세 " * 25, "시 " * 25, r"the pair of texts has \d+ tokens, but the model reads 64 at most"),
        ("decoder", "세 " * 25, "시 " * 25, r"the text has \d+ tokens, but the model reads 64 at most"),
        ("encoder-decoder", "세 " * 100, None, "the source has .* reads 64 at most"),
        ("encoder-decoder", SOURCE, "half " * 100, "the target has .* reads 64 at most"),
        ("recurrent", "세 " * 100, None, "the source has .* reads 64 at most"),
    ],
)
def test_texts_that_are_refused(model_and_tokenizer, family, source, target, message):
    model, tokenizer = model_and_tokenizer(family)
    with pytest.raises(ValueError, match=message) as error:
        attention_maps(model, tokenizer, source, target)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder", "recurrent"])
def test_weights_are_counted_before_they_are_computed(model_and_tokenizer, family):
    model, tokenizer = model_and_tokenizer(family)
    maps = attention_maps(model, tokenizer, SOURCE, TARGET)
    weights = sum(one.weights.numel() for one in maps)
    assert len(attention_maps(model, tokenizer, SOURCE, TARGET, most_weights=weights)) == len(maps)
    lengths = []
    model.register_forward_pre_hook(
        lambda module, args, inputs: lengths.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    message = f"has {weights:,} weights, but {weights - 1:,} are shown at most; give a shorter text"
    with pytest.raises(ValueError, match=message):
        attention_maps(model, tokenizer, SOURCE, TARGET, most_weights=weights - 1)
    assert lengths
    assert max(lengths) <= 2


@pytest.mark.parametrize("family", ["encoder-decoder", "recurrent"])
def test_weights_of_what_is_written_count_too(model_and_tokenizer, monkeypatch, family):
    model, tokenizer = model_and_tokenizer(family)
    maps = attention_maps(model, tokenizer, SOURCE)
    weights = sum(one.weights.numel() for one in maps)
    assert len(attention_maps(model, tokenizer, SOURCE, most_weights=weights)) == len(maps)
    with pytest.raises(ValueError, match=f"has {weights:,} weights, but {weights - 1:,} are shown at most"):
        attention_maps(model, tokenizer, SOURCE, most_weights=weights - 1)
    # where the source alone has too many, nothing is written
    monkeypatch.setattr(model, "generate", None)
    with pytest.raises(ValueError, match="but 3 are shown at most"):
        attention_maps(model, tokenizer, SOURCE, most_weights=3)


def test_models_that_are_refused(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer("recurrent", attention_type="none")
    with pytest.raises(ValueError, match="TrefoilRecurrentForConditionalGeneration has no attention weights to show"):
        attention_maps(model, tokenizer, SOURCE)
    whole, tokenizer = model_and_tokenizer("encoder-decoder")
    with pytest.raises(ValueError, match="TrefoilEncoderDecoderModel has no head to generate with; give a target"):
        attention_maps(whole.model, tokenizer, SOURCE)
    with pytest.raises(KeyError, match="there is only encoder self-attention"):
        attention_maps(whole.model.encoder, tokenizer, SOURCE)[CROSS]


# --- loading


def test_a_folder_is_loaded_with_its_weights_and_without_noise(saved, model_and_tokenizer, caplog):
    for family in ("encoder", "decoder", "encoder-decoder", "recurrent"):
        model, _ = model_and_tokenizer(family)
        loaded, tokenizer = load_for_attention(str(saved(family)))
        expected = attention_maps(model, tokenizer, SOURCE, TARGET)
        for found, wanted in zip(attention_maps(loaded, tokenizer, SOURCE, TARGET), expected, strict=True):
            torch.testing.assert_close(found.weights, wanted.weights)
    assert caplog.records == []


def test_nothing_is_unpickled(saved):
    folder = saved("encoder")
    (folder / "model.safetensors").unlink()
    torch.save(AutoModel.from_config(AutoConfig.from_pretrained(folder)).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        load_for_attention(str(folder))


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "ValueError"), ("\n a \nb", "a"), ("While loading:\n\n  OSError: no file\n", "OSError: no file")],
)
def test_the_reason_is_one_line(text, line):
    assert reason(ValueError(text)) == line


def test_any_auto_class_will_do(saved):
    folder = saved("encoder")
    _, tokenizer = load_for_attention(str(folder))
    for auto_class in (AutoModel, AutoModelForSequenceClassification):
        check(attention_maps(auto_class.from_pretrained(folder), tokenizer, SOURCE))


def cross_map(weights, query_words, key_words):
    labels = [[str(number) for number in range(len(words))] for words in (query_words, key_words)]
    return AttentionMap(CROSS, torch.tensor(weights)[None, None], *labels, query_words=query_words, key_words=key_words)


def test_words_are_aligned_by_the_sum_over_their_tokens():
    # a target word of two tokens and one of one; a tag, two source words of which the second has two tokens, the end
    weights = [
        [0.9, 0.1, 0.0, 0.0, 0.0],
        [0.4, 0.1, 0.2, 0.2, 0.1],
        [0.0, 0.4, 0.3, 0.3, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ]
    cross = cross_map(weights, [0, 0, 1, None], [None, 0, 1, 1, None])
    assert cross.word_alignment() == [(1, 0), (1, 1)]
    assert cross_map(weights, [None] * 4, [None, 0, 1, 1, None]).word_alignment() == []
    assert cross_map(weights, [0, 0, 1, None], [None] * 5).word_alignment() == []
    with pytest.raises(ValueError, match="words are known where"):
        AttentionMap(CROSS, torch.rand(1, 1, 2, 2), ["a", "b"], ["a", "b"]).word_alignment()
