"""CTranslate2 finds the same tokens in what is exported for it, with the same scores."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import seldom
from exported_models import TEXTS, for_engine, random_model, small_preset, trained_tokenizer
from stock_checkpoints import Case, stock_model
from transformers import AutoTokenizer, MarianConfig, MarianMTModel, MarianTokenizer

import trefoil
from trefoil.configuration.errors import UserError
from trefoil.hub.engines import ENGINES
from trefoil.hub.stock import import_stock, to_trefoil

ctranslate2 = pytest.importorskip("ctranslate2")

NEW_TOKENS = 12
KINDS = ["unigram", "byte_bpe"]  # with an unknown token, and without


def converted(model, tokenizer, to, folder):
    """By way of one architecture, also where there is another before it in the list."""
    only = dataclasses.replace(ENGINES["ctranslate2"], architectures=(to,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "ctranslate2", only)
        return str(for_engine(model, tokenizer, "ctranslate2", folder))


def without_end(ids, tokenizer):
    ids = ids.tolist()
    return ids[: ids.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in ids else ids


def log_probabilities(logits, ids):
    return logits[0].log_softmax(-1).gather(1, ids[0, :, None])[:, 0].tolist()


@torch.no_grad()
def assert_writes_the_same(folder, model, tokenizer):
    generator = ctranslate2.Generator(folder, device="cpu", intra_threads=1)
    prompts = [tokenizer(text, return_tensors="pt") for text in TEXTS]
    tokens = [tokenizer.convert_ids_to_tokens(prompt.input_ids[0].tolist()) for prompt in prompts]
    found = generator.generate_batch(tokens, max_length=NEW_TOKENS, sampling_topk=1, include_prompt_in_result=False)
    expected = [
        model.generate(**prompt, do_sample=False, max_new_tokens=NEW_TOKENS)[0, prompt.input_ids.shape[1] :]
        for prompt in prompts
    ]
    expected = [without_end(ids, tokenizer) for ids in expected]
    assert [one.sequences_ids[0] for one in found] == expected
    assert len(set(map(tuple, expected))) > len(TEXTS) // 2
    for prompt, score in zip(prompts, generator.score_batch(tokens), strict=True):
        logits = model(**prompt).logits[:, :-1]
        assert score.log_probs == pytest.approx(log_probabilities(logits, prompt.input_ids[:, 1:]), abs=1e-3)


@torch.no_grad()
def assert_translates_the_same(folder, model, tokenizer):
    translator = ctranslate2.Translator(folder, device="cpu", intra_threads=1)
    sources = [tokenizer(text, return_tensors="pt") for text in TEXTS]
    tokens = [tokenizer.convert_ids_to_tokens(source.input_ids[0].tolist()) for source in sources]
    found = translator.translate_batch(tokens, beam_size=1, max_decoding_length=NEW_TOKENS, min_decoding_length=0)
    expected = [model.generate(**source, do_sample=False, max_new_tokens=NEW_TOKENS)[0, 1:] for source in sources]
    expected = [without_end(ids, tokenizer) for ids in expected]
    assert [tokenizer.convert_tokens_to_ids(one.hypotheses[0]) for one in found] == expected
    assert len(set(map(tuple, expected))) > len(TEXTS) // 2
    scores = translator.score_batch(tokens, [one[:-1] for one in reversed(tokens)])  # it adds the end itself
    for source, target, score in zip(sources, reversed(sources), scores, strict=True):
        logits = model(**source, labels=target.input_ids).logits
        assert score.log_probs == pytest.approx(log_probabilities(logits, target.input_ids), abs=1e-3)


@pytest.mark.parametrize("kind", seldom(KINDS, KINDS[0]))
def test_llama(kind, tmp_path):
    tokenizer = trained_tokenizer("decoder", kind)
    rope = {"rope_type": "default", "rope_theta": 100.0}
    config = small_preset("llama-like", tokenizer, num_key_value_heads=2, rope_parameters=rope)
    model = random_model(trefoil.TrefoilDecoderForCausalLM, config)
    assert_writes_the_same(converted(model, tokenizer, "llama", tmp_path), model, tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_gpt2(kind, tmp_path):
    tokenizer = trained_tokenizer("decoder", kind)
    config = small_preset("gpt2", tokenizer, freeze_padding_embedding=False)
    model = random_model(trefoil.TrefoilDecoderForCausalLM, config)
    assert_writes_the_same(converted(model, tokenizer, "gpt2", tmp_path), model, tokenizer)


@pytest.mark.parametrize("kind", seldom(KINDS, KINDS[0]))
def test_bart(kind, tmp_path):
    tokenizer = trained_tokenizer("encoder-decoder", kind)
    config = small_preset(
        "bart-base", tokenizer, position_offset=2, decoder={"lm_head_bias": True},
        decoder_start_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = random_model(trefoil.TrefoilEncoderDecoderForConditionalGeneration, config)
    assert_translates_the_same(converted(model, tokenizer, "bart", tmp_path), model, tokenizer)


@pytest.mark.slow
def test_marian(tmp_path):
    """Padding is not the last token, whose row the converter drops; and the decoder starts from a zero embedding, which
    the padding token has."""
    tokenizer = trained_tokenizer("encoder-decoder")
    config = small_preset(
        "vaswani-base", tokenizer, interleave_sinusoids=False, attention_bias=True, decoder={"lm_head_bias": True},
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = random_model(trefoil.TrefoilEncoderDecoderForConditionalGeneration, config, seed=4)
    assert_translates_the_same(converted(model, tokenizer, "marian", tmp_path), model, tokenizer)


@pytest.mark.slow
def test_a_marian_that_does_not_start_with_padding_is_refused(tmp_path):
    tokenizer = trained_tokenizer("encoder-decoder")
    config = small_preset(
        "vaswani-base", tokenizer, interleave_sinusoids=False, attention_bias=True, decoder={"lm_head_bias": True},
        decoder_start_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    model = random_model(trefoil.TrefoilEncoderDecoderForConditionalGeneration, config)
    with pytest.raises(UserError, match="CTranslate2 makes something else of this MarianMTModel"):
        converted(model, tokenizer, "marian", tmp_path)


def marian_tokenizer(folder):
    """As the published checkpoints have it: two sentencepiece models, one vocabulary, padding last."""
    sentencepiece = pytest.importorskip("sentencepiece")
    prefix = str(folder / "pieces")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_prefix=prefix, vocab_size=60, hard_vocab_limit=False, bos_id=-1,
        minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    tokens = [pieces.id_to_piece(number) for number in range(len(pieces))]
    tokens = ["</s>", "<unk>", *(token for token in tokens if token not in ("</s>", "<unk>")), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    return MarianTokenizer(f"{prefix}.model", f"{prefix}.model", str(folder / "vocab.json"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marian_as_published(tmp_path):
    """Imported and exported again, sentencepiece models and all."""
    tokenizer = marian_tokenizer(tmp_path)
    padding = tokenizer.pad_token_id
    assert padding == len(tokenizer) - 1
    config = MarianConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=128,
        scale_embedding=True, activation_function="swish", pad_token_id=padding, eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=padding, forced_eos_token_id=None,
    )  # fmt: skip
    stock = random_model(MarianMTModel, config, seed=4)
    stock.final_logits_bias.normal_(std=0.1)
    stock.generation_config.bad_words_ids = [[padding]]
    stock.save_pretrained(tmp_path / "stock")
    tokenizer.save_pretrained(tmp_path / "stock")
    model = import_stock(tmp_path / "stock", tmp_path / "imported").model
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "imported")
    assert isinstance(tokenizer, MarianTokenizer)
    assert_translates_the_same(converted(model, tokenizer, "marian", tmp_path), model, tokenizer)


OWN = {  # encoder-decoders that no stock architecture expresses
    "modern": ("encoder-decoder-tiny", {}),
    "grouped heads": ("encoder-decoder-tiny", {"num_key_value_heads": 2, "head_dim": 16}),
    "as in 2017": ("vaswani-base", {}),
    "learned positions": (
        "encoder-decoder-tiny",
        {"position_embedding_type": "learned", "rope_parameters": None, "attention_bias": True, "mlp_bias": True,
         "is_gated_act": False, "hidden_act": "gelu", "scale_embedding": True, "embedding_norm": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", seldom(OWN, "modern"))
def test_our_own_encoder_decoders(kind, tmp_path):
    preset, options = OWN[kind]
    tokenizer = trained_tokenizer("encoder-decoder", "byte_bpe")
    model = random_model(
        trefoil.TrefoilEncoderDecoderForConditionalGeneration, small_preset(preset, tokenizer, **options), seed=2
    )
    assert_translates_the_same(str(for_engine(model, tokenizer, "ctranslate2", tmp_path)), model, tokenizer)


@pytest.mark.slow
def test_what_our_own_must_not_have(tmp_path):
    def refused(message, **options):
        config = small_preset("encoder-decoder-tiny", tokenizer, **options)
        model = random_model(trefoil.TrefoilEncoderDecoderForConditionalGeneration, config)
        with pytest.raises(UserError, match=f"CTranslate2.*{message}"):
            for_engine(model, tokenizer, "ctranslate2", tmp_path)
        assert not (tmp_path / "ctranslate2").exists()

    tokenizer = trained_tokenizer("encoder-decoder")
    refused("of encoder.qk_norm it has 'none', not 'head'", qk_norm="head")
    refused(
        "of encoder.position_embedding_type it has .*, not 'alibi'",
        position_embedding_type="alibi",
        rope_parameters=None,
    )
    refused("makes something else of this Trefoil", query_pre_attn_scalar=1)
    windows = {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 20}
    refused("makes something else of this Trefoil", encoder=windows)


def imported(architecture, head, family, folder):
    """A Trefoil model that was a stock one, its tokenizer, and the folder of what CTranslate2 makes of it."""
    tokenizer = trained_tokenizer(family)
    case = Case(architecture, head, "with a tokenizer", {"vocab_size": len(tokenizer)})
    model = to_trefoil(stock_model(case)).model.eval()
    return model, tokenizer, converted(model, tokenizer, architecture, folder)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "qwen3"])
def test_other_decoders(architecture, tmp_path):
    model, tokenizer, folder = imported(architecture, "ForCausalLM", "decoder", tmp_path)
    assert_writes_the_same(folder, model, tokenizer)


@pytest.mark.slow
def test_windows_that_it_passes_over_are_refused(tmp_path):
    tokenizer = trained_tokenizer("decoder")
    layers = {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 20}
    model = random_model(
        trefoil.TrefoilDecoderForCausalLM, small_preset("llama-like", tokenizer, qk_norm="head", **layers)
    )
    with pytest.raises(UserError, match="CTranslate2 makes something else of this Qwen3ForCausalLM"):
        for_engine(model, tokenizer, "ctranslate2", tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("architecture", seldom(["bert", "roberta", "xlm-roberta", "distilbert"], "bert"))
def test_encoders(architecture, tmp_path):
    model, tokenizer, folder = imported(architecture, "Model", "encoder", tmp_path)
    encoder = ctranslate2.Encoder(folder, device="cpu", intra_threads=1)
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt")
        found = torch.from_numpy(np.array(encoder.forward_batch(inputs.input_ids.tolist()).last_hidden_state))
        torch.testing.assert_close(found, model(**inputs).last_hidden_state, atol=1e-4, rtol=0)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("architecture", ["mbart", "m2m_100", "pegasus", "t5"])
def test_other_encoder_decoders(architecture, tmp_path):
    model, tokenizer, folder = imported(architecture, "ForConditionalGeneration", "encoder-decoder", tmp_path)
    translator = ctranslate2.Translator(folder, device="cpu", intra_threads=1)
    start = model.config.decoder_start_token_id
    for text, translation in zip(TEXTS, reversed(TEXTS), strict=True):
        source, target = (tokenizer(one, return_tensors="pt").input_ids for one in (text, translation))
        # mBART is given the first token, which names the language; the others start from one of their own
        given = target if architecture == "mbart" else torch.nn.functional.pad(target, (1, 0), value=start)
        tokens = [tokenizer.convert_ids_to_tokens(ids[0].tolist()) for ids in (source, target[:, :-1])]
        (score,) = translator.score_batch(tokens[:1], tokens[1:])
        logits = model(input_ids=source, decoder_input_ids=given[:, :-1]).logits
        assert score.log_probs == pytest.approx(log_probabilities(logits, given[:, 1:]), abs=1e-3)
