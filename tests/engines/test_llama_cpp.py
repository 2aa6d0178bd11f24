"""llama.cpp reads what is exported as GGUF, cuts texts into the same tokens, and writes the same ones."""

import json
import urllib.request

import pytest
from conftest import seldom
from exported_models import TEXTS, for_engine, random_model, small_preset, trained_tokenizer
from stock_checkpoints import Case, stock_model
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import trefoil
from trefoil.hub.gguf_format import CUTS
from trefoil.hub.stock import to_trefoil

pytest.importorskip("gguf")
xllamacpp = pytest.importorskip("xllamacpp")

NEW_TOKENS = 12
AWKWARD = "It's  1,234 won —\n\n  삼만\t오천 원!?  WE'LL see\n x_y...  \r\n end "


def served(folder):
    """llama.cpp with a file, in this process, all in float32."""
    asked = xllamacpp.CommonParams()
    asked.model.path = str(folder / "model.gguf")
    asked.n_ctx, asked.n_parallel, asked.warmup, asked.verbosity = 128, 1, False, -1
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return xllamacpp.Server(asked)


def tokens_of(server, text):
    body = json.dumps({"content": text, "add_special": True}).encode()
    asked = urllib.request.Request(f"{server.listening_address}/tokenize", body, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)["tokens"]


def written(server, prompt):
    asked = {"prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0, "return_tokens": True, "verbose": True}
    return server.handle_completions(asked)["__verbose"]["tokens"]


def assert_same(folder, model, tokenizer):
    server = served(folder)
    found, expected = [], []
    for text in [*TEXTS, AWKWARD]:
        prompt = tokenizer(text, return_tensors="pt")
        assert tokens_of(server, text) == prompt.input_ids[0].tolist()
        found.append(written(server, text))
        ids = model.generate(**prompt, do_sample=False, max_new_tokens=NEW_TOKENS)[0, prompt.input_ids.shape[1] :]
        expected.append(ids.tolist())
    assert found == expected
    assert len(set(map(tuple, expected))) > len(TEXTS) // 2


LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}
OPTIONS = {
    "plain": {},
    "biases": {"attention_bias": True, "attention_output_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "wide heads": {"head_dim": 16, "rope_parameters": LINEAR, "tie_word_embeddings": False},
}


@pytest.mark.parametrize("options", seldom(OPTIONS, "plain"))
def test_llama(options, tmp_path):
    tokenizer = trained_tokenizer("decoder", "byte_bpe")
    config = small_preset("llama-like", tokenizer, num_key_value_heads=2, **OPTIONS[options])
    model = random_model(trefoil.TrefoilDecoderForCausalLM, config)
    assert_same(for_engine(model, tokenizer, "gguf", tmp_path), model, tokenizer)


def test_characters(tmp_path):
    tokenizer = trained_tokenizer("decoder", "characters")
    model = random_model(trefoil.TrefoilDecoderForCausalLM, small_preset("llama-like", tokenizer))
    server = served(for_engine(model, tokenizer, "gguf", tmp_path))
    for text in TEXTS:
        assert tokens_of(server, text) == tokenizer(text).input_ids
        assert server.handle_completions({"prompt": text, "max_tokens": 4, "temperature": 0})["choices"][0]["text"]
    assert (
        tokens_of(server, "three ☃☃") == tokenizer("three ☃").input_ids
    )  # of several unknown ones llama.cpp makes one


@pytest.mark.slow
def test_gpt2(tmp_path):
    tokenizer = trained_tokenizer("decoder", "byte_bpe")
    model = random_model(
        trefoil.TrefoilDecoderForCausalLM, small_preset("gpt2", tokenizer, freeze_padding_embedding=False)
    )
    assert_same(for_engine(model, tokenizer, "gguf", tmp_path), model, tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_other_decoders(architecture, tmp_path):
    tokenizer = trained_tokenizer("decoder", "byte_bpe")
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 128}
    case = Case(architecture, "ForCausalLM", "with a tokenizer", sizes)
    model = to_trefoil(stock_model(case)).model.eval()
    assert_same(for_engine(model, tokenizer, "gguf", tmp_path), model, tokenizer)


def byte_pairs(cuts):
    """A tokenizer that cuts texts as one of `CUTS` says."""
    of = {"digits": pre_tokenizers.Digits(True), "bytes": pre_tokenizers.ByteLevel(False, use_regex=False)}
    of["bytes of words"] = pre_tokenizers.ByteLevel(False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [of[cut] if cut in of else pre_tokenizers.Split(Regex(cut), "isolated") for cut in cuts]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([*TEXTS, AWKWARD] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")


@pytest.mark.parametrize("name", seldom(CUTS, "llama-bpe"))
def test_tokenizers_of_others(name, tmp_path):
    tokenizer = byte_pairs(CUTS[name])
    config = small_preset("llama-like", tokenizer, num_hidden_layers=1)
    model = random_model(trefoil.TrefoilDecoderForCausalLM, config)
    server = served(for_engine(model, tokenizer, "gguf", tmp_path))
    for text in [*TEXTS, AWKWARD, "\n\n  \n 12345 1234567\r\n\r\n'Ll 1a2b"]:
        assert tokens_of(server, text) == tokenizer(text).input_ids
