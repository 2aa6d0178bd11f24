"""sentence-transformers embeds texts with an exported BERT."""

import pytest
import torch
from exported_models import TEXTS, exported, random_model, small_preset, trained_tokenizer

import trefoil

sentence_transformers = pytest.importorskip("sentence_transformers")


@pytest.mark.parametrize(
    ("model_class", "fields"),
    [
        (trefoil.TrefoilEncoderModel, {"add_pooler": True}),
        (trefoil.TrefoilEncoderModel, {}),
        (trefoil.TrefoilEncoderForMaskedLM, {}),
    ],
    ids=["pooler", "no_pooler", "masked_lm"],
)
def test_mean_of_our_hidden_states(model_class, fields, tmp_path):
    """Where there is no pooler, BertModel draws one at random, which the mean does not read."""
    tokenizer = trained_tokenizer("encoder")
    model = random_model(model_class, small_preset("bert-base", tokenizer, **fields))
    folder = exported(model, tokenizer, "bert", tmp_path)
    embed = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    assert type(embed[0].auto_model).__name__ == "BertModel"
    found = embed.encode(TEXTS, batch_size=4, convert_to_tensor=True)

    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden_states = model.base_model(**inputs).last_hidden_state
    real = inputs.attention_mask[..., None]
    torch.testing.assert_close(found, (hidden_states * real).sum(dim=1) / real.sum(dim=1), atol=1e-5, rtol=0)
    assert torch.pdist(found).min() > 0.1
