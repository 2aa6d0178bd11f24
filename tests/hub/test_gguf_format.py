"""transformers reads what is written as GGUF; what llama.cpp does not have is refused in a line."""

import pytest
import torch
from exported_models import TEXTS, for_engine, random_model, small_preset, trained_tokenizer
from tokenizers import normalizers
from transformers import AutoModelForCausalLM, AutoTokenizer

import trefoil
from trefoil.configuration.errors import UserError

pytest.importorskip("gguf")


@pytest.fixture
def tokenizer():
    return trained_tokenizer("decoder", "byte_bpe")


def llama(tokenizer, **fields):
    return random_model(trefoil.TrefoilDecoderForCausalLM, small_preset("llama-like", tokenizer, **fields))


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_reads_it_back(tied, tokenizer, tmp_path):
    model = llama(tokenizer, num_key_value_heads=2, tie_word_embeddings=tied)
    folder = for_engine(model, tokenizer, "gguf", tmp_path)
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf").eval()
    assert type(read).__name__ == "LlamaForCausalLM"
    inputs = tokenizer(TEXTS[0], return_tensors="pt")
    torch.testing.assert_close(read(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=0)
    assert read.config.max_position_embeddings == model.config.max_position_embeddings
    text = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    assert text(TEXTS[0], add_special_tokens=False).input_ids == tokenizer(TEXTS[0], add_special_tokens=False).input_ids


def test_the_tokenizer_is_written_with_what_stands_around_a_text(tokenizer, tmp_path):
    from gguf import GGUFReader, TokenType

    tokenizer.chat_template = "{{ messages }}"
    fields = GGUFReader(for_engine(llama(tokenizer), tokenizer, "gguf", tmp_path) / "model.gguf").fields
    told = {name.removeprefix("tokenizer."): field.contents() for name, field in fields.items()}
    assert [told[f"ggml.{name}_token_id"] for name in ("padding", "bos", "eos")] == [0, 1, 2]
    assert (told["ggml.add_bos_token"], told["ggml.add_eos_token"]) == (True, False)
    assert told["ggml.token_type"][:4] == [TokenType.CONTROL] * 3 + [TokenType.NORMAL]
    assert (told["ggml.pre"], told["chat_template"]) == ("smollm", "{{ messages }}")


def test_what_llama_cpp_does_not_have_is_refused(tokenizer, tmp_path):
    def refused(message, model, tokenizer):
        with pytest.raises(UserError, match=f"not written for llama.cpp: {message}"):
            for_engine(model, tokenizer, "gguf", tmp_path)
        assert not (tmp_path / "gguf").exists()

    refused("its llama has no activation 'gelu', only silu", llama(tokenizer, hidden_act="gelu"), tokenizer)
    yarn = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 2.0, "original_max_position_embeddings": 64}
    refused("of rope_type default and linear only, not 'yarn'", llama(tokenizer, rope_parameters=yarn), tokenizer)
    for kind in ("unigram", "wordpiece"):
        other = trained_tokenizer("decoder", kind)
        refused("of tokenizers only kinds byte_bpe and characters", llama(other), other)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    refused(r"it does not change texts as this tokenizer does \(Lowercase\)", llama(tokenizer), tokenizer)
