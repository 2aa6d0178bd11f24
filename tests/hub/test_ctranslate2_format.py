"""What CTranslate2's format asks of a model, and what lies in its folder."""

import pytest
import torch
from exported_models import TEXTS, for_engine, random_model, small_preset, trained_tokenizer
from transformers import AutoTokenizer

import trefoil
from trefoil.hub.ctranslate2_format import prepare


@torch.no_grad()
def test_a_marian_gets_a_last_row_for_padding():
    tokenizer = trained_tokenizer("encoder-decoder")
    model = random_model(trefoil.TrefoilEncoderDecoderForConditionalGeneration, small_preset("vaswani-base", tokenizer))
    inputs = tokenizer(TEXTS[:1], text_target=TEXTS[1:2], return_tensors="pt")
    rows = model.get_input_embeddings().num_embeddings
    before = model(**inputs).logits + 0  # else computed when looked at
    assert not prepare(model, "bart")
    assert prepare(model, "marian")
    after = model(**inputs).logits
    assert after.shape[-1] == rows + 1
    torch.testing.assert_close(after[..., :rows], before)
    model.config.pad_token_id = rows
    assert not prepare(model, "marian")


def test_the_tokenizer_lies_beside_it(tmp_path):
    pytest.importorskip("ctranslate2")
    tokenizer = trained_tokenizer("decoder")
    model = random_model(trefoil.TrefoilDecoderForCausalLM, small_preset("llama-like", tokenizer))
    folder = for_engine(model, tokenizer, "ctranslate2", tmp_path)
    assert AutoTokenizer.from_pretrained(folder)(TEXTS[0]).input_ids == tokenizer(TEXTS[0]).input_ids
